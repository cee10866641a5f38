"""History from the writer's side: the current partition, and the files of those before it."""

from __future__ import annotations

import sqlite3
import time
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Any

import msgspec

from . import engine
from .exceptions import ErrorRow
from .intake import Dictionary, Intake
from .kept import finish_swap, swap
from .layout import BUCKET_SHIFT, own_partitions, partition_files
from .migrations import HISTORY as MIGRATIONS
from .reader import Position
from .records import SpanKind
from .settings import StoreSettings

_ROWS_A_STATEMENT = (500, 50)
"""Each statement gives the interpreter away and takes it back, which in a busy app may take 5 ms: many rows at
once made its writer several times faster than a row at a time, and cost nothing on an idle one."""

_SPAN = "(?,?,?,?,?,?,?,?,?,?)"
_INSERT_SPAN = (
    "INSERT INTO spans(trace_id, span_id, parent_id, operation, attribute_set, start, duration, status, "
    "attributes, details) VALUES "
)
_INSERT_SPANS = {rows: _INSERT_SPAN + ",".join([_SPAN] * rows) for rows in _ROWS_A_STATEMENT}
_SETTLING = 60_000_000_000  # ns in which a request whose error is stored may still end
_RECENT_ERRORS = "SELECT * FROM (SELECT * FROM errors WHERE time > ? ORDER BY id DESC LIMIT 4096) ORDER BY id"
_HAS_TRACE = f"SELECT 1 FROM spans WHERE (id >> {BUCKET_SHIFT}) = ? AND trace_id = ? LIMIT 1"
_REQUEST = (
    "SELECT o.name, s.status, a.attributes, s.attributes FROM spans s JOIN operations o ON o.id = s.operation "
    f"LEFT JOIN attribute_sets a ON a.id = s.attribute_set WHERE (s.id >> {BUCKET_SHIFT}) = ? AND s.trace_id = ? "
    f"AND o.kind = {int(SpanKind.SERVER)} ORDER BY s.id DESC LIMIT 1"
)
_LOOK_BACK = 4  # buckets of the trace index
_INSERT_ERROR = "INSERT INTO errors VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)"
_UPDATE_ERROR = "UPDATE errors SET operational=?, trace_id=?, span_id=?, operation=?, attributes=? WHERE id=?"


class History(engine.OwnFile):
    """The writing side of the partitions.

    Args:
        directory: `history/`; it is made where it is missing.

    Raises:
        ForeignFileError, sqlite3.Error, OSError: the current partition can't be opened.
    """

    def __init__(self, directory: Path, settings: StoreSettings) -> None:
        self.directory = directory
        self._settings = settings
        self.marks: dict[str, Position] = {}
        self._opened_at: dict[tuple[Path, tuple[int, int] | None], int] = {}
        finish_swap(directory)
        files = own_partitions(directory)
        self.path = files[-1] if files else self._fresh_path()
        self._open()
        self._bring_up(partition_files(directory))

    def _open(self) -> None:
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._connection = engine.open_writer(self.path, "history", MIGRATIONS)
        try:
            self.identity = engine.identity(self.path)
            self._load()
        except BaseException:
            engine.abandon(self._connection)
            raise

    def _bring_up(self, files: list[Path]) -> None:
        """Give partitions of older versions the newest schema; what can't be opened is left to those who read it."""
        for path in files:
            with suppress(Exception):
                if path != self.path and (engine.read_header(path) or (0, 0))[1] <= len(MIGRATIONS):
                    engine.open_writer(path, "history", MIGRATIONS).close()

    def _load(self) -> None:
        fetch = self._connection.execute
        row = fetch("SELECT opened FROM window").fetchone()
        self.opened = row[0] if row else time.time_ns()
        if row is None:
            with engine.transaction(self._connection):
                fetch("INSERT INTO window VALUES (1, ?, ?, NULL, NULL)", (self.opened, self.opened))
                self._write_marks(self.marks)
        marks = {j: Position(s, o, q) for j, s, o, q in fetch("SELECT journal, segment, offset, sequence FROM marks")}
        self.marks = {**self.marks, **marks}
        tables = ("origins", "operations", "attribute_sets", "errors")
        last = [fetch(f"SELECT coalesce(max(id), 0) FROM {table}").fetchone()[0] for table in tables]
        self.dictionary = Dictionary(
            last_origin=last[0],
            last_operation=last[1],
            last_set=last[2],
            last_error=last[3],
            dimensions=self._settings.span_metric_dimensions,
        )
        for row in fetch(_RECENT_ERRORS, (time.time_ns() - _SETTLING,)).fetchall():
            self.dictionary.errors.remember(error_of(row))

    def _fresh_path(self) -> Path:
        name = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        files = own_partitions(self.directory)
        if files and files[-1].stem >= name:  # within the second, or the clock went back: stay last in order
            base, _, count = files[-1].stem.partition("-")
            name = f"{base}-{int(count or 0) + 1:04d}"
        return self.directory / f"{name}.db"

    # --- writing ---------------------------------------------------------------------------------------------------

    def apply(self, intake: Intake, marks: dict[str, Position]) -> None:
        """Commit a batch's rows and the marks that they bring.

        Raises:
            sqlite3.Error, OSError: nothing has changed.
        """
        if marks and all(self.marks.get(name) == position for name, position in marks.items()):
            return  # committed before an error elsewhere made the writer come back with the same batch
        if self._has(marks):
            self.marks.update(marks)
            return
        with engine.transaction(self._connection) as connection:
            self._write(connection, intake)
            self._write_marks(marks)
        self.marks.update(marks)
        for row in intake.errors:
            row.is_new = False

    def _has(self, marks: dict[str, Position]) -> bool:
        """Whether a commit that seemed to fail went through after all."""
        for name, position in marks.items():
            row = self._connection.execute("SELECT sequence FROM marks WHERE journal=?", (name,)).fetchone()
            return row is not None and row[0] >= position.sequence > self.marks.get(name, Position()).sequence
        return False

    def _write(self, connection: sqlite3.Connection, intake: Intake) -> None:
        many = connection.executemany
        many("INSERT INTO origins VALUES (?,?,?,?)", intake.origins)
        many("INSERT INTO operations VALUES (?,?,?,?)", intake.operations)
        many("INSERT INTO attribute_sets VALUES (?,?)", intake.sets)
        insert_spans(connection, intake.spans)
        many(_INSERT_ERROR, [_error_row(row) for row in intake.errors])
        many(_UPDATE_ERROR, [_error_change(row) for row in intake.changed_errors])
        if intake.spans:
            connection.execute(
                "UPDATE window SET changed=:now, min_start=min(coalesce(min_start, :low), :low), "
                "max_end=max(coalesce(max_end, :high), :high)",
                {"now": time.time_ns(), "low": intake.min_start, "high": intake.max_end},
            )

    def _write_marks(self, marks: dict[str, Position]) -> None:
        self._connection.executemany(
            "INSERT OR REPLACE INTO marks(journal, segment, offset, sequence) VALUES (?,?,?,?)",
            [(name, p.segment, p.offset, p.sequence) for name, p in marks.items()],
        )

    def forget(self, journals: list[str]) -> None:
        """Drop the marks of journals that have been removed."""
        for name in journals:
            self.marks.pop(name, None)
        with engine.transaction(self._connection) as connection:
            connection.executemany("DELETE FROM marks WHERE journal=?", [(name,) for name in journals])

    # --- from partition to partition ---------------------------------------------------------------------------------

    def is_full(self, now_ns: int) -> bool:
        """Whether a new partition is due, by time or size."""
        if now_ns - self.opened >= self._settings.partition_seconds * 1e9:
            return True
        try:
            return self.path.stat().st_size >= self._settings.partition_bytes
        except OSError:
            return False

    def roll(self) -> None:
        """Close the current partition for good and begin the next.

        Raises:
            sqlite3.Error, OSError: it can't be made; the current one stays in use.
        """
        before, path, recent = self._connection, self.path, self.dictionary.errors
        self.path = self._fresh_path()
        try:
            self._open()
        except BaseException:
            self._connection, self.path = before, path
            raise
        self.dictionary.errors.inherit(recent)
        with suppress(sqlite3.Error):  # a reader is in it: it stays in WAL mode, which is as good
            before.execute("PRAGMA journal_mode=DELETE")
        engine.abandon(before)

    def renew(self, *, broken: bool) -> None:
        """Leave a file that is broken or gone and begin a new partition.

        Raises:
            sqlite3.Error, OSError: it can't be made yet.
        """
        self.leave(broken=broken)
        self.path = self._fresh_path()
        self._open()

    # --- commands and retention ---------------------------------------------------------------------------------------

    def clear_errors(self, until_ns: int) -> int:
        """Delete the errors up to a time from all partitions; how many.

        What can't be opened is left as it is: no query shows it any more.
        """
        cleared = self._delete_errors(self._connection, until_ns)
        for path in partition_files(self.directory):
            if path != self.path:
                with suppress(Exception):
                    connection = engine.open_writer(path, "history", MIGRATIONS)
                    try:
                        cleared += self._delete_errors(connection, until_ns)
                    finally:
                        engine.abandon(connection)
        for rows in self.dictionary.errors.by_trace.values():
            rows[:] = [row for row in rows if row.time > until_ns]
        return cleared

    @staticmethod
    def _delete_errors(connection: sqlite3.Connection, until_ns: int) -> int:
        with engine.transaction(connection):
            return connection.execute("DELETE FROM errors WHERE time <= ?", (until_ns,)).rowcount

    def present(self) -> dict[Path, int]:
        """When each partition was opened, of those that can be read: by this others say in which one something is."""
        known, self._opened_at = self._opened_at, {}
        for path in partition_files(self.directory):
            key = (path, engine.identity(path))
            opened = self.opened if path == self.path else known.get(key) or _opened(path)
            if opened:
                self._opened_at[key] = opened
        return {path: opened for (path, _identity), opened in self._opened_at.items()}

    def holds(self, trace_id: bytes) -> bool:
        """Whether the current partition has a span of a trace among its newest million.

        Raises:
            sqlite3.Error: it can't be read.
        """
        fetch = self._connection.execute
        newest = (fetch("SELECT max(id) FROM spans").fetchone()[0] or 0) >> BUCKET_SHIFT
        return any(
            fetch(_HAS_TRACE, (bucket, trace_id)).fetchone()
            for bucket in range(newest, max(-1, newest - _LOOK_BACK), -1)
        )

    def request_of(self, trace_id: bytes) -> tuple[str, dict[str, Any], int] | None:
        """Name, attributes and status of the newest request in a trace, where the current partition has it.

        Raises:
            sqlite3.Error: it can't be read.
        """
        fetch = self._connection.execute
        newest = (fetch("SELECT max(id) FROM spans").fetchone()[0] or 0) >> BUCKET_SHIFT
        for bucket in range(newest, max(-1, newest - _LOOK_BACK), -1):
            row = fetch(_REQUEST, (bucket, trace_id)).fetchone()
            if row is not None:
                name, status, shared, own = row
                attributes = {**msgspec.json.decode(shared or "{}"), **msgspec.json.decode(own or "{}")}
                return name, attributes, status
        return None

    def expired(self, now_ns: int) -> list[Path]:
        """Partitions that retention drops, oldest first; never the current one."""
        older = [path for path in own_partitions(self.directory) if path != self.path]
        total = sum(_size(path) for path in [*older, self.path])
        drop = []
        for path in older:
            too_old = now_ns - _last_change(path) > self._settings.history_max_age * 1e9
            if total > self._settings.history_max_bytes or too_old:
                drop.append(path)
                total -= _size(path)
        return drop

    def drop(self, leaving: list[Path], wanted: list[bytes]) -> None:
        """Drop partitions, but for the traces of theirs that are wanted; and the kept ones that no longer are.

        Args:
            leaving: what retention drops.
            wanted: ids of traces, the most important first: some may not fit.

        Raises:
            OSError: they can't be dropped.
        """
        swap(self.directory, leaving, wanted, self._settings.kept_max_bytes)


def insert_spans(connection: sqlite3.Connection, rows: list[tuple[Any, ...]]) -> None:
    """Insert span rows, many to a statement."""
    done = 0
    for size, statement in _INSERT_SPANS.items():
        for start in range(done, len(rows) - size + 1, size):
            connection.execute(statement, list(chain.from_iterable(rows[start : start + size])))
            done = start + size
    connection.executemany(_INSERT_SPAN + _SPAN, rows[done:])


def error_of(row: tuple[Any, ...]) -> ErrorRow:
    """An error as a partition has it, in the order of the columns; release and group are empty where it lacks them."""
    id_, time_ns, service, type_, message, stacktrace, operational, trace_id, span_id, operation = row[:10]
    attributes, release, group = (*row[10:], None, None)[:3]
    return ErrorRow(
        id=id_,
        time=time_ns,
        service=service,
        type=type_,
        message=message,
        stacktrace=stacktrace,
        operational=bool(operational),
        trace_id=trace_id,
        span_id=span_id & (1 << 64) - 1,
        operation=operation,
        attributes=msgspec.json.decode(attributes),
        release=release or "",
        group=group or "",
        is_new=False,
    )


def _error_row(row: ErrorRow) -> tuple[Any, ...]:
    return (
        row.id, row.time, row.service, row.type, row.message, row.stacktrace, int(row.operational), row.trace_id,
        _signed(row.span_id), row.operation, msgspec.json.encode(row.attributes).decode(), row.release, row.group,
    )  # fmt: skip


def _error_change(row: ErrorRow) -> tuple[Any, ...]:
    attributes = msgspec.json.encode(row.attributes).decode()
    return int(row.operational), row.trace_id, _signed(row.span_id), row.operation, attributes, row.id


def _signed(span_id: int) -> int:
    return span_id if span_id < 1 << 63 else span_id - (1 << 64)


def _size(path: Path) -> int:
    total = 0
    for suffix in ("", "-wal"):
        with suppress(OSError):
            total += Path(f"{path}{suffix}").stat().st_size
    return total


def _opened(path: Path) -> int:
    """When a partition was opened; 0 where it does not say."""
    with suppress(Exception):
        connection = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)
        try:
            return int(connection.execute("SELECT opened FROM window").fetchone()[0])
        finally:
            connection.close()
    return 0


def _last_change(path: Path) -> int:
    """When the last record arrived in a partition: the file's own word, or else the file system's."""
    with suppress(Exception):
        connection = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)
        try:
            return int(connection.execute("SELECT changed FROM window").fetchone()[0])
        finally:
            connection.close()
    with suppress(OSError):
        return path.stat().st_mtime_ns
    return 0
