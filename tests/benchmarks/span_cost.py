"""What our processor adds to a span: µs over the bare SDK, start to end, 10 attributes, one thread.

Counted is the CPU time of the process with all its threads, so that the export by BatchSpanProcessor's
worker is in the figure, and what else the machine does is not. Every round ends with nothing owed.
Ours journals the span; a writer in another process stores it at the same time, and its work is not
in the figure: that is how a service runs beside `tracekeep serve`. `embedded` has the writer as a
thread of the measured process and waits until it has committed, so all that storing takes is in it.
BatchSpanProcessor has a queue too long to drop anything. Left out: the network, and waiting for the
interpreter, which the wall times in parentheses have.
"""

import json
import sys
import time
from collections.abc import Callable
from statistics import median

from opentelemetry.sdk.trace import SpanProcessor

from tracekeep.instrumentation import RetainingSpanProcessor
from tracekeep.storage import open_store

from .exporters import Discard, Encode, batching
from .results import Result, at_most
from .rounds import Figures, added, alternate, in_child
from .support import Drainer, scratch
from .traffic import provider, record, tracer_of, traffic

SPANS = 2_000
ROUNDS = 60
_FEW_ROUNDS = 12
_NOOP = "BatchSpanProcessor, exporter that does nothing"
_OTLP = "BatchSpanProcessor, OTLP encoding"


def run(spans: int, rounds: int) -> Result:
    few = min(rounds, _FEW_ROUNDS)
    with scratch() as data_dir, Drainer(data_dir) as drainer:
        drainer.go()
        store = open_store(data_dir, writer="none")
        ours = _side(spans, RetainingSpanProcessor(store), flush=False)
        cost, wall = _compare({"ours": ours, _NOOP: _side(spans, batching(Discard()))}, spans, rounds)
        store.close()
    otlp, _ = _compare({_OTLP: _side(spans, batching(Encode()))}, spans, few)
    ratio = cost["ours"] / cost[_NOOP]
    return Result(
        name="span_cost",
        unit="µs added to a span",
        ours=cost["ours"],
        peers={_NOOP: cost[_NOOP], **otlp},
        limit=0.8 * cost[_NOOP],
        goals=[at_most(f"at most 0.8 of {_NOOP}", ratio, 0.8)],
        extra={
            **in_child("span_cost", spans, few),
            "ours, wall time": wall["ours"],
            "exporter that does nothing, wall time": wall[_NOOP],
        },
    )


def _compare(
    sides: dict[str, Callable[[], tuple[float, float]]], spans: int, rounds: int
) -> tuple[dict[str, float], dict[str, float]]:
    """What each side adds to a bare span: CPU time, wall time."""
    sides = {"bare": _side(spans), **sides}
    alternate(sides, 3)  # caches, first segments, the interpreter's own specialisation
    figures = alternate(sides, rounds)
    cpu, wall = ({name: [pair[clock] for pair in pairs] for name, pairs in figures.items()} for clock in (0, 1))
    return _added(cpu), _added(wall)


def _added(figures: Figures) -> dict[str, float]:
    return {name: median(added(values, figures["bare"])) for name, values in figures.items() if name != "bare"}


def _side(
    spans: int, processor: SpanProcessor | None = None, *, flush: bool = True
) -> Callable[[], tuple[float, float]]:
    """Microseconds of CPU and of wall time a span, what is owed afterwards included."""
    tracer, requests = tracer_of(provider(*([processor] if processor else []))), traffic(spans)

    def once() -> tuple[float, float]:
        cpu, wall = time.process_time(), time.perf_counter()
        record(tracer, requests)
        if flush and processor:
            processor.force_flush()
        return (time.process_time() - cpu) / spans * 1e6, (time.perf_counter() - wall) / spans * 1e6

    return once


def main() -> None:
    """The embedded writer, in a process of its own: it would disturb the other sides."""
    spans, rounds = int(sys.argv[1]), int(sys.argv[2])
    with scratch() as data_dir:
        store = open_store(data_dir, writer="thread")
        cost, _ = _compare({"embedded": _side(spans, RetainingSpanProcessor(store))}, spans, rounds)
        store.close()
    print(json.dumps(cost))


if __name__ == "__main__":
    main()
