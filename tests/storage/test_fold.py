import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracekeep.storage import sketch
from tracekeep.storage.fold import fold, in_order_in_python

starts = st.integers(0, (1 << 62) - 1)
durations = st.integers(0, 20) | st.integers(0, (1 << 62) - 1)
values = st.lists(st.integers(-(1 << 63), (1 << 63) - 1) | st.integers(-2, 1 << 20), max_size=60)


def rows_of(times):
    return [(bytes(16), place, None, 1, None, start, took, 0, None, None) for place, (start, took) in enumerate(times)]


@given(st.lists(st.tuples(starts, durations), min_size=1, max_size=60))
def test_a_fold_is_in_order(times):
    """From the quickest to the slowest, those alike as they came, with the latest end of all."""
    rows = rows_of(times)
    made = fold(rows)
    assert made.rows == sorted(rows, key=lambda row: (row[6], row[1]))
    assert made.durations == [row[6] for row in made.rows]
    assert made.last == max(start + took for start, took in times)


@given(st.lists(st.tuples(starts, durations), min_size=1, max_size=60))
def test_both_ways_order_alike(native, times):
    """C and Python."""
    rows = rows_of(times)
    assert native("tracekeep.storage", "in_order")(rows) == in_order_in_python(rows)


@given(values, values)
def test_both_ways_count_alike(native, some, more):
    """Any whole numbers of 64 bits, at the borders of the buckets too: the same counts in the same order."""
    borders = [round(sketch.borders(place)[1]) + off for place in (1, 31, 32, 1000, 1900) for off in (-1, 0, 1)]
    quick, slow = {}, {}
    for part in (some, more, borders):
        native("tracekeep.storage", "add_counts")(quick, part, sketch._WHOLE_BOUNDS, sketch._ZERO)
        sketch.add_in_python(slow, part)
        assert list(quick.items()) == list(slow.items())


@pytest.mark.parametrize("rows", [None, [()], [(1, 2)], [None], [tuple("0123456789")]])
def test_no_rows_are_refused(native, rows):
    """A mistake in Python shows as an exception."""
    with pytest.raises((TypeError, IndexError, SystemError)):
        native("tracekeep.storage", "in_order")(rows)


@pytest.mark.parametrize(
    "arguments", [(), ({}, [], b""), ([], [], b"", 0), ({}, ["1"], b"", 0), ({}, [1 << 64], b"", 0)]
)
def test_no_numbers_are_refused(native, arguments):
    """The same of counts."""
    with pytest.raises((TypeError, OverflowError)):
        native("tracekeep.storage", "add_counts")(*arguments)
