"""Everything that is read from the databases, with what the journals hold beyond them where a fault keeps it there.

Imported when something is first asked for: a process that only records never pays for SQLAlchemy.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from .accounting import Snapshot, read_snapshot, settle
from .errors import QueryTimeout, Unavailable
from .found import Found, cursor_after
from .group_queries import read_group, read_group_ids, read_groups
from .journal import Journal
from .performance import Minutes, PerformanceReader
from .queries import HistoryReader
from .reading import Readers
from .recent import Recent, read_recent
from .search import Dictionaries, TraceReader
from .settings import StoreSettings
from .span_pages import SpanReader
from .state import Pulse, WriterState
from .tags import TagReader, names_of, values_of
from .totals import TotalsReader, read_cleared, read_command
from .tracing import from_view
from .views import (
    Accounting,
    Comparison,
    ErrorFilter,
    ErrorGroup,
    ErrorKind,
    ErrorStats,
    ErrorView,
    GroupFilter,
    Page,
    PerformanceFilter,
    SpanFilter,
    SpanView,
    TagFilter,
    TagNames,
    Totals,
    Window,
)

T = TypeVar("T")
_TOTALS_WAIT = 2.0
"""How long a scrape waits for a database that can't be read: numbers that may go backwards are no answer."""
_TOTALS_PAUSE = 0.1
_BEHIND = 2.0
"""Seconds of lag past which answers include what the journals hold."""


class Reads:
    """The reading side of a data directory, for one process."""

    def __init__(self, data_dir: Path, settings: StoreSettings, journal: Journal, pulse: Pulse) -> None:
        self._journals = data_dir / "journal"
        self._aggregates = data_dir / "aggregates.db"
        self._journal = journal
        self._pulse = pulse
        self._readers = Readers(settings.query_timeout)
        self._partitions = data_dir / "history"
        self._history = HistoryReader(self._partitions, self._readers)
        self._spans = SpanReader(self._partitions, self._readers)
        self._tags = TagReader(self._partitions, self._readers)
        self.performance = PerformanceReader(self._aggregates, self._readers)
        self._totals = TotalsReader(self._aggregates, self._readers, settings.span_metric_names)
        self._dictionaries = Dictionaries()
        self._cleared_ns = 0
        self._last_snapshot = Snapshot()

    def totals(self) -> Totals:
        """See `Store.totals`."""
        until = time.monotonic() + _TOTALS_WAIT
        while True:
            committed = self._pulse.state().commit
            try:
                totals = self._totals.read(self._readers.deadline())
                if totals.commit >= committed:
                    return totals
                raise Unavailable("the database is being made anew")  # noqa: TRY301  # waits as for any other cause
            except Unavailable as error:
                last = self._totals.last()
                if last is not None and last.commit >= max(committed, 1):
                    return last
                if time.monotonic() >= until:
                    raise Unavailable(f"Totals can't be read, and older ones might go backwards: {error}") from error
                time.sleep(_TOTALS_PAUSE)

    def accounting(self) -> Accounting:
        """See `Store.accounting`."""
        return settle(self._snapshot, self._journals, self._journal)

    def _snapshot(self) -> Snapshot:
        with suppress(Unavailable, QueryTimeout):
            self._last_snapshot = self._ask(read_snapshot)
        return self._last_snapshot

    def command(self, command_id: str) -> dict[str, Any] | None:
        """The result of a command, or None while it hasn't been applied or can't be read."""
        with suppress(Unavailable):
            return self._ask(lambda connection: read_command(connection, command_id))
        return None

    def errors(self, wanted: ErrorFilter, limit: int, cursor: str | None, state: str | None = None) -> Page[ErrorView]:
        """A page of errors that haven't been cleared; with a state, those whose group has it."""
        recent = self._pending()
        wanted = wanted.after(self._cleared())
        if state is not None:
            wanted = msgspec.structs.replace(wanted, groups=self._ask(lambda each: read_group_ids(each, state)))
        found = self._history.find_errors(wanted, limit, cursor)
        return self._page(found, cursor, limit, recent, lambda recent: recent.errors(wanted))

    def error_groups(self, wanted: GroupFilter, sort: str, limit: int, cursor: str | None) -> Page[ErrorGroup]:
        """A page of error groups."""
        return self._ask(lambda connection: read_groups(connection, wanted, sort, limit, cursor))

    def error_group(self, group: str) -> ErrorGroup | None:
        """One error group."""
        return self._ask(lambda connection: read_group(connection, group))

    def error_stats(self) -> ErrorStats:
        """Counts of the errors that haven't been cleared."""
        return self._history.error_stats(time.time_ns(), self._cleared())

    def _cleared(self) -> int:
        with suppress(Unavailable):
            self._cleared_ns = self._ask(read_cleared)
        return self._cleared_ns

    def compare(
        self,
        baseline: tuple[Window, PerformanceFilter],
        current: tuple[Window, PerformanceFilter],
        limit: int,
    ) -> Comparison:
        """Two windows or releases beside each other."""
        behind = self._is_behind()
        operations, total = self.performance.changes(baseline, current, limit)
        cleared = self._cleared()
        before, after = (self._history.error_kinds(*side, cleared) for side in (baseline, current))
        return Comparison(
            Minutes.touched(baseline[0].since_ns, baseline[0].until_ns).window,
            Minutes.touched(current[0].since_ns, current[0].until_ns).window,
            operations,
            total,
            _beyond(after.items, before.items, limit),
            _beyond(before.items, after.items, limit),
            degraded=behind or bool(before.failures or after.failures),
        )

    def slow_requests(self, wanted: SpanFilter, limit: int) -> Page[SpanView]:
        """The newest requests that a filter finds."""
        behind = self._is_behind()
        found = self._spans.find(wanted, limit, None, requests=True)
        return Page(found.items, None, degraded=behind or bool(found.failures))

    def spans(self, wanted: SpanFilter, limit: int, cursor: str | None) -> Page[SpanView]:
        """A page of spans."""
        recent = self._pending()
        found = self._spans.find(wanted, limit, cursor)
        return self._page(found, cursor, limit, recent, lambda recent: recent.spans(wanted))

    def trace(self, trace_id: str, limit: int) -> Page[SpanView]:
        """All spans of a trace."""
        recent = self._pending()
        found = self._spans.trace(trace_id, limit + 1)
        recent = self._instead(found, recent)
        if recent is not None:
            pending = recent.spans(SpanFilter(trace_id=trace_id))
            known = {span.span_id for span in found.items}
            found.items += [span for span in pending if span.span_id not in known]
            found.items.sort(key=lambda span: span.start_ns)
        return Page(found.items[:limit], None, degraded=recent is not None, truncated=len(found.items) > limit)

    def tag_names(self, wanted: TagFilter) -> TagNames:
        """Names of attributes by scope."""
        found: Found[Any] = Found()
        recent = self._pending()
        names = self._tags.names(wanted, found)
        recent = self._instead(found, recent)
        pending = names_of(recent.spans(_in_time(wanted))) if recent is not None else {}
        sorted_names = {
            scope: sorted(keys | pending.get(scope, set()))[: wanted.limit] for scope, keys in names.items()
        }
        return TagNames(sorted_names, degraded=recent is not None)

    def tag_values(self, wanted: TagFilter) -> Page[Any]:
        """Values of one attribute."""
        found: Found[Any] = Found()
        recent = self._pending()
        values = self._tags.values(wanted, found)
        recent = self._instead(found, recent)
        for value in values_of(recent.spans(_in_time(wanted)), wanted) if recent is not None else ():
            values.add(value)
        return Page(values.sorted(), None, degraded=recent is not None)

    def tracing(self, until: float | None) -> TraceReader:
        """See `Store.tracing`."""
        deadline = min(until, self._readers.deadline()) if until is not None else self._readers.deadline()
        recent = self._pending()
        pending = list(map(from_view, recent.spans(SpanFilter()))) if recent is not None else None
        return TraceReader(self._partitions, self._readers, self._dictionaries, deadline, pending)

    def _page(
        self,
        found: Found[T],
        cursor: str | None,
        limit: int,
        recent: Recent | None,
        matching: Callable[[Recent], list[T]],
    ) -> Page[T]:
        recent = self._instead(found, recent)
        if recent is None:
            return Page(found.items, found.cursor)
        known = set(map(_key, found.items))  # committed between the two looks
        newest = [each for each in matching(recent) if _key(each) not in known][:limit] if cursor is None else []
        room = limit - len(newest)
        if room >= len(found.items):
            return Page([*newest, *found.items], found.cursor, degraded=True)
        last = found.places[room - 1] if room else None
        return Page([*newest, *found.items[:room]], cursor_after(last), degraded=True)

    def _is_behind(self, state: WriterState | None = None) -> bool:
        """Whether the databases may lack something that the journals have, because of a fault."""
        state = state or self._pulse.state()
        return bool(state.degraded) or not state.caught_up or not self._pulse.is_alive() or state.lag > _BEHIND

    def _pending(self) -> Recent | None:
        """What the journals hold that the databases may lack; None where that is nothing, or nearly.

        To be read before the databases: what leaves the journals between the two is found in these.
        """
        state = self._pulse.state()
        return read_recent(self._journals, state.rows) if self._is_behind(state) else None

    def _instead(self, found: Found[Any], pending: Recent | None) -> Recent | None:
        """The same, once it is known whether the databases could be read."""
        if pending is None and found.failures:
            return read_recent(self._journals, self._pulse.state().rows)
        return pending

    def _ask(self, read: Callable[[Any], T]) -> T:
        with self._readers.connect(self._aggregates, self._readers.deadline()) as connection:
            return read(connection)

    def close(self) -> None:
        """Close all connections that are not in use."""
        self._readers.close()

    def before_fork(self, until: float) -> None:
        """Have all connections closed, so that the child inherits nothing of SQLite; wait up to a monotonic time."""
        self._readers.before_fork(until)

    def after_fork_in_parent(self) -> None:
        """Go on."""
        self._readers.after_fork_in_parent()

    def abandon_after_fork(self) -> None:
        """In a forked child: leave the parent's connections alone."""
        self._readers.abandon_after_fork()


def _key(view: Any) -> tuple[object, ...]:
    """What tells a span, or an error, from all others."""
    if isinstance(view, SpanView):
        return view.trace_id, view.span_id
    return view.trace_id, view.span_id, view.time_ns, view.type, view.message


def _beyond(these: list[ErrorKind], those: list[ErrorKind], limit: int) -> list[ErrorKind]:
    """Which of these are not among those, the most frequent first."""
    known = {(kind.service, kind.type, kind.operation) for kind in those}
    new = [kind for kind in these if (kind.service, kind.type, kind.operation) not in known]
    return sorted(new, key=lambda kind: -kind.count)[:limit]


def _in_time(wanted: TagFilter) -> SpanFilter:
    return SpanFilter(since_ns=wanted.since_ns, until_ns=wanted.until_ns)
