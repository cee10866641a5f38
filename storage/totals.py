"""`aggregates.db` from the reading side: totals, accounting."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import accumulate, groupby
from math import nan
from operator import itemgetter
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import Connection, select

from . import engine
from .batch import drops
from .compiled import compiled
from .exemplars import exemplar_views
from .families import ACCEPTED, DROPPED, FAMILIES, STORED, TRUNCATED, FamilySpec
from .naming import TEMPO, Naming
from .reading import Readers
from .schema import commands, properties
from .series import decode_labels
from .views import Exemplar, Family, Series, Totals

# Each scrape asks all this, and everything can have changed: the driver itself takes a third of SQLAlchemy's time.
_PROPERTIES = "SELECT name, value FROM properties"
_ACCOUNTING = "SELECT name, value FROM accounting"
_DEFINED = "SELECT name, type, help, unit, policy, bounds FROM metrics WHERE updated > ?"
_CHANGED = "SELECT metric, labels, start, updated, hidden, value, sum, buckets, exemplars FROM series WHERE updated > ?"
_NO_EXEMPLARS: dict[int, Exemplar] = {}
_in_c = compiled(__package__, "cumulative")
"""Adds the counts of plain buckets up; None where one of them has something odd."""
_METRIC, _BUCKETS = itemgetter(0), itemgetter(7)
# Rows that are taken over at a time: some tenths of a ms.
_PIECE = 256
_decode_all = msgspec.msgpack.Decoder(list[list[int | float]]).decode
_ARRAY, _EMPTY = b"\xdd", b"\x90"
"""msgpack's: an array, whose length follows in four bytes; an empty array."""


class TotalsReader:
    """Keeps the last committed totals and reads only what has changed since.

    Args:
        path: of the database.
        readers: connections.
        names: what the span metrics are called; see `naming.py`.

    What has not changed is the same object as before: a series while its version stays, a family while all of
    its series do, and the whole while nothing was committed.
    """

    def __init__(self, path: Path, readers: Readers, names: str = TEMPO) -> None:
        self._path = path
        self._naming = Naming(names)
        self._readers = readers
        self._lock = threading.Lock()
        self._forget()

    def _forget(self) -> None:
        self._identity: tuple[int, int] | None = None
        self._commit = -1
        self._specs: dict[str, FamilySpec] = dict(FAMILIES)
        self._known: dict[str, dict[str, Series]] = {}
        self._families: dict[str, Family] = {}
        self._own: dict[str, Family] = {}
        self._totals = Totals([], -1)

    def read(self, until: float) -> Totals:
        """The newest committed state.

        Raises:
            Unavailable, QueryTimeout: it can't be read.
        """
        with self._lock, self._readers.connect(self._path, until) as connection:
            identity = engine.identity(self._path)
            if identity != self._identity:
                self._forget()
            self._refresh(connection)
            self._identity = identity
            return self._totals

    def last(self) -> Totals | None:
        """The state that was read last, whether or not it is still the newest."""
        with self._lock:
            return msgspec.structs.replace(self._totals, stale=True) if self._commit >= 0 else None

    def _refresh(self, connection: Connection) -> None:
        known = _figures(connection, _PROPERTIES)
        commit = known.get("commit", 0)
        if commit == self._commit:
            return
        if self._commit < known.get("forgotten", 0):
            self._forget()  # rows are gone that this reader may not have seen go
        changed = self._read_specs(connection) | self._read_series(connection)
        for name in changed & self._known.keys():
            self._families[name] = _family(self._specs[name], list(self._known[name].values()))
        for name in [name for name, family in self._families.items() if not family.series]:
            del self._families[name], self._known[name]
        figures = _figures(connection, _ACCOUNTING)
        self._own = {family.name: self._kept(family) for family in _own(figures, commit)}
        self._commit = commit
        self._totals = Totals(self._naming.give([*self._ordered(), *self._own.values()]), commit)

    def _read_specs(self, connection: Connection) -> set[str]:
        """Definitions that have changed; their names."""
        changed = set()
        rows: Any = connection.exec_driver_sql(_DEFINED, (self._commit,)).cursor
        for name, type_, help_, unit, policy, blob in rows:
            bounds = msgspec.msgpack.decode(blob, type=tuple[float, ...])
            own = FAMILIES.get(name)
            self._specs[name] = (
                FamilySpec(name, help_, bounds, unit, type_, policy) if own is None else replace(own, bounds=bounds)
            )
            changed.add(name)
        return changed

    def _read_series(self, connection: Connection) -> set[str]:
        """Series that have changed or gone; the names of their metrics."""
        changed = set()
        cursor: Any = connection.exec_driver_sql(_CHANGED, (self._commit,)).cursor
        while rows := cursor.fetchmany(_PIECE):
            for metric, members in groupby(rows, _METRIC):
                if metric in self._specs:
                    self._take(metric, list(members))
                    changed.add(metric)
        return changed

    def _take(self, metric: str, rows: list[tuple[Any, ...]]) -> None:
        """Take rows of one metric over."""
        members = self._known.setdefault(metric, {})
        has_buckets = self._specs[metric].has_buckets
        counted = cumulative(list(map(_BUCKETS, rows))) if has_buckets else [()] * len(rows)
        for (_, labels, start, updated, hidden, value, total, _, exemplars), counts in zip(rows, counted, strict=True):
            if hidden:
                members.pop(labels, None)
                continue
            before = members.get(labels)
            members[labels] = Series(
                before.labels if before is not None else decode_labels(labels),
                nan if value is None else value,
                total,
                counts,
                start,
                exemplar_views(exemplars) if exemplars is not None else _NO_EXEMPLARS,
                updated,
            )

    def _kept(self, family: Family) -> Family:
        """The family as it was, where its numbers are the same."""
        before = self._own.get(family.name)
        same = before is not None and [each.value for each in before.series] == [each.value for each in family.series]
        return before if same and before is not None else family

    def _ordered(self) -> list[Family]:
        """The store's own families, then those of applications by name."""
        own = [self._families[name] for name in FAMILIES if name in self._families]
        return own + [self._families[name] for name in sorted(self._families) if name not in FAMILIES]


def cumulative(blobs: list[bytes | None]) -> Sequence[tuple[float, ...]]:
    """The counts that stored buckets have up to each bound; none where there are no buckets.

    Raises:
        msgspec.MsgspecError: one of the blobs is no msgpack array of numbers.
    """
    plain: list[tuple[float, ...]] | None = _in_c(blobs) if _in_c is not None else None
    return plain if plain is not None else cumulative_in_python(blobs)


def cumulative_in_python(blobs: list[bytes | None]) -> Sequence[tuple[float, ...]]:
    """The same. Together the blobs are one msgpack array: decoding it costs a fraction of decoding each."""
    array = _ARRAY + len(blobs).to_bytes(4, "big") + b"".join([blob or _EMPTY for blob in blobs])
    return [tuple(accumulate(counts[:-1])) for counts in _decode_all(array)]


def _family(spec: FamilySpec, members: list[Series]) -> Family:
    return Family(spec.name, spec.type, spec.help, spec.unit, spec.bounds, members)


def _figures(connection: Connection, query: str) -> dict[str, int]:
    cursor: Any = connection.exec_driver_sql(query).cursor
    return dict(cursor.fetchall())


def _own(figures: Mapping[str, int], commit: int) -> list[Family]:
    """The store's accounting as metrics."""
    plain = ((ACCEPTED, "accepted"), (STORED, "stored"), (TRUNCATED, "truncated"))
    families = [_family(spec, [Series((), figures.get(name, 0), version=commit)]) for spec, name in plain]
    reasons = [Series((("reason", reason),), count, version=commit) for reason, count in sorted(drops(figures).items())]
    return [*families, _family(DROPPED, reasons)]


def read_cleared(connection: Connection) -> int:
    """The time up to which errors have been cleared (ns)."""
    return connection.scalar(select(properties.c.value).where(properties.c.name == "cleared")) or 0


def read_command(connection: Connection, command_id: str) -> dict[str, Any] | None:
    """The result of a command, or None while it hasn't been applied."""
    text = connection.scalar(select(commands.c.result).where(commands.c.id == command_id))
    return msgspec.json.decode(text) if text is not None else None
