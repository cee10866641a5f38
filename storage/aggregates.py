"""`aggregates.db` from the writer's side: totals, rollups, accounting and marks, in one transaction a batch.

The writer holds all totals in memory and writes absolute values, so a file that is deleted or broken
under it is made anew without a counter going back. Memory changes only once a commit has succeeded.
"""

from __future__ import annotations

import sqlite3
import time
from bisect import bisect_right
from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from operator import add, itemgetter
from pathlib import Path
from typing import Any

import msgspec

from . import engine, families, sketch
from .families import FamilySpec, Labels
from .intake import DURATION, START, Folds
from .layout import APPLICATION_ID
from .reader import Position
from .records import StatusCode
from .settings import StoreSettings
from .shapes import Shape

MIGRATIONS: tuple[str, ...] = ()
"""SQL scripts from schema version n+1 to n+2; the statements of one end with a semicolon and a line end."""

_start, _duration = itemgetter(START), itemgetter(DURATION)
_KEPT_MINUTES = 3
_KEPT_COMMANDS = 1000

_UPSERT_SERIES = (
    "INSERT INTO series(metric, labels, start, updated, value, sum, buckets) VALUES (?,?,?,?,?,?,?) "
    "ON CONFLICT(metric, labels) DO UPDATE SET updated=excluded.updated, value=excluded.value, "
    "sum=excluded.sum, buckets=excluded.buckets"
)
_UPSERT_ROLLUP = "INSERT OR REPLACE INTO rollups VALUES (?,?,?,?,?,?,?,?,?,?)"
_UPSERT_OPERATION = "INSERT OR REPLACE INTO operations VALUES (?,?,?,?)"
_UPSERT_MARK = "INSERT OR REPLACE INTO marks(journal, segment, offset, sequence) VALUES (?,?,?,?)"


class SeriesState:
    """A series as it was committed last."""

    __slots__ = ("buckets", "labels", "labels_text", "spec", "start", "sum", "value")

    def __init__(self, spec: FamilySpec, labels: Labels, start: int) -> None:
        self.spec = spec
        self.labels = labels
        self.labels_text = msgspec.json.encode(labels).decode()
        self.start = start
        self.value: float = 0
        self.sum: float = 0.0
        self.buckets = [0] * (len(spec.bounds) + 1) if spec.bounds else None


@dataclass(slots=True)
class Rollup:
    """One operation in one minute."""

    count: int = 0
    errors: int = 0
    slow: int = 0
    sum: int = 0
    min: int = 1 << 62
    max: int = 0
    last: int = 0
    sketch: sketch.Counts = field(default_factory=dict)

    def copy(self) -> Rollup:
        """Another one with the same content."""
        return Rollup(self.count, self.errors, self.slow, self.sum, self.min, self.max, self.last, dict(self.sketch))


@dataclass(slots=True)
class Delta:
    """What a batch adds to a series."""

    value: float = 0
    sum: float = 0.0
    buckets: list[int] | None = None


@dataclass(slots=True)
class Change:
    """All that one commit changes: computed once, applied as often as it takes."""

    commit: int
    series: dict[SeriesState, Delta] = field(default_factory=dict)
    rollups: dict[tuple[int, int], Rollup] = field(default_factory=dict)
    operations: dict[tuple[str, str, int], int] = field(default_factory=dict)
    """Numbers of service, name and kind that are new with it."""
    marks: dict[str, Position] = field(default_factory=dict)
    finished: list[str] = field(default_factory=list)
    accounting: dict[str, int] = field(default_factory=dict)
    counted: dict[str, bytes] = field(default_factory=dict)
    commands: list[tuple[str, int, str]] = field(default_factory=list)
    cleared: int | None = None

    def add(self, state: SeriesState, more: Delta) -> None:
        """Add another change's delta of a series."""
        delta = self.series.setdefault(state, Delta())
        delta.value += more.value
        delta.sum += more.sum
        if more.buckets is not None:
            have = delta.buckets or [0] * len(more.buckets)
            delta.buckets = [one + other for one, other in zip(have, more.buckets, strict=True)]


class Aggregates:
    """The writing side of `aggregates.db`.

    Args:
        path: the file; it is made where it is missing.

    Raises:
        ForeignFileError, sqlite3.Error, OSError: it can't be opened.
    """

    def __init__(self, path: Path, settings: StoreSettings) -> None:
        self.path = path
        self._settings = settings
        self._slow = int(settings.slow_ms * 1_000_000)
        self._bounds: dict[str, list[int]] = {
            spec.name: [round(bound * 1e9) for bound in spec.bounds] for spec in families.FAMILIES.values()
        }
        self.series: dict[str, dict[Labels, SeriesState]] = {name: {} for name in families.FAMILIES}
        self.operations: dict[tuple[str, str, int], int] = {}
        self.accounting: dict[str, int] = {}
        self.counted: dict[str, bytes] = {}
        self.marks: dict[str, Position] = {}
        self._rollups: dict[tuple[int, int], Rollup] = {}
        self.commit = time.time_ns() // 1_000_000  # a file made anew goes on above the numbers of the one before
        self.cleared = 0
        self._open()
        self._load()

    def _open(self) -> None:
        self._connection = engine.open_writer(self.path, "aggregates", MIGRATIONS)
        self.identity = engine.identity(self.path)

    def _load(self) -> None:
        fetch = self._connection.execute
        for metric, labels_text, start, value, total, blob in fetch(
            "SELECT metric, labels, start, value, sum, buckets FROM series"
        ):
            spec = families.FAMILIES.get(metric)
            if spec is None:
                continue
            labels: Labels = tuple((name, text) for name, text in msgspec.json.decode(labels_text))
            state = SeriesState(spec, labels, start)
            state.value, state.sum = value, total
            if state.buckets is not None and blob is not None:
                state.buckets = msgspec.msgpack.decode(blob, type=list[int])
            self.series[metric][labels] = state
        self.operations = {(s, n, k): i for i, s, n, k in fetch("SELECT id, service, name, kind FROM operations")}
        self.accounting = dict(fetch("SELECT name, value FROM accounting"))
        self.counted = dict(fetch("SELECT journal, counted FROM journals"))
        self.marks = {
            j: Position(s, o, q) for j, s, o, q in fetch("SELECT journal, segment, offset, sequence FROM marks")
        }
        properties = dict(fetch("SELECT name, value FROM properties"))
        self.commit = max(self.commit if not properties else 0, properties.get("commit", 0))
        self.cleared = properties.get("cleared", 0)

    # --- computing a change ----------------------------------------------------------------------------------------

    def begin(self) -> Change:
        """An empty change, to be the next commit."""
        return Change(self.commit + 1)

    def fold(self, change: Change, folds: Folds) -> None:
        """Add a batch's spans to the totals and rollups of a change."""
        for (shape, minute), rows in folds.items():
            durations = sorted(map(_duration, rows))
            last = max(map(add, map(_start, rows), map(_duration, rows)))
            if shape.series is None:
                shape.series = self._series_of(shape)
            calls, latency, http = shape.series
            count = len(durations)
            self._count(change, calls, count)
            self._observe(change, latency, durations)
            if http is not None:
                self._observe(change, http, durations)
            self._roll_up(change, shape, minute, durations, last)

    def _series_of(self, shape: Shape) -> tuple[SeriesState, SeriesState, SeriesState | None]:
        labels = families.span_labels(shape.service, shape.name, shape.kind, shape.status)
        http = families.http_labels(shape.service, shape.attributes) if shape.kind == 2 else None  # noqa: PLR2004
        return (
            self.find(families.SPAN_CALLS, labels),
            self.find(families.SPAN_LATENCY, labels),
            self.find(families.HTTP_DURATION, http) if http is not None else None,
        )

    def find(self, spec: FamilySpec, labels: Labels) -> SeriesState:
        """The series with these labels; past the limit the overflow series."""
        known = self.series[spec.name]
        state = known.get(labels)
        if state is None:
            if len(known) >= self._settings.series_limit:
                labels = families.OVERFLOW
                state = known.get(labels)
            if state is None:
                state = known[labels] = SeriesState(spec, labels, time.time_ns())
        return state

    def count(self, change: Change, spec: FamilySpec, labels: Labels, amount: int) -> None:
        """Add to a counter."""
        self._count(change, self.find(spec, labels), amount)

    def _count(self, change: Change, state: SeriesState, amount: int) -> None:
        delta = change.series.get(state)
        if delta is None:
            delta = change.series[state] = Delta()
        delta.value += amount
        if state.labels == families.OVERFLOW and state.spec is not families.OVERFLOWED:
            self.count(change, families.OVERFLOWED, (("metric", state.spec.name),), amount)

    def _observe(self, change: Change, state: SeriesState, durations: list[int]) -> None:
        """Add sorted durations (ns) to a histogram in seconds."""
        self._count(change, state, len(durations))
        delta = change.series[state]
        delta.sum += sum(durations) / 1e9
        if delta.buckets is None:
            delta.buckets = [0] * (len(state.spec.bounds) + 1)
        below = 0
        for index, bound in enumerate(self._bounds[state.spec.name]):
            at_most = bisect_right(durations, bound, below)
            delta.buckets[index] += at_most - below
            below = at_most
        delta.buckets[-1] += len(durations) - below

    def _roll_up(self, change: Change, shape: Shape, minute: int, durations: list[int], last: int) -> None:
        name = (shape.service, shape.name, shape.kind)
        operation = self.operations.get(name) or change.operations.get(name)
        if operation is None:
            operation = change.operations[name] = len(self.operations) + len(change.operations) + 1
        key = (minute, operation)
        rollup = change.rollups.get(key)
        if rollup is None:
            rollup = change.rollups[key] = self._rollup(key)
        count = len(durations)
        rollup.count += count
        rollup.errors += count if shape.status == StatusCode.ERROR else 0
        rollup.slow += count - bisect_right(durations, self._slow - 1)
        rollup.sum += sum(durations)
        rollup.min, rollup.max = min(rollup.min, durations[0]), max(rollup.max, durations[-1])
        rollup.last = max(rollup.last, last)
        sketch.add(rollup.sketch, durations)

    def _rollup(self, key: tuple[int, int]) -> Rollup:
        known = self._rollups.get(key)
        if known is not None:
            return known.copy()
        row = self._connection.execute(
            "SELECT count, errors, slow, sum, min, max, last, sketch FROM rollups WHERE minute=? AND operation=?", key
        ).fetchone()
        if row is None:
            return Rollup()
        count, errors, slow, total, low, high, last, blob = row
        return Rollup(count, errors, slow, total, low, high, last, sketch.decode(blob))

    # --- committing ------------------------------------------------------------------------------------------------

    def apply(self, change: Change) -> None:
        """Commit a change, then take it into memory. After an error it can be applied again.

        Raises:
            sqlite3.Error, OSError: nothing has changed.
        """
        if not self._has(change.commit):
            with engine.transaction(self._connection) as connection:
                self._write(connection, change)
        self._take(change)

    def _has(self, commit: int) -> bool:
        """Whether a commit that seemed to fail went through after all."""
        row = self._connection.execute("SELECT value FROM properties WHERE name='commit'").fetchone()
        return row is not None and row[0] >= commit

    def _write(self, connection: sqlite3.Connection, change: Change) -> None:
        many = connection.executemany
        many(_UPSERT_SERIES, [self._series_row(state, change.commit, delta) for state, delta in change.series.items()])
        many(_UPSERT_OPERATION, _operation_rows(change))
        many(_UPSERT_ROLLUP, [_rollup_row(key, rollup) for key, rollup in change.rollups.items()])
        many(_UPSERT_MARK, [(name, p.segment, p.offset, p.sequence) for name, p in change.marks.items()])
        accounting = [(name, self.accounting.get(name, 0) + more) for name, more in change.accounting.items()]
        many("INSERT OR REPLACE INTO accounting VALUES (?,?)", accounting)
        many("INSERT OR REPLACE INTO journals VALUES (?,?)", list(change.counted.items()))
        many("INSERT OR REPLACE INTO commands VALUES (?,?,?)", change.commands)
        for name in change.finished:
            connection.execute("DELETE FROM marks WHERE journal=?", (name,))
            connection.execute("DELETE FROM journals WHERE journal=?", (name,))
        if change.cleared is not None:
            connection.execute("INSERT OR REPLACE INTO properties VALUES ('cleared', ?)", (change.cleared,))
        connection.execute("INSERT OR REPLACE INTO properties VALUES ('commit', ?)", (change.commit,))

    @staticmethod
    def _series_row(state: SeriesState, commit: int, delta: Delta) -> tuple[Any, ...]:
        buckets = state.buckets
        if buckets is not None and delta.buckets is not None:
            buckets = [have + more for have, more in zip(buckets, delta.buckets, strict=True)]
        blob = msgspec.msgpack.encode(buckets) if buckets is not None else None
        value, total = state.value + delta.value, state.sum + delta.sum
        return (state.spec.name, state.labels_text, state.start, commit, value, total, blob)

    def _take(self, change: Change) -> None:
        for state, delta in change.series.items():
            state.value += delta.value
            state.sum += delta.sum
            if state.buckets is not None and delta.buckets is not None:
                state.buckets = [have + more for have, more in zip(state.buckets, delta.buckets, strict=True)]
        for name, more in change.accounting.items():
            self.accounting[name] = self.accounting.get(name, 0) + more
        self.operations.update(change.operations)
        self.counted.update(change.counted)
        self.marks.update(change.marks)
        for name in change.finished:
            self.marks.pop(name, None)
            self.counted.pop(name, None)
        if change.cleared is not None:
            self.cleared = change.cleared
        self.commit = change.commit
        self._rollups.update(change.rollups)
        if len(self._rollups) > 1000:  # noqa: PLR2004  # a few hundred operations in the minutes that matter
            newest = max(minute for minute, _ in self._rollups)
            self._rollups = {k: v for k, v in self._rollups.items() if k[0] > newest - _KEPT_MINUTES}

    # --- repair and upkeep -----------------------------------------------------------------------------------------

    def is_replaced(self) -> bool:
        """Whether the file was deleted, or another one put in its place."""
        return engine.identity(self.path) != self.identity

    def is_damaged(self) -> bool:
        """Whether the first page, which a careless overwrite hits first, is not ours any more."""
        return (engine.read_header(self.path) or (0, 0))[0] != APPLICATION_ID

    def renew(self, *, broken: bool) -> None:
        """Make the file anew from memory: no counter goes back.

        Raises:
            sqlite3.Error, OSError: it can't be made yet.
        """
        engine.abandon(self._connection)
        if broken and self.path.exists():
            engine.set_aside(self.path)
        engine.remove_logs(self.path)
        self._open()
        everything = Change(self.commit)
        everything.operations = self.operations
        everything.rollups = {key: rollup.copy() for key, rollup in self._rollups.items()}
        everything.series = {state: Delta() for known in self.series.values() for state in known.values()}
        everything.accounting = dict.fromkeys(self.accounting, 0)
        everything.marks, everything.counted = self.marks, self.counted
        everything.cleared = self.cleared
        with engine.transaction(self._connection) as connection:
            self._write(connection, everything)

    @property
    def is_new(self) -> bool:
        """Whether nothing has ever been committed to it."""
        return not self._has(0)

    def forget_rollups(self) -> None:
        """Empty the rollups, to begin counting them anew."""
        self._rollups.clear()
        with engine.transaction(self._connection) as connection:
            connection.execute("DELETE FROM rollups")

    def apply_rollups(self, change: Change, *, keep: Container[tuple[int, int]] = ()) -> None:
        """Commit a change's rollups alone, but for those in `keep`.

        Raises:
            sqlite3.Error: nothing has changed.
        """
        rollups = {key: rollup for key, rollup in change.rollups.items() if key not in keep}
        with engine.transaction(self._connection) as connection:
            connection.executemany(_UPSERT_OPERATION, _operation_rows(change))
            connection.executemany(_UPSERT_ROLLUP, [_rollup_row(key, rollup) for key, rollup in rollups.items()])
        self.operations.update(change.operations)

    def recent_rollups(self) -> frozenset[tuple[int, int]]:
        """Minutes and operations that memory has, so that nothing needs to be counted anew for them."""
        return frozenset(self._rollups)

    def make_durable(self) -> None:
        """See `engine.make_durable`."""
        engine.make_durable(self._connection, self.path)

    def prune(self, now: float) -> None:
        """Drop rollups and command results past their time."""
        oldest = int((now - self._settings.rollup_max_age) // 60)
        with engine.transaction(self._connection) as connection:
            connection.execute("DELETE FROM rollups WHERE minute < ?", (oldest,))
            connection.execute(
                "DELETE FROM commands WHERE id IN (SELECT id FROM commands ORDER BY applied DESC LIMIT -1 OFFSET ?)",
                (_KEPT_COMMANDS,),
            )

    def value(self, name: str) -> int:
        """A committed figure of the accounting."""
        return self.accounting.get(name, 0)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def _rollup_row(key: tuple[int, int], rollup: Rollup) -> tuple[Any, ...]:
    r = rollup
    return (*key, r.count, r.errors, r.slow, r.sum, r.min, r.max, r.last, sketch.encode(r.sketch))


def _operation_rows(change: Change) -> list[tuple[Any, ...]]:
    return [(number, *name) for name, number in change.operations.items()]


def dropped(accounting: Mapping[str, int]) -> dict[str, int]:
    """The drops by reason in an accounting table."""
    return {name.removeprefix("dropped:"): value for name, value in accounting.items() if name.startswith("dropped:")}
