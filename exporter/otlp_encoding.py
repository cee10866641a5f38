"""Spans in OTLP's forms: protobuf, OTLP/JSON, and the protobuf-JSON mapping that Tempo speaks.

The forms: https://github.com/open-telemetry/opentelemetry-proto, `trace/v1/trace.proto`;
https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding; https://protobuf.dev/programming-guides/json/.
Only protobuf needs the package `opentelemetry-proto`, of the `serve` extra.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import msgspec

from ..storage import SpanView
from ..storage.jsonable import jsonable, restored
from ..storage.records import REMOTE_KNOWN, REMOTE_PARENT, SpanKind, StatusCode

_INT64 = range(-(1 << 63), 1 << 63)
_DEEPEST = 20
"""Lists and mappings in each other; past it they are JSON text. Readers of protobuf stop at 100 messages in each other,
and a mapping takes three."""
_DROPPED = {"attributes": "droppedAttributesCount", "events": "droppedEventsCount", "links": "droppedLinksCount"}
_identity_of = msgspec.json.Encoder().encode


class ProtobufMissing(RuntimeError):  # noqa: N818  # a state of the installation, not a mistake
    """The package that protobuf needs is not installed; the text says how to get it."""

    def __init__(self) -> None:
        super().__init__("protobuf needs the package opentelemetry-proto: pip install 'tracekeep[serve]'")


@dataclass(frozen=True, slots=True)
class Dialect:
    """What differs between the two JSON forms."""

    id: Callable[[str], str]
    kind: Callable[[SpanKind], int | str]
    status: Callable[[StatusCode], int | str]


def _base64(hex_id: str) -> str:
    return base64.b64encode(bytes.fromhex(hex_id)).decode()


OTLP_JSON = Dialect(id=str, kind=int, status=int)
"""OTLP/JSON: ids in hex, enumerations as numbers."""
PROTO_JSON = Dialect(
    id=_base64, kind=lambda kind: f"SPAN_KIND_{kind.name}", status=lambda code: f"STATUS_CODE_{code.name}"
)
"""The general mapping: ids in base64, enumerations by name."""


@dataclass(slots=True)
class _Scope:
    scope: Mapping[str, Any]
    spans: list[SpanView] = field(default_factory=list)


@dataclass(slots=True)
class _Resource:
    attributes: Mapping[str, Any]
    scopes: dict[bytes, _Scope] = field(default_factory=dict)


def _grouped(spans: Iterable[SpanView]) -> Iterable[_Resource]:
    """Spans by resource and scope, in the order of the first of each."""
    found: dict[bytes, _Resource] = {}
    for span in spans:
        # A reader drops the spans of a resource without attributes.
        attributes = span.resource or {"service.name": span.service}
        resource = found.setdefault(_identity_of(attributes), _Resource(attributes))
        resource.scopes.setdefault(_identity_of(span.scope), _Scope(span.scope)).spans.append(span)
    return found.values()


# --- JSON -------------------------------------------------------------------------------------------------------------


def resource_spans(spans: Iterable[SpanView], dialect: Dialect) -> list[dict[str, Any]]:
    """The list of `ResourceSpans`, for a JSON encoder. `resource`, `scope` and `status` always stand."""
    return [
        {
            "resource": {"attributes": attributes(resource.attributes)},
            "scopeSpans": [_scope_spans(scope, dialect) for scope in resource.scopes.values()],
        }
        for resource in _grouped(spans)
    ]


def attributes(given: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A list of `KeyValue`; the same in both dialects."""
    return [{"key": key, "value": any_value(_kept(value))} for key, value in given.items()]


def _kept(value: Any) -> Any:
    """A stored value as it was recorded, as far down as readers follow."""
    return _shallow(restored(value), _DEEPEST) if isinstance(value, list | dict) else value


def _shallow(value: Any, room: int) -> Any:
    if not isinstance(value, list | dict):
        return value
    if not room:
        return as_text(value)
    if isinstance(value, list):
        return [_shallow(item, room - 1) for item in value]
    return {key: _shallow(item, room - 1) for key, item in value.items()}


def any_value(value: Any) -> dict[str, Any]:
    """An `AnyValue`: integers as text, floats that JSON lacks by name, bytes in base64; empty for None."""
    if value is None:
        return {}
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int) and value in _INT64:
        return {"intValue": str(value)}
    if isinstance(value, float):
        return {"doubleValue": double(value)}
    if isinstance(value, bytes):
        return {"bytesValue": base64.b64encode(value).decode()}
    if isinstance(value, list | tuple):
        return {"arrayValue": _filled(values=[any_value(item) for item in value])}
    if isinstance(value, Mapping):
        return {"kvlistValue": _filled(values=[{"key": str(k), "value": any_value(v)} for k, v in value.items()])}
    return {"stringValue": str(value)}


def double(value: float) -> float | str:
    """A double as JSON has it."""
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def as_text(value: Any) -> str:
    """A value as a text that tells what it is: a text as it is, others as JSON."""
    return value if isinstance(value, str) else _identity_of(jsonable(value)).decode()


def _scope_spans(group: _Scope, dialect: Dialect) -> dict[str, Any]:
    scope = group.scope
    return {
        "scope": _filled(
            name=scope.get("name"),
            version=scope.get("version"),
            attributes=attributes(scope.get("attributes") or {}),
        ),
        "spans": [_span(span, dialect) for span in group.spans],
        **_filled(schemaUrl=scope.get("schema_url")),
    }


def _span(span: SpanView, dialect: Dialect) -> dict[str, Any]:
    status, kind = StatusCode[span.status.upper()], SpanKind[span.kind.upper()]
    return {
        "traceId": dialect.id(span.trace_id),
        "spanId": dialect.id(span.span_id),
        "startTimeUnixNano": str(span.start_ns),
        "endTimeUnixNano": str(span.start_ns + span.duration_ns),
        "status": _filled(message=span.status_message, code=status and dialect.status(status)),
        **_filled(
            traceState=span.trace_state,
            parentSpanId=span.parent_span_id and dialect.id(span.parent_span_id),
            flags=_flags(span),
            name=span.name,
            kind=kind and dialect.kind(kind),
            attributes=attributes(span.attributes),
            events=[_event(event) for event in span.events],
            links=[_link(link, dialect) for link in span.links],
        ),
        **_filled(**{name: _count(span, each) for each, name in _DROPPED.items()}),
    }


def _event(event: Mapping[str, Any]) -> dict[str, Any]:
    filled = _filled(name=event["name"], attributes=attributes(event["attributes"]))
    return {"timeUnixNano": str(event["time_ns"]), **filled}


def _link(link: Mapping[str, Any], dialect: Dialect) -> dict[str, Any]:
    ids = {"traceId": dialect.id(link["trace_id"]), "spanId": dialect.id(link["span_id"])}
    return {**ids, **_filled(attributes=attributes(link["attributes"]))}


def _flags(span: SpanView) -> int:
    """What is kept of a span's flags: only that its parent is remote."""
    return REMOTE_KNOWN | REMOTE_PARENT if span.parent_is_remote else 0


def _filled(**fields: Any) -> dict[str, Any]:
    """Those that aren't empty: proto3 JSON leaves the others out."""
    return {name: value for name, value in fields.items() if value}


# --- protobuf ---------------------------------------------------------------------------------------------------------


def encode_traces(spans: Iterable[SpanView]) -> bytes:
    """A `TracesData` message; an `ExportTraceServiceRequest` and Tempo's `Trace` have the same bytes.

    Raises:
        ProtobufMissing: the package isn't installed.
    """
    found = _messages().TracesData()
    for resource in _grouped(spans):
        into = found.resource_spans.add()
        into.resource.SetInParent()
        _put_attributes(into.resource.attributes, resource.attributes)
        for scope in resource.scopes.values():
            _put_scope(into.scope_spans.add(), scope)
    return bytes(found.SerializeToString())


@cache
def _messages() -> Any:
    try:
        from opentelemetry.proto.trace.v1 import trace_pb2  # noqa: PLC0415  # optional
    except ImportError as error:
        raise ProtobufMissing from error
    return trace_pb2


def _put_scope(into: Any, group: _Scope) -> None:
    scope = group.scope
    into.scope.SetInParent()
    into.scope.name = scope.get("name") or ""
    into.scope.version = scope.get("version") or ""
    into.schema_url = scope.get("schema_url") or ""
    _put_attributes(into.scope.attributes, scope.get("attributes") or {})
    for span in group.spans:
        _put_span(into.spans.add(), span)


def _put_span(into: Any, span: SpanView) -> None:
    into.trace_id = bytes.fromhex(span.trace_id)
    into.span_id = bytes.fromhex(span.span_id)
    into.parent_span_id = bytes.fromhex(span.parent_span_id or "")
    into.trace_state = span.trace_state or ""
    into.flags = _flags(span)
    into.name = span.name
    into.kind = SpanKind[span.kind.upper()]
    into.start_time_unix_nano = span.start_ns
    into.end_time_unix_nano = span.start_ns + span.duration_ns
    into.status.SetInParent()  # readers take it as given
    into.status.code = StatusCode[span.status.upper()]
    into.status.message = span.status_message or ""
    into.dropped_attributes_count = _count(span, "attributes")
    into.dropped_events_count = _count(span, "events")
    into.dropped_links_count = _count(span, "links")
    _put_attributes(into.attributes, span.attributes)
    for event in span.events:
        added = into.events.add(time_unix_nano=event["time_ns"], name=event["name"])
        _put_attributes(added.attributes, event["attributes"])
    for link in span.links:
        added = into.links.add(trace_id=bytes.fromhex(link["trace_id"]), span_id=bytes.fromhex(link["span_id"]))
        _put_attributes(added.attributes, link["attributes"])


def _count(span: SpanView, what: str) -> int:
    return min(span.dropped.get(what, 0), (1 << 32) - 1)


def _put_attributes(into: Any, given: Mapping[str, Any]) -> None:
    for key, value in given.items():
        _put_value(into.add(key=key).value, _kept(value))


def _put_value(into: Any, value: Any) -> None:
    if value is None:
        into.SetInParent()
    elif isinstance(value, bool):
        into.bool_value = value
    elif isinstance(value, int) and value in _INT64:
        into.int_value = value
    elif isinstance(value, float):
        into.double_value = value
    elif isinstance(value, bytes):
        into.bytes_value = value
    elif isinstance(value, Sequence) and not isinstance(value, str):
        into.array_value.SetInParent()
        for item in value:
            _put_value(into.array_value.values.add(), item)
    elif isinstance(value, Mapping):
        into.kvlist_value.SetInParent()
        for key, item in value.items():
            _put_value(into.kvlist_value.values.add(key=str(key)).value, item)
    else:
        into.string_value = str(value)
