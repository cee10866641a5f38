"""Errors from both signals, span events and log records: one for each exception, however often it is told."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from .fingerprint import Fingerprints
from .jsonable import jsonable
from .records import CompactSpan, Event, LogRecord, SpanKind, SpanRecord, StatusCode
from .request_context import context_of
from .shapes import KnownOrigin, Shape

_RECENT_TRACES = 4096
_RECENT_LOGS = 1024
_SAME_ERROR = 1_000_000_000  # ns within which the same exception of a trace is the same error
_MAX_TIME = (1 << 63) - 1
_NO_TRACE = bytes(16)
_SERVER_ERROR = 500
_MAX_OWN = 64
"""Attributes that an error's own event or record may add to its context."""
_NOT_CONTEXT = ("exception.", "tracekeep.")

AnySpan = CompactSpan | SpanRecord


@dataclass(slots=True)
class ErrorRow:
    """An error on its way; the request that it happened in may still add its context."""

    id: int
    time: int
    service: str
    type: str
    message: str
    stacktrace: str | None
    operational: bool
    trace_id: bytes
    """Empty where it happened outside of a trace."""
    span_id: int
    operation: str
    attributes: dict[str, Any]
    release: str = ""
    group: str = ""
    culprit: str = ""
    is_new: bool = True

    @property
    def end(self) -> str:
        """The last part of a Python stack trace, with the message: the same wherever an exception is told of."""
        text = self.stacktrace or ""
        at = text.rfind('  File "')
        return text[at:].strip() if at >= 0 and not text.endswith("…") else ""


@dataclass(slots=True)
class _Request:
    """How a request ended, for errors that are told only afterwards."""

    operation: str
    context: dict[str, Any]
    answered: bool
    rows: list[ErrorRow] = field(default_factory=list)

    def settle(self, row: ErrorRow) -> None:
        row.operation = self.operation
        row.attributes = {**row.attributes, **self.context}
        row.operational = row.operational or self.answered


class Receiver(Protocol):
    """Where errors go: a batch."""

    errors: list[ErrorRow]
    changed_errors: list[ErrorRow]
    late_errors: list[ErrorRow]
    exceptions: dict[tuple[str, str], int]


class RecentErrors:
    """The errors of traces of late: those whose request may not have ended yet, and those whose request has.

    Args:
        last: number of the last error.
    """

    def __init__(self, last: int) -> None:
        self.last = last
        self.by_trace: OrderedDict[bytes, list[ErrorRow]] = OrderedDict()
        self._ended: OrderedDict[bytes, _Request] = OrderedDict()
        self._logged: OrderedDict[tuple[str, str, str, int], None] = OrderedDict()
        self._told: OrderedDict[tuple[str, str, str], list[ErrorRow]] = OrderedDict()
        self._fingerprints = Fingerprints()

    # --- the two signals -------------------------------------------------------------------------------------------

    def take(self, span: AnySpan, events: list[Event], shape: Shape, own: Mapping[str, Any], batch: Receiver) -> None:
        """Make errors of a span's exception events, but for those that are known already."""
        for event in events:
            if event.name != "exception":
                continue
            row = self._row(event.time, event.attributes, shape.service, shape.release)
            row.trace_id, row.span_id, row.operation = span.trace_id, span.span_id, shape.name
            if shape.kind == SpanKind.SERVER:
                row.attributes = {**row.attributes, **context_of({**shape.attributes, **own})}
            self._add(row, batch)

    def take_log(self, log: LogRecord, origin: KnownOrigin, batch: Receiver) -> None:
        """Make an error of a log record that tells of an exception, unless it is known already."""
        if not ("exception.type" in log.attributes or "exception.message" in log.attributes):
            return
        row = self._row(log.time, log.attributes, origin.service, origin.release)
        if log.trace_id and log.trace_id != _NO_TRACE:
            row.trace_id, row.span_id = log.trace_id, log.span_id
        row.operation = log.logger
        if log.logger:
            row.attributes["log.logger"] = log.logger
        if log.body:
            row.attributes["log.body"] = log.body
        if self._add(row, batch) and row.trace_id and row.trace_id in self.by_trace:
            batch.late_errors.append(row)

    def _row(self, time: int, attributes: Mapping[str, Any], service: str, release: str) -> ErrorRow:
        stack = attributes.get("exception.stacktrace")
        stacktrace = stack if isinstance(stack, str) and stack else None
        type_ = str(attributes.get("exception.type", "") or "unknown")
        message = str(attributes.get("exception.message", "") or "")
        explicit = attributes.get("tracekeep.fingerprint")
        found = self._fingerprints.of(type_, message, stacktrace, str(explicit) if explicit else None)
        if found.type.endswith(f".{type_}"):
            type_ = found.type  # Python's logging handler gives the last part only
        own = [(key, value) for key, value in attributes.items() if not key.startswith(_NOT_CONTEXT)]
        return ErrorRow(
            id=0,
            time=min(max(time, 1), _MAX_TIME),
            service=service,
            type=type_,
            message=message,
            stacktrace=stacktrace,
            operational=attributes.get("tracekeep.operational") is True,
            trace_id=b"",
            span_id=0,
            operation="",
            attributes=jsonable(dict(own[:_MAX_OWN])),
            release=release,
            group=found.group,
            culprit=found.culprit,
        )

    def _add(self, row: ErrorRow, batch: Receiver) -> bool:
        """Take in an error that isn't known; whether it was taken in."""
        if self._is_known(row) if row.trace_id else self._is_logged(row):
            return False
        other = self._take_other(row)
        if other is not None:
            if row.trace_id:
                self._link(other, row, batch)
            return False
        self._expect_other(row)
        self.last += 1
        row.id = self.last
        batch.errors.append(row)
        counted = (row.service, row.type)
        batch.exceptions[counted] = batch.exceptions.get(counted, 0) + 1
        self._place(row)
        return True

    def _place(self, row: ErrorRow) -> None:
        """Have an error learn of its request, now or when that ends."""
        request = self._ended.get(row.trace_id)
        if request is not None:
            request.settle(row)
            request.rows.append(row)
        else:
            self.remember(row)

    # --- one error, in its span and outside of all -----------------------------------------------------------------

    def _take_other(self, row: ErrorRow) -> ErrorRow | None:
        """The same error, told just before or after with a span where this is without, or the other way round."""
        rows = self._told.get((row.service, row.type, row.end), [])
        for other in rows:
            if bool(other.trace_id) != bool(row.trace_id) and abs(other.time - row.time) <= _SAME_ERROR:
                rows.remove(other)
                return other
        return None

    def _expect_other(self, row: ErrorRow) -> None:
        """Expect an error to be told once more: a server logs, outside of all spans, what has left one."""
        if not row.end:
            return
        rows = self._told.setdefault((row.service, row.type, row.end), [])
        rows[:] = [*(other for other in rows[-_MAX_OWN:] if row.time - other.time <= _SAME_ERROR), row]
        if len(self._told) > _RECENT_LOGS:
            self._told.popitem(last=False)

    def _link(self, row: ErrorRow, found: ErrorRow, batch: Receiver) -> None:
        """Let an error without a span know the one that it happened in."""
        row.trace_id, row.span_id, row.operation = found.trace_id, found.span_id, found.operation
        row.attributes = {**row.attributes, **found.attributes}
        if not row.is_new:
            batch.changed_errors.append(row)
        self._place(row)

    def remember(self, row: ErrorRow) -> None:
        """Expect the request that an error happened in to end."""
        if not row.trace_id:
            return
        self.by_trace.setdefault(row.trace_id, []).append(row)
        if len(self.by_trace) > _RECENT_TRACES:
            self.by_trace.popitem(last=False)

    def inherit(self, before: RecentErrors) -> None:
        """Know the errors of the partition before, so that none is counted twice; they are no longer changed."""
        for rows in before.by_trace.values():
            for row in rows:
                row.is_new = True
        self.by_trace, self._ended = before.by_trace, before._ended
        self._logged, self._told = before._logged, before._told

    # --- what is known already -------------------------------------------------------------------------------------

    def _is_known(self, new: ErrorRow) -> bool:
        """Whether the exception was met already: in a span that it left before, or by the other signal."""
        request = self._ended.get(new.trace_id)
        rows = [*self.by_trace.get(new.trace_id, ()), *(request.rows if request is not None else ())]
        return any(_is_same(row, new) for row in rows)

    def _is_logged(self, row: ErrorRow) -> bool:
        """Whether the very record has come already, where an application has two handlers."""
        key = (row.service, row.type, row.message, row.time)
        if key in self._logged:
            return True
        self._logged[key] = None
        if len(self._logged) > _RECENT_LOGS:
            self._logged.popitem(last=False)
        return False

    # --- requests --------------------------------------------------------------------------------------------------

    def settle(self, span: AnySpan, shape: Shape, own: Mapping[str, Any], batch: Receiver) -> None:
        """The request has ended: its errors learn what they happened in, and how it was answered."""
        self.end(span.trace_id, shape.name, {**shape.attributes, **own}, span.status, batch)

    def end(self, trace_id: bytes, operation: str, attributes: Mapping[str, Any], status: int, batch: Receiver) -> None:
        """The same, of a request by its name, attributes and status."""
        code = attributes.get("http.response.status_code")
        answered = isinstance(code, int) and code < _SERVER_ERROR and status != StatusCode.ERROR
        request = _Request(operation, context_of(attributes), answered)
        request.rows = self.by_trace.pop(trace_id)
        for row in request.rows:
            request.settle(row)
            if not row.is_new:
                batch.changed_errors.append(row)
        self._ended[trace_id] = request
        if len(self._ended) > _RECENT_TRACES:
            self._ended.popitem(last=False)


def _is_same(one: ErrorRow, other: ErrorRow) -> bool:
    """Whether two tell of one exception: its type, with or without the module; its message, or where it was raised."""
    if abs(one.time - other.time) > _SAME_ERROR:
        return False
    if one.type != other.type and one.type.rpartition(".")[2] != other.type.rpartition(".")[2]:
        return False
    return one.message == other.message or (one.end != "" and one.end == other.end)
