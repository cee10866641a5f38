"""Series that are idle for long: hidden, not lost."""

import time

import pytest
from tk_app_metrics import family, find, kept, point, say, values
from tk_spans import Recorder, counter, die
from tk_wait import eventually

from tracekeep.storage import writer
from tracekeep.storage.families import BY_SERVICE, SPAN_CALLS, SPAN_LATENCY

IDLE = 1.2


@pytest.fixture
def expiring(opened, monkeypatch):
    """Give stores whose idle series expire soon."""
    monkeypatch.setattr(writer, "_RETENTION", 0.1)
    monkeypatch.setattr(writer, "_UPKEEP", 0.1)
    return lambda **settings: opened(**{"series_max_idle": IDLE} | settings)


def gone(store, name):
    eventually(lambda: find(store, name) is None, 5)


def test_an_idle_total_goes_on_when_it_comes_back(expiring):
    """From its last value, sum and buckets, with its first start time; also by another writer."""
    store = expiring()
    for _ in range(2):
        jobs = family("jobs", points=[({}, 5)])
        say(store, jobs, family("h", "histogram", [point(buckets=[1, 2], sum_=3.0)], bounds=[1]))
        kept(store)
    starts = [find(store, name).series[0].start_ns for name in ("jobs", "h")]
    gone(store, "jobs")
    gone(store, "h")
    for round_ in range(1, 3):
        say(store, family("jobs", points=[({}, 1)]))
        say(store, family("h", "histogram", [point(buckets=[1, 0], sum_=1.0)], bounds=[1]))
        kept(store)
        assert values(store, "jobs") == {"": 10 + round_}
        (series,) = find(store, "h").series
        assert (series.value, series.sum, series.buckets) == (6 + round_, 6.0 + round_, (2 + round_,))
        assert [find(store, name).series[0].start_ns for name in ("jobs", "h")] == starts
        gone(store, "jobs")
        store.close()
        die(store)
        store = expiring()


def test_span_series_expire_too(expiring):
    """A shape that is remembered does not bring an old state back: the series goes on, once."""
    store = expiring(series_limit=1)
    record = Recorder(store)
    record.many(3, "a")
    kept(store)
    (start,) = (each.start_ns for each in find(store, SPAN_CALLS.name).series)
    gone(store, SPAN_CALLS.name)
    gone(store, SPAN_LATENCY.name)
    record.many(2, "b")
    kept(store)
    assert [dict(each.labels)["span_name"] for each in find(store, SPAN_CALLS.name).series] == ["b"], "there is room"
    gone(store, SPAN_CALLS.name)
    Recorder(store).many(2, "a", attributes={"http.route": "/x"})  # another shape of the same series
    record.many(2, "a")
    kept(store)
    (calls,) = find(store, SPAN_CALLS.name).series
    assert (calls.value, calls.start_ns) == (7, start)
    (latency,) = find(store, SPAN_LATENCY.name).series
    assert (latency.value, latency.buckets[-1]) == (7, 7)


@pytest.mark.parametrize("name", [spec.name for spec in BY_SERVICE])
def test_a_service_has_its_groups_at_zero(expiring, name):
    """From its first span on, as long as it records any: `increase()` sees the first group, also after quiet days."""
    store = expiring()
    record = Recorder(store)
    until = time.monotonic() + 3 * IDLE
    while time.monotonic() < until:
        record.many(1, "a")
        kept(store)
        (series,) = find(store, name).series
        assert (series.labels, series.value) == ((("service", "shop"),), 0)
    gone(store, SPAN_CALLS.name)
    gone(store, name)


def test_overflow_and_gauges_never_expire(expiring):
    """The remainder stays while its series may come back; a gauge that stays the same is no less true."""
    store = expiring(series_limit=1)
    say(store, family("jobs", points=[({"a": "x"}, 1), ({"a": "y"}, 2)]), family("open", "gauge", [point(4)]))
    say(store, family("cpu", points=[point(4)], policy="worker"))
    kept(store)
    eventually(lambda: values(store, "jobs") == {"otel_metric_overflow=true": 2}, 5)
    time.sleep(2 * IDLE)
    assert values(store, "jobs") == {"otel_metric_overflow=true": 2}
    assert values(store, "open") == {"": 4}
    assert list(values(store, "cpu").values()) == [4]


def test_a_series_in_use_does_not_expire(expiring):
    """However old it is, while it changes."""
    store, seen = expiring(), []
    until = time.monotonic() + 2.5 * IDLE
    while time.monotonic() < until:
        say(store, family("jobs", points=[({}, 1)]))
        kept(store)
        seen.append(values(store, "jobs")[""])
        time.sleep(IDLE / 6)
    assert seen == list(range(1, len(seen) + 1))


def test_what_expired_long_ago_is_deleted(expiring):
    """Rows and definitions go after `rollup_max_age`; then a series begins anew, with a new start time."""
    store = expiring(rollup_max_age=0.5)
    begun = time.time_ns()
    say(store, family("jobs", points=[point(5, created=begun)]))
    kept(store)
    (before,) = find(store, "jobs").series
    gone(store, "jobs")
    connection = store._writer._custody.bases.aggregates._connection
    rows = "SELECT count(*) FROM series WHERE metric='jobs'"
    eventually(lambda: connection.execute(rows).fetchone() == (0,), 5)
    say(store, family("jobs", points=[point(1, created=begun)]))
    kept(store)
    (after,) = find(store, "jobs").series
    assert after.value == 1
    assert after.start_ns > before.start_ns
    die(store)
    other = expiring(rollup_max_age=0.5)
    eventually(lambda: find(other, "jobs") is None, 5)
    counted = "SELECT (SELECT count(*) FROM metrics) + (SELECT count(*) FROM producers)"
    eventually(lambda: other._writer._custody.bases.aggregates._connection.execute(counted).fetchone() == (0,), 5)


def test_a_reader_that_was_away_meets_no_ghost(expiring, opened, monkeypatch):
    """Who has not read since a gauge went, and its trace was removed, reads everything anew."""
    from tracekeep.storage import aggregates

    monkeypatch.setattr(aggregates, "_TOMBSTONE_NS", 0)
    store, reader = expiring(series_max_idle=3600), opened(writer="none")
    say(store, family("open", "gauge", [point(1)]), family("jobs", points=[({}, 2)]))
    kept(store)
    assert values(reader, "open") == {"": 1}
    say(store, gone=[("open", [])])
    kept(store)
    connection = store._writer._custody.bases.aggregates._connection
    eventually(lambda: connection.execute("SELECT count(*) FROM series WHERE metric='open'").fetchone() == (0,), 5)
    assert find(reader, "open") is None
    assert values(reader, "jobs") == {"": 2}
    assert counter(reader, "tracekeep_records_stored") == 2
