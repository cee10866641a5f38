"""Errors from the exception events of spans: one for each exception, however many spans it passes through."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from .records import CompactSpan, Event, SpanKind, SpanRecord, StatusCode
from .shapes import Shape

_RECENT_TRACES = 4096
_SAME_ERROR = 1_000_000_000  # ns within which the same exception of a trace is the same error
_MAX_TIME = (1 << 63) - 1

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
    span_id: int
    operation: str
    attributes: dict[str, Any]
    is_new: bool = True


class Receiver(Protocol):
    """Where errors go: a batch."""

    errors: list[ErrorRow]
    changed_errors: list[ErrorRow]
    exceptions: dict[tuple[str, str], int]


class RecentErrors:
    """The errors of traces whose request may not have ended yet.

    Args:
        last: number of the last error.
    """

    def __init__(self, last: int) -> None:
        self.last = last
        self.by_trace: OrderedDict[bytes, list[ErrorRow]] = OrderedDict()

    def take(self, span: AnySpan, events: list[Event], shape: Shape, own: Mapping[str, Any], batch: Receiver) -> None:
        """Make errors of a span's exception events, but for those that were met already in a span inside it."""
        for event in events:
            if event.name != "exception":
                continue
            type_ = str(event.attributes.get("exception.type", "") or "unknown")
            message = str(event.attributes.get("exception.message", "") or "")
            if self._is_known(span, event.time, type_, message):
                continue
            self.last += 1
            row = ErrorRow(
                id=self.last,
                time=min(max(event.time, 0), _MAX_TIME),
                service=shape.service,
                type=type_,
                message=message,
                stacktrace=_text(event.attributes.get("exception.stacktrace")),
                operational=event.attributes.get("tracekeep.operational") is True,
                trace_id=span.trace_id,
                span_id=span.span_id,
                operation=shape.name,
                attributes=_context(shape, own) if shape.kind == SpanKind.SERVER else {},
            )
            batch.errors.append(row)
            counted = (row.service, type_)
            batch.exceptions[counted] = batch.exceptions.get(counted, 0) + 1
            self.remember(row)

    def remember(self, row: ErrorRow) -> None:
        """Expect the request that an error happened in to end."""
        self.by_trace.setdefault(row.trace_id, []).append(row)
        if len(self.by_trace) > _RECENT_TRACES:
            self.by_trace.popitem(last=False)

    def inherit(self, before: RecentErrors) -> None:
        """Know the errors of the partition before, so that none is counted twice; they are no longer changed."""
        for rows in before.by_trace.values():
            for row in rows:
                row.is_new = True
        self.by_trace = before.by_trace

    def stored(self) -> None:
        """Note that all of them are in the database."""
        for rows in self.by_trace.values():
            for row in rows:
                row.is_new = False

    def _is_known(self, span: AnySpan, time: int, type_: str, message: str) -> bool:
        """Whether the exception was met already in a span that it left before this one."""
        return any(
            row.type == type_ and row.message == message and abs(row.time - time) <= _SAME_ERROR
            for row in self.by_trace.get(span.trace_id, ())
        )

    def settle(self, span: AnySpan, shape: Shape, own: Mapping[str, Any], batch: Receiver) -> None:
        """The request has ended: its errors learn what they happened in, and how it was answered."""
        code = shape.attributes.get("http.response.status_code")
        answered = isinstance(code, int) and code < 500  # noqa: PLR2004  # HTTP: the server's own errors
        context = _context(shape, own)
        for row in self.by_trace.pop(span.trace_id):
            row.operation, row.attributes = shape.name, context
            row.operational = row.operational or (answered and span.status != StatusCode.ERROR)
            if not row.is_new:
                batch.changed_errors.append(row)


def _context(shape: Shape, own: Mapping[str, Any]) -> dict[str, Any]:
    """Of a request's attributes those that say what was asked for and how it was answered."""
    wanted = ("http.request.method", "http.route", "url.path", "url.query", "http.response.status_code", "error.type")
    merged = {**shape.attributes, **own}
    return {key: merged[key] for key in wanted if key in merged}


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
