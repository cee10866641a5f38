import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracekeep.storage import intake
from tracekeep.storage.intake import Dictionary, Intake
from tracekeep.storage.records import REMOTE_PARENT, CompactSpan, Event, Extra, Origin, SpanRecord, Template

ORIGIN = Origin({"service.name": "shop"}, scope_name="tests")
KEYS = ["http.request.method", "http.route", "url.path", 'odd "key"\n', "http.response.status_code", "naïve", "db.name"]
encode = msgspec.msgpack.encode

TEXTS = st.one_of(
    st.text(max_size=12), st.sampled_from(['"', "\\", "\x00\x1f\x7f\b\t\n\f\r", "é日本\U0001f600", "/", "x" * 300])
)
WHOLE = st.one_of(
    st.integers(-(1 << 63), (1 << 64) - 1),
    st.sampled_from([0, 127, 128, 255, 256, 65_535, 65_536, -1, -32, -33, -128, -129, -32_768, -(1 << 63), 1 << 63]),
)
VALUES = st.one_of(
    TEXTS,
    WHOLE,
    st.booleans(),
    st.none(),
    st.floats(),
    st.lists(TEXTS, max_size=2),
    st.binary(max_size=4),
)
TIMES = st.one_of(
    st.integers(1_700_000_000 * 10**9, 1_700_000_100 * 10**9), st.sampled_from([0, -1, 1 << 63, 1 << 64 - 1])
)
SPANS = st.fixed_dictionaries(
    {
        "template": st.integers(1, 4),
        "ids": st.tuples(
            st.sampled_from([bytes(16), b"\xff" * 16, b"0123456789abcdef"]),
            st.integers(0, (1 << 64) - 1),
            st.one_of(st.just(0), st.integers(0, (1 << 64) - 1)),
        ),
        "flags": st.sampled_from([1, 0x101, 0x100 | REMOTE_PARENT | 1]),
        "start": TIMES,
        "end": TIMES,
        "status": st.integers(0, 3),
        "message": st.one_of(st.none(), st.none(), TEXTS),
        "values": st.lists(VALUES, min_size=len(KEYS), max_size=len(KEYS)),
        "repeat": st.integers(1, 4),
        "failing": st.booleans(),
    }
)


def definitions():
    templates = [
        Template(ORIGIN, "GET /", 2, KEYS),
        Template(ORIGIN, "SELECT", 3, KEYS[:3]),
        Template(ORIGIN, "x", 1, []),
    ]
    return {number: encode(template) for number, template in enumerate(templates, 1)} | {9: encode(ORIGIN)}


def payloads_of(spans):
    for span in spans:
        trace_id, span_id, parent_id = span["ids"]
        count = {1: 7, 2: 3, 3: 0, 4: 2}[span["template"]]
        times = (span["flags"], span["template"], span["start"], span["end"], span["status"], span["message"])
        if span["failing"]:
            extra = Extra(events=[Event(1, "exception", {"exception.type": "E", "exception.message": "m"})])
            failed = SpanRecord(trace_id, 5, 6, 1, 9, "inner", 1, 1, 2, 2, None, {}, extra)
            yield encode(failed)
        for _ in range(span["repeat"]):
            yield encode(CompactSpan(trace_id, span_id, parent_id, *times, span["values"][:count]))


def taken(payloads, quick):
    batch, dictionary = Intake(), Dictionary()
    before, intake._take_plain = intake._take_plain, quick
    try:
        dictionary.take_spans(payloads, definitions(), batch)
        dictionary.take_spans(payloads, definitions(), batch)
    finally:
        intake._take_plain = before
    folds = [
        (shape.operation, shape.attribute_set, shape.status, minute, rows)
        for (shape, minute), rows in batch.folds.items()
    ]
    return {name: getattr(batch, name) for name in batch.__slots__} | {"folds": folds}


@settings(deadline=None, max_examples=300)
@given(spans=st.lists(SPANS, max_size=6), junk=st.binary(max_size=30), cut=st.integers(0, 40))
def test_both_ways_make_the_same_rows(native, spans, junk, cut):
    """Any payloads, whole, cut or made up: the same rows, folds, errors and counts, in the same order."""
    payloads = list(payloads_of(spans))
    payloads += [junk, b"\x9a" + junk, *(payload[: len(payload) - cut] for payload in payloads[:2])]
    quick = taken(payloads, native("tracekeep.storage", "take_plain"))
    assert quick == taken(payloads, None)


def test_plain_spans_take_the_quick_way(native):
    """Of a thousand alike only the first of each shape and template is Python's."""
    left = []
    take_plain = native("tracekeep.storage", "take_plain")

    def counting(payloads, at, *rest):
        at, key = take_plain(payloads, at, *rest)
        left.append(at)
        return at, key

    values = [["GET", "/", f"/{number}", "x", 200 + number % 2, True, "shop"] for number in range(1000)]
    start = 1_700_000_000 * 10**9
    payloads = [
        encode(CompactSpan(bytes(16), n + 1, 0, 0x101, 1, start, start + n, 0, None, v)) for n, v in enumerate(values)
    ]
    assert len(taken(payloads, counting)["spans"]) == 2000
    assert len([at for at in left if at < 1000]) <= 4


@pytest.mark.parametrize("arguments", [(), ([],), (None, 0, {}, [], {}, {}), ([], "0", {}, [], {}, {})])
def test_wrong_arguments_are_refused(native, arguments):
    """A mistake in Python shows as an exception."""
    with pytest.raises(TypeError):
        native("tracekeep.storage", "take_plain")(*arguments)
