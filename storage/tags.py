"""Which attributes spans have, and with which values: for whoever writes a query.

Work is bounded whatever is retained. What a partition stores once (operations, origins, shared attributes) is looked at
in full; attributes of a span's own, events and links are looked for in the newest spans of the time asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import Connection

from .errors import Unavailable
from .found import Found
from .jsonable import restored
from .layout import partition_files
from .reading import Readers
from .views import SpanView, TagFilter

SAMPLE = 50_000
"""Spans that are looked at one by one, over all partitions: 0.1 s for all the values of one attribute."""
LONGEST = 1024
"""Characters of a text value that is worth offering."""
SCOPES = ("resource", "span", "event", "link", "instrumentation")
INTRINSICS = (
    "name", "rootName", "rootServiceName", "statusMessage", "event:name", "instrumentation:name",
    "instrumentation:version",
)  # fmt: skip
"""Those that have values worth listing."""

_MAX_OPERATIONS = 4096
_MAX_SETS = 16_384
_MAX_FAILED = 2000
_UNORDERED = 5000
"""Spans arrive when they end: so many rows may lie between one that began before another and that other."""

_LIVE = f"""(SELECT o.id, o.origin, o.name FROM (SELECT * FROM operations ORDER BY id DESC LIMIT {_MAX_OPERATIONS}) o
WHERE :whole OR EXISTS (
SELECT 1 FROM spans s WHERE s.operation = o.id AND s.start >= :since AND s.start < :until))"""
_ORIGINS = f"(SELECT * FROM origins WHERE id IN (SELECT origin FROM {_LIVE}))"
# Of an operation's spans, a few newest tell whether it begins traces.
_ROOTS = f"""(SELECT o.name, o.origin FROM {_LIVE} o WHERE EXISTS (SELECT 1 FROM (
SELECT s.parent_id FROM spans s WHERE s.operation = o.id AND s.start >= :since AND s.start < :until
ORDER BY s.start DESC LIMIT 20) WHERE parent_id IS NULL))"""
_SETS = f"(SELECT attributes FROM attribute_sets ORDER BY id DESC LIMIT {_MAX_SETS})"
_NEWEST = "spans WHERE id > :low AND id <= :high AND start >= :since AND start < :until"
_OWN = f"(SELECT attributes FROM {_NEWEST} AND attributes IS NOT NULL)"
_DETAILS = f"(SELECT details FROM {_NEWEST} AND details IS NOT NULL)"
_FAILED = f"""(SELECT details FROM spans WHERE status = 2 AND start >= :since AND start < :until
ORDER BY start DESC LIMIT {_MAX_FAILED})"""


def _listed(rows: str, what: str) -> str:
    """The attributes of each event or link of some details."""
    return f"{rows} d, json_each(d.details, '$.{what}') e, json_each(e.value, '$[2]') a"


_SOURCES: dict[str, tuple[str, ...]] = {
    "resource": (f"{_ORIGINS} g, json_each(g.resource) a",),
    "instrumentation": (f"{_ORIGINS} g, json_each(g.scope, '$.attributes') a",),
    "span": (f"{_SETS} t, json_each(t.attributes) a", f"{_OWN} t, json_each(t.attributes) a"),
    "event": (_listed(_FAILED, "events"), _listed(_DETAILS, "events")),
    "link": (_listed(_DETAILS, "links"),),
}
"""What to read from for the attributes of each scope; `a` has a row for each attribute."""
_TEXT_OF = {"t": "t.attributes", "d": "d.details"}
_INTRINSIC = {
    "name": (f"SELECT DISTINCT name, 'text' FROM {_LIVE}",),
    "rootName": (f"SELECT DISTINCT name, 'text' FROM {_ROOTS}",),
    "rootServiceName": (f"SELECT DISTINCT service, 'text' FROM origins WHERE id IN (SELECT origin FROM {_ROOTS})",),
    "statusMessage": (f"SELECT DISTINCT json_extract(details, '$.message'), 'text' FROM {_FAILED}",),
    "event:name": tuple(
        f"SELECT DISTINCT json_extract(e.value, '$[1]'), 'text' FROM {rows} d, json_each(d.details, '$.events') e"
        for rows in (_FAILED, _DETAILS)
    ),
    "instrumentation:name": (f"SELECT DISTINCT json_extract(scope, '$.name'), 'text' FROM {_ORIGINS}",),
    "instrumentation:version": (f"SELECT DISTINCT json_extract(scope, '$.version'), 'text' FROM {_ORIGINS}",),
}


def _value_queries(scope: str) -> Iterator[str]:
    for source in _SOURCES[scope]:
        rows = _TEXT_OF.get(source.split(", json_each", 1)[0].rsplit(" ", 1)[1])
        # Searching for the key's text is far cheaper than parsing all attributes of a span that hasn't got it.
        has_key = f"instr({rows}, :quoted) AND " if rows else ""
        yield (
            f"SELECT DISTINCT a.value, a.type FROM {source} "
            f"WHERE {has_key}a.key = :key AND length(a.value) <= {LONGEST} LIMIT :limit"
        )


_NAMES = {
    scope: tuple(f"SELECT DISTINCT a.key FROM {each} LIMIT :limit" for each in _SOURCES[scope]) for scope in SCOPES
}
_VALUES = {scope: tuple(_value_queries(scope)) for scope in SCOPES} | {
    name: tuple(f"SELECT * FROM ({each}) LIMIT :limit" for each in queries) for name, queries in _INTRINSIC.items()
}


@dataclass(slots=True)
class _Range:
    """Rows of one partition: spans in a time, and which of them to look at one by one."""

    since: int
    until: int
    whole: bool
    low: int
    high: int

    def bound(self, **more: Any) -> dict[str, Any]:
        return {
            "since": self.since, "until": self.until, "whole": self.whole, "low": self.low, "high": self.high, **more,
        }  # fmt: skip


@dataclass(slots=True)
class Values:
    """Distinct values, told apart by type as well: 1, 1.0 and true are equal in Python.

    Args:
        limit: how many at most.
    """

    limit: int
    found: dict[tuple[type, Any], None] = field(default_factory=dict)

    def add(self, value: Any) -> None:
        """A scalar, or the scalars of a list; others are no values that a query can name."""
        if isinstance(value, list):
            for item in value:
                self.add(item) if not isinstance(item, list) else None
        elif _is_literal(value) and len(self.found) < self.limit:
            self.found[type(value), value] = None

    @property
    def is_full(self) -> bool:
        """Whether no more are taken."""
        return len(self.found) >= self.limit

    def sorted(self) -> list[Any]:
        """By type, then by value."""
        return [value for _, value in sorted(self.found, key=lambda each: (each[0].__name__, each[1]))]


def _is_literal(value: Any) -> bool:
    """Whether a query can name it."""
    if isinstance(value, str):
        return 0 < len(value) <= LONGEST
    return isinstance(value, int) or (isinstance(value, float) and isfinite(value))


class TagReader:
    """Looks through the partitions of a directory, newest first."""

    def __init__(self, directory: Path, readers: Readers) -> None:
        self._directory = directory
        self._readers = readers

    def names(self, wanted: TagFilter, found: Found[Any]) -> dict[str, set[str]]:
        """Names of attributes by scope, of each at most `wanted.limit`."""
        names: dict[str, set[str]] = {scope: set() for scope in SCOPES if wanted.scope in (None, scope)}

        def visit(connection: Connection, rows: _Range) -> None:
            for scope, keys in names.items():
                for query in _NAMES[scope]:
                    if len(keys) < wanted.limit:
                        keys.update(_run(connection, query, rows.bound(limit=wanted.limit)).scalars())

        self._visit(wanted, found, visit)
        return names

    def values(self, wanted: TagFilter, found: Found[Any]) -> Values:
        """Values of one attribute, or of one of the `INTRINSICS` where the filter has no scope."""
        values = Values(wanted.limit)
        quoted = msgspec.json.encode(wanted.name).decode()

        def visit(connection: Connection, rows: _Range) -> None:
            bound = rows.bound(limit=wanted.limit, key=wanted.name, quoted=quoted)
            for query in _VALUES[wanted.scope or wanted.name]:
                for value, kind in _run(connection, query, bound) if not values.is_full else ():
                    values.add(_plain(value, kind))

        self._visit(wanted, found, visit)
        return values

    def _visit(self, wanted: TagFilter, found: Found[Any], visit: Callable[[Connection, _Range], None]) -> None:
        """Call for each partition with something of the time asked for; one that can't be read is passed over.

        Raises:
            QueryTimeout: the deadline passed.
        """
        until, room = self._readers.deadline(), SAMPLE
        for path in reversed(partition_files(self._directory)):
            try:
                with self._readers.connect(path, until) as connection:
                    rows = _range(connection, wanted, room)
                    if rows is not None:
                        room -= rows.high - rows.low
                        visit(connection, rows)
            except Unavailable as error:
                if path.exists():  # retention may have dropped it meanwhile
                    found.failures.append(str(error))


def _run(connection: Connection, query: str, bound: dict[str, Any]) -> Any:
    return connection.exec_driver_sql(query, bound)


def _range(connection: Connection, wanted: TagFilter, room: int) -> _Range | None:
    row = connection.exec_driver_sql("SELECT min_start, max_end FROM window").one_or_none()
    since, until = wanted.since_ns, wanted.until_ns
    if row is None or row[0] is None or row[0] >= until or row[1] < since:
        return None
    last = connection.exec_driver_sql("SELECT coalesce(max(id), 0) FROM spans").scalar_one()
    high = last if row[1] < until else min(last, _row_before(connection, until, last) + _UNORDERED)
    return _Range(since, until, since <= row[0] and row[1] < until, max(0, high - room), high)


def _row_before(connection: Connection, until: int, last: int) -> int:
    """The last row that began before a time, taking rows to be in order of time: they nearly are."""
    low, high = 0, last
    while low < high:
        middle = (low + high + 1) // 2
        start = connection.exec_driver_sql(
            "SELECT start FROM spans WHERE id >= ? ORDER BY id LIMIT 1", (middle,)
        ).scalar()
        low, high = (middle, high) if start is not None and start < until else (low, middle - 1)
    return low


def _plain(value: Any, kind: str) -> Any:
    if kind in ("true", "false"):
        return kind == "true"
    if kind == "array":
        return restored(msgspec.json.decode(value))
    return value if kind in ("text", "integer", "real") else None


# --- from views, for what is not in a database yet --------------------------------------------------------------------


def names_of(spans: Iterable[SpanView]) -> dict[str, set[str]]:
    """Names of the spans' attributes by scope."""
    names: dict[str, set[str]] = {scope: set() for scope in SCOPES}
    for span in spans:
        for scope in SCOPES:
            for attributes in _attributes(span, scope):
                names[scope].update(attributes)
    return names


def values_of(spans: Iterable[SpanView], wanted: TagFilter) -> Iterator[Any]:
    """Values of an attribute or intrinsic in some spans, as often as they stand."""
    for span in spans:
        if wanted.scope is None:
            yield from _intrinsic(span, wanted.name)
        else:
            yield from (restored(each[wanted.name]) for each in _attributes(span, wanted.scope) if wanted.name in each)


def _attributes(span: SpanView, scope: str) -> Iterator[Mapping[str, Any]]:
    if scope == "resource":
        yield span.resource
    elif scope == "instrumentation":
        yield span.scope.get("attributes") or {}
    elif scope == "span":
        yield span.attributes
    else:
        yield from (each["attributes"] for each in (span.events if scope == "event" else span.links))


def _intrinsic(span: SpanView, name: str) -> Iterator[Any]:
    is_root = span.parent_span_id is None
    if name == "event:name":
        yield from (event["name"] for event in span.events)
    elif name == "name" or (name == "rootName" and is_root):
        yield span.name
    elif name == "rootServiceName" and is_root:
        yield span.service
    elif name == "statusMessage":
        yield span.status_message
    elif name.startswith("instrumentation:"):
        yield span.scope.get(name.partition(":")[2])
