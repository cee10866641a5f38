"""Queries and spans that hypothesis makes: the engine and the naive evaluator find the same."""

import itertools

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from tk_any_query import fewest, metrics, searches, traces
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
        if any(word in error.message for word in ("same type", "illegal", "must be", "by() has split")):
            return None
        raise


def check(store, drawn, texts, differ):
    """Fail with the first query that is answered differently, and with as few spans as it is so."""
    kept = keep(store, drawn)
    for text in texts:
        query = read(text)
        try:
            differs = query is not None and differ(*kept, query)
        except Exception as error:
            error.add_note("\n".join([text, *map(repr, drawn)]))
            raise
        if differs:
            raise AssertionError(smaller(store, drawn, text, differ))


def smaller(store, drawn, text, differ):
    """Hypothesis would make it smaller for minutes, and the query is one of many; so only spans are left out."""
    query = read(text)
    spans = fewest(drawn, lambda some: differ(*keep(store, some), query))
    return "\n".join([f"different answers to {text}", *map(repr, spans), str(differ(*keep(store, spans), query))])


def searched(store, drawn, texts, cut):
    def differ(base, naive, query):
        for since in (base, base + cut * MS):
            one, other = sets_of(store, query, since, base + WINDOW), naive.search(query, since, base + WINDOW)
            if one != other:
                return f"from {(since - base) // MS} ms on: {one} != {other}"
        return None

    check(store, drawn, texts, differ)


def measured(store, drawn, texts, step):
    step *= MS

    def differ(base, naive, query):
        since, until = base + step, base + 60 * MS + step
        ends = list(range(since // step * step, -(-until // step) * step + 1, step))
        one = told(query_range(store, query, since_ns=since, until_ns=until, step_ns=step))
        other = series(naive, query, ends, step, step / 1e9)
        try:
            assert_same(one, other)
        except AssertionError as error:
            return f"{error}: {one} != {other}"
        return None

    check(store, drawn, texts, differ)


SEARCHES = {"drawn": traces(), "texts": st.lists(searches, min_size=8, max_size=16), "cut": st.integers(0, 40)}
METRICS = {
    "drawn": traces(), "texts": st.lists(metrics, min_size=6, max_size=12), "step": st.sampled_from([7, 20, 100]),
}  # fmt: skip
COMMON = {
    "deadline": None, "suppress_health_check": list(HealthCheck), "report_multiple_bugs": False,
    "phases": [Phase.explicit, Phase.reuse, Phase.generate],
}  # fmt: skip
"""What fails is told at once: see `smaller`."""


@settings(max_examples=40, **COMMON)
@given(**SEARCHES)
def test_searches(store, drawn, texts, cut):
    """Of a whole trace's window, and of one that begins somewhere in it."""
    searched(store, drawn, texts, cut)


@settings(max_examples=20, **COMMON)
@given(**METRICS)
def test_metrics(store, drawn, texts, step):
    """In steps."""
    measured(store, drawn, texts, step)


@pytest.mark.long
@settings(max_examples=1000, **COMMON)
@given(**SEARCHES)
def test_many_searches(store, drawn, texts, cut):
    """The same, for longer."""
    searched(store, drawn, texts, cut)


@pytest.mark.long
@settings(max_examples=500, **COMMON)
@given(**METRICS)
def test_many_metrics(store, drawn, texts, step):
    """The same, for longer."""
    measured(store, drawn, texts, step)
