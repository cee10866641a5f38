"""Memory: MiB of RSS that instrumenting adds to an app, and MiB of RSS of the writer with a backlog.

App: a Starlette app that has recorded 100,000 spans, with `instrument()` and a writer elsewhere,
against the same app with the SDK alone. RSS counts the mapped pages of the journal too, though they
belong to the page cache: those of the segment in use and of the next one. Writer: a process of its
own; the highest RSS that it has while it drains 1,000,000 waiting records, its imports included.
Series: a process that is the writer and answers scrapes, with 10,000 histogram series of 17 buckets.
Left out: the page cache of SQLite's files, which is nobody's RSS.
"""

import time
from concurrent.futures import ThreadPoolExecutor
from statistics import median

import psutil

from tracekeep.storage import open_store

from .results import Result, at_most
from .rounds import in_child
from .support import GIB, MIB, Drainer, Refill, applied, scratch
from .traffic import traffic

SPANS = 1_000_000
ROUNDS = 3
_SAMPLE_SECONDS = 0.02


def run(spans: int, rounds: int) -> Result:
    pairs = [_both_apps() for _ in range(rounds)]
    added = {key: median(ours[key] - bare[key] for bare, ours in pairs) for key in ("rss", "shared")}
    writer = _writer(spans)
    return Result(
        name="memory",
        unit="MiB of RSS added to an app",
        ours=added["rss"],
        peers={},
        limit=30,
        goals=[
            at_most("at most 30 MiB added to an app", added["rss"], 30),
            at_most(f"at most 150 MiB in the writer while {spans:,} records wait", writer, 150),
        ],
        extra={
            "10,000 histogram series, kept by the writer, read and rendered in one process": _series(),
            "of it mapped files: journal, libraries": added["shared"],
            "the app with the SDK alone": median(bare["rss"] for bare, _ in pairs),
            "writer": writer,
        },
    )


def _both_apps() -> list[dict[str, float]]:
    """Both sides at the same time: memory doesn't mind."""
    with scratch() as data_dir, ThreadPoolExecutor() as pool:
        return list(pool.map(lambda side: in_child("memory_app", side, data_dir), ("bare", "ours")))


def _series() -> float:
    with scratch() as data_dir:
        return in_child("memory_series", data_dir)["added"]


def _writer(records: int) -> float:
    with scratch() as data_dir:
        store = open_store(data_dir, writer="none", journal_max_bytes=max(GIB, records * 1024))
        Refill(store, traffic(5_000))(records)
        with Drainer(data_dir) as drainer:
            process, highest = psutil.Process(drainer.pid), 0
            drainer.go()
            while applied(data_dir, store.journal.name) < store.journal.sequence:
                highest = max(highest, process.memory_info().rss)
                time.sleep(_SAMPLE_SECONDS)
        store.close()
    return highest / MIB
