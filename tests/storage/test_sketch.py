import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracekeep.storage import sketch

durations = st.integers(1, (1 << 63) - 1) | st.integers(1, 10_000_000_000)
groups = st.lists(durations | st.just(0) | st.integers(-1000, 0), max_size=50)


def counts(values):
    result = {}
    sketch.add(result, values)
    return result


def merged(*parts):
    result = {}
    for part in parts:
        sketch.merge(result, part)
    return result


@given(st.lists(durations, min_size=1, max_size=200), st.floats(0, 1))
def test_a_quantile_is_within_the_bound(values, q):
    """At most 1.1 % off the value at the nearest rank, for any positive values."""
    exact = sorted(values)[max(1, math.ceil(q * len(values))) - 1]
    assert sketch.quantile(counts(values), q) == pytest.approx(exact, rel=0.011)


@given(st.integers(0, 62), st.integers(-2, 2))
def test_powers_of_two_fall_into_their_buckets(exponent, offset):
    """At the borders, where rounding could choose the wrong bucket, the bound holds too."""
    value = max(1, (1 << exponent) + offset)
    assert sketch.quantile(counts([value]), 0.5) == pytest.approx(value, rel=0.011)


@given(groups, groups, groups)
def test_merging_is_adding(one, two, three):
    """In any order and grouping the same as a sketch of all values."""
    a, b, c = counts(one), counts(two), counts(three)
    assert merged(a, b) == merged(b, a)
    assert merged(merged(a, b), c) == merged(a, merged(b, c)) == counts(one + two + three)
    assert (a, b) == (counts(one), counts(two)), "what is merged stays as it is"


@given(groups)
def test_it_is_stored_whole(values):
    """What was encoded is decoded."""
    assert sketch.decode(sketch.encode(counts(values))) == counts(values)


def test_nothing_and_zero():
    """No values have no quantile; zero and what is below it count as zero."""
    assert sketch.quantile({}, 0.5) == 0.0
    assert sketch.quantile(counts([0, -5, 0]), 0.99) == 0.0
    assert sketch.quantile(counts([0, 0, 1000]), 0.5) == 0.0


@pytest.mark.parametrize("blob", [b"", b"\xc1", b"\x90", b"\x81\xa1a\x01"])
def test_what_is_no_sketch_is_refused(blob):
    """A broken blob is an error, not a number."""
    with pytest.raises(msgspec.MsgspecError):
        sketch.decode(blob)
