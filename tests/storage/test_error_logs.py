import time

import pytest
from tk_errors import Logger, stack
from tk_spans import ERROR, INTERNAL, SERVER, Recorder, counter, exception
from tk_wait import eventually

from tracekeep.storage.records import Event

TRACE = bytes.fromhex("ab" * 16)
ANSWERED = {"http.request.method": "GET", "http.route": "/items/{id}", "url.path": "/items/7"}


def answered(status):
    return ANSWERED | {"http.response.status_code": status}


def flushed(store):
    assert store.flush(5)
    return store.errors().items


def recorded(type_="ValueError", message="no such item", **details):
    """A span event as OpenTelemetry's `record_exception` makes it, of the exception that `Logger` logs."""
    text = "Traceback (most recent call last):\n" + '  File "/app/x.py", line 1, in outer\n    inner()\n'
    text += stack(type_, message).partition("\n")[2]
    return exception(type_, message, **{"exception.stacktrace": text}, **details)


def test_a_logged_exception_is_an_error(store):
    """With its service, release, logger, stack trace, group and whatever else the record has; without any span."""
    Logger(store, release="1.2")(body="it failed", attributes={"order": 7})
    (error,) = flushed(store)
    assert (error.service, error.release, error.type, error.message) == ("shop", "1.2", "ValueError", "no such item")
    assert (error.trace_id, error.span_id, error.operation) == (None, None, "shop.views")
    assert error.attributes == {"order": 7, "log.logger": "shop.views", "log.body": "it failed"}
    assert error.stacktrace == stack()
    assert not error.operational
    assert counter(store, "exceptions", service="shop", exception_type="ValueError") == 1
    assert store.error_group(error.group).count == 1
    assert store.accounting().balanced


@pytest.mark.parametrize("missing", ["exception.type", "exception.message", "exception.stacktrace"])
def test_either_attribute_makes_it_an_error(store, missing):
    """A type or a message is enough, with or without an event name; a stack trace isn't needed."""
    logger = Logger(store)
    record = logger(event="exception" if missing else "")
    assert len(flushed(store)) == 1
    attributes = {key: value for key, value in record.attributes.items() if key != missing}
    logger("OSError", "other", attributes=attributes, time_ns=time.time_ns())
    assert len(flushed(store)) == 2


@pytest.mark.parametrize("first", ["log", "span"])
@pytest.mark.parametrize("apart", [False, True])
def test_both_signals_are_one_error(store, first, apart):
    """Whichever comes first, in one commit or in two, with the request's context; the type in full."""
    record, logger, now = Recorder(store), Logger(store), time.time_ns()

    def log():
        logger("NotFound", "'x'", trace_id=TRACE, span_id=7, time_ns=now, stack=raised)

    def span():
        event = recorded("shop.NotFound", "x", time_ns=now + 1000)
        event.attributes["exception.stacktrace"] = raised
        record("GET /items/{id}", kind=SERVER, trace_id=TRACE, span_id=7, events=[event], attributes=answered(404))

    raised = stack("shop.NotFound", "x")
    for tell in (log, span) if first == "log" else (span, log):
        tell()
        if apart:
            assert store.flush(5)
    (error,) = flushed(store)
    assert (error.type, error.trace_id, error.span_id) == ("shop.NotFound", TRACE.hex(), "0000000000000007")
    assert error.operational
    assert (error.operation, error.attributes["http.route"]) == ("GET /items/{id}", "/items/{id}")
    assert error.attributes["url.path_parameters"] == {"id": "7"}
    assert counter(store, "exceptions") == 1
    assert store.error_group(error.group).count == 1


def test_an_error_that_is_logged_after_its_request_knows_it(store):
    """Also where the request had no error of its own, so that nothing but the history knows of it."""
    Recorder(store)("GET /items/{id}", kind=SERVER, trace_id=TRACE, attributes=answered(200))
    assert store.flush(5)
    Logger(store)(trace_id=TRACE)
    (error,) = flushed(store)
    assert (error.operation, error.operational) == ("GET /items/{id}", True)
    assert error.attributes["http.response.status_code"] == 200


def test_an_error_logged_before_its_request_ends_learns_of_it(store):
    """The request's answer decides then whether the newest error of its group was operational."""
    Logger(store)(trace_id=TRACE)
    (error,) = flushed(store)
    assert not error.operational
    assert not store.error_group(error.group).operational
    Recorder(store)("GET /items/{id}", kind=SERVER, trace_id=TRACE, attributes=answered(404))
    (error,) = flushed(store)
    assert error.operational
    assert store.error_group(error.group).operational


def test_a_server_logs_outside_of_all_spans_what_a_span_has_told(store):
    """One error: told by the span that it left, then by the server's own logger; a second one is another."""
    now = time.time_ns()
    event = recorded(time_ns=now)
    Recorder(store)(kind=INTERNAL, trace_id=TRACE, status=ERROR, events=[event])
    logger = Logger(store)
    for _ in range(2):
        logger(time_ns=(now := now + 1000), logger="uvicorn.error")
    assert len(flushed(store)) == 2


def test_different_errors_stay_different(store):
    """In one trace by message, by type and by time; outside of traces each record, unless it is the very same."""
    logger, now = Logger(store), time.time_ns()
    logger("ValueError", "a", trace_id=TRACE, time_ns=now)
    logger("ValueError", "b", trace_id=TRACE, time_ns=now)
    logger("TypeError", "a", trace_id=TRACE, time_ns=now)
    logger("ValueError", "a", trace_id=TRACE, time_ns=now + 5_000_000_000)
    assert len(flushed(store)) == 4
    logger(time_ns=now)
    logger(time_ns=now)
    logger(time_ns=now + 1)
    assert len(flushed(store)) == 6


def test_what_an_error_says_of_itself(store):
    """Operational, and what it is grouped by; the words for it are no context."""
    logger = Logger(store)
    explicit = {"tracekeep.operational": True, "tracekeep.fingerprint": "payments"}
    logger("ValueError", "a", attributes=explicit)
    logger("OSError", "b", stack="", attributes=explicit)
    one, other = flushed(store)
    assert one.group == other.group
    assert one.operational
    assert one.attributes == {"log.logger": "shop.views"}


def test_other_log_records_make_no_error(store):
    """A record without an exception is counted as stored, and that is all."""
    Logger(store)(attributes={"exception.type": "x"})  # the one that is
    record = Logger(store)
    import msgspec

    from tracekeep.storage.records import FrameType, LogRecord

    plain = LogRecord(b"", 0, 0, record.origin, 1, 9, "x", "", "hello", {"a": 1})
    store.journal.append(FrameType.LOG, msgspec.msgpack.encode(plain), record.origin)
    store.journal.append(FrameType.LOG, b"\xc1 no record", record.origin)
    assert len(flushed(store)) == 1
    account = store.accounting()
    assert account.balanced
    assert (account.stored, account.dropped["undecodable"]) == (2, 1)


def test_pending_logged_errors_are_shown(opened):
    """While no writer is there, they come from the journals."""
    waiting = opened(writer="none")
    Logger(waiting)(message="waits")
    page = waiting.errors()
    assert page.degraded
    assert [(each.message, each.trace_id) for each in page.items] == [("waits", None)]
    assert waiting.errors(group=page.items[0].group).items == page.items
    assert waiting.errors(group="0" * 16).items == []
    opened()
    eventually(lambda: waiting.accounting().stored == 1, 5)


def test_context_of_a_record_exception_call(store):
    """What an application adds to the event of a span is kept as context too."""
    event = exception("KeyError", "x", order=7)
    assert isinstance(event, Event)
    Recorder(store)(kind=INTERNAL, status=ERROR, events=[event])
    assert flushed(store)[0].attributes == {"order": 7}
