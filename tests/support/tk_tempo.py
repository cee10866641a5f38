"""Grafana's Tempo data source as a client: it decodes as strictly as the plugin does, and fails where that would.

The messages are those of the `tempopb` that the plugin (13.1) is built with, declared here field by field, decoded by
protobuf's own decoders: an unknown key in JSON is an error, as in Go's `jsonpb`.
"""

import base64
import re
import urllib.parse

from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory
from opentelemetry.proto.trace.v1.trace_pb2 import TracesData
from tk_http import request

_F = descriptor_pb2.FieldDescriptorProto
_TYPES = {
    "string": _F.TYPE_STRING,
    "bool": _F.TYPE_BOOL,
    "int64": _F.TYPE_INT64,
    "uint64": _F.TYPE_UINT64,
    "uint32": _F.TYPE_UINT32,
    "double": _F.TYPE_DOUBLE,
    "bytes": _F.TYPE_BYTES,
}
_TEXT_NUMBERS = {_F.TYPE_INT64, _F.TYPE_UINT64}
_MESSAGES = {
    "AnyValue": "string stringValue, bool boolValue, int64 intValue, double doubleValue, ArrayValue arrayValue, "
    "KeyValueList kvlistValue, bytes bytesValue",
    "ArrayValue": "*AnyValue values",
    "KeyValueList": "*KeyValue values",
    "KeyValue": "string key, AnyValue value",
    "ServiceStats": "uint32 spanCount, uint32 errorCount",
    "Span": "string spanID, string name, uint64 startTimeUnixNano, uint64 durationNanos, *KeyValue attributes",
    "SpanSet": "*Span spans, uint32 matched, *KeyValue attributes",
    "TraceSearchMetadata": "string traceID, string rootServiceName, string rootTraceName, uint64 startTimeUnixNano, "
    "uint32 durationMs, SpanSet spanSet, *SpanSet spanSets, %ServiceStats serviceStats",
    "SearchMetrics": "uint32 inspectedTraces, uint64 inspectedBytes, uint32 totalBlocks, uint32 completedJobs, "
    "uint32 totalJobs, uint64 totalBlockBytes, uint64 inspectedSpans",
    "SearchResponse": "*TraceSearchMetadata traces, SearchMetrics metrics",
    "InstantSeries": "*KeyValue labels, double value, string promLabels",
    "QueryInstantResponse": "*InstantSeries series, SearchMetrics metrics, =PartialStatus status, string message",
    "Sample": "int64 timestampMs, double value",
    "Exemplar": "*KeyValue labels, double value, int64 timestampMs",
    "TimeSeries": "*KeyValue labels, *Sample samples, string promLabels, *Exemplar exemplars",
    "QueryRangeResponse": "*TimeSeries series, SearchMetrics metrics, =PartialStatus status, string message",
    "TraceByIDMetrics": "uint64 inspectedBytes",
    # the content of `trace` is decoded by OpenTelemetry's own messages
    "TraceByIDResponse": "bytes trace, TraceByIDMetrics metrics, =PartialStatus status, string message",
}
_ONEOF = {"AnyValue"}


def _pool():
    file = descriptor_pb2.FileDescriptorProto(name="tempo.proto", package="tempopb", syntax="proto3")
    file.enum_type.add(name="PartialStatus").value.add(name="COMPLETE", number=0)
    file.enum_type[0].value.add(name="PARTIAL", number=1)
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        if name in _ONEOF:
            message.oneof_decl.add(name="value")
        for number, field in enumerate(fields.split(", "), 1):
            _declare(message, number, *field.split())
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return pool


def _declare(message, number, kind, name):
    field = message.field.add(name=name, json_name=name, number=number, label=_F.LABEL_OPTIONAL)
    mark, kind = (kind[0], kind[1:]) if kind[0] in "*%=" else ("", kind)
    if mark in {"*", "%"}:
        field.label = _F.LABEL_REPEATED
    if mark == "%":
        entry = message.nested_type.add(name=f"{name[0].upper()}{name[1:]}Entry")
        entry.options.map_entry = True
        _declare(entry, 1, "string", "key")
        _declare(entry, 2, kind, "value")
        field.type, field.type_name = _F.TYPE_MESSAGE, f".tempopb.{message.name}.{entry.name}"
    elif mark == "=":
        field.type, field.type_name = _F.TYPE_ENUM, f".tempopb.{kind}"
    elif kind in _TYPES:
        field.type = _TYPES[kind]
    else:
        field.type, field.type_name = _F.TYPE_MESSAGE, f".tempopb.{kind}"
    if message.name in _ONEOF:
        field.oneof_index = 0


_POOL = _pool()


def message_class(name):
    """One of the messages above."""
    return message_factory.GetMessageClass(_POOL.FindMessageTypeByName(f"tempopb.{name}"))


class Refused(AssertionError):  # noqa: N818  # named as what the server did
    """The server said no: status and text as Grafana would show them."""

    def __init__(self, response):
        super().__init__(f"{response.status}: {response.text}")
        self.status, self.text = response.status, response.text


class Grafana:
    """The data source with a URL; every method makes the requests of one feature."""

    def __init__(self, port, prefix="/tempo"):
        self.port, self.prefix = port, prefix

    def get(self, path, accept="application/json", **params):
        """One request: the response where it is 200; never HTML."""
        query = f"?{urllib.parse.urlencode(params)}" if params else ""
        headers = {"Accept": accept} if accept else {}
        response = request("GET", self.port, f"{self.prefix}{path}{query}", headers=headers)
        kind = response.headers["content-type"]
        assert not re.search(r"<html|<!doctype", response.text if "protobuf" not in kind else "", re.IGNORECASE)
        if response.status != 200:
            assert kind == "text/plain; charset=utf-8", (kind, response.text)
            raise Refused(response)
        return response

    def test(self):
        """Save & test."""
        return self.get("/api/echo", accept=None)

    def version(self):
        """What older Grafana chooses its features by."""
        found = self.get("/api/status/buildinfo").json
        assert all(isinstance(value, str) for value in found.values())
        return tuple(map(int, found["version"].split(".")))

    # --- traces --------------------------------------------------------------------------------------------------

    def trace(self, trace_id, **params):
        """The trace view of Grafana 13: (trace, partial message); None where it isn't found."""
        try:
            response = self.get(f"/api/v2/traces/{trace_id}", "application/protobuf", **params)
        except Refused as error:
            if error.status != 404:
                raise
            return self.trace_v1(trace_id, **params), ""
        assert response.headers["content-type"] == "application/protobuf"
        found = message_class("TraceByIDResponse").FromString(response.body)
        assert (found.status == 1) == bool(found.message)
        assert response.body[:1] == b"\x0a", "field 1 is read even where the trace is empty"
        return checked_trace(found.trace), found.message

    def trace_v1(self, trace_id, accept="application/protobuf", **params):
        """The trace view of older ones: decoded as protobuf whatever the response calls itself."""
        return checked_trace(self.get(f"/api/traces/{trace_id}", accept, **params).body)

    def trace_json(self, trace_id, version="v2/", **params):
        """What a download of JSON is: the protobuf-JSON mapping, read back into the message."""
        found = self.get(f"/api/{version}traces/{trace_id}", **params).json
        spans = found["trace"].get("resourceSpans", []) if version else found["batches"]
        assert set(found) <= ({"trace", "metrics", "status", "message"} if version else {"batches"})
        return checked_trace(from_proto_json(spans).SerializeToString())

    # --- search --------------------------------------------------------------------------------------------------

    def search(self, q=None, **params):
        """The search tab, old and new: decoded by Go's jsonpb."""
        given = {"q": q, **params} if q is not None else params
        response = self.get("/api/search", **given)
        found = strict(response, "SearchResponse")
        for trace in found.traces:
            assert re.fullmatch("[0-9a-f]{32}", trace.traceID)
            for spans in trace.spanSets:
                assert all(re.fullmatch("[0-9a-f]{16}", span.spanID) for span in spans.spans)
                assert spans.matched >= len(spans.spans)
        return found

    def tags(self, **params):
        """Names by scope, as the browser reads them."""
        scopes = self.get("/api/v2/search/tags", "application/json, text/plain, */*", limit=5000, **params).json
        return {_texts([scope["name"]])[0]: _texts(scope["tags"]) for scope in scopes["scopes"]}

    def tags_v1(self, **params):
        return _texts(self.get("/api/search/tags", None, **params).json["tagNames"])

    def values(self, tag, **params):
        """Values as (type, value), as the builder's drop-down has them: falsy ones are dropped."""
        path = urllib.parse.quote(tag, safe="")
        params = {"limit": 5000, "tag": tag, **params}
        found = self.get(f"/api/v2/search/tag/{path}/values", "application/json, text/plain, */*", **params).json
        pairs = [(each["type"], each["value"]) for each in found["tagValues"]]
        assert all(kind in {"string", "int", "float", "bool", "duration", "keyword"} for kind, _ in pairs)
        assert all(_texts([value for _, value in pairs]))
        return pairs

    def values_v1(self, tag, **params):
        return _texts(
            self.get(f"/api/search/tag/{urllib.parse.quote(tag, safe='')}/values", None, **params).json["tagValues"]
        )

    # --- metrics -------------------------------------------------------------------------------------------------

    def range(self, q, **params):
        """A metrics panel: unknown keys are allowed, wrong types aren't."""
        found = strict(self.get("/api/metrics/query_range", q=q, **params), "QueryRangeResponse", unknown=True)
        for series in found.series:
            assert series.labels
            stamps = [sample.timestampMs for sample in series.samples]
            assert stamps == sorted(set(stamps))
        return found

    def instant(self, q, **params):
        """A metrics panel of one number, or an alert rule."""
        return strict(self.get("/api/metrics/query", q=q, **params), "QueryInstantResponse")


def _texts(values):
    assert all(isinstance(value, str) for value in values), values
    return values


def strict(response, name, *, unknown=False):
    """A JSON body as the message: no unknown key, and each value of the JSON type that JavaScript expects."""
    assert response.headers["content-type"] == "application/json"
    found = json_format.ParseDict(response.json, message_class(name)(), ignore_unknown_fields=unknown)
    _check_types(response.json, found.DESCRIPTOR)
    return found


def _check_types(value, descriptor):
    for key, found in value.items():
        field = descriptor.fields_by_name.get(key)
        if field is None:
            continue
        if field.type == _F.TYPE_MESSAGE and field.message_type.GetOptions().map_entry:
            for item in found.values():
                _check_types(item, field.message_type.fields_by_name["value"].message_type)
            continue
        for item in found if field.is_repeated else [found]:
            _check_type(item, field)


def _check_type(value, field):
    if field.type == _F.TYPE_MESSAGE:
        _check_types(value, field.message_type)
    elif field.type in _TEXT_NUMBERS or field.type in {_F.TYPE_STRING, _F.TYPE_BYTES, _F.TYPE_ENUM}:
        assert isinstance(value, str), f"{field.full_name}: {value!r}"
    elif field.type == _F.TYPE_UINT32:
        assert type(value) is int, f"{field.full_name}: {value!r}"
    elif field.type == _F.TYPE_DOUBLE:
        assert type(value) in {int, float} or value in {"NaN", "Infinity", "-Infinity"}, f"{field.full_name}: {value!r}"


def checked_trace(body):
    """A `Trace` whose every part that the plugin reads without looking is there."""
    found = TracesData.FromString(body)
    for resource in found.resource_spans:
        assert resource.HasField("resource")
        assert len(resource.resource.attributes) >= 1, "the plugin would drop all its spans"
        for scope in resource.scope_spans:
            assert scope.HasField("scope")
            for span in scope.spans:
                assert span.HasField("status")
                assert (len(span.trace_id), len(span.span_id), len(span.parent_span_id) in {0, 8}) == (16, 8, True)
    return found


def from_proto_json(spans):
    """The list of `ResourceSpans` in the general mapping: ids in base64."""
    return json_format.ParseDict({"resourceSpans": spans}, TracesData())


def from_otlp_json(spans):
    """The list of `ResourceSpans` in OTLP/JSON: ids in hex, enumerations as numbers."""
    return from_proto_json(_with_base64_ids(spans))


def _with_base64_ids(value):
    if isinstance(value, list):
        return [_with_base64_ids(each) for each in value]
    if not isinstance(value, dict):
        return value
    ids = {"traceId", "spanId", "parentSpanId"}
    return {
        key: base64.b64encode(bytes.fromhex(each)).decode() if key in ids else _with_base64_ids(each)
        for key, each in value.items()
    }


def spans_of(trace):
    """All spans by name, with their resource and scope."""
    return {
        span.name: (span, resource.resource, scope.scope)
        for resource in trace.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    }


def plain(value):
    """An `AnyValue` as a Python value."""
    kind = value.WhichOneof("value")
    if kind is None:
        return None
    found = getattr(value, kind)
    if kind in {"array_value", "arrayValue"}:
        return [plain(each) for each in found.values]
    if kind in {"kvlist_value", "kvlistValue"}:
        return plain_attributes(found.values)
    return found


def plain_attributes(pairs):
    return {pair.key: plain(pair.value) for pair in pairs}
