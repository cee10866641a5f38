"""Pages of spans while others record, and what long questions do to the writer's log."""

import sqlite3
import threading
import time
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tk_spans import ERROR, Recorder
from tk_wait import eventually

from tracekeep.storage import QueryTimeout, engine, span_plans
from tracekeep.storage.partitions import History

filters = st.fixed_dictionaries(
    {},
    optional={
        "service": st.sampled_from(["shop", "desk"]),
        "status": st.sampled_from(["unset", "error"]),
        "name": st.sampled_from(["a", "b"]),
        "min_duration_ns": st.sampled_from([1, 50, 1_000_000_000]),
        "attributes": st.sampled_from([{"n": "1"}, {"http.route": "/x"}]),
        "since_ns": st.just(0),
    },
)


def put(recorders, number):
    """One span of many kinds."""
    recorders[number % 2](
        "ab"[number % 3 == 0],
        duration=(1, 60, 2_000_000_000)[number % 3],
        status=ERROR if number % 4 == 0 else 0,
        attributes={"n": number % 3, "http.route": "/x" if number % 2 else "/y"},
    )


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(wanted=filters, limit=st.integers(1, 40), rolling=st.booleans())
def test_pages_stay_right_while_data_arrives(opened, tmp_path_factory, monkeypatch, **question):
    """Whatever the filter, the size of the pages and the ranges: no span twice, and none missing that was there."""
    wanted, limit, rolling = question["wanted"], question["limit"], question["rolling"]
    store = opened(tmp_path_factory.mktemp("live"))
    recorders = [Recorder(store, "shop"), Recorder(store, "desk")]
    with monkeypatch.context() as patch:
        patch.setattr(span_plans, "_RANGE", 7)
        patch.setattr(span_plans, "_FEW", 10)
        for number in range(120):
            put(recorders, number)
        assert store.flush(5)
        patch.setattr(History, "is_full", lambda *_: rolling)
        first = store.spans(limit=1000, **wanted)
        there, stop = [each.span_id for each in first.items], threading.Event()

        def keep_recording():
            number = 0
            while not stop.wait(0.0005):
                number += 1
                put(recorders, number)

        thread = threading.Thread(target=keep_recording)
        thread.start()
        try:
            found, cursor = [], None
            while cursor or not found:
                page = store.spans(limit=limit, cursor=cursor, **wanted)
                assert not page.degraded
                found += [each.span_id for each in page.items]
                cursor = page.cursor
                if not there and not cursor:
                    break
        finally:
            stop.set()
            thread.join()
        store.close()
    assert len(found) == len(set(found))
    known = set(there)
    assert [each for each in found if each in known] == there


BOUND = 3 << 20
"""Bytes that a log may have in these tests: that past which the writer waits for readers, and a batch."""


@pytest.fixture
def short_logs(monkeypatch):
    monkeypatch.setattr(engine, "LONG_LOG", 1 << 18)
    monkeypatch.setattr(engine, "FULL_LOG", 1 << 20)


def longest_logs(store, act, *, threads, times):
    """Record so many times the bound while threads do something over and over: the most bytes that each log had."""
    record, stop, longest = Recorder(store), threading.Event(), {}
    record("first")
    assert store.flush(10)
    acting = [threading.Thread(target=act, args=(stop,)) for _ in range(threads)]
    for thread in acting:
        thread.start()
    try:
        while sum(file.stat().st_size for file in store.data_dir.rglob("history/*.db")) < times * BOUND:
            record.many(500, attributes={"own": "x" * 1000})
            eventually(lambda: store.flush(1), 30)
            for log in store.data_dir.rglob("*.db-wal"):
                longest[log.name] = max(longest.get(log.name, 0), log.stat().st_size)
    finally:
        stop.set()
        for thread in acting:
            thread.join()
    return longest


@pytest.mark.usefixtures("short_logs")
def test_questions_without_end_dont_make_the_log_grow(opened):
    """While four threads look through everything, over and over, each log stays under its bound."""
    store = opened()

    def ask(stop):
        while not stop.is_set():
            with suppress(QueryTimeout):  # on a busy machine; that it ends is all that matters here
                store.spans(attributes={'odd"key': "none"}, limit=10)
                store.performance(since_ns=0, until_ns=time.time_ns(), limit=10)

    longest = longest_logs(store, ask, threads=4, times=5)
    assert len(longest) == 2
    assert max(longest.values()) < BOUND, longest


@pytest.mark.usefixtures("short_logs")
def test_readers_that_take_turns_dont_make_the_log_grow(opened):
    """Each ends, but only once the next has begun, so that there is no moment without one."""
    store = opened()
    (history,) = eventually(lambda: list(store.data_dir.rglob("history/2*.db")), 10)

    def begun():
        connection = sqlite3.connect(f"{history.as_uri()}?mode=ro", uri=True, isolation_level=None)
        connection.execute("BEGIN")
        connection.execute("SELECT count(*) FROM window").fetchall()
        return connection

    def take_turns(stop):
        reading = begun()
        while not stop.wait(0.1):
            following = begun()
            reading.close()
            reading = following
        reading.close()

    longest = longest_logs(store, take_turns, threads=2, times=5)
    assert longest[f"{history.name}-wal"] < BOUND, longest
