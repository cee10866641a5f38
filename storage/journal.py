"""The journal: the crash-safe queue that one process appends its records to.

Invariant: when `append` returns with a segment in use, the record is in the page cache and survives
the death of the process. While no segment can be had, a bounded queue in memory takes the records;
`degraded` says why. When that is full too, records are dropped by policy and counted by reason.
Sequence numbers are given at acceptance, so a record that was dropped leaves a gap that the writer sees.
"""

from __future__ import annotations

import errno
import logging
import os
import secrets
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from pathlib import Path
from struct import Struct
from typing import NamedTuple
from zlib import crc32

import msgspec

from . import frames, segments
from .locks import FileLock
from .pages import SharedPage
from .records import FrameType
from .segments import FIRST_FRAME, Segment
from .settings import StoreSettings

_logger = logging.getLogger("tracekeep")
_pack_body = Struct("<HBBIQ").pack
_pack_crc = Struct("<I").pack
_SEAL_ROOM = frames.HEADER + 1
_ALLOCATION_WAIT = 0.05  # s an append waits for an allocation that another thread has begun
_RETRY = 0.5  # s between two attempts to get a journal that can't be had
STATE_PAGE_BYTES = 4096
DROP_REASONS = ("journal_full", "no_space", "journal_unavailable", "too_large")
"""Why a process drops a record before it is journaled."""


class JournalState(msgspec.Struct, array_like=True):
    """What a process publishes about its journal beside the segments; cumulative for its life."""

    accepted: int = 0
    in_memory: int = 0
    truncated: int = 0
    dropped: dict[str, int] = {}
    degraded: str | None = None
    stored_offset: tuple[int, int] = (0, 0)


class _Queued(NamedTuple):
    type: int
    sequence: int
    payload: bytes
    origin: int


class Journal:
    """The appending side. Safe to use from any thread, from finalisers, and across `fork`."""

    def __init__(self, root: Path, settings: StoreSettings, on_start: Callable[[], None] = lambda: None) -> None:
        self._root = root
        self._settings = settings
        self._on_start = on_start
        self._origins: dict[int, bytes] = {}
        self._reset()
        _journals.add(self)

    def _reset(self) -> None:
        self._lock = threading.RLock()
        self._allocating = threading.Lock()
        self._keeper_wanted = threading.Event()
        self._keeper: threading.Thread | None = None
        self._busy = False
        self._deferred: deque[tuple[int, bytes, int, bool]] = deque()
        self._directory: Path | None = None
        self._process_lock: FileLock | None = None
        self._page: SharedPage | None = None
        self._segment: Segment | None = None
        self._map: object = None
        self._ready: deque[Segment] = deque()
        self._retired: deque[Segment] = deque()
        self._defined: set[int] = set()
        self._offset = 0
        self._limit = 0
        self._sequence = 0
        self._number = 0
        self._mapped = True
        self._memory: deque[_Queued] = deque()
        self._memory_bytes = 0
        self._dropped = dict.fromkeys(DROP_REASONS, 0)
        self.truncated = 0
        self._published: JournalState | None = None
        self.degraded: str | None = None
        """Why no segment can be had, or None."""
        self._stuck = "journal_unavailable"
        self._retry_at = 0.0
        self._closed = False
        self.name = ""

    # --- the request path -------------------------------------------------------------------------------------

    def define(self, payload: bytes) -> int:
        """Register an origin's definition; the number it returns is what records refer to."""
        with self._lock:
            number = len(self._origins) + 1
            self._origins[number] = number.to_bytes(4, "little") + payload
            return number

    def append(self, type_: int, payload: bytes, origin: int = 0, *, important: bool = False) -> None:
        """Accept a record. Never raises, never waits for a disk that has room.

        Args:
            type_: the frame's type.
            payload: of 1 to `frames.MAX_PAYLOAD` bytes.
            origin: number of the definition that it refers to, or 0.
            important: dropped last (errors).
        """
        lock = self._lock
        lock.acquire()
        if self._busy:  # a finaliser or a signal handler interrupted an append of this very thread
            self._deferred.append((type_, payload, origin, important))
            lock.release()
            return
        self._busy = True
        try:
            self._sequence = sequence = self._sequence + 1
            offset = self._offset
            body = _pack_body(frames.MAGIC, type_, 0, len(payload), sequence) + payload
            end = offset + 4 + len(body)
            if end > self._limit or (origin and origin not in self._defined):
                self._append_slowly(type_, sequence, payload, origin, important=important)
            else:
                self._map[offset:end] = _pack_crc(crc32(body)) + body  # type: ignore[index]
                self._offset = end
        except Exception:  # pragma: no cover  # a defect of ours must not reach the host
            self._drop("journal_unavailable")
        finally:
            self._busy = False
            lock.release()
            if self._deferred:
                self._append_deferred()

    def _append_deferred(self) -> None:
        while self._deferred:
            try:
                type_, payload, origin, important = self._deferred.popleft()
            except IndexError:
                return
            self.append(type_, payload, origin, important=important)

    def _append_slowly(self, type_: int, sequence: int, payload: bytes, origin: int, *, important: bool) -> None:
        if len(payload) > frames.MAX_PAYLOAD or not payload:
            self._drop("too_large")
            return
        if self._keeper is None and not self._closed:
            self._start_keeper()
        record = _Queued(type_, sequence, payload, origin)
        if self._memory or not self._put(record):
            self._remember(record, important=important)

    def _put(self, record: _Queued) -> bool:
        """Write a record into a segment, opening the journal or the next segment where needed."""
        while True:
            definition = self._origins.get(record.origin) if record.origin not in self._defined else None
            needed = len(record.payload) + frames.HEADER + (len(definition) + frames.HEADER if definition else 0)
            if self._segment is not None and self._offset + needed <= self._segment.size - _SEAL_ROOM:
                break
            if needed > self._settings.segment_bytes - FIRST_FRAME - _SEAL_ROOM:
                self._drop("too_large")
                return True
            if not self._next_segment():
                return False
        try:
            if definition is not None:
                self._write(frames.pack(FrameType.ORIGIN, record.sequence, definition))
                self._defined.add(record.origin)
            self._write(frames.pack(record.type, record.sequence, record.payload))
        except OSError as error:
            self._abandon(error)
            return False
        return True

    def _write(self, frame: bytes) -> None:
        assert self._segment is not None
        self._segment.write(self._offset, frame)
        self._offset += len(frame)

    def _next_segment(self) -> bool:
        if not self._ready and not self._allocate_now():
            return False
        fresh = self._ready.popleft()
        if self._segment is not None:
            try:
                self._write(frames.pack(FrameType.SEAL, self._sequence, b"\xc0"))
            except OSError:
                pass  # a reader finds the next segment without it
            self._retired.append(self._segment)
        self._use(fresh)
        self._keeper_wanted.set()
        return True

    def _use(self, segment: Segment) -> None:
        self._segment = segment
        self._map = segment.map
        self._offset = FIRST_FRAME
        self._limit = segment.size - _SEAL_ROOM if segment.map is not None else 0
        self._defined.clear()

    def _allocate_now(self) -> bool:
        """Get a segment on the request path: the keeper was late, or this is the process's first record."""
        if self.degraded is not None and time.monotonic() < self._retry_at:
            return False
        if not self._allocating.acquire(timeout=_ALLOCATION_WAIT):
            return False  # the disk hangs; memory takes over until the keeper is through
        try:
            if not self._ready and (segment := self._allocate()) is not None:
                self._ready.append(segment)
            return bool(self._ready)
        finally:
            self._allocating.release()

    def _remember(self, record: _Queued, *, important: bool) -> None:
        size = len(record.payload) + 100  # what a tuple and a bytes object weigh beside their content
        cap = self._settings.memory_max_bytes
        if self._memory_bytes + size > (cap if important else cap * 3 // 4):
            self._drop(self._stuck)
            return
        self._memory.append(record)
        self._memory_bytes += size
        self._publish()

    def _drop(self, reason: str) -> None:
        self._dropped[reason] += 1
        self._publish()

    # --- allocation (under _allocating) ------------------------------------------------------------------------

    def _allocate(self) -> Segment | None:
        try:
            if self._directory is None:
                self._open()
            assert self._directory is not None
            size = self._settings.segment_bytes if self._number else max(self._settings.segment_bytes // 8, 1 << 16)
            self._check_room(size)
            segment = segments.allocate(self._directory, self._number + 1, size, mapped=self._mapped)
        except OSError as error:
            self._fail(error)
            return None
        self._number += 1
        self.degraded = None
        return segment

    def _open(self) -> None:
        """Make the journal's directory: under another name until it is locked, so nobody takes it for dead.

        Raises:
            OSError: it can't be made.
        """
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        name = f"{_boot_id()[:8]}-{os.getpid()}-{time.time_ns() // 1_000_000}-{secrets.token_hex(4)}"
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

    def _check_room(self, size: int) -> None:
        """Refuse a segment that would break the cap or eat the reserve.

        Raises:
            OSError: with ENOSPC or EDQUOT, so that it is treated as the disk's own refusal would be.
        """
        total = segments.used_bytes(self._root)
        if self._number and total + size > self._settings.journal_max_bytes:
            raise OSError(errno.EDQUOT, f"journals have reached journal_max_bytes ({total} bytes)")
        info = os.statvfs(self._root)
        reserve = min(self._settings.reserve_bytes, info.f_blocks * info.f_frsize // 20)
        if info.f_bavail * info.f_frsize < size + reserve:
            raise OSError(errno.ENOSPC, "free space is below the reserve")

    def _fail(self, error: OSError) -> None:
        reasons = {errno.EDQUOT: "journal_full", errno.ENOSPC: "no_space"}
        self._stuck = reasons.get(error.errno or 0, "journal_unavailable")
        text = f"no journal segment can be made: {error.strerror or error}"
        if self.degraded is None:
            _logger.warning("tracekeep: %s; records are kept in memory until it can", text)
        self.degraded = text
        self._retry_at = time.monotonic() + _RETRY
        self._keeper_wanted.set()

    def _abandon(self, error: OSError) -> None:
        """Stop using a segment whose write failed; what it holds stays readable, its CRCs tell the rest."""
        if self._segment is not None:
            self._retired.append(self._segment)
        self._segment, self._map, self._limit, self._offset = None, None, 0, 0
        self._fail(error)

    # --- the keeper: allocates ahead, drains memory, publishes, syncs -------------------------------------------

    def start(self) -> None:
        """Open the journal and begin to allocate ahead; does nothing where that has been done."""
        with self._lock:
            if self._keeper is None:
                self._start_keeper()
            if self._segment is None:
                self._next_segment()

    def _start_keeper(self) -> None:
        self._on_start()
        self._keeper = threading.Thread(target=self._keep, name="tracekeep-journal", daemon=True)
        self._keeper.start()

    def _keep(self) -> None:
        synced = time.monotonic()
        interval = min(0.2, self._settings.sync_interval)
        while not self._closed:
            self._keeper_wanted.wait(interval)
            self._keeper_wanted.clear()
            try:
                self.tend()
                if self._settings.durability == "power" and time.monotonic() - synced >= self._settings.sync_interval:
                    synced = time.monotonic()
                    self._synchronise()
            except Exception:  # the next round tries again
                _logger.warning("tracekeep: the journal's keeper met an error", exc_info=True)
                time.sleep(interval)

    def tend(self) -> None:
        """One round of the keeper's work."""
        self._renew_if_removed()
        if self._memory or self._segment is None:
            self._drain_memory()
        segment = self._segment
        if segment is not None and not self._ready and self._offset > segment.size // 2:
            self._allocate_ahead()
        while self._retired:
            self._retired.popleft().close()
        with self._lock:
            self._publish()

    def _allocate_ahead(self) -> None:
        """Get the next segment before it is needed; it is made ready only once its pages have been touched."""
        with self._allocating:
            fresh = self._allocate() if not self._ready and time.monotonic() >= self._retry_at else None
        if fresh is None:
            return
        fresh.touch()
        with self._lock:
            if not self._ready and self._segment is not None and self._segment.number < fresh.number:
                self._ready.append(fresh)
                return
        fresh.close()  # an append could not wait and has allocated a later one itself
        fresh.path.unlink(missing_ok=True)

    def _drain_memory(self) -> None:
        while True:
            with self._lock:
                for _ in range(min(100, len(self._memory))):
                    if not self._put(self._memory[0]):
                        return
                    self._memory_bytes -= len(self._memory.popleft().payload) + 100
                if not self._memory:
                    self._memory_bytes = 0
                    if self._segment is None and not self._next_segment():
                        return
                    return

    def _renew_if_removed(self) -> None:
        """Begin a new journal where the directory was removed or replaced under us."""
        if self._process_lock is None or self._directory is None or self._process_lock.holds(self._directory / "lock"):
            return
        _logger.warning("tracekeep: journal %s has been removed; a new one is begun", self._directory)
        with self._lock, self._allocating:
            self._retired.extend(segment for segment in (self._segment, *self._ready) if segment is not None)
            self._process_lock.release()
            self._ready.clear()
            self._directory, self._segment, self._map, self._limit, self._number = None, None, None, 0, 0

    def _synchronise(self) -> None:
        segment = self._segment
        try:
            if segment is not None:
                segment.synchronise()
        except (OSError, ValueError) as error:
            with self._lock:  # after a failed fsync the kernel calls the pages clean: never retry on them
                if self._segment is segment:
                    self._abandon(error if isinstance(error, OSError) else OSError(errno.EIO, str(error)))

    # --- what others see ----------------------------------------------------------------------------------------

    @property
    def sequence(self) -> int:
        """Number of the last record accepted."""
        return self._sequence

    def state(self) -> JournalState:
        """Exact for this moment."""
        return JournalState(
            self._sequence,
            len(self._memory),
            self.truncated,
            dict(self._dropped),
            self.degraded,
            (self._segment.number if self._segment else 0, self._offset),
        )

    def queued(self) -> list[bytes]:
        """Payloads of the spans that wait in memory."""
        with self._lock:
            return [record.payload for record in self._memory if record.type == FrameType.SPAN]

    def _publish(self) -> None:
        state = self.state()
        if self._page is not None and state != self._published:
            self._page.publish(msgspec.msgpack.encode(state))
            self._published = state

    def close(self) -> None:
        """Stop the keeper and publish. Appending stays possible, and stays safe, until the process ends."""
        self._closed = True
        self._keeper_wanted.set()
        keeper, self._keeper = self._keeper, None
        if keeper is not None and keeper is not threading.current_thread():
            keeper.join(0.5)
        with self._lock:
            self._publish()

    def _after_fork_in_child(self) -> None:
        """Let go of the parent's journal, so that only the parent keeps it alive; the first append opens our own."""
        for segment in (self._segment, *self._ready, *self._retired):
            if segment is not None:
                segment.close()
        if self._page is not None:
            self._page.close()
        if self._process_lock is not None:
            self._process_lock.release()
        self._reset()


_journals: weakref.WeakSet[Journal] = weakref.WeakSet()


def _release_inherited() -> None:
    for journal in list(_journals):
        journal._after_fork_in_child()  # noqa: SLF001  # the hook is the journal's own, registered once for all


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_release_inherited)


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:  # pragma: no cover  # macOS
        return "00000000"
