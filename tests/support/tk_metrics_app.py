"""A service that counts the same operations in every way there is; `app` is what servers are told to serve.

Its data directory and settings come from the environment. `/operate/{times}` does so many operations and says in
which process; `/pid` says only that.
"""

import faulthandler
import os
import signal

from opentelemetry import metrics
from opentelemetry.metrics import Observation
from prometheus_client import REGISTRY, Counter, Enum, Gauge, Histogram, Info, Summary
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

from tracekeep.exporter import create_app
from tracekeep.instrumentation import instrument

faulthandler.register(signal.SIGURG)  # ignored by whoever hasn't asked for it; see `Prefork.tell_stacks`

AT_IMPORT = 7
"""Counted by each process that imports this."""

imported = Counter("shop_imported", "Counted at import, before any fork.")
imported.inc(AT_IMPORT)
orders = Counter("shop_orders", "Operations.", ["kind"])
seconds = Histogram("shop_order_seconds", "One half or one and a half each.", ["kind"], buckets=(1, 2))
sizes = Summary("shop_order_size", "Three each.")
waiting = Gauge("shop_waiting", "Operations that this process has done.")
peak = Gauge("shop_peak", "The same, of the one that did most.", multiprocess_mode="max")
mine = Gauge("shop_mine", "The same, by process.", multiprocess_mode="liveall")
Info("shop_build", "What is served.").info({"version": "1.2.3"})
state = Enum("shop_state", "Whether it has begun.", states=["idle", "busy"])


class Custom:
    """Counts by itself."""

    done = 0

    def collect(self):
        counter = CounterMetricFamily("shop_custom", "Operations, as a collector counts them.", labels=["kind"])
        counter.add_metric(["custom"], self.done)
        yield counter
        yield GaugeMetricFamily("shop_custom_level", "The same, as a gauge.", value=self.done)


class Broken:
    """Raises, after it has given something."""

    def collect(self):
        yield CounterMetricFamily("shop_before", "Given before it breaks.", value=1)
        raise RuntimeError("the sensor is on fire")


custom = Custom()
REGISTRY.register(custom)
if os.environ.get("TK_BROKEN"):
    REGISTRY._collector_to_names[Broken()] = []

meter = metrics.get_meter("shop", "2.0")
otel_orders = meter.create_counter("otel.orders", "{order}", "Operations.")
otel_seconds = meter.create_histogram("otel.order.duration", "s", explicit_bucket_boundaries_advisory=[1, 2])
otel_active = meter.create_up_down_counter("otel.active")
otel_level = meter.create_gauge("otel.level")
meter.create_observable_counter("otel.observed", [lambda _: [Observation(custom.done, {"kind": "callback"})]])


def _operate(number):
    orders.labels("a" if number % 2 else "b").inc()
    seconds.labels("a").observe(0.5 + number % 2)
    sizes.observe(3)
    custom.done += 1
    waiting.set(custom.done)
    peak.set(custom.done)
    mine.set(custom.done)
    state.state("busy")
    otel_orders.add(1, {"order.kind": "a"})
    otel_seconds.record(0.5 + number % 2)
    otel_active.add(3)
    otel_active.add(-2)
    otel_level.set(custom.done)


async def operate(request):
    for number in range(request.path_params["times"]):
        _operate(number)
    return JSONResponse({"pid": os.getpid(), "done": custom.done})


async def pid(_request):
    return JSONResponse({"pid": os.getpid()})


app = Starlette(routes=[Route("/operate/{times:int}", operate, methods=["POST"]), Route("/pid", pid)])
instrument(app, service_name="shop")
app.mount("/observability", create_app())
