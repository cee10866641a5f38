"""What a scrape costs: ms from asking to the bytes of the page, for 1,000 series of a histogram with 20 lines each.

Between two scrapes every series has new observations, the worst case; what it costs where a tenth or none of them has
is told beside it. Ours: `Store.totals()` and the text of all of them, from a store that has them committed, writer
and reader in one process. With one worker the peer is prometheus_client's `generate_latest`; with four, which record
in processes of their own, its multiprocess mode over the files that they write. Pages are parsed and compared: equal
samples. Left out on both sides: compression (told apart), HTTP, and what recording costs; on ours the writer's work.
"""

import asyncio
import os
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

os.environ["PROMETHEUS_DISABLE_CREATED_SERIES"] = "true"  # 20 lines on both sides

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.parser import text_string_to_metric_families

from tracekeep.exporter import create_app
from tracekeep.exporter.exposition import Renderer
from tracekeep.exporter.negotiation import Exposition

from .results import Result, at_most
from .rounds import ROOT, alternate
from .scrape_load import NAME, Ours, Theirs
from .support import scratch

SPANS = 1_000  # series
ROUNDS = 7
_WORKERS = 4
_STEPS = {"all": 1, "a tenth": 10, "none": 0}
_LAG_SERIES = 10_000
_SETTLE_SECONDS = 0.1  # after which what a commit leaves behind for the writer has been done
_TICK = 0.001
_ONE, _FOUR = "generate_latest", f"MultiProcessCollector, {_WORKERS} workers"
Add = Callable[[int, int], None]


def run(spans: int, rounds: int) -> Result:
    with scratch() as directory:
        one = _one_worker(directory / "one", spans, rounds)
        four = _four_workers(directory / "four", spans, rounds)
        lag, idle = asyncio.run(_lag(directory / "lag", _LAG_SERIES))
    ours, ours_four = one["ours, all"], four["ours, all"]
    return Result(
        name="scrape",
        unit=f"ms a scrape of {spans:,} histogram series",
        ours=ours,
        peers={_ONE: one["peer"], _FOUR: four["peer"]},
        limit=min(one["peer"], four["peer"]) / 20,
        goals=[
            at_most(f"at most 1/20 of {_ONE}, every series changed", ours / one["peer"], 0.05),
            at_most(f"at most 1/20 of {_FOUR}, every series changed", ours_four / four["peer"], 0.05),
        ],
        extra={
            "a tenth of the series changed": one["ours, a tenth"],
            "none changed": one["ours, none"],
            f"{_WORKERS} workers, every series changed": ours_four,
            f"{_WORKERS} workers, none changed": four["ours, none"],
            "of ours: reading totals": one["totals"],
            "gzip of the page": one["gzip"],
            "KiB of the page": one["KiB"],
            f"longest lag of an event loop, {_LAG_SERIES:,} series changed": lag,
            "the same without a scrape": idle,
        },
    )


class _Reader:
    """Scrapes a store, one page after the other."""

    def __init__(self, store) -> None:
        self._store = store
        self._renderer = Renderer(Exposition())
        self.read_ms = 0.0
        self.chunks: list[bytes] = []

    def __call__(self) -> float:
        """Milliseconds."""
        started = time.perf_counter()
        totals = self._store.totals()
        read = time.perf_counter()
        self.chunks = self._renderer.render(totals.families)
        ended = time.perf_counter()
        self.read_ms = (read - started) * 1000
        return (ended - started) * 1000


def _one_worker(data_dir: Path, series: int, rounds: int) -> dict[str, float]:
    ours, theirs = Ours(data_dir, series), Theirs(series)
    found = _compare(
        ours.store, lambda step, turn: (ours.add(step, turn), theirs.add(step, turn)), theirs.registry, rounds
    )
    ours.store.close()
    return found


def _four_workers(directory: Path, series: int, rounds: int) -> dict[str, float]:
    files = directory / "prometheus"
    files.mkdir(parents=True)
    registry = CollectorRegistry()
    MultiProcessCollector(registry, str(files))
    reader = Ours(directory / "ours", series)
    with _workers("ours", directory / "ours", series) as ours, _workers("theirs", files, series) as theirs:
        found = _compare(reader.store, lambda step, turn: (ours(step, turn), theirs(step, turn)), registry, rounds)
    reader.store.close()
    return found


def _compare(store, add: Add, registry: CollectorRegistry, rounds: int) -> dict[str, float]:
    """Medians of all sides; each scrape after observations of its own."""
    reader, turns = _Reader(store), iter(range(1_000_000))
    add(1, next(turns))
    reader()
    read: list[float] = []

    def scraped(step: int) -> float:
        add(step, next(turns))
        time.sleep(_SETTLE_SECONDS)
        milliseconds = reader()
        if step == 1:
            read.append(reader.read_ms)
        return milliseconds

    def peer() -> float:
        add(1, next(turns))
        time.sleep(_SETTLE_SECONDS)
        started = time.perf_counter()
        generate_latest(registry)
        return (time.perf_counter() - started) * 1000

    sides = {f"ours, {name}": (lambda step=step: scraped(step)) for name, step in _STEPS.items()}
    figures = alternate({**sides, "peer": peer}, rounds)
    reader()
    page = b"".join(reader.chunks)
    if _samples(page) != _samples(generate_latest(registry)):
        raise RuntimeError("the pages tell different things")
    found = {name: median(times) for name, times in figures.items()}
    return found | {"totals": median(read), "gzip": _gzip(page), "KiB": len(page) / 1024}


def _samples(page: bytes) -> dict[tuple[str, ...], float]:
    """The histogram's; a process has samples of its own besides."""
    families = text_string_to_metric_families(page.decode())
    return {
        (sample.name, *map(str, sorted(sample.labels.items()))): sample.value
        for family in families
        if family.name == NAME
        for sample in family.samples
    }


def _gzip(page: bytes) -> float:
    started = time.perf_counter()
    compressor = zlib.compressobj(1, zlib.DEFLATED, 31)
    compressor.compress(page)
    compressor.flush()
    return (time.perf_counter() - started) * 1000


@contextmanager
def _workers(side: str, directory: Path, series: int) -> Iterator[Add]:
    """Processes that observe when they are told to."""
    command = [sys.executable, "-m", "tests.benchmarks.scrape_load", side, str(directory), str(series)]
    processes = [
        subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(_WORKERS)
    ]

    def add(step: int, turn: int) -> None:
        for number, process in enumerate(processes):
            process.stdin.write(f"{step} {turn * _WORKERS + number}\n")
            process.stdin.flush()
        for process in processes:
            if process.stdout.readline() != "done\n":
                raise RuntimeError(f"a worker of {side} ended")

    try:
        for process in processes:
            process.stdout.readline()
        yield add
    finally:
        for process in processes:
            process.stdin.close()
            process.wait()
            process.stdout.close()


async def _lag(data_dir: Path, series: int) -> tuple[float, float]:
    """Longest time (ms) that an event loop was late while its app answered a scrape; and while it did nothing."""
    load = Ours(data_dir, series)
    app = create_app(load.store)
    load.add(1, 0)
    await _scrape(app)
    lags = []
    for turn in range(3):
        await asyncio.to_thread(load.add, 1, turn + 1)
        lags.append(await _latest(_scrape(app)))
    idle = await _latest(asyncio.sleep(0.5))
    load.store.close()
    return median(lags), idle


async def _latest(work) -> float:
    """The most (ms) that a tick was late while something was awaited."""
    task, latest = asyncio.ensure_future(work), 0.0
    while not task.done():
        started = time.perf_counter()
        await asyncio.sleep(_TICK)
        latest = max(latest, time.perf_counter() - started - _TICK)
    await task
    return latest * 1000


async def _scrape(app) -> int:
    """The size of the page, gzipped as Prometheus asks for it."""
    sizes = []

    async def send(message) -> None:
        sizes.append(len(message.get("body", b"")))
        if message.get("status", 200) != 200:
            raise RuntimeError(f"the scrape was answered with {message['status']}")
        await asyncio.sleep(0)

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    scope = {
        "type": "http", "method": "GET", "path": "/metrics", "raw_path": b"/metrics", "query_string": b"",
        "root_path": "", "headers": [(b"accept-encoding", b"gzip")], "http_version": "1.1", "scheme": "http",
        "server": ("127.0.0.1", 80), "client": ("127.0.0.1", 1), "asgi": {"version": "3.0"},
    }  # fmt: skip
    await app(scope, receive, send)
    return sum(sizes)
