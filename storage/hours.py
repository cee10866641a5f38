"""Rollups of whole hours, made of the minutes' once an hour is over: what performance over days is answered from.

They are a copy, always equal to the minutes that they are of, or not there: whoever writes a minute deletes its hour in
the same transaction, and the hour is summed up again later. So a reader takes an hour that it finds, and the minutes of
one that it doesn't.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Collection
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING

from . import engine

if TYPE_CHECKING:
    from .rollups import Rollup

MINUTES = 60
_SETTLED = 5  # minutes after its end in which most of an hour's late spans have come
_FIRST_OF = "SELECT min(minute) FROM rollups WHERE minute >= ?"
_NEXT_HOUR = "SELECT min(hour) FROM rollup_hours WHERE hour >= ?"
_MINUTES_OF = (
    "SELECT operation, count, errors, slow, sum, min, max, last, sketch FROM rollups "
    "WHERE minute >= ? AND minute < ? ORDER BY operation"
)
_INSERT = "INSERT OR REPLACE INTO rollup_hours VALUES (?,?,?,?,?,?,?,?,?,?)"


class Hours:
    """Which hours are summed up, and which are due."""

    def __init__(self) -> None:
        self._summed: set[int] = set()
        self._due: set[int] = set()

    def load(self, connection: sqlite3.Connection) -> None:
        """Find out both: a probe of an index for each hour that there is."""
        self._summed = _steps(connection, _NEXT_HOUR, 1)
        self._due = _steps(connection, _FIRST_OF, MINUTES) - self._summed

    def delete(self, connection: sqlite3.Connection, hours: Collection[int]) -> None:
        """In the transaction that writes minutes of these hours: they are no longer equal."""
        known = self._summed.intersection(hours)
        connection.executemany("DELETE FROM rollup_hours WHERE hour=?", [(hour,) for hour in known])

    def take(self, hours: Collection[int]) -> None:
        """After that transaction."""
        self._summed.difference_update(hours)
        self._due.update(hours)

    def sum_up(self, connection: sqlite3.Connection, now: float, seconds: float) -> None:
        """Sum up hours that are due and over, the newest first, for about so long.

        Raises:
            sqlite3.Error: the hour at which it stopped is still due.
        """
        until = time.monotonic() + seconds
        newest = (int(now) // 60 - _SETTLED) // MINUTES
        for hour in sorted((hour for hour in self._due if hour < newest), reverse=True):
            with engine.transaction(connection):
                connection.executemany(_INSERT, _rows(connection, hour))
            self._due.discard(hour)
            self._summed.add(hour)
            if time.monotonic() > until:
                return

    def prune(self, connection: sqlite3.Connection, oldest: int) -> None:
        """In the transaction that drops minutes before the oldest one: drop the hours that have any of them."""
        connection.execute("DELETE FROM rollup_hours WHERE hour < ?", (-(-oldest // MINUTES),))


def _rows(connection: sqlite3.Connection, hour: int) -> list[tuple[object, ...]]:
    from .rollups import Rollup, row_of  # noqa: PLC0415  # which has one of us

    minutes = connection.execute(_MINUTES_OF, (hour * MINUTES, (hour + 1) * MINUTES))
    found = []
    for operation, rows in groupby(minutes, key=itemgetter(0)):
        tally: Rollup = Rollup()
        tally.merge([row[1:] for row in rows])
        found.append(row_of((hour, operation), tally))
    return found


def _steps(connection: sqlite3.Connection, query: str, length: int) -> set[int]:
    """All hours that a table has, without reading all of it."""
    found: set[int] = set()
    place = connection.execute(query, (-(1 << 40),)).fetchone()[0]
    while place is not None:
        found.add(place // length)
        place = connection.execute(query, ((place // length + 1) * length,)).fetchone()[0]
    return found
