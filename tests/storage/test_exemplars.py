import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tk_app_metrics import family, point, say
from tk_spans import ERROR, MS, Recorder, die, exception
from tk_wait import eventually

from tracekeep.storage import engine
from tracekeep.storage.exemplars import Candidates, chosen, kept_in, newest
from tracekeep.storage.families import EXCEPTIONS, HTTP_DURATION, SPAN_CALLS, SPAN_LATENCY, FamilySpec
from tracekeep.storage.layout import partition_files
from tracekeep.storage.partitions import History
from tracekeep.storage.series import SeriesState

HTTP = {"http.request.method": "GET", "http.route": "/x"}
DAY = 86_400_000_000_000


def shown(store, name=None):
    """All exemplars that are exposed, by metric, labels and bucket."""
    return {
        (family_.name, series.labels, bucket): exemplar
        for family_ in store.totals().families
        for series in family_.series
        for bucket, exemplar in series.exemplars.items()
        if name in {None, family_.name}
    }


def check_lead_somewhere(store):
    """Every exemplar's trace is stored, and has its span."""
    found = shown(store)
    for exemplar in found.values():
        assert exemplar.span_id in {each.span_id for each in store.trace(exemplar.trace_id).items}
    return found


def test_each_bucket_has_a_stored_span(store):
    """Of the latest batch the slowest in each bucket, with its duration in seconds and the time at which it ended."""
    record, now = Recorder(store), time.time_ns()
    for number in range(1, 11):
        record(start=now - DAY, duration=number * MS, trace_id=bytes([number] * 16), span_id=number, attributes=HTTP)
    assert store.flush(5)
    check_lead_somewhere(store)
    latency = {bucket: each for (_, _, bucket), each in shown(store, SPAN_LATENCY.name).items()}
    assert {bucket: each.value for bucket, each in latency.items()} == {0: 0.002, 1: 0.004, 2: 0.008, 3: 0.01}
    assert (latency[3].trace_id, latency[3].span_id) == ("0a" * 16, f"{10:016x}")
    assert latency[3].time_ns == now - DAY + 10 * MS
    assert {bucket: each.value for (_, _, bucket), each in shown(store, HTTP_DURATION.name).items()} == {
        0: 0.005,
        1: 0.01,
    }


@pytest.mark.parametrize("pace", [0, 60_000_000_000])
def test_they_are_renewed_now_and_then(store, monkeypatch, pace):
    """A later span takes the place of the one before when its time has passed; an empty bucket has one at once."""
    monkeypatch.setattr("tracekeep.storage.metrics.PACE", pace)
    record, now = Recorder(store), time.time_ns()
    record(start=now - 9 * MS, duration=6 * MS, span_id=1)
    record(start=now - 9 * MS, duration=1 * MS, span_id=2)
    assert store.flush(5)
    record(start=now - 8 * MS, duration=5 * MS, span_id=1 << 63)
    assert store.flush(5)
    found = {bucket: each.span_id for (_, _, bucket), each in shown(store, SPAN_LATENCY.name).items()}
    assert found == {2: f"{1 if pace else 1 << 63:016x}", 0: f"{2:016x}"}
    record(start=now - 7 * MS, duration=3 * MS, span_id=4)
    assert store.flush(5)
    found = {bucket: each.span_id for (_, _, bucket), each in shown(store, SPAN_LATENCY.name).items()}
    assert found == {2: f"{1 if pace else 1 << 63:016x}", 1: f"{4:016x}", 0: f"{2:016x}"}


def test_a_clock_that_is_ahead(store, monkeypatch):
    """A span from the future doesn't stay the newest for ever."""
    monkeypatch.setattr("tracekeep.storage.metrics.PACE", 0)
    record = Recorder(store)
    record(start=time.time_ns() + DAY, span_id=1)
    assert store.flush(5)
    record(start=time.time_ns() + 1000 * MS, span_id=2)
    assert store.flush(5)
    (exemplar,) = shown(store, SPAN_LATENCY.name).values()
    assert exemplar.span_id == f"{2:016x}"
    assert exemplar.time_ns <= time.time_ns()


def test_errors_have_exemplars(store):
    """The counters of failed spans and of exceptions have one; that of spans that went well has none."""
    Recorder(store)("good")
    Recorder(store)("bad", status=ERROR, events=[exception("KeyError")], span_id=9)
    assert store.flush(5)
    check_lead_somewhere(store)
    ((_, labels, bucket),) = shown(store, SPAN_CALLS.name)
    assert (dict(labels)["span_name"], bucket) == ("bad", 0)
    ((_, labels, bucket),) = shown(store, EXCEPTIONS.name)
    assert (dict(labels)["exception_type"], bucket) == ("KeyError", 0)
    for exemplar in (*shown(store, SPAN_CALLS.name).values(), *shown(store, EXCEPTIONS.name).values()):
        assert exemplar.span_id == f"{9:016x}"


def test_they_outlive_a_restart(opened):
    """What was exposed before is exposed after."""
    store = opened()
    Recorder(store).many(3)
    assert store.flush(5)
    before = check_lead_somewhere(store)
    store.close()
    die(store)
    store = opened()
    eventually(lambda: store.status().writer_pid, 5)
    assert check_lead_somewhere(store) == before != {}


def test_retention_takes_them_along(opened, monkeypatch):
    """Before a partition is dropped, its exemplars are; those in later partitions stay."""
    full, past, left = [], [], []
    monkeypatch.setattr("tracekeep.storage.writer._RETENTION", 0.2)
    monkeypatch.setattr(History, "is_full", lambda *_: bool(full and full.pop()))
    monkeypatch.setattr("tracekeep.storage.partitions._last_change", lambda path: 0 if path in past else time.time_ns())
    store = opened()
    remove = engine.remove
    monkeypatch.setattr(engine, "remove", lambda path: (path in past and left.append(set(shown(store))), remove(path)))
    full.append(True)
    Recorder(store, "old")()
    assert store.flush(5)
    eventually(lambda: store.status().partitions == 2, 5)
    Recorder(store, "new")()
    assert store.flush(5)
    assert {dict(labels)["service"] for _, labels, _ in check_lead_somewhere(store)} == {"old", "new"}
    past += partition_files(store.data_dir / "history")[:1]
    eventually(lambda: store.status().partitions == 1, 10)
    found = check_lead_somewhere(store)
    assert {dict(labels)["service"] for _, labels, _ in found} == {"new"}
    assert left == [set(found)]


def test_a_partition_that_is_lost_takes_them_along(store):
    """Whoever deletes the history deletes its exemplars; totals stay, and the next spans bring others."""
    Recorder(store).many(3)
    assert store.flush(5)
    assert shown(store)
    for path in (store.data_dir / "history").glob("*.db"):
        path.unlink()
    store._writer._custody._verified = dict(
        store._writer._custody.bases.aggregates.marks
    )  # as if the journals were gone already
    eventually(lambda: not shown(store), 5)
    Recorder(store)()
    assert store.flush(5)
    (calls,) = [family_.series[0].value for family_ in store.totals().families if family_.name == SPAN_CALLS.name]
    assert calls == 4
    assert check_lead_somewhere(store)


def test_a_partition_lost_while_nothing_ran(opened):
    """The same where nobody was there to see it go."""
    store = opened()
    Recorder(store).many(3)
    assert store.flush(5)
    store.close()
    die(store)
    for path in (store.data_dir / "history").glob("*.db*"):
        path.unlink()
    store = opened()
    eventually(lambda: store.status().writer_pid and not shown(store), 5)


def test_applications_exemplars_wait_for_their_trace(store):
    """One that a process gives is exposed once its trace is stored, and not before."""
    now = time.time_ns()
    given_ = [(0, b"a" * 16, 7, 0.5, now), (1, b"b" * 16, 8, 1.5, now)]
    histogram = family("size", "histogram", [point(buckets=[1, 1], sum_=2, exemplars=given_)], bounds=[1])
    say(store, histogram)
    Recorder(store)(trace_id=b"b" * 16, span_id=8)
    assert store.flush(5)
    eventually(lambda: shown(store, "size"), 5)
    assert {bucket: each.trace_id for (_, _, bucket), each in shown(store, "size").items()} == {1: (b"b" * 16).hex()}
    Recorder(store)(trace_id=b"a" * 16, span_id=7)
    assert store.flush(5)
    eventually(lambda: len(shown(store, "size")) == 2, 5)
    check_lead_somewhere(store)


def test_candidates_are_bounded(monkeypatch):
    """The oldest are forgotten past a number, and each when its trace doesn't come within a minute."""
    monkeypatch.setattr("tracekeep.storage.exemplars._MAX_CANDIDATES", 3)
    candidates, spec = Candidates(), FamilySpec("x", "")
    states = [SeriesState(spec, (("n", str(number)),), 0, 0) for number in range(5)]
    for state in states:
        candidates.take(state, {0: (b"x" * 16, 1, 1.0, 1, 0)})
    assert list(candidates._waiting) == states[2:]
    assert candidates.confirm(lambda _trace: False, 7, 60_000_000_000) == {}
    assert list(candidates._waiting) == states[2:]
    assert candidates.confirm(lambda _trace: False, 7, 60_000_000_002) == {}
    assert list(candidates._waiting) == []


@pytest.mark.parametrize("held", [None, {0: (b"y" * 16, 2, 2.0, 5, 3)}, {1: (b"y" * 16, 2, 2.0, 5, 3)}])
def test_a_confirmed_candidate_says_where_it_is(held):
    """It joins those that the series has."""
    candidates, state = Candidates(), SeriesState(FamilySpec("x", "", (1.0,)), (), 0, 0)
    state.exemplars = held
    candidates.take(state, {0: (b"x" * 16, 1, 1.0, 9, 0)})
    found = candidates.confirm(lambda trace: trace == b"x" * 16, 7, 10)
    assert found == {state: {**(held or {}), 0: (b"x" * 16, 1, 1.0, 9, 7)}}


@given(st.lists(st.dictionaries(st.integers(0, 3), st.tuples(st.integers(0, 9), st.integers(0, 2))), max_size=6))
def test_the_newest_of_each_bucket(changes):
    """However many are put together, each bucket has the last of the latest."""
    merged, expected = None, {}
    for each in changes:
        exemplars = {bucket: (b"x" * 16, 1, 1.0, at, stored) for bucket, (at, stored) in each.items()}
        merged = newest(merged, exemplars)
        for bucket, one in exemplars.items():
            if bucket not in expected or one[3] >= expected[bucket][3]:
                expected[bucket] = one
    assert (merged or {}) == expected
    kept = kept_in(expected, {1})
    assert (kept or {}) == {bucket: one for bucket, one in expected.items() if one[4] == 1}


def test_a_process_cannot_say_where_its_traces_are():
    """What it gives is looked for, whatever it says."""
    assert chosen([(0, b"x" * 16, 1, 1.0, 5)], 1, 10) == {0: (b"x" * 16, 1, 1.0, 5, 0)}
