"""Fields of a span: from the model to functions that look them up."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from ...storage.tracing import StoredSpan, hex_id
from .model import Attribute, Duration, Field, Intrinsic, Kind, Several, Status, Value
from .trees import Trace
from .values import from_stored

Getter = Callable[[StoredSpan, Any], Value]
"""Of a span and its trace, which only some fields look at."""

OF_THE_TRACE = frozenset(
    {
        "rootName", "rootServiceName", "traceDuration", "nestedSetLeft", "nestedSetRight", "nestedSetParent",
        "childCount",
    }
)  # fmt: skip
"""Intrinsics that need more than the span."""

_STATUS = {name: Status(name) for name in ("unset", "ok", "error")}
_KIND = {name: Kind(name) for name in ("unspecified", "internal", "server", "client", "producer", "consumer")}
_PLAIN = frozenset({str, int, float, bool})


def getter(field: Field) -> Getter:
    """What looks a field up; None where the span doesn't have it."""
    if isinstance(field, Intrinsic):
        return _INTRINSICS[field.name]
    plain = _SCOPES[field.scope](field.name)
    if not field.of_parent:
        return plain

    def of_parent(span: StoredSpan, trace: Trace) -> Value:
        parent = trace.parent(span)
        return None if parent is None else plain(parent, trace)

    return of_parent


def needs_trace(field: Field) -> bool:
    """Whether a span alone can't tell."""
    return field.of_parent if isinstance(field, Attribute) else field.name in OF_THE_TRACE


# --- attributes ---------------------------------------------------------------------------------------------------


def _of_span(name: str) -> Getter:
    def get(span: StoredSpan, _trace: Any) -> Value:
        value = span.shared.get(name)
        if value is None:
            value = span.own.get(name)
        return value if value.__class__ in _PLAIN else from_stored(value)

    return get


def _of_resource(name: str) -> Getter:
    return lambda span, _trace: from_stored(span.operation.resource.get(name))


def _of_scope(name: str) -> Getter:
    return lambda span, _trace: from_stored((span.operation.scope.get("attributes") or {}).get(name))


def _of_events(name: str) -> Getter:
    return lambda span, _trace: several(attributes.get(name) for _time, _name, attributes in _events(span))


def _of_links(name: str) -> Getter:
    return lambda span, _trace: several(attributes.get(name) for _trace_id, _id, attributes in _links(span))


def _of_any(name: str) -> Getter:
    getters = [_SCOPES[scope](name) for scope in ("span", "resource", "event", "link", "instrumentation")]

    def get(span: StoredSpan, trace: Any) -> Value:
        for each in getters:
            value = each(span, trace)
            if value is not None:
                return value
        return None

    return get


_SCOPES: dict[str, Callable[[str], Getter]] = {
    "": _of_any,
    "span": _of_span,
    "resource": _of_resource,
    "instrumentation": _of_scope,
    "event": _of_events,
    "link": _of_links,
}


def _events(span: StoredSpan) -> Sequence[tuple[int, str, Mapping[str, Any]]]:
    found: Sequence[tuple[int, str, Mapping[str, Any]]] = span.details.get("events", ())
    return found


def _links(span: StoredSpan) -> Sequence[tuple[str, str, Mapping[str, Any]]]:
    found: Sequence[tuple[str, str, Mapping[str, Any]]] = span.details.get("links", ())
    return found


def several(values: Iterator[Any]) -> Value:
    """Those that are there; None where there is none."""
    found = Several(from_stored(value) for value in values if value is not None)
    return found or None


# --- intrinsics ---------------------------------------------------------------------------------------------------


def _since_start(span: StoredSpan, _trace: Any) -> Value:
    return several(Duration(time - span.start) for time, _name, _attributes in _events(span))


def _root_name(_span: StoredSpan, trace: Trace) -> str:
    return trace.root.operation.name if trace.root else ""


def _root_service(_span: StoredSpan, trace: Trace) -> str:
    return trace.root.operation.service if trace.root else ""


_INTRINSICS: dict[str, Getter] = {
    "duration": lambda span, _trace: Duration(span.duration),
    "name": lambda span, _trace: span.operation.name,
    "status": lambda span, _trace: _STATUS[span.status],
    "statusMessage": lambda span, _trace: span.details.get("message") or "",
    "kind": lambda span, _trace: _KIND[span.operation.kind],
    "parent": lambda span, _trace: None if span.parent_id is None else hex_id(span.parent_id),
    "span:id": lambda span, _trace: hex_id(span.span_id),
    "span:parentID": lambda span, _trace: "" if span.parent_id is None else hex_id(span.parent_id),
    "trace:id": lambda span, _trace: span.trace_id.hex(),
    "event:name": lambda span, _trace: several(name for _time, name, _attributes in _events(span)),
    "event:timeSinceStart": _since_start,
    "link:traceID": lambda span, _trace: several(trace_id for trace_id, _id, _attributes in _links(span)),
    "link:spanID": lambda span, _trace: several(span_id for _trace_id, span_id, _attributes in _links(span)),
    "instrumentation:name": lambda span, _trace: span.operation.scope.get("name") or "",
    "instrumentation:version": lambda span, _trace: span.operation.scope.get("version") or "",
    "rootName": _root_name,
    "rootServiceName": _root_service,
    "traceDuration": lambda _span, trace: Duration(trace.duration),
    "childCount": lambda span, trace: trace.child_count(span),
    "nestedSetLeft": lambda span, trace: trace.nested(span)[0],
    "nestedSetRight": lambda span, trace: trace.nested(span)[1],
    "nestedSetParent": lambda span, trace: trace.nested(span)[2],
}
