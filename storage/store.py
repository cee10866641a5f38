"""The store: what the other rooms see of storage. One for each process and data directory."""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from .gate import FORK_SECONDS
from .journal import Journal
from .layout import partition_files
from .records import CLEAR_ERRORS, MUTE, REOPEN, RESOLVE, FrameType
from .records import Command as CommandRecord
from .segments import used_bytes
from .settings import StoreSettings, resolve_data_dir, resolve_settings
from .state import Pulse, WriterState
from .views import (
    Accounting,
    Command,
    Comparison,
    Degradation,
    ErrorFilter,
    ErrorGroup,
    ErrorStats,
    ErrorView,
    GroupFilter,
    Page,
    PerformanceFilter,
    SeriesSet,
    SpanFilter,
    SpanView,
    Status,
    Summaries,
    TagFilter,
    TagNames,
    Totals,
    Window,
)

if TYPE_CHECKING:
    from .reads import Reads
    from .search import TraceReader
    from .writer import Writer

_POLL = 0.005


class Store:
    """Records, and answers questions about what has been recorded.

    Open it with `open_store`. Recording never raises and never waits; reads block and belong off an event loop.

    Attributes:
        data_dir: absolute path of the data directory.
        settings: as resolved.
        journal: where this process's records go.
        before_scrape: called, in order, when this process is about to answer a scrape, so that what it knows
            and has not journaled yet is on the page. They must not raise, and be quick.
    """

    def __init__(self, data_dir: Path, settings: StoreSettings) -> None:
        self.data_dir = data_dir
        self.settings = settings
        self.journal = Journal(data_dir / "journal", settings, on_start=self._start_writer)
        self.before_scrape: list[Callable[[], object]] = []
        self._closed = False
        self._opened_ns = time.time_ns()
        self._build()
        _all_stores.add(self)

    def _build(self) -> None:
        self._lock = threading.Lock()
        self._writer: Writer | None = None
        self._reading: Reads | None = None
        self._pulse = Pulse(self.data_dir)

    def start(self) -> Store:
        """Open the journal and stand for the writer's role; `open_store` has done it already."""
        self._start_writer()
        self.journal.start()
        return self

    def _start_writer(self) -> None:
        if self.settings.writer == "thread" and self._writer is None and not self._closed:
            from .writer import Writer  # noqa: PLC0415  # SQLite, for those who write

            self._writer = Writer(self.data_dir, self.settings, lambda: self.journal.name)
            self._writer.start()

    @property
    def is_closed(self) -> bool:
        """Whether `close` has been called."""
        return self._closed

    def flush(self, timeout: float = 0.25) -> bool:
        """Wait until what this process has recorded so far is committed.

        Args:
            timeout: seconds; the most it waits.

        Returns:
            Whether it is.
        """
        wanted, name = self.journal.last_kept, self.journal.name
        if not wanted:
            return True
        if self._closed:
            timeout = 0.0
        writer = self._writer
        until = time.monotonic() + timeout
        if writer is not None and writer.holds_role and writer.wait_applied(name, wanted, timeout):
            return True
        return self._poll(lambda: self._pulse.state().marks.get(name, 0) >= wanted, until - time.monotonic())

    def close(self, timeout: float = 2.0) -> None:
        """Apply what is there as far as the bound allows, and give the writer's role back. Recording stays safe."""
        if self._closed:
            return
        self._closed = True
        if self._writer is not None:
            self._writer.stop(timeout)
        self.journal.close()
        if self._reading is not None:
            self._reading.close()

    # --- totals and state ------------------------------------------------------------------------------------------

    def totals(self) -> Totals:
        """The last committed totals, the same for every process.

        Raises:
            Unavailable: they can't be read, and what this process has read last is not the newest.
            QueryTimeout: reading took longer than the deadline.
        """
        return self._reads.totals()

    def accounting(self) -> Accounting:
        """Accepted = stored + pending + dropped, over all processes; never raises."""
        return self._reads.accounting()

    def status(self) -> Status:
        """What the store is doing; never raises."""
        state, held = self._pulse.state(), self._pulse.is_alive()
        degraded = [Degradation(part, reason) for part, reason in state.degraded] if held else []
        if not held and time.time_ns() - max(state.updated, self._opened_ns) > _ELECTION_NS:
            degraded.append(Degradation("writer", "no process holds the writer's role: nothing is stored just now"))
        if self.journal.degraded is not None:
            degraded.append(Degradation("journal", self.journal.degraded))
        files = partition_files(self.data_dir / "history")
        return Status(
            degraded=degraded,
            writer_pid=state.pid if held and state.pid else None,
            lag_seconds=self._lag(state, held=held),
            last_commit_ns=state.committed,
            journal_bytes=used_bytes(self.data_dir / "journal"),
            history_bytes=sum(_size(path) for path in files),
            partitions=len(files),
            journal_limit_bytes=self.settings.journal_max_bytes,
            history_limit_bytes=self.settings.history_max_bytes,
        )

    @staticmethod
    def _lag(state: WriterState, *, held: bool) -> float:
        """Seconds: what the writer says, or since its last word where it says nothing any more."""
        silence = max(0.0, (time.time_ns() - state.updated) / 1e9) if state.updated else 0.0
        return state.lag + (silence if not held or silence > _SILENT else 0.0)

    # --- errors ----------------------------------------------------------------------------------------------------

    def errors(
        self,
        *,
        limit: int = 50,
        cursor: str | None = None,
        service: str | None = None,
        type: str | None = None,  # noqa: A002  # the field's own name
        since_ns: int | None = None,
        until_ns: int | None = None,
        group: str | None = None,
        state: str | None = None,
        operational: bool | None = None,
    ) -> Page[ErrorView]:
        """Retained errors, newest arrival first; `state` is that of their group: `open`, `resolved` or `muted`.

        Raises:
            InvalidCursor, QueryTimeout.
            Unavailable: a state was asked for, and the groups can't be read.
        """
        wanted = ErrorFilter(service, type, since_ns, until_ns, group, operational)
        return self._reads.errors(wanted, limit, cursor, state)

    def error_groups(
        self,
        *,
        limit: int = 50,
        cursor: str | None = None,
        sort: str = "last_seen",
        service: str | None = None,
        type: str | None = None,  # noqa: A002  # the field's own name
        state: str | None = None,
        since_ns: int | None = None,
        until_ns: int | None = None,
    ) -> Page[ErrorGroup]:
        """Error groups, by `last_seen`, `first_seen` or `count`, the highest first.

        Raises:
            InvalidCursor, QueryTimeout, Unavailable.
        """
        return self._reads.error_groups(GroupFilter(service, type, state, since_ns, until_ns), sort, limit, cursor)

    def error_group(self, group: str) -> ErrorGroup | None:
        """One error group by its id; `None` where there is none.

        Raises:
            QueryTimeout, Unavailable.
        """
        return self._reads.error_group(group)

    def resolve_group(self, group: str, *, timeout: float = 2.0) -> Command:
        """Ask the writer to resolve an error group: its next error, from now on, is a regression.

        Asking again changes nothing. The result has `found`, and the group's `state` where it was found.
        """
        return self._command(RESOLVE, {"group": group}, timeout)

    def mute_group(self, group: str, *, timeout: float = 2.0) -> Command:
        """Ask the writer to mute an error group: it is counted on, and stays muted whatever comes."""
        return self._command(MUTE, {"group": group}, timeout)

    def reopen_group(self, group: str, *, timeout: float = 2.0) -> Command:
        """Ask the writer to open an error group again."""
        return self._command(REOPEN, {"group": group}, timeout)

    def error_stats(self) -> ErrorStats:
        """Counts of the retained, not cleared errors.

        Raises:
            QueryTimeout.
        """
        return self._reads.error_stats()

    def clear_errors(self, *, timeout: float = 2.0) -> Command:
        """Ask the writer to clear all errors recorded until now; wait for it, up to a bound in seconds."""
        return self._command(CLEAR_ERRORS, {}, timeout)

    def _command(self, name: str, arguments: dict[str, Any], timeout: float) -> Command:
        """Journal a command and wait, up to a bound in seconds, until the writer has carried it out."""
        record = CommandRecord(os.urandom(8).hex(), name, time.time_ns(), arguments)
        self.journal.append(FrameType.COMMAND, msgspec.msgpack.encode(record), important=True)
        if self._writer is not None:
            self._writer.hurry()
        done = self._poll(lambda: self._reads.command(record.id) is not None, timeout)
        return Command(record.id, done, self._reads.command(record.id) or {} if done else {})

    # --- performance, spans, traces --------------------------------------------------------------------------------

    def performance(
        self,
        *,
        since_ns: int,
        until_ns: int,
        service: str | None = None,
        name: str | None = None,
        kind: str | None = None,
        release: str | None = None,
        by: str = "operation",
        limit: int = 1000,
    ) -> Summaries:
        """Groups of spans over the whole minutes that a window touches, busiest first.

        Args:
            since_ns: the window's begin.
            until_ns: its end.
            service: of the spans.
            name: of the spans.
            kind: of the spans.
            release: `service.version` of the spans.
            by: `operation`, `service` or `release`; by the latter two requests alone count where no kind is given.
            limit: the most groups that are given.

        Raises:
            Unavailable, QueryTimeout.
        """
        wanted = PerformanceFilter(service, name, kind, release)
        return self._reads.performance.summaries(Window(since_ns, until_ns), wanted, by, limit)

    def performance_series(
        self,
        *,
        since_ns: int,
        until_ns: int,
        step_ns: int,
        service: str | None = None,
        name: str | None = None,
        kind: str | None = None,
        release: str | None = None,
        by: str = "operation",
        limit: int = 10,
    ) -> SeriesSet:
        """The same as `performance`, by steps of whole minutes that begin at multiples of their length.

        Raises:
            Unavailable, QueryTimeout.
        """
        wanted = PerformanceFilter(service, name, kind, release)
        return self._reads.performance.series(Window(since_ns, until_ns), wanted, by, limit, step_ns)

    def compare_performance(
        self,
        baseline: Window,
        current: Window,
        *,
        service: str | None = None,
        name: str | None = None,
        kind: str | None = None,
        releases: tuple[str | None, str | None] = (None, None),
        limit: int = 100,
    ) -> Comparison:
        """Operations and errors of two windows, or of two releases (the baseline's first), beside each other.

        Raises:
            Unavailable, QueryTimeout.
        """
        before, after = (PerformanceFilter(service, name, kind, release) for release in releases)
        return self._reads.compare((baseline, before), (current, after), limit)

    def slow_requests(
        self,
        *,
        since_ns: int,
        until_ns: int,
        threshold_ns: int,
        service: str | None = None,
        name: str | None = None,
        limit: int = 10,
    ) -> Page[SpanView]:
        """Server and consumer spans of at least a duration that began in the window, newest arrival first.

        Raises:
            QueryTimeout.
        """
        wanted = SpanFilter(service, name, min_duration_ns=threshold_ns, since_ns=since_ns, until_ns=until_ns)
        return self._reads.slow_requests(wanted, limit)

    def spans(
        self,
        *,
        limit: int = 50,
        cursor: str | None = None,
        service: str | None = None,
        name: str | None = None,
        kind: str | None = None,
        status: str | None = None,
        min_duration_ns: int | None = None,
        max_duration_ns: int | None = None,
        since_ns: int | None = None,
        until_ns: int | None = None,
        trace_id: str | None = None,
        attributes: Mapping[str, str] | None = None,
    ) -> Page[SpanView]:
        """Retained spans, newest arrival first.

        Raises:
            InvalidCursor, QueryTimeout.
        """
        wanted = SpanFilter(
            service,
            name,
            kind,
            status,
            min_duration_ns,
            max_duration_ns,
            since_ns,
            until_ns,
            trace_id,
            attributes or {},
        )
        return self._reads.spans(wanted, limit, cursor)

    def trace(self, trace_id: str, *, limit: int = 10_000) -> Page[SpanView]:
        """All retained spans of a trace, by start; none where it is unknown. `truncated` where there are more.

        Raises:
            QueryTimeout.
        """
        return self._reads.trace(trace_id, limit)

    def tag_names(self, wanted: TagFilter) -> TagNames:
        """Names of the attributes that retained spans have.

        Raises:
            QueryTimeout.
        """
        return self._reads.tag_names(wanted)

    def tag_values(self, wanted: TagFilter) -> Page[Any]:
        """Values of an attribute, sorted; without a scope, of one of `tags.INTRINSICS`.

        Raises:
            QueryTimeout.
        """
        return self._reads.tag_values(wanted)

    def tracing(self, *, until: float | None = None) -> TraceReader:
        """A reader of candidate spans and whole traces, for one question of a query language.

        Args:
            until: when it must have ended (monotonic seconds); at most the store's own deadline.
        """
        return self._reads.tracing(until)

    # --- plumbing --------------------------------------------------------------------------------------------------

    @property
    def _reads(self) -> Reads:
        """The reading side, made when something is first asked for."""
        with self._lock:
            if self._reading is None:
                from .reads import Reads  # noqa: PLC0415  # SQLAlchemy, for those who read

                self._reading = Reads(self.data_dir, self.settings, self.journal, self._pulse)
            return self._reading

    @staticmethod
    def _poll(check: Callable[[], bool], timeout: float) -> bool:
        until = time.monotonic() + timeout
        while not check():
            if time.monotonic() >= until:
                return False
            time.sleep(_POLL)
        return True

    def _users_of_sqlite(self) -> list[Writer | Reads]:
        return [each for each in (self._writer, self._reading) if each is not None]

    def _after_fork_in_child(self) -> None:
        """The child records into a journal of its own and stands for the role itself, from its first record on."""
        if self._writer is not None:
            self._writer.abandon_after_fork()
            _left_to_the_parent.append(self._writer)
        if self._reading is not None:
            self._reading.abandon_after_fork()
        self._build()


_ELECTION_NS = 2_000_000_000
"""Without a writer for less than this, one is just being found."""
_SILENT = 3.0  # s without a word of the writer that are normal
_left_to_the_parent: list[Writer] = []
"""Writers with SQLite connections that a fork has copied: closing them here would break the parent's."""

_stores: dict[Path, Store] = {}
_open_lock = threading.Lock()
_current: list[Store] = []


def open_store(data_dir: str | os.PathLike[str] | None = None, **settings: Any) -> Store:
    """The store of a data directory: one for each process, however often it is asked for.

    It never fails because of the disk: what can't be done yet is tried again, and `status` says so.

    Args:
        data_dir: default `TRACEKEEP_DATA_DIR`, else `./tracekeep-data`.
        settings: fields of `StoreSettings`; they count only when the store isn't open yet.

    Raises:
        SettingError: a setting is unknown or has a value that it can't have.
    """
    path = resolve_data_dir(data_dir)
    resolved = resolve_settings(settings)
    with _open_lock:
        store = _stores.get(path)
        if store is None or store.is_closed:
            store = _stores[path] = Store(path, resolved).start()
        _current[:] = [store]
        return store


def current_store() -> Store | None:
    """The store that was opened last in this process."""
    return _current[0] if _current and not _current[0].is_closed else None


def _after_fork() -> None:
    global _open_lock  # noqa: PLW0603  # another thread may have held it at the fork
    _open_lock = threading.Lock()
    for store in list(_all_stores):
        store._after_fork_in_child()  # noqa: SLF001  # the hook is the store's own, registered once for all


def _before_fork() -> None:
    """Have nobody at work in SQLite when the process forks, as far as a bound allows."""
    until = time.monotonic() + FORK_SECONDS
    _forking.users = [each for store in list(_all_stores) for each in store._users_of_sqlite()]  # noqa: SLF001  # the same
    for each in _forking.users:
        each.before_fork(until)


def _after_fork_in_parent() -> None:
    for each in _forking.__dict__.pop("users", ()):
        each.after_fork_in_parent()


_forking = threading.local()
_all_stores: weakref.WeakSet[Store] = weakref.WeakSet()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
