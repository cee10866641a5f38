"""Retained errors from the reading side, newest first, across all partitions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from sqlalchemy import TEXT, ColumnElement, Connection, Select, TextClause, case, cast, exists, func, select, text

from .errors import Unavailable
from .found import Found, decode_cursor, encode_cursor, hex64
from .layout import BUCKET_SHIFT, newest_first
from .reading import Readers
from .schema import errors, origins, span_operations, spans
from .span_plans import buckets
from .views import ErrorFilter, ErrorKind, ErrorStats, ErrorView, PerformanceFilter, Window

T = TypeVar("T")
_from_json = msgspec.json.decode
_MOST_KINDS = 10_000


class HistoryReader:
    """Reads the errors of all partitions of a directory, newest first. What can't be read is told by `failures`."""

    def __init__(self, directory: Path, readers: Readers) -> None:
        self._directory = directory
        self._readers = readers

    def find_errors(self, wanted: ErrorFilter, limit: int, cursor: str | None) -> Found[ErrorView]:
        """Errors in the reverse order of arrival."""
        return self._page(lambda _connection: _error_query(wanted), errors.c.id, _error_view, limit, cursor)

    def error_stats(self, now_ns: int, cleared_ns: int) -> ErrorStats:
        """Counts over all partitions."""
        hour, day = now_ns - 3_600_000_000_000, now_ns - 86_400_000_000_000
        query = select(
            func.count(),
            func.coalesce(func.sum(case((errors.c.time >= hour, 1), else_=0)), 0),
            func.coalesce(func.sum(case((errors.c.time >= day, 1), else_=0)), 0),
            func.coalesce(func.sum(errors.c.operational), 0),
        ).where(errors.c.time > cleared_ns)
        sums: list[int] = [0, 0, 0, 0]

        def visit(_stem: str, connection: Connection) -> bool:
            sums[:] = [have + more for have, more in zip(sums, connection.execute(query).one(), strict=True)]
            return True

        self._visit(visit, Found())
        total, last_hour, last_day, operational = sums
        return ErrorStats(total, last_hour, last_day, operational, total - operational)

    def error_kinds(self, window: Window, wanted: PerformanceFilter, cleared_ns: int) -> Found[ErrorKind]:
        """Errors of a window by service, type and operation: at most the 10,000 most frequent of each partition."""
        found: Found[ErrorKind] = Found()
        known: dict[tuple[str, str, str], ErrorKind] = {}

        def visit(_stem: str, connection: Connection) -> bool:
            for row in connection.execute(_error_kinds(connection, window, wanted, cleared_ns)):
                key = (row.service, row.type, row.operation)
                kind = ErrorKind(*key, row.number, row.first, row.last, row.trace_id.hex())
                known[key] = _joined(known[key], kind) if key in known else kind
            return True

        self._visit(visit, found)
        found.items = list(known.values())
        return found

    # --- pages -----------------------------------------------------------------------------------------------------

    def _page(
        self,
        query: Callable[[Connection], Select[Any]],
        key: ColumnElement[int],
        view: Callable[[Any, str], T],
        limit: int,
        cursor: str | None,
    ) -> Found[T]:
        before = decode_cursor(cursor) if cursor is not None else None
        found: Found[T] = Found()

        def visit(stem: str, connection: Connection) -> bool:
            statement = query(connection).order_by(key.desc()).limit(limit + 1 - len(found.items))
            if before is not None and stem == before[0]:
                statement = statement.where(key < before[1])
            for row in connection.execute(statement):
                found.places.append((stem, row.id))
                found.items.append(view(row, stem))
            return len(found.items) <= limit

        self._visit(visit, found, newest=before[0] if before else None)
        if len(found.items) > limit:
            del found.items[limit:]
            found.cursor = encode_cursor(*found.places[limit - 1])
        return found

    def _visit(self, visit: Callable[[str, Connection], bool], found: Found[Any], *, newest: str | None = None) -> None:
        """Call for each partition, newest first, until it returns False; one that can't be read is passed over.

        Raises:
            QueryTimeout: the deadline passed.
        """
        until = self._readers.deadline()
        for path in newest_first(self._directory):
            if newest is not None and path.stem > newest:
                continue
            try:
                with self._readers.connect(path, until) as connection:
                    if not visit(path.stem, connection):
                        return
            except Unavailable as error:
                if path.exists():  # retention may have dropped it meanwhile
                    found.failures.append(str(error))


# --- errors -------------------------------------------------------------------------------------------------------


def _error_query(wanted: ErrorFilter) -> Select[Any]:
    conditions = [errors.c.time > wanted.cleared_ns]
    if wanted.service is not None:
        conditions.append(errors.c.service == wanted.service)
    if wanted.type is not None:
        conditions.append(errors.c.type == wanted.type)
    if wanted.since_ns is not None:
        conditions.append(errors.c.time >= wanted.since_ns)
    if wanted.until_ns is not None:
        conditions.append(errors.c.time < wanted.until_ns)
    if wanted.group is not None:
        conditions.append(errors.c.group_id == wanted.group)
    if wanted.operational is not None:
        conditions.append(errors.c.operational == int(wanted.operational))
    if wanted.groups is not None:
        conditions.append(errors.c.group_id.in_(wanted.groups))
    return select(errors).where(*conditions)


def _error_view(row: Any, stem: str) -> ErrorView:
    return ErrorView(
        id=encode_cursor(stem, row.id),
        time_ns=row.time,
        service=row.service,
        type=row.type,
        message=row.message,
        stacktrace=row.stacktrace,
        operational=bool(row.operational),
        trace_id=row.trace_id.hex() or None,
        span_id=hex64(row.span_id) if row.trace_id else None,
        operation=row.operation,
        attributes=_from_json(row.attributes),
        release=row.release or None,
        group=row.group_id,
    )


def _error_kinds(
    connection: Connection, window: Window, wanted: PerformanceFilter, cleared_ns: int
) -> Select[tuple[Any, ...]]:
    conditions = [errors.c.time >= window.since_ns, errors.c.time < window.until_ns, errors.c.time > cleared_ns]
    if wanted.service is not None:
        conditions.append(errors.c.service == wanted.service)
    if wanted.name is not None:
        conditions.append(errors.c.operation == wanted.name)
    if wanted.release is not None:  # the error's row lacks it; its span's origin has it
        release = cast(func.coalesce(func.json_extract(origins.c.resource, '$."service.version"'), ""), TEXT)
        origin = select(span_operations.c.id).join(origins, origins.c.id == span_operations.c.origin)
        span = select(1).where(
            _buckets(connection),
            spans.c.trace_id == errors.c.trace_id,
            spans.c.span_id == errors.c.span_id,
            spans.c.operation.in_(origin.where(release == wanted.release).correlate(None)),
        )
        conditions.append(exists(span.correlate(errors)))
    count = func.count().label("number")
    key = (errors.c.service, errors.c.type, errors.c.operation)
    query = select(*key, count, func.min(errors.c.time).label("first"), func.max(errors.c.time).label("last"))
    query = query.add_columns(func.max(errors.c.trace_id).label("trace_id"))
    return query.where(*conditions).group_by(*key).order_by(count.desc()).limit(_MOST_KINDS)


def _joined(one: ErrorKind, other: ErrorKind) -> ErrorKind:
    """The same kind of error in two partitions."""
    newest = max(one, other, key=lambda kind: kind.last_ns)
    first = min(one.first_ns, other.first_ns)
    return msgspec.structs.replace(newest, count=one.count + other.count, first_ns=first)


def _buckets(connection: Connection) -> TextClause:
    """The condition that lets a query find spans by their trace: all buckets of the index, to be probed."""
    last = connection.scalar(select(func.max(spans.c.id))) or 0
    return text(f"(spans.id >> {BUCKET_SHIFT}) IN ({buckets(last)})")
