"""The recorder, with a real store: what is counted is journaled, whoever hangs, forks, or ends."""

import threading
import time

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from tk_fresh import run_fresh
from tk_journal import metrics_records, series
from tk_wait import eventually

from tracekeep.instrumentation.metrics import MetricsRecorder
from tracekeep.instrumentation.metrics.prometheus import RegistrySource
from tracekeep.storage import open_store
from tracekeep.storage.frames import MAX_PAYLOAD

FAULTS = "tracekeep_metrics_collect_failures"


@pytest.fixture
def registry():
    return CollectorRegistry()


@pytest.fixture
def store(tmp_path):
    store = open_store(tmp_path / "data", writer="none", series_limit=3000)
    yield store
    store.close()


@pytest.fixture
def record(store, registry):
    """Start a recorder of the registry that looks only when it is asked."""
    made = []

    def record(**options):
        recorder = MetricsRecorder(store, [RegistrySource(registry)], **({"interval": 3600} | options))
        made.append(recorder.start())
        return recorder

    yield record
    for recorder in made:
        recorder.close()


def kept(store):
    """{name: {labels: value}} of what the journal holds."""
    return {
        name: {labels: value for labels, (value, _, _) in found.items()}
        for name, found in series(metrics_records(store)).items()
    }


def faults(store):
    """{(collector, reason): count}."""
    found = kept(store).get(FAULTS, {})
    return {(dict(labels)["collector"], dict(labels)["reason"]): value for labels, value in found.items()}


class Custom:
    """A collector whose `collect` is anything."""

    def __init__(self, collect):
        self.collect = collect


def test_a_look_when_asked(store, registry, record):
    """What was counted is in the journal when `flush` has returned, as deltas."""
    counter = Counter("c", "C.", registry=registry)
    recorder = record()
    counter.inc(3)
    assert recorder.flush(5)
    counter.inc(2)
    assert recorder.flush(5)
    assert kept(store)["c"] == {(): 5}
    before = len(metrics_records(store))
    assert recorder.flush(5)
    assert len(metrics_records(store)) == before, "nothing has changed: nothing is written"


def test_looks_at_an_interval(store, registry, record):
    """Nobody has to ask."""
    counter = Counter("c", "C.", registry=registry)
    record(interval=0.05)
    for number in range(1, 4):
        counter.inc()
        eventually(lambda number=number: kept(store).get("c") == {(): number}, 5)


def test_a_scrape_asks(store, registry, record):
    """The store's hook is the recorder's flush."""
    counter = Counter("c", "C.", registry=registry)
    record()
    counter.inc(4)
    for hook in store.before_scrape:
        hook()
    assert kept(store)["c"] == {(): 4}


def test_scrapes_in_parallel_share_looks(store, registry, record):
    """Each sees what was counted before it asked; far fewer looks than scrapes."""
    looks = []
    counter = Counter("c", "C.", registry=registry)
    gate = threading.Event()
    registry.register(Custom(lambda: looks.append(1) or gate.wait(5) or []))
    recorder = record()
    counter.inc(20)
    threads = [threading.Thread(target=recorder.flush, args=(5,)) for _ in range(20)]
    for thread in threads:
        thread.start()
    gate.set()
    for thread in threads:
        thread.join()
    assert kept(store)["c"] == {(): 20}
    assert len(looks) <= 4


@pytest.mark.parametrize("failure", [RuntimeError("on fire"), KeyError(5), MemoryError()])
def test_a_collector_that_raises(failure, store, registry, record, caplog):
    """What it had given is kept, others go on, it is counted each time and logged once."""

    def collect():
        yield GaugeMetricFamily("given", "G.", value=1)
        raise failure

    registry.register(Custom(collect))
    counter = Counter("c", "C.", registry=registry)
    recorder = record()
    counter.inc()
    for _ in range(3):
        assert recorder.flush(5)
    assert (kept(store)["c"], kept(store)["given"]) == ({(): 1}, {(): 1})
    assert faults(store)["Custom", "raised"] >= 3
    assert caplog.text.count("collector Custom raised") == 1


def test_a_collector_that_hangs(store, registry, record):
    """A scrape waits no longer than its bound, others go on, and it is asked again once it has answered."""
    release, asked = threading.Event(), []

    def collect():
        asked.append(1)
        release.wait(20)
        return [CounterMetricFamily("slow", "S.", value=5)]

    registry.register(Custom(collect))
    counter = Counter("c", "C.", registry=registry)
    recorder = record(patience=0.2)
    counter.inc()
    started = time.monotonic()
    recorder.flush(0.1)
    assert time.monotonic() - started < 1
    eventually(lambda: kept(store).get("c") == {(): 1}, 5)
    counter.inc()
    assert recorder.flush(5)
    assert kept(store)["c"] == {(): 2}
    assert faults(store) == {("Custom", "hung"): 1}
    assert len(asked) == 1, "it isn't asked again before it has answered"
    release.set()
    eventually(lambda: recorder.flush(5) and kept(store).get("slow") == {(): 5}, 5)


def test_a_collector_that_flushes(store, registry, record):
    """It doesn't wait for itself."""
    counter = Counter("c", "C.", registry=registry)
    recorder = record()
    registry.register(Custom(lambda: [GaugeMetricFamily("g", "G.", value=recorder.flush(5))]))
    counter.inc()
    started = time.monotonic()
    assert recorder.flush(5)
    assert time.monotonic() - started < 1
    assert kept(store)["g"] == {(): 0}


def test_what_cannot_be_written(store, registry, record, monkeypatch):
    """A defect in one metric costs that one alone."""
    Counter("a", "A.", registry=registry).inc(1)
    Counter("b", "B.", registry=registry).inc(2)
    from tracekeep.instrumentation.metrics import ledger

    whole = ledger._whole

    def odd(labels, point):
        found = whole(labels, point)
        if point.value == 1:
            found.labels = object()
        return found

    monkeypatch.setattr(ledger, "_whole", odd)
    recorder = record()
    recorder.flush(5)
    recorder.flush(5)
    assert kept(store)["b"] == {(): 2}
    assert "a" not in kept(store)


def test_a_metric_that_is_registered_anew(store, registry, record):
    """Its counts go on from what there was."""
    recorder = record()
    for _ in range(3):
        counter = Counter("c", "C.", registry=registry)
        counter.inc(5)
        assert recorder.flush(5)
        registry.unregister(counter)
    assert recorder.flush(5)
    assert kept(store)["c"] == {(): 15}


def test_children_that_are_removed(store, registry, record):
    """Counts stay, gauges go; those that come again begin again."""
    counter = Counter("c", "C.", ["a"], registry=registry)
    gauge = Gauge("g", "G.", ["a"], registry=registry)
    recorder = record()
    for _ in range(2):
        counter.labels("x").inc(2)
        gauge.labels("x").set(2)
        assert recorder.flush(5)
        counter.clear()
        gauge.clear()
        assert recorder.flush(5)
    assert (kept(store)["c"], kept(store)["g"]) == ({(("a", "x"),): 4}, {})


def test_a_counter_that_is_reset(store, registry, record):
    """It goes on from what there was."""
    counter = Counter("c", "C.", registry=registry)
    recorder = record()
    counter.inc(5)
    recorder.flush(5)
    counter.reset()
    counter.inc(7)
    recorder.flush(5)
    assert kept(store)["c"] == {(): 12}


def test_names_that_are_taken(store, registry, record):
    """Those of tracekeep's own metrics, and of a collector that came first."""
    registry.register(Custom(lambda: [CounterMetricFamily("c", "C.", value=1)]))
    registry.register(Custom(lambda: [GaugeMetricFamily("c", "C.", value=2), GaugeMetricFamily("good", "G.", value=3)]))
    registry.register(Custom(lambda: [GaugeMetricFamily("tracekeep_degraded", "C.", value=2)]))
    registry.register(Custom(lambda: [CounterMetricFamily("traces_spanmetrics_calls", "C.", value=2)]))
    recorder = record()
    assert recorder.flush(5)
    assert recorder.flush(5)
    found = kept(store)
    assert (found["c"], found["good"]) == ({(): 1}, {(): 3})
    assert "tracekeep_degraded" not in found
    assert "traces_spanmetrics_calls" not in found
    assert faults(store)["Custom", "conflict"] >= 2


def test_policies_that_are_set(store, registry, record):
    """By the name of the metric, over what it says itself."""
    Gauge("g", "G.", registry=registry)
    Gauge("h", "H.", multiprocess_mode="max", registry=registry)
    Counter("c", "C.", registry=registry)
    record(policies={"g": "worker", "c_total": "worker"}).flush(5)
    policies = {family.name: family.policy for record in metrics_records(store) for family in record.families}
    assert policies == {"g": "worker", "h": "max", "c": "worker"}


def test_large_states_are_split(store, registry, record):
    """Each record fits any segment; all together are everything."""
    histogram = Histogram("h", "H." * 100, ["a", "b"], registry=registry)
    for number in range(2500):
        histogram.labels("x" * 200, str(number)).observe(number)
    assert record().flush(10)
    found = kept(store)["h"]
    assert len(found) == 2500
    assert set(found.values()) == {1}
    records = metrics_records(store)
    assert len(records) > 5
    assert store.accounting().dropped["too_large"] == 0
    import msgspec

    assert max(len(msgspec.msgpack.encode(each)) for each in records) < MAX_PAYLOAD // 4


def test_many_series(store, registry, record):
    """Past the limit one series takes the exact remainder."""
    counter = Counter("c", "C.", ["n"], registry=registry)
    recorder = record()
    for number in range(4000):
        counter.labels(str(number)).inc(number)
        if number % 1000 == 0:
            recorder.flush(10)
    recorder.flush(10)
    found = kept(store)["c"]
    assert len(found) == 3001
    assert sum(found.values()) == sum(range(4000))


def test_increments_while_looking(store, registry, record):
    """Threads that count while looks are taken: the sum of the deltas is the sum of the increments."""
    counter = Counter("c", "C.", ["n"], registry=registry)
    histogram = Histogram("h", "H.", buckets=(1, 2), registry=registry)
    recorder = record(interval=0.001)

    def count(number):
        for _ in range(3000):
            counter.labels(str(number)).inc()
            histogram.observe(1)

    threads = [threading.Thread(target=count, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert recorder.flush(5)
    found = series(metrics_records(store))
    assert {labels: value for labels, (value, _, _) in found["c"].items()} == {(("n", str(n)),): 3000 for n in range(4)}
    assert found["h"] == {(): [12000, 12000, [12000, 0, 0]]}


# --- the life of processes -----------------------------------------------------------------------------------------

HEAD = """
import os, sys, threading, time
from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.core import CounterMetricFamily
from opentelemetry import metrics
from tracekeep.instrumentation import instrument
from tracekeep.storage import current_store
registry = CollectorRegistry()
counter = Counter("c", "C.", registry=registry)
class Custom:
    count = 0
    def collect(self):
        yield CounterMetricFamily("custom", "C.", value=self.count)
custom = Custom()
registry.register(custom)
instrument(data_dir="data", registries=[registry], metrics_interval=INTERVAL)
otel = metrics.get_meter("m").create_counter("otel")
recorder = current_store().before_scrape[0].__self__
def count(number):
    counter.inc(number); otel.add(number); custom.count += number
"""
READ = """
import sys
from tracekeep.storage import open_store
store = open_store("data")
import time
def counts():
    found = {family.name: [series.value for series in family.series] for family in store.totals().families}
    return [int(sum(found.get(name, []))) for name in ("c", "otel", "custom")]
deadline = time.monotonic() + 10
while counts() != EXPECTED and time.monotonic() < deadline: time.sleep(0.05)
print(counts())
"""


@pytest.fixture
def run(tmp_path):
    """Run code in a process of its own, and see what totals come of it, in another."""

    def run(code, expected, *, interval=3600, status=0, log=""):
        process = HEAD.replace("INTERVAL", str(interval)) + code
        _, said = run_fresh(process, tmp_path, warnings="ignore", status=status)
        assert log in said if log else not said, said
        printed, said = run_fresh(READ.replace("EXPECTED", str(expected)), tmp_path, warnings="default")
        assert printed == str(expected), printed + said

    return run


def test_at_exit(run):
    """A process that ends by itself leaves nothing behind."""
    run("count(5)", [5, 5, 5])


def test_an_exit_by_an_exception(run):
    """Also then."""
    run("count(5); sys.exit(3)", [5, 5, 5], status=3)


def test_children_of_a_fork(run):
    """Each process counts its own, and what was there at the fork is the parent's alone.

    A collector of somebody's own can't be read at a fork: its counts begin with the child's first look.
    """
    run(
        """
count(100)
for number in range(3):
    child = os.fork()
    if child == 0:
        counter.inc(); otel.add(1)
        assert recorder.flush(5)
        count(1)
        assert recorder.flush(5)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    count(10)
""",
        [136, 136, 133],
    )


def test_grandchildren(run):
    """A child that forks counts its own only, too."""
    run(
        """
count(1)
if os.fork() == 0:
    assert recorder.flush(5)
    counter.inc(10); otel.add(10)
    if os.fork() == 0:
        counter.inc(100); otel.add(100)
        assert recorder.flush(5)
        os._exit(0)
    os.wait()
    assert recorder.flush(5)
    os._exit(0)
os.wait()
""",
        [111, 111, 1],
    )


def test_forks_while_looking(run):
    """A fork at any moment of a look: no child hangs, nothing is counted twice."""
    run(
        """
stop = []
def counting():
    while not stop: count(0); time.sleep(0)
thread = threading.Thread(target=counting); thread.start()
for number in range(20):
    child = os.fork()
    if child == 0:
        counter.inc(); otel.add(1)
        assert recorder.flush(5)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
stop.append(1); thread.join()
count(1)
""",
        [21, 21, 1],
        interval=0.05,
    )


def test_multiprocessing(run):
    """A child of `multiprocessing` journals what it has when it ends, though it ends without `atexit`."""
    run(
        """
import multiprocessing
count(1)
context = multiprocessing.get_context("fork")
def work(): counter.inc(5); otel.add(5)
children = [context.Process(target=work) for _ in range(3)]
for child in children: child.start()
for child in children: child.join(); assert child.exitcode == 0
""",
        [16, 16, 1],
    )


def test_a_fork_from_within_a_collector(run):
    """It neither hangs nor breaks anything."""
    run(
        """
class Forking:
    def collect(self):
        child = os.fork()
        if child == 0: os._exit(0)
        os.waitpid(child, 0)
        return []
forking = Forking()
registry.register(forking)
count(2)
assert recorder.flush(10)
registry.unregister(forking)
""",
        [2, 2, 2],
    )


def test_kill(run):
    """`kill -9` loses what was counted since the last look, and nothing else."""
    run(
        """
count(5)
assert recorder.flush(5)
count(3)
os.kill(os.getpid(), 9)
""",
        [5, 5, 5],
        status=-9,
    )


def test_a_thread_keeps_nobody_alive(run):
    """A collector that hangs holds up the end of a process for no more than its bound."""
    started = time.monotonic()
    run(
        """
class Hangs:
    def collect(self): time.sleep(3600)
registry.register(Hangs())
count(5)
""",
        [5, 5, 5],
        interval=0.05,
        log="the metrics collector Hangs did not answer in time",
    )
    assert time.monotonic() - started < 20
