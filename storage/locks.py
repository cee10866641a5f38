"""Advisory file locks that the kernel drops when their holder dies, and that a fork can't keep alive.

`flock`, not POSIX record locks: those vanish when any descriptor of the file is closed.
"""

from __future__ import annotations

import os
from pathlib import Path

from .errors import UnsupportedPlatformError

try:
    import fcntl
except ImportError as error:  # pragma: no cover  # Windows
    raise UnsupportedPlatformError(
        "tracekeep needs Linux or macOS: its journal rests on flock and shared mappings, which this platform lacks."
    ) from error


class FileLock:
    """A lock on a file, held until `release`, the death of the process, or `forget` in a forked child."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @classmethod
    def acquire(cls, path: Path) -> FileLock | None:
        """The lock, or None where another holds it.

        Raises:
            OSError: the file can't be opened.
        """
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        except BaseException:
            os.close(descriptor)
            raise
        return cls(descriptor)

    def holds(self, path: Path) -> bool:
        """Whether `path` is still the file that is locked, not one put in its place."""
        try:
            return os.path.samestat(os.fstat(self._descriptor), path.stat())
        except OSError:
            return False

    def release(self) -> None:
        """Give the lock back. In a forked child this only closes the child's copy."""
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            os.close(descriptor)


class ForeignLock:
    """A lock that somebody else holds, watched by its file also when that is moved or deleted.

    Raises:
        OSError: the file can't be opened.
    """

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)

    def is_at(self, path: Path) -> bool:
        """Whether `path` is still this file."""
        try:
            return os.path.samestat(os.fstat(self._descriptor), path.stat())
        except OSError:
            return False

    def is_held(self) -> bool:
        """Whether somebody still holds it."""
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared: others who only look are no holders
        except BlockingIOError:
            return True
        fcntl.flock(self._descriptor, fcntl.LOCK_UN)
        return False

    def close(self) -> None:
        """Watch it no longer."""
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            os.close(descriptor)


def is_held(path: Path) -> bool:
    """Whether another open file holds the lock; False where the file does not exist.

    Raises:
        OSError: the file can't be opened for another reason.
    """
    try:
        lock = ForeignLock(path)
    except FileNotFoundError:
        return False
    try:
        return lock.is_held()
    finally:
        lock.close()
