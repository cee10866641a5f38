"""Pages of spans while others record, and what long questions do to the writer's log."""

import threading
import time
from contextlib import suppress

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tk_spans import ERROR, Recorder
from tk_wait import eventually

from tracekeep.storage import QueryTimeout, span_plans
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


def test_questions_without_end_dont_make_the_log_grow(opened):
    """Four threads that look through everything, over and over: both logs are begun anew meanwhile, by their salts."""
    store = opened()
    record, stop = Recorder(store), threading.Event()
    record.many(3000, attributes={"own": "x"})
    assert store.flush(5)

    def ask():
        while not stop.is_set():
            with suppress(QueryTimeout):  # on a busy machine; that it ends is all that matters here
                store.spans(attributes={'odd"key': "none"}, limit=10)
                store.performance(since_ns=0, until_ns=time.time_ns(), limit=10)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    begun = {}
    try:
        until = time.monotonic() + 30
        while time.monotonic() < until and not (len(begun) == 2 and min(map(len, begun.values())) > 2):
            record.many(500, attributes={"own": "x"})
            eventually(lambda: store.flush(1), 10)
            for log in store.data_dir.rglob("*.db-wal"):
                begun.setdefault(log.name, set()).add(log.read_bytes()[16:24])
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert len(begun) == 2
    assert min(map(len, begun.values())) > 2, begun
