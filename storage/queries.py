"""The partitions from the reading side: spans, traces and errors, newest first, across all files."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

import msgspec
from sqlalchemy import TEXT, ColumnElement, Connection, Select, TextClause, case, cast, exists, func, or_, select, text

from .errors import InvalidCursor, Unavailable
from .layout import BUCKET_SHIFT, partition_files
from .reading import Readers
from .records import SpanKind, StatusCode
from .schema import attribute_sets, errors, origins, span_operations, spans
from .views import (
    ErrorFilter,
    ErrorKind,
    ErrorStats,
    ErrorView,
    PerformanceFilter,
    SpanFilter,
    SpanView,
    Window,
)

T = TypeVar("T")
_WRAP = 1 << 64
_BOOLEANS = ("true", "false")
_UNQUOTABLE = frozenset('"\\')
_from_json = msgspec.json.decode
_MOST_KINDS = 10_000


@dataclass(slots=True)
class Found(Generic[T]):
    """What a look through the partitions has found so far."""

    items: list[T] = field(default_factory=list)
    places: list[tuple[str, int]] = field(default_factory=list)
    """Partition and row of each item."""
    cursor: str | None = None
    failures: list[str] = field(default_factory=list)
    """Why partitions could not be read."""


class HistoryReader:
    """Reads all partitions of a directory, newest first. What can't be read is told by `failures`."""

    def __init__(self, directory: Path, readers: Readers) -> None:
        self._directory = directory
        self._readers = readers

    def find_spans(self, wanted: SpanFilter, limit: int, cursor: str | None) -> Found[SpanView]:
        """Spans in the reverse order of arrival."""
        return self._page(lambda connection: _span_query(connection, wanted), spans.c.id, _span_view, limit, cursor)

    def find_requests(self, wanted: SpanFilter, limit: int) -> Found[SpanView]:
        """Those of the spans that are requests, newest first."""

        def query(connection: Connection) -> Select[Any]:
            return _span_query(connection, wanted).where(
                span_operations.c.kind.in_((SpanKind.SERVER, SpanKind.CONSUMER))
            )

        return self._page(query, spans.c.id, _span_view, limit, None)

    def find_errors(self, wanted: ErrorFilter, limit: int, cursor: str | None) -> Found[ErrorView]:
        """Errors in the reverse order of arrival."""
        return self._page(lambda _connection: _error_query(wanted), errors.c.id, _error_view, limit, cursor)

    def trace(self, trace_id: str, limit: int) -> Found[SpanView]:
        """Spans of a trace, by start."""
        found: Found[SpanView] = Found()
        wanted = SpanFilter(trace_id=trace_id)

        def visit(stem: str, connection: Connection) -> bool:
            query = _span_query(connection, wanted).limit(limit - len(found.items))
            found.items += [_span_view(row, stem) for row in connection.execute(query)]
            return len(found.items) < limit

        self._visit(visit, found)
        found.items.sort(key=lambda span: (span.start_ns, -span.duration_ns))
        return found

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
        before = _decode_cursor(cursor) if cursor is not None else None
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
            found.cursor = _encode_cursor(*found.places[limit - 1])
        return found

    def _visit(self, visit: Callable[[str, Connection], bool], found: Found[Any], *, newest: str | None = None) -> None:
        """Call for each partition, newest first, until it returns False; one that can't be read is passed over.

        Raises:
            QueryTimeout: the deadline passed.
        """
        until = self._readers.deadline()
        for path in reversed(partition_files(self._directory)):
            if newest is not None and path.stem > newest:
                continue
            try:
                with self._readers.connect(path, until) as connection:
                    if not visit(path.stem, connection):
                        return
            except Unavailable as error:
                if path.exists():  # retention may have dropped it meanwhile
                    found.failures.append(str(error))


def cursor_after(place: tuple[str, int] | None) -> str:
    """The cursor of what comes after an item's place; of everything where there is none."""
    return _encode_cursor(*(place or ("~", 1)))  # behind the names of all partitions


def _encode_cursor(stem: str, row: int) -> str:
    return base64.urlsafe_b64encode(f"{stem}:{row}".encode()).decode().rstrip("=")


def _decode_cursor(cursor: str) -> tuple[str, int]:
    try:
        plain = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
        stem, _, row = plain.rpartition(":")
        if stem and 0 < int(row) < 1 << 63 and _encode_cursor(stem, int(row)) == cursor:
            return stem, int(row)
    except (ValueError, binascii.Error):
        pass
    raise InvalidCursor(f"{cursor!r} is not a cursor that this store gave out")


# --- spans --------------------------------------------------------------------------------------------------------

_SPANS = (
    select(
        spans,
        span_operations.c.name,
        span_operations.c.kind,
        origins.c.service,
        origins.c.resource,
        origins.c.scope,
        attribute_sets.c.attributes.label("shared"),
    )
    .join(span_operations, span_operations.c.id == spans.c.operation)
    .join(origins, origins.c.id == span_operations.c.origin)
    .outerjoin(attribute_sets, attribute_sets.c.id == spans.c.attribute_set)
)


def _span_query(connection: Connection, wanted: SpanFilter) -> Select[Any]:
    query = _SPANS.where(*_span_conditions(wanted))
    if wanted.trace_id is not None:
        query = query.where(_buckets(connection), spans.c.trace_id == bytes.fromhex(wanted.trace_id))
    return query


def _buckets(connection: Connection) -> TextClause:
    """The condition that lets a query find spans by their trace: all buckets of the index, to be probed."""
    last = connection.scalar(select(func.max(spans.c.id))) or 0
    return text(f"(spans.id >> {BUCKET_SHIFT}) IN ({','.join(map(str, range((last >> BUCKET_SHIFT) + 1)))})")


def _span_conditions(wanted: SpanFilter) -> Iterator[ColumnElement[bool]]:
    plain: tuple[tuple[Any, Callable[[Any], ColumnElement[bool]]], ...] = (
        (wanted.min_duration_ns, lambda value: spans.c.duration >= value),
        (wanted.max_duration_ns, lambda value: spans.c.duration <= value),
        (wanted.since_ns, lambda value: spans.c.start >= value),
        (wanted.until_ns, lambda value: spans.c.start < value),
        (wanted.status, lambda value: spans.c.status == StatusCode[value.upper()]),
    )
    yield from (condition(value) for value, condition in plain if value is not None)
    named = [
        column == value
        for column, value in ((origins.c.service, wanted.service), (span_operations.c.name, wanted.name))
        if value is not None
    ]
    if wanted.kind is not None:
        named.append(span_operations.c.kind == SpanKind[wanted.kind.upper()])
    if named:
        inner = select(span_operations.c.id).join(origins, origins.c.id == span_operations.c.origin)
        yield spans.c.operation.in_(inner.where(*named).correlate(None))
    for key, value in wanted.attributes.items():
        yield or_(*(_has_attribute(column, key, value) for column in (spans.c.attributes, attribute_sets.c.attributes)))


def _has_attribute(column: ColumnElement[Any], key: str, value: str) -> ColumnElement[bool]:
    """Whether the attribute, written as text, equals the value: a boolean as true or false, a number as SQLite does."""
    if set(key) & _UNQUOTABLE or not key.isprintable():  # a JSON path has no way to write such a key
        pair = func.json_each(column).table_valued("key", "value", "type")
        written = case((pair.c.type.in_(_BOOLEANS), pair.c.type), else_=pair.c.value)
        return exists(select(1).select_from(pair).where(pair.c.key == key, cast(written, TEXT) == value))
    path = f'$."{key}"'
    kind = func.json_type(column, path)
    return cast(case((kind.in_(_BOOLEANS), kind), else_=func.json_extract(column, path)), TEXT) == value


def _span_view(row: Any, _stem: str) -> SpanView:
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
        span_id=_hex64(row.span_id),
        parent_span_id=_hex64(row.parent_id) if row.parent_id is not None else None,
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


def _hex64(signed: int) -> str:
    return f"{signed if signed >= 0 else signed + _WRAP:016x}"


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
    return select(errors).where(*conditions)


def _error_view(row: Any, stem: str) -> ErrorView:
    return ErrorView(
        id=_encode_cursor(stem, row.id),
        time_ns=row.time,
        service=row.service,
        type=row.type,
        message=row.message,
        stacktrace=row.stacktrace,
        operational=bool(row.operational),
        trace_id=row.trace_id.hex(),
        span_id=_hex64(row.span_id),
        operation=row.operation,
        attributes=_from_json(row.attributes),
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
