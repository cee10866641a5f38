"""How fast the writer stores: records/s from journal to SQLite, with all indexes, totals and rollups.

The records went through RetainingSpanProcessor. A fresh writer process gets them as the journal of a
process that lives but is silent, and is timed from opening the directory until all is committed.
The peer inserts the very rows of the history into the same tables and indexes with bare `executemany`,
in WAL mode, 4,000 to a transaction, with a checkpoint every 25: no decoding, no totals, no second
database. Both with the durability that is the default. Left out: what recording costs (`span_cost`),
and readers.
"""

import sqlite3
import time
from pathlib import Path
from statistics import median

from tracekeep.instrumentation import RetainingSpanProcessor
from tracekeep.storage import StoreSettings, open_store, partitions
from tracekeep.storage.intake import Dictionary, Intake
from tracekeep.storage.reader import JournalReader, Position
from tracekeep.storage.records import FrameType

from .results import Result, at_least
from .rounds import alternate
from .support import copied_journal, scratch, time_drain
from .traffic import provider, record_history, tracer_of, traffic

SPANS = 300_000
ROUNDS = 3
_BATCH = 4_000
_CHECKPOINT = 25
_BARE = "sqlite3.executemany of the same rows"
_INSERTS = {
    "origins": "INSERT INTO origins VALUES (?,?,?,?)",
    "operations": "INSERT INTO operations VALUES (?,?,?,?)",
    "sets": "INSERT INTO attribute_sets VALUES (?,?)",
    "spans": "INSERT INTO spans(trace_id, span_id, parent_id, operation, attribute_set, start, duration, status, "
    "attributes, details) VALUES (?,?,?,?,?,?,?,?,?,?)",
    "errors": "INSERT INTO errors VALUES (?,?,?,?,?,?,?,?,?,?,?)",
}

_Rows = dict[str, list[tuple]]


def run(spans: int, rounds: int) -> Result:
    with scratch() as directory:
        source = directory / "recorded"
        store = open_store(source, writer="none", journal_max_bytes=max(1 << 28, spans * 1024))
        record_history(tracer_of(provider(RetainingSpanProcessor(store))), traffic(spans))
        store.journal.close()
        batches = _read_rows(source / "journal" / store.journal.name)
        sides = {
            "ours": lambda: spans / _drain(source, store.journal.name, store.journal.sequence),
            _BARE: lambda: spans / _insert(batches),
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


def _drain(source: Path, journal: str, records: int) -> float:
    with scratch() as data_dir, copied_journal(source, data_dir, journal):
        seconds = time_drain(data_dir, journal, records)
        _expect_spans(data_dir, records)
    return seconds


def _expect_spans(data_dir: Path, wanted: int) -> None:
    stored = 0
    for path in partitions.partition_files(data_dir / "history"):
        connection = sqlite3.connect(path)
        stored += connection.execute("SELECT count(*) FROM spans").fetchone()[0]
        connection.close()
    if stored != wanted:
        raise RuntimeError(f"{stored} of {wanted} spans were stored")


def _read_rows(directory: Path) -> list[_Rows]:
    """What the history takes, in batches, made by the writer's own conversion."""
    reader, dictionary, batches = JournalReader(directory, Position()), Dictionary(), []
    while records := reader.read(_BATCH):
        intake = Intake()
        payloads = [payload for type_, _, payload in records if type_ == FrameType.SPAN]
        dictionary.take_spans(payloads, reader.origins, intake)
        rows = {name: getattr(intake, name) for name in _INSERTS}
        batches.append({**rows, "errors": [partitions._error_row(row) for row in intake.errors]})
    reader.release()
    return batches


def _insert(batches: list[_Rows]) -> float:
    with scratch() as directory:
        connection = partitions.History(directory, StoreSettings())._connection
        started = time.perf_counter()
        for number, batch in enumerate(batches, 1):
            connection.execute("BEGIN IMMEDIATE")
            for name, statement in _INSERTS.items():
                connection.executemany(statement, batch[name])
            connection.execute("COMMIT")
            if number % _CHECKPOINT == 0:
                connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
        seconds = time.perf_counter() - started
        connection.close()
    return seconds
