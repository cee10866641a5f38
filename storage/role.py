"""The writer's role: exactly one process of a data directory has it, and it is never lost with its holder.

`writer.lock` is the role. `writer.claim` is held by `tracekeep serve`: while it is, threads inside apps give
the role back and don't stand for it.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from .locks import FileLock, is_held
from .pages import SharedPage
from .state import STATE_PAGE_BYTES


class Role:
    """This process's standing.

    Args:
        data_dir: the data directory; it is made where it is missing.
        dedicated: whether the role is to be claimed from others.
    """

    def __init__(self, data_dir: Path, *, dedicated: bool) -> None:
        self._data_dir = data_dir
        self._dedicated = dedicated
        self._lock: FileLock | None = None
        self._claim: FileLock | None = None
        self._page: SharedPage | None = None

    @property
    def is_held(self) -> bool:
        """Whether this process has the role."""
        return self._lock is not None

    def take(self) -> bool:
        """Try to get the role; whether this process has it now.

        Raises:
            OSError: the data directory can't be used.
        """
        self._data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self._dedicated and self._claim is None:
            self._claim = FileLock.acquire(self._data_dir / "writer.claim")
        elif not self._dedicated and is_held(self._data_dir / "writer.claim"):
            return False
        lock = FileLock.acquire(self._data_dir / "writer.lock")
        if lock is None:
            return False
        try:
            self._page = SharedPage(self._data_dir / "writer.state", STATE_PAGE_BYTES)
        except BaseException:
            lock.release()
            raise
        self._lock = lock
        return True

    def is_claimed(self) -> bool:
        """Whether a dedicated process asks for it."""
        with suppress(OSError):
            return not self._dedicated and is_held(self._data_dir / "writer.claim")
        return False

    def keep(self) -> bool:
        """Whether this process still has the role; where its file was removed, the one in its place is taken at once.

        The one who has it knows the totals: the sooner it has it again, the less likely another begins without.
        """
        if self._lock is None or self._lock.holds(self._data_dir / "writer.lock"):
            return self._lock is not None
        with suppress(OSError):
            old_lock, old_page = self._lock, self._page
            if self.take():
                old_lock.release()
                if old_page is not None:
                    old_page.close()
                return True
        return False

    def publish(self, state: bytes) -> bool:
        """Show the writer's state to all processes; False where it is too long."""
        return self._page is None or self._page.publish(state)

    def give_back(self) -> None:
        """Let another process have it. The claim stays for the life of the process."""
        if self._page is not None:
            self._page.close()
            self._page = None
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def leave(self) -> None:
        """Give back the claim too."""
        self.give_back()
        if self._claim is not None:
            self._claim.release()
            self._claim = None

    def release_inherited(self) -> None:
        """In a forked child: close the copies, so that only the parent keeps the role."""
        for lock in (self._lock, self._claim):
            if lock is not None:
                lock.release()
