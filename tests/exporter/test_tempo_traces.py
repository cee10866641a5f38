import math

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from tk_tempo import Grafana, Refused, from_otlp_json, plain_attributes, spans_of
from tk_tempo_spans import ODD, Shop, served

from tracekeep.exporter import otlp_encoding
from tracekeep.storage import open_store

MOUNTS = ["", "/observability", "/a/b"]


@pytest.fixture(params=MOUNTS, ids=lambda mount: mount or "root")
def grafana(store, request):
    with served(store, request.param) as port:
        yield Grafana(port, f"{request.param}/tempo")


@pytest.fixture
def here(store):
    with served(store) as port:
        yield Grafana(port)


def test_the_data_source_is_found(grafana):
    """Save & test is content; no older Grafana turns streaming over gRPC on."""
    assert grafana.test().text == "echo\n"
    assert grafana.get("/ready").status == 200
    assert grafana.version() < (2, 2, 0)


def test_a_trace_is_shown_by_every_version(grafana, shop):
    """Protobuf of both routes, and JSON of both, are the same messages."""
    trace_id = shop.order(fails=True)
    shown, message = grafana.trace(trace_id)
    assert message == ""
    assert shown == grafana.trace_v1(trace_id) == grafana.trace_json(trace_id) == grafana.trace_json(trace_id, "")
    spans = spans_of(shown)
    assert set(spans) == {"GET /cart", "GET stock", "GET /stock", "SELECT"}
    assert {name: plain_attributes(r.attributes)["service.name"] for name, (_, r, _) in spans.items()} == {
        "GET /cart": "web", "GET stock": "web", "GET /stock": "stock", "SELECT": "stock",
    }  # fmt: skip
    root, query = spans["GET /cart"][0], spans["SELECT"][0]
    assert (root.kind, root.parent_span_id, root.status.code) == (Span.SPAN_KIND_SERVER, b"", Status.STATUS_CODE_ERROR)
    assert root.end_time_unix_nano - root.start_time_unix_nano == 20 * 10**6
    assert spans["GET stock"][0].parent_span_id == root.span_id
    assert (query.status.code, query.status.message) == (Status.STATUS_CODE_ERROR, "no tea")
    (event,) = query.events
    assert (event.name, plain_attributes(event.attributes)["exception.type"]) == ("exception", "LookupError")
    scope = spans["SELECT"][2]
    assert (scope.name, scope.version, plain_attributes(scope.attributes)) == ("stock.lib", "0.9", {"lib.kind": "test"})


def test_odd_values_arrive_as_they_were_recorded(here, shop):
    """Bytes, floats that JSON lacks, 64-bit integers, lists and mappings; in protobuf and in JSON."""
    trace_id = shop.odd()
    shown, _ = here.trace(trace_id)
    assert here.trace_json(trace_id).SerializeToString() == shown.SerializeToString()
    span = spans_of(shown)["odd"][0]
    found = plain_attributes(span.attributes)
    assert math.isnan(found.pop("nan"))
    assert found == {key: value for key, value in ODD.items() if key != "nan"}
    assert {type(found[key]) for key in ("zero", "no", "whole float")} == {int, bool, float}
    assert plain_attributes(span.events[0].attributes) == {"bytes": b"\xff", "int": 2**62, "texts": ["a", "b"]}
    (link,) = span.links
    assert (link.trace_id.hex(), link.span_id.hex()) == ("0af7651916cd43dd8448eb211c80319c", f"{1:016x}")
    assert plain_attributes(link.attributes) == {"on": "link"}


def test_an_id_may_be_short_or_in_upper_case(here, store):
    """As older tracers write them: filled with zeros from the left."""
    trace_id = "00000000000000001234567890abcdef"
    from tk_spans import Recorder

    Recorder(store)("short", trace_id=bytes.fromhex(trace_id))
    for written in (trace_id, trace_id.upper(), "1234567890abcdef", "1234567890ABCDEF", f"0{trace_id.lstrip('0')}"):
        assert list(spans_of(here.trace(written)[0])) == ["short"], written


@pytest.mark.parametrize("odd", ["xyz", "0x12", "g" * 32, "1" * 33, "12 34", "%00", "é", "1%0a"])
def test_a_malformed_id_is_a_400_that_says_so(here, odd):
    """In plain text, by every route."""
    for version in ("", "v2/"):
        with pytest.raises(Refused, match=r"^400: invalid trace ID"):
            here.get(f"/api/{version}traces/{odd.replace(' ', '%20').replace('é', '%C3%A9')}")


def test_a_missing_trace_is_empty_or_a_404(here):
    """The newer route has an empty trace, as Tempo does, which Grafana calls not found; the older one a 404."""
    missing = "f" * 32
    shown, message = here.trace(missing)
    assert (len(shown.resource_spans), message) == (0, "")
    assert here.get(f"/api/v2/traces/{missing}").json == {"trace": {}}
    for accept in ("application/protobuf", "application/json"):
        with pytest.raises(Refused, match=f"^404: trace {missing} not found"):
            here.trace_v1(missing, accept)


def test_a_trace_is_looked_for_in_a_time(here, shop):
    """Whole where any span touches it, not at all where none does."""
    trace_id = shop.order(ago=100)
    second = shop.now // 10**9
    assert len(spans_of(here.trace(trace_id, start=second - 200, end=second)[0])) == 4
    assert not spans_of(here.trace(trace_id, start=second - 50, end=second)[0])
    for params in ({"start": "x", "end": 5}, {"start": 5}, {"start": 5, "end": 5}, {"end": "-1", "start": 1}):
        with pytest.raises(Refused, match=r"^400: invalid (start|end): "):
            here.trace(trace_id, **params)


def test_without_the_package_only_protobuf_is_refused(here, shop, monkeypatch):
    """501 in words, and JSON as before."""
    trace_id = shop.order()
    monkeypatch.setitem(__import__("sys").modules, "opentelemetry.proto.trace.v1", None)
    otlp_encoding._messages.cache_clear()
    with pytest.raises(Refused, match=r"^501: .*pip install 'tracekeep.serve.'"):
        here.trace(trace_id)
    assert len(here.get(f"/api/traces/{trace_id}").json["batches"]) == 2


@pytest.mark.parametrize(
    "accept", ["application/protobuf", "application/json;q=0.5, application/protobuf", "*/*", None]
)
def test_the_form_is_chosen_as_tempo_chooses(here, shop, accept):
    """Protobuf wherever its name stands in `Accept`, else JSON."""
    trace_id = shop.order()
    kind = here.get(f"/api/traces/{trace_id}", accept).headers["content-type"]
    assert kind == ("application/protobuf" if "protobuf" in (accept or "") else "application/json")


def test_both_json_forms_say_the_same(store, shop):
    """OTLP/JSON has ids in hex and numbers for kinds; it is the same message."""
    shop.order(fails=True)
    shop.odd()
    shop.flush()
    views = store.spans(limit=100).items
    assert len(views) == 6
    proto = otlp_encoding.encode_traces(views)
    assert from_otlp_json(otlp_encoding.resource_spans(views, otlp_encoding.OTLP_JSON)).SerializeToString() == proto


def test_what_the_database_lacks_is_answered_from_the_journal(tmp_path):
    """Nobody drains it: the spans are there all the same, and the answer says that some may be missing."""
    store = open_store(tmp_path / "alone", writer="none")
    trace_id = Shop(store).order(fails=True)
    with served(store) as port:
        grafana = Grafana(port)
        shown, message = grafana.trace(trace_id)
        assert len(spans_of(shown)) == 4
        assert message.startswith("Some spans may be missing")
        found = grafana.get(f"/api/v2/traces/{trace_id}").json
        assert (found["status"], found["message"]) == ("PARTIAL", message)
        assert grafana.get(f"/api/traces/{trace_id}").headers["x-tracekeep-degraded"] == "true"
        assert grafana.values("resource.service.name") == [("string", name) for name in ("jobs", "stock", "web")]
        assert grafana.values("event.exception.type") == [("string", "LookupError")]
        assert grafana.values("rootName") == [("string", "GET /cart"), ("string", "send mail")]
        assert grafana.values("link.link.reason") == [("string", "ordered")]
        assert grafana.values("instrumentation:name") == [("string", f"{n}.lib") for n in ("jobs", "stock", "web")]
        tags = grafana.tags()
        assert {"item", "rows"} <= set(tags["span"])
        assert {"queue", "exception.type"} <= set(tags["event"])
        assert tags["instrumentation"] == ["lib.kind"]
    store.close()
