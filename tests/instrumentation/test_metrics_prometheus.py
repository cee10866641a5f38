"""Reading prometheus_client: its own classes, custom collectors, and nonsense."""

import math

import pytest
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Enum,
    Gauge,
    GCCollector,
    Histogram,
    Info,
    PlatformCollector,
    ProcessCollector,
    Summary,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.metrics import MetricWrapperBase

from tracekeep.instrumentation.metrics.faults import Faults
from tracekeep.instrumentation.metrics.prometheus import RegistrySource


@pytest.fixture
def registry():
    return CollectorRegistry()


@pytest.fixture
def faults():
    return Faults()


@pytest.fixture
def read(registry, faults):
    """All readings of the registry, by name."""

    def read():
        found = RegistrySource(registry).collectors()
        return {reading.name: reading for collector in found for reading in collector.read(faults)}

    return read


class Custom:
    """A collector that gives what it was given."""

    def __init__(self, *families):
        self.families = families

    def collect(self):
        return self.families


def values(reading):
    return {labels: point.value for labels, point in reading.points.items()}


def reasons(faults):
    return {dict(labels)["reason"]: point.value for labels, point in faults.reading().points.items()}


def test_counters(registry, read):
    """With labels in the order of their names, and the time at which they began."""
    counter = Counter("shop_orders", "Orders.", ["route", "kind"], registry=registry)
    counter.labels("/a", "x").inc(3)
    reading = read()["shop_orders"]
    assert (reading.type, reading.help) == ("counter", "Orders.")
    ((labels, point),) = reading.points.items()
    assert labels == (("kind", "x"), ("route", "/a"))
    assert point.value == 3
    assert abs(point.created / 1e9 - counter.labels("/a", "x")._created) < 1e-3


def test_histograms(registry, read):
    """Buckets that aren't cumulative, with exemplars that name a span."""
    histogram = Histogram("h", "H.", unit="seconds", buckets=(1, 2), registry=registry)
    for value in (0.5, 1.5, 1.5, 9):
        histogram.observe(value, {"trace_id": f"{int(value * 2):032x}", "span_id": f"{7:016x}"})
    reading = read()["h_seconds"]
    assert (reading.bounds, reading.unit) == ((1.0, 2.0), "seconds")
    (point,) = reading.points.values()
    assert (point.value, point.sum, point.buckets) == (4, 12.5, [1, 2, 1])
    assert [(e.bucket, e.trace_id[-1], e.span_id, e.value) for e in point.exemplars] == [
        (0, 1, 7, 0.5),
        (1, 3, 7, 1.5),
        (2, 18, 7, 9),
    ]


def test_the_others(registry, read):
    """Summary, gauge, info and enum."""
    summary = Summary("s", "S.", registry=registry)
    summary.observe(2)
    summary.observe(3)
    Gauge("g", "G.", registry=registry).set(-1.5)
    Info("i", "I.", registry=registry).info({"version": "1"})
    Enum("e", "E.", states=["off", "on"], registry=registry).state("on")
    found = read()
    (point,) = found["s"].points.values()
    assert (point.value, point.sum, found["s"].type) == (2, 5, "summary")
    assert values(found["g"]) == {(): -1.5}
    assert (values(found["i"]), found["i"].type) == ({(("version", "1"),): 1}, "info")
    assert (values(found["e"]), found["e"].type) == ({(("e", "off"),): 0, (("e", "on"),): 1}, "stateset")


@pytest.mark.parametrize("class_", [Counter, Summary, Histogram])
def test_both_ways_read_the_same(class_, registry, faults, monkeypatch):
    """What is read from the values is what the samples say."""
    metric = class_("m", "M.", ["kind"], registry=registry)
    for number in range(5):
        child = metric.labels(f"x{number}")
        child.inc(number) if class_ is Counter else child.observe(number)
    (collector,) = RegistrySource(registry).collectors()
    (quick,) = collector.read(faults)
    monkeypatch.setattr("tracekeep.instrumentation.metrics.prometheus.read_children", lambda _metric: None)
    (slow,) = collector.read(faults)
    for point in (*quick.points.values(), *slow.points.values()):
        point.created //= 1_000_000
    assert quick == slow
    assert not reasons(faults)


def test_a_class_of_ones_own(registry, read):
    """One that is derived is read by its samples, as it may say something else."""

    class Doubled(Counter):
        def collect(self):
            metric = self._get_metric()
            metric.add_sample("c_total", {}, 2 * self._value.get())
            return [metric]

    Doubled("c", "C.", registry=registry).inc(4)
    assert values(read()["c"]) == {(): 8}


@pytest.mark.parametrize(
    ("mode", "policy"),
    [
        ("all", "sum"),
        ("liveall", "worker"),
        ("sum", "sum"),
        ("livesum", "sum"),
        ("max", "max"),
        ("livemin", "min"),
        ("mostrecent", "mostrecent"),
        ("livemostrecent", "mostrecent"),
    ],
)
def test_gauges_have_the_policy_of_their_mode(mode, policy, registry, read):
    """But for the default, of which nobody can tell whether it was chosen."""
    Gauge("g", "G.", multiprocess_mode=mode, registry=registry)
    assert read()["g"].policy == policy


def test_process_metrics_are_of_a_worker(registry, read):
    """Process and GC metrics; the platform is the same in all."""
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    found = read()
    assert {found[name].policy for name in found if name != "python_info"} == {"worker"}
    assert found["python_info"].policy == "max"
    assert found["process_cpu_seconds"].type == "counter"
    assert "process_open_fds" in found


def test_target_info(read, registry):
    """What a registry says of its target."""
    registry.set_target_info({"env": "prod"})
    assert values(read()["target"]) == {(("env", "prod"),): 1}


def test_a_registry_that_tells_nothing(faults):
    """Anything that has `collect()` is read as a whole."""
    (collector,) = RegistrySource(Custom(CounterMetricFamily("c", "C.", value=1))).collectors()
    assert [reading.name for reading in collector.read(faults)] == ["c"]


def test_multiprocess_collectors_are_left_out(registry, read, tmp_path):
    """They give all processes' values in each: all would count many times."""
    from prometheus_client.multiprocess import MultiProcessCollector

    MultiProcessCollector(registry, path=str(tmp_path))
    assert read() == {}


def _family(name, type_, *samples):
    family = Metric("ok", "Help.", type_)
    family.name = name
    for sample in samples:
        family.add_sample(*sample)
    return family


_BUCKETS = [("h_bucket", {"le": "1"}, 3), ("h_bucket", {"le": "+Inf"}, 2), ("h_sum", {}, 1), ("h_count", {}, 2)]
NONSENSE = {
    "nan": _family("c", "counter", ("c_total", {"a": "x"}, math.nan)),
    "infinite": _family("c", "counter", ("c_total", {"a": "x"}, math.inf)),
    "negative": _family("c", "counter", ("c_total", {"a": "x"}, -1)),
    "text": _family("c", "counter", ("c_total", {"a": "x"}, "many")),
    "none": _family("c", "counter", ("c_total", {"a": "x"}, None)),
    "other name": _family("c", "counter", ("d_total", {"a": "x"}, 1)),
    "no label name": _family("c", "counter", ("c_total", {"": "x"}, 1)),
    "number as label name": _family("c", "counter", ("c_total", {5: "x"}, 1)),
    "the name as label": _family("c", "counter", ("c_total", {"__name__": "x"}, 1)),
    "many labels": _family("c", "counter", ("c_total", {f"l{n}": "x" for n in range(100)}, 1)),
    "no labels": _family("c", "counter", ("c_total", None, 1)),
    "buckets fall": _family("h", "histogram", *_BUCKETS),
    "no infinite bucket": _family("h", "histogram", ("h_bucket", {"le": "1"}, 3)),
    "a bound that is no number": _family(
        "h", "histogram", ("h_bucket", {"le": "x"}, 3), ("h_bucket", {"le": "NaN"}, 3)
    ),
    "no bound": _family("h", "histogram", ("h_bucket", {}, 3), ("h_bucket", {"le": "NaN"}, 3)),
    "empty name": _family("", "counter", ("_total", {}, 1)),
    "surrogate name": _family("a\ud800", "counter", ("a\ud800_total", {}, 1)),
    "bytes name": _family(b"c", "counter", (b"c_total", {}, 1)),
    "long name": _family("c" * 1000, "counter", ("c" * 1000 + "_total", {}, 1)),
    "no metric": None,
    "no samples": _family("c", "counter", (None, {}, 1)),
}


@pytest.mark.parametrize("case", NONSENSE)
def test_nonsense(case, registry, faults, read):
    """It is counted and left out; what comes after it in the same collector is read."""
    good = CounterMetricFamily("good", "Good.", labels=["a"])
    good.add_metric(["x"], 4)
    registry.register(Custom(NONSENSE[case], good))
    found = read()
    assert values(found.pop("good")) == {(("a", "x"),): 4}
    assert not any(reading.points for reading in found.values())
    assert sum(reasons(faults).values()) >= 1


def test_one_bad_series_leaves_the_others(registry, faults, read):
    """In the same metric."""
    bad = _family("c", "counter", ("c_total", {"a": "x"}, -1), ("c_total", {"a": "y"}, 2))
    registry.register(Custom(bad))
    assert values(read()["c"]) == {(("a", "y"),): 2}
    assert reasons(faults) == {"invalid": 1}


def test_a_series_given_twice(registry, faults, read):
    """The first is kept."""
    twice = _family("c", "counter", ("c_total", {"a": "x"}, 1), ("c_total", {"a": "x"}, 5))
    registry.register(Custom(twice))
    assert values(read()["c"]) == {(("a", "x"),): 1}
    assert reasons(faults) == {"duplicate": 1}


def test_histograms_with_different_buckets(registry, faults, read):
    """A metric has one set of bounds: the first."""
    family = HistogramMetricFamily("h", "H.", labels=["a"])
    family.add_metric(["x"], [("1", 1), ("+Inf", 2)], 3)
    family.add_metric(["y"], [("2", 1), ("+Inf", 2)], 3)
    registry.register(Custom(family))
    assert values(read()["h"]) == {(("a", "x"),): 2}
    assert reasons(faults) == {"conflict": 1}


def test_long_labels(registry, read):
    """They are cut; series that are the same then are one, with the sum of their counts."""
    family = CounterMetricFamily("c", "C.", labels=["a"])
    family.add_metric(["x" * 300 + "1"], 1)
    family.add_metric(["x" * 300 + "2"], 2)
    registry.register(Custom(family))
    quick = Counter("q", "Q.", ["a"], registry=registry)
    quick.labels("x" * 300 + "1").inc(1)
    quick.labels("x" * 300 + "2").inc(2)
    for name in ("c", "q"):
        (((_, label),), value), *rest = values(read()[name]).items()
        assert (len(label), value, rest) == (256, 3, [])


def test_labels_that_are_no_text(registry, read):
    """They become text."""
    registry.register(
        Custom(_family("g", "gauge", ("g", {"a": 5}, 1), ("g", {"a": None}, 2), ("g", {"a": "\ud800"}, 3)))
    )
    assert values(read()["g"]) == {(("a", "5"),): 1, (("a", "None"),): 2, (("a", "?"),): 3}


def test_gauges_may_be_anything(registry, read, faults):
    """Also no number, or infinite."""
    family = GaugeMetricFamily("g", "G.", labels=["a"])
    for value in (math.nan, math.inf, -math.inf, -5):
        family.add_metric([str(value)], value)
    registry.register(Custom(family))
    assert [str(value) for value in values(read()["g"]).values()] == ["nan", "inf", "-inf", "-5"]
    assert not reasons(faults)


def test_what_is_safe_at_a_fork(registry, faults):
    """Only what runs nobody's code: no functions, no collectors of others."""
    Counter("c", "C.", registry=registry).inc()
    Gauge("g", "G.", registry=registry).set_function(lambda: 1 / 0)
    registry.register(Custom(CounterMetricFamily("custom", "C.", value=1)))
    assert [reading.name for reading in RegistrySource(registry).read_at_fork(faults)] == ["c"]


def test_values_in_files_begin_anew_in_a_child(registry, faults, monkeypatch):
    """prometheus_client's own multiprocess mode resets them: there is nothing to inherit."""
    from prometheus_client import values as values_module

    monkeypatch.setattr(values_module, "ValueClass", type("Mapped", (), {"_multiprocess": True}))
    registry.register(Custom())
    assert list(RegistrySource(registry).read_at_fork(faults)) == []


def test_what_is_relied_on_is_there():
    """The private names of prometheus_client that the quick way needs; without them it is the slow way."""
    assert {"_labelnames", "_name"} <= set(vars(Counter("c", "C.", registry=None)))
    assert hasattr(MetricWrapperBase, "collect")
    assert {"_collector_to_names", "_lock"} <= set(vars(CollectorRegistry()))
