"""A real store, and records in it as an instrumented process would leave them."""

import os
import time

import msgspec
import pytest
from starlette.testclient import TestClient
from tk_tempo import Grafana
from tk_tempo_spans import Shop, served
from tk_wait import eventually

from tracekeep.exporter import create_app
from tracekeep.storage import open_store
from tracekeep.storage.records import Event, Extra, FrameType, Origin, SpanKind, SpanRecord, StatusCode


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch):
    for name in [name for name in os.environ if name.startswith("TRACEKEEP_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def store(tmp_path):
    store = open_store(tmp_path / "data")
    eventually(lambda: not store.spans(limit=1).degraded, 10, every=0.005)
    yield store
    store.close()


@pytest.fixture
def client(store):
    return TestClient(create_app(store))


@pytest.fixture
def record(store):
    """Record one span, and in it an exception if one is given; gives its trace id."""

    def record(name="GET /items/{id}", service="shop", kind="server", *, ms=5, ago=1.0, **more):
        origin = store.journal.define(msgspec.msgpack.encode(Origin({"service.name": service}, scope_name="tests")))
        end = more.get("end", time.time_ns() - int(ago * 1e9))
        error = more.get("error")
        event = error and Event(
            end - 1,
            "exception",
            {"exception.type": type(error).__name__, "exception.message": str(error), "exception.stacktrace": "at …"},
        )
        span = SpanRecord(
            trace_id=bytes.fromhex(more.get("trace_id", os.urandom(16).hex())),
            span_id=more.get("span_id", int.from_bytes(os.urandom(7)) + 1),
            parent_id=more.get("parent_id", 0),
            flags=1,
            origin=origin,
            name=name,
            kind=SpanKind[kind.upper()],
            start=end - int(ms * 1e6),
            end=end,
            status=StatusCode.ERROR if error and more.get("status", 500) >= 500 else StatusCode.UNSET,
            message=None,
            attributes={"http.route": name, "http.response.status_code": more.get("status", 500 if error else 200)}
            | more.get("attributes", {}),
            extra=Extra(events=[event]) if event else None,
        )
        payload = msgspec.msgpack.encode(span)
        store.journal.append(FrameType.SPAN, payload, origin, important=bool(error))
        return span.trace_id.hex()

    return record


# --- as Grafana's Tempo data source sees it ---------------------------------------------------------------------------


@pytest.fixture
def shop(store):
    """What records traces."""
    return Shop(store)


@pytest.fixture
def grafana(store):
    """The data source."""
    with served(store, "/observability") as port:
        yield Grafana(port, "/observability/tempo")


@pytest.fixture(scope="module")
def empty(tmp_path_factory):
    """The data source of a store without spans."""
    store = open_store(tmp_path_factory.mktemp("empty") / "data", writer="none")
    with served(store, "/a/b") as port:
        yield Grafana(port, "/a/b/tempo")
    store.close()
