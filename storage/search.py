"""Candidate spans and whole traces, out of all partitions: what a query language evaluates.

Each page is a short read transaction of its own. The deadline is that of the whole question.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import Connection

from . import engine
from .conditions import NEVER, Condition, Where
from .errors import QueryTimeout, Unavailable
from .layout import BUCKET_SHIFT, newest_first, partition_files
from .reading import NARROW, Readers
from .tracing import StoredOperation, StoredSpan, kind_name

_CHUNK = 1 << BUCKET_SHIFT
"""Rows by number that are looked through at a time: some 10 ms."""
_PAGE = 2000
"""Candidates at a time."""
_MOST_KNOWN = 8
"""Partitions whose dictionaries are kept: some MB each at most."""
_SPARSE = 0.125
"""Share of a partition below which an index is better than looking through all rows: it costs some times more a row."""
_BY_OPERATION = "spans_operation"
_FROM_THE_END = ((1 << 63) - 1, (1 << 63) - 1)
_COLUMNS = "id, start, trace_id, span_id, parent_id, operation, attribute_set, duration, status, attributes, details"
Tally = tuple[int, int, int, int, int, float, int, bytes, int, int]
"""Number of the operation, status, number of the step, bucket, count, sum of the durations, least or longest of them,
and of one span that has this: trace id, span id, start."""
_from_json = msgspec.json.decode


class Numbered:
    """A partition's operations and attribute sets; rows are only ever added."""

    def __init__(self) -> None:
        self.operations: dict[int, StoredOperation] = {}
        self.sets: dict[int, Mapping[str, Any]] = {}
        self._origins: dict[int, tuple[str, Any, Any]] = {}

    def refresh(self, connection: Connection) -> None:
        """Take in what is new."""
        last = max(self._origins, default=0)
        run = connection.exec_driver_sql
        for number, service, resource, scope in run(
            "SELECT id, service, resource, scope FROM origins WHERE id > ?", (last,)
        ):
            self._origins[number] = (service, _from_json(resource), _from_json(scope))
        last = max(self.operations, default=0)
        for number, origin, name, kind in run("SELECT id, origin, name, kind FROM operations WHERE id > ?", (last,)):
            self.operations[number] = StoredOperation(name, kind_name(kind), *self._origins[origin])
        last = max(self.sets, default=0)
        for number, attributes in run("SELECT id, attributes FROM attribute_sets WHERE id > ?", (last,)):
            self.sets[number] = _from_json(attributes)

    def spans(self, rows: Collection[tuple[Any, ...]]) -> list[StoredSpan]:
        """Rows with the columns of `_COLUMNS`."""
        operations, sets = self.operations, self.sets
        return [
            StoredSpan(
                trace, span, parent, operations[operation], sets[shared] if shared else {},
                start, duration, status, own, details,
            )
            for _id, start, trace, span, parent, operation, shared, duration, status, own, details in rows
        ]  # fmt: skip


class Dictionaries:
    """The dictionaries of the partitions that were looked at last, for all queries of a process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[tuple[Path, tuple[int, int] | None], Numbered] = {}

    def of(self, path: Path, connection: Connection) -> Numbered:
        """A partition's, up to date with the connection's transaction."""
        key = (path, engine.identity(path))
        with self._lock:
            found = self._known.pop(key, None) or Numbered()
            self._known[key] = found
            if len(self._known) > _MOST_KNOWN:
                self._known.pop(next(iter(self._known)))
            found.refresh(connection)
        return found


class TraceReader:
    """Answers one question; made for it.

    Args:
        directory: `history/`.
        readers: connections.
        dictionaries: shared by all questions.
        until: the deadline (monotonic).
        pending: spans that only the journals have, because of a fault; None where there is none.
    """

    def __init__(
        self,
        directory: Path,
        readers: Readers,
        dictionaries: Dictionaries,
        until: float,
        pending: list[StoredSpan] | None,
    ) -> None:
        self._pending = pending
        self._directory = directory
        self._readers = readers
        self._dictionaries = dictionaries
        self._until = until
        self.failures: list[str] = []
        """Why partitions could not be read."""

    @property
    def degraded(self) -> bool:
        """Whether a fault keeps something from the answer, or made the journals answer."""
        return self._pending is not None or bool(self.failures)

    def pending(self, since_ns: int, until_ns: int) -> list[StoredSpan]:
        """The spans that began in a window and that only the journals have, because of a fault."""
        return [span for span in self._pending or () if since_ns <= span.start < until_ns]

    @property
    def until(self) -> float:
        """The deadline (monotonic)."""
        return self._until

    def check_deadline(self) -> None:
        """What takes long outside of SQL calls this now and then.

        Raises:
            QueryTimeout: the deadline passed.
        """
        if time.monotonic() > self._until:
            raise QueryTimeout(NARROW)

    def candidates(self, condition: Condition, since_ns: int, until_ns: int) -> Iterator[list[StoredSpan]]:
        """Pages of the spans that began in a window and for which a condition may hold, the newest first, roughly.

        Raises:
            QueryTimeout: the deadline passed.
        """
        pending = self.pending(since_ns, until_ns)
        if pending:
            yield pending
        for path in newest_first(self._directory):
            for numbered, rows in self._partition(path, condition, (since_ns, until_ns), _COLUMNS, _PAGE):
                yield numbered.spans(rows)

    def traces(self, trace_ids: Collection[bytes]) -> dict[bytes, list[StoredSpan]]:
        """All spans of some traces, by trace id, each by start.

        Raises:
            QueryTimeout: the deadline passed.
        """
        found: dict[bytes, list[StoredSpan]] = {trace_id: [] for trace_id in trace_ids}
        marks = ",".join("?" * len(found))

        def read(connection: Connection, numbered: Numbered) -> None:
            last = connection.exec_driver_sql("SELECT max(id) FROM spans").scalar() or 0
            buckets = ",".join(map(str, range((last >> BUCKET_SHIFT) + 1)))
            rows = _rows(
                connection,
                f"SELECT {_COLUMNS} FROM spans WHERE (id >> {BUCKET_SHIFT}) IN ({buckets}) AND trace_id IN ({marks})",
                tuple(found),
            )
            for span in numbered.spans(rows):
                found[span.trace_id].append(span)

        for path in partition_files(self._directory) if found else ():
            self._read(path, read)
        for span in self._pending or ():
            if span.trace_id in found and all(span.span_id != each.span_id for each in found[span.trace_id]):
                found[span.trace_id].append(span)
        for spans in found.values():
            spans.sort(key=lambda span: (span.start, -span.duration, span.span_id))
        return found

    def tallies(
        self, condition: Condition, since_ns: int, until_ns: int, steps: Steps
    ) -> Iterator[tuple[Numbered, list[Tally]]]:
        """The same spans counted, and in no order: what numbers operations, and counts.

        A group may come more than once. Spans that only the journals have are not among them: see `pending`.
        """
        for path in newest_first(self._directory):
            begun = self._read(
                path, lambda connection, numbered: _begin(connection, numbered, condition, since_ns, until_ns)
            )
            for selection in begun or ():
                statement, parameters = selection.tally(steps)
                found = self._read(path, partial(_tallied, statement, parameters))
                if found is not None:
                    yield found

    # --- one partition ---------------------------------------------------------------------------------------------

    def _partition(
        self, path: Path, condition: Condition, window: tuple[int, int], columns: str, most: int
    ) -> Iterator[tuple[Numbered, list[Any]]]:
        begun = self._read(path, lambda connection, numbered: _begin(connection, numbered, condition, *window))
        for selection in begun or ():
            before: tuple[int, int] | None = _FROM_THE_END
            while before is not None:
                numbered, rows = self._page(path, selection, columns, before, most)
                before = (rows[-1][1], rows[-1][0]) if len(rows) == most else None
                if rows:
                    yield numbered, rows

    def _page(
        self, path: Path, selection: Selection, columns: str, before: tuple[int, int], most: int
    ) -> tuple[Numbered, list[Any]]:
        """Rows before a place (start, number); fewer than `most` at the end."""
        statement, parameters = selection.statement(columns, before, most)

        def read(connection: Connection, numbered: Numbered) -> tuple[Numbered, list[Any]]:
            return numbered, _rows(connection, statement, parameters)

        return self._read(path, read) or (Numbered(), [])

    def _read(self, path: Path, read: Callable[[Connection, Numbered], Any]) -> Any:
        """In a short transaction; None where the partition can't be read."""
        try:
            with self._readers.connect(path, self._until) as connection:
                return read(connection, self._dictionaries.of(path, connection))
        except Unavailable as error:
            if path.exists():  # retention may have dropped it meanwhile
                self.failures.append(str(error))
            return None


@dataclass(frozen=True, slots=True)
class Selection:
    """Rows of a partition, by number within some bounds or by start through an index."""

    where: str
    parameters: tuple[Any, ...]
    index: str | None = None
    low: int = 0
    """Numbers from this to the next `_CHUNK`, where there is no index."""

    def statement(self, columns: str, before: tuple[int, int], most: int) -> tuple[str, tuple[Any, ...]]:
        """SQL for those before a place, the newest first."""
        if self.index is None:
            high = min(self.low + _CHUNK, before[1])
            rows = f"spans NOT INDEXED WHERE id >= {self.low} AND id < ? AND {self.where}"
            return f"SELECT {columns} FROM {rows} ORDER BY id DESC LIMIT ?", (high, *self.parameters, most)
        rows = f"spans INDEXED BY {self.index} WHERE {self.where} AND (start, id) < (?, ?)"
        return f"SELECT {columns} FROM {rows} ORDER BY start DESC, id DESC LIMIT ?", (*self.parameters, *before, most)

    def tally(self, steps: Steps) -> tuple[str, tuple[Any, ...]]:
        """SQL for all of them, counted."""
        source = "NOT INDEXED" if self.index is None else f"INDEXED BY {self.index}"
        bounds = f"id >= {self.low} AND id < {self.low + _CHUNK} AND " if self.index is None else ""
        bucket = _bucket(0, _LARGEST_BUCKET) if steps.bucketed else "0"
        # of the row that has the least or largest value SQLite takes the columns that are not aggregated
        statement = (
            f"SELECT operation, status, (start - {steps.first} + {steps.step - 1}) / {steps.step} AS place, "
            f"{bucket} AS bucket, count(*), total(duration), {'min' if steps.least else 'max'}(duration), "
            f"trace_id, span_id, start FROM spans {source} WHERE {bounds}{self.where} "
            "GROUP BY operation, status, place, bucket"
        )
        return statement, self.parameters


@dataclass(frozen=True, slots=True)
class Steps:
    """How spans are counted: number `n` of a step is of the starts in (first + (n - 1) * step, first + n * step]."""

    first: int
    step: int
    bucketed: bool = False
    """By duration, too: bucket `n` has those up to 2^n ns; -1 those of no length."""
    least: bool = False
    """Give the least duration; the longest otherwise."""


_LARGEST_BUCKET = 63


def _bucket(low: int, high: int) -> str:
    """SQL for the bucket of a duration, by halves."""
    if low == high:
        return str(low) if low else "CASE WHEN duration > 0 THEN 0 ELSE -1 END"
    middle = (low + high) // 2
    return f"CASE WHEN duration > {1 << middle} THEN {_bucket(middle + 1, high)} ELSE {_bucket(low, middle)} END"


def _tallied(
    statement: str, parameters: tuple[Any, ...], connection: Connection, numbered: Numbered
) -> tuple[Numbered, list[tuple[Any, ...]]]:
    return numbered, _rows(connection, statement, parameters)


def _rows(connection: Connection, statement: str, parameters: tuple[Any, ...]) -> list[tuple[Any, ...]]:
    """Plain tuples of the driver: for many rows half the time goes into SQLAlchemy's own."""
    raw: Any = connection.connection.driver_connection
    found: list[tuple[Any, ...]] = raw.execute(statement, parameters).fetchall()
    return found


def _begin(connection: Connection, numbered: Numbered, condition: Condition, since: int, until: int) -> list[Selection]:
    """What to select for a condition in a window, the newest first."""
    window: Any = connection.exec_driver_sql("SELECT min_start, max_end FROM window").first() or (None, None)
    first, end = window
    if first is None or first >= until or end < since:
        return []
    where = condition.where(numbered)
    if where.sql == NEVER:
        return []
    last = connection.exec_driver_sql("SELECT max(id) FROM spans").scalar() or 0
    share = (min(until, end) - max(since, first)) / max(1, end - first)
    index = _index(connection, where, share, last, (since, until))
    within = since <= first and end < until and index is None
    sql = where.sql if within else f"{where.sql} AND start >= ? AND start < ?"
    parameters = tuple(where.parameters) if within else (*where.parameters, since, until)
    if index is None:
        return [Selection(sql, parameters, None, low) for low in range(last // _CHUNK * _CHUNK, -1, -_CHUNK)]
    if index == _BY_OPERATION and where.operations is None:
        sql += " AND operation IN (SELECT id FROM operations)"
    return [Selection(sql, parameters, index)]


def _index(connection: Connection, where: Where, share: float, last: int, window: tuple[int, int]) -> str | None:
    """The index that leads to fewer rows than are worth looking through one after the other."""
    if where.index is not None:
        return where.index
    if where.operations is None:
        return _BY_OPERATION if share < _SPARSE else None
    enough = int(last * _SPARSE)
    count = connection.exec_driver_sql(
        f"SELECT count(*) FROM (SELECT 1 FROM spans INDEXED BY {_BY_OPERATION} WHERE operation IN "
        f"({','.join(map(str, where.operations))}) AND start >= ? AND start < ? LIMIT ?)",
        (*window, enough + 1),
    ).scalar()
    return _BY_OPERATION if count is not None and count <= enough else None
