"""The schema tells what the application does, for every route."""

import re

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route
from starlette.testclient import TestClient

from tracekeep.exporter import create_app
from tracekeep.exporter.app import ROUTES
from tracekeep.exporter.described import description_of
from tracekeep.exporter.openapi import schema

DOCUMENT = schema(ROUTES)


def operations():
    return [(path, verb, each) for path, item in DOCUMENT["paths"].items() for verb, each in item.items()]


def references(node):
    if isinstance(node, dict):
        yield from ([node["$ref"]] if "$ref" in node else [])
        for value in node.values():
            yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


def handlers(routes, before=""):
    """Every handler of an application, however deep it is mounted, with its path."""
    for route in routes:
        if isinstance(route, Mount):
            yield from handlers(route.routes, before + route.path)
        else:
            yield before + route.path, route.endpoint


@pytest.mark.parametrize(("path", "handler"), [pytest.param(*each, id=each[0]) for each in handlers(ROUTES)])
def test_every_route_is_described(path, handler):
    """A new route without `described` fails here."""
    assert description_of(handler) is not None, f"say what {path} takes and gives: exporter/described.py"
    assert re.sub(r":\w+\}", "}", path) in DOCUMENT["paths"]


def test_a_route_that_nobody_described_is_left_out():
    """The schema says nothing rather than something wrong; mounted routes are found with their path."""

    async def silent(_request):
        return PlainTextResponse("")

    found = schema([Mount("/inner", routes=[*ROUTES[:1], Route("/silent", silent)])])
    assert list(found["paths"]) == [f"/inner{ROUTES[0].path}"]


def test_paths_name_their_parameters():
    """Each `{name}` of a path is a parameter of it, and the other way round."""
    for path, _, operation in operations():
        named = [each["name"] for each in operation["parameters"] if each["in"] == "path"]
        assert sorted(re.findall(r"\{(\w+)\}", path)) == sorted(named), path


def test_references_lead_somewhere():
    """Every type that is referred to is there, and every one that is there is referred to."""
    prefix = "#/components/schemas/"
    found = {each.removeprefix(prefix) for each in references(DOCUMENT)}
    assert found == set(DOCUMENT["components"]["schemas"])


def test_operations_are_told_apart_and_summed_up():
    """Names are unique, as clients are made from them; each has a sentence."""
    names = [each["operationId"] for _, _, each in operations()]
    assert len(set(names)) == len(names)
    for path, verb, operation in operations():
        assert operation["summary"].strip(), (path, verb)
        assert "500" in operation["responses"]


@pytest.mark.parametrize("prefix", ["", "/observability", "/a/b"])
def test_the_prefix_is_told(store, prefix):
    """Wherever it is mounted, `servers` leads back to it, and its routes answer there."""
    app = create_app(store)
    client = TestClient(Starlette(routes=[Mount(prefix, app)]) if prefix else app)
    found = client.get(f"{prefix}/openapi.json").json()
    assert found["servers"] == [{"url": prefix or "/"}]
    assert found["openapi"].startswith("3.1.")
    server = found["servers"][0]["url"].rstrip("/")
    assert client.get(f"{server}/monitoring/accounting").status_code == 200


def test_what_is_refused_is_in_the_schema():
    """A value past a bound that the schema tells is a 400; at the bound it isn't."""
    client = TestClient(create_app())
    (limit,) = [
        each["schema"]
        for each in DOCUMENT["paths"]["/monitoring/spans"]["get"]["parameters"]
        if each["name"] == "limit"
    ]
    assert client.get(f"/monitoring/spans?limit={limit['maximum'] + 1}").status_code == 400
    assert client.get(f"/monitoring/spans?limit={limit['minimum'] - 1}").status_code == 400


def test_the_page_needs_nothing_from_elsewhere():
    """No address of another host, and a policy that would stop it."""
    answer = TestClient(create_app()).get("/docs")
    assert answer.headers["content-type"].startswith("text/html")
    assert not re.search(r"""(?:src|href)=["'](?:https?:)?//|@import|url\(""", answer.text)
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "openapi.json" in answer.text
