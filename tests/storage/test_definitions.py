"""Definitions of application metrics that exclude each other or change, and points that can't be kept."""

import logging
import math
import time

import pytest
from tk_app_metrics import family, find, kept, point, rejected, say, values
from tk_spans import counter, die
from tk_wait import eventually

from tracekeep.storage.definitions import REJECT_REASONS
from tracekeep.storage.families import REJECTED, SPAN_CALLS

BUCKETS = point(buckets=[1, 1])
REJECTS = {
    "a type nobody knows": ("bad_definition", family("jobs", "exotic", [point(1)])),
    "a policy nobody knows": ("bad_definition", family("jobs", "gauge", [point(1)], policy="average")),
    "no name": ("bad_definition", family("", points=[point(1)])),
    "a name of two lines": ("bad_definition", family("a\nb", points=[point(1)])),
    "a long name": ("bad_definition", family("x" * 1000, points=[point(1)])),
    "bounds that fall": ("bad_definition", family("h", "histogram", [point(buckets=[1, 1, 1])], bounds=[2, 1])),
    "equal bounds": ("bad_definition", family("h", "histogram", [point(buckets=[1, 1, 1])], bounds=[1, 1])),
    "an infinite bound": ("bad_definition", family("h", "histogram", [point(buckets=[1, 1])], bounds=[math.inf])),
    "a bound that is no number": ("bad_definition", family("h", "histogram", [BUCKETS], bounds=[math.nan])),
    "a name of ours": ("name_taken", family(SPAN_CALLS.name, points=[point(1)])),
    "a page name of ours": ("name_taken", family(f"{SPAN_CALLS.name}_total", "gauge", [point(1)])),
    "a state of ours": ("name_taken", family("tracekeep_degraded", "gauge", [point(1)])),
    "another's page name": ("name_taken", family("known_total", "gauge", [point(1)])),
    "another type": ("type_conflict", family("known", "gauge", [point(1)])),
    "another policy": ("policy_conflict", family("known", points=[point(1)], policy="worker")),
    "other bounds": ("bounds_conflict", family("sizes", "histogram", [point(buckets=[1, 1])], bounds=[2])),
    "a falling counter": ("negative", family("known", points=[point(-1)])),
    "a falling bucket": ("negative", family("sizes", "histogram", [point(buckets=[2, -1, 1])], bounds=[1, 2])),
    "a count of NaN": ("non_finite", family("known", points=[point(math.nan)])),
    "an infinite count": ("non_finite", family("known", points=[point(math.inf)])),
    "a bucket of NaN": ("non_finite", family("sizes", "histogram", [point(buckets=[math.nan, 1, 1])], bounds=[1, 2])),
    "too few buckets": ("bad_buckets", family("sizes", "histogram", [point(buckets=[1, 1])], bounds=[1, 2])),
    "no buckets": ("bad_buckets", family("sizes", "histogram", [point(1)], bounds=[1, 2])),
    "a label twice": ("bad_labels", family("known", points=[point(1)])),
    "the bucket's label": ("bad_labels", family("sizes", "histogram", [point(buckets=[1] * 3, le="1")], bounds=[1, 2])),
    "the quantile's label": ("bad_labels", family("s", "summary", [point(1, quantile="0.5")])),
    "the name's label": ("bad_labels", family("known", points=[point(1, __name__="x")])),
    "many labels": ("bad_labels", family("known", points=[point(1, **{f"l{n}": "x" for n in range(100)})])),
    "a long label": ("bad_labels", family("known", points=[point(1, **{"l" * 1000: "x"})])),
    "an unnamed label": ("bad_labels", family("known", points=[point(1, **{"": "x"})])),
}  # fmt: skip
REJECTS["a label twice"][1].points[0].labels[:] = [("a", "1"), ("a", "2")]


@pytest.mark.parametrize("what", REJECTS)
def test_what_is_rejected(opened, worker, what, caplog):
    """It is counted by reason and logged once, by name; all else is kept, of the same record too."""
    reason, bad = REJECTS[what]
    store, other = opened(), worker()
    good = (
        family("known", points=[point(1)]),
        family("sizes", "histogram", [point(buckets=[1, 0, 0], sum_=0.5)], bounds=[1, 2]),
    )
    say(other, *good)
    kept(other)
    with caplog.at_level(logging.WARNING, "tracekeep"):
        for _ in range(3):
            say(store, bad, *good)
        kept(store)
    assert rejected(store, reason) == counter(store, REJECTED.name) == 3
    assert reason in REJECT_REASONS
    assert [reason in record.getMessage() for record in caplog.records] == [True]
    assert values(store, "known") == {"": 4}
    (sizes,) = find(store, "sizes").series
    assert (sizes.value, sizes.sum, sizes.buckets) == (4, 2.0, (4, 4))
    account = store.accounting()
    assert (account.accepted, account.stored, account.balanced) == (4, 4, True)


def test_a_sum_that_is_no_number(store):
    """Counts go on without it; that is counted."""
    for total in (1.0, math.inf, math.nan, 2.0):
        say(store, family("h", "histogram", [point(buckets=[1, 0], sum_=total)], bounds=[1]))
    kept(store)
    (series,) = find(store, "h").series
    assert (series.value, series.sum) == (4, 3.0)
    assert rejected(store, "non_finite") == 2


# --- definitions that change ------------------------------------------------------------------------------------------

OTHERS = {
    "bounds": (
        family("m", "histogram", [point(buckets=[1, 2, 3], sum_=9)], bounds=[1, 2]),
        family("m", "histogram", [point(buckets=[1, 0], sum_=0.5)], bounds=[5]),
        (1, 0.5, (1,)),
    ),
    "type": (family("m", points=[point(50)]), family("m", "gauge", [point(2)]), (2, 0, ())),
    "policy": (family("m", points=[point(50)]), family("m", points=[point(2)], policy="worker"), (2, 0, ())),
    "to a total": (family("m", "gauge", [point(50)]), family("m", points=[point(2)]), (2, 0, ())),
}


@pytest.mark.parametrize("what", OTHERS)
def test_a_definition_changes_with_a_deploy(opened, worker, what):
    """While a live process gives the old one, the new one is rejected; then it takes its place, and all begins anew."""
    old, new, (value, total, buckets) = OTHERS[what]
    store, first = opened(), worker()
    say(first, old)
    kept(first)
    began = find(store, "m").series[0].start_ns
    second = worker()
    say(second, new)
    kept(second)
    assert find(store, "m").type == old.type
    assert counter(store, REJECTED.name) == 1
    die(first)
    changed = time.time_ns()
    eventually(lambda: not store._writer._custody.bases.aggregates.metrics.known["m"].users, 5)
    new.points[0].created = 1
    say(second, new)
    kept(second)
    family_ = find(store, "m")
    (series,) = family_.series
    assert (family_.type, family_.bounds) == (new.type, tuple(new.bounds))
    assert (series.value, series.sum, series.buckets) == (value, total, buckets)
    if new.type != "gauge":
        assert began < changed <= series.start_ns
    say(first, old)
    kept(second)
    store.close()
    die(store)
    again = opened()
    say(again, new)
    kept(again)
    assert find(again, "m").type == new.type
    assert sum(values(again, "m").values()) == 2 * value


def test_a_process_changes_its_own_definition(store):
    """Where nobody else gives the metric, as when it is registered anew with other buckets."""
    say(store, family("h", "histogram", [point(buckets=[1, 2])], bounds=[1]))
    say(store, family("h", "histogram", [point(buckets=[1, 2, 3])], bounds=[1, 2]))
    kept(store)
    (series,) = find(store, "h").series
    assert series.buckets == (1, 3)
    assert counter(store, REJECTED.name) == 0


def test_help_and_unit_follow_the_newest_process(store, worker):
    """They are words: no process is refused for them."""
    say(store, family("m", points=[point(1)], help_="Old.", unit="jobs"))
    kept(store)
    other = worker()
    say(other, family("m", points=[point(1)], help_="New.", unit=""))
    kept(other)
    say(store, family("m", points=[point(1)], help_="Old.", unit="jobs"))
    kept(store)
    assert (find(store, "m").help, find(store, "m").unit, values(store, "m")) == ("New.", "", {"": 3})
