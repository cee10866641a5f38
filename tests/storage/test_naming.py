import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracekeep.storage.families import ACCEPTED, OVERFLOW, SPAN_CALLS, SPAN_LATENCY, FamilySpec, span_labels
from tracekeep.storage.naming import BOTH, COLLECTOR, TEMPO, Naming, renamed
from tracekeep.storage.views import Exemplar, Family, Series

LABELS = span_labels("shop", "GET /x", 2, 2)
THEIRS = (
    ("service_name", "shop"),
    ("span_name", "GET /x"),
    ("span_kind", "SPAN_KIND_SERVER"),
    ("status_code", "STATUS_CODE_ERROR"),
)


def family(spec, *series):
    return Family(spec.name, spec.type, spec.help, spec.unit, spec.bounds, list(series))


def latency(**changes):
    content = {
        "value": 3,
        "sum": 0.25,
        "buckets": (1.0,) * 14,
        "start_ns": 7,
        "exemplars": {2: Exemplar("aa", "bb", 0.0075, 9)},
        "version": 5,
    }
    return Series(LABELS, **content | changes)


def test_calls_are_named_as_by_the_collector():
    """Name and labels change; value, start and version don't."""
    given_ = renamed(family(SPAN_CALLS, Series(LABELS, 3, start_ns=7, version=5), Series(OVERFLOW, 2)))
    assert (given_.name, given_.type, given_.bounds) == ("traces_span_metrics_calls", "counter", ())
    assert given_.series == [Series(THEIRS, 3, start_ns=7, version=5), Series(OVERFLOW, 2)]


def test_latency_is_given_in_milliseconds():
    """Bounds, sum and exemplars are scaled; counts are not."""
    given_ = renamed(family(SPAN_LATENCY, latency()))
    assert (given_.name, given_.unit) == ("traces_span_metrics_duration_milliseconds", "milliseconds")
    assert given_.bounds == tuple(2.0 * 2**i for i in range(14))
    (series,) = given_.series
    assert (series.labels, series.value, series.sum, series.buckets) == (THEIRS, 3, 250.0, (1.0,) * 14)
    assert series.exemplars == {2: Exemplar("aa", "bb", 7.5, 9)}
    assert (series.start_ns, series.version) == (7, 5)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (TEMPO, [SPAN_CALLS.name, SPAN_LATENCY.name, ACCEPTED.name]),
        (COLLECTOR, ["traces_span_metrics_calls", "traces_span_metrics_duration_milliseconds", ACCEPTED.name]),
        (
            BOTH,
            [
                SPAN_CALLS.name,
                "traces_span_metrics_calls",
                SPAN_LATENCY.name,
                "traces_span_metrics_duration_milliseconds",
                ACCEPTED.name,
            ],
        ),
    ],
)
def test_the_setting_chooses(names, expected):
    """Only the span metrics have two names; all others are the same object."""
    own = family(ACCEPTED, Series((), 3))
    given_ = Naming(names).give([family(SPAN_CALLS), family(SPAN_LATENCY), own])
    assert [each.name for each in given_] == expected
    assert given_[-1] is own


@given(reads=st.lists(st.sets(st.integers(0, 20)), min_size=1, max_size=6))
def test_what_has_not_changed_stays_the_same_object(reads):
    """From read to read a series is replaced just when the one it is made of was, and nothing of old ones is kept."""
    naming, held = Naming(COLLECTOR), [latency(version=0) for _ in range(20)]
    before, given_before = {}, {}
    for number, changed in enumerate(reads, 1):
        for place in changed & set(range(20)):
            held[place] = latency(version=number)
        members = [series for place, series in enumerate(held) if place not in changed or place % 2]
        (given_,) = naming.give([family(SPAN_LATENCY, *members)])
        assert [each.version for each in given_.series] == [each.version for each in members]
        for series, each in zip(members, given_.series, strict=True):
            if id(series) in before:
                assert each is given_before[id(series)]
        before = {id(series): series for series in members}
        given_before = {id(series): each for series, each in zip(members, given_.series, strict=True)}
        assert len(naming._renamings[SPAN_LATENCY.name]._series) == len(members)


def test_an_unchanged_family_stays_the_same_object():
    """It need not even be looked through."""
    naming, one = Naming(COLLECTOR), family(SPAN_LATENCY, latency())
    assert naming.give([one])[0] is naming.give([one])[0]


@given(bound=st.floats(1e-6, 1e6))
def test_milliseconds_are_round(bound):
    """A bound given with few digits has as few in the other unit."""
    text = float(f"{bound:.6g}")
    (given_,) = renamed(family(FamilySpec(SPAN_LATENCY.name, "", (text,)))).bounds
    assert len(repr(given_).replace(".", "").replace("-", "").rstrip("0").lstrip("0")) <= 10
    assert given_ == pytest.approx(text * 1000)
