"""The journal: the crash-safe queue that one process appends its records to.

Invariant: when `append` returns with a segment in use, the record is in the page cache and survives
the death of the process. While no segment can be had, a bounded queue in memory takes the records;
`degraded` says why. When that is full too, records are dropped by policy and counted by reason.
Sequence numbers are given at acceptance, so a record that was dropped leaves a gap that the writer sees.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from . import frames
from .records import FrameType
from .segments import FIRST_FRAME, Segment
from .settings import StoreSettings
from .supply import SegmentSupply
from .tail import Tail, new_tail

_logger = logging.getLogger("tracekeep")
_SEAL_ROOM = frames.HEADER + 1
_KEEP = 0.2  # s between two rounds of the keeper: how old a published state can be
_OVERHEAD = 100  # bytes that a queued record weighs beside its payload
_DRAIN_AT_A_TIME = 100  # records moved from memory while appends wait
DROP_REASONS = ("journal_full", "no_space", "journal_unavailable", "too_large", "unencodable")
"""Why a process drops a record before it is journaled."""


class JournalState(msgspec.Struct, array_like=True):
    """What a process publishes about its journal beside the segments; cumulative for its life."""

    accepted: int = 0
    in_memory: int = 0
    truncated: int = 0
    dropped: dict[str, int] = {}
    degraded: str | None = None


class _Queued(NamedTuple):
    type: int
    sequence: int
    payload: bytes
    origin: int


class Journal:
    """The appending side. Safe to use from any thread, from finalisers, and across `fork`.

    Args:
        root: `journal/` of the data directory.
        settings: of the store.
        on_start: called when the process begins to record, also a forked child.
    """

    def __init__(self, root: Path, settings: StoreSettings, on_start: Callable[[], None] = lambda: None) -> None:
        self._root = root
        self._settings = settings
        self._on_start = on_start
        self._origins: dict[int, bytes] = {}
        self._lock = threading.RLock()
        self._tail = new_tail(self._lock)
        self._reset()
        _journals.add(self)

    def _reset(self) -> None:
        self._lock = threading.RLock()
        self._tail.reset(self._lock)
        self._keeper_wanted = threading.Event()
        self._keeper: threading.Thread | None = None
        self._supply = SegmentSupply(self._root, self._settings)
        self._deferred: deque[tuple[int, bytes, int, bool]] = deque()
        self._segment: Segment | None = None
        self._redefined = False
        self._kept = 0
        self._last_dropped = 0
        self._memory: deque[_Queued] = deque()
        self._memory_bytes = 0
        self._dropped = dict.fromkeys(DROP_REASONS, 0)
        self._truncated = 0
        self._published: JournalState | None = None
        self._closed = False

    # --- the request path ----------------------------------------------------------------------------------------

    def define(self, payload: bytes) -> int:
        """Register a definition; the number it returns is what records refer to."""
        with self._lock:
            number = len(self._origins) + 1
            self._origins[number] = number.to_bytes(4, "little") + payload
            return number

    def append(self, type_: int, payload: bytes, origin: int = 0, important: bool = False) -> None:  # noqa: FBT001, FBT002  # positional: a keyword costs on every span
        """Accept a record. Never raises, never waits for a disk that has room.

        Args:
            type_: the frame's type.
            payload: of 1 to `frames.MAX_PAYLOAD` bytes.
            origin: number of the definition (of an origin or a template) that it refers to, or 0.
            important: dropped last (errors).
        """
        if not self._tail.append(type_, payload, origin):
            self._append_guarded(type_, payload, origin, important=important)
        elif self._deferred:  # by a finaliser that interrupted this append
            self._append_deferred()

    def _append_guarded(self, type_: int, payload: bytes, origin: int, *, important: bool) -> None:
        with self._lock:
            if self._tail.busy:  # a finaliser or a signal handler interrupted an append of this very thread
                self._deferred.append((type_, payload, origin, important))
                return
            with self._at_work():
                try:
                    self._append_slowly(type_, payload, origin, important=important)
                except Exception:  # pragma: no cover  # a defect of ours must not reach the host
                    self._drop("journal_unavailable")
        if self._deferred:
            self._append_deferred()

    @contextlib.contextmanager
    def _at_work(self) -> Iterator[None]:
        """Keep the quick way closed; what a finaliser records meanwhile is deferred. The lock must be held."""
        before, self._tail.busy = self._tail.busy, True
        try:
            yield
        finally:
            self._tail.busy = before

    def _append_deferred(self) -> None:
        with contextlib.suppress(IndexError):  # another thread may have been quicker
            while self._deferred:
                self.append(*self._deferred.popleft())

    def _append_slowly(self, type_: int, payload: bytes, origin: int, *, important: bool) -> None:
        sequence = self._tail.take_sequence()
        if len(payload) > frames.MAX_PAYLOAD or not payload:
            self._drop("too_large")
            return
        if self._keeper is None and not self._closed:
            self._start_keeper()
        record = _Queued(type_, sequence, payload, origin)
        if (
            self._segment is not None
            and not self._redefined
            and self._tail.offset + len(payload) > self._segment.size // 2
        ):
            self._redefined = True  # definitions stand twice in a segment, so that damage to one loses no span
            self._tail.defined.clear()
            self._set_limit()
        if self._memory or not self._put(record):
            self._remember(record, important=important)

    def _put(self, record: _Queued) -> bool:
        """Write a record into a segment, the next one where it must be; False where none can be had."""
        while True:
            definition = self._origins.get(record.origin) if record.origin not in self._tail.defined else None
            needed = len(record.payload) + frames.HEADER + (len(definition) + frames.HEADER if definition else 0)
            if self._segment is not None and self._tail.offset + needed <= self._segment.size - _SEAL_ROOM:
                break
            if needed > self._settings.segment_bytes - FIRST_FRAME - _SEAL_ROOM:
                self._drop("too_large")
                return True
            if not self._next_segment():
                return False
        try:
            if definition is not None:
                self._write(frames.pack(FrameType.DEFINITION, record.sequence, definition))
                self._tail.defined.add(record.origin)
            self._write(frames.pack(record.type, record.sequence, record.payload))
        except OSError as error:
            self._abandon(error)
            return False
        return True

    def _write(self, frame: bytes) -> None:
        assert self._segment is not None
        self._segment.write(self._tail.offset, frame)
        self._tail.offset += len(frame)

    def _next_segment(self) -> bool:
        fresh = self._supply.take()
        self._keeper_wanted.set()
        if fresh is None:
            return False
        full = self._segment
        if full is not None:
            with contextlib.suppress(OSError):  # a reader finds the next segment without it
                self._write(frames.pack(FrameType.SEAL, self._tail.sequence, b"\xc0"))
        self._use(fresh)
        if full is not None:
            self._supply.retire(full)
        return True

    def _use(self, segment: Segment | None) -> None:
        self._segment = segment
        self._tail.use(segment.map if segment is not None else None, FIRST_FRAME)
        self._redefined = False
        self._set_limit()

    def _set_limit(self) -> None:
        """Where the fast way ends: at once while records wait in memory, so that none overtakes them."""
        segment = self._segment
        if segment is None or segment.map is None or self._memory:
            self._tail.limit = 0
        else:
            self._tail.limit = segment.size - _SEAL_ROOM if self._redefined else segment.size // 2

    def _abandon(self, error: OSError) -> None:
        """Stop using a segment whose write failed: its CRCs tell what of it is whole."""
        self._retire()
        self._supply.fail(error)

    def _retire(self) -> None:
        """Write no more to the segment; the mapping must be free before it can be closed."""
        segment = self._segment
        self._use(None)
        if segment is not None:
            self._supply.retire(segment)

    def _remember(self, record: _Queued, *, important: bool) -> None:
        """Queue in memory; past three quarters of the bound only what is important."""
        size, bound = len(record.payload) + _OVERHEAD, self._settings.memory_max_bytes
        if self._memory_bytes + size > (bound if important else bound * 3 // 4):
            self._drop(self._supply.reason)
            return
        self._memory.append(record)
        self._memory_bytes += size
        self._set_limit()
        self._publish()

    def _drop(self, reason: str) -> None:
        if self._last_dropped != self._tail.sequence - 1:
            self._kept = self._tail.sequence - 1
        self._last_dropped = self._tail.sequence
        self._dropped[reason] += 1
        self._publish()

    def count_truncated(self, count: int) -> None:
        """Note that values were cut or replaced before they came here."""
        with self._lock:
            self._truncated += count

    def count_unencodable(self) -> None:
        """Note that a record was accepted that nothing could be made of."""
        with self._lock, self._at_work():
            self._tail.take_sequence()
            self._drop("unencodable")

    # --- the keeper: allocates ahead, drains memory, publishes, syncs ----------------------------------------------

    def start(self) -> None:
        """Open the journal and begin to allocate ahead; does nothing where that has been done."""
        with self._lock, self._at_work():
            if self._keeper is None:
                self._start_keeper()
            if self._segment is None:
                self._next_segment()

    def _start_keeper(self) -> None:
        self._on_start()
        self._keeper = threading.Thread(target=self._keep, name="tracekeep-journal", daemon=True)
        self._keeper.start()

    def _keep(self) -> None:
        interval = min(_KEEP, self._settings.sync_interval)
        synced = time.monotonic()
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
        if self._supply.is_removed():
            self._leave_removed()
        if self._memory or self._segment is None:
            self._drain_memory()
        segment = self._segment
        if segment is not None and not self._supply.has_ready() and self._tail.offset > segment.size // 2:
            self._supply.allocate_ahead(segment.number, self._lock)
        self._supply.close_retired()
        with self._lock:
            self._publish()

    def _leave_removed(self) -> None:
        """Begin again from number one, as the next directory is a journal of its own."""
        with self._lock, self._at_work():
            self._retire()
            self._supply.leave()
            self._memory = deque(record._replace(sequence=n) for n, record in enumerate(self._memory, start=1))
            self._tail.sequence, self._truncated = len(self._memory), 0
            self._dropped = dict.fromkeys(DROP_REASONS, 0)

    def _drain_memory(self) -> None:
        """Move what was queued into the journal, a little at a time, as soon as it can grow again."""
        more = True
        while more:
            with self._lock:
                if self._tail.busy:
                    return
                with self._at_work():
                    more = self._drain_some()
            self._append_deferred()

    def _drain_some(self) -> bool:
        """Whether there is more to move and room for it."""
        if self._segment is None and not self._next_segment():
            return False
        for _ in range(min(_DRAIN_AT_A_TIME, len(self._memory))):
            if not self._put(self._memory[0]):
                return False
            self._memory_bytes -= len(self._memory.popleft().payload) + _OVERHEAD
        self._set_limit()
        return bool(self._memory)

    def _synchronise(self) -> None:
        segment = self._segment
        try:
            if segment is not None:
                segment.synchronise()
        except (OSError, ValueError) as error:
            with self._lock, self._at_work():  # after a failed fsync the kernel calls the pages clean: no second try
                if self._segment is segment:
                    self._abandon(error if isinstance(error, OSError) else OSError(errno.EIO, str(error)))

    def close(self) -> None:
        """Stop the keeper and publish. Appending stays possible, and stays safe, until the process ends."""
        self._closed = True
        self._keeper_wanted.set()
        keeper, self._keeper = self._keeper, None
        if keeper is not None and keeper is not threading.current_thread():
            keeper.join(0.5)
        with self._lock:
            self._publish()

    # --- what others see -------------------------------------------------------------------------------------------

    @property
    def tail(self) -> Tail:
        """Where frames go while all is well; whoever appends to it turns to `append` where it refuses."""
        return self._tail

    @property
    def name(self) -> str:
        """Of the journal's directory; "" until there is one."""
        return self._supply.name

    @property
    def degraded(self) -> str | None:
        """Why no segment can be had, or None."""
        return self._supply.degraded

    @property
    def sequence(self) -> int:
        """Number of the last record accepted."""
        return self._tail.sequence

    @property
    def last_kept(self) -> int:
        """Number of the last record accepted and not dropped."""
        return self._kept if self._last_dropped == self._tail.sequence else self._tail.sequence

    def state(self) -> JournalState:
        """Exact for this moment."""
        return JournalState(
            self._tail.sequence, len(self._memory), self._truncated, dict(self._dropped), self._supply.degraded
        )

    def _publish(self) -> None:
        state = self.state()
        if state != self._published:
            self._supply.publish(msgspec.msgpack.encode(state))
            self._published = state

    def _after_fork_in_child(self) -> None:
        """Let go of the parent's journal; the first append opens our own."""
        segment = self._segment
        self._tail.use(None, 0)
        if segment is not None:
            segment.close()
        self._supply.release_inherited()
        self._reset()


_journals: weakref.WeakSet[Journal] = weakref.WeakSet()


def _release_inherited() -> None:
    for journal in list(_journals):
        journal._after_fork_in_child()  # noqa: SLF001  # the hook is the journal's own, registered once for all


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_release_inherited)
