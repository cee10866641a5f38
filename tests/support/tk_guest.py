"""A process that records into somebody's data directory, and does all that dashboards have an empty panel for.

Run with the data directory as its argument; it ends when its input is closed.
"""

import sys

from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import SpanKind, Status, StatusCode
from prometheus_client import REGISTRY, Counter, Gauge

from tracekeep.instrumentation import RetainingSpanProcessor, instrument
from tracekeep.storage import open_store

NAMES = 150
"""More than the limit of series that the shop is given."""
METRICS = 40
"""The same of metrics."""
ORDERLY = 6
"""Steps before it breaks them: what comes after is what is left out."""


class Broken:
    def collect(self):
        raise RuntimeError("the sensor is on fire")


def main(data_dir):
    instrument(service_name="billing", data_dir=data_dir)
    web = TracerProvider(resource=Resource.create({"service.name": "web"}))
    web.add_span_processor(RetainingSpanProcessor(open_store(data_dir)))
    caller, own = web.get_tracer("guest"), trace.get_tracer("guest")
    Gauge("billing_queue_length", "Invoices that wait.", multiprocess_mode="liveall").set(7)
    REGISTRY._collector_to_names[Broken()] = []
    print("ready", flush=True)
    for step, _ in enumerate(sys.stdin):
        if step == ORDERLY:
            for number in range(METRICS):
                Counter(f"billing_kind_{number}", "One of too many.").inc()
        call(caller, own, failed=step % 2)
        send(caller, own)
        for number in range(NAMES if step > ORDERLY else 0):
            own.start_span(f"invoice {number}").end()


def call(caller, own, *, failed):
    """One service asks the other."""
    with caller.start_as_current_span("GET /invoices", kind=SpanKind.CLIENT) as span:
        attributes = {"http.request.method": "GET", "url.scheme": "http", "http.route": "/invoices"}
        with own.start_as_current_span("GET /invoices", kind=SpanKind.SERVER, attributes=attributes) as served:
            served.set_attribute("http.response.status_code", 500 if failed else 200)
            if failed:
                served.record_exception(RuntimeError("no ink"))
                served.set_status(Status(StatusCode.ERROR))
                served.set_attribute("error.type", "RuntimeError")
                span.set_status(Status(StatusCode.ERROR))


def send(caller, own):
    """One service leaves the other a message."""
    with caller.start_as_current_span("invoices send", kind=SpanKind.PRODUCER) as span:
        context = trace.set_span_in_context(span)
    own.start_span("invoices process", kind=SpanKind.CONSUMER, context=context).end()


if __name__ == "__main__":
    main(sys.argv[1])
