"""Candidate spans and whole traces, out of all partitions: what a query language evaluates.

Each page is a short read transaction of its own. The deadline is that of the whole question.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import Connection

from . import engine
from .conditions import NEVER, Condition, Where
from .errors import QueryTimeout, Unavailable
from .layout import BUCKET_SHIFT, partition_files
from .reading import NARROW, Readers
from .tracing import StoredOperation, StoredSpan, kind_name

_CHUNK = 1 << BUCKET_SHIFT
"""Rows by number that are looked through at a time: some 10 ms."""
_PAGE = 2000
"""Candidates at a time."""
_MOST_KNOWN = 8
"""Partitions whose dictionaries are kept: some MB each at most."""
_SPARSE = 0.25
"""Share of a partition's time below which an index is better than looking through all rows."""
_FROM_THE_END = ((1 << 63) - 1, (1 << 63) - 1)
_COLUMNS = "id, trace_id, span_id, parent_id, operation, attribute_set, start, duration, status, attributes, details"
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
            for _id, trace, span, parent, operation, shared, start, duration, status, own, details in rows
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
        pending = [span for span in self._pending or () if since_ns <= span.start < until_ns]
        if pending:
            yield pending
        for path in reversed(partition_files(self._directory)):
            yield from self._partition(path, condition, since_ns, until_ns)

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
            rows = connection.exec_driver_sql(
                f"SELECT {_COLUMNS} FROM spans WHERE (id >> {BUCKET_SHIFT}) IN ({buckets}) AND trace_id IN ({marks})",
                tuple(found),
            ).fetchall()
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

    # --- one partition ---------------------------------------------------------------------------------------------

    def _partition(self, path: Path, condition: Condition, since: int, until: int) -> Iterator[list[StoredSpan]]:
        begun = self._read(path, lambda connection, numbered: _begin(connection, numbered, condition, since, until))
        if begun is None:
            return
        where, before, share = begun
        for statement, parameters in _statements(where, before, share, since, until):
            place: tuple[int, int] | None = _FROM_THE_END
            while place is not None:
                page, place = self._page(path, statement, parameters, place)
                if page:
                    yield page

    def _page(
        self, path: Path, statement: str, parameters: list[Any], place: tuple[int, int]
    ) -> tuple[list[StoredSpan], tuple[int, int] | None]:
        """A page, and where the next one begins; None at the end."""

        def read(connection: Connection, numbered: Numbered) -> tuple[list[StoredSpan], tuple[int, int] | None]:
            rows = connection.exec_driver_sql(statement, (*parameters, *place, _PAGE)).fetchall()
            more = (rows[-1].start, rows[-1].id) if len(rows) == _PAGE else None
            return numbered.spans(rows), more

        return self._read(path, read) or ([], None)

    def _read(self, path: Path, read: Callable[[Connection, Numbered], Any]) -> Any:
        """In a short transaction; None where the partition can't be read."""
        try:
            with self._readers.connect(path, self._until) as connection:
                return read(connection, self._dictionaries.of(path, connection))
        except Unavailable as error:
            if path.exists():  # retention may have dropped it meanwhile
                self.failures.append(str(error))
            return None


def _begin(
    connection: Connection, numbered: Numbered, condition: Condition, since: int, until: int
) -> tuple[Where, int, float] | None:
    """The condition here, the number after the last row, and the share of the partition's time that is asked for."""
    window = connection.exec_driver_sql("SELECT min_start, max_end FROM window").first()
    if window is None or window[0] is None or window[0] >= until or window[1] < since:
        return None
    where = condition.where(numbered)
    if where.sql == NEVER:
        return None
    last = connection.exec_driver_sql("SELECT max(id) FROM spans").scalar() or 0
    asked = min(until, window[1]) - max(since, window[0])
    return where, last + 1, asked / max(1, window[1] - window[0])


def _statements(where: Where, before: int, share: float, since: int, until: int) -> Iterator[tuple[str, list[Any]]]:
    """Statements with which to find all rows, page by page, the newest first."""
    parameters = [*where.parameters, since, until]
    through = None
    if where.index is not None:
        through = where.index
    elif where.operations is not None or share < _SPARSE:
        through = "spans_operation"
    if through is not None:
        named = through == "spans_operation" and where.operations is None
        source = f"spans INDEXED BY {through} WHERE {where.sql}"
        source += " AND operation IN (SELECT id FROM operations)" if named else ""
        yield (
            f"SELECT {_COLUMNS} FROM {source} AND start >= ? AND start < ? "
            "AND (start, id) < (?, ?) ORDER BY start DESC, id DESC LIMIT ?",
            parameters,
        )
        return
    for low in range((before - 1) // _CHUNK * _CHUNK, -1, -_CHUNK):
        yield (
            f"SELECT {_COLUMNS} FROM spans NOT INDEXED WHERE {where.sql} AND start >= ? AND start < ? "
            f"AND id >= {low} AND id < {low + _CHUNK} AND ? > 0 AND id < ? ORDER BY id DESC LIMIT ?",
            parameters,
        )
