"""Where a journal's segments come from: its directory, allocation ahead of need, and why there is none.

The directory is made under a hidden name and gets its own only once it is locked, so that nobody takes a
journal that is being made for one whose process has died.
"""

from __future__ import annotations

import errno
import logging
import os
import threading
import time
from collections import deque
from pathlib import Path

from . import segments
from .locks import FileLock
from .pages import SharedPage
from .segments import Segment
from .settings import StoreSettings

_logger = logging.getLogger("tracekeep")
_WAIT = 0.05  # s an append waits for an allocation that another thread has begun
_RETRY = 0.5  # s between two attempts to get what can't be had
STATE_PAGE_BYTES = 4096

_REASONS = {errno.EDQUOT: "journal_full", errno.ENOSPC: "no_space"}


class SegmentSupply:
    """The files of one process's journal.

    Attributes:
        name: of the journal's directory; "" until there is one.
        degraded: why no segment can be had, or None.
        reason: the same as a drop reason, of the last failure.
    """

    def __init__(self, root: Path, settings: StoreSettings) -> None:
        self._root = root
        self._settings = settings
        self._allocating = threading.Lock()
        self._directory: Path | None = None
        self._process_lock: FileLock | None = None
        self._page: SharedPage | None = None
        self._ready: deque[Segment] = deque()
        self._retired: deque[Segment] = deque()
        self._number = 0
        self._mapped = True
        self._retry_at = 0.0
        self.name = ""
        self.degraded: str | None = None
        self.reason = "journal_unavailable"

    # --- the request path ----------------------------------------------------------------------------------------

    def take(self) -> Segment | None:
        """The next segment: one that is ready, or one allocated on the spot; None where that fails.

        Allocating on the spot happens with a process's first record, and when the keeper is late.
        """
        if not self._ready and not self._allocate_now():
            return None
        return self._ready.popleft()

    def _allocate_now(self) -> bool:
        if self.degraded is not None and time.monotonic() < self._retry_at:
            return False
        if not self._allocating.acquire(timeout=_WAIT):
            return False  # the disk hangs: memory takes over until whoever allocates is through
        try:
            if not self._ready and (segment := self._allocate()) is not None:
                self._ready.append(segment)
            return bool(self._ready)
        finally:
            self._allocating.release()

    def retire(self, segment: Segment) -> None:
        """Take back a segment that is written to its end, or whose write failed; the keeper closes it."""
        self._retired.append(segment)

    def fail(self, error: OSError) -> None:
        """Note why there is no segment to write to."""
        self.reason = _REASONS.get(error.errno or 0, "journal_unavailable")
        text = f"no journal segment can be had: {error.strerror or error}"
        if self.degraded is None:
            _logger.warning("tracekeep: %s; records are kept in memory until it can", text)
        self.degraded = text
        self._retry_at = time.monotonic() + _RETRY

    def publish(self, state: bytes) -> None:
        """Show the journal's state to other processes; needs no free space."""
        if self._page is not None:
            self._page.publish(state)

    # --- allocation (under _allocating) --------------------------------------------------------------------------

    def _allocate(self) -> Segment | None:
        try:
            directory = self._directory or self._open()
            size = self._settings.segment_bytes if self._number else max(self._settings.segment_bytes // 8, 1 << 16)
            self._check_room(size)
            segment = segments.allocate(directory, self._number + 1, size, mapped=self._mapped)
        except OSError as error:
            self.fail(error)
            return None
        self._number += 1
        self.degraded = None
        return segment

    def _open(self) -> Path:
        """Make the directory.

        Raises:
            OSError: it can't be made.
        """
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        name = f"{_boot_id()[:8]}-{os.getpid()}-{time.time_ns() // 1_000_000}-{os.urandom(4).hex()}"
        hidden = self._root / f".new-{name}"
        hidden.mkdir(mode=0o700)
        lock = FileLock.acquire(hidden / "lock")
        if lock is None:  # pragma: no cover  # nobody else knows the name
            raise OSError(errno.EEXIST, "journal directory is already locked", str(hidden))
        try:
            page = SharedPage(hidden / "state", STATE_PAGE_BYTES)
            hidden.rename(self._root / name)
        except BaseException:
            lock.release()
            raise
        self._mapped = segments.can_map(self._root)
        self._process_lock, self._page, self.name = lock, page, name
        self._directory = self._root / name
        return self._directory

    def _check_room(self, size: int) -> None:
        """Refuse a segment that would break the cap or eat the reserve.

        Raises:
            OSError: with EDQUOT or ENOSPC, so that it is treated as the disk's own refusal would be.
        """
        total = segments.used_bytes(self._root)
        if self._number and total + size > self._settings.journal_max_bytes:
            raise OSError(errno.EDQUOT, f"the journals have reached journal_max_bytes ({total} bytes in use)")
        info = os.statvfs(self._root)
        reserve = min(self._settings.reserve_bytes, info.f_blocks * info.f_frsize // 20)
        if info.f_bavail * info.f_frsize < size + reserve:
            raise OSError(errno.ENOSPC, "free space is below the reserve")

    # --- the keeper ----------------------------------------------------------------------------------------------

    def allocate_ahead(self, in_use: int, lock: threading.RLock) -> None:
        """Get the next segment before it is needed; it is ready only once its pages have been touched.

        Args:
            in_use: number of the segment that is being written.
            lock: of the journal; held while the segment is made ready.
        """
        with self._allocating:
            fresh = self._allocate() if not self._ready and time.monotonic() >= self._retry_at else None
        if fresh is None:
            return
        fresh.touch()
        with lock:
            if not self._ready and self._number == fresh.number and in_use < fresh.number:
                self._ready.append(fresh)
                return
        fresh.close()  # an append could not wait and has allocated a later one itself
        fresh.path.unlink(missing_ok=True)

    def has_ready(self) -> bool:
        """Whether a segment is ready."""
        return bool(self._ready)

    def close_retired(self) -> None:
        """Close the segments that have been taken back."""
        while self._retired:
            self._retired.popleft().close()

    def is_removed(self) -> bool:
        """Whether somebody removed or replaced the directory."""
        directory, lock = self._directory, self._process_lock
        return directory is not None and lock is not None and not lock.holds(directory / "lock")

    def leave(self) -> None:
        """Let go of a directory that has been removed; the next segment comes from a new one."""
        with self._allocating:
            _logger.warning("tracekeep: the journal %s has been removed; a new one is begun", self._directory)
            self._retired.extend(self._ready)
            self._ready.clear()
            if self._process_lock is not None:
                self._process_lock.release()
            self._directory, self._number = None, 0

    def release_inherited(self) -> None:
        """In a forked child: let go of everything, so that only the parent keeps its journal alive."""
        for segment in (*self._ready, *self._retired):
            segment.close()
        if self._page is not None:
            self._page.close()
        if self._process_lock is not None:
            self._process_lock.release()


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:  # pragma: no cover  # macOS
        return "00000000"
