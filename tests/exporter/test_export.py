"""The export has every span that matches once, in both forms, with bounded work however large it is."""

import asyncio
import json

import pytest
from google.protobuf import json_format
from opentelemetry.proto.trace.v1.trace_pb2 import TracesData  # the forms are checked by others' code
from tk_asgi import http_scope

from tracekeep.exporter import create_app, export


@pytest.fixture
def small_pages(monkeypatch):
    monkeypatch.setattr(export, "_PAGE", 7)


def lines(response):
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/x-ndjson"
    return [json.loads(line) for line in response.text.splitlines()]


@pytest.mark.usefixtures("small_pages")
def test_every_span_once_newest_first(client, record):
    """Over as many pages as it takes; each line is what `/monitoring/spans` gives."""
    for number in range(30):
        record(f"op {number}", attributes={"n": number})
    found = lines(client.get("/monitoring/spans/export"))
    assert found == client.get("/monitoring/spans?limit=1000").json()["spans"]
    assert [span["attributes"]["n"] for span in found] == list(range(29, -1, -1))


@pytest.mark.usefixtures("small_pages")
def test_otlp_is_read_by_the_official_messages(client, record):
    """Each line is a `TracesData` in OTLP/JSON: ids in hex, which the JSON mapping of protobuf has in base64."""
    ids = [record(f"op {number}", service="shop" if number % 2 else "desk", kind="client") for number in range(20)]
    found, names = [], set()
    for line in lines(client.get("/monitoring/spans/export?format=otlp")):
        for resource in line["resourceSpans"]:
            for scope in resource["scopeSpans"]:
                for span in scope["spans"]:
                    found.append(span["traceId"])
                    span["traceId"] = span["spanId"] = ""
        message = json_format.ParseDict(line, TracesData())
        names |= {span.name for each in message.resource_spans for part in each.scope_spans for span in part.spans}
    assert sorted(found) == sorted(ids)
    assert names == {f"op {number}" for number in range(20)}


@pytest.mark.usefixtures("small_pages")
@pytest.mark.parametrize("limit", [1, 7, 8, 14, 100])
def test_a_limit_over_pages(client, record, limit):
    """The newest ones, and no more."""
    for number in range(20):
        record(str(number))
    found = lines(client.get(f"/monitoring/spans/export?limit={limit}"))
    assert [span["name"] for span in found] == [str(number) for number in range(19, -1, -1)][:limit]


def test_filters_are_those_of_the_spans(client, record):
    """Chosen as there; refused as there."""
    record("a", service="shop")
    record("b", service="desk", kind="client")
    assert [span["name"] for span in lines(client.get("/monitoring/spans/export?service=desk&kind=client"))] == ["b"]
    refused = client.get("/monitoring/spans/export?format=xml")
    assert (refused.status_code, refused.json()["parameter"]) == (400, "format")
    assert lines(client.get("/monitoring/spans/export?service=nobody")) == []
    assert client.get("/monitoring/spans/export?service=nobody&format=otlp").text == ""


@pytest.mark.usefixtures("small_pages")
def test_a_client_that_leaves_ends_it(store, record, monkeypatch):
    """After the page that was under way nothing more is read."""
    for number in range(50):
        record(str(number))
    asked, sent, spans = [], [], store.spans

    def counted(**values):
        asked.append(values)
        return spans(**values)

    monkeypatch.setattr(store, "spans", counted)

    async def run():
        gone = asyncio.Event()

        async def receive():
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message):
            sent.append(message)
            if message.get("body"):
                gone.set()

        scope = http_scope("/monitoring/spans/export", asgi={"version": "3.0", "spec_version": "2.3"})
        await create_app(store)(scope, receive, send)

    asyncio.run(run())
    assert sent[0]["status"] == 200
    assert 1 <= len(asked) <= 2 < 50 // 7
