"""The worst that a span's end meets: p99 of `on_end` alone, in µs, while the process drains a backlog itself.

The writer is a thread of the measured process and has more to store than the round lasts; the
measured thread ends spans without a pause. Every call is timed on its own, so waits for the
interpreter that fall into one are in it. BatchSpanProcessor's worker encodes OTLP meanwhile, from a
queue too long to drop anything. Each round is a fresh process. Left out: what the writer takes from
the application between the calls (`span_cost` has it as `embedded`).
"""

import json
import sys
import time
from pathlib import Path
from statistics import median, quantiles

from opentelemetry.sdk.trace import SpanProcessor

from tracekeep.instrumentation import RetainingSpanProcessor
from tracekeep.storage import open_store
from tracekeep.storage.state import read_state

from .exporters import Encode, batching
from .results import Result, at_most
from .rounds import alternate, in_child
from .support import Refill, applied, copied_journal, scratch
from .traffic import provider, record, tracer_of, traffic

SPANS = 20_000
ROUNDS = 5
_BACKLOG = 250_000
_OTLP = "BatchSpanProcessor, OTLP encoding"


def run(spans: int, rounds: int) -> Result:
    with scratch() as directory:
        store = open_store(directory / "backlog", writer="none")
        Refill(store, traffic(5_000))(_BACKLOG)
        store.journal.close()
        sides = {
            "ours": lambda: _ours(directory, store.journal.name, spans),
            _OTLP: lambda: in_child("span_cost_busy", "otlp", spans),
        }
        figures = alternate(sides, rounds)
    figure = {
        side: {key: median(found[key] for found in rounds_of) for key in rounds_of[0]}
        for side, rounds_of in figures.items()
    }
    ours, otlp = figure["ours"], figure[_OTLP]
    return Result(
        name="span_cost_busy",
        unit="µs, p99 of on_end",
        ours=ours["p99"],
        peers={_OTLP: otlp["p99"]},
        limit=100,
        goals=[at_most("p99 below 100 µs while the writer drains in the same process", ours["p99"], 100)],
        extra={
            "ours, median": ours["p50"],
            "ours, p99.9": ours["p999"],
            "OTLP encoding, median": otlp["p50"],
            "OTLP encoding, p99.9": otlp["p999"],
            "records stored a second meanwhile": ours["drained"],
        },
    )


def _ours(directory: Path, backlog: str, spans: int) -> dict[str, float]:
    with scratch() as data_dir, copied_journal(directory / "backlog", data_dir, backlog):
        return in_child("span_cost_busy", "ours", spans, data_dir, backlog)


class _Timed(SpanProcessor):
    """Times `on_end` of another processor."""

    def __init__(self, inner: SpanProcessor) -> None:
        self._on_end = inner.on_end
        self.times: list[int] = []

    def on_end(self, span):
        started = time.perf_counter_ns()
        self._on_end(span)
        self.times.append(time.perf_counter_ns() - started)


def _measure(processor: SpanProcessor, spans: int) -> dict[str, float]:
    watch = _Timed(processor)
    record(tracer_of(provider(watch)), traffic(spans))
    cuts = quantiles(watch.times, n=1000)
    return {"p50": cuts[499] / 1000, "p99": cuts[989] / 1000, "p999": cuts[998] / 1000}


def _measure_ours(spans: int, data_dir: Path, backlog: str) -> dict[str, float]:
    store = open_store(data_dir, writer="thread")
    processor = RetainingSpanProcessor(store)
    while not applied(data_dir, backlog):
        time.sleep(0.01)
    started, before = time.monotonic(), _stored(data_dir)
    found = _measure(processor, spans)
    after, seconds = _stored(data_dir), time.monotonic() - started
    if applied(data_dir, backlog) == _BACKLOG:
        raise RuntimeError(
            f"all {_BACKLOG} waiting records were drained before the round had ended: ask for fewer spans"
        )
    store.close(0.1)
    return {**found, "drained": (after - before) / seconds}


def _stored(data_dir: Path) -> int:
    """Records of all journals: the writer takes turns between the backlog and what the round records."""
    return sum(read_state(data_dir / "writer.state").marks.values())


def main() -> None:
    side, spans = sys.argv[1], int(sys.argv[2])
    if side == "ours":
        found = _measure_ours(spans, Path(sys.argv[3]), sys.argv[4])
    else:
        found = _measure(batching(Encode()), spans)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
