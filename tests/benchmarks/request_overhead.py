"""What a request pays: µs added to a Starlette app by a full span, metrics and durability, against peers.

One JSON route with a path parameter, called in process with ten usual headers; no server, no socket.
Every side has fresh processes, in turn, and in each of them rounds of the instrumented and of the
bare app alternate. CPU time of the process is counted, so the threads that export are in the figure.
Ours: `instrument()`, `writer="none"`, and a writer process beside it that makes metrics of the spans
and stores both; its work is not in the figure. `embedded` has that work in the process, done to the
end. The OpenTelemetry sides record and encode as they would for OTLP, and send nothing; the first has
the middleware's defaults, which make two more spans a request. logfire has the same exporter and reader.
Left out: scraping, the network, and waiting for the interpreter.
"""

from statistics import median

from .results import Result, at_most
from .rounds import alternate, in_child
from .support import Drainer, scratch

SPANS = 400  # requests a round
ROUNDS = 3
_METRICS_ONLY = ("prometheus-fastapi-instrumentator", "starlette_exporter")
_OTEL = "OpenTelemetry ASGI"
_OTEL_LEAN = "OpenTelemetry ASGI without send and receive spans"
_PEERS = (*_METRICS_ONLY, _OTEL, _OTEL_LEAN, "logfire")


def run(spans: int, rounds: int) -> Result:
    sides = {side: lambda side=side: in_child("request_sides", side, spans) for side in _PEERS}
    sides |= {"ours": lambda: _ours(spans), "embedded": lambda: _embedded(spans)}
    figures = {side: [found["added"] for found in children] for side, children in alternate(sides, rounds).items()}
    cost = {side: median(values) for side, values in figures.items()}
    ours, cheapest = cost["ours"], min(cost[side] for side in _METRICS_ONLY)
    return Result(
        name="request_overhead",
        unit="µs added to a request",
        ours=ours,
        peers={side: cost[side] for side in _PEERS},
        limit=min(1.2 * cheapest, cost[_OTEL] / 6),
        goals=[
            at_most("at most 1.2 of the cheapest that keeps metrics only", ours / cheapest, 1.2),
            at_most("at most 1/6 of OpenTelemetry ASGI", ours / cost[_OTEL], round(1 / 6, 3)),
        ],
        extra={"embedded": cost["embedded"], "ours, best process": min(figures["ours"])},
    )


def _ours(requests: int) -> dict[str, float]:
    with scratch() as data_dir, Drainer(data_dir) as drainer:
        drainer.go()
        return in_child("request_sides", "ours", requests, data_dir)


def _embedded(requests: int) -> dict[str, float]:
    with scratch() as data_dir:
        return in_child("request_sides", "embedded", requests, data_dir)
