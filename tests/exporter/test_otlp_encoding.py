import json

import msgspec
from google.protobuf.json_format import MessageToDict
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import TracesData
from tk_tempo import checked_trace, from_otlp_json, from_proto_json, plain, plain_attributes

from tracekeep.exporter import otlp_encoding as otlp
from tracekeep.storage import SpanView
from tracekeep.storage.jsonable import jsonable

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
scalars = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(), texts, st.binary(max_size=5)
)
keys = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=4)
lists = st.lists(scalars, max_size=2)
values = scalars | lists | st.dictionaries(keys, scalars | lists, max_size=2)
attributes = st.dictionaries(keys, values, max_size=2).map(jsonable)
ids = st.binary(min_size=8, max_size=8).map(bytes.hex)
trace_ids = st.binary(min_size=16, max_size=16).map(bytes.hex)
times = st.integers(1, 2**63 - 1)
views = st.builds(
    SpanView,
    trace_id=trace_ids,
    span_id=ids,
    parent_span_id=st.none() | ids,
    service=texts,
    name=texts,
    kind=st.sampled_from(["unspecified", "internal", "server", "client", "producer", "consumer"]),
    start_ns=times,
    duration_ns=times,
    status=st.sampled_from(["unset", "ok", "error"]),
    status_message=st.none() | texts,
    attributes=attributes,
    resource=attributes,
    scope=st.just({}) | st.builds(dict, name=texts, version=texts, schema_url=texts, attributes=attributes),
    events=st.lists(st.builds(dict, time_ns=times, name=texts, attributes=attributes), max_size=2),
    links=st.lists(st.builds(dict, trace_id=trace_ids, span_id=ids, attributes=attributes), max_size=2),
    trace_state=st.none() | texts,
    parent_is_remote=st.booleans(),
    dropped=st.dictionaries(st.sampled_from(["attributes", "events", "links", "truncated"]), st.integers(1, 2**40)),
)


few = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@few
@given(st.lists(views, max_size=2))
def test_all_forms_are_the_same_message(spans):
    """Protobuf, OTLP/JSON and the general mapping, for any spans; nothing that Grafana needs is missing in it."""
    message = checked_trace(otlp.encode_traces(spans))
    encode = msgspec.json.encode
    for document, read in ((otlp.PROTO_JSON, from_proto_json), (otlp.OTLP_JSON, from_otlp_json)):
        read_back = read(json.loads(encode(otlp.resource_spans(spans, document))))
        assert read_back.SerializeToString(deterministic=True) == message.SerializeToString(deterministic=True)
    found = [span for r in message.resource_spans for scope in r.scope_spans for span in scope.spans]
    assert sorted(span.span_id.hex() for span in found) == sorted(span.span_id for span in spans)


@few
@given(st.lists(views, max_size=2))
def test_the_general_mapping_is_protobufs_own(spans):
    """Key by key as protobuf's own encoder writes it, but for the parts that stand though they are empty."""
    expected = MessageToDict(TracesData.FromString(otlp.encode_traces(spans))).get("resourceSpans", [])
    found = msgspec.json.encode(otlp.resource_spans(spans, otlp.PROTO_JSON))
    assert json.loads(found) == json.loads(json.dumps(expected))


@few
@given(st.lists(views, min_size=1, max_size=2))
def test_an_export_request_has_the_same_bytes(spans):
    """So whoever takes OTLP takes them."""
    body = otlp.encode_traces(spans)
    request = ExportTraceServiceRequest.FromString(body)
    assert request.resource_spans == TracesData.FromString(body).resource_spans


def view(**more):
    given = {"trace_id": "1" * 32, "span_id": "2" * 16, "parent_span_id": None, "service": "shop", "name": "x"}
    rest = {"kind": "server", "start_ns": 1, "duration_ns": 1, "status": "unset", "status_message": None}
    return SpanView(**{**given, **rest, "attributes": {}, "resource": {}, "scope": {}} | more)


def test_a_resource_without_attributes_gets_its_services_name():
    """Grafana drops the spans of one that has none."""
    message = checked_trace(otlp.encode_traces([view()]))
    assert plain_attributes(message.resource_spans[0].resource.attributes) == {"service.name": "shop"}


def test_spans_are_together_by_resource_and_scope():
    """Each resource and scope stands once, in the order in which they come."""
    spans = [
        view(name=f"{resource}{scope}", resource={"service.name": resource}, scope={"name": scope})
        for resource, scope in ("ax", "by", "ay", "ax", "by")
    ]
    message = TracesData.FromString(otlp.encode_traces(spans))
    assert [
        (plain_attributes(each.resource.attributes)["service.name"], scope.scope.name, len(scope.spans))
        for each in message.resource_spans
        for scope in each.scope_spans
    ] == [("a", "x", 2), ("a", "y", 1), ("b", "y", 2)]


def test_what_lies_too_deep_for_readers_is_text():
    """Protobuf's readers refuse more than a hundred messages in each other; the value is still there."""
    value = "deepest"
    for level in range(95):
        value = [value] if level % 2 else {"k": value}
    span = view(attributes={"deep": value})
    message = checked_trace(otlp.encode_traces([span]))
    assert from_proto_json(otlp.resource_spans([span], otlp.PROTO_JSON)) == message
    found = plain(message.resource_spans[0].scope_spans[0].spans[0].attributes[0].value)
    for _ in range(20):
        found = found[0] if isinstance(found, list) else found["k"]
    assert "deepest" in found
    assert json.loads(found)


def test_an_integer_beyond_64_bits_is_text():
    """There is no other way to carry it."""
    assert otlp.any_value(2**63) == {"stringValue": str(2**63)}
    assert otlp.any_value(2**63 - 1) == {"intValue": str(2**63 - 1)}
    message = TracesData.FromString(otlp.encode_traces([view(attributes={"big": 2**63})]))
    assert plain(message.resource_spans[0].scope_spans[0].spans[0].attributes[0].value) == str(2**63)
