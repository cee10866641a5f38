"""What a search gives beside the spans that it finds."""

import os
import threading

import pytest
from tk_spans import Recorder, die
from tk_traces import BASE, MS, labels, record, sets_of, trace_id

from tracekeep.exporter.traceql import NO_ROOT, FoundSpan, ServiceStats, SpanSet, TraceQLError, parse, search
from tracekeep.storage import QueryTimeout, Store, StoreSettings


@pytest.fixture
def one(worlds):
    """Give the one trace that a query finds."""

    def ask(text, spans_per_set=3):
        (found,) = search(
            worlds, parse(text), since_ns=0, until_ns=1 << 62, limit=20, spans_per_set=spans_per_set
        ).traces
        return found

    return ask


def test_a_trace(one):
    """Root, times and services are of all its spans, those not found among them."""
    found = one("{ name = `SELECT` }")
    assert (found.trace_id, found.root_service, found.root_name) == (trace_id("a").hex(), "shop", "GET /cart")
    assert (found.start_ns, found.duration_ns) == (BASE, 100 * MS)
    assert found.services == {"shop": ServiceStats(3, 0), "stock": ServiceStats(3, 1)}


def test_a_trace_without_its_root(one):
    """Says so."""
    found = one("{ name = `orphan` }")
    assert (found.root_service, found.root_name) == (NO_ROOT, "")


def test_spans(one):
    """By start; with what conditions and select refer to, by bare name, durations and keywords as text."""
    found = one(
        "{ name = `GET /items` && span.n > 1 && status = error } | "
        "select(resource.cluster, duration, kind, .nosuch, rootName, traceDuration, nestedSetParent, span.ratio)"
    )
    attributes = (
        ("n", 4), ("status", "error"), ("cluster", "eu"), ("kind", "server"), ("nestedSetParent", 4), ("ratio", 0.5),
    )  # fmt: skip
    span = FoundSpan("0000000000610004", "GET /items", BASE + 42 * MS, 45 * MS, attributes)
    assert found.span_sets == (SpanSet((span,), 1, ()),)


def test_values_of_events(one):
    """Of several the first; a duration as Go writes it."""
    (found,) = one("{ event.attempt = 2 } | select(event.exception.type, event:timeSinceStart, event:name)").span_sets
    assert dict(found.spans[0].attributes) == {
        "attempt": 1, "exception.type": "KeyError", "event:timeSinceStart": "1ms", "event:name": "cache miss",
    }  # fmt: skip


def test_how_many_spans_of_a_set(one):
    """The first few, and how many there are; 0 gives all."""
    (few,) = one("{ .depth > 0 }").span_sets
    (every,) = one("{ .depth > 0 }", spans_per_set=0).span_sets
    assert (len(few.spans), few.matched) == (3, 30)
    assert [span.name for span in few.spans] == ["level 1", "level 2", "level 3"]
    assert (len(every.spans), every.matched) == (30, 30)


def test_sets_of_groups(one):
    """A set for each value, with the value and the aggregates that it was asked for."""
    found = one(
        "{ rootName = `GET /cart` && kind != server && .n != nil } | by(kind) | count() > 0 | max(duration) > 1ms"
    )
    assert [(each.matched, each.attributes) for each in found.span_sets] == [
        (1, (("by(kind)", "internal"), ("count()", 1), ("max(duration)", "30ms"))),
        (1, (("by(kind)", "client"), ("count()", 1), ("max(duration)", "50ms"))),
    ]


def test_an_aggregate_that_is_asked_for_twice(one):
    """Stands once: a wire form has no place for two attributes of one name."""
    (found,) = one("{ name = `SELECT` } | by(name) | by(name) | count() > 1 | count() < 3").span_sets
    assert found.attributes == (("by(name)", "SELECT"), ("count()", 2))


def test_the_newest_come_first(worlds):
    """And no more than were asked for."""
    found = search(worlds, parse("{ nestedSetParent < 0 }"), since_ns=0, until_ns=1 << 62, limit=3)
    assert [bytes.fromhex(trace.trace_id).decode()[0] for trace in found.traces] == ["i", "h", "f"]
    assert found.inspected_traces >= 3


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("{ name =~ `j1|j2` } !>> { }", "j2"),
        ("{ name =~ `j1|j2` } >> { }", "j1 j3 j4"),
        ("{ name =~ `j2|j3` } << { }", "j2 j3 j4"),
    ],
)
def test_below_a_circle(query, expected, tmp_path):
    """A span is not its own ancestor, whatever is known of the others that its parents' circle leads to."""
    store = Store(tmp_path, StoreSettings()).start()
    try:
        parents = {"j1": "j3", "j2": "j3", "j3": "j4", "j4": "j2"}
        record(store, [(label, "shop", label, parents[label], at, 1, {}) for at, label in enumerate(parents)])
        sets = sets_of(store, parse(query), 0, 1 << 62)
        assert labels((trace, spans) for trace, spans, _ in sets) == expected
    finally:
        store.close(1.0)
        die(store)


def test_a_metrics_query_is_none_for_traces(worlds):
    """It is refused."""
    with pytest.raises(TraceQLError, match="metrics query"):
        search(worlds, parse("{} | rate()"), since_ns=0, until_ns=1, limit=1)


@pytest.mark.parametrize("text", ["{}", "{ rootName = `none` }", "{ .a =~ `(a+)+b` }"])
def test_a_deadline(text, worlds):
    """Passed before anything was read: the question is told so."""
    with pytest.raises(QueryTimeout):
        search(worlds, parse(text), since_ns=0, until_ns=1 << 62, limit=20, deadline=-1.0)


def test_while_the_database_is_away(tmp_path):
    """The journals answer, marked so."""
    store = Store(tmp_path, StoreSettings(writer="none")).start()
    try:
        record = Recorder(store, "shop")
        record("GET /", trace_id=trace_id("k"), span_id=1, attributes={"n": 1})
        record("query", trace_id=trace_id("k"), span_id=2, parent_id=1, status=2, message="gone")
        found = search(store, parse("{ .n = 1 } > { status = error }"), since_ns=0, until_ns=1 << 62, limit=20)
        assert found.degraded
        assert [span.name for trace in found.traces for each in trace.span_sets for span in each.spans] == ["query"]
        assert found.traces[0].services == {"shop": ServiceStats(2, 1)}
    finally:
        die(store)


def test_while_the_writer_is_at_work(tmp_path):
    """What is committed is found, whole; nothing stops the writer."""
    store = Store(tmp_path, StoreSettings()).start()
    try:
        record = Recorder(store, "shop")
        stop = threading.Event()

        def write():
            for _ in range(20_000):
                if stop.is_set():
                    return
                trace = os.urandom(16)
                record("root", trace_id=trace, span_id=1)
                record("child", trace_id=trace, span_id=2, parent_id=1, attributes={"n": 1})

        thread = threading.Thread(target=write)
        thread.start()
        for _ in range(10):
            found = search(store, parse("{ name = `root` } > { .n = 1 }"), since_ns=0, until_ns=1 << 62, limit=50)
            assert all(each.span_sets[0].matched == 1 for each in found.traces)
        stop.set()
        thread.join()
        assert store.flush(20.0)
    finally:
        store.close(1.0)
        die(store)
