"""Errors that are logged or told of by hand; `instrument()` in a process of its own, as it can be set up only once."""

import logging
import signal
import threading

import pytest
from opentelemetry import trace
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.sdk._logs import LoggerProvider, LogRecordProcessor
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from tk_fresh import run_fresh
from tk_wait import eventually

from tracekeep.instrumentation import RetainingLogProcessor, RetainingSpanProcessor, record_error
from tracekeep.storage import open_store

HEAD = """
import logging, sys
from opentelemetry import trace
from tracekeep.instrumentation import instrument, record_error
from tracekeep.storage import current_store
tracer = trace.get_tracer("tests")
log = logging.getLogger("shop.orders")
def fail(text="no stock"):
    raise LookupError(text)
def errors():
    store = current_store()
    assert store.flush(5)
    return store.errors().items
"""


@pytest.fixture
def run(tmp_path):
    """Run code in a fresh process with its data in `tmp_path`; give what it printed and what it said on stderr."""

    def run(code, *, status=0, **environ):
        return run_fresh(HEAD + code, tmp_path, status=status, **environ)

    return run


@pytest.fixture
def store(tmp_path):
    store = open_store(tmp_path / "data")
    yield store
    store.close()


@pytest.fixture
def provider(store):
    provider = LoggerProvider(Resource.create({"service.name": "shop", "service.version": "2"}), shutdown_on_exit=False)
    provider.add_log_record_processor(RetainingLogProcessor(store))
    return provider


def fail(error):
    raise error


def errors(store):
    assert store.flush(5)
    return store.errors().items


# --- OpenTelemetry's logs API ----------------------------------------------------------------------------------------


def test_it_is_a_processor(store):
    """Of the SDK's own kind, which needs nothing from whoever has it but to be added."""
    processor = RetainingLogProcessor(store)
    assert isinstance(processor, LogRecordProcessor)
    assert processor.force_flush(1000)
    processor.shutdown()


@pytest.mark.parametrize("event_name", [None, "exception", "shop.failed"])
def test_a_record_with_an_exception_is_kept(store, provider, event_name):
    """With or without an event name; with time, scope, body and its other attributes, and the resource's release."""
    logger = provider.get_logger("shop.orders")
    attributes = {"exception.type": "shop.Late", "exception.message": "by 3 days", "order": 7}
    logger.emit(LogRecord(timestamp=123, body="late", attributes=attributes, event_name=event_name))
    logger.emit(LogRecord(body="nothing wrong", attributes={"order": 7}, severity_number=SeverityNumber.ERROR))
    (error,) = errors(store)
    assert (error.time_ns, error.service, error.release) == (123, "shop", "2")
    assert (error.type, error.message, error.operation) == ("shop.Late", "by 3 days", "shop.orders")
    assert error.attributes == {"order": 7, "log.logger": "shop.orders", "log.body": "late"}
    assert store.accounting().accepted == 1


def test_an_exception_given_to_emit_is_kept(store, provider):
    """As the logs API takes it; with the span that was current."""
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("x")
    with tracer.start_as_current_span("work") as span:
        try:
            fail(ValueError("inside"))
        except ValueError as error:
            provider.get_logger("shop").emit(LogRecord(exception=error))
    (found,) = errors(store)
    assert (found.type, found.message) == ("ValueError", "inside")
    assert "in fail" in found.stacktrace
    assert int(found.trace_id, 16) == span.get_span_context().trace_id
    assert int(found.span_id, 16) == span.get_span_context().span_id


def test_both_signals_of_one_exception_are_one_error(store, provider):
    """Logged where it was caught and recorded on the span that it left."""
    tracing = TracerProvider(shutdown_on_exit=False)
    tracing.add_span_processor(RetainingSpanProcessor(store))
    with pytest.raises(ValueError), tracing.get_tracer("x").start_as_current_span("work"):  # noqa: PT012
        try:
            fail(ValueError("twice told"))
        except ValueError as error:
            provider.get_logger("shop").emit(LogRecord(exception=error))
            raise
    assert len(errors(store)) == 1
    assert len(store.error_groups().items) == 1


def test_own_lines_are_not_recorded(store, provider):
    """What tracekeep says of its own failures must not make others."""
    for name in ("tracekeep", "tracekeep.writer"):
        provider.get_logger(name).emit(LogRecord(attributes={"exception.type": "X"}))
    assert errors(store) == []
    provider.get_logger("tracekeeper").emit(LogRecord(attributes={"exception.type": "X"}))
    assert len(errors(store)) == 1


class Recursive:
    """A value whose text makes another error."""

    def __init__(self, provider):
        self.provider = provider

    def __str__(self):
        self.provider.get_logger("again").emit(LogRecord(attributes={"exception.type": "Inner", "self": "x"}))
        raise RuntimeError("no text")


def test_odd_values_hurt_nobody(store, provider):
    """Whatever a record carries, emitting returns; recursion ends; values over the limit are cut and counted."""
    logger = provider.get_logger("odd")
    processor = RetainingLogProcessor(store)
    processor.on_emit(None)
    logger.emit(LogRecord(attributes={"exception.message": "\ud800" + "x" * 100_000}, timestamp=-1))
    record = LogRecord(attributes={"exception.type": "Outer"}, body={"not": "text"}, timestamp=1)
    logger.emit(record)
    record_error(ValueError("by hand"), odd=Recursive(provider))
    found = {error.type: error for error in errors(store)}
    assert set(found) == {"unknown", "Outer", "ValueError"}
    assert len(found["unknown"].message) < 40_000
    assert store.accounting().balanced
    assert store.accounting().truncated >= 2


def test_many_threads_at_once(store, provider):
    """None is lost."""
    logger = provider.get_logger("shop")

    def work(name):
        for number in range(200):
            logger.emit(LogRecord(attributes={"exception.type": "E", "exception.message": f"{name} {number}"}))

    threads = [threading.Thread(target=work, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.flush(5)
    assert store.error_stats().total == 800


# --- by hand ---------------------------------------------------------------------------------------------------------


def test_record_error(store):
    """A handled exception with whatever else to know of it; operational and grouped as told."""
    try:
        fail(KeyError("sku"))
    except KeyError as error:
        record_error(error, order=7, basket={"size": 2})
        record_error(KeyError("never raised"), operational=True, fingerprint="mine")
    assert store.flush(5)
    known, handled = store.errors().items
    assert (handled.type, handled.message, handled.operational) == ("KeyError", "'sku'", False)
    assert handled.attributes == {"order": 7, "basket": {"size": 2}}
    assert "in fail" in handled.stacktrace
    assert handled.trace_id is None
    assert known.operational
    record_error(OSError("another"), fingerprint="mine")
    assert store.flush(5)
    assert store.error_group(known.group).count == 2


def test_record_error_in_a_span(store):
    """It is linked to it, with its service; and one with the event if the exception leaves the span after all."""
    tracing = TracerProvider(resource=Resource.create({"service.name": "till"}), shutdown_on_exit=False)
    tracing.add_span_processor(RetainingSpanProcessor(store))
    with pytest.raises(ValueError), tracing.get_tracer("x").start_as_current_span("pay") as span:  # noqa: PT012
        try:
            fail(ValueError("declined"))
        except ValueError as error:
            record_error(error, card="visa")
            raise
    (found,) = errors(store)
    assert (found.service, found.attributes) == ("till", {"card": "visa"})
    assert int(found.trace_id, 16) == span.get_span_context().trace_id


def test_record_error_never_raises(store):
    """Whatever it is given, and without a store too."""

    class Odd(Exception):  # noqa: N818
        def __str__(self):
            raise RuntimeError

    record_error(Odd())
    record_error("no exception", operational="yes", fingerprint=3)
    (*_, odd) = errors(store)
    assert odd.message == "<no text: its __str__ failed>"
    store.close()
    record_error(ValueError("nowhere to go"))


# --- Python's logging, set up by instrument() ------------------------------------------------------------------------


def test_logging_with_exc_info(run):
    """Is an error with the span's ids, whatever the logger and however it is set up; other lines are none."""
    run("""
instrument(service_name="shop", service_version="9")
quiet = logging.getLogger("quiet"); quiet.propagate = False
with tracer.start_as_current_span("work") as span:
    try: fail()
    except LookupError:
        log.exception("order %s", 7)
        log.error("without")
try: fail("two")
except LookupError: quiet.warning("careful", exc_info=True)
two, one = errors()
assert (one.type, one.message, one.service, one.release) == ("LookupError", "no stock", "shop", "9"), one
assert one.trace_id == format(span.get_span_context().trace_id, "032x")
assert one.attributes == {"log.logger": "shop.orders", "log.body": "order 7"}, one.attributes
assert 'in fail' in one.stacktrace
assert (two.message, two.operation, two.trace_id) == ("two", "quiet", None)
""")


def test_the_application_s_own_logging_stays_as_it_is(run):
    """No handler is added: what goes to stderr without any set-up still does, and `basicConfig` still works."""
    _, err = run("""
instrument()
assert logging.getLogger().handlers == []
try: fail()
except LookupError: log.exception("told")
""")
    assert err.startswith("told\nTraceback")
    out, err = run("""
instrument(data_dir="another")
logging.basicConfig(stream=sys.stdout, format="mine: %(message)s")
try: fail()
except LookupError: log.error("told", exc_info=True)
log.error("bad %d", "line")
assert len(errors()) == 1
""")
    assert out.startswith("mine: told\nTraceback")
    assert "--- Logging error ---" in err


def test_an_exception_that_is_logged_on_its_way_out_is_one_error(run):
    """Inside its span, by the span itself, and by a worker's loop outside of all spans."""
    run("""
instrument()
for number in range(3):
    try:
        with tracer.start_as_current_span("job"):
            try: fail(f"job {number}")
            except LookupError:
                log.exception("inner")
                raise
    except LookupError:
        log.exception("outer")
        logging.getLogger("other").exception("outermost")
assert [each.message for each in errors()] == ["job 2", "job 1", "job 0"]
(group,) = current_store().error_groups().items
assert group.count == 3
""")


def test_a_provider_of_the_application_s_own_is_used(run):
    """With the handler that it has already: one error for each record."""
    run("""
import warnings
from opentelemetry._logs import set_logger_provider, get_logger_provider
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk.resources import Resource
from opentelemetry.instrumentation.logging.handler import LoggingHandler
provider = LoggerProvider(Resource.create({"service.name": "theirs"}))
set_logger_provider(provider)
logging.getLogger().addHandler(LoggingHandler(logger_provider=provider))
instrument(service_name="ours")
assert get_logger_provider() is provider
try: fail()
except LookupError: log.exception("x")
with tracer.start_as_current_span("work"):
    try: fail("again")
    except LookupError: log.exception("x")
assert [(each.service, each.message) for each in errors()] == [("theirs", "again"), ("theirs", "no stock")]
""")


def test_the_sdk_s_own_handler_serves_where_the_newer_one_is_not_installed(run):
    """Without its deprecation reaching the application, whose warnings are errors here."""
    run("""
sys.modules["opentelemetry.instrumentation.logging"] = None
instrument()
try: fail()
except LookupError: log.exception("x")
assert len(errors()) == 1
""")


def test_it_can_be_turned_off(run):
    """By setting, and with all of OpenTelemetry."""
    run("""
before = logging.getLogRecordFactory()
instrument(record_logged_errors=False)
assert logging.getLogRecordFactory() is before
assert "opentelemetry.sdk._logs" not in sys.modules
""")
    run(
        """
before = logging.getLogRecordFactory()
instrument()
assert logging.getLogRecordFactory() is before
record_error(ValueError("x"))
""",
        OTEL_SDK_DISABLED="true",
    )
    run(
        """
instrument()
assert "opentelemetry.sdk._logs" not in sys.modules
""",
        TRACEKEEP_RECORD_LOGGED_ERRORS="no",
    )


def test_importing_costs_no_logs_sdk(run):
    """Only who asks for the processor imports it."""
    run("""
import tracekeep.instrumentation as room
assert "opentelemetry.sdk._logs" not in sys.modules
assert room.RetainingLogProcessor.__name__ == "RetainingLogProcessor"
assert "opentelemetry.sdk._logs" in sys.modules
try: room.nothing
except AttributeError: pass
""")


def test_logging_never_waits_for_a_store_that_fails(run):
    """A line with an exception is logged as ever while nothing can be journaled."""
    run("""
import os, time
open("data", "w").close()
instrument(data_dir="data/below", memory_max_bytes=0)
begun = time.monotonic()
for number in range(100):
    try: fail()
    except LookupError: log.exception("x")
assert time.monotonic() - begun < 2
""")


def test_a_logged_error_survives_the_death_of_the_process(run, tmp_path):
    """It is journaled when the line returns, and in every answer from the first on, stored or not."""
    run(
        """
import os
instrument(data_dir="data", writer="none")
try: fail("last words")
except LookupError: log.exception("x")
record_error(ValueError("very last"))
os.kill(os.getpid(), 9)
""",
        status=-signal.SIGKILL,
    )
    store = open_store(tmp_path / "data")

    def is_stored():
        page, status = store.errors(), store.status()
        if [each.message for each in page.items] != ["very last", "last words"]:
            pytest.fail(f"an answer lacks something: {page}, {status}")
        return not page.degraded

    try:
        eventually(is_stored, 10)
    finally:
        store.close()


def test_the_current_span_is_that_of_the_line():
    """A logger of ours would see no span at all: the API's context is read where the line is logged."""
    assert not trace.get_current_span().get_span_context().is_valid
    assert logging.getLogRecordFactory() is logging.LogRecord
