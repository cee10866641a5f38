"""Traces that outlive their partition: those of open error groups, in a partition of their own (`layout.KEPT`).

It is never changed but replaced as a whole, while the partitions that the traces come from are dropped, so that no
reader meets a trace twice: the new file is made under a hidden name and says which partitions it stands for; they are
removed, and it gets its name. A crash in between is made good when the writer opens the history again.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from itertools import count
from pathlib import Path
from typing import Any

from . import engine
from .layout import BUCKET_SHIFT, KEPT
from .migrations import HISTORY as MIGRATIONS

_logger = logging.getLogger("tracekeep")
_NEXT = f".next-{KEPT}"
_MAX_SPANS = 5000
"""Of one trace; one that goes on for ever must not push out all others."""
_SPANS = (
    "SELECT s.*, o.name, o.kind, g.service, g.resource, g.scope, a.attributes FROM spans s "
    "JOIN operations o ON o.id = s.operation JOIN origins g ON g.id = o.origin "
    f"LEFT JOIN attribute_sets a ON a.id = s.attribute_set WHERE (s.id >> {BUCKET_SHIFT}) = ? AND s.trace_id = ? "
    "ORDER BY s.id LIMIT ?"
)
_ERRORS = "SELECT * FROM errors WHERE trace_id = ? ORDER BY id"
_TRACES = "SELECT trace_id FROM spans UNION SELECT trace_id FROM errors"


def swap(directory: Path, leaving: list[Path], wanted: list[bytes], limit: int) -> None:
    """Drop partitions but for some traces, and those of the kept traces that are no longer wanted.

    Where the traces can't be copied, as on a full disk, the partitions are dropped all the same.

    Args:
        directory: `history/`.
        leaving: partitions to be dropped.
        wanted: ids of the traces to be kept, the most important first.
        limit: bytes that they may take.

    Raises:
        sqlite3.Error, OSError: a file can't be removed or renamed.
    """
    finish_swap(directory)
    before, following = directory / KEPT, directory / _NEXT
    if not leaving and _traces(before) <= set(wanted):
        return
    try:
        _build(following, [*([before] if before.exists() else []), *leaving], leaving, (wanted, limit))
    except (sqlite3.Error, OSError) as error:
        _logger.warning("tracekeep: traces of open error groups could not be kept: %s", error)
        _remove(following)
        for path in leaving:
            engine.remove(path)
        return
    finish_swap(directory)


def finish_swap(directory: Path) -> None:
    """Put a new file of kept traces in the place of the partitions that it stands for, if there is one.

    Raises:
        sqlite3.Error, OSError: it can't be read, or a file can't be removed or renamed.
    """
    following = directory / _NEXT
    if not following.exists():
        return
    if any(log.exists() for log in _logs(following)):  # made half: what it was to stand for is still there
        _remove(following)
        return
    try:
        with closing(_connect(following)) as connection:
            names = [name for (name,) in connection.execute("SELECT partition FROM stands_for")]
            is_empty = connection.execute(f"SELECT 1 FROM ({_TRACES}) LIMIT 1").fetchone() is None
    except sqlite3.Error as error:
        if not engine.is_corruption(error) and "no such table" not in str(error):
            raise
        engine.set_aside(following)
        return
    for name in [*names, KEPT]:
        engine.remove(directory / name)  # with its logs, which SQLite would apply to the new file
    if is_empty:
        engine.remove(following)
    else:
        following.rename(directory / KEPT)


def _logs(path: Path) -> list[Path]:
    return [Path(f"{path}-wal"), Path(f"{path}-journal")]


def _remove(path: Path) -> None:
    engine.remove(path)
    for log in _logs(path):
        log.unlink(missing_ok=True)


def _traces(path: Path) -> set[bytes]:
    with suppress(sqlite3.Error), closing(_connect(path)) as connection:
        return {trace_id for (trace_id,) in connection.execute(_TRACES)}
    return set()


def _connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)


def _build(path: Path, sources: list[Path], leaving: list[Path], wanted: tuple[list[bytes], int]) -> None:
    """Make the new file. It says whom it stands for in the commit that has all traces, so it is whole or of no use."""
    traces, limit = wanted
    connection = engine.open_writer(path, "history", MIGRATIONS)
    try:
        with engine.transaction(connection):
            copier = _Copier(connection)
            opened = [source for source in map(_open, sources) if source is not None]
            try:
                for trace_id in traces:
                    if copier.size() >= limit:
                        break
                    copier.copy(trace_id, opened)
            finally:
                for source in opened:
                    source.close()
            copier.finish()
            connection.execute("CREATE TABLE stands_for ( partition TEXT NOT NULL )")
            connection.executemany("INSERT INTO stands_for VALUES (?)", [(path.name,) for path in leaving])
        connection.execute("PRAGMA journal_mode=DELETE")  # one file, which can be renamed
    finally:
        connection.close()


def _open(path: Path) -> sqlite3.Connection | None:
    """A partition to copy from; None where it can't be read, and nothing of it can be kept."""
    try:
        connection = _connect(path)
        connection.execute("SELECT max(id) FROM spans").fetchone()
    except sqlite3.Error:
        return None
    return connection


class _Copier:
    """Copies traces from partitions into one that numbers everything itself."""

    def __init__(self, target: sqlite3.Connection) -> None:
        self._target = target
        self._spans, self._errors = count(1), count(1)
        self._numbers: dict[tuple[Any, ...], int] = {}
        self._last_numbers: dict[str, int] = {}
        self._least: int | None = None
        self._last: int | None = None

    def size(self) -> int:
        """Bytes of the new file so far."""
        fetch = self._target.execute
        return int(fetch("PRAGMA page_count").fetchone()[0] * fetch("PRAGMA page_size").fetchone()[0])

    def copy(self, trace_id: bytes, sources: list[sqlite3.Connection]) -> None:
        """Copy a trace, and its errors, from all partitions; a span that two of them have only once."""
        seen: set[int] = set()
        for source in sources:
            try:
                spans = [row for row in _spans_of(source, trace_id) if row[2] not in seen]
                errors = source.execute(_ERRORS, (trace_id,)).fetchall()
            except sqlite3.Error:
                continue  # a partition that is broken there
            for row in spans[: max(0, _MAX_SPANS - len(seen))]:
                seen.add(row[2])
                self._copy_span(row)
            for row in errors:
                filled = (*row[1:], None, None)[:12]
                self._target.execute(f"INSERT INTO errors VALUES ({','.join('?' * 13)})", (next(self._errors), *filled))

    def _copy_span(self, row: tuple[Any, ...]) -> None:
        _, trace_id, span_id, parent_id, _, _, start, duration, status, own, details = row[:11]
        name, kind, service, resource, scope, shared = row[11:]
        origin = self._number("origins", (service, resource, scope))
        operation = self._number("operations", (origin, name, kind))
        attribute_set = self._number("attribute_sets", (shared,)) if shared is not None else None
        self._target.execute(
            f"INSERT INTO spans VALUES ({','.join('?' * 11)})",
            (next(self._spans), trace_id, span_id, parent_id, operation, attribute_set, start, duration, status, own,
             details),
        )  # fmt: skip
        self._least = min(start, start if self._least is None else self._least)
        self._last = max(start + duration, self._last or 0)

    def _number(self, table: str, content: tuple[Any, ...]) -> int:
        """The number of something in one of the dictionaries, which may be new to it."""
        key = (table, *content)
        number = self._numbers.get(key)
        if number is None:
            number = self._numbers[key] = self._last_numbers[table] = self._last_numbers.get(table, 0) + 1
            marks = ",".join("?" * (len(content) + 1))
            self._target.execute(f"INSERT INTO {table} VALUES ({marks})", (number, *content))
        return number

    def finish(self) -> None:
        """Say which times the file holds."""
        now = time.time_ns()
        self._target.execute("INSERT INTO window VALUES (1, ?, ?, ?, ?)", (now, now, self._least, self._last))


def _spans_of(source: sqlite3.Connection, trace_id: bytes) -> Iterator[tuple[Any, ...]]:
    last = source.execute("SELECT max(id) FROM spans").fetchone()[0]
    for bucket in range((last >> BUCKET_SHIFT) + 1) if last is not None else ():
        yield from source.execute(_SPANS, (bucket, trace_id, _MAX_SPANS))
