"""Reading OpenTelemetry: every kind of instrument, exemplars, scopes, and what can't be converted."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.metrics import NoOpMeterProvider, Observation, get_meter_provider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation, View
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from prometheus_client import CollectorRegistry

from tracekeep.instrumentation.metrics import exponential
from tracekeep.instrumentation.metrics.faults import Faults
from tracekeep.instrumentation.metrics.names import Names
from tracekeep.instrumentation.metrics.opentelemetry import OpenTelemetrySource, RetainingMetricReader, attach
from tracekeep.instrumentation.metrics.prometheus import RegistrySource
from tracekeep.instrumentation.metrics.reading import Readings
from tracekeep.instrumentation.settings import STRATEGIES

RESOURCE = Resource({"service.name": "shop", "service.instance.id": "7", "process.pid": 5, "process.runtime.name": "x"})
SCOPE = (("otel_scope_name", "m"), ("otel_scope_version", "1"))


@pytest.fixture
def faults():
    return Faults()


@pytest.fixture
def otel(faults):
    """A provider with our reader; `read()` gives all readings by name, as the recorder takes them in."""

    class Otel:
        def __init__(self):
            self.use(MeterProvider(resource=RESOURCE))

        def use(self, provider, strategy=STRATEGIES[0], *, scope_info=True):
            self.provider, self.reader = provider, RetainingMetricReader(100)
            attach(self.reader, provider, RESOURCE)
            self.source = OpenTelemetrySource(self.reader, RESOURCE, Names(strategy), scope_info=scope_info)
            self.meter = provider.get_meter("m", "1")

        def read(self):
            found = Readings()
            for collector in self.source.collectors():
                for reading in collector.read(faults):
                    try:
                        found.take(reading, additive=collector.is_additive)
                    except ValueError as fault:
                        faults.count("test", fault.reason, fault)
            return found

    otel = Otel()
    yield otel
    otel.provider.shutdown()


def values(reading):
    return {
        tuple(each for each in labels if each not in SCOPE): point.value for labels, point in reading.points.items()
    }


def reasons(faults):
    return {dict(labels)["reason"]: point.value for labels, point in faults.reading().points.items()}


def test_every_kind_of_instrument(otel):
    """Counters are counters, what goes up and down are gauges, histograms have their buckets."""
    meter = otel.meter
    meter.create_counter("c", "{x}", "Help.").add(3, {"a": "b"})
    up_down = meter.create_up_down_counter("u")
    up_down.add(3)
    up_down.add(-5)
    meter.create_histogram("h", "s", explicit_bucket_boundaries_advisory=[1, 2]).record(1.5)
    meter.create_gauge("g", "1").set(0.5)
    meter.create_observable_counter("oc", [lambda _: [Observation(7)]])
    meter.create_observable_up_down_counter("ou", [lambda _: [Observation(-7)]])
    meter.create_observable_gauge("og", [lambda _: [Observation(1.5)]])
    for _ in range(2):
        found = otel.read()
        assert {name: (found[name].type, values(found[name])) for name in found if name != "target"} == {
            "c": ("counter", {(("a", "b"),): 3}),
            "u": ("gauge", {(): -2}),
            "h_seconds": ("histogram", {(): 1}),
            "g_ratio": ("gauge", {(): 0.5}),
            "oc": ("counter", {(): 7}),
            "ou": ("gauge", {(): -7}),
            "og": ("gauge", {(): 1.5}),
        }
    (point,) = found["h_seconds"].points.values()
    assert (found["h_seconds"].bounds, point.sum, point.buckets) == ((1, 2), 1.5, [0, 1, 0])
    assert found["c"].help == "Help."


def test_target_info(otel):
    """The resource, but for what only one process has."""
    (labels,) = otel.read()["target"].points
    assert labels == (("process_runtime_name", "x"), ("service_name", "shop"))


def test_exemplars(otel):
    """Measurements made in a sampled span, for counters and in their bucket."""
    tracer = TracerProvider().get_tracer("t")
    counter = otel.meter.create_counter("c")
    histogram = otel.meter.create_histogram("h", explicit_bucket_boundaries_advisory=[1, 2])
    with tracer.start_as_current_span("s") as span:
        counter.add(1)
        histogram.record(1.5)
    context = span.get_span_context()
    found = otel.read()
    for name, bucket in (("c", 0), ("h", 1)):
        (point,) = found[name].points.values()
        (exemplar,) = point.exemplars
        assert (exemplar.bucket, exemplar.trace_id) == (bucket, context.trace_id.to_bytes(16, "big"))
        assert exemplar.span_id == context.span_id
    assert not any(point.exemplars for name in "ch" for point in otel.read()[name].points.values())


def test_scopes(otel):
    """Name, version, schema and attributes as labels; or none of them."""
    meter = otel.provider.get_meter("x", "2", "https://schema", {"team": "blue"})
    meter.create_counter("c").add(1)
    (labels,) = otel.read()["c"].points
    assert dict(labels) == {
        "otel_scope_name": "x",
        "otel_scope_version": "2",
        "otel_scope_schema_url": "https://schema",
        "otel_scope_team": "blue",
    }
    otel.use(MeterProvider(), scope_info=False)
    otel.meter.create_counter("c").add(1)
    assert list(otel.read()["c"].points) == [()]


def test_names_that_become_the_same(otel, faults):
    """Two instruments are one metric where they are alike; labels aren't shifted, nothing is lost."""
    otel.meter.create_counter("http.requests").add(1, {"a.b": "x"})
    otel.meter.create_counter("http_requests").add(2, {"a_b": "x"})
    otel.meter.create_counter("http-requests").add(4, {"c": "y"})
    assert values(otel.read()["http_requests"]) == {(("a_b", "x"),): 3, (("c", "y"),): 4}
    assert not reasons(faults)


def test_names_that_exclude_each_other(otel, faults):
    """The later one is left out and counted."""
    otel.meter.create_counter("a.b").add(1)
    otel.meter.create_gauge("a_b").set(2)
    otel.meter.create_gauge("a_b_total").set(3)
    otel.meter.create_counter("good").add(1)
    found = otel.read()
    assert (found["a_b"].type, values(found["good"])) == ("counter", {(): 1})
    assert "a_b_total" not in found
    assert reasons(faults) == {"conflict": 2}


def test_no_translation(otel):
    """Names as they are."""
    otel.use(MeterProvider(), "NoTranslation")
    otel.meter.create_histogram("http.duration", "s").record(1, {"http.route": "/"})
    otel.meter.create_counter("orders.placed").add(2)
    found = otel.read()
    assert ("http.route", "/") in next(iter(found["http.duration"].points))
    assert found["orders.placed"].type == "barecounter"


def test_a_label_that_a_bucket_has(otel):
    """`le` is what a bucket is labelled with: an attribute of that name gets another."""
    otel.meter.create_histogram("h").record(1, {"le": "x"})
    assert ("exported_le", "x") in next(iter(otel.read()["h"].points))


def test_past_the_sdks_limit(otel):
    """The SDK adds up what is beyond: as many as the store keeps."""
    counter = otel.meter.create_counter("c")
    for number in range(150):
        counter.add(1, {"n": number})
    found = values(otel.read()["c"])
    assert len(found) == 101
    assert found[("otel_metric_overflow", "true"),] == 50


def test_callbacks_that_raise(otel):
    """They cost their own instrument."""
    otel.meter.create_observable_gauge("bad", [lambda _: 1 / 0])
    otel.meter.create_counter("c").add(1)
    found = otel.read()
    assert values(found["c"]) == {(): 1}
    assert "bad" not in found


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "x", None])
def test_values_that_are_no_number(value, otel):
    """A counter can't have them; other metrics go on."""
    otel.meter.create_observable_counter("bad", [lambda _: [Observation(value)]])
    otel.meter.create_counter("c").add(1)
    found = otel.read()
    assert values(found["c"]) == {(): 1}
    assert "bad" not in found or not found["bad"].points


def test_huge_numbers(otel, faults):
    """Python's own integers may be larger than any other's; those that no float holds cost their own metric."""
    otel.meter.create_counter("c").add(2**70)
    counter = otel.meter.create_counter("d")
    for _ in range(20):
        counter.add(10**307)
    otel.meter.create_histogram("h").record(2**70)
    found = otel.read()
    assert values(found["c"]) == {(): 2.0**70}
    assert next(iter(found["h"].points.values())).sum == 2.0**70
    assert not found["d"].points
    assert reasons(faults) == {"invalid": 1}


def test_without_callbacks(otel, faults):
    """At a fork only what runs nobody's code is read; the parent loses nothing by it."""
    otel.meter.create_counter("c").add(1)
    otel.meter.create_observable_counter("oc", [lambda _: [Observation(7)]])
    assert "oc" in otel.read()
    assert {reading.name for reading in otel.source.read_at_fork(faults)} == {"c"}
    assert {"c", "oc"} <= set(otel.read())


def test_a_providers_flush(faults):
    """It asks the recorder to journal, and gives nothing twice."""
    reader = RetainingMetricReader(100)
    provider = attach(reader, get_meter_provider(), RESOURCE)
    source = OpenTelemetrySource(reader, RESOURCE, Names(STRATEGIES[0]), scope_info=False)
    provider.get_meter("m").create_counter("c").add(1)
    asked = []
    reader.on_flush = lambda seconds: asked.append(seconds) or True
    assert provider.force_flush(5000)
    assert 4 < asked[0] <= 5
    (reading,) = [each for collector in source.collectors() for each in collector.read(faults) if each.name == "c"]
    assert values(reading) == {(): 1}
    provider.shutdown()
    assert len(asked) == 2


def test_a_provider_that_is_there(otel):
    """Takes our reader beside its own; both have all."""
    other = InMemoryMetricReader()
    otel.use(MeterProvider([other]))
    otel.meter.create_counter("c").add(2)
    assert values(otel.read()["c"]) == {(): 2}
    assert other.get_metrics_data().resource_metrics[0].scope_metrics[0].metrics[0].data.data_points[0].value == 2


def test_the_applications_own_prometheus_reader(otel):
    """Its collector in the registry gives the same instruments: they are read once."""
    registry = CollectorRegistry()
    otel.use(MeterProvider([PrometheusMetricReader(registry=registry)]))
    otel.meter.create_counter("c").add(2)
    assert RegistrySource(registry, otel.source.shares).collectors() == []
    assert len(RegistrySource(registry).collectors()) == 1
    other = CollectorRegistry()
    elsewhere = MeterProvider([PrometheusMetricReader(registry=other)])
    assert len(RegistrySource(other, otel.source.shares).collectors()) == 1
    elsewhere.shutdown()


@pytest.mark.parametrize("provider", [NoOpMeterProvider(), object()])
def test_providers_that_take_no_reader(provider):
    """Are an error, in words."""
    with pytest.raises(TypeError, match="MeterProvider"):
        attach(RetainingMetricReader(10), provider, RESOURCE)


# --- exponential histograms ---------------------------------------------------------------------------------------

EXPONENTIAL = View(instrument_name="*", aggregation=ExponentialBucketHistogramAggregation())


def _exponential(values_):
    """What the SDK makes of these values, and we of that: buckets with their upper bounds."""
    provider = MeterProvider(views=[EXPONENTIAL])
    reader = RetainingMetricReader(100)
    provider.add_metric_reader(reader)
    histogram = provider.get_meter("m").create_histogram("h")
    for value in values_:
        histogram.record(value)
    source = OpenTelemetrySource(reader, RESOURCE, Names(STRATEGIES[0]), scope_info=False)
    (reading,) = [each for collector in source.collectors() for each in collector.read(Faults()) if each.name == "h"]
    provider.shutdown()
    (point,) = reading.points.values()
    return reading.bounds, point


@given(st.lists(st.floats(1e-9, 1e15) | st.integers(0, 10_000), min_size=1, max_size=50))
def test_exponential_histograms(values_):
    """Each classic bucket has exactly the values that are in it."""
    bounds, point = _exponential(values_)
    assert point.value == sum(point.buckets) == len(values_)
    assert point.sum == pytest.approx(sum(values_))
    below = 0
    for bound, count in zip(bounds, point.buckets, strict=False):
        below += count
        assert below == sum(value <= bound for value in values_), bound


def test_negative_values_of_an_exponential_histogram():
    """Are below all bounds. The SDK's instruments refuse them; other producers may not."""

    class Side:
        def __init__(self, offset, *counts):
            self.offset, self.bucket_counts = offset, counts

    class Data:
        scale, zero_count, positive, negative = 2, 3, Side(0, 5), Side(0, 1, 1)

    counts = exponential.to_explicit(Data())
    assert (counts[0], sum(counts)) == (5, 10)


def test_an_exponential_histogram_that_is_too_wide(otel, faults):
    """Below scale 0 its buckets can't be told from ours: it is left out and counted, everything else goes on."""
    otel.use(MeterProvider(views=[View(instrument_name="wide", aggregation=ExponentialBucketHistogramAggregation())]))
    wide = otel.meter.create_histogram("wide")
    wide.record(1e-200)
    wide.record(1e200)
    otel.meter.create_counter("c").add(1)
    found = otel.read()
    assert values(found["c"]) == {(): 1}
    assert reasons(faults) == {"unsupported": 1}
