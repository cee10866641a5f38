"""What our processor adds to a span: µs over the bare SDK, start to end, 10 attributes, one thread.

Ours journals the span; a writer in another process stores it at the same time, and its work is not
in the figure: that is how a service runs beside `tracekeep serve`. `embedded` has the writer as a
thread of the measured process and waits until it has committed, so all that storing takes is in it.
Of BatchSpanProcessor both the loop and the export that its worker still owes are timed, with a queue
too long to drop anything. Left out: the network, and what other threads of an app suffer.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median

from opentelemetry.sdk.trace import SpanProcessor

from tracekeep.instrumentation import RetainingSpanProcessor
from tracekeep.storage import open_store

from .results import Result, at_most
from .support import (
    Discard,
    Drainer,
    Encode,
    added,
    alternate,
    batching,
    in_child,
    provider,
    record,
    scratch,
    timed,
    tracer_of,
    traffic,
)

SPANS = 2_000
ROUNDS = 60
_EMBEDDED_ROUNDS = 20
_NOOP = "BatchSpanProcessor, exporter that does nothing"
_OTLP = "BatchSpanProcessor, OTLP encoding"


def run(spans: int, rounds: int) -> Result:
    with scratch() as data_dir, Drainer(data_dir) as drainer:
        drainer.go()
        store = open_store(data_dir, writer="none")
        sides = {
            "bare": _side(spans),
            "ours": _side(spans, RetainingSpanProcessor(store), flush=False),
            _NOOP: _side(spans, batching(Discard())),
            _OTLP: _side(spans, batching(Encode())),
        }
        alternate(sides, 3)  # caches, first segments, the interpreter's own specialisation
        figures = alternate(sides, rounds)
        store.close()
    cost = {name: added(values, figures["bare"]) for name, values in figures.items()}
    ours, noop, otlp = (median(cost[name]) for name in ("ours", _NOOP, _OTLP))
    embedded = in_child("span_cost", spans, min(rounds, _EMBEDDED_ROUNDS))["embedded"]
    return Result(
        name="span_cost",
        unit="µs added to a span",
        ours=ours,
        peers={_NOOP: noop, _OTLP: otlp},
        limit=0.8 * noop,
        goals=[at_most(f"at most 0.8 of {_NOOP}", ours / noop, 0.8)],
        extra={
            "embedded": embedded,
            "bare span": median(figures["bare"]),
            "ours, best round": min(figures["ours"]) - min(figures["bare"]),
            "exporter that does nothing, best round": min(figures[_NOOP]) - min(figures["bare"]),
        },
    )


def _side(spans: int, processor: SpanProcessor | None = None, *, flush: bool = True) -> Callable[[], float]:
    """Microseconds a span of one round; with what is owed afterwards where that is work of the same process."""
    made = provider(*(() if processor is None else (processor,)))
    tracer, requests = tracer_of(made), traffic(spans)

    def once() -> None:
        record(tracer, requests)
        if flush and processor is not None:
            processor.force_flush()

    return lambda: timed(once) / spans * 1e6


def _embedded(spans: int, rounds: int, data_dir: Path) -> float:
    store = open_store(data_dir, writer="thread")
    sides = {"bare": _side(spans), "embedded": _side(spans, RetainingSpanProcessor(store))}
    alternate(sides, 3)
    figures = alternate(sides, rounds)
    store.close()
    return median(added(figures["embedded"], figures["bare"]))


def main() -> None:
    with scratch() as data_dir:
        print(json.dumps({"embedded": _embedded(int(sys.argv[1]), int(sys.argv[2]), data_dir)}))


if __name__ == "__main__":
    main()
