"""Spans of a few services as their SDKs record them, odd ones among them, and a server that shows them to Grafana."""

import socket
import threading
import time
from contextlib import contextmanager

import uvicorn
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.trace import Link, SpanContext, SpanKind, StatusCode, TraceFlags, set_span_in_context
from starlette.applications import Starlette
from tk_wait import eventually

from tracekeep.exporter import create_app
from tracekeep.instrumentation import RetainingSpanProcessor

SECOND = 10**9
ODD = {
    "text": "plain",
    "empty": "",
    "unicode": "Grüße ☕ 你好\u2028",
    "nul": "a\0b",
    "int64 max": 2**63 - 1,
    "int64 min": -(2**63),
    "beyond 2^53": 2**53 + 1,
    "zero": 0,
    "yes": True,
    "no": False,
    "half": 0.5,
    "whole float": 2.0,
    "nan": float("nan"),
    "inf": float("inf"),
    "-inf": float("-inf"),
    "bytes": b"\xff\x00\xfe",
    "texts": ["a", "b"],
    "ints": [1, 2**60],
    "bools": [True, False],
    "none": [],
    "map": {"a": {"b": [1, "x", None, 2.5]}, "c": b"\x01"},
    'key "quoted" \\ /:%': "odd key",
}


class Shop:
    """Three services whose spans go to one store."""

    def __init__(self, store, now_ns=None):
        self.store = store
        self.now = now_ns or time.time_ns()
        self.providers = {}

    def tracer(self, service, **resource):
        if service not in self.providers:
            attributes = {"service.name": service, "service.version": "1.2.0", "host.cores": 8, **resource}
            provider = TracerProvider(resource=Resource(attributes), span_limits=SpanLimits(max_attributes=None))
            provider.add_span_processor(RetainingSpanProcessor(self.store))
            self.providers[service] = provider
        return self.providers[service].get_tracer(f"{service}.lib", "0.9", attributes={"lib.kind": "test"})

    def order(self, *, ago=10.0, fails=False, item="tea"):
        """A request through two services, with a job that follows from it; gives its trace id."""
        start = self.now - int(ago * SECOND)
        web, stock = self.tracer("web"), self.tracer("stock", **{"cloud.region": "eu-1"})
        attributes = {
            "http.request.method": "GET",
            "http.route": "/cart",
            "http.response.status_code": 500 if fails else 200,
        }
        root = web.start_span("GET /cart", kind=SpanKind.SERVER, start_time=start, attributes=attributes)
        context = set_span_in_context(root)
        call = web.start_span("GET stock", context, kind=SpanKind.CLIENT, start_time=start + 10**6)
        answer = stock.start_span(
            "GET /stock", set_span_in_context(call), kind=SpanKind.SERVER, start_time=start + 2 * 10**6
        )
        query = stock.start_span(
            "SELECT", set_span_in_context(answer), kind=SpanKind.CLIENT, start_time=start + 3 * 10**6,
            attributes={"db.system.name": "sqlite", "item": item, "rows": 3, "cached": False, "ratio": 0.25},
        )  # fmt: skip
        if fails:
            query.record_exception(LookupError(f"no {item}"), timestamp=start + 4 * 10**6)
            query.set_status(StatusCode.ERROR, f"no {item}")
            root.set_status(StatusCode.ERROR)
        query.end(start + 5 * 10**6)
        answer.end(start + 8 * 10**6)
        call.end(start + 9 * 10**6)
        root.end(start + 20 * 10**6)
        job = self.tracer("jobs").start_span(
            "send mail", kind=SpanKind.CONSUMER, start_time=start + SECOND,
            links=[Link(root.get_span_context(), {"link.reason": "ordered"})],
        )  # fmt: skip
        job.add_event("queued", {"queue": "mail", "depth": 4}, timestamp=start + SECOND)
        job.end(start + 2 * SECOND)
        return f"{root.get_span_context().trace_id:032x}"

    def odd(self, *, ago=5.0):
        """One span with every odd value, on itself, on an event and on a link; gives its trace id."""
        start = self.now - int(ago * SECOND)
        parent = SpanContext(0x0AF7651916CD43DD8448EB211C80319C, 1, is_remote=True, trace_flags=TraceFlags(1))
        span = self.tracer("odd").start_span("odd", start_time=start, links=[Link(parent, {"on": "link"})])
        for key, value in ODD.items():
            span._attributes._dict[key] = value  # as instrumentation in other forms brings them; the SDK refuses some
        span.add_event("odd", {"bytes": b"\xff", "int": 2**62, "texts": ["a", "b"]}, timestamp=start)
        span.end(start + 10**6)
        return f"{span.get_span_context().trace_id:032x}"

    def flush(self):
        eventually(lambda: self.store.flush(5), 10)


@contextmanager
def served(store, mount=""):
    """The exporter under uvicorn on a port of its own, alone or mounted somewhere."""
    app = create_app(store)
    if mount:
        outer = Starlette()
        outer.mount(mount, app)
        app = outer
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(app, log_level="critical", access_log=False, lifespan="off", ws="none")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        eventually(lambda: server.started, 10, every=0.005)
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(10)
        listener.close()
