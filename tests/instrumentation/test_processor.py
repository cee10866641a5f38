import logging

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON
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
from tracekeep.storage import Store, StoreSettings
from tracekeep.storage.cleaning import MAX_VALUE
from tracekeep.storage.frames import MAX_PAYLOAD
from tracekeep.storage.intake import Dictionary, Intake


class Full:
    """A tail that takes nothing, so that everything comes by `append`."""

    def append(self, _type, _payload, _definition):
        return False


class Journal:
    """Stands in for a store and its journal, and keeps what is appended."""

    def __init__(self):
        self.journal = self
        self.tail = Full()
        self.appended, self.origins = [], {}
        self.truncated = self.unencodable = 0

    def define(self, payload):
        self.origins[len(self.origins) + 1] = payload
        return len(self.origins)

    def append(self, _type, payload, origin, important):
        self.appended.append((payload, origin, important))

    def count_truncated(self, count):
        self.truncated += count

    def count_unencodable(self):
        self.unencodable += 1

    def rows(self):
        """What the writer makes of it all, each an operation and a row without what only numbers it."""
        intake, dictionary = Intake(), Dictionary()
        dictionary.take_spans([payload for payload, *_ in self.appended], self.origins, intake)
        assert intake.undecodable == 0
        rows = [(*row[:-1], None if row[-1] == "{}" else row[-1]) for row in intake.spans]
        return intake.origins, intake.operations, intake.sets, rows, intake.errors


class Careful(RetainingSpanProcessor):
    """Takes the public way always."""

    def on_end(self, span):
        self._on_end_carefully(span)


@pytest.fixture
def journal():
    return Journal()


def tracer_of(journal, processor=RetainingSpanProcessor, **options):
    provider = TracerProvider(shutdown_on_exit=False, resource=Resource({"service.name": "shop"}), **options)
    provider.add_span_processor(processor(journal))
    return provider.get_tracer("tests", "1.0", "https://example.org/schema", {"scope": "attribute"})


class Unprintable:
    def __str__(self):
        raise RuntimeError("no text for you")

    __repr__ = __str__


class Text(str):
    __slots__ = ()


def nest(depth):
    value = "deep"
    for _ in range(depth):
        value = {"n": [value]}
    return value


VALUES = {
    "none": None,
    "empty": "",
    "bytes": b"\x00\xff" * 10,
    "bytearray": bytearray(b"x"),
    "large bytes": b"x" * (1 << 20),
    "nested": {"a": {"b": [1, {"c": (True, None, 1.5)}]}},
    "deep": nest(30),
    "mixed": [1, "a", None, b"x", [2, [3]]],
    "long list": list(range(100_000)),
    "wide map": {f"key{number}": number for number in range(10_000)},
    "2**63 - 1": (1 << 63) - 1,
    "-2**63": -(1 << 63),
    "2**63": 1 << 63,
    "2**70": 1 << 70,
    "-2**70": -(1 << 70),
    "2**100000": 1 << 100_000,
    "nan": float("nan"),
    "infinity": float("-inf"),
    "bool": True,
    "surrogate": "a\ud800b",
    "surrogates in a list": ["\udfff"],
    "surrogate key": {"\ud800": 1},
    "nul": "a\0b",
    "emoji": "😀" * 10_000,
    "32 KiB": "x" * MAX_VALUE,
    "32 KiB + 1": "x" * (MAX_VALUE + 1),
    "64 MiB": "x" * (64 << 20),
    "subclass": Text("x"),
    "object": object(),
    "complex": 1j,
    "set": {1, 2},
    "exception": ValueError("x"),
    "type": int,
    "function": nest,
    "range": range(10),
    "int keys": {1: "a", None: "b"},
}


def check_kept_or_counted(journal, spans=1):
    """What became of it: rows that the writer takes, or a count."""
    assert len(journal.appended) + journal.unencodable == spans
    assert all(0 < len(payload) <= MAX_PAYLOAD for payload, *_ in journal.appended)
    assert len(journal.rows()[3]) == len(journal.appended)


@pytest.mark.parametrize("way", [RetainingSpanProcessor, Careful], ids=["fast", "public"])
@pytest.mark.parametrize("name", VALUES)
def test_any_value_of_an_attribute(journal, way, name, caplog):
    """It is recorded, cut and counted where need be; nothing is raised, and the span isn't lost for it."""
    caplog.set_level(logging.CRITICAL)
    value = VALUES[name]
    with tracer_of(journal, way).start_as_current_span("s") as span:
        span.set_attribute("key", value)
        span.set_attribute("other", "kept")
    check_kept_or_counted(journal)
    assert '"other":"kept"' in journal.rows()[3][0][8]
    assert journal.unencodable == 0
    assert len(journal.appended[0][0]) < 300_000


@pytest.mark.parametrize("name", VALUES)
def test_any_value_in_events_links_and_resources(journal, name, caplog):
    """The same everywhere else that attributes can be."""
    caplog.set_level(logging.CRITICAL)
    value = VALUES[name]
    provider = TracerProvider(shutdown_on_exit=False, resource=Resource({"service.name": "shop", "odd": value}))
    provider.add_span_processor(RetainingSpanProcessor(journal))
    link = Link(SpanContext(1, 2, is_remote=True), {"odd": value})
    with provider.get_tracer("t", attributes={"odd": value}).start_as_current_span("s", links=[link]) as span:
        span.add_event("e", {"odd": value})
    check_kept_or_counted(journal)
    assert len(journal.rows()[0]) == 1
    assert journal.rows()[0][0][1] == "shop"


@pytest.mark.parametrize(
    "attributes", [{"odd": Unprintable()}, {"odd": [Unprintable()]}, {"odd": {"x": Unprintable()}}]
)
def test_values_whose_text_fails(journal, attributes):
    """A span made by other means than the SDK's tracer may carry anything: it is recorded with the type's name."""
    context = SpanContext(1, 2, is_remote=False, trace_flags=TraceFlags(1))
    span = ReadableSpan("s", context, attributes=attributes, start_time=1, end_time=2)
    RetainingSpanProcessor(journal).on_end(span)
    check_kept_or_counted(journal)
    assert "<Unprintable>" in journal.rows()[3][0][8]
    assert journal.truncated == 1


class Hostile(dict):
    def items(self):
        raise RuntimeError("no items for you")


def test_attributes_that_can_not_be_read(journal, caplog):
    """What nothing can be made of is counted, logged once in 20 s, and not raised."""
    context = SpanContext(1, 2, is_remote=False, trace_flags=TraceFlags(1))
    processor = RetainingSpanProcessor(journal)
    for _ in range(5):
        processor.on_end(ReadableSpan("s", context, attributes={"odd": Hostile(a=1)}, start_time=1, end_time=2))
    check_kept_or_counted(journal, 5)
    assert len([record for record in caplog.records if record.name == "tracekeep"]) == bool(journal.unencodable)


@pytest.mark.parametrize("way", [RetainingSpanProcessor, Careful], ids=["fast", "public"])
def test_a_hundred_thousand_attributes(journal, way):
    """As many are kept as a record may have; the others are counted."""
    limits = SpanLimits(max_attributes=200_000, max_span_attributes=200_000)
    with tracer_of(journal, way, span_limits=limits).start_as_current_span("s") as span:
        span.set_attributes({f"attribute number {number}": number for number in range(100_000)})
    check_kept_or_counted(journal)
    assert 1000 < journal.rows()[3][0][8].count(":") < 100_000
    assert journal.truncated > 0


def test_large_everything(journal):
    """Long names of spans, events and messages, many events and links: still one record of bounded size."""
    tracer = tracer_of(journal, span_limits=SpanLimits(max_events=5000, max_links=5000, max_event_attributes=100))
    links = [Link(SpanContext(1, number + 1, is_remote=True), {"a": "b" * 100}) for number in range(3000)]
    with tracer.start_as_current_span("😀" * 1_000_000, links=links) as span:
        for _ in range(3000):
            span.add_event("event" * 100_000, {"a": "x" * 10_000})
        span.set_status(StatusCode.ERROR, "message" * 1_000_000)
    check_kept_or_counted(journal)
    assert journal.unencodable == 0
    assert journal.truncated > 0


@pytest.mark.parametrize("name", [5, None, b"bytes", Text("text"), "\ud800", ""])
def test_any_name(journal, name):
    """A name of any kind is recorded as text."""
    tracer_of(journal).start_span(name).end()
    check_kept_or_counted(journal)


@pytest.mark.parametrize(
    "times", [(0, 0), (-5, 3), (10, 5), (1.5, 2.5), (1 << 63, 1 << 64), (1 << 80, 1 << 81), ("a", "b")]
)
def test_any_times(journal, times):
    """Clocks and callers err: the span is recorded or counted all the same."""
    tracer_of(journal).start_span("s", start_time=times[0]).end(times[1])
    assert len(journal.appended) + journal.unencodable == 1


# --- what is recorded -----------------------------------------------------------------------------------------------


def test_what_is_not_sampled_is_not_recorded(journal):
    """Neither by the sampler's choice nor for want of a recording span; what is sampled is."""
    tracer_of(journal, sampler=ALWAYS_OFF).start_span("no").end()
    NonRecordingSpan(SpanContext(1, 2, is_remote=False)).end()
    for flags in (0, 2, 254):
        context = SpanContext(1, 2, is_remote=False, trace_flags=TraceFlags(flags))
        span = ReadableSpan("no", context, start_time=1, end_time=2)
        RetainingSpanProcessor(journal).on_end(span)
        Careful(journal).on_end(span)
    assert (journal.appended, journal.unencodable) == ([], 0)
    tracer_of(journal, sampler=ALWAYS_ON).start_span("yes").end()
    assert len(journal.appended) == 1


def test_errors_are_important(journal):
    """Spans with an error status, or with events, are dropped last."""
    tracer = tracer_of(journal)
    tracer.start_span("plain").end()
    failed = tracer.start_span("failed")
    failed.set_status(StatusCode.ERROR)
    failed.end()
    eventful = tracer.start_span("eventful")
    eventful.record_exception(ValueError("x"))
    eventful.end()
    assert [important for *_, important in journal.appended] == [False, True, True]


def test_origins_are_defined_once(journal):
    """One for each resource and scope, however many spans and tracers of the same name there are."""
    for _ in range(3):
        tracer_of(journal).start_span("a").end()
    provider = TracerProvider(shutdown_on_exit=False, resource=Resource({"service.name": "other"}))
    provider.add_span_processor(RetainingSpanProcessor(journal))
    provider.get_tracer("one").start_span("b").end()
    provider.get_tracer("two").start_span("c").end()
    provider.get_tracer("one").start_span("d").end()
    origins, operations, *_ = journal.rows()
    assert [origin[1] for origin in origins] == ["shop", "other", "other"]
    assert [operation[2] for operation in operations] == ["a", "b", "c", "d"]


def test_each_processor_of_a_provider_defines_for_itself():
    """Two stores of one provider both know who recorded."""
    one, two = Journal(), Journal()
    provider = TracerProvider(shutdown_on_exit=False, resource=Resource({"service.name": "shop"}))
    for journal in (one, two):
        provider.add_span_processor(RetainingSpanProcessor(journal))
    provider.get_tracer("t").start_span("a").end()
    assert one.rows() == two.rows()


# --- both ways ------------------------------------------------------------------------------------------------------

texts = st.text(max_size=20)
scalars = (
    texts | st.booleans() | st.integers(-(1 << 63), (1 << 63) - 1) | st.floats() | st.none() | st.binary(max_size=9)
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(min_size=1, max_size=5), inner, max_size=3),
    max_leaves=8,
)
attribute_maps = st.dictionaries(st.text(min_size=1, max_size=12), values, max_size=6)
parents = st.none() | st.builds(
    lambda trace_id, span_id, remote: SpanContext(trace_id, span_id, is_remote=remote, trace_flags=TraceFlags(1)),
    st.integers(1, (1 << 128) - 1),
    st.integers(1, (1 << 64) - 1),
    st.booleans(),
)
spans = st.fixed_dictionaries(
    {
        "name": texts,
        "kind": st.sampled_from(SpanKind),
        "attributes": attribute_maps,
        "parent": parents,
        "status": st.sampled_from(StatusCode),
        "description": st.none() | texts,
        "start": st.integers(0, (1 << 63) - 1),
        "duration": st.integers(0, 1 << 40),
        "events": st.lists(st.tuples(texts, attribute_maps), max_size=2),
        "state": st.booleans(),
    }
)


def end_span(tracer, given, identity):
    parent = given["parent"]
    context = None
    if parent is not None:
        state = TraceState([("a", "1")]) if given["state"] else parent.trace_state
        whole = SpanContext(parent.trace_id, parent.span_id, parent.is_remote, parent.trace_flags, state)
        context = set_span_in_context(NonRecordingSpan(whole))
    span = tracer.start_span(given["name"], context, given["kind"], given["attributes"], start_time=given["start"])
    for name, attributes in given["events"]:
        span.add_event(name, attributes, timestamp=given["start"])
    description = given["description"] if given["status"] is StatusCode.ERROR else None
    span.set_status(Status(given["status"], description))
    made = span.get_span_context()
    span._context = SpanContext(made.trace_id, identity, False, made.trace_flags, made.trace_state)
    span.end(given["start"] + given["duration"])


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(made=st.lists(spans, min_size=1, max_size=3))
def test_both_ways_record_the_same(made):
    """Whatever a span holds, the fast way and the public one make the same rows of it."""
    fast, public = Journal(), Journal()
    provider = TracerProvider(shutdown_on_exit=False, resource=Resource({"service.name": "shop"}))
    provider.add_span_processor(RetainingSpanProcessor(fast))
    provider.add_span_processor(Careful(public))
    tracer = provider.get_tracer("tests", "1.0", attributes={"a": 1})
    for number, each in enumerate(made, 1):
        end_span(tracer, each, number)
    assert fast.rows() == public.rows()
    assert [each[2] for each in fast.appended] == [each[2] for each in public.appended]
    assert fast.truncated == public.truncated


@pytest.mark.parametrize("length", [MAX_VALUE // 2, MAX_VALUE - 1, MAX_VALUE, MAX_VALUE + 1])
@pytest.mark.parametrize("kind", ["text", "wide text", "bytes", "list", "map", "depth"])
def test_both_ways_cut_the_same(kind, length):
    """Values around the limits too."""
    value = {
        "text": "x" * length,
        "wide text": "ü" * length,
        "bytes": b"x" * length,
        "list": list(range(length // 30)),
        "map": {str(number): 1 for number in range(length // 30)},
        "depth": nest(length // 3000),
    }[kind]
    fast, public = Journal(), Journal()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(RetainingSpanProcessor(fast))
    provider.add_span_processor(Careful(public))
    provider.get_tracer("t").start_span("s", attributes={"key": value}).end()
    assert fast.rows()[3] == public.rows()[3]
    assert fast.truncated == public.truncated


def test_another_sdk_takes_the_public_way(journal):
    """Where the SDK's own fields aren't as expected, what its public interface says is recorded."""

    class Strange(ReadableSpan):
        __slots__ = ()

        @property
        def _attributes(self):
            raise AttributeError("moved in the next release")

        @_attributes.setter
        def _attributes(self, _):
            pass

        @property
        def attributes(self):
            return {"a": 1}

        @property
        def dropped_attributes(self):
            return 0

    context = SpanContext(1, 2, is_remote=False, trace_flags=TraceFlags(1))
    RetainingSpanProcessor(journal).on_end(Strange("s", context, start_time=1, end_time=2))
    assert journal.rows()[3][0][8] == '{"a":1}'


# --- with a store ---------------------------------------------------------------------------------------------------


def test_flush_and_shutdown(tmp_path):
    """`force_flush` waits until all is stored; `shutdown` leaves the store usable."""
    store = Store(tmp_path, StoreSettings()).start()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(RetainingSpanProcessor(store))
    tracer = provider.get_tracer("t")
    tracer.start_span("one").end()
    assert provider.force_flush(5000)
    assert [each.name for each in store.spans().items] == ["one"]
    provider.shutdown()
    tracer.start_span("after shutdown").end()
    assert store.flush(5)
    store.close()
