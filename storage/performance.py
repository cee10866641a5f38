"""Performance over any window, from the rollups: sums, time series and comparisons, without looking at spans.

A rollup is of one operation in one minute. So a window is answered by the whole minutes that it touches: the spans
that ended in them, no matter when they began. `counted` in an answer says which minutes these are. Inside of a long
window, hours that have been summed up (`hours.py`) stand for their minutes.

Rows are read in slices, each in a transaction of its own: however long the window, no query keeps the writer from
starting its log anew. A minute that is being written may be read as it was or as it is; nothing is counted twice.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from . import sketch
from .errors import QueryTimeout
from .intake import MINUTE
from .quantiles import difference, interval
from .reading import NARROW, Readers
from .records import SpanKind
from .rollups import Rollup, Row
from .views import (
    Figures,
    OperationChange,
    OperationSeries,
    OperationSummary,
    PerformanceFilter,
    Point,
    SeriesSet,
    Shift,
    Summaries,
    Window,
)

GROUPINGS = ("operation", "service", "release")
"""What spans can be told apart by: service, name and kind; service; service and release."""
MOST_POINTS = 500
"""Steps that a time series may have."""
CONFIDENCE = 0.95
"""Of the statement about a shift; each of the two percentiles has the square root of it."""
REQUESTS = (SpanKind.SERVER, SpanKind.CONSUMER)
"""What counts by service and by release where no kind is asked for: a request's inner spans would count it twice."""

_SHIFTED = 0.95
_SLICE = 4000  # rows of a transaction: some 10 ms
_OPERATIONS = "SELECT id, service, name, kind, release FROM operations"
_HOURS = (
    "SELECT hour * 60, operation, count, errors, slow, sum, min, max, last, sketch FROM rollup_hours "
    "WHERE hour >= ? AND hour < ?{chosen}"
)
_HAS_HOUR = "SELECT 1 FROM rollup_hours WHERE hour = ? LIMIT 1"
_ROLLUPS = (
    "SELECT minute, operation, count, errors, slow, sum, min, max, last, sketch FROM rollups "
    "WHERE minute >= ?1 AND minute <= ?3 AND (minute > ?1 OR operation > ?2){chosen} "
    "ORDER BY minute, operation LIMIT {limit}"
)
_FOREVER = 60 << 40  # a step that has all minutes, and whole hours
_MANY = 1000  # operations that are listed in a query; more are sorted out here


class _Key(NamedTuple):
    """What a group of spans has in common."""

    service: str
    name: str | None
    kind: str | None
    release: str | None


class Minutes(NamedTuple):
    """Whole minutes since the epoch, from the first to the last."""

    first: int
    last: int

    @classmethod
    def touched(cls, since_ns: int, until_ns: int, step: int = 1) -> Minutes:
        """Those that a window has a part in, widened to multiples of a step (in minutes)."""
        first, last = since_ns // MINUTE, (until_ns - 1) // MINUTE
        return cls(first // step * step, last // step * step + step - 1)

    @property
    def window(self) -> Window:
        """The same as times."""
        return Window(self.first * MINUTE, (self.last + 1) * MINUTE)


class PerformanceReader:
    """Sums up rollups.

    Args:
        path: of `aggregates.db`.
        readers: connections.
    """

    def __init__(self, path: Path, readers: Readers) -> None:
        self._path = path
        self._readers = readers

    def summaries(self, window: Window, wanted: PerformanceFilter, by: str, limit: int) -> Summaries:
        """Groups of spans over a window.

        Raises:
            Unavailable, QueryTimeout: see `Store.performance`.
        """
        minutes = Minutes.touched(window.since_ns, window.until_ns)
        tallies: dict[_Key, Rollup] = {}
        for key, _step, rows in self._read(minutes, wanted, by):
            tallies.setdefault(key, Rollup()).merge(rows)
        busiest = sorted(tallies, key=lambda key: (-tallies[key].count, _text(key)))
        groups = [OperationSummary(**key._asdict(), **_fields(tallies[key])) for key in busiest[:limit]]
        return Summaries(minutes.window, groups, len(tallies))

    def series(self, window: Window, wanted: PerformanceFilter, by: str, limit: int, step_ns: int) -> SeriesSet:
        """Groups of spans, step by step; steps begin at multiples of their length since the epoch.

        Raises:
            Unavailable, QueryTimeout: see `Store.performance`.
        """
        step = step_ns // MINUTE
        minutes = Minutes.touched(window.since_ns, window.until_ns, step)
        tallies: dict[tuple[_Key, int], Rollup] = {}
        counts: dict[_Key, int] = {}
        for key, number, rows in self._read(minutes, wanted, by, step):
            tallies.setdefault((key, number), Rollup()).merge(rows)
        for (key, _number), tally in tallies.items():
            counts[key] = counts.get(key, 0) + tally.count
        steps = range(minutes.first // step, minutes.last // step + 1)

        def point(key: _Key, number: int) -> Point:
            rollup = tallies.get((key, number))
            return Point(number * step_ns, None if rollup is None else Figures(**_fields(rollup)))

        busiest = sorted(counts, key=lambda key: (-counts[key], _text(key)))
        found = [
            OperationSeries(**key._asdict(), count=counts[key], points=[point(key, number) for number in steps])
            for key in busiest[:limit]
        ]
        return SeriesSet(minutes.window, step_ns, found, len(counts))

    def changes(
        self, baseline: tuple[Window, PerformanceFilter], current: tuple[Window, PerformanceFilter], limit: int
    ) -> tuple[list[OperationChange], int]:
        """Operations on both sides, busiest first, and how many there are.

        Raises:
            Unavailable, QueryTimeout: see `Store.compare_performance`.
        """
        before, after = (self._operations_in(*side) for side in (baseline, current))
        counts = {key: sum(side[key].count for side in (before, after) if key in side) for key in {*before, *after}}
        busiest = sorted(counts, key=lambda key: (-counts[key], _text(key)))
        return [_change(key, before.get(key), after.get(key)) for key in busiest[:limit]], len(counts)

    def _operations_in(self, window: Window, wanted: PerformanceFilter) -> dict[_Key, Rollup]:
        tallies: dict[_Key, Rollup] = {}
        for key, _step, rows in self._read(Minutes.touched(window.since_ns, window.until_ns), wanted, "operation"):
            tallies.setdefault(key, Rollup()).merge(rows)
        return tallies

    # --- rows ------------------------------------------------------------------------------------------------------

    def _read(
        self, minutes: Minutes, wanted: PerformanceFilter, by: str, step: int = _FOREVER
    ) -> Iterator[tuple[_Key, int, list[Row]]]:
        """The rollups of some minutes, some at a time: their group, which step they are in, and themselves."""
        until = self._readers.deadline()
        keys = self._keys(wanted, by, until)
        for rows in self._rows(minutes, keys, until, by_hours=step % 60 == 0) if keys else ():
            found: dict[tuple[_Key, int], list[Row]] = {}
            for row in rows:
                if row[1] in keys:
                    found.setdefault((keys[row[1]], row[0] // step), []).append(row[2:])
            for (key, number), some in found.items():
                yield key, number, some

    def _rows(
        self, minutes: Minutes, keys: Collection[int], until: float, *, by_hours: bool
    ) -> Iterator[list[tuple[Any, ...]]]:
        """Rows of minutes, and of whole hours where there are any, each list of a transaction of its own."""
        chosen = f" AND operation IN ({','.join(map(str, keys))})" if len(keys) <= _MANY else ""
        first, end = -(-minutes.first // 60), (minutes.last + 1) // 60
        if not by_hours or first >= end:
            yield from self._minutes(minutes, chosen, until)
            return
        yield from self._minutes(Minutes(minutes.first, first * 60 - 1), chosen, until)
        length = max(1, _SLICE // len(keys))
        for begin in range(first, end, length):
            rows, missing = self._hours(begin, min(end, begin + length), chosen, until)
            yield rows
            for gap in missing:
                yield from self._minutes(gap, chosen, until)
        yield from self._minutes(Minutes(end * 60, minutes.last), chosen, until)

    def _hours(self, begin: int, end: int, chosen: str, until: float) -> tuple[list[tuple[Any, ...]], list[Minutes]]:
        """Rows of whole hours, and the minutes of those that are not summed up, of one state of the database."""
        missing: list[Minutes] = []
        with self._connect(until) as raw:
            rows = raw.execute(_HOURS.format(chosen=chosen), (begin, end)).fetchall()
            for hour in range(begin, end):
                if raw.execute(_HAS_HOUR, (hour,)).fetchone() is None:
                    start = missing.pop().first if missing and missing[-1].last == hour * 60 - 1 else hour * 60
                    missing.append(Minutes(start, hour * 60 + 59))
        return rows, missing

    def _minutes(self, minutes: Minutes, chosen: str, until: float) -> Iterator[list[tuple[Any, ...]]]:
        query = _ROLLUPS.format(chosen=chosen, limit=_SLICE)
        place = (minutes.first, -1)
        while minutes.first <= minutes.last:
            with self._connect(until) as raw:
                rows = raw.execute(query, (*place, minutes.last)).fetchall()
            yield rows
            if len(rows) < _SLICE:
                return
            place = rows[-1][:2]

    @contextmanager
    def _connect(self, until: float) -> Iterator[sqlite3.Connection]:
        """The driver's own connection, for a short transaction."""
        if time.monotonic() > until:
            raise QueryTimeout(NARROW)
        with self._readers.connect(self._path, until) as connection:
            raw: Any = connection.connection.driver_connection
            yield raw

    def _keys(self, wanted: PerformanceFilter, by: str, until: float) -> dict[int, _Key]:
        """The groups of the operations that are wanted, by their numbers."""
        kinds: tuple[SpanKind, ...] = () if by == "operation" else REQUESTS
        if wanted.kind is not None:
            kinds = (SpanKind[wanted.kind.upper()],)
        group = _GROUPS[by]
        with self._connect(until) as raw:
            rows = raw.execute(_OPERATIONS).fetchall()
        return {
            number: group(service, name, kind, release)
            for number, service, name, kind, release in rows
            if wanted.service in (None, service)
            and wanted.name in (None, name)
            and wanted.release in (None, release)
            and (not kinds or kind in kinds)
        }


_GROUPS: dict[str, Callable[[str, str, int, str], _Key]] = {
    "operation": lambda service, name, kind, _release: _Key(service, name, SpanKind(kind).name.lower(), None),
    "service": lambda service, _name, _kind, _release: _Key(service, None, None, None),
    "release": lambda service, _name, _kind, release: _Key(service, None, None, release),
}


def _text(key: _Key) -> tuple[str, ...]:
    """To sort groups by that are equally busy."""
    return tuple(part or "" for part in key)


def _fields(rollup: Rollup) -> dict[str, Any]:
    """The fields of `Figures`."""
    p50, p95, p99 = sketch.quantiles(rollup.sketch, (0.5, 0.95, 0.99))
    low, high = rollup.min, rollup.max
    return {
        "count": rollup.count,
        "error_count": rollup.errors,
        "slow_count": rollup.slow,
        "avg_ns": rollup.sum / rollup.count if rollup.count else 0.0,
        "min_ns": low,
        "max_ns": high,
        "p50_ns": min(max(p50, low), high),
        "p95_ns": min(max(p95, low), high),
        "p99_ns": min(max(p99, low), high),
        "last_ns": rollup.last,
    }


def _change(key: _Key, before: Rollup | None, after: Rollup | None) -> OperationChange:
    assert key.name is not None
    assert key.kind is not None
    baseline, current = (Figures(**_fields(side)) if side is not None else None for side in (before, after))
    shift = _shift(before, after) if before is not None and after is not None else None
    return OperationChange(key.service, key.name, key.kind, baseline, current, shift)


def _shift(before: Rollup, after: Rollup) -> Shift:
    """How far the percentile has moved. Windows without common spans are independent, so the confidences multiply."""
    each = CONFIDENCE**0.5
    baseline, current = (interval(side.sketch, _SHIFTED, each, side.min, side.max) for side in (before, after))
    moved = difference(baseline, current)
    if moved.low_ns is not None and moved.low_ns > 0:
        verdict = "slower"
    elif moved.high_ns is not None and moved.high_ns < 0:
        verdict = "faster"
    else:
        verdict = "too_few" if None in (moved.low_ns, moved.high_ns) else "unclear"
    return Shift(baseline, current, moved, verdict)
