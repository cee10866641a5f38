"""Errors that are logged: through OpenTelemetry's logs API, or Python's `logging` with `exc_info`.

Importing this imports the SDK for logs, which takes 20 ms: `tracekeep.instrumentation` does so only when it is asked
for `RetainingLogProcessor`, and `instrument()` when it is called.
"""

from __future__ import annotations

import importlib
import logging
import warnings
from contextlib import suppress
from typing import Any

from opentelemetry import _logs, trace
from opentelemetry.sdk._logs import LoggerProvider, LoggingHandler, LogRecordProcessor, ReadWriteLogRecord
from opentelemetry.sdk.resources import Resource

from ..storage import Store, open_store
from .errors import ErrorJournal, is_seen, mark_seen

_OWN = "tracekeep"


class RetainingLogProcessor(LogRecordProcessor):
    """Keeps log records that tell of an exception, as a processor of an OpenTelemetry LoggerProvider.

    A record does where it has an attribute `exception.type` or `exception.message`, whatever its event name; others
    are left alone, and so are tracekeep's own.

    Args:
        store: where to; by default `open_store()`.
    """

    def __init__(self, store: Store | None = None) -> None:
        self.store = store if store is not None else open_store()
        self._errors = ErrorJournal(self.store)

    def on_emit(self, log_record: ReadWriteLogRecord) -> None:
        """Journal a record if it tells of an exception. Never raises, never waits."""
        try:
            record = log_record.log_record
            attributes = record.attributes
            if not attributes or not ("exception.type" in attributes or "exception.message" in attributes):
                return
            scope = log_record.instrumentation_scope
            name = scope.name if scope is not None else ""
            if is_own(name):
                return
            self._errors.record(
                _context_of(record),
                log_record.resource or Resource.get_empty(),
                attributes,
                time_ns=record.timestamp or record.observed_timestamp or 0,
                severity=record.severity_number.value if record.severity_number is not None else 0,
                logger=name,
                event=record.event_name or "",
                body=record.body,
            )
        except Exception:
            self.store.journal.count_unencodable()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Wait until what has been recorded is committed; whether it is."""
        return self.store.flush(timeout_millis / 1000)

    def shutdown(self) -> None:
        """Wait for the writer, a second at most. Nothing depends on it: the journal has everything already."""
        self.store.flush(1.0)


def _context_of(record: Any) -> trace.SpanContext | None:
    if not record.trace_id or not record.span_id:
        return None
    flags = trace.TraceFlags(record.trace_flags or 0)
    return trace.SpanContext(record.trace_id, record.span_id, is_remote=False, trace_flags=flags)


def is_own(name: str) -> bool:
    """Whether a logger is tracekeep's: what it says of its own failures must not make others."""
    return name == _OWN or name.startswith(f"{_OWN}.")


# --- Python's logging ----------------------------------------------------------------------------------------------


def set_up_logs(store: Store, resource: Resource) -> None:
    """Keep what is logged with an exception: through the application's own LoggerProvider, or one of ours."""
    provider = _logs.get_logger_provider()
    if not isinstance(provider, LoggerProvider):
        provider = LoggerProvider(resource=resource, shutdown_on_exit=False)  # the store is closed at exit
        _logs.set_logger_provider(provider)
    provider.add_log_record_processor(RetainingLogProcessor(store))
    _watch_logging(_handler(provider))


def _handler(provider: LoggerProvider) -> logging.Handler:
    """OpenTelemetry's handler: of its instrumentation of `logging` where that is installed, else the SDK's own."""
    try:
        module = importlib.import_module("opentelemetry.instrumentation.logging.handler")
        newer: logging.Handler = module.LoggingHandler(logger_provider=provider)
    except ImportError:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # it points to the other one
            return LoggingHandler(logger_provider=provider)
    return newer


def _watch_logging(handler: logging.Handler) -> None:
    """Hand records with an exception to a handler as they are made.

    A handler on the root logger would silence applications that configure no logging (`logging.lastResort`), turn
    their `basicConfig` into nothing, and miss loggers that don't propagate, as uvicorn's.
    """
    make = logging.getLogRecordFactory()

    def factory(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = make(*args, **kwargs)
        if record.exc_info:
            with suppress(Exception):  # a line that can't be formatted is the application's, and told by its handlers
                if _is_wanted(record):
                    handler.handle(record)
        return record

    logging.setLogRecordFactory(factory)


def _is_wanted(record: logging.LogRecord) -> bool:
    """Whether a record has an exception of the application's that is not known already."""
    info = record.exc_info
    error = info[1] if isinstance(info, tuple) else None
    if error is None or is_own(record.name):
        return False
    if not trace.get_current_span().get_span_context().is_valid and is_seen(error):
        return False
    mark_seen(error)
    return True
