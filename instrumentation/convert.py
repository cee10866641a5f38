"""From OpenTelemetry's objects to records: the careful way, for whatever the fast one can't take."""

from __future__ import annotations

import msgspec
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from ..storage.cleaning import MAX_RECORD, MAX_TIME, Cleaner
from ..storage.records import REMOTE_KNOWN, REMOTE_PARENT, Event, Extra, Link, Origin, SpanRecord

_encode = msgspec.msgpack.Encoder().encode


def encode_span(span: ReadableSpan, origin: int) -> tuple[bytes, int]:
    """A span as a journal payload, through OpenTelemetry's public interface only.

    Args:
        span: a finished one.
        origin: the number of its origin's definition.

    Returns:
        The payload, and how many values had to be changed.
    """
    context, parent = span.get_span_context(), span.parent
    assert context is not None
    cleaner = Cleaner()
    start = _time(span.start_time)
    record = SpanRecord(
        trace_id=context.trace_id.to_bytes(16, "big"),
        span_id=context.span_id,
        parent_id=parent.span_id if parent is not None else 0,
        flags=context.trace_flags | REMOTE_KNOWN | (REMOTE_PARENT if parent is not None and parent.is_remote else 0),
        origin=origin,
        name=cleaner.text(str(span.name)),
        kind=span.kind.value + 1,
        start=start,
        end=_time(span.end_time) or start,
        status=span.status.status_code.value,
        message=cleaner.text(span.status.description) if span.status.description else None,
        attributes=cleaner.attributes(span.attributes),
        extra=_extra(span, cleaner),
    )
    return _encode(record), cleaner.changed


def _extra(span: ReadableSpan, cleaner: Cleaner) -> Extra:
    context = span.get_span_context()
    assert context is not None
    return Extra(
        trace_state=context.trace_state.to_header() or None,
        events=[
            Event(_time(event.timestamp), cleaner.text(event.name), cleaner.attributes(event.attributes))
            for event in cleaner.affordable(span.events, lambda event: event.name)
        ],
        links=[
            Link(link.context.trace_id.to_bytes(16, "big"), link.context.span_id, cleaner.attributes(link.attributes))
            for link in cleaner.affordable(span.links, lambda _link: "")
        ],
        dropped_attributes=span.dropped_attributes,
        dropped_events=span.dropped_events,
        dropped_links=span.dropped_links,
        truncated=cleaner.changed,
    )


def _time(value: int | None) -> int:
    return min(max(value or 0, 0), MAX_TIME)


def make_origin(resource: Resource, scope: InstrumentationScope | None) -> Origin:
    """A resource and a scope as what a definition holds."""
    cleaner = Cleaner(budget=MAX_RECORD // 4)
    return Origin(
        resource=cleaner.attributes(resource.attributes),
        resource_schema_url=resource.schema_url or "",
        scope_name=cleaner.text(scope.name) if scope is not None else "",
        scope_version=cleaner.text(scope.version or "") if scope is not None else "",
        scope_schema_url=cleaner.text(scope.schema_url or "") if scope is not None else "",
        scope_attributes=cleaner.attributes(scope.attributes) if scope is not None else {},
    )
