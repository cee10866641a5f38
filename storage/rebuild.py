"""Totals and rollups from the retained history, where `aggregates.db` was lost.

What the partitions still hold is counted again; what retention had dropped before is gone, and new start
times say so. It goes in steps, so that the writer can do its other work in between.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from time import sleep
from typing import Any

import msgspec

from .aggregates import Aggregates
from .change import Change
from .dimensions import Dimensions
from .families import EXCEPTIONS, Labels, exception_labels
from .fingerprint import Fingerprints
from .graph import Graph
from .intake import DURATION, MINUTE, START, Folds, Row
from .layout import partition_files
from .partitions import error_of
from .records import release_of
from .shapes import Operation, Shape

_ROWS = 5000
_ID, _OWN = 8, 9  # places in a row that the intake's rows don't have
_from_json = msgspec.json.decode
_SPANS = (
    "SELECT trace_id, span_id, parent_id, operation, attribute_set, start, duration, status, id, {own} FROM spans "
    "WHERE id > ? AND id <= ? ORDER BY id LIMIT ?"
)
_ERRORS = "SELECT * FROM errors ORDER BY id"
_OPERATIONS = "SELECT o.id, g.service, o.name, o.kind, g.resource FROM operations o JOIN origins g ON g.id = o.origin"

Fold = Callable[[Change, Folds, int], None]
"""Adds spans, in the order of their arrival, to a change; the last is when their partition was opened (ns)."""


def refold(
    directory: Path, aggregates: Aggregates, fold: Fold, errors: Change | None = None
) -> Generator[Change, None, None]:
    """Changes to which all retained spans have been added; none is applied here. `errors`: one that takes all errors.

    A partition that can't be read is passed over. Rows that arrive while this goes on are left out: the
    writer folds them itself.
    """
    limits = {path: _last_row(path) for path in partition_files(directory)}
    for path, last in limits.items():
        try:
            connection = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, check_same_thread=False)
        except sqlite3.Error:
            continue
        try:
            opened = (connection.execute("SELECT opened FROM window").fetchone() or (0,))[0]
            if errors is not None:
                _count_errors(connection, aggregates, errors)
            for rows, folds in _read_folds(connection, last, aggregates.dimensions):
                change = aggregates.begin()
                fold(change, folds, opened)
                change.accounting = {"accepted": rows, "stored": rows}
                yield change
        except sqlite3.Error:
            continue
        finally:
            connection.close()


def _last_row(path: Path) -> int:
    try:
        connection = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)
        try:
            return int(connection.execute("SELECT coalesce(max(id), 0) FROM spans").fetchone()[0])
        finally:
            connection.close()
    except sqlite3.Error:
        return 0


def _count_errors(connection: sqlite3.Connection, aggregates: Aggregates, change: Change) -> None:
    fingerprints = Fingerprints()
    rows = connection.execute(_ERRORS)
    while some := rows.fetchmany(_ROWS):
        errors = list(map(error_of, some))
        for row in errors:
            found = fingerprints.of(row.type, row.message, row.stacktrace)
            row.group, row.culprit = row.group or found.group, found.culprit
        for labels, count in Counter(exception_labels(row.service, row.type) for row in errors).items():
            aggregates.count(change, EXCEPTIONS, labels, count)
        aggregates.fold_errors(change, errors, ())
    change.groups.new.clear()  # they are not new but counted again


def _read_folds(connection: sqlite3.Connection, last: int, dimensions: tuple[str, ...]) -> Iterator[tuple[int, Folds]]:
    """A partition's spans up to a row, some at a time: how many, and by shape."""
    shapes = _Shapes(connection, dimensions)
    query = _SPANS.format(own="attributes" if dimensions else "NULL")
    at = 0
    while rows := connection.execute(query, (at, last, _ROWS)).fetchall():
        folds: Folds = {}
        for row in rows:  # as long as it matters here, in the order of the intake's own rows
            folds.setdefault((shapes.of(row), (row[START] + row[DURATION]) // MINUTE), []).append(row)
        yield len(rows), folds
        at = rows[-1][_ID]


class _Shapes:
    """The shapes of a partition's rows."""

    def __init__(self, connection: sqlite3.Connection, dimensions: tuple[str, ...]) -> None:
        fetch = connection.execute
        self._operations = {
            row[0]: _operation(row, _from_json(resource), dimensions) for *row, resource in fetch(_OPERATIONS)
        }
        self._sets = {number: _from_json(text) for number, text in fetch("SELECT * FROM attribute_sets")}
        self._known: dict[tuple[Any, ...], Shape] = {}

    def of(self, row: Row) -> Shape:
        """The shape of a span."""
        number, shared, status, own = row[3], row[4], row[7], row[_OWN]
        operation, attributes = self._operations[number], self._sets.get(shared, {})
        labels: Labels = ()
        if operation.dimensions.names:
            labels = operation.dimensions.labels({**attributes, **(_from_json(own) if own else {})})
        key = (number, shared, status, labels)
        shape = self._known.get(key)
        if shape is None:
            shape = self._known[key] = Shape(operation, attributes, shared, status, dimensions=labels)
        return shape


def _operation(row: list[Any], resource: dict[str, Any], dimensions: tuple[str, ...]) -> Operation:
    """An operation from its number, service, name and kind."""
    number, service, name, kind = row
    return Operation(number, service, name, kind, Dimensions(dimensions, resource), release=release_of(resource))


def restore(directory: Path, aggregates: Aggregates, marks: dict[str, Any]) -> int:
    """Fill an `aggregates.db` that was made anew, before anything of it is shown; how many spans were counted.

    The totals appear in one commit: growing step by step they would look like traffic.

    Raises:
        sqlite3.Error, OSError: it can't be written; nothing is shown yet, and it can be done again.
    """
    graph = Graph()

    def fold(change: Change, folds: Folds, opened: int) -> None:
        aggregates.fold(change, folds, opened)
        aggregates.edges.replay(graph, change, folds)

    aggregates.forget_rollups()
    totals = aggregates.begin()
    for step in refold(directory, aggregates, fold, totals):
        _add(totals, step)
        for name, more in step.accounting.items():
            totals.accounting[name] = totals.accounting.get(name, 0) + more
        aggregates.apply_rollups(step)
    aggregates.edges.go_on_from(totals, graph)
    totals.commit, totals.marks = aggregates.commit + 1, dict(marks)
    aggregates.apply(totals)
    return totals.accounting.get("stored", 0)


def rebucket(directory: Path, aggregates: Aggregates) -> None:
    """Count the histograms whose bounds the settings have changed anew from what is retained, in one commit.

    All that is retained must have been folded before.

    Raises:
        sqlite3.Error, OSError: it can't be written; all is as before.
    """
    totals = aggregates.begin()
    aggregates.metrics.redefine(totals)

    def fold(_step: Change, folds: Folds, opened: int) -> None:
        aggregates.fold_redefined(totals, folds, opened)

    for _step in refold(directory, aggregates, fold):
        sleep(0)  # the app's threads come first
    aggregates.apply(totals)


def _add(totals: Change, step: Change) -> None:
    for state, delta in step.series.items():
        totals.delta(state).add(delta)
