"""`aggregates.db` from the reading side: totals, performance, accounting."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import Connection, select

from . import engine, sketch
from .batch import drops
from .families import ACCEPTED, DROPPED, FAMILIES, STORED, TRUNCATED, FamilySpec, Labels
from .intake import MINUTE
from .reading import Readers
from .records import SpanKind
from .schema import accounting, commands, operations, properties, rollups, series
from .views import Family, OperationSummary, Series, Totals


class TotalsReader:
    """Keeps the last committed totals and reads only what has changed since."""

    def __init__(self, path: Path, readers: Readers) -> None:
        self._path = path
        self._readers = readers
        self._lock = threading.Lock()
        self._forget()

    def _forget(self) -> None:
        self._identity: tuple[int, int] | None = None
        self._commit = -1
        self._known: dict[str, dict[str, Series]] = {}
        self._figures: dict[str, int] = {}

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
            return self._totals(stale=False)

    def last(self) -> Totals | None:
        """The state that was read last, whether or not it is still the newest."""
        with self._lock:
            return self._totals(stale=True) if self._commit >= 0 else None

    def _refresh(self, connection: Connection) -> None:
        commit = connection.scalar(select(properties.c.value).where(properties.c.name == "commit")) or 0
        if commit == self._commit:
            return
        rows = connection.execute(select(series).where(series.c.updated > self._commit))
        for row in rows:
            spec = FAMILIES.get(row.metric)
            if spec is not None:
                self._known.setdefault(row.metric, {})[row.labels] = _series(spec, row)
        self._figures = {row.name: row.value for row in connection.execute(select(accounting))}
        self._commit = commit

    def _totals(self, *, stale: bool) -> Totals:
        families = [
            _family(spec, list(self._known.get(name, {}).values()))
            for name, spec in FAMILIES.items()
            if name in self._known
        ]
        return Totals([*families, *_own(self._figures)], self._commit, stale=stale)


def _series(spec: FamilySpec, row: Any) -> Series:
    labels: Labels = tuple((name, value) for name, value in msgspec.json.decode(row.labels))
    buckets: tuple[int, ...] = ()
    if spec.bounds and row.buckets is not None:
        running, cumulative = 0, []
        for count in msgspec.msgpack.decode(row.buckets)[:-1]:
            running += count
            cumulative.append(running)
        buckets = tuple(cumulative)
    return Series(labels, row.value, row.sum, buckets, row.start)


def _family(spec: FamilySpec, members: list[Series]) -> Family:
    return Family(spec.name, spec.type, spec.help, spec.unit, spec.bounds, members)


def _own(figures: Mapping[str, int]) -> list[Family]:
    """The store's accounting as metrics."""
    plain = ((ACCEPTED, "accepted"), (STORED, "stored"), (TRUNCATED, "truncated"))
    families = [_family(spec, [Series((), figures.get(name, 0))]) for spec, name in plain]
    reasons = [Series((("reason", reason),), count) for reason, count in sorted(drops(figures).items())]
    return [*families, _family(DROPPED, reasons)]


def read_cleared(connection: Connection) -> int:
    """The time up to which errors have been cleared (ns)."""
    return connection.scalar(select(properties.c.value).where(properties.c.name == "cleared")) or 0


def read_command(connection: Connection, command_id: str) -> dict[str, Any] | None:
    """The result of a command, or None while it hasn't been applied."""
    text = connection.scalar(select(commands.c.result).where(commands.c.id == command_id))
    return msgspec.json.decode(text) if text is not None else None


def read_performance(
    connection: Connection, since_ns: int, until_ns: int, service: str | None, kind: str | None
) -> list[OperationSummary]:
    """Summaries by operation from the rollups of whole minutes, busiest first."""
    query = (
        select(rollups, operations.c.service, operations.c.name, operations.c.kind)
        .join(operations, operations.c.id == rollups.c.operation)
        .where(rollups.c.minute >= since_ns // MINUTE, rollups.c.minute <= (until_ns - 1) // MINUTE)
        .order_by(rollups.c.operation)
    )
    if service is not None:
        query = query.where(operations.c.service == service)
    if kind is not None:
        query = query.where(operations.c.kind == SpanKind[kind.upper()])
    gathered: dict[int, list[Any]] = {}
    for row in connection.execute(query):
        gathered.setdefault(row.operation, []).append(row)
    summaries = [_summary(rows) for rows in gathered.values()]
    return sorted(summaries, key=lambda summary: -summary.count)


def _summary(rows: list[Any]) -> OperationSummary:
    merged: sketch.Counts = {}
    for row in rows:
        sketch.merge(merged, sketch.decode(row.sketch))
    count = sum(row.count for row in rows)
    low, high = min(row.min for row in rows), max(row.max for row in rows)
    p50, p95, p99 = (min(max(sketch.quantile(merged, q), low), high) for q in (0.5, 0.95, 0.99))
    return OperationSummary(
        service=rows[0].service,
        name=rows[0].name,
        kind=SpanKind(rows[0].kind).name.lower(),
        count=count,
        error_count=sum(row.errors for row in rows),
        slow_count=sum(row.slow for row in rows),
        avg_ns=sum(row.sum for row in rows) / count if count else 0.0,
        min_ns=low,
        max_ns=high,
        p50_ns=p50,
        p95_ns=p95,
        p99_ns=p99,
        last_ns=max(row.last for row in rows),
    )
