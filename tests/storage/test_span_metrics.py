"""What settings make of the span metrics: names, further labels, buckets."""

import time

import pytest
from tk_app_metrics import family as app_family
from tk_app_metrics import find, say
from tk_spans import CLIENT, INTERNAL, MS, SERVER, Recorder, counter, definition, die, span
from tk_wait import eventually

from tracekeep.storage.families import HTTP_DURATION, REJECTED, SPAN_CALLS, SPAN_LATENCY
from tracekeep.storage.intake import MAX_SETS
from tracekeep.storage.records import FrameType

HTTP = {"http.request.method": "GET", "http.route": "/x"}


def reopened(opened, store, **settings):
    """The same data directory in another process, with other settings, once it has the writer's role."""
    store.close()
    die(store)
    store = opened(**settings)
    eventually(
        lambda: store._writer._custody.bases and not store._writer._custody.bases.aggregates.metrics.outdated, 10
    )
    return store


def only(store, spec):
    """A family with one series."""
    family = find(store, spec.name)
    (series,) = family.series
    return family, series


# --- names ------------------------------------------------------------------------------------------------------------


def test_names_are_chosen_where_they_are_read(opened):
    """Two processes may call the same numbers by different names."""
    store, other = opened(span_metric_names="both"), opened(writer="none", span_metric_names="collector")
    Recorder(store)(duration=3 * MS)
    assert store.flush(5)
    kept, theirs = find(store, SPAN_LATENCY.name), find(store, "traces_span_metrics_duration_milliseconds")
    assert (kept.series[0].sum, theirs.series[0].sum) == (0.003, 3.0)
    assert theirs.bounds[0] == 2.0
    assert kept.series[0].buckets == theirs.series[0].buckets
    assert find(other, SPAN_LATENCY.name) is None
    assert find(other, "traces_span_metrics_calls").series[0].value == 1
    assert dict(find(other, "traces_span_metrics_calls").series[0].labels)["service_name"] == "shop"


def test_no_application_takes_the_other_name(opened):
    """Whatever the span metrics are called now, their other names stay theirs."""
    store = opened()
    for name in ("traces_span_metrics_calls", "traces_span_metrics_duration_milliseconds"):
        say(store, app_family(name, points=[({}, 3)]))
    assert store.flush(5)
    assert counter(store, REJECTED.name, reason="name_taken") == 2
    assert find(store, "traces_span_metrics_calls") is None


def test_unchanged_series_are_the_same_objects(opened):
    """Under any name: whoever caches what they look like can go on."""
    store = opened(span_metric_names="collector")
    Recorder(store)("one")
    Recorder(store)("two")
    assert store.flush(5)
    before = {each.labels: each for each in find(store, "traces_span_metrics_duration_milliseconds").series}
    Recorder(store)("two")
    assert store.flush(5)
    after = {each.labels: each for each in find(store, "traces_span_metrics_duration_milliseconds").series}
    assert {dict(labels)["span_name"] for labels in after if after[labels] is before[labels]} == {"one"}


# --- dimensions -------------------------------------------------------------------------------------------------------


def labels_of(store, spec, *names):
    """Values of some labels of all series of a metric, with the series' value."""
    return {tuple(dict(each.labels).get(name) for name in names): each.value for each in find(store, spec.name).series}


def test_attributes_become_labels(opened):
    """Of spans and of their resource; the resource comes first, and what is missing is left out."""
    store = opened(span_metric_dimensions=("service.version", "tenant", "cached", "span.kind"))
    journal = store.journal
    origin = journal.define(definition("shop", **{"service.version": "1.2"}))
    for attributes in ({"tenant": "a"}, {"tenant": "a", "n": 1}, {"tenant": 7, "service.version": "none"}, {}):
        journal.append(FrameType.SPAN, span(origin=origin, attributes=attributes), origin)
    for cached in (True, 1, 0.5, "x"):
        journal.append(FrameType.SPAN, span(origin=origin, attributes={"cached": cached, "span.kind": "k"}), origin)
    assert store.flush(5)
    for spec in (SPAN_CALLS, SPAN_LATENCY):
        found = labels_of(store, spec, "service_version", "tenant", "cached", "__span_kind", "span_kind")
        assert found == {
            ("1.2", "a", None, None, "SPAN_KIND_SERVER"): 2,
            ("1.2", "7", None, None, "SPAN_KIND_SERVER"): 1,
            ("1.2", None, None, None, "SPAN_KIND_SERVER"): 1,
            ("1.2", None, "true", "k", "SPAN_KIND_SERVER"): 1,
            ("1.2", None, "1", "k", "SPAN_KIND_SERVER"): 1,
            ("1.2", None, None, "k", "SPAN_KIND_SERVER"): 1,
            ("1.2", None, "x", "k", "SPAN_KIND_SERVER"): 1,
        }
    values = [each.attributes.get("cached") for each in reversed(store.spans(limit=4).items)]
    assert [(type(each), each) for each in values] == [(bool, True), (int, 1), (float, 0.5), (str, "x")]


def test_without_the_setting_there_are_none(store):
    """Attributes are labels only where that is asked for."""
    Recorder(store).many(3, attributes={"tenant": "a"})
    assert store.flush(5)
    (series,) = find(store, SPAN_CALLS.name).series
    assert [name for name, _ in series.labels] == ["service", "span_name", "span_kind", "status_code"]


def test_another_setting_begins_other_series(opened):
    """What was counted before stays as it was."""
    store = opened()
    Recorder(store).many(3, attributes={"tenant": "a"})
    assert store.flush(5)
    store = reopened(opened, store, span_metric_dimensions=("tenant",))
    Recorder(store).many(2, attributes={"tenant": "a"})
    assert store.flush(5)
    assert labels_of(store, SPAN_CALLS, "tenant") == {(None,): 3, ("a",): 2}


def test_endless_values_are_bounded(opened):
    """A dimension with any number of values fills neither the series nor the shared sets; nothing goes uncounted."""
    store = opened(span_metric_dimensions=("user",), series_limit=100)
    record, count = Recorder(store), MAX_SETS + 500
    for number in range(count):
        record("GET", kind=INTERNAL, attributes={"user": f"user {number}"})
    assert store.flush(20)
    found = labels_of(store, SPAN_CALLS, "user", "otel_metric_overflow")
    assert (len(found), found[None, "true"]) == (101, count - 100)
    assert len(store._writer._custody.bases.history.dictionary.sets) <= MAX_SETS
    for place in (0, count - 1):
        (kept,) = store.spans(attributes={"user": f"user {place}"}).items
        assert kept.attributes == {"user": f"user {place}"}


def test_lost_totals_come_back_with_their_dimensions(opened):
    """Counted again from the history, of spans and of resources, also where they were not shared attributes then."""
    store = opened()
    origin = store.journal.define(definition("shop", **{"service.version": "1.2"}))
    for tenant in ("a", "b", "b"):
        store.journal.append(FrameType.SPAN, span(origin=origin, attributes={"tenant": tenant}), origin)
    assert store.flush(5)
    store.close()
    die(store)
    for path in store.data_dir.glob("aggregates.db*"):
        path.unlink()
    store = opened(span_metric_dimensions=("tenant", "service.version"))
    eventually(lambda: find(store, SPAN_CALLS.name), 10)
    assert labels_of(store, SPAN_CALLS, "tenant", "service_version") == {("a", "1.2"): 1, ("b", "1.2"): 2}


# --- buckets ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bounds", [(0.001, 0.01, 1.0), tuple(bound + 0.0005 for bound in SPAN_LATENCY.bounds)])
def test_other_buckets_are_counted_anew_from_the_history(opened, bounds):
    """In one commit with a new start time, whether or not there are as many; what has no buckets goes on untouched."""
    store = opened()
    times = [1, 2, 5, 20, 900, 5000]
    for each in times:
        Recorder(store)(duration=each * MS, attributes=HTTP)
    assert store.flush(5)
    (_, old), (_, calls), (_, http) = (only(store, spec) for spec in (SPAN_LATENCY, SPAN_CALLS, HTTP_DURATION))
    before = time.time_ns()
    store = reopened(opened, store, latency_buckets=bounds)
    family, series = only(store, SPAN_LATENCY)
    assert family.bounds == bounds
    assert list(series.buckets) == [sum(each <= bound * 1000 for each in times) for bound in bounds]
    assert (series.value, series.sum) == (len(times), pytest.approx(sum(times) / 1000))
    assert old.start_ns < before <= series.start_ns <= time.time_ns()
    assert only(store, SPAN_CALLS)[1] == calls
    assert only(store, HTTP_DURATION)[1] == http
    Recorder(store)(duration=2 * MS, attributes=HTTP)
    assert store.flush(5)
    assert only(store, SPAN_LATENCY)[1].value == len(times) + 1
    assert only(store, SPAN_LATENCY)[1].start_ns == series.start_ns
    assert only(store, SPAN_CALLS)[1].value == len(times) + 1
    bucketed = only(store, SPAN_LATENCY)[1]
    store = reopened(opened, store, latency_buckets=bounds)
    assert only(store, SPAN_LATENCY)[1] == bucketed


def test_buckets_come_and_go(opened):
    """Back to the usual ones, and both histograms at once."""
    store = opened(http_duration_buckets=(0.5,), latency_buckets=(0.25,))
    Recorder(store)(duration=300 * MS, attributes=HTTP)
    assert store.flush(5)
    assert (only(store, HTTP_DURATION)[1].buckets, only(store, SPAN_LATENCY)[1].buckets) == ((1,), (0,))
    store = reopened(opened, store)
    for spec in (HTTP_DURATION, SPAN_LATENCY):
        family, series = only(store, spec)
        assert family.bounds == spec.bounds
        assert list(series.buckets) == [bound >= 0.3 for bound in spec.bounds]


def test_a_process_with_other_settings_shows_what_was_counted(opened):
    """The writer's buckets count, with their bounds, whoever reads."""
    store, other = opened(latency_buckets=(0.25, 1)), opened(writer="none", latency_buckets=(7,))
    Recorder(other)(duration=300 * MS)
    assert other.flush(5)
    eventually(lambda: find(other, SPAN_LATENCY.name), 5)
    assert only(other, SPAN_LATENCY)[0].bounds == (0.25, 1)
    assert only(other, SPAN_LATENCY)[1].buckets == (0, 1)
    assert only(store, SPAN_LATENCY) == only(other, SPAN_LATENCY)


def test_a_reader_sees_the_change_at_once(opened):
    """Whoever had read the old buckets is given the new ones, and never a mixture."""
    reader = opened(writer="none")
    store = opened()
    Recorder(store).many(5, duration=300 * MS)
    assert store.flush(5)
    eventually(lambda: counter(reader, SPAN_CALLS.name) == 5, 5)
    assert only(reader, SPAN_LATENCY)[0].bounds == SPAN_LATENCY.bounds
    store = reopened(opened, store, latency_buckets=(0.25, 1))
    eventually(lambda: only(reader, SPAN_LATENCY)[0].bounds == (0.25, 1), 5)
    assert only(reader, SPAN_LATENCY)[1].buckets == (0, 5)


def test_a_file_made_anew_keeps_the_bounds(opened):
    """Where `aggregates.db` is lost under the writer, the buckets come from memory with their own bounds."""
    store = opened(latency_buckets=(0.25, 1))
    Recorder(store).many(3, duration=300 * MS)
    assert store.flush(5)
    assert only(store, SPAN_LATENCY)[1].buckets == (0, 3)
    path = store.data_dir / "aggregates.db"
    before = path.stat().st_ino
    holder = path.open("rb")
    path.unlink()
    eventually(lambda: path.exists() and path.stat().st_ino != before, 5)
    holder.close()
    Recorder(store).many(1, duration=300 * MS)
    assert store.flush(5)
    family, series = only(store, SPAN_LATENCY)
    assert (family.bounds, series.buckets) == ((0.25, 1), (0, 4))


def test_kinds_of_shapes(store):
    """Spans of one operation that differ in what no label shows count in one series."""
    for server in ("a", "b", "c"):
        Recorder(store)("SELECT", kind=CLIENT, attributes={"db.system": "redis", "server.address": server})
    Recorder(store)("GET", kind=SERVER, attributes={"http.route": "/x"})
    assert store.flush(5)
    assert labels_of(store, SPAN_CALLS, "span_name") == {("SELECT",): 3, ("GET",): 1}
