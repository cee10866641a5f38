"""How spans are found in one partition: by an index where it has few candidates, else by looking through rows.

Spans are given in the reverse order of arrival, which is that of the rows' numbers. No index has that order beside a
condition, so an index's candidates are sorted; that pays while they are few. Otherwise rows are looked through from the
newest on, in ranges, until a page is full; where the question is about a part of the partition's time, the index by
operation and start, which holds rows' numbers too, tells between which numbers that part lies.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from sqlite3 import Connection
from typing import Any

import msgspec

from .layout import BUCKET_SHIFT, SLOW_INDEX_NS
from .records import SpanKind, StatusCode
from .views import SpanFilter

_FEW = 2000
"""Candidates that are sorted rather than met in order: a few ms."""
_RANGE = 1 << 15
"""Rows that are looked through in a transaction: some 10 ms."""
_MOST_LISTED = 500
"""Operations that are listed in a statement; more are asked for inside of it."""
_INTEGER = re.compile(r"-?\d+", re.ASCII)
_NUMBER_OR_LIST = re.compile(r"[-+.\dIN\[{]", re.ASCII)
"""How texts begin that SQLite may make of something that isn't text, in other words than the JSON's."""
_UNQUOTABLE = frozenset('"\\')

COLUMNS = (
    "s.id, s.trace_id, s.span_id, s.parent_id, s.start, s.duration, s.status, s.attributes, s.details, "
    "g.service, g.resource, g.scope, o.name, o.kind, a.attributes AS shared"
)
_WHOLE = (
    "JOIN operations o ON o.id = s.operation JOIN origins g ON g.id = o.origin "
    "LEFT JOIN attribute_sets a ON a.id = s.attribute_set"
)
_OPERATIONS = "SELECT o.id FROM operations o JOIN origins g ON g.id = o.origin"


@dataclass(frozen=True, slots=True)
class Extent:
    """What a partition holds: times by the spans' own clocks (None: no span), and the number of its last row."""

    min_start: int | None
    max_end: int | None
    last: int

    def lacks(self, wanted: SpanFilter) -> bool:
        """Whether none of its spans began in the time that is asked for."""
        if self.min_start is None or self.max_end is None:
            return True
        since, until = wanted.since_ns, wanted.until_ns
        return (until is not None and until <= self.min_start) or (since is not None and since > self.max_end)

    def cuts(self, wanted: SpanFilter) -> bool:
        """Whether some of its spans may have begun outside of that time."""
        if self.min_start is None or self.max_end is None:
            return True
        since, until = wanted.since_ns, wanted.until_ns
        return (since is not None and since > self.min_start) or (until is not None and until <= self.max_end)


def read_extent(connection: Connection) -> Extent:
    """A partition's extent."""
    low, high = connection.execute("SELECT min_start, max_end FROM window").fetchone() or (None, None)
    last = connection.execute("SELECT max(id) FROM spans").fetchone()[0]
    return Extent(low, high, last or 0)


@dataclass(slots=True)
class Conditions:
    """Conditions joined by AND, with their parameters."""

    sql: list[str] = field(default_factory=list)
    values: list[Any] = field(default_factory=list)

    def add(self, sql: str, *values: Any) -> None:
        """One more."""
        self.sql.append(sql)
        self.values += values

    @property
    def text(self) -> str:
        """As it stands after WHERE."""
        return " AND ".join(self.sql) or "1"


@dataclass(frozen=True, slots=True)
class Plan:
    """Statements that find a partition's spans, each with its parameters, but for the number of rows that ends them."""

    source: str
    values: list[Any]
    ranges: Sequence[tuple[int, int]]
    """Rows from the first number on, before the second, newest first."""

    def statements(self) -> Iterator[tuple[str, list[Any]]]:
        """They: the last parameter, the limit, is to be added."""
        for low, high in self.ranges:
            inner = f"{self.source} AND id >= ? AND id < ? ORDER BY id DESC LIMIT ?"
            yield f"SELECT {COLUMNS} FROM ({inner}) s {_WHOLE} ORDER BY s.id DESC", [*self.values, low, high]


def plan(
    connection: Connection, extent: Extent, wanted: SpanFilter, before: int | None, *, requests: bool = False
) -> Plan | None:
    """How to find the spans that a filter lets through, in one partition.

    Args:
        connection: to it.
        extent: of it.
        wanted: the filter.
        before: the number that rows are to be below; None for all.
        requests: whether spans of servers and consumers alone are wanted.

    Returns:
        None where there are none.
    """
    high = extent.last + 1 if before is None else min(before, extent.last + 1)
    conditions = Conditions()
    if wanted.trace_id is not None:
        conditions.add(
            f"(id >> {BUCKET_SHIFT}) IN ({buckets(extent.last)}) AND trace_id = ?", bytes.fromhex(wanted.trace_id)
        )
    by_time = Conditions()
    if extent.cuts(wanted):
        _add_time(by_time, wanted)
    operations = _operations(connection, wanted, requests=requests)
    if operations == "":
        return None
    indexes = [] if wanted.trace_id is not None else list(_indexes(wanted, operations, is_cut=bool(by_time.sql)))
    _add_columns(conditions, wanted)
    if operations is not None:
        conditions.add(f"operation IN ({operations})")
    conditions.sql += by_time.sql
    conditions.values += by_time.values
    _add_attributes(conditions, wanted)
    chosen, ranges = _choose(connection, indexes, by_time, high, has_trace=wanted.trace_id is not None)
    source = f"SELECT * FROM spans {chosen} WHERE {conditions.text}"
    return Plan(source, conditions.values, ranges)


def buckets(last: int) -> str:
    """The buckets of the trace index, of a partition with this last row."""
    return ",".join(map(str, range((last >> BUCKET_SHIFT) + 1)))


def _choose(
    connection: Connection, indexes: Sequence[tuple[str, str]], by_time: Conditions, high: int, *, has_trace: bool
) -> tuple[str, Sequence[tuple[int, int]]]:
    """Which index the spans are found by (what stands after the table's name), and the ranges of rows."""
    if has_trace:
        return "INDEXED BY spans_trace", [(0, high)]
    through = None
    for name, condition in indexes:
        through = f"FROM spans INDEXED BY {name} WHERE {' AND '.join([condition, *by_time.sql])}"
        few = f"SELECT count(*) FROM (SELECT 1 {through} LIMIT {_FEW + 1})"
        if connection.execute(few, by_time.values).fetchone()[0] <= _FEW:
            return f"INDEXED BY {name}", [(0, high)]
    low = 0
    if through is not None and by_time.sql:
        first, last = connection.execute(f"SELECT min(id), max(id) {through}", by_time.values).fetchone()
        low, high = first or 0, min(high, (last or 0) + 1)
    return "NOT INDEXED", [(max(low, top - _RANGE), top) for top in range(high, low, -_RANGE)]


def _indexes(wanted: SpanFilter, operations: str | None, *, is_cut: bool) -> Iterator[tuple[str, str]]:
    """Indexes that have all spans that are wanted, with the condition in the words that each knows."""
    if wanted.status == "error":
        yield "spans_error", f"status = {StatusCode.ERROR.value}"
    if wanted.min_duration_ns is not None and wanted.min_duration_ns >= SLOW_INDEX_NS:
        yield "spans_slow", f"duration >= {SLOW_INDEX_NS}"
    if operations is not None or is_cut:
        yield "spans_operation", f"operation IN ({operations or 'SELECT id FROM operations'})"


def _operations(connection: Connection, wanted: SpanFilter, *, requests: bool) -> str | None:
    """The numbers of the operations that are wanted, for IN; None for all, empty for none."""
    named = Conditions()
    if wanted.service is not None:
        named.add("g.service = ?", wanted.service)
    if wanted.name is not None:
        named.add("o.name = ?", wanted.name)
    if wanted.kind is not None:
        named.add("o.kind = ?", SpanKind[wanted.kind.upper()].value)
    if requests:
        named.add(f"o.kind IN ({SpanKind.SERVER.value}, {SpanKind.CONSUMER.value})")
    if not named.sql:
        return None
    query = f"{_OPERATIONS} WHERE {named.text}"
    found = [row[0] for row in connection.execute(query, named.values)]
    total = connection.execute("SELECT count(*) FROM operations").fetchone()[0]
    if len(found) == total:
        return None
    return ",".join(map(str, found))


def _add_time(conditions: Conditions, wanted: SpanFilter) -> None:
    if wanted.since_ns is not None:
        conditions.add("start >= ?", wanted.since_ns)
    if wanted.until_ns is not None:
        conditions.add("start < ?", wanted.until_ns)


def _add_columns(conditions: Conditions, wanted: SpanFilter) -> None:
    if wanted.status is not None:
        conditions.add(f"status = {StatusCode[wanted.status.upper()].value}")
    if wanted.min_duration_ns is not None:
        conditions.add("duration >= ?", wanted.min_duration_ns)
        if wanted.min_duration_ns >= SLOW_INDEX_NS:  # in the words that the partial index knows
            conditions.add(f"duration >= {SLOW_INDEX_NS}")
    if wanted.max_duration_ns is not None:
        conditions.add("duration <= ?", wanted.max_duration_ns)


def _add_attributes(conditions: Conditions, wanted: SpanFilter) -> None:
    """Each among the span's own ones, or among those that it shares: these are few, and looked at once."""
    for key, value in wanted.attributes.items():
        equal, values = _attribute(key, value)
        shared = f"attribute_set IN (SELECT id FROM attribute_sets WHERE {equal})"
        texts = _texts(key, value)  # a search for them leaves most rows out before their JSON is read
        met = " OR ".join("instr(attributes, ?)" for _ in texts) or "1"
        conditions.add(f"({shared} OR (({met}) AND {equal}))", *values, *texts, *values)


def _texts(key: str, value: str) -> list[str]:
    """One of these stands in the JSON of attributes of which one is, written as text, the value; none: anything may."""
    if not _is_plain(key):
        return []
    name = f'"{key}":'
    text = name + msgspec.json.encode(value).decode()
    if _INTEGER.fullmatch(value) or value in {"true", "false"}:
        return [name + value, text]
    return [name] if _NUMBER_OR_LIST.match(value) else [text]


def _attribute(key: str, value: str) -> tuple[str, list[Any]]:
    """Whether an attribute, written as text, equals a value: booleans as true or false, numbers as SQLite does."""
    if not _is_plain(key):  # a JSON path has no way to write such a key
        written = "CASE WHEN type IN ('true', 'false') THEN type ELSE value END"
        return f"EXISTS (SELECT 1 FROM json_each(attributes) WHERE key = ? AND CAST({written} AS TEXT) = ?)", [
            key,
            value,
        ]
    path = f'$."{key}"'
    kind = "json_type(attributes, ?)"
    written = f"CASE WHEN {kind} IN ('true', 'false') THEN {kind} ELSE json_extract(attributes, ?) END"
    return f"CAST({written} AS TEXT) = ?", [path, path, path, value]


def _is_plain(key: str) -> bool:
    return not set(key) & _UNQUOTABLE and key.isprintable()
