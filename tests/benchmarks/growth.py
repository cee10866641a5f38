"""Whether storing slows down as the history grows: records/s with N retained spans over records/s when empty.

One data directory is filled with `--spans` records (10,000,000 takes minutes); then fresh writer
processes drain equal amounts into it and into empty ones, in turn, each timed from opening the
directory until all is committed. Partitions have their default size; only the size limit of the
history is lifted, so that all N stay. The records are journaled without the SDK, which would take
most of the time; the writer can't tell the difference. Left out: readers, and a cold page cache.
"""

import sqlite3
from pathlib import Path
from statistics import median

from tracekeep.storage import Store, open_store
from tracekeep.storage.partitions import partition_files

from .results import Result, at_least
from .rounds import alternate
from .support import GIB, Drainer, Refill, scratch, time_drain, wait_applied
from .traffic import traffic

SPANS = 1_000_000
ROUNDS = 3
_PIECE = 100_000
_SETTINGS = {"history_max_bytes": 64 * GIB}


def run(spans: int, rounds: int) -> Result:
    with scratch() as directory:
        grown = open_store(directory / "grown", writer="none")
        refill = Refill(grown, traffic(5_000))
        _fill(grown, refill, spans)
        sides = {"grown": lambda: _rate(grown, refill), "empty": _rate_when_empty}
        figures = alternate(sides, rounds)
        retained = _count(grown.data_dir / "history")
        grown.close()
    full, empty = median(figures["grown"]), median(figures["empty"])
    return Result(
        name="growth",
        unit=f"records/s with {spans:,} spans retained",
        ours=full,
        peers={"ours, when empty": empty},
        limit=0.9 * empty,
        goals=[at_least("at least 0.9 of the rate when empty", full / empty, 0.9)],
        extra={
            "spans retained": retained,
            "partitions": len(partition_files(directory / "grown" / "history")) or 1,
        },
    )


def _fill(store: Store, refill: Refill, spans: int) -> None:
    """In pieces that the journal's limit has room for."""
    with Drainer(store.data_dir, **_SETTINGS) as drainer:
        drainer.go()
        for start in range(0, spans, _PIECE):
            refill(min(_PIECE, spans - start))
            wait_applied(store.data_dir, store.journal.name, store.journal.sequence - _PIECE)
        wait_applied(store.data_dir, store.journal.name, store.journal.sequence)


def _rate(store: Store, refill: Refill) -> float:
    refill(_PIECE)
    return _PIECE / time_drain(store.data_dir, store.journal.name, store.journal.sequence, **_SETTINGS)


def _rate_when_empty() -> float:
    with scratch() as data_dir:
        store = open_store(data_dir, writer="none")
        rate = _rate(store, Refill(store, traffic(5_000)))
        store.close()
    return rate


def _count(history: Path) -> int:
    total = 0
    for path in partition_files(history):
        connection = sqlite3.connect(path)
        total += connection.execute("SELECT count(*) FROM spans").fetchone()[0]
        connection.close()
    return total
