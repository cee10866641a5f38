import math
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
    set_span_in_context,
)

from tracekeep.instrumentation import RetainingSpanProcessor

PROVIDER = TracerProvider(shutdown_on_exit=False, resource=Resource({"service.name": "shop"}))
TRACERS = [PROVIDER.get_tracer("one", "1.0"), PROVIDER.get_tracer("two")]


class Journal:
    """Keeps what is appended; the quick way takes it all, or nothing."""

    def __init__(self, quick):
        self.journal = self.tail = self
        self.quick = quick
        self.taken, self.defined = [], []

    def define(self, payload):
        self.defined.append(payload)
        return len(self.defined)

    @property
    def append(self):
        return self.append_quickly if self.quick else self.append_slowly

    def append_quickly(self, type_, payload, number, *_important):
        self.taken.append((type_, payload, number))
        return True

    append_slowly = append_quickly

    def count_truncated(self, count): ...

    def count_unencodable(self): ...


class Slow(RetainingSpanProcessor):
    def on_end(self, span):
        super().on_end(span)


INTS = st.integers(-(1 << 64), 1 << 65)
VALUES = st.one_of(
    st.text(max_size=40),
    st.sampled_from(["", "x" * 31, "x" * 32, "x" * 255, "x" * 256, "é" * 200, "x" * 65_536, "\ud800", "日本"]),
    INTS,
    st.sampled_from([0, 127, 128, 255, 256, 65_535, 65_536, 1 << 32, -1, -32, -33, -128, -129, -32_769, 1 << 63]),
    st.floats(),
    st.booleans(),
    st.lists(st.text(max_size=5), max_size=20),
    st.lists(st.floats(allow_nan=False), max_size=3),
    st.binary(max_size=20),
)
SPANS = st.fixed_dictionaries(
    {
        "tracer": st.sampled_from(TRACERS),
        "name": st.sampled_from(["GET /", "", "naïve", "y" * 300]),
        "kind": st.sampled_from(SpanKind),
        "attributes": st.dictionaries(st.sampled_from(["a", "b", "http.route", "c" * 40]), VALUES, max_size=4),
        "status": st.sampled_from(
            [None, Status(StatusCode.OK), Status(StatusCode.ERROR), Status(StatusCode.ERROR, "it broke: é")]
        ),
        "parent": st.sampled_from([None, (1, False), ((1 << 64) - 1, True)]),
        "state": st.sampled_from([None, TraceState([("vendor", "1")])]),
        "event": st.booleans(),
        "link": st.booleans(),
        "ids": st.tuples(st.integers(1, (1 << 128) - 1), st.integers(1, (1 << 64) - 1)),
    }
)


def span_of(given_):
    context = None
    if given_["parent"]:
        parent_id, remote = given_["parent"]
        parent = SpanContext(given_["ids"][0], parent_id, remote, TraceFlags(1), given_["state"])
        context = set_span_in_context(NonRecordingSpan(parent))
    links = [Link(SpanContext(3, 4, is_remote=True))] if given_["link"] else None
    span = given_["tracer"].start_span(given_["name"], context, given_["kind"], given_["attributes"], links)
    if given_["event"]:
        span.add_event("happened")
    if given_["status"]:
        span.set_status(given_["status"])
    span.end()
    return span._readable_span()


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(spans=st.lists(SPANS, min_size=1, max_size=6))
def test_it_makes_the_same_bytes(native, spans):
    """Any spans: what the processor journals is the same with its C part and without."""
    native("tracekeep.instrumentation", "Recorder")
    quick, slow = Journal(quick=True), Journal(quick=False)
    processors = RetainingSpanProcessor(quick), Slow(slow)
    assert "on_end" in vars(processors[0])
    assert "on_end" not in vars(processors[1])
    for each in spans:
        span = span_of(each)
        for processor in processors:
            processor.on_end(span)
            processor.on_end(span)  # the second time its template is known
    assert quick.taken == slow.taken
    assert quick.defined == slow.defined


def test_it_takes_the_quick_way(native):
    """A plain span whose template is known is encoded without any Python of ours."""
    recorder = native("tracekeep.instrumentation", "Recorder")
    rest, taken = [], []
    processor = Slow(Journal(quick=False))
    span = TRACERS[0].start_span("GET /", attributes={"a": 1, "b": "x", "c": 2.5, "d": True, "e": ["x", "y"]})
    span.end()
    processor.on_end(span)
    origins = processor._origins
    quick = recorder(lambda *frame: taken.append(frame) or True, origins, span.context.trace_state, rest.append)
    quick.on_end(span)
    assert len(taken) == 1
    assert not rest
    refusing = recorder(lambda *_: False, origins, span.context.trace_state, rest.append)
    refusing.on_end(span)
    assert rest == [span]


@pytest.mark.parametrize("thing", [None, 7, object(), "span", TRACERS[0], math])
def test_what_is_no_span_is_left_to_the_rest(native, thing):
    """Nothing crashes and nothing is journaled."""
    rest = []
    recorder = native("tracekeep.instrumentation", "Recorder")(lambda *_: True, {}, None, rest.append)
    recorder.on_end(thing)
    assert rest == [thing]


def test_it_leaks_nothing(native):
    """A reference kept of a part at each span would show in a thousand."""
    native("tracekeep.instrumentation", "Recorder")
    processor = RetainingSpanProcessor(Journal(quick=True))
    span = TRACERS[0].start_span("GET /", attributes={"key": "value"})
    span.end()
    parts = [span._attributes, span._status, span._context, span._resource, span._name, span._instrumentation_scope]
    processor.on_end(span)
    before = [sys.getrefcount(part) for part in parts]
    for _ in range(1000):
        processor.on_end(span)
    assert [count for part, count in zip(parts, before, strict=True) if abs(sys.getrefcount(part) - count) > 100] == []
