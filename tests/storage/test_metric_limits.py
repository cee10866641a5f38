"""How many series and metrics are kept, and what becomes of those past the limit."""

import pytest
from tk_app_metrics import family, find, kept, point, rejected, say, values
from tk_spans import counter, die
from tk_wait import eventually

from tracekeep.storage.families import OVERFLOW, OVERFLOWED
from tracekeep.storage.gauges import worker_label

OVERFLOW_TEXT = "otel_metric_overflow=true"


def test_the_series_limit_of_a_total(opened):
    """Past it one overflow series takes the exact remainder; it is counted by metric, also after a restart."""
    store = opened(series_limit=3)
    for round_ in range(2):
        say(store, family("jobs", points=[({"n": str(n)}, n) for n in range(10)]))
        bounds = {"bounds": [1]}
        say(store, family("h", "histogram", [point(n=str(n), buckets=[n, 1], sum_=n) for n in range(10)], **bounds))
        kept(store)
        assert values(store, "jobs") == {f"n={n}": (round_ + 1) * n for n in range(3)} | {
            OVERFLOW_TEXT: (round_ + 1) * sum(range(3, 10))
        }
        overflow = next(each for each in find(store, "h").series if each.labels == OVERFLOW)
        assert (overflow.value, overflow.buckets) == ((round_ + 1) * 49, ((round_ + 1) * 42,))
        assert counter(store, OVERFLOWED.name, metric="jobs") == 7 * (round_ + 1)
        store.close()
        die(store)
        store = opened(series_limit=3)


GAUGE_OVERFLOWS = {"sum": 30, "max": 8, "min": 3, "mostrecent": 8}


@pytest.mark.parametrize("policy", GAUGE_OVERFLOWS)
def test_the_series_limit_of_a_gauge(opened, policy):
    """The overflow series is to what is left out what a gauge is to its workers; exactly, and also when it changes."""
    store = opened(series_limit=3)

    def told(values_):
        for n, value in values_:
            say(store, family("open", "gauge", [point(value, n=str(n))], policy=policy))
        kept(store)

    told((n, n) for n in range(8))
    told([(7, 8), (4, 4)] if policy != "mostrecent" else [(4, 4), (7, 8)])
    expected = GAUGE_OVERFLOWS[policy] - (4 if policy == "sum" else 0)
    assert values(store, "open")[OVERFLOW_TEXT] == expected
    say(store, gone=[("open", [("n", str(n))]) for n in (0, 7)])
    kept(store)
    left = {"sum": 18, "max": 6, "min": 3, "mostrecent": 4}[policy]
    assert values(store, "open") == {"n=1": 1, "n=2": 2, OVERFLOW_TEXT: left}
    told([(5, 5), (9, 9)])
    assert values(store, "open")["n=9"] == 9, "there is room for a series again"
    assert "n=5" not in values(store, "open"), "what is in the overflow series stays there: it counts once"
    assert store._writer._custody.bases.aggregates.metrics.known["open"].overflow[""].readings.keys() == {
        (store.journal.name, (("n", str(n)),)) for n in (3, 4, 5, 6)
    }


def test_the_overflow_of_a_gauge_goes_with_its_workers(opened, worker):
    """What a dead worker had in it is taken out of it, also by another writer."""
    store, other = opened(series_limit=1), worker()
    say(store, family("open", "gauge", [point(1, a="x"), point(2, a="y")]))
    kept(store)
    say(other, family("open", "gauge", [point(4, a="y"), point(8, a="z")]))
    kept(other)
    assert values(store, "open") == {"a=x": 1, OVERFLOW_TEXT: 14}
    store.close()
    die(store)
    store = opened(series_limit=1)
    eventually(lambda: values(store, "open") == {OVERFLOW_TEXT: 12}, 5)
    die(other)
    eventually(lambda: find(store, "open") is None, 5)


def test_a_worker_has_an_overflow_of_its_own(opened, worker):
    """Series by worker are limited together; each worker's remainder goes with it."""
    store, other = opened(series_limit=2), worker()
    for each in (store, other):
        say(each, family("cpu", points=[point(n, n=str(n)) for n in range(1, 4)], policy="worker"))
        kept(each)
    mine, theirs = (f"worker={worker_label(each.journal.name)}" for each in (store, other))
    own = {f"n=1,{mine}": 1, f"n=2,{mine}": 2, f"{OVERFLOW_TEXT},{mine}": 3}
    assert values(store, "cpu") == own | {f"{OVERFLOW_TEXT},{theirs}": 6}
    die(other)
    eventually(lambda: values(store, "cpu") == own, 5)


def test_even_an_overflow_of_readings_is_bounded(opened):
    """It takes memory to know what is in it: past a few limits, points are rejected."""
    store = opened(series_limit=2)
    say(store, family("open", "gauge", [point(1, n=str(n)) for n in range(100)]))
    say(store, family("open", "gauge", [point(1, n=str(n)) for n in range(5)]))
    kept(store)
    assert values(store, "open") == {"n=0": 1, "n=1": 1, OVERFLOW_TEXT: 8}
    assert rejected(store, "too_many_readings") == 90


def test_the_limit_of_metrics(opened):
    """Points of those past it are rejected; when one has gone for good, there is room."""
    store = opened(metric_limit=3)
    say(store, *(family(f"m{n}", "gauge", [point(n)]) for n in range(5)))
    kept(store)
    assert [name for n in range(5) for name in [f"m{n}"] if find(store, name)] == ["m0", "m1", "m2"]
    assert rejected(store, "too_many_metrics") == 2
    store.close()
    die(store)
    store = opened(metric_limit=3)
    eventually(lambda: find(store, "m0") is None, 5)
    store._writer._due.pop("retention", None)
    eventually(lambda: "m0" not in store._writer._custody.bases.aggregates.metrics.known, 5)
    say(store, family("m4", "gauge", [point(4)]))
    kept(store)
    assert values(store, "m4") == {"": 4}
