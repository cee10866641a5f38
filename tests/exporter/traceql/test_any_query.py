"""Queries and spans that hypothesis makes: the engine and the naive evaluator find the same."""

import itertools

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tk_any_query import metrics, searches, traces
from tk_naive import Naive
from tk_naive_metrics import assert_same, series, told
from tk_spans import die, everything
from tk_traces import BASE, MS, record, sets_of

from tracekeep.exporter.traceql import TraceQLError, parse, query_range
from tracekeep.storage import Store, StoreSettings
from tracekeep.storage.records import Event, Link

WINDOW = 10_000 * MS
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Give a store that all examples share: each has a window and trace ids of its own."""
    store = Store(tmp_path_factory.mktemp("any"), StoreSettings()).start()
    yield store
    store.close(1.0)
    die(store)


def keep(store, drawn):
    """Record an example's spans; gives the window and the naive evaluator of what the store has of it."""
    number = next(_numbers)
    base = BASE + number * WINDOW
    spans = []
    for label, service, name, parent, start, duration, more, happened, linked in drawn:
        identity = number.to_bytes(8, "big") + label[0].encode() * 8
        begun = base + start * MS
        events = [Event(begun + after * MS, "e1" if after < 3 else "x", found) for after, found in happened]
        links = [Link(identity, 7, found) for found in linked]
        extra = {key: value for key, value in (("events", events), ("links", links)) if value}
        spans.append((label, service, name, parent, start, duration, more | extra | {"trace_id": identity}))
    record(store, spans, base=base)
    return base, Naive(everything(store, since_ns=base, until_ns=base + WINDOW))


def read(text):
    """The query, or None where its types are at odds."""
    try:
        return parse(text)
    except TraceQLError as error:
        if not any(word in error.message for word in ("same type", "illegal", "must be", "by() has split")):
            raise
        return None


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(drawn=traces(), texts=st.lists(searches, min_size=8, max_size=16), cut=st.integers(0, 40))
def test_searches(store, drawn, texts, cut):
    """Of a whole trace's window, and of one that begins somewhere in it."""
    base, naive = keep(store, drawn)
    for since in (base, base + cut * MS):
        for text in texts:
            if (query := read(text)) is not None:
                assert sets_of(store, text, since, base + WINDOW) == naive.search(query, since, base + WINDOW), text


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(drawn=traces(), texts=st.lists(metrics, min_size=6, max_size=12), step=st.sampled_from([7, 20, 100]))
def test_metrics(store, drawn, texts, step):
    """In steps."""
    base, naive = keep(store, drawn)
    step *= MS
    since, until = base + step, base + 60 * MS + step
    ends = list(range(since // step * step, -(-until // step) * step + 1, step))
    for text in texts:
        if (query := read(text)) is not None:
            found = query_range(store, query, since_ns=since, until_ns=until, step_ns=step)
            assert_same(told(found), series(naive, query, ends, step, step / 1e9))
