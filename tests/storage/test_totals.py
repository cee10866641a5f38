import itertools
import time

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tk_spans import CLIENT, ERROR, SERVER, Recorder, check_kept, counter, die, everything, exception, series_of
from tk_wait import eventually

from tracekeep.storage import Unavailable, reads, totals
from tracekeep.storage.aggregates import Aggregates
from tracekeep.storage.families import (
    EXCEPTIONS,
    HTTP_DURATION,
    MAX_LABEL,
    OVERFLOW,
    OVERFLOWED,
    SPAN_CALLS,
    SPAN_LATENCY,
)
from tracekeep.storage.series import encode_buckets

services = itertools.count()
durations = st.integers(0, 20_000_000_000) | st.sampled_from(
    [round(bound * 1e9) + step for bound in (*SPAN_LATENCY.bounds, *HTTP_DURATION.bounds) for step in (-1, 0, 1)]
)
HTTP = {"http.request.method": "GET", "http.route": "/x", "url.scheme": "http", "http.response.status_code": 200}


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batches=st.lists(st.lists(durations, min_size=1, max_size=30), min_size=1, max_size=3))
def test_histograms_count_what_was_recorded(store, batches):
    """Count, sum and every cumulative bucket equal a naive computation, however the spans are cut into batches."""
    service = f"service-{next(services)}"
    record = Recorder(store, service)
    for batch in batches:
        for duration in batch:
            record(duration=duration, attributes=HTTP)
        assert store.flush(5)
    values = [duration for batch in batches for duration in batch]
    for spec in (SPAN_LATENCY, HTTP_DURATION):
        (series,) = series_of(store, spec.name, service=service)
        assert series.value == len(values)
        assert abs(series.sum - sum(values) / 1e9) < 1e-6
        assert list(series.buckets) == [sum(value <= round(bound * 1e9) for value in values) for bound in spec.bounds]
    (calls,) = series_of(store, SPAN_CALLS.name, service=service)
    assert calls.value == len(values)


def test_labels_follow_grafana(store):
    """Names and values are those that Grafana queries."""
    Recorder(store)("GET /x", kind=SERVER, status=ERROR, attributes=HTTP | {"error.type": "500", "url.path": "/x"})
    Recorder(store)("SELECT", kind=CLIENT)
    assert store.flush(5)
    (calls,) = series_of(store, SPAN_CALLS.name, span_name="GET /x")
    assert calls.labels == (
        ("service", "shop"),
        ("span_name", "GET /x"),
        ("span_kind", "SPAN_KIND_SERVER"),
        ("status_code", "STATUS_CODE_ERROR"),
    )
    (http,) = series_of(store, HTTP_DURATION.name)
    assert dict(http.labels) == {
        "service": "shop",
        "http_request_method": "GET",
        "url_scheme": "http",
        "http_route": "/x",
        "http_response_status_code": "200",
        "error_type": "500",
    }


def test_series_start_with_their_first_record_and_only_grow(opened):
    """Through restarts the start time stays, the commit number and every value only grow."""
    began, starts, last = time.time_ns(), set(), (0, 0)
    for _ in range(3):
        store = opened()
        Recorder(store).many(10)
        assert store.flush(5)
        (calls,) = series_of(store, SPAN_CALLS.name)
        assert (store.totals().commit, calls.value) > last
        last = (store.totals().commit, calls.value)
        starts.add(calls.start_ns)
        store.close()
        die(store)
    assert last[1] == 30
    assert len(starts) == 1
    assert began <= starts.pop() <= time.time_ns()


def test_the_series_limit(opened):
    """Past it one overflow series takes the exact remainder and is counted, also after a restart."""
    store = opened(series_limit=3)
    for number in range(10):
        Recorder(store).many(number + 1, f"operation {number}")
    assert store.flush(5)
    assert sorted(series.value for series in series_of(store, SPAN_CALLS.name)) == [1, 2, 3, 49]
    (overflow,) = series_of(store, SPAN_CALLS.name, **dict(OVERFLOW))
    assert overflow.value == 49
    assert counter(store, OVERFLOWED.name, metric=SPAN_CALLS.name) == 49
    (histogram,) = series_of(store, SPAN_LATENCY.name, **dict(OVERFLOW))
    assert (histogram.value, histogram.buckets[-1]) == (49, 49)
    store.close()
    die(store)
    store = opened(series_limit=3)
    Recorder(store).many(5, "operation 9")
    Recorder(store).many(5, "operation 0")
    assert store.flush(5)
    assert sorted(series.value for series in series_of(store, SPAN_CALLS.name)) == [2, 3, 6, 54]
    assert counter(store, OVERFLOWED.name, metric=SPAN_CALLS.name) == 54
    check_kept(store, 65)


def test_long_label_values_are_cut(store):
    """A label has a bounded length; what was cut still counts."""
    Recorder(store, "s" * 1000)("n" * 1000)
    Recorder(store, "s" * 1000)("n" * 1000 + "other")
    assert store.flush(5)
    (calls,) = series_of(store, SPAN_CALLS.name)
    assert calls.value == 2
    assert {len(value) for name, value in calls.labels if name in {"service", "span_name"}} == {MAX_LABEL}


def test_exceptions_are_counted_by_type(store):
    """Never by message, each once."""
    record = Recorder(store)
    for number in range(4):
        record(status=ERROR, events=[exception("KeyError", f"no {number}")])
    record(status=ERROR, events=[exception("ValueError"), exception("OSError")])
    assert store.flush(5)
    assert {dict(each.labels)["exception_type"]: each.value for each in series_of(store, EXCEPTIONS.name)} == {
        "KeyError": 4,
        "ValueError": 1,
        "OSError": 1,
    }


def test_every_process_shows_the_same(opened):
    """A store that isn't the writer exposes the same committed totals."""
    one, two = opened(), opened(writer="none")
    Recorder(one).many(10)
    Recorder(two).many(10)
    assert one.flush(5)
    assert two.flush(5)
    eventually(lambda: one.totals() == two.totals(), 5)
    assert counter(two, SPAN_CALLS.name) == 20


def test_a_new_file_is_not_shown_before_it_is_filled(store, monkeypatch):
    """While `aggregates.db` is made anew, nobody is given the empty one: the old numbers, or none."""
    Recorder(store).many(10)
    assert store.flush(5)
    assert counter(store, SPAN_CALLS.name) == 10
    seen, write = [], Aggregates._write

    def looked_at(self, connection, change):
        try:
            seen.append(counter(store, SPAN_CALLS.name))
        except Unavailable:
            seen.append(10)
        write(self, connection, change)

    monkeypatch.setattr(reads, "_TOTALS_WAIT", 0.0)
    monkeypatch.setattr(Aggregates, "_write", looked_at)
    (store.data_dir / "aggregates.db").unlink()
    eventually(lambda: seen, 5)
    eventually(lambda: (store.data_dir / "aggregates.db").exists() and not store.status().degraded, 5)
    assert set(seen) == {10}
    monkeypatch.undo()  # a reader that has the time to wait is given the new one
    assert counter(store, SPAN_CALLS.name) == 10


def test_truncated_values_are_counted(store):
    """As many as their process reported, once."""
    Recorder(store)("x")
    store.journal.count_truncated(3)
    assert store.accounting().truncated == 3
    Recorder(store)("y")
    eventually(lambda: store.flush(1) and counter(store, "tracekeep_values_truncated") == 3, 5)
    assert store.accounting().truncated == 3
    assert len(everything(store)) == 2


counts = st.integers(0, 300) | st.sampled_from([-1, 0.5, 2**16, 2**32, 2**63, 2**64 - 1]) | st.floats(0, 1e9)
stored = st.lists(st.integers(0, 1 << 40), max_size=40).map(encode_buckets) | st.none() | st.just(b"\x90")
odd = st.lists(counts, max_size=20).map(msgspec.msgpack.encode) | st.binary(max_size=8)


@given(plain=st.lists(st.lists(counts, max_size=40), max_size=5))
def test_buckets_are_added_up(plain):
    """However they are stored: up to each bound, without what is past the last."""
    blobs = [msgspec.msgpack.encode(each) for each in plain]
    assert list(totals.cumulative(blobs)) == [tuple(itertools.accumulate(each[:-1])) for each in plain]


@given(blobs=st.lists(stored | odd, max_size=4))
def test_both_ways_add_the_same_up(native, blobs):
    """What C has an answer to is what Python finds of each by itself; whatever else it leaves to Python."""
    found = native("tracekeep.storage", "cumulative")(blobs)
    if found is not None:
        assert found == [each for blob in blobs for each in totals.cumulative_in_python([blob])]
        assert all(type(count) is int for each in found for count in each)


def test_plain_buckets_are_added_up_in_c(native):
    """Else the property above would say nothing."""
    cumulative = native("tracekeep.storage", "cumulative")
    lists = [[1], [0, 127, 128, 255, 256], [65_535, 65_536, 1 << 32, 1 << 63, 7], [3] * 40]
    blobs = [encode_buckets(each) for each in lists]
    assert cumulative(blobs) == [tuple(itertools.accumulate(each[:-1])) for each in lists]
    for blob in (None, b"", b"\x90", blobs[1][:-1], blobs[1] + b"\x01", encode_buckets([0.5, 1]), b"\xdc\xff\xff\x01"):
        assert cumulative([*blobs, blob]) is None
    with pytest.raises(TypeError):
        cumulative(tuple(blobs))
