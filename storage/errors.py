"""Every error that a caller can meet, each saying what, where and what to do."""

from __future__ import annotations


class TracekeepError(Exception):
    """Base of all errors that tracekeep raises on purpose."""


class SettingError(TracekeepError, ValueError):
    """A setting has a value that it can't have.

    Attributes:
        setting: its name, as given (a keyword or an environment variable).
        value: what it was.
        allowed: what it may be, in words.
    """

    def __init__(self, setting: str, value: object, allowed: str) -> None:
        super().__init__(f"Setting {setting!r} is {value!r}, but must be {allowed}.")
        self.setting = setting
        self.value = value
        self.allowed = allowed


class UnsupportedPlatformError(TracekeepError):
    """The platform lacks what the promises rest on (`fcntl.flock`, `mmap`)."""


class Unavailable(TracekeepError):  # noqa: N818  # a state that passes, not a mistake
    """Nothing can be answered just now; the text says why. Asking again later may help."""


class QueryTimeout(TracekeepError):  # noqa: N818  # named as the deadline is
    """A query was stopped at its deadline; the text says what to narrow."""


class InvalidCursor(TracekeepError, ValueError):  # noqa: N818  # names the parameter at fault
    """A page's cursor is not one that this store gave out."""


class ForeignFileError(TracekeepError):
    """A database file belongs to another application, or to a newer tracekeep; it is left untouched.

    Attributes:
        path: the file.
    """

    def __init__(self, path: str, reason: str, hint: str) -> None:
        super().__init__(f"{path}: {reason}. {hint}")
        self.path = path
        self.reason = reason
