"""The ledger: what it says has been added is what was added, whatever happens to the series."""

import math
from collections import Counter as Tally

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracekeep.instrumentation.metrics.ledger import Ledger
from tracekeep.instrumentation.metrics.reading import Point, Reading, Readings
from tracekeep.storage.families import OVERFLOW


def labels(name):
    return (("kind", name),)


def readings(*given, type_="counter", policy="sum", bounds=()):
    """One metric `m` with these series: (name, point) each."""
    found = Readings()
    found.take(Reading("m", type_, policy=policy, bounds=bounds, points={labels(name): p for name, p in given}))
    return found


def counter(**values):
    return readings(*((name, Point(value)) for name, value in values.items()))


def gauge(policy="sum", **values):
    return readings(*((name, Point(value)) for name, value in values.items()), type_="gauge", policy=policy)


def taken(ledger, given):
    """What is new: {name of the series: value}."""
    families, gone = ledger.take(given)
    points = families[0].points if families else []
    new = {dict(point.labels).get("kind", "overflow"): point.value for point in points}
    return new, [dict(each[1]).get("kind", "overflow") for each in gone]


def test_only_what_was_added():
    """A new series in full, also at 0; a known one by what it gained; nothing where it gained nothing."""
    ledger = Ledger(10)
    assert taken(ledger, counter(a=5, b=0)) == ({"a": 5, "b": 0}, [])
    assert taken(ledger, counter(a=7, b=0)) == ({"a": 2}, [])
    assert taken(ledger, counter(a=7, b=0)) == ({}, [])


def test_a_counter_that_fell_began_again():
    """What it has is what it gained."""
    ledger = Ledger(10)
    taken(ledger, counter(a=5))
    assert taken(ledger, counter(a=3)) == ({"a": 3}, [])
    assert taken(ledger, counter(a=0)) == ({}, [])
    assert taken(ledger, counter(a=1)) == ({"a": 1}, [])


def test_a_counter_that_was_made_anew():
    """It began again also where it has more than before, as its start time shows."""
    ledger = Ledger(10)
    taken(ledger, readings(("a", Point(5, created=100))))
    assert taken(ledger, readings(("a", Point(8, created=200)))) == ({"a": 8}, [])


def test_a_series_that_is_missing_for_a_while():
    """A collector that gives nothing once doesn't count all again when it does."""
    ledger = Ledger(10)
    taken(ledger, counter(a=5))
    assert taken(ledger, Readings()) == ({}, [])
    assert taken(ledger, counter(a=6)) == ({"a": 1}, [])


def test_histograms():
    """Buckets, sum and count gain together; a bucket that fell means that it began again."""
    ledger = Ledger(10)

    def look(buckets, sum_):
        found = readings(("a", Point(sum(buckets), sum_, list(buckets))), type_="histogram", bounds=(1.0,))
        return [(p.value, p.sum, p.buckets) for family in ledger.take(found)[0] for p in family.points]

    assert look([1, 2], 4.5) == [(3, 4.5, [1, 2])]
    assert look([1, 4], 8.5) == [(2, 4.0, [0, 2])]
    assert look([1, 4], 8.5) == []
    assert look([0, 9], 9.5) == [(9, 9.5, [0, 9])]


def test_other_buckets_begin_again():
    """A histogram that is registered anew with other bounds is another one."""
    ledger = Ledger(10)
    ledger.take(readings(("a", Point(3, 3.0, [1, 2])), type_="histogram", bounds=(1.0,)))
    families, _ = ledger.take(readings(("a", Point(4, 3.0, [1, 2, 1])), type_="histogram", bounds=(1.0, 2.0)))
    assert [(f.bounds, p.value, p.buckets) for f in families for p in f.points] == [([1.0, 2.0], 4, [1, 2, 1])]


def test_a_sum_that_is_no_number():
    """An observed NaN costs the sum, not the counts."""
    ledger = Ledger(10)
    families, _ = ledger.take(readings(("a", Point(1, math.nan, [1])), type_="histogram"))
    assert families[0].points[0].sum == 0
    families, _ = ledger.take(readings(("a", Point(2, math.nan, [2])), type_="histogram"))
    assert (families[0].points[0].value, families[0].points[0].sum) == (1, 0)


def test_gauges_when_they_change():
    """As they are: at first, when they change, and that they have gone."""
    ledger = Ledger(10)
    assert taken(ledger, gauge(a=5.0, b=math.nan)) == ({"a": 5.0, "b": pytest.approx(math.nan, nan_ok=True)}, [])
    assert taken(ledger, gauge(a=5.0, b=math.nan)) == ({}, [])
    assert taken(ledger, gauge(a=4.0, b=math.nan)) == ({"a": 4.0}, [])
    assert taken(ledger, gauge(a=4.0)) == ({}, ["b"])
    assert taken(ledger, Readings()) == ({}, ["a"])
    assert taken(ledger, gauge(a=4.0)) == ({"a": 4.0}, [])


def test_the_most_recent_gauge():
    """A value that was set again, to the same, is the most recent one."""
    ledger = Ledger(10)
    value = float("5.5")
    assert taken(ledger, gauge("mostrecent", a=value)) == ({"a": 5.5}, [])
    assert taken(ledger, gauge("mostrecent", a=value)) == ({}, [])
    assert taken(ledger, gauge("mostrecent", a=float("5.5"))) == ({"a": 5.5}, [])


def test_past_the_limit():
    """What is beyond goes to one series, exactly, and stays there while it is in use."""
    ledger = Ledger(2)
    assert taken(ledger, counter(a=1, b=2, c=3, d=4)) == ({"a": 1, "b": 2, "overflow": 7}, [])
    assert taken(ledger, counter(b=2, c=5, d=4)) == ({"overflow": 2}, [])
    assert taken(ledger, counter(b=3, c=5, d=4, e=1)) == ({"b": 1, "overflow": 1}, [])


def test_a_beyond_series_that_goes():
    """It takes nothing away from what was counted, and adds nothing."""
    ledger = Ledger(1)
    taken(ledger, counter(a=1, b=10, c=5))
    assert taken(ledger, counter(a=1, c=5)) == ({}, [])
    assert taken(ledger, counter(a=1, c=7)) == ({"overflow": 2}, [])


def test_room_for_new_series():
    """Series that are no more give their place to new ones."""
    ledger = Ledger(2)
    taken(ledger, counter(a=1, b=1))
    assert taken(ledger, counter(b=1, c=4)) == ({"c": 4}, [])
    assert taken(ledger, counter(b=1, c=4, d=2)) == ({"overflow": 2}, [])


@pytest.mark.parametrize(("policy", "value"), [("sum", 5.0), ("max", 3.0), ("min", 2.0), ("mostrecent", 2.0)])
def test_gauges_past_the_limit(policy, value):
    """They become one as those of several processes do, and go when there are none."""
    ledger = Ledger(1)
    assert taken(ledger, gauge(policy, a=1.0, b=3.0, c=2.0)) == ({"a": 1.0, "overflow": value}, [])
    assert taken(ledger, gauge(policy, a=1.0))[1] == ["overflow"]


def test_what_a_child_inherits():
    """Counts from before the fork are the parent's; gauges are what they are, sums of additions the child's own."""
    ledger = Ledger(2)
    up_down = readings(("a", Point(5.0)), type_="gauge")
    up_down["m"].is_added_to = True
    ledger.adopt(counter(a=5, b=1, c=3).values())
    assert taken(ledger, counter(a=5, b=1, c=3)) == ({}, [])
    assert taken(ledger, counter(a=6, b=1, c=4)) == ({"a": 1, "overflow": 1}, [])
    ledger = Ledger(10)
    ledger.adopt([*gauge(a=5.0).values()])
    assert taken(ledger, gauge(a=5.0)) == ({"a": 5.0}, [])
    ledger = Ledger(10)
    ledger.adopt(up_down.values())
    after = readings(("a", Point(7.0)), type_="gauge")
    assert taken(ledger, after) == ({"a": 2.0}, [])


def test_what_began_after_the_fork_is_the_childs():
    """Of collectors that can't be read at a fork, only series that are older are the parent's."""
    ledger = Ledger(10)
    given = readings(("old", Point(5, created=100)), ("new", Point(3, created=300)), ("unknown", Point(2)))
    ledger.adopt(given.values(), before=200)
    assert taken(ledger, given) == ({"new": 3}, [])


_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.sampled_from("abcde"), st.integers(0, 1 << 40)),
        st.tuples(st.just("restart"), st.sampled_from("abcde"), st.integers(0, 1 << 40)),
        st.tuples(st.just("remove"), st.sampled_from("abcde"), st.just(0)),
        st.tuples(st.just("look"), st.just(""), st.just(0)),
    ),
    max_size=60,
)


@given(_STEPS)
def test_the_sum_of_deltas(steps):
    """Any increments, restarts, removals and looks: what is journaled is what was counted by the last look.

    Each life of a series has a start time of its own, as in both libraries.
    """
    ledger, counts = Ledger(10), {}
    journaled, wanted, lives = Tally(), Tally(), Tally()
    for clock, (kind, name, amount) in enumerate([*steps, ("look", "", 0)], start=1):
        if kind == "look":
            found = readings(*((each, Point(value, created=born)) for each, (value, born) in counts.items()))
            new, gone = taken(ledger, found)
            assert not gone
            journaled.update(new)
            wanted.update({each: value - lives[each, born] for each, (value, born) in counts.items()})
            lives.update({(each, born): value - lives[each, born] for each, (value, born) in counts.items()})
        elif kind == "remove":
            counts.pop(name, None)
        elif kind == "restart" or name not in counts:
            counts[name] = (amount, clock)
        else:
            counts[name] = (counts[name][0] + amount, counts[name][1])
    assert +journaled == +wanted


@given(st.lists(st.dictionaries(st.sampled_from("abcdefgh"), st.integers(0, 1000)), max_size=20), st.integers(1, 8))
def test_the_overflow_is_the_exact_remainder(rounds, limit):
    """However many series there are: all together is what was counted, and no more than the limit are told apart."""
    ledger, counts, journaled = Ledger(limit), Tally(), Tally()
    for added in rounds:
        counts.update(added)
        counts.update(dict.fromkeys(added, 0))
        new, _ = taken(ledger, counter(**counts))
        journaled.update(new)
    assert journaled.total() == counts.total()
    assert len(set(journaled) - {"overflow"}) <= limit


def test_the_overflow_series_has_the_stores_labels():
    """So that the store adds it to its own."""
    families, _ = Ledger(1).take(counter(a=1, b=2))
    assert tuple(families[0].points[1].labels) == OVERFLOW
