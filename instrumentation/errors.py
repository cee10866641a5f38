"""Errors that are told of apart from spans: journaled at once, so that they survive the death of the process."""

from __future__ import annotations

import logging
import threading
import time
import traceback
from collections.abc import Mapping
from typing import Any

import msgspec
from opentelemetry import trace
from opentelemetry.sdk.resources import Resource

from ..storage import Store, current_store
from ..storage.cleaning import MAX_RECORD, Cleaner
from ..storage.records import FrameType, LogRecord
from .complaints import Complaints
from .convert import make_origin

_logger = logging.getLogger("tracekeep")
_MAX_RESOURCES = 1000
_MAX_BODY = 4096
_SEEN = "_tracekeep_recorded"
_SAME_ERROR = 1.0  # s within which the same exception is the same error
_ERROR_SEVERITY = 17  # as numbered by OTLP
_encode = msgspec.msgpack.Encoder().encode
_busy = threading.local()


class ErrorJournal:
    """Writes errors to a store's journal as log records. None of its methods raises or waits.

    Args:
        store: where to.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self._origins: dict[int, tuple[Resource, int]] = {}
        self._complaints = Complaints(_logger)

    def record(
        self,
        context: trace.SpanContext | None,
        resource: Resource,
        attributes: Mapping[str, Any],
        *,
        time_ns: int = 0,
        severity: int = 0,
        logger: str = "",
        event: str = "",
        body: object = None,
    ) -> None:
        """Journal one; while this thread is at it already, as when an attribute's own text is logged, do nothing."""
        if getattr(_busy, "now", False):
            return
        _busy.now = True
        try:
            valid = context is not None and context.is_valid
            cleaner = Cleaner(MAX_RECORD)
            record = LogRecord(
                trace_id=context.trace_id.to_bytes(16, "big") if valid and context is not None else b"",
                span_id=context.span_id if valid and context is not None else 0,
                flags=int(context.trace_flags) if valid and context is not None else 0,
                origin=self._origin(resource),
                time=time_ns if time_ns > 0 else time.time_ns(),
                severity=severity,
                logger=cleaner.text(logger),
                event=cleaner.text(event),
                body=cleaner.text(body[:_MAX_BODY]) if isinstance(body, str) and body else None,
                attributes=cleaner.attributes(attributes),
            )
            if cleaner.changed:
                self.store.journal.count_truncated(cleaner.changed)
            self.store.journal.append(FrameType.LOG, _encode(record), record.origin, important=True)
        except Exception:
            self.store.journal.count_unencodable()
            self._complaints.note("tracekeep: an error could not be encoded; it is counted as dropped")
        finally:
            _busy.now = False

    def _origin(self, resource: Resource) -> int:
        known = self._origins.get(id(resource))
        if known is None:
            if len(self._origins) >= _MAX_RESOURCES:
                self._origins.clear()
            number = self.store.journal.define(_encode(make_origin(resource, None)))
            known = self._origins[id(resource)] = (resource, number)  # kept alive: its id is the key
        return known[1]


def mark_seen(error: BaseException) -> None:
    """Note on an exception that it has just been recorded."""
    try:
        error.__dict__[_SEEN] = time.monotonic()
    except Exception:  # an exception may be of any make
        return


def is_seen(error: BaseException) -> bool:
    """Whether an exception has just been recorded: what a server logs of it outside of all spans is the same error."""
    try:
        return bool(time.monotonic() - error.__dict__[_SEEN] <= _SAME_ERROR)
    except Exception:
        return False


def type_name(kind: type) -> str:
    """The name of an exception's class, as OpenTelemetry's `exception.type` has it."""
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def text_of(error: BaseException) -> str:
    """What an exception says of itself, or that it fails to."""
    try:
        return str(error)
    except Exception:
        return "<no text: its __str__ failed>"


_journals: dict[int, ErrorJournal] = {}


def record_error(
    error: BaseException, *, operational: bool | None = None, fingerprint: str | None = None, **context: Any
) -> None:
    """Keep an exception that the application has handled, with the current span where there is one.

    It is kept at once, in the store that was opened last in this process; without one, nothing is done. It never
    raises and never waits. A span event of the same exception, or a log record, is the same error.

    Args:
        error: the exception.
        operational: whether it was to be expected; by default it is where its request is answered with a status
            under 500.
        fingerprint: what it is grouped by, instead of by its stack trace.
        context: what else to know of it, by name.
    """
    try:
        store = current_store()
        if store is None:
            return
        journal = _journals.get(id(store))
        if journal is None or journal.store is not store:
            _journals.clear()
            journal = _journals[id(store)] = ErrorJournal(store)
        span = trace.get_current_span()
        mark_seen(error)
        journal.record(
            span.get_span_context(),
            _resource_of(span),
            {**context, **_attributes_of(error, operational=operational, fingerprint=fingerprint)},
            severity=_ERROR_SEVERITY,
            event="exception",
        )
    except Exception:
        _logger.debug("tracekeep: an error could not be recorded", exc_info=True)


def _attributes_of(error: BaseException, *, operational: bool | None, fingerprint: str | None) -> dict[str, Any]:
    """As OpenTelemetry's `record_exception` makes them."""
    attributes: dict[str, Any] = {"exception.type": type_name(type(error)), "exception.message": text_of(error)}
    try:
        attributes["exception.stacktrace"] = "".join(traceback.format_exception(error))
    except Exception:
        _logger.debug("tracekeep: a stack trace could not be written", exc_info=True)
    if operational is not None:
        attributes["tracekeep.operational"] = bool(operational)
    if fingerprint is not None:
        attributes["tracekeep.fingerprint"] = str(fingerprint)
    return attributes


def _resource_of(span: trace.Span) -> Resource:
    for source in (span, trace.get_tracer_provider()):
        resource = getattr(source, "resource", None)
        if isinstance(resource, Resource):
            return resource
    return Resource.get_empty()
