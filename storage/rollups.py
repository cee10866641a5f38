"""Per-minute rollups by operation: what performance over any window is answered from."""

from __future__ import annotations

import sqlite3
from bisect import bisect_right
from collections.abc import Container, Sequence
from dataclasses import dataclass, field
from typing import Any

from . import sketch
from .fold import Fold
from .hours import MINUTES, Hours
from .records import StatusCode
from .shapes import Shape

_UPSERT_ROLLUP = "INSERT OR REPLACE INTO rollups VALUES (?,?,?,?,?,?,?,?,?,?)"
_UPSERT_OPERATION = "INSERT OR REPLACE INTO operations VALUES (?,?,?,?,?)"
_KEPT_MINUTES = 3
_MANY = 1000  # a few hundred operations in the minutes that matter
MAX_OPERATIONS = 10_000
"""Past it spans with new names share one operation for each service, kind and release: names with ids in them are
without bound."""
OTHER = "(other)"
"""Name of that operation."""

Key = tuple[int, int]
"""Minute and number of the operation."""
Row = tuple[int, int, int, int, int, int, int, bytes]
"""The columns of a rollup from `count` on."""
Name = tuple[str, str, int, str]
"""Service, span name, kind and release."""


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

    def add(self, fold: Fold, *, slow_ns: int, failed: bool) -> None:
        """Add spans."""
        durations, count = fold.durations, len(fold.durations)
        self.count += count
        self.errors += count if failed else 0
        self.slow += count - bisect_right(durations, slow_ns - 1)
        self.sum += sum(durations)
        self.min, self.max = min(self.min, durations[0]), max(self.max, durations[-1])
        self.last = max(self.last, fold.last)
        sketch.add(self.sketch, durations)

    def merge(self, rows: Sequence[Row]) -> None:
        """Add the spans of stored rollups."""
        counts, errors, slow, sums, lows, highs, lasts, sketches = zip(*rows, strict=True)
        self.count += sum(counts)
        self.errors += sum(errors)
        self.slow += sum(slow)
        self.sum += sum(sums)
        self.min, self.max = min(self.min, *lows), max(self.max, *highs)
        self.last = max(self.last, *lasts)
        sketch.merge_encoded(self.sketch, sketches)


@dataclass(slots=True)
class RollupChange:
    """The rollups as they are after a commit, and the operations that are new with it."""

    rollups: dict[Key, Rollup] = field(default_factory=dict)
    operations: dict[Name, int] = field(default_factory=dict)

    @property
    def hours(self) -> set[int]:
        """The hours that it changes something in."""
        return {minute // MINUTES for minute, _ in self.rollups}


class Rollups:
    """The rollups of the minutes that matter, and the numbers of all operations.

    Args:
        slow_ns: duration from which on a span is slow.
    """

    def __init__(self, slow_ns: int) -> None:
        self._slow_ns = slow_ns
        self._known: dict[Key, Rollup] = {}
        self.operations: dict[Name, int] = {}
        self.hours = Hours()

    def load(self, connection: sqlite3.Connection) -> None:
        """Read the operations' numbers, and which hours are summed up."""
        self.hours.load(connection)
        rows = connection.execute("SELECT id, service, name, kind, release FROM operations")
        self.operations = {tuple(name): number for number, *name in rows}

    def fold(self, connection: sqlite3.Connection, change: RollupChange, shape: Shape, minute: int, fold: Fold) -> None:
        """Add spans of one shape that ended in one minute.

        Raises:
            sqlite3.Error: the rollup can't be read.
        """
        key = (minute, self._number(change, (shape.service, shape.name, shape.kind, shape.release)))
        rollup = change.rollups.get(key)
        if rollup is None:
            rollup = change.rollups[key] = self.read(connection, key)
        rollup.add(fold, slow_ns=self._slow_ns, failed=shape.status == StatusCode.ERROR)

    def _number(self, change: RollupChange, name: Name) -> int:
        number = self.operations.get(name) or change.operations.get(name)
        if number is not None:
            return number
        known = len(self.operations) + len(change.operations)
        service, text, kind, release = name
        if known >= MAX_OPERATIONS and text != OTHER:
            return self._number(change, (service, OTHER, kind, release))
        change.operations[name] = known + 1
        return known + 1

    def read(self, connection: sqlite3.Connection, key: Key) -> Rollup:
        """A copy of the committed rollup of a minute and an operation.

        Raises:
            sqlite3.Error: it can't be read.
        """
        known = self._known.get(key)
        if known is not None:
            return known.copy()
        row = connection.execute(
            "SELECT count, errors, slow, sum, min, max, last, sketch FROM rollups WHERE minute=? AND operation=?", key
        ).fetchone()
        if row is None:
            return Rollup()
        count, errors, slow, total, low, high, last, blob = row
        return Rollup(count, errors, slow, total, low, high, last, sketch.decode(blob))

    def write(self, connection: sqlite3.Connection, change: RollupChange, *, keep: Container[Key] = ()) -> None:
        """Write a change's operations, and its rollups but for those in `keep`."""
        connection.executemany(_UPSERT_OPERATION, [(number, *name) for name, number in change.operations.items()])
        rows = [row_of(key, rollup) for key, rollup in change.rollups.items() if key not in keep]
        connection.executemany(_UPSERT_ROLLUP, rows)
        self.hours.delete(connection, change.hours)

    def take(self, change: RollupChange) -> None:
        """Take a committed change into memory."""
        self.take_stored(change)
        self._known.update(change.rollups)
        if len(self._known) > _MANY:
            newest = max(minute for minute, _ in self._known)
            self._known = {key: rollup for key, rollup in self._known.items() if key[0] > newest - _KEPT_MINUTES}

    def take_stored(self, change: RollupChange) -> None:
        """Take in that a change was committed, without its rollups: nothing is added to them soon."""
        self.operations.update(change.operations)
        self.hours.take(change.hours)

    def everything(self) -> RollupChange:
        """All that memory has."""
        return RollupChange({key: rollup.copy() for key, rollup in self._known.items()}, self.operations)

    def recent(self) -> frozenset[Key]:
        """Minutes and operations that memory has, so that nothing needs to be counted anew for them."""
        return frozenset(self._known)

    def forget(self) -> None:
        """Let go of the rollups, to begin counting them anew."""
        self._known.clear()


def row_of(key: Key, rollup: Rollup) -> tuple[Any, ...]:
    """As it is stored, of a minute or an hour."""
    r = rollup
    return (*key, r.count, r.errors, r.slow, r.sum, r.min, r.max, r.last, sketch.encode(r.sketch))
