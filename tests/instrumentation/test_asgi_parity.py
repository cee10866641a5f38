"""Our server spans beside those of opentelemetry-instrumentation-asgi: equal, except as DIFFERENCES says.

The other side runs with `OTEL_SEMCONV_STABILITY_OPT_IN=http`, so that both mean the stable conventions.
"""

# ruff: noqa: ARG001, ARG005  # ASGI callables, endpoints and processors have the signature that is called
# ruff: noqa: N818  # exceptions of a service are named as services name them

import asyncio
import contextlib
from dataclasses import dataclass

import pytest
from fastapi import APIRouter, FastAPI
from opentelemetry.instrumentation import _semconv
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.trace import SpanKind
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Mount, Route
from tk_asgi import http_scope

from tracekeep.instrumentation.asgi import TracingMiddleware

PARENT = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Boom(Exception):
    """Unexpected."""


# Applications


def responder(status=200, *bodies):
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": status, "headers": []})
        for body in bodies:
            await send({"type": "http.response.body", "body": body, "more_body": True})
        await send({"type": "http.response.body"})

    return app


async def crashing(scope, receive, send):
    raise Boom("why")


async def breaking_off(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"a", "more_body": True})
    raise Boom("half way")


async def cancelled(scope, receive, send):
    raise asyncio.CancelledError


async def item(request):
    return PlainTextResponse("ok", int(request.query_params.get("status", "200")))


async def stream(request):
    return StreamingResponse(iter(["a", "b"]))


async def boom(request):
    raise Boom("why")


async def teapot(request):
    raise HTTPException(418)


def starlette():
    routes = [Route("/items/{id:int}", item), Route("/stream", stream), Route("/boom", boom)]
    routes += [Route("/teapot", teapot), Route("/form", item, methods=["POST"]), Route("/dir/", item)]
    routes += [Route("/grüße/{name}", item)]
    return Starlette(routes=[*routes, Mount("/api/{tenant}", routes=routes), Mount("/static", responder())])


def fastapi():
    router = APIRouter(prefix="/shop")
    router.add_api_route("/items/{item_id}", lambda item_id: item_id)
    app = FastAPI()
    app.include_router(router)
    app.add_api_route("/users/{user}", lambda user: user)
    app.mount("/sub", starlette())
    return app


# Requests


@dataclass(frozen=True, slots=True)
class Case:
    name: str
    app: object
    scope: dict


def case(name, app, path="/", *, without=(), headers=None, **changes):
    host = {"headers": [(b"host", b"127.0.0.1:8000")] if headers is None else headers, "server": ("127.0.0.1", 8000)}
    scope = http_scope(path, **(host | changes))
    return Case(name, app, {key: value for key, value in scope.items() if key not in without})


PROXIED = [
    (b"host", b"inner:8000"),
    (b"x-forwarded-for", b"198.51.100.7"),
    (b"x-forwarded-proto", b"https"),
    (b"x-forwarded-host", b"shop.example"),
]
CASES = [
    case("plain", responder(), "/some/path"),
    case("route", starlette, "/items/5"),
    case("fastapi route", fastapi, "/users/5"),
    case("fastapi included router", fastapi, "/shop/items/5"),
    case("fastapi 404", fastapi, "/nowhere"),
    case("fastapi 405", fastapi, "/users/5", method="DELETE"),
    case("fastapi mount", fastapi, "/sub/items/5"),
    case("mount", starlette, "/api/acme/items/5"),
    case("mounted callable", starlette, "/static/site.css"),
    case("404", starlette, "/nowhere"),
    case("405", starlette, "/form"),
    case("redirect of slashes", starlette, "/dir"),
    case("HEAD", starlette, "/items/5", method="HEAD"),
    case("POST", starlette, "/form", method="POST"),
    case("streaming", starlette, "/stream"),
    case("streaming callable", responder(200, b"a", b"b")),
    case("4xx", starlette, "/items/5", query_string=b"status=404"),
    case("5xx", starlette, "/items/5", query_string=b"status=503"),
    case("bare 5xx", responder(500)),
    case("exception in Starlette", starlette, "/boom"),
    case("exception in FastAPI's mount", fastapi, "/sub/boom"),
    case("exception in a callable", crashing),
    case("exception in a stream", breaking_off),
    case("HTTPException", starlette, "/teapot"),
    case("cancelled", cancelled),
    case("query", responder(), query_string=b"q=1&name=%C3%A9"),
    case("credentials in the query", responder(), query_string=b"q=1&sig=secret"),
    case(
        "IPv6",
        responder(),
        client=("2001:db8::2", 51000),
        server=("2001:db8::1", 8000),
        headers=[(b"host", b"[2001:db8::1]:8000")],
    ),
    case("named host", responder(), headers=[(b"host", b"example.org")]),
    case("port 80", responder(), headers=[(b"host", b"127.0.0.1")], server=("127.0.0.1", 80)),
    case("https", responder(), scheme="https", headers=[(b"host", b"127.0.0.1")], server=("127.0.0.1", 443)),
    case("proxy", responder(), headers=PROXIED),
    case("root_path", starlette, "/proxy/items/5", root_path="/proxy"),
    case("HTTP/1.0 without Host", responder(), http_version="1.0", headers=[]),
    case("HTTP/2", responder(), http_version="2"),
    case("no client", responder(), without=["client"]),
    case("client None", responder(), client=None),
    case("no server", responder(), without=["server"]),
    case("server None, no Host", responder(), server=None, headers=[]),
    case("unix socket", responder(), server=("/run/app.sock", None), client=None, headers=[(b"host", b"app")]),
    case("unknown method", responder(), method="BREW"),
    case("lower-case method", responder(), method="get"),
    case("percent-encoded path", responder(), "/a b/%2F"),
    case("non-ASCII path", starlette, "/grüße/zoë"),
    case("traceparent", responder(), headers=[(b"host", b"127.0.0.1:8000"), (b"traceparent", PARENT)]),
    case(
        "invalid traceparent",
        responder(),
        headers=[(b"host", b"127.0.0.1:8000"), (b"traceparent", b"00-1-2-3")],
    ),
    case("user agent", responder(), headers=[(b"host", b"127.0.0.1:8000"), (b"user-agent", b"curl/8 \xe9")]),
    case("bot", responder(), headers=[(b"host", b"127.0.0.1:8000"), (b"user-agent", b"Googlebot/2.1")]),
]


# What they may differ in


def verb(span):
    return "HTTP" if span["http.request.method"] == "_OTHER" else span["http.request.method"]


def asked_for(scope):
    headers = dict(scope["headers"])
    return (headers.get(b"x-forwarded-host") or headers.get(b"host", b"")).decode()


def listening(scope):
    host, port = scope.get("server") or ("0.0.0.0", 80)
    return host if port == 80 else f"{host}:{port}"


# Field of the span: the reason, and what exactly must be true of both sides where they differ.
DIFFERENCES = {
    "name": (
        "`{method} {route}`, or `{method}` where no route matched: theirs has the raw path, without bound.",
        lambda ours, theirs, case: (
            ours["name"] == " ".join(filter(None, (verb(ours), ours.get("http.route"))))
            and theirs["name"] == f"{verb(theirs)} {case.scope['path']}"
        ),
    ),
    "http.route": (
        "Set on the span, as the full template with application root, mounts and prefixes: theirs sets none.",
        lambda ours, theirs, case: "http.route" not in theirs,
    ),
    "server.address": (
        "The host asked for (Forwarded, X-Forwarded-Host, Host): theirs is the listening one, port included.",
        lambda ours, theirs, case: (
            theirs["server.address"] == listening(case.scope)
            and ours.get("server.address", "") in asked_for(case.scope) + str(case.scope.get("server"))
        ),
    ),
    "server.port": (
        "The port of that host, or its scheme's: theirs is the listening port, or 80 where none is known.",
        lambda ours, theirs, case: theirs.get("server.port") == (case.scope.get("server") or ("", 80))[1],
    ),
    "url.query": (
        "Values of the credential keys listed by the conventions are REDACTED: theirs has them in the clear.",
        lambda ours, theirs, case: (
            ours["url.query"].endswith("sig=REDACTED") and theirs["url.query"] == case.scope["query_string"].decode()
        ),
    ),
    "http.request.method": (
        "Methods are case-sensitive, for HTTP as for Starlette: `get` is `_OTHER`, theirs makes it GET.",
        lambda ours, theirs, case: ours["http.request.method"] == "_OTHER" and case.scope["method"] == "get",
    ),
    "error.type": (
        "The exception's class if there is one, also for a cancelled request: theirs is the code, or none.",
        lambda ours, theirs, case: (
            ours["error.type"].endswith((".Boom", ".CancelledError")) and theirs.get("error.type") in ("500", None)
        ),
    ),
    "exceptions": (
        "What Starlette answers with a 500 and then raises is on the span: theirs has ended before that.",
        lambda ours, theirs, case: (ours["exceptions"], theirs["exceptions"]) == (("test_asgi_parity.Boom",), ()),
    ),
    "status description": (
        "Goes with that exception.",
        lambda ours, theirs, case: ours["exceptions"] and ours["status description"] == "Boom: why",
    ),
    "http.response.status_code": (
        "An exception that leaves the application unanswered counts as the 500 that the server makes of it.",
        lambda ours, theirs, case: ours["http.response.status_code"] == 500 and case.app is crashing,
    ),
    "user_agent.synthetic.type": (
        "Opt-in and still in development: not recorded.",
        lambda ours, theirs, case: "user_agent.synthetic.type" not in ours,
    ),
    "other spans": (
        "One span a request: theirs adds one for each message received or sent.",
        lambda ours, theirs, case: ours["other spans"] == 0,
    ),
}


# The comparison


class Recorder(SpanProcessor):
    def __init__(self):
        self.spans = []

    def on_end(self, span):
        self.spans.append(span)


def record(middleware, the_case):
    """Run one case through one middleware; return its server span as a flat dict."""
    recorder, provider = Recorder(), TracerProvider()
    provider.add_span_processor(recorder)
    app = the_case.app() if the_case.app in (starlette, fastapi) else the_case.app

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message):
        pass

    with contextlib.suppress(Boom, asyncio.CancelledError):
        asyncio.run(middleware(app, tracer_provider=provider)({**the_case.scope}, receive, send))
    (server,) = (span for span in recorder.spans if span.kind is SpanKind.SERVER)
    return {**flat(server), "other spans": len(recorder.spans) - 1}


def flat(span):
    parent = span.parent
    return {
        "name": span.name,
        "status": span.status.status_code.name,
        "status description": span.status.description,
        "kind": span.kind.name,
        "parent": parent and (parent.trace_id, parent.span_id, parent.is_remote, span.context.trace_id),
        "exceptions": tuple(
            event.attributes["exception.type"].replace(__name__, "test_asgi_parity") for event in span.events
        ),
        **span.attributes,
    }


@pytest.fixture(autouse=True)
def _stable_conventions(monkeypatch):
    """The other side reads its setting once per process: have it read again, and forget it afterwards."""
    state = _semconv._OpenTelemetrySemanticConventionStability
    monkeypatch.setenv("OTEL_SEMCONV_STABILITY_OPT_IN", "http")
    monkeypatch.setattr(state, "_initialized", False)
    monkeypatch.setattr(state, "_OTEL_SEMCONV_STABILITY_SIGNAL_MAPPING", {})


def differing(the_case):
    ours, theirs = record(TracingMiddleware, the_case), record(OpenTelemetryMiddleware, the_case)
    fields = {field for field in ours.keys() | theirs.keys() if ours.get(field) != theirs.get(field)}
    return ours, theirs, fields


@pytest.mark.parametrize("the_case", CASES, ids=lambda the_case: the_case.name)
def test_server_spans_differ_only_as_told(the_case):
    """Every field of both spans is equal, or differs in the way that DIFFERENCES gives a reason for."""
    ours, theirs, fields = differing(the_case)
    unexplained = {
        field: (ours.get(field), theirs.get(field))
        for field in fields
        if field not in DIFFERENCES or not DIFFERENCES[field][1](ours, theirs, the_case)
    }
    assert not unexplained


def test_every_difference_occurs():
    """The table holds nothing that isn't so any more."""
    seen = set().union(*(differing(the_case)[2] for the_case in CASES))
    assert seen == set(DIFFERENCES)


def test_the_same_parent_is_continued():
    """Both sides take a valid traceparent, and only that, as the parent."""
    parents = {the_case.name: record(TracingMiddleware, the_case)["parent"] for the_case in CASES}
    assert [name for name, parent in parents.items() if parent] == ["traceparent"]
