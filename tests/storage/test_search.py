"""Candidates, whole traces and counts, over pages, partitions and indexes."""

import random
from collections import Counter

import pytest
from tk_spans import CLIENT, ERROR, MS, SERVER, Recorder, everything, exception

from tracekeep.storage import QueryTimeout, search, writer
from tracekeep.storage.conditions import All, Anything, Either, OnAttribute, OnColumn, OnDetails, OnOperation
from tracekeep.storage.layout import partition_files
from tracekeep.storage.search import Steps
from tracekeep.storage.tracing import hex_id

SECOND = 1000 * MS
NOW = 1_790_000_000 * SECOND
EVER = (0, 1 << 62)
FAILED = OnColumn("status", "=", 2, "spans_error")
SLOW = OnColumn("duration", ">=", SECOND, "spans_slow")


@pytest.fixture
def filled(store, monkeypatch):
    """Give a store with 400 spans, looked through in small pages and chunks."""
    monkeypatch.setattr(search, "_PAGE", 7)
    monkeypatch.setattr(search, "_CHUNK", 64)
    rng = random.Random(5)
    shop, pay = Recorder(store, "shop"), Recorder(store, "pay")
    for number in range(400):
        recorder = pay if number % 10 == 0 else shop
        recorder(
            rng.choice(["GET /", "POST /", "query"]) if number % 50 else "rare",
            trace_id=(1 + number // 4).to_bytes(16, "big"),
            kind=rng.choice([SERVER, CLIENT]),
            start=NOW + rng.randrange(1000) * 10 * MS,
            duration=rng.choice([0, 1, MS, 30 * MS, SECOND, 2 * SECOND]),
            status=ERROR if number % 7 == 0 else 0,
            attributes={
                "n": number % 5,
                "http.request.method": rng.choice(["GET", "PUT"]),
                "tag": ["x", str(number % 3)],
            },
            **({"events": [exception()]} if number % 20 == 0 else {}),
        )
    assert store.flush(10.0)
    return store


def is_pay(operation):
    return operation.service == "pay"


def n_is(value):
    return OnAttribute("n", lambda found: found == value, (str(value),), whole=True)


CONDITIONS = {
    "anything": (Anything(), lambda _: True),
    "a service": (OnOperation(is_pay), lambda span: span.service == "pay"),
    "no service": (OnOperation(lambda operation: operation.service == "none"), lambda _: False),
    "a rare name": (OnOperation(lambda operation: operation.name == "rare"), lambda span: span.name == "rare"),
    "failed": (FAILED, lambda span: span.status == "error"),
    "slow": (SLOW, lambda span: span.duration_ns >= SECOND),
    "failed and slow": (All((FAILED, SLOW)), lambda span: span.status == "error" and span.duration_ns >= SECOND),
    "failed or slow": (Either((FAILED, SLOW)), lambda span: span.status == "error" or span.duration_ns >= SECOND),
    "failed twice": (
        Either((All((FAILED, n_is(1))), All((FAILED, n_is(2))))),
        lambda span: span.status == "error" and span.attributes["n"] in (1, 2),
    ),
    "nothing of either": (Either(()), lambda _: False),
    "an attribute": (n_is(3), lambda span: span.attributes["n"] == 3),
    "a shared attribute": (
        OnAttribute("http.request.method", lambda found: found == "PUT", ('"PUT"',), whole=True),
        lambda span: span.attributes["http.request.method"] == "PUT",
    ),
    "in a list": (OnAttribute("tag", lambda _: True, ('"2"',), whole=True), lambda span: "2" in span.attributes["tag"]),
    "has it": (OnAttribute("n", lambda _: True), lambda _: True),
    "has it not": (OnAttribute("none", lambda _: True), lambda _: False),
    "an event": (OnDetails('"ValueError"'), lambda span: bool(span.events)),
    "a service and failed": (
        All((OnOperation(is_pay), FAILED)), lambda span: span.service == "pay" and span.status == "error",
    ),
}  # fmt: skip
WINDOWS = [EVER, (NOW, NOW + 10 * SECOND), (NOW + SECOND, NOW + 2 * SECOND), (NOW + 5 * SECOND, 1 << 62), (0, NOW)]


@pytest.mark.parametrize("window", WINDOWS, ids=str)
@pytest.mark.parametrize("name", CONDITIONS)
def test_candidates(name, window, filled):
    """Every span for which the condition holds, once, over however many pages; few others."""
    condition, holds = CONDITIONS[name]
    reader = filled.tracing()
    found = [hex_id(span.span_id) for page in reader.candidates(condition, *window) for span in page]
    wanted = {span.span_id for span in everything(filled) if window[0] <= span.start_ns < window[1] and holds(span)}
    assert not reader.degraded
    assert len(set(found)) == len(found)
    assert wanted <= set(found)
    if name != "in a list":  # a text of it may stand elsewhere
        assert wanted == set(found)


@pytest.mark.parametrize(
    "steps", [Steps(NOW, SECOND), Steps(NOW + 1, 700 * MS, bucketed=True), Steps(NOW, 3, least=True)]
)
@pytest.mark.parametrize("name", CONDITIONS)
def test_tallies(name, steps, filled):
    """Are what counting the same spans gives; the one that is told has the least or longest duration."""
    condition, holds = CONDITIONS[name]
    if name == "in a list":
        return
    since, until = steps.first - steps.step + 1, steps.first + 5 * SECOND
    counts, totals, extremes, told = Counter(), Counter(), {}, {}
    best = min if steps.least else max
    for numbered, rows in filled.tracing().tallies(condition, since, until, steps):
        for operation, status, place, bucket, count, total, extreme, trace_id, span_id, _start in rows:
            key = (numbered.operations[operation].name, numbered.operations[operation].service, status, place, bucket)
            counts[key] += count
            totals[key] += total
            extremes[key] = best(extremes.get(key, extreme), extreme)
            told[trace_id.hex(), hex_id(span_id)] = extreme
    spans = [each for each in everything(filled) if since <= each.start_ns < until and holds(each)]
    expected, sums, ends = Counter(), Counter(), {}
    for span in spans:
        place = -(-(span.start_ns - steps.first) // steps.step)
        bucket = 0 if not steps.bucketed else (span.duration_ns - 1).bit_length() if span.duration_ns else -1
        key = (span.name, span.service, ["unset", "ok", "error"].index(span.status), place, bucket)
        expected[key] += 1
        sums[key] += span.duration_ns
        ends[key] = best(ends.get(key, span.duration_ns), span.duration_ns)
    assert (counts, totals, extremes) == (expected, sums, ends)
    durations = {(span.trace_id, span.span_id): span.duration_ns for span in spans}
    assert all(durations[ids] == extreme for ids, extreme in told.items())


def test_whole_traces(filled):
    """All spans of each, by start; an unknown one has none."""
    ids = [number.to_bytes(16, "big") for number in (1, 50, 100, 999)]
    found = filled.tracing().traces(ids)
    for trace_id, spans in found.items():
        expected = filled.trace(trace_id.hex()).items
        assert [(hex_id(span.span_id), span.start) for span in spans] == [
            (span.span_id, span.start_ns) for span in sorted(expected, key=lambda s: (s.start_ns, -s.duration_ns))
        ]
        for span, view in zip(spans, sorted(expected, key=lambda s: (s.start_ns, -s.duration_ns)), strict=True):
            assert {**span.shared, **span.own} == view.attributes
            assert (span.operation.name, span.operation.kind, span.status) == (view.name, view.kind, view.status)
    assert [len(spans) for spans in found.values()] == [4, 4, 4, 0]


def test_over_partitions(opened, tmp_path, monkeypatch):
    """A trace whose spans are in several files is whole; the newest file is looked at first."""
    monkeypatch.setattr(writer, "_UNCHECKPOINTED", 1)  # so that files have their size at once
    store = opened(partition_bytes=300_000)
    record = Recorder(store)
    trace = b"\x07" * 16
    for number in range(6):
        record("filler", attributes={"text": "x" * 1000, "n": number})
        record("part", trace_id=trace, span_id=number + 1, start=NOW + number, attributes={"n": number})
        record.many(300, "filler", attributes={"text": "y" * 1000})
        assert store.flush(10.0)
    assert len(partition_files(tmp_path / "history")) > 2
    (spans,) = store.tracing().traces([trace]).values()
    assert [span.start - NOW for span in spans] == list(range(6))
    condition = OnOperation(lambda operation: operation.name == "part")
    found = [span.start - NOW for page in store.tracing().candidates(condition, *EVER) for span in page]
    assert found == [5, 4, 3, 2, 1, 0]


def test_a_file_that_cannot_be_read(filled, tmp_path):
    """The others answer, and the answer is marked."""
    (good,) = partition_files(tmp_path / "history")
    (good.parent / "20200101T000000Z.db").write_bytes(b"no database" * 1000)
    reader = filled.tracing()
    assert sum(len(page) for page in reader.candidates(Anything(), *EVER)) == 400
    assert reader.degraded
    assert "20200101T000000Z.db" in reader.failures[0]


def test_the_deadline(filled):
    """Is that of the whole question."""
    reader = filled.tracing(until=0.0)
    for ask in (
        lambda: list(reader.candidates(Anything(), *EVER)),
        lambda: reader.traces([bytes(16)]),
        lambda: list(reader.tallies(Anything(), *EVER, Steps(NOW, SECOND))),
    ):
        with pytest.raises(QueryTimeout):
            ask()


def test_dictionaries_grow(store):
    """What is recorded after a question is known to the next one."""
    record = Recorder(store)
    for name in ("one", "two", "three"):
        record(name, attributes={"http.route": name})
        assert store.flush(5.0)
        condition = OnAttribute("http.route", lambda found, name=name: found == name, (f'"{name}"',), whole=True)
        (page,) = store.tracing().candidates(condition, *EVER)
        assert [span.operation.name for span in page] == [name]
