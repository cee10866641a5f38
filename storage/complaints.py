"""What is wrong just now, in words, and how often it is said."""

from __future__ import annotations

import logging
import time

from . import engine

_logger = logging.getLogger("tracekeep")
_REPEAT = 20.0  # s before the same complaint is logged again


class Complaints:
    """The degraded parts of a process's writer."""

    def __init__(self) -> None:
        self._degraded: dict[str, str] = {}
        self._logged: dict[str, float] = {}

    def note(self, part: str, text: str, *, exc_info: bool = False) -> None:
        """A part doesn't work; log it, but not the same part again and again."""
        self._degraded[part] = text
        now = time.monotonic()
        if now - self._logged.get(part, -_REPEAT) >= _REPEAT:
            self._logged[part] = now
            _logger.warning("tracekeep: %s: %s", part, text, exc_info=exc_info)

    def clear(self, part: str) -> None:
        """A part works again."""
        self._degraded.pop(part, None)

    def listed(self) -> list[tuple[str, str]]:
        """(part, reason) of all that doesn't work."""
        return sorted(self._degraded.items())


def describe(error: BaseException) -> str:
    """What an operator should know about a failure."""
    name = getattr(error, "sqlite_errorname", "")
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return "the database is locked by another process; the journal takes everything meanwhile"
    if name.startswith("SQLITE_FULL"):
        return "the disk is full; the journal takes what it can"
    if name.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN")):
        return f"the database can't be written or opened ({error})"
    if engine.is_corruption(error):
        return f"the file is broken and is set aside ({error})"
    return str(error) or type(error).__name__
