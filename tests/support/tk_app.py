"""The service under test, and one worker process of it: `python tk_app.py --data-dir DIR --fd N [--fd M]`.

Each response says which trace it belongs to in `x-trace-id`; the answer to an unhandled exception, which
tracekeep makes, in its JSON body.
"""

import argparse
import asyncio
import json
import logging
import socket
from pathlib import Path

import uvicorn
from opentelemetry import trace
from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.responses import JSONResponse, PlainTextResponse, StreamingResponse
from starlette.routing import Route

from tracekeep.exporter import create_app
from tracekeep.instrumentation import instrument, record_error

tracer = trace.get_tracer("tests")
_logger = logging.getLogger("shop.till")


async def quick(_request):
    return PlainTextResponse("quick")


async def work(request):
    attributes = {"db.system.name": "sqlite", "item": request.path_params["item"]}
    with tracer.start_as_current_span("SELECT items", kind=trace.SpanKind.CLIENT, attributes=attributes):
        await asyncio.sleep(0.002)
    return JSONResponse({"item": request.path_params["item"]})


async def fail(_request):
    try:
        _ask_other_side()
    except ConnectionResetError as error:
        raise RuntimeError("could not finish") from error


async def logged(request):
    """Fail with an exception that is logged on its way out."""
    with tracer.start_as_current_span("charge"):
        try:
            _charge(request.path_params["card"])
        except PermissionError:
            _logger.exception("could not charge")
            raise


async def handled(_request):
    """Handle an exception and tell of it."""
    try:
        _ask_other_side()
    except ConnectionResetError as error:
        record_error(error, attempt=1)
    return PlainTextResponse("served from the cache")


def _charge(card):
    raise PermissionError(f"card {card} declined")


def _ask_other_side():
    raise ConnectionResetError("the other side hung up")


async def stream(_request):
    async def chunks():
        for number in range(5):
            await asyncio.sleep(0.001)
            yield f"{number}\n" * 100

    return StreamingResponse(chunks())


async def attributes(request):
    """Set the attributes of one case, on the request's span and on everything else that carries some."""
    case = CASES[request.path_params["case"]]
    for span in (trace.get_current_span(), tracer.start_span("child")):
        case(span)
        if span is not trace.get_current_span():
            span.end()
    return PlainTextResponse("survived")


def _set(value, key="value"):
    def case(span):
        span.set_attribute(key, value)
        span.add_event("event", {key: value})
        span.update_name(span.name if not isinstance(value, str) else value)
        span.set_status(trace.StatusCode.ERROR, value if isinstance(value, str) else None)

    return case


def _many(span):
    for number in range(100_000):
        span.set_attribute(f"key {number}", number)


def _raise(value):
    def case(span):
        span.record_exception(RuntimeError(value))

    return case


class _Odd:
    def __str__(self):
        return "odd"


_NESTED = {"a": {"b": [1, {"c": (None, "d")}]}}
CASES = {
    "64MiB": _set("x" * (64 << 20)),
    "64MiB-message": _raise("é" * (32 << 20)),
    "many": _many,
    "long-key": _set(1, "k" * (1 << 20)),
    "empty-key": _set(1, ""),
    "nul": _set("a\0b"),
    "surrogate": _set("a\ud800b"),
    "surrogate-key": _set("a", "\udfff"),
    "surrogate-message": _raise("a\ud800b"),
    "newline": _set('line\n"quoted" \\ {label="x"}\r\n# TYPE a counter'),
    "nan": _set(float("nan")),
    "inf": _set([float("inf"), float("-inf")]),
    "huge-int": _set(2**70),
    "negative-int": _set([-(2**63), -(2**63) - 1]),
    "bytes": _set(b"\xff\x00\xfe"),
    "nested": _set(_NESTED),
    "mixed": _set([1, "a", 2.5, None]),
    "object": _set(_Odd()),
    "long-list": _set(list(range(100_000))),
}

ROUTES = [
    Route("/quick", quick),
    Route("/work/{item:int}", work),
    Route("/fail", fail),
    Route("/logged/{card}", logged),
    Route("/handled", handled),
    Route("/stream", stream),
    Route("/attributes/{case}", attributes),
]


class TraceHeader:
    """Tell the client the trace of its request."""

    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        async def send_with_id(message):
            if message["type"] == "http.response.start":
                trace_id = trace.get_current_span().get_span_context().trace_id
                MutableHeaders(scope=message)["x-trace-id"] = trace.format_trace_id(trace_id)
            await send(message)

        await self.app(scope, receive, send_with_id if scope["type"] == "http" else send)


def create(data_dir, **settings):
    app = Starlette(routes=ROUTES)
    app.add_middleware(TraceHeader)
    served = instrument(app, data_dir=data_dir, service_name="shop", json_errors=True, **settings)
    app.mount("/observability", create_app())
    return served


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--fd", type=int, action="append", required=True)
    parser.add_argument("--settings", type=json.loads, default={})
    options = parser.parse_args()
    config = uvicorn.Config(create(options.data_dir, **options.settings), log_level="critical", access_log=False)
    uvicorn.Server(config).run(sockets=[socket.socket(fileno=fd) for fd in options.fd])


if __name__ == "__main__":
    main()
