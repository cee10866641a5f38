"""A small, rich world of traces for TraceQL: each span has a label such as `a3`, by which tests name it."""

import msgspec

from tracekeep.exporter.traceql import search
from tracekeep.storage.records import Event, Extra, FrameType, Link, Origin, SpanKind, SpanRecord, StatusCode

MS = 1_000_000
BASE = 1_790_000_000_000_000_000
"""When trace `a` begins; the others follow, a second apart."""


def trace_id(letter):
    return bytes([ord(letter)]) * 16


def span_id(label):
    return (ord(label[0]) << 16) + int(label[1:])


def labels(found):
    """`a1 b2` of (trace id, span ids) pairs."""
    names = [f"{chr(int(trace[:2], 16))}{int(span, 16) & 0xFFFF}" for trace, spans in found for span in spans]
    return " ".join(sorted(names, key=lambda name: (name[0], int(name[1:]))))


ORIGINS = {
    "shop": Origin(
        {"service.name": "shop", "service.version": "1.2.3", "cluster": "eu", "replicas": 3, "canary": False},
        scope_name="http",
        scope_version="2.0",
        scope_attributes={"lib": "asgi"},
    ),
    "pay": Origin({"service.name": "pay", "cluster": "us", "zones": ["a", "b"], "region": "north"}, scope_name="grpc"),
    "stock": Origin({"service.name": "stock", "cluster": "eu", "load": 0.75}),
    "mail": Origin({"cluster": "eu"}, scope_name="smtp", scope_version="0.1"),
}


def world():
    """(label, service, name, parent, start in ms, duration in ms, further fields) of each span."""
    yield from _shopping()
    yield from _odd_values()
    yield from _odd_trees()
    yield from _events_and_links()
    yield from _deep()


def _shopping():
    server, client = {"kind": "server"}, {"kind": "client"}
    method, failed = {"http.request.method": "GET"}, {"status": "error", "message": "no stock"}
    yield "a1", "shop", "GET /cart", None, 0, 100, server | {"attributes": method | {"user": "ada", "n": 1}}
    yield "a2", "shop", "check", "a1", 5, 30, {"attributes": {"n": 2, "user": "ada"}}
    yield "a3", "shop", "call stock", "a1", 40, 50, client | {"attributes": {"peer.service": "stock", "n": 3}}
    yield "a4", "stock", "GET /items", "a3", 42, 45, server | failed | {"attributes": method | {"n": 4, "ratio": 0.5}}
    yield "a5", "stock", "SELECT", "a4", 45, 20, client | {"attributes": {"db.system": "sqlite", "rows": 10}}
    yield "a6", "stock", "SELECT", "a4", 66, 15, client | {"attributes": {"db.system": "sqlite", "rows": 0}}
    yield (
        "b1",
        "shop",
        "POST /order",
        None,
        1000,
        1500,
        server | {"attributes": {"http.request.method": "POST", "n": 1}},
    )
    yield "b2", "shop", "call pay", "b1", 1010, 1400, client | {"attributes": {"n": 2.0}}
    yield "b3", "pay", "POST /pay", "b2", 1020, 1300, server | {"status": "ok", "attributes": {"user": "bob", "n": "2"}}
    yield "b4", "pay", "publish", "b3", 1100, 20, {"kind": "producer", "attributes": {"messaging.system": "kafka"}}
    yield "b5", "mail", "consume", "b4", 1200, 30, {"kind": "consumer", "attributes": {"messaging.system": "kafka"}}
    yield "b6", "mail", "send", "b5", 1205, 20, client | failed | {"attributes": {"cluster": "mine"}}
    yield "c1", "pay", "GET /status", None, 2000, 2, server | {"attributes": method | {"user": "cleo"}}


def _odd_values():
    yield "d1", "shop", "values", None, 3000, 10, {"attributes": {
        "text": 'say "hi"\\ \n ünïcode', "empty": "", "flag": True, "off": False, "negative": -5,
        "big": 9007199254740993, "huge": 2**62, "float": 1.5, "whole": 2.0, "tiny": 1e-9, "nan": float("nan"),
        "inf": float("inf"),
        "my key": "spaced", "a/b:c-d": "symbols", 'quo"ted': "q", "none": None, "blob": b"\x00\xff", "map": {"k": 1},
        "tags": ["x", "y"], "numbers": [1, 2, 3], "mixed": [1, "x", True], "nothing": [], "floats": [0.5, 2],
        "flags": [True, False], "duration_text": "100ms",
    }}  # fmt: skip
    yield "d2", "shop", "values", "d1", 3001, 0, {"attributes": {"flag": "true", "negative": "-5", "big": 1, "n": 0}}
    yield "d3", "shop", "", "d1", 3002, 8, {"kind": "unspecified", "attributes": {"n": -1, "tags": "x", "flag": False}}
    yield "d4", "stock", 'name with "quotes"', "d1", 3003, 1, {"attributes": {"n": 10**15, "http.route": "/a/{id}"}}


def _odd_trees():
    yield "e2", "shop", "orphan", "e1", 4000, 20, {"attributes": {"n": 7}}
    yield "e3", "shop", "orphan child", "e2", 4005, 5, {}
    yield "e4", "pay", "orphan sibling", "e1", 4002, 5, {}
    yield "f1", "shop", "root one", None, 5000, 10, {}
    yield "f2", "pay", "root two", None, 5001, 10, {}
    yield "f3", "pay", "child", "f2", 5002, 3, {}
    yield "f4", "pay", "child", "f1", 5003, 3, {"status": "ok"}
    yield "g1", "shop", "ring", "g2", 6000, 5, {}
    yield "g2", "shop", "ring", "g1", 6001, 5, {}
    yield "g3", "shop", "under the ring", "g1", 6002, 1, {}
    yield "g4", "shop", "its own parent", "g4", 6003, 1, {}


def _events_and_links():
    error = Event(BASE + 7003 * MS, "exception", {"exception.type": "KeyError", "exception.message": "no such item"})
    other = Event(BASE + 7005 * MS, "exception", {"exception.type": "ValueError", "attempt": 2})
    note = Event(BASE + 7001 * MS, "cache miss", {"attempt": 1, "user": "from event"})
    link = Link(trace_id("a"), span_id("a1"), {"reason": "follows", "weight": 3})
    last = Link(trace_id("b"), span_id("b1"), {"reason": "batch"})
    yield (
        "h1",
        "shop",
        "GET /cart",
        None,
        7000,
        40,
        {"kind": "server", "status": "error", "events": [note, error, other]},
    )
    yield "h2", "shop", "batch", "h1", 7001, 10, {"links": [link, last], "attributes": {"user": "own"}}
    yield "h3", "pay", "noted", "h1", 7001, 5, {"events": [note]}


def _deep():
    yield "i1", "shop", "level 1", None, 8000, 200, {"attributes": {"depth": 1}}
    for depth in range(2, 31):
        service = ("shop", "pay", "stock")[depth % 3]
        yield f"i{depth}", service, f"level {depth}", f"i{depth - 1}", 8000 + depth, 200 - depth, {
            "attributes": {"depth": depth, "even": depth % 2 == 0}
        }  # fmt: skip


def record(store, spans, *, base=BASE):
    """Journal spans as `world` describes them, and wait until they are stored."""
    journal = store.journal
    numbers = {}
    for label, service, name, parent, start, duration, more in spans:
        if service not in numbers:
            numbers[service] = journal.define(msgspec.msgpack.encode(ORIGINS[service]))
        extra = {key: more[key] for key in ("events", "links") if key in more}
        begun = base + round(start * MS)
        span = SpanRecord(
            trace_id=trace_id(label[0]) if "trace_id" not in more else more["trace_id"],
            span_id=span_id(label),
            parent_id=span_id(parent) if parent else 0,
            flags=1,
            origin=numbers[service],
            name=name,
            kind=SpanKind[more.get("kind", "internal").upper()],
            start=begun,
            end=begun + round(duration * MS),
            status=StatusCode[more.get("status", "unset").upper()],
            message=more.get("message"),
            attributes=more.get("attributes", {}),
            extra=Extra(**extra) if extra else None,
        )
        journal.append(FrameType.SPAN, msgspec.msgpack.encode(span), numbers[service])
    assert store.flush(10.0)


def sets_of(store, query, since, until):
    """What a search finds, as the naive evaluator tells it."""
    result = search(store, query, since_ns=since, until_ns=until, limit=10_000, spans_per_set=0)
    assert not result.degraded
    return sorted(
        (trace.trace_id, sorted(span.span_id for span in each.spans), sorted(name for name, _ in each.attributes))
        for trace in result.traces
        for each in trace.span_sets
    )
