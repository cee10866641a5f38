"""How long the history's questions take, in ms, with N spans of the last seven days, while the writer stores more.

The spans are spread evenly over the days and over about a partition for each, as retention leaves them; another process
holds the writer's role, and a third one journals 4,000 spans/s for it. Asked is the store, in this process, by one
thread: traces by their ids (some of which nobody has recorded), pages of 50 spans of the last hour by service, name,
kind, status, duration and attribute, TraceQL searches on an attribute, and the summary of performance in the last hour.
Each goal is about the wall's clock: the 99th percentile for traces, the 95th for the others; the CPU time of the same
percentile is told beside it, as a busy machine changes it less. Left out: HTTP and JSON, and a cold page cache.
"""

import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tracekeep.exporter import traceql
from tracekeep.storage import Store, open_store
from tracekeep.storage.partitions import partition_files

from .results import Result, at_most
from .rounds import ROOT
from .support import GIB, MIB, Drainer, Refill, scratch, wait_applied
from .traffic import traffic

SPANS = 1_000_000
ROUNDS = 300
_DAYS = 7
_HOUR = 3600 * 10**9
_PIECE = 100_000
_RATE = 4_000  # spans a second while questions are asked
_SPAN_BYTES = 230  # on disk, to cut partitions by
_SEARCHES = {
    "service": {"service": "shop"},
    "name": {"name": "POST /api/v1/orders"},
    "name and status": {"name": "GET /api/v1/orders/{id}", "status": "error"},
    "status": {"status": "error"},
    "duration": {"min_duration_ns": 200_000_000},
    "service, kind and duration": {"service": "shop", "kind": "server", "min_duration_ns": 500_000_000},
    "attribute": {"attributes": {"http.response.status_code": "404"}},
    "nothing found": {"service": "shop", "attributes": {"client.port": "1"}},
}


_TRACEQL = ("{ span.http.response.status_code = 404 }", "{ span.client.port = 1 }")


@dataclass(frozen=True, slots=True)
class _Times:
    """Sorted ms of one kind of question."""

    wall: list[float]
    cpu: list[float]

    def at(self, percent: int) -> tuple[float, float]:
        return tuple(each[min(len(each) - 1, len(each) * percent // 100)] for each in (self.wall, self.cpu))


def run(spans: int, rounds: int) -> Result:
    with scratch() as data_dir:
        store = open_store(data_dir, writer="none")
        settings = {
            "history_max_bytes": 64 * GIB,
            "partition_bytes": max(MIB, spans * _SPAN_BYTES // _DAYS),
        }
        with Drainer(data_dir, **settings) as drainer:
            drainer.go()
            _fill(store, spans)
            with _busy(data_dir):
                times = _ask(store, rounds)
        retained = len(partition_files(data_dir / "history"))
        store.close()
    return _result(spans, times, retained)


def _result(spans: int, times: dict[str, _Times], partitions: int) -> Result:
    searches = _together([each for name, each in times.items() if name.startswith("search")])
    trace, search, summary = times["trace by id"].at(99), searches.at(95), times["summary, last hour"].at(95)
    queries = _together([each for name, each in times.items() if name.startswith("TraceQL")]).at(95)
    return Result(
        name="query",
        unit=f"ms, 99th percentile of a trace by id in {spans:,} spans",
        ours=trace[0],
        peers={},
        limit=5,
        goals=[
            at_most("trace by id, 99th percentile", trace[0], 5),
            at_most("filtered search of the last hour, 95th percentile", search[0], 100),
            at_most("performance summary of the last hour, 95th percentile", summary[0], 20),
            at_most("TraceQL search on an attribute over the last hour, 95th percentile", queries[0], 300),
        ],
        extra={
            "trace by id, CPU": trace[1],
            "search, CPU": search[1],
            "summary, CPU": summary[1],
            "TraceQL, CPU": queries[1],
            **{f"{name}, 95th": each.at(95)[0] for name, each in times.items()},
            "partitions": partitions,
        },
    )


def _fill(store: Store, spans: int) -> None:
    """In pieces that the journal's limit has room for; the last span ends now."""
    refill, step = Refill(store, traffic(5_000)), _DAYS * 24 * _HOUR // spans
    for left in range(spans, 0, -_PIECE):
        count = min(_PIECE, left)
        refill(count, until=time.time_ns() - (left - count) * step, step=step)
        wait_applied(store.data_dir, store.journal.name, store.journal.sequence - _PIECE)
    wait_applied(store.data_dir, store.journal.name, store.journal.sequence)


@contextmanager
def _busy(data_dir: Path) -> Iterator[None]:
    """Somebody else records, all the time."""
    command = [sys.executable, "-m", "tests.benchmarks.query_load", str(data_dir), str(_RATE)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as load:
        load.stdout.readline()
        load.stdin.write("go\n")
        load.stdin.flush()
        time.sleep(0.5)  # so that the writer is at it
        try:
            yield
        finally:
            load.stdin.close()


def _ask(store: Store, rounds: int) -> dict[str, _Times]:
    chance = random.Random(3)
    known = _some_traces(store, chance)
    ids = [chance.choice(known) if chance.random() < 0.9 else chance.randbytes(16).hex() for _ in range(rounds)]
    questions: dict[str, list[Callable[[], object]]] = {
        "trace by id": [lambda trace_id=trace_id: store.trace(trace_id) for trace_id in ids]
    }

    def last_hour(filters: dict[str, object]) -> object:
        return store.spans(since_ns=time.time_ns() - _HOUR, **filters)

    for name, filters in _SEARCHES.items():
        questions[f"search by {name}"] = [partial(last_hour, filters)] * max(10, rounds // 15)

    def summary(hours: int) -> object:
        now = time.time_ns()
        return store.performance(since_ns=now - hours * _HOUR, until_ns=now)

    def in_traceql(query: traceql.Query) -> object:
        now = time.time_ns()
        return traceql.search(store, query, since_ns=now - _HOUR, until_ns=now, limit=20, spans_per_set=3)

    for text in _TRACEQL:
        parsed = traceql.parse(text)
        questions[f"TraceQL {text}"] = [lambda parsed=parsed: in_traceql(parsed)] * max(10, rounds // 15)

    questions["summary, last hour"] = [lambda: summary(1)] * max(10, rounds // 6)
    questions["summary, seven days"] = [lambda: summary(_DAYS * 24)] * 3
    return {name: _timed(each) for name, each in questions.items()}


def _some_traces(store: Store, chance: random.Random) -> list[str]:
    """Ids out of all the days."""
    found = []
    for day in range(_DAYS):
        until = time.time_ns() - day * 24 * _HOUR - chance.randrange(12) * _HOUR
        found += [span.trace_id for span in store.spans(until_ns=until, since_ns=until - _HOUR, limit=200).items]
    return found


def _timed(questions: list[Callable[[], object]]) -> _Times:
    """After one that isn't counted: connections are made with the first."""
    questions[0]()
    wall, cpu = [], []
    for question in questions:
        began, busy = time.perf_counter(), time.thread_time()
        question()
        cpu.append((time.thread_time() - busy) * 1e3)
        wall.append((time.perf_counter() - began) * 1e3)
    return _Times(sorted(wall), sorted(cpu))


def _together(times: list[_Times]) -> _Times:
    return _Times(sorted(t for each in times for t in each.wall), sorted(t for each in times for t in each.cpu))
