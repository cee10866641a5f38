import base64
import random
import threading
import time

import pytest
from tk_spans import CLIENT, ERROR, INTERNAL, OK, SERVER, Recorder, everything, exception
from tk_wait import eventually

from tracekeep.storage import InvalidCursor, QueryTimeout
from tracekeep.storage.partitions import History, partition_files

KINDS = {INTERNAL: "internal", SERVER: "server", CLIENT: "client", 4: "producer", 5: "consumer"}
STATUSES = {0: "unset", OK: "ok", ERROR: "error"}
BASE = 1_700_000_000_000_000_000
ATTRIBUTES = (
    {},
    {"http.route": "/a", "http.response.status_code": 200},
    {"http.route": "/b", "http.response.status_code": 404, "own": "x"},
    {"own": True, "count": 3},
    {"own": "true", "count": 3.5},
    {"own": False, "none": None, "list": ["a", 1]},
    {"ratio": 0.1, "big": 1 << 62, "own": ""},
    {"dotted.name.x": "1", "with space": "ü", "br[0]": "z"},
)


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """A store of several partitions, and what was put into it, in order."""
    from tracekeep.storage import Store, StoreSettings

    chance, made = random.Random(7), []
    store = Store(tmp_path_factory.mktemp("filled"), StoreSettings()).start()
    recorders = {service: Recorder(store, service) for service in ("shop", "stock")}
    with pytest.MonkeyPatch.context() as patch:
        for batch in range(4):
            for _ in range(150):
                service, name = chance.choice(("shop", "stock")), chance.choice(("GET /a", "GET /b", "task"))
                details = {
                    "kind": chance.choice(list(KINDS)),
                    "status": chance.choice(list(STATUSES)),
                    "start": BASE + chance.randrange(1000),
                    "duration": chance.choice((0, 5, 10, 1_000_000_000, 2_000_000_000)),
                    "trace_id": chance.randrange(1, 60).to_bytes(16, "big"),
                    "attributes": chance.choice(ATTRIBUTES),
                }
                recorders[service](name, **details)
                made.append({"service": service, "name": name} | details)
            patch.setattr(History, "is_full", lambda *_, batch=batch: batch < 3)
            assert store.flush(5)
            eventually(lambda batch=batch: len(partition_files(store.data_dir / "history")) == min(batch + 2, 4), 5)
    yield store, made
    store.close()


def facts(view):
    return (view.service, view.name, view.kind, view.status, view.start_ns, view.duration_ns, view.trace_id)


def expected(span):
    names = (span["service"], span["name"], KINDS[span["kind"]], STATUSES[span["status"]])
    return (*names, span["start"], span["duration"], span["trace_id"].hex())


def text_of(value):
    return str(value).lower() if isinstance(value, bool) else str(value)


def matches(span, filters):
    checks = {
        "service": lambda wanted: span["service"] == wanted,
        "name": lambda wanted: span["name"] == wanted,
        "kind": lambda wanted: KINDS[span["kind"]] == wanted,
        "status": lambda wanted: STATUSES[span["status"]] == wanted,
        "min_duration_ns": lambda wanted: span["duration"] >= wanted,
        "max_duration_ns": lambda wanted: span["duration"] <= wanted,
        "since_ns": lambda wanted: span["start"] >= wanted,
        "until_ns": lambda wanted: span["start"] < wanted,
        "trace_id": lambda wanted: span["trace_id"].hex() == wanted,
        "attributes": lambda wanted: all(
            span["attributes"].get(key) is not None and text_of(span["attributes"][key]) == value
            for key, value in wanted.items()
        ),
    }
    return all(checks[name](wanted) for name, wanted in filters.items())


FILTERS = [
    {},
    {"service": "shop"},
    {"service": "nobody"},
    {"name": "GET /a"},
    {"service": "stock", "name": "task", "kind": "client", "status": "error"},
    *({"kind": kind} for kind in KINDS.values()),
    *({"status": status} for status in STATUSES.values()),
    {"min_duration_ns": 10},
    {"max_duration_ns": 10},
    {"min_duration_ns": 5, "max_duration_ns": 10},
    {"min_duration_ns": 1_000_000_000, "status": "error"},
    {"since_ns": BASE + 500},
    {"until_ns": BASE + 500},
    {"since_ns": BASE + 250, "until_ns": BASE + 260},
    {"trace_id": (17).to_bytes(16, "big").hex()},
    {"trace_id": (17).to_bytes(16, "big").hex(), "service": "shop"},
    {"trace_id": "f" * 32},
    {"attributes": {"http.route": "/a"}},
    {"attributes": {"http.route": "/b", "own": "x"}},
    {"attributes": {"http.response.status_code": "404"}},
    {"attributes": {"own": "true"}},
    {"attributes": {"own": "false"}},
    {"attributes": {"own": ""}},
    {"attributes": {"count": "3"}},
    {"attributes": {"count": "3.5"}},
    {"attributes": {"ratio": "0.1"}},
    {"attributes": {"big": str(1 << 62)}},
    {"attributes": {"none": "None"}},
    {"attributes": {"none": "null"}},
    {"attributes": {"dotted.name.x": "1"}},
    {"attributes": {"with space": "ü"}},
    {"attributes": {"br[0]": "z"}},
    {"attributes": {"dotted": "1"}},
    {"attributes": {"": ""}},
    {"attributes": {"own": "x' OR 1=1 --"}},
]


@pytest.mark.parametrize("filters", FILTERS, ids=str)
def test_filters(filled, filters):
    """Each finds what a naive look at the same spans finds, in the reverse order of arrival."""
    store, made = filled
    found = [facts(view) for view in everything(store, **filters)]
    assert found == [expected(span) for span in reversed(made) if matches(span, filters)]


def test_random_filters(filled):
    """So do all combinations."""
    store, made = filled
    chance = random.Random(11)
    parts = [each for each in FILTERS if each and "attributes" not in each]
    for _ in range(60):
        filters = {}
        for each in chance.sample(parts, 3):
            filters |= each
        found = [facts(view) for view in everything(store, **filters)]
        assert found == [expected(span) for span in reversed(made) if matches(span, filters)], filters


ODD_KEYS = ['a"b', "a\\b", "a'b", "$", "a.b", "", "é", "a[0]", "\n", "😀", '"', "\\", '\\"', "#-1", "%", "a\tb"]


def test_attributes_with_odd_names(store):
    """Any name of an attribute can be asked for, and no other one is found by it."""
    record = Recorder(store)
    for key in ODD_KEYS:
        record(f"<{key}>", attributes={key: "value"})
    assert store.flush(5)
    for key in ODD_KEYS:
        page = store.spans(attributes={key: "value"})
        assert ([each.name for each in page.items], page.degraded) == ([f"<{key}>"], False), repr(key)
        assert store.spans(attributes={key: "other"}).items == []


@pytest.mark.parametrize("limit", [1, 7, 599, 600, 601])
def test_pages_add_up(filled, limit):
    """Pages of any size give everything once, in order; only the last has no cursor."""
    store, made = filled
    found, cursor = [], None
    while True:
        page = store.spans(limit=limit, cursor=cursor)
        found += page.items
        cursor = page.cursor
        if cursor is None:
            break
        assert len(page.items) == limit
    assert [facts(view) for view in found] == [expected(span) for span in reversed(made)]


def test_a_cursor_holds_with_filters(filled):
    """A page of a filtered query goes on where the one before ended."""
    store, made = filled
    found, cursor = [], None
    while cursor or not found:
        page = store.spans(limit=3, cursor=cursor, service="shop", status="error")
        found += page.items
        cursor = page.cursor
    wanted = [span for span in reversed(made) if span["service"] == "shop" and span["status"] == ERROR]
    assert [facts(view) for view in found] == [expected(span) for span in wanted]


def test_pages_while_data_arrives(opened, monkeypatch):
    """Of what was there at the first page nothing is skipped or repeated, while spans arrive and partitions roll."""
    store = opened()
    record = Recorder(store)
    monkeypatch.setattr(History, "is_full", lambda *_: True)
    for _ in range(3):
        record.many(40, "there")
        assert store.flush(5)
    there = {each.span_id for each in everything(store)}
    stop = threading.Event()

    def keep_recording():
        while not stop.wait(0.001):
            record("new")

    recorder = threading.Thread(target=keep_recording)
    recorder.start()
    try:
        found, cursor = [], None
        while cursor or not found:
            page = store.spans(limit=5, cursor=cursor)
            assert not page.degraded, store._state().degraded
            found += [each.span_id for each in page.items]
            cursor = page.cursor
    finally:
        stop.set()
        recorder.join()
    assert len(found) == len(set(found))
    assert there <= set(found)


def test_pages_while_partitions_roll(opened, monkeypatch):
    """A query in the moment in which a new partition is made is answered whole."""
    store = opened()
    record = Recorder(store)
    record.many(10)
    assert store.flush(5)
    monkeypatch.setattr(History, "is_full", lambda *_: True)
    stop, answers = threading.Event(), []

    def keep_asking():
        while not stop.is_set():
            page = store.spans(limit=5)
            answers.append((len(page.items), page.degraded))

    asker = threading.Thread(target=keep_asking)
    asker.start()
    try:
        for _ in range(30):
            record("x")
            assert store.flush(5)
    finally:
        stop.set()
        asker.join()
    assert set(answers) == {(5, False)}


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "x",
        "=",
        "AAAA",
        "🤔",
        "20261123T000000Z:5",
        base64.urlsafe_b64encode(b"20261123T000000Z:0").decode().rstrip("="),
        base64.urlsafe_b64encode(b"20261123T000000Z:-1").decode().rstrip("="),
        base64.urlsafe_b64encode(b"20261123T000000Z:99999999999999999999").decode().rstrip("="),
        base64.urlsafe_b64encode(b"20261123T000000Z: 5").decode().rstrip("="),
        base64.urlsafe_b64encode(b"20261123T000000Z:15").decode() + "=",
        base64.urlsafe_b64encode(b":5").decode().rstrip("="),
        base64.urlsafe_b64encode(b"\xff\xfe:5").decode().rstrip("="),
        "A" * 10_000,
    ],
    ids=lambda cursor: cursor[:30] or "empty",
)
def test_malformed_cursors(filled, cursor):
    """What this store didn't give out is refused, never an answer to something else."""
    store, _ = filled
    with pytest.raises(InvalidCursor):
        store.spans(cursor=cursor)
    with pytest.raises(InvalidCursor):
        store.errors(cursor=cursor)


def test_a_trace(filled):
    """All its spans over all partitions, by start; none for an unknown one."""
    store, made = filled
    trace_id = (23).to_bytes(16, "big")
    wanted = sorted((span["start"], -span["duration"]) for span in made if span["trace_id"] == trace_id)
    assert [(view.start_ns, -view.duration_ns) for view in store.trace(trace_id.hex()).items] == wanted
    assert store.trace("f" * 32).items == []


def test_slow_requests(filled):
    """Server and consumer spans of at least a duration that began in the window, newest arrival first."""
    store, made = filled
    for threshold in (5, 1_000_000_000, 1_500_000_000):
        found = store.slow_requests(since_ns=BASE, until_ns=BASE + 500, threshold_ns=threshold, limit=20)
        wanted = [
            span
            for span in reversed(made)
            if span["kind"] in {SERVER, 5} and span["duration"] >= threshold and span["start"] < BASE + 500
        ]
        assert [facts(view) for view in found.items] == [expected(span) for span in wanted[:20]]


def test_a_deadline(opened):
    """A query that takes too long is stopped there, and says what to narrow; a short one isn't."""
    store = opened(query_timeout=0.02)
    Recorder(store).many(30_000, attributes={"own": "x"})
    eventually(lambda: store.flush(5), 20)
    before = time.monotonic()
    with pytest.raises(QueryTimeout, match="deadline"):
        store.spans(attributes={f'key"{number}': "none" for number in range(20)})
    assert time.monotonic() - before < 2.0
    assert len(store.spans(limit=10).items) == 10


def test_what_a_span_carries(store):
    """All its parts come back as they were recorded."""
    from tracekeep.storage.records import REMOTE_PARENT, Link

    Recorder(store)(
        "everything",
        trace_id=bytes.fromhex("ab" * 16),
        span_id=(1 << 64) - 1,
        parent_id=1 << 63,
        kind=SERVER,
        start=BASE,
        duration=7,
        status=ERROR,
        message="it broke",
        attributes={
            "http.route": "/a",
            "text": "ü",
            "list": [1, "a", None],
            "nested": {"a": {"b": [True]}},
            "bytes": b"\x00\xff",
            "nan": float("nan"),
            "inf": float("-inf"),
            "none": None,
            "int": -(1 << 63),
        },
        flags=1 | REMOTE_PARENT,
        trace_state="a=1",
        events=[exception("ValueError", "no", time_ns=BASE + 1)],
        links=[Link(bytes(15) + b"\x01", 2, {"why": "batch"})],
        dropped_attributes=1,
        dropped_events=2,
        dropped_links=3,
        truncated=4,
    )
    assert store.flush(5)
    (view,) = everything(store)
    assert (view.trace_id, view.span_id, view.parent_span_id) == ("ab" * 16, "f" * 16, "8000000000000000")
    assert (view.service, view.name, view.kind, view.status) == ("shop", "everything", "server", "error")
    assert (view.start_ns, view.duration_ns, view.status_message) == (BASE, 7, "it broke")
    assert view.attributes == {
        "http.route": "/a",
        "text": "ü",
        "list": [1, "a", None],
        "nested": {"a": {"b": [True]}},
        "bytes": {"$bytes": "00ff"},
        "nan": {"$float": "NaN"},
        "inf": {"$float": "-Infinity"},
        "none": None,
        "int": -(1 << 63),
    }
    assert view.resource == {"service.name": "shop"}
    assert view.scope["name"] == "tests"
    (event,) = view.events
    assert (event["time_ns"], event["name"]) == (BASE + 1, "exception")
    assert event["attributes"]["exception.message"] == "no"
    assert view.links == [{"trace_id": "0" * 31 + "1", "span_id": "0" * 15 + "2", "attributes": {"why": "batch"}}]
    assert (view.trace_state, view.parent_is_remote) == ("a=1", True)
    assert view.dropped == {"attributes": 1, "events": 2, "links": 3, "truncated": 4}


def test_a_pending_span_looks_the_same(opened):
    """What the journal answers equals what the database answers later."""
    from tracekeep.storage.records import Link

    store = opened(writer="none")
    details = {
        "parent_id": 5,
        "message": "m",
        "status": ERROR,
        "attributes": {"http.route": "/a", "bytes": b"x", "own": 1.5},
        "events": [exception()],
        "links": [Link(bytes(15) + b"\x01", 2, {"why": "batch"})],
        "trace_state": "a=1",
    }
    Recorder(store)("x", **details)
    page = store.spans()
    assert page.degraded
    opened()
    eventually(lambda: not store.spans().degraded and store.flush(0.1), 5)
    assert page.items == store.spans().items


def test_wild_times(store):
    """Spans with impossible clocks are stored with possible ones."""
    record = Recorder(store)
    record("negative", start=-5, duration=3)
    record("backwards", start=BASE, duration=-10)
    record("far", start=(1 << 64) - 1, duration=0)
    assert store.flush(5)
    times = {each.name: (each.start_ns, each.duration_ns) for each in everything(store)}
    assert times == {"negative": (0, 0), "backwards": (BASE, 0), "far": ((1 << 63) - 1, 0)}
