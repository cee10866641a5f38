"""Sums, series and comparisons equal what naive Python finds in the same spans."""

import itertools
import time
from collections import defaultdict
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tk_spans import CLIENT, ERROR, INTERNAL, SERVER, Recorder, die, exception
from tk_wait import eventually

from tracekeep.storage import QueryTimeout, Unavailable, Window, engine, performance

MINUTE = 60_000_000_000
BASE = (time.time_ns() // MINUTE - 600) // 60 * 60 * MINUTE
"""The beginning of an hour, ten hours ago."""
services = itertools.count()
spans = st.lists(
    st.tuples(
        st.integers(0, 20 * MINUTE),  # when it ends, after BASE
        st.integers(1, 20_000_000_000),
        st.sampled_from([0, 1, ERROR]),
        st.sampled_from(["a", "b"]),
        st.sampled_from([SERVER, CLIENT]),
        st.sampled_from(["", "1.0", "2.0"]),
    ),
    min_size=1,
    max_size=80,
)


def nearest_rank(times, percent):
    return times[max(1, -(-percent * len(times) // 100)) - 1]


def check(figures, wanted):
    """Figures against the (end, duration, status, …) of the spans that they are of."""
    times = sorted(duration for _, duration, *_ in wanted)
    assert figures.count == len(wanted)
    assert figures.error_count == sum(status == ERROR for _, _, status, *_ in wanted)
    assert figures.slow_count == sum(duration >= 1_000_000_000 for duration in times)
    assert (figures.min_ns, figures.max_ns) == (times[0], times[-1])
    assert figures.last_ns == BASE + max(end for end, *_ in wanted)
    assert figures.avg_ns == pytest.approx(sum(times) / len(times))
    for percent, value in ((50, figures.p50_ns), (95, figures.p95_ns), (99, figures.p99_ns)):
        assert value == pytest.approx(nearest_rank(times, percent), rel=0.011)


def recorded(stores, service, made):
    """Record spans, each by another worker in turn."""
    recorders = {}
    for number, (end, duration, status, name, kind, release) in enumerate(made):
        worker = number % len(stores)
        record = recorders.get((worker, release))
        if record is None:
            version = {"service.version": release} if release else {}
            record = recorders[worker, release] = Recorder(stores[worker], service, **version)
        record(name, kind=kind, start=BASE + end - duration, duration=duration, status=status)
    assert all(store.flush(5) for store in stores)


def grouped(made, by, since, until):
    """The spans that a window counts, by group."""
    groups = defaultdict(list)
    for each in made:
        end, _, _, name, kind, release = each
        if since // MINUTE <= end // MINUTE <= (until - 1) // MINUTE:
            kind_name = {SERVER: "server", CLIENT: "client"}[kind]
            if by == "operation":
                groups[name, kind_name, None].append(each)
            elif kind == SERVER:
                groups[None, None, release if by == "release" else None].append(each)
    return groups


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    made=spans,
    ends=st.tuples(st.integers(0, 20 * MINUTE), st.integers(1, 20 * MINUTE)),
    by=st.sampled_from(performance.GROUPINGS),
)
def test_any_window_by_any_group(workers, made, ends, by):
    """Counts, sums and extremes are exact, quantiles within 1.1 %, whoever recorded and whatever minutes are merged."""
    service = f"service-{next(services)}"
    recorded(workers, service, made)
    since, until = min(ends), max(ends) + 1
    found = workers[0].performance(since_ns=BASE + since, until_ns=BASE + until, service=service, by=by)
    groups = grouped(made, by, since, until)
    assert {(each.name, each.kind, each.release) for each in found.groups} == groups.keys()
    assert found.total == len(groups)
    assert found.counted == Window(BASE + since // MINUTE * MINUTE, BASE + -(-until // MINUTE) * MINUTE)
    for each in found.groups:
        check(each, groups[each.name, each.kind, each.release])
    assert [each.count for each in found.groups] == sorted((each.count for each in found.groups), reverse=True)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(made=spans, step=st.integers(1, 30))
def test_a_series_is_the_window_cut_into_steps(workers, made, step):
    """Each point is of the spans that ended in its step; there is one for every step, also where nothing ended."""
    service = f"service-{next(services)}"
    recorded(workers, service, made)
    found = workers[0].performance_series(
        since_ns=BASE, until_ns=BASE + 20 * MINUTE, step_ns=step * MINUTE, service=service, by="operation"
    )
    begin, end = found.counted.since_ns, found.counted.until_ns
    assert begin % (step * MINUTE) == end % (step * MINUTE) == 0
    assert begin <= BASE < BASE + 20 * MINUTE <= end
    for series in found.series:
        assert [point.start_ns for point in series.points] == list(range(begin, end, step * MINUTE))
        for point in series.points:
            wanted = [
                each
                for each in made
                if each[3] == series.name
                and {SERVER: "server", CLIENT: "client"}[each[4]] == series.kind
                and point.start_ns <= BASE + each[0] < point.start_ns + step * MINUTE
            ]
            assert (point.figures is None) == (not wanted)
            if wanted:
                check(point.figures, wanted)
        assert series.count == sum(point.figures.count for point in series.points if point.figures)


@pytest.fixture
def workers(opened):
    """Give three stores of one directory, as in three processes."""
    first = opened()
    eventually(lambda: first.status().writer_pid, 5)
    return [first, opened(writer="none"), opened(writer="none")]


def test_restarts_and_rebuilding_change_nothing(opened):
    """The same answer after a restart in the middle of a minute, and after `aggregates.db` was lost."""
    made = [(number * 7_000_000_000, 1 + number * 10**7, 0, "a", SERVER, "1.0") for number in range(60)]
    for half in (made[:30], made[30:]):
        store = opened()
        recorded([store], "shop", half)
        before = store.performance(since_ns=BASE, until_ns=BASE + 10 * MINUTE, by="release")
        store.close()
        die(store)
    (group,) = before.groups
    check(group, made)
    engine.remove(store.data_dir / "aggregates.db")
    store = opened()

    def is_same():
        with suppress(Unavailable):
            return store.performance(since_ns=BASE, until_ns=BASE + 10 * MINUTE, by="release") == before

    eventually(is_same, 5)


def test_a_window_counts_whole_minutes(store):
    """A span counts in the minute in which it ended; a nanosecond of a minute is enough to count all of it."""
    record = Recorder(store)
    record("across", start=BASE + MINUTE - 5, duration=10)
    assert store.flush(5)

    def counted(since, until):
        return sum(each.count for each in store.performance(since_ns=BASE + since, until_ns=BASE + until).groups)

    assert counted(0, MINUTE) == 0
    assert counted(0, MINUTE + 1) == 1
    assert counted(2 * MINUTE - 1, 2 * MINUTE) == 1
    assert counted(2 * MINUTE, 3 * MINUTE) == 0


def test_filters_and_limits(store):
    """By service, name, kind and release; the busiest groups are given, and how many there are."""
    for number in range(5):
        record = Recorder(store, "one", **{"service.version": str(number % 2)})
        record.many(number + 1, f"op {number}", start=BASE, duration=10, kind=CLIENT if number == 4 else SERVER)
    assert store.flush(5)

    def found(**more):
        answer = store.performance(since_ns=BASE, until_ns=BASE + 1, **more)
        return [each.name for each in answer.groups], answer.total

    assert found(limit=2) == (["op 4", "op 3"], 5)
    assert found(name="op 1") == (["op 1"], 1)
    assert found(kind="client") == (["op 4"], 1)
    assert found(release="1") == (["op 3", "op 1"], 2)
    assert found(release="2") == found(service="two") == ([], 0)
    by_service = store.performance(since_ns=BASE, until_ns=BASE + 1, by="service").groups
    assert [(each.service, each.name, each.count) for each in by_service] == [("one", None, 10)]
    by_client = store.performance(since_ns=BASE, until_ns=BASE + 1, by="service", kind="client").groups
    assert [each.count for each in by_client] == [5]


def test_rows_come_in_slices(store, monkeypatch):
    """However many transactions it takes, each minute counts once."""
    monkeypatch.setattr(performance, "_SLICE", 3)
    for minute in range(10):
        for name in ("a", "b"):
            Recorder(store)(name, start=BASE + minute * MINUTE, duration=1)
    assert store.flush(5)
    found = store.performance(since_ns=BASE, until_ns=BASE + 10 * MINUTE)
    assert [(each.name, each.count) for each in found.groups] == [("a", 10), ("b", 10)]


def test_a_deadline_holds_between_slices(opened, monkeypatch):
    """A query of very many minutes is stopped, and says what to narrow."""
    store = opened(query_timeout=0.01)
    record = Recorder(store)
    for minute in range(50):
        record("a", start=BASE + minute * MINUTE, duration=1)
    assert store.flush(5)
    monkeypatch.setattr(performance, "_SLICE", 1)
    merge = performance.Rollup.merge
    monkeypatch.setattr(performance.Rollup, "merge", lambda *both: (time.sleep(0.005), merge(*both)))
    with pytest.raises(QueryTimeout, match="shorter window"):
        store.performance(since_ns=BASE, until_ns=BASE + 50 * MINUTE)


def test_a_shift_is_told_with_its_confidence(store):
    """Slower, faster, unclear, or too few to say; the interval has the true shift."""
    for name, before, after in (("slow", 10, 20), ("fast", 20, 10), ("same", 10, 10)):
        for start, scale in ((BASE, before), (BASE + 10 * MINUTE, after)):
            for number in range(400):
                Recorder(store)(name, start=start, duration=scale * (1_000_000 + 1000 * number))
    Recorder(store)("rare", start=BASE, duration=10)
    Recorder(store)("rare", start=BASE + 10 * MINUTE, duration=20)
    Recorder(store)("gone", start=BASE, duration=10)
    assert store.flush(5)
    windows = Window(BASE, BASE + MINUTE), Window(BASE + 10 * MINUTE, BASE + 11 * MINUTE)
    changes = {each.name: each for each in store.compare_performance(*windows).operations}
    verdicts = {name: each.shift and each.shift.verdict for name, each in changes.items()}
    assert verdicts == {"slow": "slower", "fast": "faster", "same": "unclear", "rare": "too_few", "gone": None}
    moved = changes["slow"].shift.shift
    assert moved.low_ns < 10 * 1_380_000 < moved.high_ns
    assert changes["gone"].current is None
    assert changes["rare"].shift.shift.high_ns is None


def test_new_and_gone_errors(store):
    """Kinds of errors that only one of the windows has; those of both are neither."""
    for start, types in (
        (BASE, ["KeyError", "ValueError"]),
        (BASE + 10 * MINUTE, ["ValueError", "OSError", "OSError"]),
    ):
        for type_ in types:
            Recorder(store)("op", start=start, duration=10, status=ERROR, events=[exception(type_, time_ns=start + 5)])
    assert store.flush(5)
    found = store.compare_performance(Window(BASE, BASE + MINUTE), Window(BASE + 10 * MINUTE, BASE + 11 * MINUTE))
    assert [(each.type, each.operation, each.count) for each in found.new_errors] == [("OSError", "op", 2)]
    assert [(each.type, each.count) for each in found.gone_errors] == [("KeyError", 1)]
    assert found.gone_errors[0].first_ns == found.gone_errors[0].last_ns == BASE + 5


def test_releases_are_compared_within_a_window(store):
    """Spans and errors of each release, by `service.version`."""
    for release, type_, count in (("1.0", "KeyError", 3), ("2.0", "OSError", 5)):
        record = Recorder(store, **{"service.version": release})
        record.many(count, "op", start=BASE, duration=10)
        record("op", start=BASE, duration=10, status=ERROR, events=[exception(type_, time_ns=BASE + 5)])
    Recorder(store).many(9, "op", start=BASE, duration=10)
    assert store.flush(5)
    window = Window(BASE, BASE + MINUTE)
    found = store.compare_performance(window, window, releases=("1.0", "2.0"))
    (change,) = found.operations
    assert (change.baseline.count, change.current.count) == (4, 6)
    assert [each.type for each in found.new_errors] == ["OSError"]
    assert [each.type for each in found.gone_errors] == ["KeyError"]


def test_an_internal_span_is_no_request(store):
    """By service and by release, what happens inside of a request isn't counted beside it."""
    Recorder(store)("outer", start=BASE, duration=10)
    Recorder(store)("inner", start=BASE, duration=10, kind=INTERNAL)
    assert store.flush(5)
    (group,) = store.performance(since_ns=BASE, until_ns=BASE + 1, by="release").groups
    assert group.count == 1
