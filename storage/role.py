"""The writer's role: exactly one process of a data directory has it, and it is never lost with its holder.

`writer.lock` is the role. `writer.claim` is held by `tracekeep serve`: while it is, threads inside apps give
the role back and don't stand for it.
"""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path

from .locks import FileLock, ForeignLock, is_held
from .pages import SharedPage
from .state import STATE_PAGE_BYTES

_PATIENCE = 3.0  # s that a writer whose directory was removed has to begin the new one: it looks each second


class Role:
    """This process's standing.

    Args:
        data_dir: the data directory; it is made where it is missing.
        dedicated: whether the role is to be claimed from others.
    """

    def __init__(self, data_dir: Path, *, dedicated: bool) -> None:
        self._data_dir = data_dir
        self._dedicated = dedicated
        self._path = data_dir / "writer.lock"
        self._lock: FileLock | None = None
        self._claim: FileLock | None = None
        self._page: SharedPage | None = None
        self._rival: ForeignLock | None = None  # the lock of the process that has the role
        self._gone_since: float | None = None  # when that lock's file was first missed

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
        claim = self._data_dir / "writer.claim"
        if self._dedicated:
            if self._claim is None or not self._claim.holds(claim):
                self._leave_claim()
                self._claim = FileLock.acquire(claim)
        elif is_held(claim):
            return False
        if self._comes_after_another():
            return False
        lock = FileLock.acquire(self._path)
        if lock is None:
            self._watch_rival()
            return False
        self._forget_rival()
        try:
            self._page = SharedPage(self._data_dir / "writer.state", STATE_PAGE_BYTES)
        except BaseException:
            lock.release()
            raise
        self._lock = lock
        return True

    def _comes_after_another(self) -> bool:
        """Whether the writer's file has gone but the writer lives: it knows the totals, so it goes first."""
        if self._rival is None or self._rival.is_at(self._path):
            self._gone_since = None
            return False
        now = time.monotonic()
        self._gone_since = self._gone_since or now
        return now - self._gone_since < _PATIENCE and self._rival.is_held()

    def _watch_rival(self) -> None:
        if self._rival is None or not self._rival.is_at(self._path):
            self._forget_rival()
            with suppress(OSError):
                self._rival = ForeignLock(self._path)

    def _forget_rival(self) -> None:
        if self._rival is not None:
            self._rival.close()
        self._rival = self._gone_since = None

    def is_claimed(self) -> bool:
        """Whether a dedicated process asks for it."""
        with suppress(OSError):
            return not self._dedicated and is_held(self._data_dir / "writer.claim")
        return False

    def keep(self) -> bool:
        """Whether this process still has the role; where its file was removed, the one in its place is taken at once.

        The one who has it knows the totals: the sooner it has it again, the less likely another begins without.
        """
        if self._lock is None or self._lock.holds(self._path):
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
        self._forget_rival()
        self._leave_claim()

    def _leave_claim(self) -> None:
        if self._claim is not None:
            self._claim.release()
            self._claim = None

    def release_inherited(self) -> None:
        """In a forked child: close the copies, so that only the parent keeps the role."""
        self._forget_rival()
        for lock in (self._lock, self._claim):
            if lock is not None:
                lock.release()
