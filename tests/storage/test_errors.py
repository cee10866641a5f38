import time

import pytest
from tk_spans import CLIENT, ERROR, INTERNAL, SERVER, Recorder, counter, die, exception
from tk_wait import eventually

from tracekeep.storage.partitions import History, partition_files

HOUR = 3_600_000_000_000
TRACE = bytes.fromhex("ab" * 16)


def answered(status, **attributes):
    return {"http.request.method": "GET", "http.route": "/x", "http.response.status_code": status} | attributes


def flushed(store):
    assert store.flush(5)
    return store.errors().items


def test_one_exception_through_nested_spans_is_one_error(store):
    """The span that it left first recorded it; the request gives it its name and context."""
    record, raised = Recorder(store), [exception("KeyError", "no such item")]
    record("SELECT", kind=CLIENT, trace_id=TRACE, span_id=3, parent_id=2, status=ERROR, events=raised)
    record("find", kind=INTERNAL, trace_id=TRACE, span_id=2, parent_id=1, status=ERROR, events=raised)
    attributes = answered(500, **{"error.type": "KeyError", "url.path": "/x"})
    record("GET /x", kind=SERVER, trace_id=TRACE, span_id=1, status=ERROR, events=raised, attributes=attributes)
    (error,) = flushed(store)
    assert (error.service, error.type, error.message) == ("shop", "KeyError", "no such item")
    assert (error.trace_id, error.span_id) == (TRACE.hex(), "0" * 15 + "3")
    assert (error.operation, error.attributes) == ("GET /x", attributes)
    assert error.stacktrace.startswith("Traceback")
    assert not error.operational
    assert counter(store, "exceptions", exception_type="KeyError") == 1


def test_it_stays_one_over_batches(store):
    """Also where the spans come in different commits, and the stored error learns what it happened in."""
    record, raised = Recorder(store), [exception()]
    record("find", kind=INTERNAL, trace_id=TRACE, status=ERROR, events=raised)
    (error,) = flushed(store)
    assert error.operation == "find"
    record("GET /x", kind=SERVER, trace_id=TRACE, status=ERROR, events=raised, attributes=answered(500))
    (error,) = flushed(store)
    assert (error.operation, error.attributes) == ("GET /x", answered(500))
    assert counter(store, "exceptions") == 1


def test_it_stays_one_over_a_restart(opened):
    """Also where another writer has taken over in between."""
    raised = [exception()]
    store = opened()
    Recorder(store)("find", kind=INTERNAL, trace_id=TRACE, status=ERROR, events=raised)
    assert len(flushed(store)) == 1
    store.close()
    die(store)
    store = opened()
    Recorder(store)("GET /x", kind=SERVER, trace_id=TRACE, status=ERROR, events=raised, attributes=answered(500))
    assert len(flushed(store)) == 1
    assert counter(store, "exceptions") == 1


def test_different_exceptions_are_different_errors(store):
    """By type, by message, by trace, and the same again later."""
    record, now = Recorder(store), time.time_ns()
    events = [
        exception("KeyError", "a", time_ns=now),
        exception("KeyError", "b", time_ns=now),
        exception("OSError", "a", time_ns=now),
        exception("KeyError", "a", time_ns=now + 5_000_000_000),
    ]
    record(kind=INTERNAL, trace_id=TRACE, status=ERROR, events=events)
    record(kind=INTERNAL, status=ERROR, events=events[:1])
    assert len(flushed(store)) == 5


@pytest.mark.parametrize(
    ("status_code", "span_status", "operational"),
    [(404, 0, True), (409, 0, True), (200, 0, True), (499, 0, True), (500, ERROR, False), (503, ERROR, False)],
)
def test_the_answer_decides_what_is_operational(store, status_code, span_status, operational):
    """An error of a request that was answered below 500 is operational, another one critical."""
    record, raised = Recorder(store), [exception()]
    record("find", kind=INTERNAL, trace_id=TRACE, status=ERROR, events=raised)
    record("GET /x", kind=SERVER, trace_id=TRACE, status=span_status, attributes=answered(status_code))
    (error,) = flushed(store)
    assert error.operational is operational
    stats = store.error_stats()
    assert (stats.total, stats.operational, stats.critical) == (1, operational, not operational)


def test_an_error_can_say_itself_that_it_is_operational(store):
    """Where whoever recorded it knew."""
    known = exception(**{"tracekeep.operational": True})
    Recorder(store)(kind=INTERNAL, status=ERROR, events=[known])
    assert flushed(store)[0].operational


def test_statistics(store):
    """Total, last hour, last 24 hours, by the time of the error."""
    record, now = Recorder(store), time.time_ns()
    for hours in (0, 0.5, 2, 23, 25, 100):
        record(status=ERROR, kind=INTERNAL, events=[exception(message=str(hours), time_ns=now - int(hours * HOUR))])
    assert store.flush(5)
    stats = store.error_stats()
    assert (stats.total, stats.last_hour, stats.last_24_hours, stats.critical) == (6, 2, 4, 6)


def test_filters_and_pages(store):
    """By service, type and time; newest arrival first; pages add up."""
    now = time.time_ns()
    for service in ("shop", "stock"):
        record = Recorder(store, service)
        for number in range(10):
            kind = "KeyError" if number % 2 else "OSError"
            event = exception(kind, str(number), time_ns=now + number * 2_000_000_000)
            record(status=ERROR, kind=INTERNAL, events=[event])
    assert store.flush(5)
    assert [each.message for each in store.errors(service="stock").items] == [str(n) for n in range(9, -1, -1)]
    assert len(store.errors(type="KeyError").items) == 10
    window = {"since_ns": now + 4_000_000_000, "until_ns": now + 8_000_000_000}
    assert {each.message for each in store.errors(**window).items} == {"2", "3"}
    found, cursor = [], None
    while cursor or not found:
        page = store.errors(limit=3, cursor=cursor, type="OSError")
        found += page.items
        cursor = page.cursor
    assert [(each.service, each.message) for each in found] == [
        (service, str(n)) for service in ("stock", "shop") for n in (8, 6, 4, 2, 0)
    ]
    assert len({each.id for each in found}) == 10


def test_clearing(opened, monkeypatch):
    """It removes what was recorded before it, from all partitions; what comes later stays; totals don't change."""
    store = opened()
    record = Recorder(store)
    with monkeypatch.context() as patch:
        patch.setattr(History, "is_full", lambda *_: True)
        for number in range(3):
            record(status=ERROR, kind=INTERNAL, events=[exception(message=str(number))])
            assert store.flush(5)
        eventually(lambda: len(partition_files(store.data_dir / "history")) == 4, 5)
    record(status=ERROR, kind=INTERNAL, events=[exception(message="not yet stored")])
    command = store.clear_errors(timeout=5)
    assert command.applied
    assert command.result == {"cleared": 4}
    record(status=ERROR, kind=INTERNAL, events=[exception(message="later")])
    assert [each.message for each in flushed(store)] == ["later"]
    assert store.error_stats().total == 1
    assert counter(store, "exceptions") == 5
    assert len(store.spans(status="error").items) == 5
    assert store.clear_errors(timeout=5).result == {"cleared": 1}
    assert store.clear_errors(timeout=5).result == {"cleared": 0}
    account = store.accounting()
    assert account.balanced
    assert account.stored == account.accepted == 8
    store.close()
    die(store)
    assert opened().errors().items == []


def test_clearing_without_a_writer(opened):
    """It is journaled, answered as not applied yet, and carried out by the writer that comes."""
    waiting = opened(writer="none")
    Recorder(waiting)(status=ERROR, kind=INTERNAL, events=[exception()])
    command = waiting.clear_errors(timeout=0.1)
    assert (command.applied, command.result) == (False, {})
    store = opened()
    Recorder(store)("x")
    eventually(lambda: store.accounting().stored == 3, 5)
    assert store.errors().items == []


def test_pending_errors_are_shown(opened):
    """While no writer is there, errors come from the journals, and the page says so."""
    store = opened(writer="none")
    for number in range(5):
        Recorder(store)(status=ERROR, kind=INTERNAL, events=[exception(message=str(number))])
    page = store.errors(limit=3)
    assert page.degraded
    assert [each.message for each in page.items] == ["4", "3", "2"]
    assert len(store.errors(type="KeyError").items) == 0
