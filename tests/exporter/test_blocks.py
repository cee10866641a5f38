import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracekeep.exporter import blocks
from tracekeep.exporter.groups import Group
from tracekeep.exporter.negotiation import Exposition, Format
from tracekeep.storage.views import Exemplar, Series

BOUNDS = (-1.5, 0.1, 1e6)
counts = st.one_of(
    st.integers(0, 1 << 20), st.sampled_from([-1, True, -0.0, 7.0, 0.5, 2.0**53, 1 << 63, 1 << 64, 10**30]), st.floats()
)
sums = st.one_of(st.floats(), st.integers(), st.sampled_from([1e16, 1e-7, -0.0, 123456.0, 5e-324]))
buckets = st.one_of(st.tuples(*[counts] * len(BOUNDS)), st.lists(counts, max_size=5).map(tuple))
exemplars = st.dictionaries(st.integers(-1, 4), st.just(Exemplar("ab" * 16, "cd" * 8, 0.05, 10**18)), max_size=2)
members = st.builds(
    Series, st.just(()), counts, sums, buckets, st.integers(0, 3).map(lambda seconds: seconds * 10**9), exemplars
)
inners = st.sampled_from([b"", b'a="b"', b'a="100%%"', 'a="\u00e4"'.encode(), b'a="' + b"x" * 3000 + b'"'])


def histogram(name, fmt, created):
    group = Group(name, "histogram", "", "", BOUNDS, (0,), (name,))
    return blocks.blocks(group, Exposition(fmt), created=created)[0]


@given(
    st.lists(st.tuples(members, inners), max_size=5),
    st.sampled_from(["wait_seconds", "wait.seconds", "100%"]),
    st.sampled_from(Format),
    st.booleans(),
)
def test_both_ways_write_the_same(native, given_, name, fmt, created):
    """Whatever a histogram's numbers and labels are: in C the lines are those of the Python, byte by byte."""
    block = histogram(name, fmt, created)
    series, texts = tuple([each for each, _ in given_]), tuple([inner for _, inner in given_])
    written = []
    for way in (native("tracekeep.exporter", "write_histograms"), None):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(blocks, "_write_histograms", way)
            written.append(block.write(series, texts))
    assert written[0] == written[1]


def test_what_is_plain_is_written_in_c(native):
    """Else the property above would compare Python with itself."""
    lines = histogram("wait_seconds", Format.TEXT, created=False)._gaps.lines
    plain, odd = Series((), 3.0, 1.5, (0, 1, 2)), Series((), 3.0, 1.5, (0, 0.5, 2))
    texts = native("tracekeep.exporter", "write_histograms")(lines, (b'a="b"',) * 2, (plain, odd))
    expected = (
        b'wait_seconds_bucket{a="b",le="-1.5"} 0\n'
        b'wait_seconds_bucket{a="b",le="0.1"} 1\n'
        b'wait_seconds_bucket{a="b",le="1e+06"} 2\n'
        b'wait_seconds_bucket{a="b",le="+Inf"} 3\n'
        b'wait_seconds_count{a="b"} 3\n'
        b'wait_seconds_sum{a="b"} 1.5\n'
    )
    assert texts == [expected, None]


def test_wrong_arguments_are_refused(native):
    """By an exception, not by a crash."""
    lines = histogram("wait_seconds", Format.TEXT, created=False)._gaps.lines
    write = native("tracekeep.exporter", "write_histograms")
    for wrong in [(lines, (), (Series((), 1.0),)), (lines[:2], (), ()), (((b"", ""),) * 4, (), ()), ((), (), ())]:
        with pytest.raises(ValueError, match="no lines"):
            write(*wrong)
    with pytest.raises(AttributeError):
        write(lines, (b'a="b"',), (object(),))
    assert write(lines, (None,), (Series((), 1.0),)) == [None]
