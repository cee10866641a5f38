"""`instrument()`, each time in a process of its own: OpenTelemetry's provider can be set only once."""

import pytest
from tk_fresh import run_fresh

HEAD = """
import logging, sys
from opentelemetry import trace
from tk_asgi import answered, http_scope
from tracekeep.instrumentation import RetainingSpanProcessor, TracingMiddleware, instrument
from tracekeep.storage import SettingError, current_store
logging.basicConfig(stream=sys.stdout, level=logging.INFO, format="%(message)s")
def names():
    store = current_store()
    assert store.flush(5)
    return sorted(span.name for span in store.spans().items)
def request(app, path="/"):
    return answered(app, http_scope(path, raw_path=path.encode()))[0]["status"]
async def bare(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})
"""


@pytest.fixture
def run(tmp_path):
    """Run code in a fresh process with its data in `tmp_path`; give what it printed."""

    def run(code, *, warnings="error", **environ):
        printed, said = run_fresh(HEAD + code, tmp_path, warnings=warnings, **environ)
        assert not said, said
        return printed

    return run


def test_starlette_stays_the_same_object(run):
    """Its requests and what is made inside them are recorded, and it can be used as before."""
    run("""
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
async def item(request):
    with trace.get_tracer("shop").start_as_current_span("inside"): pass
    return PlainTextResponse("x")
app = Starlette(routes=[Route("/items/{id}", item)])
assert instrument(app) is app
assert request(app, "/items/5") == 200
assert names() == ["GET /items/{id}", "inside"], names()
(inside, outer) = sorted(current_store().spans().items, key=lambda span: span.name == "GET /items/{id}")
assert inside.parent_span_id == outer.span_id and inside.trace_id == outer.trace_id
""")


def test_fastapi_stays_the_same_object(run):
    """The same, also when it has served before."""
    run(
        """
from fastapi import FastAPI
app = FastAPI()
@app.get("/items/{id}")
async def item(id: int): return {"id": id}
assert request(app, "/items/5") == 200
assert instrument(app) is app
assert request(app, "/items/5") == 200
assert request(app, "/items/x") == 422
assert names() == ["GET /items/{id}"] * 2, names()
""",
        warnings="ignore",
    )


def test_a_bare_application_is_wrapped(run):
    """The wrapper is what is to be served; wrapping it again gives it back."""
    run("""
app = instrument(bare)
assert isinstance(app, TracingMiddleware)
assert instrument(app) is app
assert request(app) == 200
assert names() == ["GET"], names()
""")


def test_no_application(run):
    """Without one, tracing alone is set up."""
    run("""
assert instrument() is None
trace.get_tracer("t").start_span("alone").end()
assert names() == ["alone"]
""")


def test_a_second_call_says_so(run):
    """It changes no setting and opens no other store, but instruments the other application."""
    out = run("""
one = instrument(bare, data_dir="first", service_name="one")
two = instrument(bare, data_dir="second", service_name="two")
request(one), request(two)
assert names() == ["GET", "GET"]
assert {span.service for span in current_store().spans().items} == {"one"}
from pathlib import Path
assert Path("first").exists() and not Path("second").exists()
""")
    assert "has been called before" in out
    assert "first" in out
    assert out.count("\n") == 0


def test_an_applications_own_provider_is_used(run):
    """Its resource and its other processors stay; each span is recorded once."""
    run("""
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
exporter = InMemorySpanExporter()
provider = TracerProvider(resource=Resource.create({"service.name": "mine"}))
provider.add_span_processor(SimpleSpanProcessor(exporter))
trace.set_tracer_provider(provider)
app = instrument(bare, service_name="ignored")
assert trace.get_tracer_provider() is provider
request(app)
assert names() == ["GET"]
assert [span.service for span in current_store().spans().items] == ["mine"]
assert len(exporter.get_finished_spans()) == 1
""")


def test_a_processor_in_a_provider_of_its_own(run):
    """`RetainingSpanProcessor()` alone records too, into the default store."""
    run("""
from opentelemetry.sdk.trace import TracerProvider
provider = TracerProvider()
provider.add_span_processor(RetainingSpanProcessor())
provider.get_tracer("t").start_span("one").end()
assert names() == ["one"]
from pathlib import Path
assert current_store().data_dir == Path("tracekeep-data").absolute()
""")


@pytest.mark.parametrize("value", ["true", "TRUE", " True "])
def test_disabled(run, value):
    """With OTEL_SDK_DISABLED nothing is recorded, nothing is written, and nothing breaks."""
    run(
        """
assert instrument(bare) is bare
assert instrument() is None
assert request(bare) == 200
trace.get_tracer("t").start_span("x").end()
assert current_store() is None
import os
assert os.listdir() == []
""",
        OTEL_SDK_DISABLED=value,
    )


@pytest.mark.parametrize("value", ["false", "1", "yes", ""])
def test_only_true_disables(run, value):
    """As OpenTelemetry's specification says."""
    run('instrument()\ntrace.get_tracer("t").start_span("x").end()\nassert names() == ["x"]', OTEL_SDK_DISABLED=value)


@pytest.mark.parametrize(
    ("environ", "keyword", "service"),
    [
        ({}, "None", "unknown_service:python"),
        ({"OTEL_SERVICE_NAME": "otel"}, "None", "otel"),
        ({"OTEL_RESOURCE_ATTRIBUTES": "service.name=attributes,team=blue"}, "None", "attributes"),
        ({"OTEL_SERVICE_NAME": "otel", "TRACEKEEP_SERVICE_NAME": "ours"}, "None", "ours"),
        ({"OTEL_SERVICE_NAME": "otel", "TRACEKEEP_SERVICE_NAME": "ours"}, "'keyword'", "keyword"),
    ],
)
def test_the_name_of_the_service(run, environ, keyword, service):
    """Keyword, then our variable, then OpenTelemetry's."""
    out = run(
        f"""
instrument(service_name={keyword}, service_version="1.2")
trace.get_tracer("t").start_span("x").end()
names()
(span,) = current_store().spans().items
assert span.resource["service.version"] == "1.2"
print(span.service, span.resource.get("team"))
""",
        **environ,
    )
    assert out.split()[0] == service
    assert ("blue" in out) == ("team=blue" in str(environ))


@pytest.mark.parametrize(
    ("arguments", "environ", "setting"),
    [
        ('service_name=""', {}, "service_name"),
        ("service_name=5", {}, "service_name"),
        ("service_version=1.2", {}, "service_version"),
        ('json_errors="yes"', {}, "json_errors"),
        ("record_own_routes=1", {}, "record_own_routes"),
        ('metrics="yes"', {}, "metrics"),
        ("metrics_interval=0", {}, "metrics_interval"),
        ('metrics_interval="5s"', {}, "metrics_interval"),
        ('translation_strategy="Underscores"', {}, "translation_strategy"),
        ("scope_info=1", {}, "scope_info"),
        ('gauge_policies={"a": "average"}', {}, "gauge_policies"),
        ('gauge_policies="a=max"', {}, "gauge_policies"),
        ("", {"TRACEKEEP_METRICS_INTERVAL": "soon"}, "TRACEKEEP_METRICS_INTERVAL"),
        ("", {"TRACEKEEP_TRANSLATION_STRATEGY": "none"}, "TRACEKEEP_TRANSLATION_STRATEGY"),
        ("", {"TRACEKEEP_GAUGE_POLICIES": "a=max,b"}, "TRACEKEEP_GAUGE_POLICIES"),
        ("", {"TRACEKEEP_JSON_ERRORS": "perhaps"}, "TRACEKEEP_JSON_ERRORS"),
        ('writer="process"', {}, "writer"),
        ("", {"TRACEKEEP_SEGMENT_BYTES": "8 apples"}, "TRACEKEEP_SEGMENT_BYTES"),
        ("no_such_setting=1", {}, "no_such_setting"),
        ('data_dir=""', {}, "data_dir"),
    ],
)
def test_a_wrong_setting_is_an_error_at_start(run, arguments, environ, setting):
    """It names the setting, sets nothing up, and a corrected call works."""
    run(
        f"""
from opentelemetry.sdk.trace import TracerProvider
try:
    instrument(bare, {arguments})
except SettingError as error:
    assert error.setting == {setting!r}, error
else:
    raise AssertionError("no error")
assert current_store() is None
assert not isinstance(trace.get_tracer_provider(), TracerProvider)
import os
for name in {list(environ)!r}: del os.environ[name]
request(instrument(bare))
assert names() == ["GET"]
""",
        **environ,
    )


def test_wrong_values_are_errors_also_when_disabled(run):
    """A mistake shows at start, whether or not anything is recorded."""
    run(
        """
try:
    instrument(bare, json_errors="yes")
except SettingError:
    pass
else:
    raise AssertionError("no error")
""",
        OTEL_SDK_DISABLED="true",
    )


def test_store_settings_are_passed_on(run):
    """Settings of the store can be given too."""
    run("""
instrument(writer="none", series_limit=7)
assert current_store().settings.series_limit == 7
assert current_store().settings.writer == "none"
""")


def test_metrics_of_both_libraries(run):
    """What the application counts is on the page under Prometheus's names, once."""
    run(
        """
from opentelemetry import metrics
from prometheus_client import Counter
instrument(gauge_policies={"g": "max"})
Counter("c", "C.").inc(2)
metrics.get_meter("m").create_counter("otel.c").add(3)
metrics.get_meter("m").create_gauge("g").set(4)
for hook in current_store().before_scrape: hook()
assert current_store().flush(5)
found = {family.name: [series.value for series in family.series] for family in current_store().totals().families}
assert (found["c"], found["otel_c"], found["g"]) == ([2], [3], [4]), found
assert len(found["target"]) == len(found["python_info"]) == 1
""",
    )


def test_settings_of_metrics_in_the_environment(run):
    """Interval with a unit, policies as pairs, a strategy, no scope."""
    run(
        """
import time
from opentelemetry import metrics
instrument()
metrics.get_meter("m").create_gauge("a.b", unit="s").set(3)
deadline = time.monotonic() + 10
metrics.get_meter("m").create_counter("d.total", unit="s").add(3)
def found(name): return [family for family in current_store().totals().families if family.name == name]
while not found("a.b") or not found("d.total"): assert time.monotonic() < deadline
(family,) = found("d.total")
assert (family.type, family.series[0].value) == ("barecounter", 3), family
(family,) = found("a.b")
assert [series.labels for series in family.series][0][-1][0] == "worker", family
assert "otel_scope_name" not in dict(family.series[0].labels)
""",
        TRACEKEEP_METRICS_INTERVAL="100ms",
        TRACEKEEP_GAUGE_POLICIES="a.b=worker, c = max",
        TRACEKEEP_TRANSLATION_STRATEGY="NoTranslation",
        TRACEKEEP_SCOPE_INFO="false",
    )


def test_an_applications_own_meter_provider(run):
    """It is used, beside its own readers; one that takes none is left alone, and the log says so."""
    code = """
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
provider = PROVIDER
metrics.set_meter_provider(provider)
instrument(data_dir=type(provider).__name__)
assert metrics.get_meter_provider() is provider
metrics.get_meter("m").create_counter("c").add(3)
for hook in current_store().before_scrape: hook()
assert current_store().flush(5)
print([series.value for family in current_store().totals().families if family.name == "c" for series in family.series])
"""
    assert run(code.replace("PROVIDER", "MeterProvider()")) == "[3.0]"
    out = run(code.replace("PROVIDER", "metrics.NoOpMeterProvider()"))
    assert "metrics made with OpenTelemetry are not recorded" in out
    assert out.endswith("[]")


def test_no_metrics(run):
    """With `metrics=False` nothing is looked at, and no provider is set."""
    run(
        """
from opentelemetry import metrics
instrument(metrics=False)
assert current_store().before_scrape == []
assert type(metrics.get_meter_provider()).__name__ == "_ProxyMeterProvider"
assert "prometheus_client" not in sys.modules
"""
    )


def test_shutdown_of_any_application(run):
    """A server's shutdown journals metrics, for Starlette with and without a lifespan, and for a bare application."""
    run(
        """
import asyncio, contextlib
from prometheus_client import Counter
from starlette.applications import Starlette
counter = Counter("c", "C.")
said = []
@contextlib.asynccontextmanager
async def lifespan(app):
    yield {"key": "value"}
    counter.inc(100); said.append("ended")
async def plain(scope, receive, send):
    assert scope["type"] == "lifespan"
    while True:
        message = await receive()
        await send({"type": message["type"] + ".complete"})
        if message["type"] == "lifespan.shutdown": return
def serve(app):
    messages = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
    sent = []
    async def receive(): return messages.pop(0)
    async def send(message): sent.append(message["type"])
    asyncio.run(app({"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}, receive, send))
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"], sent
def value():
    assert current_store().flush(5)
    return [s.value for f in current_store().totals().families if f.name == "c" for s in f.series]
for number, app in enumerate([Starlette(), Starlette(lifespan=lifespan), plain]):
    served = instrument(app, metrics_interval=3600) if number == 0 else instrument(app)
    counter.inc()
    serve(served)
    assert value() == [[1], [102], [103]][number], value()
assert said == ["ended"]
""",
        warnings="ignore",
    )


def test_leaving_the_process(run):
    """Everything is stored at a plain exit, in bounded time, without a call."""
    run("""
instrument(data_dir="data", metrics=False)
for number in range(1000): trace.get_tracer("t").start_span("x").end()
""")
    run("""
from tracekeep.storage import open_store
store = open_store("data", writer="none")
account = store.accounting()
assert (account.accepted, account.stored, account.pending) == (1000, 1000, 0), account
""")


def test_every_process_of_a_fork_records(run):
    """A prefork server: instrumented before the fork, each child's spans are kept."""
    run(
        """
import os, time
instrument()
trace.get_tracer("t").start_span("parent").end()
for _ in range(3):
    child = os.fork()
    if child == 0:
        trace.get_tracer("t").start_span("child").end()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
deadline = time.monotonic() + 10
while names() != ["child"] * 3 + ["parent"]: assert time.monotonic() < deadline, names()
""",
        warnings="ignore",
    )
