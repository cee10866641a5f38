"""Retained spans from the reading side: pages of them, newest first, across all partitions, and whole traces."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import Connection

from . import engine
from .errors import QueryTimeout, Unavailable
from .found import Found, decode_cursor, encode_cursor, hex64
from .layout import newest_first
from .reading import NARROW, Readers
from .records import SpanKind, StatusCode
from .span_plans import Extent, plan, read_extent
from .views import SpanFilter, SpanView

_MOST_EXTENTS = 10_000
_from_json = msgspec.json.decode


class SpanReader:
    """Reads spans of all partitions of a directory. What can't be read is told by `failures`."""

    def __init__(self, directory: Path, readers: Readers) -> None:
        self._directory = directory
        self._readers = readers
        self._extents: dict[tuple[Path, tuple[int, int] | None], Extent] = {}

    def trace(self, trace_id: str, limit: int) -> Found[SpanView]:
        """Spans of a trace, by start."""
        found = self.find(SpanFilter(trace_id=trace_id), limit, None)
        found.items.sort(key=lambda span: (span.start_ns, -span.duration_ns))
        return found

    def find(self, wanted: SpanFilter, limit: int, cursor: str | None, *, requests: bool = False) -> Found[SpanView]:
        """A page of spans in the reverse order of arrival; with `requests` of servers' and consumers' alone.

        Each look is a short transaction, so that no query keeps the writer's log from ending.

        Raises:
            InvalidCursor, QueryTimeout: see `Store.spans`.
        """
        before = decode_cursor(cursor) if cursor is not None else None
        found: Found[SpanView] = Found()
        until = self._readers.deadline()
        newest: Path | None = None
        for path in newest_first(self._directory):
            newest = newest or path
            if before is not None and path.stem > before[0]:
                continue
            if len(found.items) > limit:
                break
            row = before[1] if before is not None and path.stem == before[0] else None
            try:
                extent = self._extent(path, until, is_closed=path != newest)
                if not extent.lacks(wanted):
                    self._look_through(path, until, found, limit, (extent, wanted, row, requests))
            except Unavailable as error:
                if path.exists():  # retention may have dropped it meanwhile
                    found.failures.append(str(error))
        if len(found.items) > limit:
            del found.items[limit:]
            found.cursor = encode_cursor(*found.places[limit - 1])
        return found

    def _look_through(
        self,
        path: Path,
        until: float,
        found: Found[SpanView],
        limit: int,
        question: tuple[Extent, SpanFilter, int | None, bool],
    ) -> None:
        extent, wanted, row, requests = question
        with self._readers.connect(path, until) as connection:
            statements = plan(_raw(connection), extent, wanted, row, requests=requests)
            pending = statements.statements() if statements is not None else iter(())
            self._take(connection, next(pending, None), found, path.stem, limit)
        for statement in pending:
            if len(found.items) > limit:
                return
            if time.monotonic() > until:
                raise QueryTimeout(NARROW)
            with self._readers.connect(path, until) as connection:
                self._take(connection, statement, found, path.stem, limit)

    @staticmethod
    def _take(
        connection: Connection,
        statement: tuple[str, list[Any]] | None,
        found: Found[SpanView],
        stem: str,
        limit: int,
    ) -> None:
        if statement is None:
            return
        sql, values = statement
        for row in _raw(connection).execute(sql, [*values, limit + 1 - len(found.items)]):
            found.places.append((stem, row[0]))
            found.items.append(_span_view(Row._make(row)))

    def _extent(self, path: Path, until: float, *, is_closed: bool) -> Extent:
        """A partition's extent; that of one that is no longer written to is remembered."""
        key = (path, engine.identity(path))
        known = self._extents.get(key) if is_closed else None
        if known is None:
            with self._readers.connect(path, until) as connection:
                known = read_extent(_raw(connection))
            if is_closed:
                if len(self._extents) >= _MOST_EXTENTS:
                    self._extents.clear()
                self._extents[key] = known
        return known


class Row(NamedTuple):
    """What is read of a span: `span_plans.COLUMNS`."""

    id: int
    trace_id: bytes
    span_id: int
    parent_id: int | None
    start: int
    duration: int
    status: int
    attributes: str | None
    details: str | None
    service: str
    resource: str
    scope: str
    name: str
    kind: int
    shared: str | None


def _raw(connection: Connection) -> sqlite3.Connection:
    """The driver's own connection: statements of a known form cost a fifth there."""
    raw: Any = connection.connection.driver_connection
    assert isinstance(raw, sqlite3.Connection)
    return raw


def _span_view(row: Row) -> SpanView:
    return span_view(row, (row.service, row.resource, row.scope), (row.name, row.kind), row.shared)


def span_view(row: Any, origin: tuple[str, str, str], operation: tuple[str, int], shared: str | None) -> SpanView:
    """A view of a row with the columns of `spans`.

    Args:
        row: the columns as attributes.
        origin: service, resource and scope, the latter two as stored.
        operation: name and kind.
        shared: the attribute set as stored.
    """
    service, resource, scope = origin
    name, kind = operation
    details: dict[str, Any] = _from_json(row.details) if row.details else {}
    attributes = _from_json(shared) if shared else {}
    return SpanView(
        trace_id=row.trace_id.hex(),
        span_id=hex64(row.span_id),
        parent_span_id=hex64(row.parent_id) if row.parent_id is not None else None,
        service=service,
        name=name,
        kind=SpanKind(kind).name.lower(),
        start_ns=row.start,
        duration_ns=row.duration,
        status=StatusCode(row.status).name.lower(),
        status_message=details.get("message"),
        attributes={**attributes, **(_from_json(row.attributes) if row.attributes else {})},
        resource=_from_json(resource),
        scope=_from_json(scope),
        events=[
            {"time_ns": time, "name": event, "attributes": found} for time, event, found in details.get("events", ())
        ],
        links=[
            {"trace_id": trace, "span_id": span, "attributes": found} for trace, span, found in details.get("links", ())
        ],
        trace_state=details.get("state"),
        parent_is_remote=details.get("remote", False),
        dropped=details.get("dropped", {}),
    )
