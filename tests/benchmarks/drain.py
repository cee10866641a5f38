"""How fast the writer stores: records/s from journal to SQLite, with all indexes, totals and rollups.

The records went through RetainingSpanProcessor. A fresh writer process gets them as the journal of a
process that lives but is silent, and is timed from opening the directory until all is committed.
The peer inserts the very rows of the history into the same tables and indexes with bare `executemany`,
in WAL mode, as many to a transaction as the writer, with a checkpoint every 100,000: no decoding, no totals, no second
database. Both with the durability that is the default. Left out: what recording costs (`span_cost`),
and readers.
"""

import sqlite3
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from tracekeep.instrumentation import RetainingSpanProcessor
from tracekeep.storage import open_store
from tracekeep.storage.partitions import partition_files
from tracekeep.storage.writer import BATCH_RECORDS

from .results import Result, at_least
from .rounds import alternate
from .support import copied_journal, scratch, time_drain
from .traffic import provider, record_history, tracer_of, traffic

SPANS = 300_000
ROUNDS = 3
_CHECKPOINT = 100_000 // BATCH_RECORDS
_BARE = "sqlite3.executemany of the same rows"
_PRAGMAS = ("journal_mode=WAL", "synchronous=NORMAL", "wal_autocheckpoint=0", "cache_size=-16000")  # the writer's


@dataclass(frozen=True, slots=True)
class _History:
    """What a drained partition holds."""

    schema: list[str]
    rows: dict[str, list[tuple]]


def run(spans: int, rounds: int) -> Result:
    with scratch() as directory:
        source = directory / "recorded"
        store = open_store(source, writer="none", journal_max_bytes=max(1 << 28, spans * 1024))
        record_history(tracer_of(provider(RetainingSpanProcessor(store))), traffic(spans))
        store.journal.close()
        history = _drain(source, store.journal.name, store.journal.sequence)[1]
        sides = {
            "ours": lambda: spans / _drain(source, store.journal.name, store.journal.sequence)[0],
            _BARE: lambda: spans / _insert(history),
        }
        figures = alternate(sides, rounds)
    ours, bare = median(figures["ours"]), median(figures[_BARE])
    return Result(
        name="drain",
        unit="records/s",
        ours=ours,
        peers={_BARE: bare},
        limit=0.5 * bare,
        goals=[at_least(f"at least 0.5 of {_BARE}", ours / bare, 0.5)],
        extra={"ours, best round": max(figures["ours"]), "executemany, best round": max(figures[_BARE])},
    )


def _drain(source: Path, journal: str, records: int) -> tuple[float, _History]:
    """Seconds, and what has been stored."""
    with scratch() as data_dir, copied_journal(source, data_dir, journal):
        seconds = time_drain(data_dir, journal, records)
        (path,) = partition_files(data_dir / "history")
        history = _read(path)
    if (stored := len(history.rows["spans"])) != records:
        raise RuntimeError(f"{stored} of {records} spans were stored")
    return seconds, history


def _read(path: Path) -> _History:
    connection = sqlite3.connect(path)
    named = connection.execute("SELECT name, type, sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
    tables = [name for name, kind, _ in named if kind == "table"]
    rows = {name: connection.execute(f"SELECT * FROM {name}").fetchall() for name in tables}
    connection.close()
    return _History([sql for _, _, sql in named], rows)


def _insert(history: _History) -> float:
    """Seconds to insert everything: the small tables at first, then the spans."""
    with scratch() as directory:
        connection = sqlite3.connect(directory / "bare.db", isolation_level=None)
        for statement in [*(f"PRAGMA {pragma}" for pragma in _PRAGMAS), *history.schema]:
            connection.execute(statement)
        spans = history.rows["spans"]
        batches = [{name: rows for name, rows in history.rows.items() if name != "spans"}]
        batches += [{"spans": spans[start : start + BATCH_RECORDS]} for start in range(0, len(spans), BATCH_RECORDS)]
        started = time.perf_counter()
        for number, batch in enumerate(batches, 1):
            _insert_batch(connection, batch)
            if number % _CHECKPOINT == 0:
                connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
        seconds = time.perf_counter() - started
        connection.close()
    return seconds


def _insert_batch(connection: sqlite3.Connection, batch: dict[str, list[tuple]]) -> None:
    connection.execute("BEGIN IMMEDIATE")
    for table, rows in batch.items():
        if rows:
            connection.executemany(f"INSERT INTO {table} VALUES ({','.join('?' * len(rows[0]))})", rows)
    connection.execute("COMMIT")
