"""Totals and rollups from the retained history, where `aggregates.db` was lost.

What the partitions still hold is counted again; what retention had dropped before is gone, and new start
times say so. It goes in steps, so that the writer can do its other work in between.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import msgspec

from .aggregates import Aggregates
from .change import Change
from .families import EXCEPTIONS, exception_labels
from .intake import MINUTE, Folds
from .layout import partition_files
from .shapes import Operation, Shape

_ROWS = 5000
_SPANS = (
    "SELECT s.trace_id, s.span_id, s.parent_id, s.operation, s.attribute_set, s.start, s.duration, s.status, s.id "
    "FROM spans s "
    "WHERE s.id > ? AND s.id <= ? ORDER BY s.id LIMIT ?"
)
_ERRORS = "SELECT service, type, count(*) FROM errors GROUP BY 1, 2"
_OPERATIONS = "SELECT o.id, g.service, o.name, o.kind FROM operations o JOIN origins g ON g.id = o.origin"


def refold(directory: Path, aggregates: Aggregates, *, totals: bool = False) -> Generator[Change, None, None]:
    """Changes whose rollups, and totals where they are wanted, add up to all retained spans and errors.

    None of them is applied here.

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
            yield from _refold_partition(connection, last, aggregates, totals=totals)
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


def _refold_partition(
    connection: sqlite3.Connection, last: int, aggregates: Aggregates, *, totals: bool
) -> Iterator[Change]:
    operations = {row[0]: Operation(*row) for row in connection.execute(_OPERATIONS)}
    sets = {number: msgspec.json.decode(text) for number, text in connection.execute("SELECT * FROM attribute_sets")}
    shapes: dict[tuple[Any, ...], Shape] = {}
    change = aggregates.begin()
    for service, type_, count in connection.execute(_ERRORS) if totals else ():
        aggregates.count(change, EXCEPTIONS, exception_labels(service, type_), count)
    at = 0
    while rows := connection.execute(_SPANS, (at, last, _ROWS)).fetchall():
        folds: Folds = {}
        for row in rows:  # as long as it matters here, in the order of the intake's own rows
            operation, shared, start, duration, status = row[3:8]
            key = (operation, shared, status)
            shape = shapes.get(key)
            if shape is None:
                shape = shapes[key] = Shape(operations[operation], sets.get(shared, {}), shared, status)
            folds.setdefault((shape, (start + duration) // MINUTE), []).append(row)
        if totals:
            aggregates.fold(change, folds)
        else:
            aggregates.fold_rollups(change, folds)
        change.accounting = {"accepted": len(rows), "stored": len(rows)}
        yield change
        at, change = rows[-1][-1], aggregates.begin()
    if change.series:
        yield change


def restore(directory: Path, aggregates: Aggregates, marks: dict[str, Any]) -> int:
    """Fill an `aggregates.db` that was made anew, before anything of it is shown; how many spans were counted.

    The totals appear in one commit: growing step by step they would look like traffic.

    Raises:
        sqlite3.Error, OSError: it can't be written; nothing is shown yet, and it can be done again.
    """
    aggregates.forget_rollups()
    totals = aggregates.begin()
    for step in refold(directory, aggregates, totals=True):
        for state, delta in step.series.items():
            totals.delta(state).add(delta)
        for name, more in step.accounting.items():
            totals.accounting[name] = totals.accounting.get(name, 0) + more
        aggregates.apply_rollups(step)
    totals.commit, totals.marks = aggregates.commit + 1, dict(marks)
    aggregates.apply(totals)
    return totals.accounting.get("stored", 0)
