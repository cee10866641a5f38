"""Application metrics as they are kept: totals over all workers, gauges over those that live."""

import math
import os
import signal
import time

import pytest
from tk_app_metrics import family, find, kept, point, say, values
from tk_spans import Recorder, Script, counter, die, everything
from tk_wait import eventually

from tracekeep.storage.families import MAX_LABEL, REJECTED, SPAN_CALLS
from tracekeep.storage.gauges import worker_label
from tracekeep.storage.records import FrameType


def test_a_record_is_kept(store):
    """A counter, a histogram, a summary and a gauge of a process are among the totals as it described them."""
    say(
        store,
        family("jobs", points=[({"queue": "a"}, 3), ({"queue": "b"}, 1.5)], help_="Jobs done."),
        family("size_bytes", "histogram", [point(buckets=[1, 2, 0], sum_=7.5)], bounds=[1, 10], unit="bytes"),
        family("wait_seconds", "summary", [point(4, sum_=0.5)]),
        family("open", "gauge", [point(-2.5, pool="x")]),
    )
    say(store, family("jobs", points=[({"queue": "a"}, 4)]), family("open", "gauge", [point(7, pool="x")]))
    kept(store)
    assert values(store, "jobs") == {"queue=a": 7, "queue=b": 1.5}
    assert values(store, "open") == {"pool=x": 7}
    assert (find(store, "jobs").type, find(store, "jobs").help) == ("counter", "Jobs done.")
    histogram = find(store, "size_bytes")
    assert (histogram.type, histogram.unit, histogram.bounds) == ("histogram", "bytes", (1, 10))
    (series,) = histogram.series
    assert (series.value, series.sum, series.buckets) == (3, 7.5, (1, 3))
    (summary,) = find(store, "wait_seconds").series
    assert (summary.value, summary.sum) == (4, 0.5)
    account = store.accounting()
    assert (account.accepted, account.stored, account.balanced) == (2, 2, True)
    assert counter(store, REJECTED.name) == 0


# --- totals -----------------------------------------------------------------------------------------------------------


def test_totals_are_of_all_workers_for_ever(opened, worker):
    """What dead processes added stays; a new process goes on from there, with the first start time."""
    store, other = opened(), worker()
    for each in (store, other):
        say(each, family("jobs", points=[({}, 5)]), family("h", "histogram", [point(buckets=[1, 1])], bounds=[1]))
        kept(each)
    starts = {find(store, name).series[0].start_ns for name in ("jobs", "h")}
    for each in (other, store):
        each.close()
        die(each)
    again = opened()
    say(again, family("jobs", points=[({}, 1)]), family("h", "histogram", [point(buckets=[0, 1])], bounds=[1]))
    kept(again)
    assert values(again, "jobs") == {"": 11}
    (series,) = find(again, "h").series
    assert (series.value, series.buckets) == (5, (2,))
    assert {find(again, name).series[0].start_ns for name in ("jobs", "h")} == starts


def test_a_series_starts_when_its_process_says(store):
    """Unless that is in the future, or before the file was made, when anything may have been lost."""
    begun = time.time_ns()
    say(store, family("first", points=[point(1, created=begun)]))
    kept(store)
    later = time.time_ns()
    created = {"early": 1, "plausible": later, "future": later + 10**15, "unknown": 0}
    say(store, family("jobs", points=[point(1, a=name, created=each) for name, each in created.items()]))
    kept(store)
    starts = {dict(each.labels)["a"]: each.start_ns for each in find(store, "jobs").series}
    assert starts["plausible"] == later
    assert 1 < starts["early"] <= later
    assert later < starts["unknown"] == starts["future"] <= time.time_ns()
    say(store, family("jobs", points=[point(1, a="plausible", created=later + 1)]))
    kept(store)
    assert {dict(each.labels)["a"]: each.start_ns for each in find(store, "jobs").series} == starts


def test_labels_in_another_order_are_the_same_series(store):
    """And long values are cut, so that they may become the same."""
    say(store, family("jobs", points=[point(1, a="x", b="y"), point(2, b="y", a="x")]))
    say(store, family("cut", points=[point(1, a="x" * 999), point(2, a="x" * 9999)]))
    kept(store)
    assert values(store, "jobs") == {"a=x,b=y": 3}
    (series,) = find(store, "cut").series
    assert (series.value, len(series.labels[0][1])) == (3, MAX_LABEL)


def test_a_total_is_shown_before_its_first_increment(store):
    """A point of zero begins a series; one of a known series changes nothing."""
    say(store, family("jobs", points=[({}, 0)]))
    kept(store)
    (before,) = find(store, "jobs").series
    assert before.value == 0
    say(store, family("jobs", points=[({}, 0)]), family("other", points=[({}, 1)]))
    kept(store)
    assert find(store, "jobs").series[0] is before


def test_metrics_and_spans_of_one_journal(store):
    """Neither takes from the other; both are balanced, and the history has the spans alone."""
    record = Recorder(store)
    for _ in range(20):
        record.many(3)
        say(store, family("jobs", points=[({}, 1)]))
    kept(store)
    assert (values(store, "jobs"), counter(store, SPAN_CALLS.name), len(everything(store))) == ({"": 20}, 60, 60)
    account = store.accounting()
    assert (account.accepted, account.stored, account.pending, account.balanced) == (80, 80, 0, True)


def test_what_is_no_record_is_counted(store):
    """A frame of metrics that can't be decoded is dropped as `undecodable`; those around it are kept."""
    for payload in (b"\xc1", b"\x93\x01\x02\x03", b"nonsense"):
        store.journal.append(FrameType.METRICS, payload)
        say(store, family("jobs", points=[({}, 1)]))
    kept(store)
    assert values(store, "jobs") == {"": 3}
    account = store.accounting()
    assert (account.accepted, account.stored, account.dropped["undecodable"], account.balanced) == (6, 3, 3, True)


# --- gauges -----------------------------------------------------------------------------------------------------------

POLICIES = {"sum": 12, "max": 7, "min": 2, "mostrecent": 3}


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("type_", ["gauge", "unknown"])
def test_the_policy_of_a_gauge(store, worker, policy, type_):
    """Of live workers' values the sum, the greatest, the least, or the one that was said last."""
    now = time.time_ns()
    for each, value, time_ns in zip((worker(), worker(), worker()), (7, 3, 2), (now, now + 2, now + 1), strict=True):
        say(each, family("open", type_, [point(value)], policy=policy), time_ns=time_ns)
        kept(each)
    assert values(store, "open") == {"": POLICIES[policy]}
    assert find(store, "open").series[0].start_ns == 0


def test_gauges_that_are_no_numbers(store, worker):
    """NaN and the infinities are values of gauges; the greatest and the least are those of the others."""
    say(store, family("nan", "gauge", [point(math.nan)]), family("inf", "gauge", [point(-math.inf)]))
    kept(store)
    assert math.isnan(values(store, "nan")[""])
    assert values(store, "inf") == {"": -math.inf}
    for each, value in ((store, math.nan), (worker(), 1.0)):
        say(each, *(family(policy, "gauge", [point(value)], policy=policy) for policy in ("max", "min")))
        kept(each)
    assert values(store, "max") == values(store, "min") == {"": 1}


def test_an_info_is_one(store, worker):
    """However many workers say it, an info stays 1, and of a stateset's states each is 0 or 1."""
    for each in (store, worker()):
        say(each, family("build", "info", [point(1, version="2")]), family("mode", "stateset", [point(1, mode="on")]))
        kept(each)
    assert values(store, "build") == {"version=2": 1}
    assert values(store, "mode") == {"mode=on": 1}


def test_a_gauge_histogram_adds_up(store, worker):
    """Buckets, count and sum of all live workers."""
    for each in (store, worker()):
        say(each, family("ages", "gaugehistogram", [point(buckets=[1, 0, 2], sum_=-4)], bounds=[1, 5]))
        kept(each)
    (series,) = find(store, "ages").series
    assert (series.value, series.sum, series.buckets) == (6, -8, (2, 2))


def test_a_series_for_each_worker(store, worker):
    """With a label that tells them apart, gauges and counters alike; a label of that name is renamed."""
    other = worker()
    for each in (store, other):
        say(each, family("rss", "gauge", [point(5)], policy="worker"))
        say(each, family("cpu", "counter", [point(2, worker="x")], policy="worker"))
        say(each, family("cpu", "counter", [point(1, worker="x")], policy="worker"))
        kept(each)
    labels = {worker_label(each.journal.name) for each in (store, other)}
    assert values(store, "rss") == {f"worker={each}": 5 for each in labels}
    assert values(store, "cpu") == {f"exported_worker=x,worker={each}": 3 for each in labels}
    assert all(each.startswith(f"{os.getpid()}-") for each in labels)
    assert find(store, "cpu").series[0].start_ns > 0


def test_a_gauge_that_its_process_no_longer_has(store, worker):
    """It goes with the last process that has it, and comes back when one has it again."""
    other = worker()
    for each, value in ((store, 1), (other, 2)):
        say(each, family("open", "gauge", [point(value, a="x"), point(value, a="y")]))
        kept(each)
    say(other, gone=[("open", [("a", "x")]), ("open", [("a", "none")]), ("none", []), ("open", [("a", "")] * 2)])
    kept(other)
    assert values(store, "open") == {"a=x": 1, "a=y": 3}
    say(store, gone=[("open", [("a", "x")])])
    kept(store)
    assert values(store, "open") == {"a=y": 3}
    say(other, family("open", "gauge", [point(9, a="x")]))
    kept(other)
    assert values(store, "open") == {"a=x": 9, "a=y": 3}
    say(other, gone=[("open", [("a", "x")]), ("open", [("a", "y")])])
    say(store, gone=[("open", [("a", "y")])])
    kept(other)
    kept(store)
    assert find(store, "open") is None


WORKER = """
import sys
from tk_app_metrics import family, point, say
from tracekeep.storage import open_store
store = open_store(sys.argv[1], writer=sys.argv[2])
for line in sys.stdin:
    say(store, family("open", "gauge", [point(10)]), family("rss", "gauge", [point(1)], policy="worker"),
        family("jobs", points=[point(1)]))
    print(store.flush(5), flush=True)
"""


@pytest.mark.parametrize("role", ["thread", "none"])
def test_gauges_go_with_a_killed_worker(tmp_path, opened, role):
    """Within about a second of SIGKILL, whether or not it was the writer; what it counted stays."""
    with Script(WORKER, tmp_path, role) as process:
        if role == "thread":
            process.say()
            assert process.line() == "True"
        store = opened()
        say(store, family("open", "gauge", [point(1)]), family("rss", "gauge", [point(1)], policy="worker"))
        kept(store)
        if role == "none":
            process.say()
            assert process.line() == "True"
        assert values(store, "open") == {"": 11}
        assert len(values(store, "rss")) == 2
        process.process.send_signal(signal.SIGKILL)
        process.process.wait(10)
        killed = time.monotonic()
        eventually(lambda: values(store, "open") == {"": 1}, 5)
        assert time.monotonic() - killed < 2.5
        assert list(values(store, "rss")) == [f"worker={worker_label(store.journal.name)}"]
        assert values(store, "jobs") == {"": 1}


def test_gauges_of_the_dead_stay_away(opened):
    """After a restart of everything; also when the dead left more behind than was read."""
    before = opened()
    say(before, family("open", "gauge", [point(5)]), family("jobs", points=[({}, 1)]))
    kept(before)
    before.close()
    say(before, family("open", "gauge", [point(6)]), family("jobs", points=[({}, 1)]))
    die(before)
    store = opened()
    eventually(lambda: values(store, "jobs") == {"": 2}, 5)
    assert values(store, "open") == {}
    say(store, family("open", "gauge", [point(2)]))
    kept(store)
    assert values(store, "open") == {"": 2}


def test_a_new_writer_knows_the_gauges_of_the_living(opened, worker):
    """They are in the database: who takes the role over goes on with them."""
    first, other = opened(), worker()
    for each, value in ((first, 3), (other, 4)):
        say(each, family("open", "gauge", [point(value)]), family("cpu", points=[point(value)], policy="worker"))
        kept(each)
    first.close()
    die(first)
    second = opened()
    say(second, family("open", "gauge", [point(1)]))
    kept(second)
    eventually(lambda: values(second, "open") == {"": 5}, 5)
    assert values(second, "cpu") == {f"worker={worker_label(other.journal.name)}": 4}
    say(other, family("cpu", points=[point(2)], policy="worker"))
    kept(other)
    assert values(second, "cpu") == {f"worker={worker_label(other.journal.name)}": 6}


def test_dead_workers_cost_a_scrape_nothing(opened, worker):
    """Workers that came and went leave no series and no row of readings."""
    store = opened()
    say(store, family("rss", "gauge", [point(1)], policy="worker"), family("open", "gauge", [point(1)]))
    for _ in range(15):
        each = worker()
        say(each, family("rss", "gauge", [point(1)], policy="worker"), family("open", "gauge", [point(1)]))
        kept(each)
        die(each)
    eventually(lambda: len(values(store, "rss")) == 1 and values(store, "open") == {"": 1}, 5)
    aggregates = store._writer._custody.bases.aggregates
    assert aggregates.metrics.givers() == {store.journal.name}
    assert aggregates._connection.execute("SELECT count(*) FROM readings").fetchone() == (2,)
