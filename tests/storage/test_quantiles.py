"""Intervals of quantiles hold what they claim."""

import random
from math import comb

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracekeep.storage import quantiles, sketch
from tracekeep.storage.quantiles import difference, interval, ranks
from tracekeep.storage.views import Interval


def chance_below(total, q, count):
    """P(B < count), exactly enough."""
    return sum(comb(total, k) * q**k * (1 - q) ** (total - k) for k in range(count))


@given(st.integers(1, 300), st.sampled_from([0.5, 0.9, 0.95, 0.99]), st.sampled_from([0.8, 0.95, 0.9747]))
def test_the_ranks_are_the_tightest_that_hold(total, q, confidence):
    """Both tails are within the bound, and with the next rank they would not be."""
    tail = (1 - confidence) / 2
    low, high = ranks(total, q, confidence)
    assert chance_below(total, q, low) <= tail * (1 + 1e-9)
    assert chance_below(total, q, low + 1) > tail * (1 - 1e-9)
    assert 1 - chance_below(total, q, high) <= tail * (1 + 1e-9) + 1e-12
    assert high == 0 or 1 - chance_below(total, q, high - 1) > tail * (1 - 1e-9)


@pytest.mark.parametrize("q", [0.5, 0.95, 0.99])
def test_the_normal_takes_over_without_a_gap(q, monkeypatch):
    """Where the binomial is no longer summed, the ranks are at least as wide, by a few ranks at most."""
    total = round(quantiles._EXACT / (q * (1 - q))) + 10
    rough = ranks(total, q, 0.9747)
    monkeypatch.setattr(quantiles, "_EXACT", 1e9)
    exact = ranks(total, q, 0.9747)
    assert 0 <= exact[0] - rough[0] <= 5
    assert 0 <= rough[1] - exact[1] <= 5


def test_the_interval_has_the_quantile_as_often_as_it_says():
    """Of many samples of a distribution, at least the stated part has the true quantile between its bounds."""
    chance, true, hits = random.Random(5), 1_000_000 * 0.95, 0
    for _ in range(400):
        values = [1 + int(1_000_000 * chance.random()) for _ in range(200)]
        counts = {}
        sketch.add(counts, values)
        found = interval(counts, 0.95, 0.95, min(values), max(values))
        hits += found.low_ns <= true <= found.high_ns
    assert hits >= 0.93 * 400  # 0.95 less two standard deviations


@settings(max_examples=50)
@given(st.lists(st.integers(1, 10**12), min_size=1, max_size=100), st.sampled_from([0.5, 0.95]))
def test_the_borders_enclose_the_ranks(values, q):
    """The values at both ranks are inside, though the sketch knows only their buckets."""
    counts, ordered = {}, sorted(values)
    sketch.add(counts, values)
    low, high = ranks(len(values), q, 0.95)
    found = interval(counts, q, 0.95, ordered[0], ordered[-1])
    assert (found.low_ns is None) == (low == 0)
    assert (found.high_ns is None) == (high == len(values) + 1)
    if low:
        assert found.low_ns <= ordered[low - 1] * (1 + 1e-12)
    if high <= len(values):
        assert found.high_ns >= ordered[high - 1] * (1 - 1e-12)


def test_a_difference_is_as_open_as_its_parts():
    """A bound that is missing on the one side is missing from the difference."""
    assert difference(Interval(1, 2), Interval(5, 7)) == Interval(3, 6)
    assert difference(Interval(1, None), Interval(5, 7)) == Interval(None, 6)
    assert difference(Interval(1, 2), Interval(5, None)) == Interval(3, None)
