import math

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, TraceFlags

from tracekeep.instrumentation.convert import encode_span, make_origin
from tracekeep.storage.cleaning import MAX_DEPTH, MAX_RECORD, MAX_VALUE, Cleaner
from tracekeep.storage.records import Origin, SpanRecord

INT64 = (-(1 << 63), (1 << 63) - 1)


class Unprintable:
    def __str__(self):
        raise RuntimeError("no text for you")


class Number(int):
    __slots__ = ()


class Real(float):
    __slots__ = ()


def cleaned(value):
    cleaner = Cleaner()
    return cleaner.value(value), cleaner.changed


def nest(depth):
    value = "deep"
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    "value",
    [
        "",
        "text",
        "ü😀",
        "x" * MAX_VALUE,
        b"",
        b"\x00\xff",
        b"x" * MAX_VALUE,
        True,
        False,
        None,
        0,
        *INT64,
        1.5,
        -math.inf,
        [],
        [1, "a", None, [b"x"]],
        {},
        {"a": {"b": [1]}},
        list(range(10_000)),
        nest(MAX_DEPTH),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_what_a_record_can_carry_is_kept(value):
    """As it is, and without a count."""
    assert cleaned(value) == (value, 0)


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        ("x" * (MAX_VALUE + 1), "x" * (MAX_VALUE - 1) + "…"),
        (b"x" * (MAX_VALUE + 1), b"x" * MAX_VALUE),
        (bytearray(MAX_VALUE + 1), bytes(MAX_VALUE)),
        ("a\ud800b", "a?b"),
        (1 << 63, hex(1 << 63)),
        (-(1 << 63) - 1, hex(-(1 << 63) - 1)),
        (["x"] * MAX_VALUE, ["x"] * (MAX_VALUE // 2)),
        (nest(MAX_DEPTH + 1), None),
        (1j, "1j"),
        (Unprintable(), "<Unprintable>"),
        ([Unprintable(), 1], ["<Unprintable>", 1]),
    ],
    ids=lambda value: repr(type(value)),
)
def test_what_it_can_not_is_replaced_and_counted(value, kept):
    """By the nearest thing that it can, as one change."""
    result, changed = cleaned(value)
    assert changed == 1
    assert kept is None or result == kept
    msgspec.msgpack.encode(result)


@pytest.mark.parametrize(
    "value",
    [Number(5), Real(1.5), (1, 2), range(3), {1, 2}, bytearray(b"x"), memoryview(b"x")],
    ids=lambda value: type(value).__name__,
)
def test_relatives_become_plain(value):
    """Subclasses and other sequences are kept as what they stand for."""
    result, changed = cleaned(value)
    assert type(result) in {int, float, list, bytes}
    assert changed == 0


def test_a_value_that_holds_itself():
    """Ends at the depth limit."""
    value = []
    value.append(value)
    assert cleaned(value)[1] == 1


anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.binary()
    | st.text(st.characters())
    | st.complex_numbers(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters()) | st.integers(), inner, max_size=4)
        | st.tuples(inner)
    ),
    max_leaves=10,
)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.text(st.characters()), anything, max_size=5))
def test_anything_can_be_encoded_afterwards(attributes):
    """And comes back equal to what was cleaned."""
    clean = Cleaner().attributes(attributes)
    decoded = msgspec.msgpack.decode(msgspec.msgpack.encode(clean))
    assert repr(decoded) == repr(clean)


def span_with(**details):
    context = SpanContext(1, 2, is_remote=False, trace_flags=TraceFlags(1))
    return ReadableSpan("name", context, start_time=1, end_time=2, **details)


def encoded(span):
    payload, changed = encode_span(span, 7)
    return msgspec.msgpack.decode(payload, type=SpanRecord), changed, len(payload)


def test_a_budget_for_the_whole_span():
    """Attributes that would make the record too large are left out, the last ones first, and counted."""
    record, changed, size = encoded(span_with(attributes={f"key{number}": "x" * 30_000 for number in range(100)}))
    assert size <= MAX_RECORD + 1000
    assert list(record.attributes) == [f"key{number}" for number in range(len(record.attributes))]
    assert 1 < len(record.attributes) < 100
    assert changed == record.extra.truncated == 100 - len(record.attributes)


def test_a_small_attribute_after_a_large_one():
    """What fits is kept also behind what didn't."""
    attributes = {**{f"large {number}": "x" * 30_000 for number in range(10)}, "small": 1}
    record, changed, _size = encoded(span_with(attributes=attributes))
    assert record.attributes == {key: attributes[key] for key in [*list(attributes)[:8], "small"]}
    assert changed == 2


def test_a_bare_span():
    """Without end, parent, attributes or resource of its own, it is still a record."""
    context = SpanContext((1 << 128) - 1, (1 << 64) - 1, is_remote=False, trace_flags=TraceFlags(1))
    record, changed, _size = encoded(ReadableSpan("name", context))
    assert (record.trace_id, record.span_id, record.parent_id) == (b"\xff" * 16, (1 << 64) - 1, 0)
    assert (record.name, record.kind, record.origin, changed) == ("name", 1, 7, 0)
    assert (record.start, record.end, record.status, record.attributes) == (0, 0, 0, {})


@pytest.mark.parametrize(("kind", "number"), list(zip(SpanKind, range(1, 6), strict=True)))
def test_kinds_are_numbered_as_in_otlp(kind, number):
    """1 internal, 2 server, 3 client, 4 producer, 5 consumer."""
    assert encoded(span_with(kind=kind))[0].kind == number


def test_an_origin_has_its_resource_and_scope():
    """All of them; without a scope empty ones."""
    resource = Resource({"service.name": "shop", "odd": "x" * 100_000}, "https://example.org/resource")
    scope = InstrumentationScope("name", "1.0", "https://example.org/scope", {"a": 1})
    origin = make_origin(resource, scope)
    assert (origin.service, origin.resource_schema_url) == ("shop", "https://example.org/resource")
    assert (origin.scope_name, origin.scope_version) == ("name", "1.0")
    assert (origin.scope_schema_url, origin.scope_attributes) == ("https://example.org/scope", {"a": 1})
    assert len(origin.resource["odd"]) == MAX_VALUE
    bare = make_origin(Resource({}), None)
    assert (bare.service, bare.scope_name, bare.scope_attributes) == ("unknown_service", "", {})


def test_a_huge_resource_keeps_the_service():
    """The name of the service is there, however much else is."""
    resource = Resource({f"key{number:04}": "x" * 30_000 for number in range(100)} | {"service.name": "shop"})
    payload = msgspec.msgpack.encode(make_origin(resource, None))
    assert len(payload) < MAX_RECORD
    assert msgspec.msgpack.decode(payload, type=Origin).service == "shop"
