"""One side of `request_overhead`: `python -m tests.benchmarks.request_sides SIDE REQUESTS [DATA_DIR]`.

A side is an app, and what its threads still owe after a round. Imports stand inside the sides: each
process has only what it measures.
"""

import asyncio
import json
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from statistics import median

from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

from .rounds import added, alternate

_ROUNDS = 10
_WARM_UP = 3
_HEADERS = [
    (b"host", b"shop.example.com"),
    (b"user-agent", b"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0"),
    (b"accept", b"application/json"),
    (b"accept-encoding", b"gzip, deflate, br"),
    (b"accept-language", b"en"),
    (b"connection", b"keep-alive"),
    (b"cookie", b"session=0123456789abcdef"),
    (b"referer", b"https://shop.example.com/"),
    (b"x-request-id", b"5f0c9d3e"),
    (b"cache-control", b"no-cache"),
]

_Side = tuple[Callable, Callable[[], object]]


def _nothing() -> None:
    """Nothing is owed."""


def _app() -> Starlette:
    async def item(request):
        return JSONResponse({"item": request.path_params["item"]})

    return Starlette(routes=[Route("/items/{item}", item)])


def ours(data_dir: str, writer: str = "none") -> _Side:
    from opentelemetry import trace

    from tracekeep.instrumentation import instrument

    app = instrument(_app(), data_dir=data_dir, service_name="shop", writer=writer)
    return app, _nothing if writer == "none" else trace.get_tracer_provider().force_flush


def embedded(data_dir: str) -> _Side:
    return ours(data_dir, writer="thread")


def prometheus_fastapi_instrumentator() -> _Side:
    from prometheus_fastapi_instrumentator import Instrumentator

    app = _app()
    Instrumentator().instrument(app)
    return app, _nothing


def starlette_exporter() -> _Side:
    from starlette_exporter import PrometheusMiddleware

    app = _app()
    app.add_middleware(PrometheusMiddleware)
    return app, _nothing


def opentelemetry_asgi(**options: object) -> _Side:
    os.environ["OTEL_SEMCONV_STABILITY_OPT_IN"] = "http"
    from opentelemetry.exporter.prometheus import PrometheusMetricReader
    from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
    from opentelemetry.sdk.metrics import MeterProvider

    from .exporters import Encode, batching
    from .traffic import provider

    tracing = provider(batching(Encode()))
    metrics = MeterProvider(metric_readers=[PrometheusMetricReader()])
    app = OpenTelemetryMiddleware(_app(), tracer_provider=tracing, meter_provider=metrics, **options)
    return app, tracing.force_flush


def opentelemetry_asgi_lean() -> _Side:
    return opentelemetry_asgi(exclude_spans=["send", "receive"])


def logfire() -> _Side:
    os.environ["OTEL_SEMCONV_STABILITY_OPT_IN"] = "http"
    import logfire
    from opentelemetry import trace
    from opentelemetry.exporter.prometheus import PrometheusMetricReader

    from .exporters import Encode, batching

    logfire.configure(
        send_to_logfire=False,
        console=False,
        inspect_arguments=False,
        service_name="shop",
        additional_span_processors=[batching(Encode())],
        metrics=logfire.MetricsOptions(additional_readers=[PrometheusMetricReader()]),
    )
    return logfire.instrument_asgi(_app()), trace.get_tracer_provider().force_flush


SIDES = {
    "ours": ours,
    "embedded": embedded,
    "prometheus-fastapi-instrumentator": prometheus_fastapi_instrumentator,
    "starlette_exporter": starlette_exporter,
    "OpenTelemetry ASGI": opentelemetry_asgi,
    "OpenTelemetry ASGI without send and receive spans": opentelemetry_asgi_lean,
    "logfire": logfire,
}


def _scope(number: int) -> dict:
    path = f"/items/{number}"
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "server": ("127.0.0.1", 8000),
        "client": ("10.0.0.7", 32_768 + number),
        "root_path": "",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": list(_HEADERS),
        "state": {},
    }


async def _receive():
    return {"type": "http.request", "body": b"", "more_body": False}


async def _send(message):
    if message["type"] == "http.response.start" and message["status"] != 200:
        raise RuntimeError(f"answered {message['status']}")


async def _drive(app: Callable, requests: int) -> None:
    for number in range(requests):
        await app(_scope(number), _receive, _send)


def _round(side: _Side, loop: asyncio.Runner, requests: int) -> float:
    """Microseconds of CPU a request, what is owed afterwards included."""
    app, settle = side
    started = time.process_time()
    loop.run(_drive(app, requests))
    settle()
    return (time.process_time() - started) / requests * 1e6


def main() -> None:
    side, requests, *rest = sys.argv[1:]
    apps = {"bare": (_app(), _nothing), "instrumented": SIDES[side](*rest)}
    with asyncio.Runner() as loop:
        rounds = {name: partial(_round, app, loop, int(requests)) for name, app in apps.items()}
        alternate(rounds, _WARM_UP)
        figures = alternate(rounds, _ROUNDS)
    print(json.dumps({"added": median(added(figures["instrumented"], figures["bare"]))}), flush=True)
    os._exit(0)  # what the sides do at exit is nobody's overhead


if __name__ == "__main__":
    main()
