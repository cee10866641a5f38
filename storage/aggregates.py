"""`aggregates.db` from the writer's side: totals, rollups, accounting and marks, in one transaction a batch.

The writer holds all totals in memory and writes absolute values, so a file that is deleted or broken
under it is made anew without a counter going back. Memory changes only once a commit has succeeded.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Container, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from . import engine, families
from .change import Change
from .edges import Edges
from .exceptions import ErrorRow
from .exemplars import One
from .families import BY_SERVICE, GROUPS_NEW, GROUPS_REGRESSED, FamilySpec, Labels
from .fold import Fold, fold
from .groups import Groups
from .intake import Folds
from .metrics import Metrics
from .migrations import AGGREGATES as MIGRATIONS
from .points import Points
from .reader import Position
from .records import Command, SpanKind, StatusCode
from .rollups import Rollups
from .series import SeriesState
from .settings import StoreSettings
from .shapes import Shape

_KEPT_COMMANDS = 1000
_TOMBSTONE_NS = 3_600_000_000_000
"""How long it stays on record that a gauge has gone: whoever hasn't read for longer reads everything anew."""
_UPSERT_MARK = "INSERT OR REPLACE INTO marks(journal, segment, offset, sequence) VALUES (?,?,?,?)"
_UPSERT_PROPERTY = "INSERT OR REPLACE INTO properties VALUES (?,?)"


class Aggregates(engine.OwnFile):
    """The writing side of `aggregates.db`.

    Args:
        path: the file; it is made where it is missing.

    Raises:
        ForeignFileError, sqlite3.Error, OSError: it can't be opened.
    """

    def __init__(self, path: Path, settings: StoreSettings) -> None:
        self.path = path
        self._settings = settings
        self.metrics = Metrics(settings)
        self.points = Points(self.metrics)
        self.edges = Edges(self.metrics)
        self.groups = Groups(settings.error_group_limit)
        self._rollups = Rollups(int(settings.slow_ms * 1_000_000))
        self.accounting: dict[str, int] = {}
        self.counted: dict[str, bytes] = {}
        self.marks: dict[str, Position] = {}
        self.commit = time.time_ns() // 1_000_000  # a file made anew goes on above the numbers of the one before
        self.cleared = 0
        self._open()
        self._load()

    def _open(self) -> None:
        self._connection = self.metrics.connection = engine.open_writer(self.path, "aggregates", MIGRATIONS)
        self.identity = engine.identity(self.path)

    def _load(self) -> None:
        fetch = self._connection.execute
        self.metrics.load()
        self._rollups.load(self._connection)
        self.edges.load(self._connection)
        self.groups.load(self._connection)
        self.accounting = dict(fetch("SELECT name, value FROM accounting"))
        self.counted = dict(fetch("SELECT journal, counted FROM journals"))
        self.marks = {
            j: Position(s, o, q) for j, s, o, q in fetch("SELECT journal, segment, offset, sequence FROM marks")
        }
        properties = dict(fetch("SELECT name, value FROM properties"))
        self.commit = max(self.commit if not properties else 0, properties.get("commit", 0))
        self.cleared = properties.get("cleared", 0)
        self.metrics.born = properties.get("born", 0 if properties else time.time_ns())

    @property
    def dimensions(self) -> tuple[str, ...]:
        """The setting `span_metric_dimensions`."""
        return self._settings.span_metric_dimensions

    # --- computing a change ----------------------------------------------------------------------------------------

    def begin(self) -> Change:
        """An empty change, to be the next commit."""
        return Change(self.commit + 1, time.time_ns())

    def fold(self, change: Change, folds: Folds, stored: int = 0) -> None:
        """Add a batch's spans to the totals and rollups of a change.

        Args:
            change: to add to.
            folds: the spans.
            stored: when the partition was opened that has them (ns): then some become exemplars.
        """
        for (shape, minute), rows in folds.items():
            ordered = fold(rows)
            self._fold_totals(change, shape, ordered, stored)
            self._fold_rollups(change, shape, minute, ordered)

    def fold_rollups(self, change: Change, folds: Folds, _stored: int = 0) -> None:
        """Add spans to the rollups of a change alone."""
        for (shape, minute), rows in folds.items():
            self._fold_rollups(change, shape, minute, fold(rows))

    def fold_redefined(self, change: Change, folds: Folds, stored: int) -> None:
        """Add spans to those histograms alone that a change defines anew."""
        for (shape, _minute), rows in folds.items():
            ordered = fold(rows)
            for spec, labels in _counted_in(shape):
                metric = change.metrics.get(spec.name)
                if metric is not None:
                    state = self.metrics.find(change, metric, labels)
                    self.metrics.observe_again(change, state, ordered, stored)

    def _fold_totals(self, change: Change, shape: Shape, ordered: Fold, stored: int) -> None:
        if shape.series is None or not all(state is None or state.is_live for state in shape.series):
            shape.series = self._series_of(change, shape)
        calls, latency, http = shape.series
        self.metrics.add(change, calls, len(ordered.rows))
        if stored and shape.status == StatusCode.ERROR:
            self.metrics.show_failed(change, calls, ordered.rows[-1], stored)
        self.metrics.observe(change, latency, ordered.durations, ordered.rows, stored)
        if http is not None:
            self.metrics.observe(change, http, ordered.durations, ordered.rows, stored)

    def _fold_rollups(self, change: Change, shape: Shape, minute: int, ordered: Fold) -> None:
        self._rollups.fold(self._connection, change.rollups, shape, minute, ordered)

    def _series_of(self, change: Change, shape: Shape) -> tuple[SeriesState, SeriesState, SeriesState | None]:
        for spec in BY_SERVICE:  # shown at 0 before anything happens: `increase()` can't see a series begin at 1
            change.delta(self.find(change, spec, (("service", families.bounded(shape.service)),)))
        calls, latency, *http = (self.find(change, spec, labels) for spec, labels in _counted_in(shape))
        return calls, latency, http[0] if http else None

    def fold_errors(self, change: Change, rows: Iterable[ErrorRow], settled: Iterable[ErrorRow]) -> None:
        """Add errors to their groups, and what has become known of some that were added before."""
        self.groups.fold(change.groups, rows, change.time)
        self.groups.settle(change.groups, settled)

    def run(self, change: Change, command: Command) -> dict[str, Any]:
        """Carry out a command of an error group; what became of it."""
        return self.groups.run(change.groups, command)

    def count_groups(self, change: Change) -> None:
        """Count the groups that a change has met for the first time and those that have come back."""
        for spec, counts in ((GROUPS_NEW, change.groups.new), (GROUPS_REGRESSED, change.groups.regressed)):
            for service, count in counts.items():
                self.metrics.count(change, spec, (("service", service),), count)
            counts.clear()

    def find(self, change: Change, spec: FamilySpec, labels: Labels) -> SeriesState:
        """The series of one of the store's own metrics with these labels; past the limit the overflow series.

        It may be remembered while it `is_live`.
        """
        return self.metrics.find(change, self.metrics.known[spec.name], labels)

    def count(self, change: Change, spec: FamilySpec, labels: Labels, amount: int, exemplar: One | None = None) -> None:
        """Add to one of the store's own counters."""
        self.metrics.count(change, spec, labels, amount, exemplar)

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
        self.metrics.write(connection, change)
        self.edges.write(connection, change)
        self.groups.write(connection, change.groups)
        self._rollups.write(connection, change.rollups)
        many(_UPSERT_MARK, [(name, p.segment, p.offset, p.sequence) for name, p in change.marks.items()])
        accounting = [(name, self.accounting.get(name, 0) + more) for name, more in change.accounting.items()]
        many("INSERT OR REPLACE INTO accounting VALUES (?,?)", accounting)
        many("INSERT OR REPLACE INTO journals VALUES (?,?)", list(change.counted.items()))
        many("INSERT OR REPLACE INTO commands VALUES (?,?,?)", change.commands)
        for name in change.finished:
            connection.execute("DELETE FROM marks WHERE journal=?", (name,))
            connection.execute("DELETE FROM journals WHERE journal=?", (name,))
        if change.cleared is not None:
            connection.execute(_UPSERT_PROPERTY, ("cleared", change.cleared))
        many(_UPSERT_PROPERTY, [("born", self.metrics.born), ("commit", change.commit)])

    def _take(self, change: Change) -> None:
        self.metrics.take(change)
        self.edges.take(change)
        self.groups.take(change.groups)
        self._rollups.take(change.rollups)
        for name, more in change.accounting.items():
            self.accounting[name] = self.accounting.get(name, 0) + more
        self.counted.update(change.counted)
        self.marks.update(change.marks)
        for name in change.finished:
            self.marks.pop(name, None)
            self.counted.pop(name, None)
        if change.cleared is not None:
            self.cleared = change.cleared
        self.commit = change.commit

    # --- repair and upkeep -----------------------------------------------------------------------------------------

    def renew(self, *, broken: bool) -> None:
        """Make the file anew from memory: no counter goes back. Series that had expired begin anew.

        Raises:
            sqlite3.Error, OSError: it can't be made yet.
        """
        self.leave(broken=broken)
        self._open()
        self.metrics.born = time.time_ns()
        everything = Change(self.commit, self.metrics.born)
        self.metrics.everything(everything)
        everything.rollups = self._rollups.everything()
        everything.groups = self.groups.everything()
        everything.accounting = dict.fromkeys(self.accounting, 0)
        everything.marks, everything.counted = self.marks, self.counted
        everything.cleared = self.cleared
        with engine.transaction(self._connection) as connection:
            self._write(connection, everything)
            self.edges.write_all(connection)
        self._rollups.hours.load(self._connection)

    @property
    def is_new(self) -> bool:
        """Whether nothing has ever been committed to it."""
        return not self._has(0)

    def forget_rollups(self) -> None:
        """Empty the rollups, to begin counting them anew."""
        self._rollups.forget()
        with engine.transaction(self._connection) as connection:
            connection.execute("DELETE FROM rollups")
            connection.execute("DELETE FROM rollup_hours")
        self._rollups.load(self._connection)

    def apply_rollups(self, change: Change, *, keep: Container[tuple[int, int]] = ()) -> None:
        """Commit a change's rollups alone, but for those in `keep`.

        Raises:
            sqlite3.Error: nothing has changed.
        """
        with engine.transaction(self._connection) as connection:
            self._rollups.write(connection, change.rollups, keep=keep)
        self._rollups.take_stored(change.rollups)

    def recent_rollups(self) -> frozenset[tuple[int, int]]:
        """Minutes and operations that memory has, so that nothing needs to be counted anew for them."""
        return self._rollups.recent()

    def sum_up_hours(self, now: float, seconds: float) -> None:
        """See `Hours.sum_up`."""
        self._rollups.hours.sum_up(self._connection, now, seconds)

    def prune(self, now: float) -> None:
        """Let idle series expire, and drop rollups, command results and what has expired past their time."""
        self._expire(now)
        self._forget_hidden(int(now * 1e9))
        oldest = int((now - self._settings.rollup_max_age) // 60)
        with engine.transaction(self._connection) as connection:
            connection.execute("DELETE FROM rollups WHERE minute < ?", (oldest,))
            self._rollups.hours.prune(connection, oldest)
            connection.execute(
                "DELETE FROM commands WHERE id IN (SELECT id FROM commands ORDER BY applied DESC LIMIT -1 OFFSET ?)",
                (_KEPT_COMMANDS,),
            )

    def _expire(self, now: float) -> None:
        change = self.begin()
        self.metrics.expire(change, int((now - self._settings.series_max_idle) * 1e9))
        self.groups.expire(change.groups, int((now - self._settings.rollup_max_age) * 1e9))
        if change.expired or change.groups:
            self.apply(change)

    def _forget_hidden(self, now: int) -> None:
        """Delete rows of series that have been hidden long enough; readers that may not know of it begin anew."""
        age = int((self._settings.series_max_idle + self._settings.rollup_max_age) * 1e9)
        with engine.transaction(self._connection) as connection:
            self.metrics.retire(connection)
            if self.metrics.delete_hidden(connection, expired_before=now - age, gone_before=now - _TOMBSTONE_NS):
                self.metrics.born = now  # what was counted is gone: nothing may claim to have begun before
                connection.execute(_UPSERT_PROPERTY, ("born", now))

    def value(self, name: str) -> int:
        """A committed figure of the accounting."""
        return self.accounting.get(name, 0)


def _counted_in(shape: Shape) -> Iterator[tuple[FamilySpec, Labels]]:
    """The totals that the spans of a shape count in."""
    labels = families.span_labels(shape.service, shape.name, shape.kind, shape.status) + shape.dimensions
    yield families.SPAN_CALLS, labels
    yield families.SPAN_LATENCY, labels
    http = families.http_labels(shape.service, shape.attributes) if shape.kind == SpanKind.SERVER else None
    if http is not None:
        yield families.HTTP_DURATION, http


def dropped(accounting: Mapping[str, int]) -> dict[str, int]:
    """The drops by reason in an accounting table."""
    return {name.removeprefix("dropped:"): value for name, value in accounting.items() if name.startswith("dropped:")}
