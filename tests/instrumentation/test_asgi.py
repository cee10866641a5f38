"""The promises of `TracingMiddleware`: what a span says, when it ends, and that the host never notices."""

# ruff: noqa: ARG001, ARG002, ARG005  # ASGI callables, endpoints and processors have the signature that is called
# ruff: noqa: N818  # exceptions of a service are named as services name them

import asyncio
import contextlib
import contextvars
import socket
import threading

import pytest
import uvicorn
from fastapi import APIRouter, FastAPI
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry import context as otel_context
from opentelemetry import propagate, trace
from opentelemetry.propagators.textmap import TextMapPropagator
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanKind, StatusCode
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.opentelemetry import OpenTelemetryMiddleware as StarletteTelemetry
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, StreamingResponse
from starlette.routing import Host, Mount, Route, Router
from tk_asgi import http_scope

from tracekeep.instrumentation import asgi
from tracekeep.instrumentation.asgi import TracingMiddleware
from tracekeep.instrumentation.complaints import Complaints
from tracekeep.instrumentation.routes import _CACHE_LIMIT, _templates

PARENT = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Recorder(SpanProcessor):
    def __init__(self):
        self.spans = []
        self.started = 0
        self.ended = threading.Event()

    def on_start(self, span, parent_context=None):
        self.started += 1

    def on_end(self, span):
        self.spans.append(span)
        self.ended.set()

    @property
    def only(self):
        (span,) = self.spans
        return span


@pytest.fixture
def recorder():
    return Recorder()


@pytest.fixture
def provider(recorder):
    provider = TracerProvider()
    provider.add_span_processor(recorder)
    return provider


class Client:
    """Calls an application and notes, for each message sent, how many spans had ended."""

    def __init__(self, recorder=None, fail_at=None):
        self.recorder, self.fail_at = recorder, fail_at
        self.messages, self.ended = [], []

    async def receive(self):
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(self, message):
        if message["type"] == self.fail_at:
            raise OSError("connection reset")
        self.messages.append(message)
        self.ended.append(len(self.recorder.spans) if self.recorder else 0)

    def call(self, app, scope):
        asyncio.run(app(scope, self.receive, self.send))
        return self


def call(app, scope=None, **how):
    return Client(**how).call(app, scope or http_scope())


def responder(*messages):
    async def app(scope, receive, send):
        for message in messages:
            await send(message)

    return app


START = {"type": "http.response.start", "status": 200, "headers": []}
BODY = {"type": "http.response.body", "body": b"ok"}
OK = responder(START, BODY)


def endpoint(body="ok", status=200):
    async def serve(request):
        return PlainTextResponse(body, status)

    return serve


def raising(error):
    async def serve(request):
        raise error

    return serve


class Boom(Exception):
    """Something nobody expected."""


# What a span says


def test_span_says_what_the_conventions_ask_for(recorder, provider):
    """A request makes one SERVER span with the stable attributes, its route and its status code."""
    app = Starlette(routes=[Route("/items/{id:int}", endpoint())])
    headers = [(b"host", b"example.org:8443"), (b"user-agent", b"curl/8")]
    call(
        TracingMiddleware(app, provider),
        http_scope("/items/5", headers=headers, query_string=b"q=1", scheme="https"),
    )
    span = recorder.only
    assert (span.name, span.kind, span.status.status_code) == (
        "GET /items/{id}",
        SpanKind.SERVER,
        StatusCode.UNSET,
    )
    assert span.instrumentation_scope.name == "tracekeep.asgi"
    assert span.instrumentation_scope.schema_url.startswith("https://opentelemetry.io/schemas/")
    assert dict(span.attributes) == {
        "http.request.method": "GET",
        "url.scheme": "https",
        "url.path": "/items/5",
        "url.query": "q=1",
        "server.address": "example.org",
        "server.port": 8443,
        "client.address": "203.0.113.9",
        "client.port": 51000,
        "network.protocol.version": "1.1",
        "user_agent.original": "curl/8",
        "http.route": "/items/{id}",
        "http.response.status_code": 200,
    }


@pytest.mark.parametrize(
    ("query", "kept"),
    [
        (b"q=Signature&page=2", "q=Signature&page=2"),
        (b"sig=abc&q=1", "sig=REDACTED&q=1"),
        (b"X-Amz-Signature=a&X-Amz-Credential=b&X-Amz-Security-Token=c", None),
        (b"AWSAccessKeyId=a&Signature=b&X-Goog-Signature=c", None),
        (b"s%69g=abc", "s%69g=REDACTED"),
        (b"Sig=abc&sig", "Sig=abc&sig"),
        (b"name=%C3%A9", "name=%C3%A9"),
    ],
)
def test_credentials_in_the_query_are_redacted(recorder, provider, query, kept):
    """Values of the keys that the conventions list never reach the span, escaped or not; others do."""
    call(TracingMiddleware(OK, provider), http_scope(query_string=query))
    expected = kept or "&".join(part.split("=")[0] + "=REDACTED" for part in query.decode().split("&"))
    assert recorder.only.attributes["url.query"] == expected


@pytest.mark.parametrize(
    ("headers", "address", "port"),
    [
        ([(b"host", b"example.org")], "example.org", 80),
        ([(b"host", b"[2001:db8::1]:8080")], "2001:db8::1", 8080),
        ([(b"host", b"inner"), (b"x-forwarded-host", b"shop.example:444, cdn")], "shop.example", 444),
        (
            [(b"host", b"inner"), (b"forwarded", b'for=1.2.3.4;host="a.example:81";proto=http')],
            "a.example",
            81,
        ),
        ([], "10.0.0.1", 8000),
        ([(b"host", b"")], "10.0.0.1", 8000),
        ([(b"host", b"bad host/\xff")], "10.0.0.1", 8000),
        ([(b"host", b"x" * 5000)], "x" * 5000, 80),
        ([(b"host", b"example.org:99999")], "10.0.0.1", 8000),
    ],
)
def test_server_address_is_what_the_client_asked_for(recorder, provider, headers, address, port):
    """Forwarded, X-Forwarded-Host and Host come before the listening address; nonsense counts as absent."""
    call(TracingMiddleware(OK, provider), http_scope(headers=headers))
    attributes = recorder.only.attributes
    assert (attributes["server.address"], attributes["server.port"]) == (address, port)


def test_unknown_methods_keep_cardinality_low(recorder, provider):
    """A method that nobody knows is `_OTHER`, named HTTP, with the original beside it."""
    call(TracingMiddleware(OK, provider), http_scope(method="BREW"))
    assert recorder.only.name == "HTTP"
    assert recorder.only.attributes["http.request.method"] == "_OTHER"
    assert recorder.only.attributes["http.request.method_original"] == "BREW"


def test_known_methods_can_be_set(recorder, provider, monkeypatch):
    """OTEL_INSTRUMENTATION_HTTP_KNOWN_METHODS replaces the list, as the conventions demand."""
    monkeypatch.setenv("OTEL_INSTRUMENTATION_HTTP_KNOWN_METHODS", "BREW, GET")
    call(TracingMiddleware(OK, provider), http_scope(method="BREW"))
    assert recorder.only.name == "BREW"


def test_a_name_given_by_the_application_stays(recorder, provider):
    """The route doesn't replace a span name, nor a plain 5xx a description, that the application has set."""

    async def serve(request):
        span = trace.get_current_span()
        span.update_name("checkout")
        span.set_status(StatusCode.ERROR, "out of stock")
        return PlainTextResponse("no", 503)

    call(TracingMiddleware(Starlette(routes=[Route("/pay", serve)]), provider), http_scope("/pay"))
    assert recorder.only.name == "checkout"
    assert recorder.only.status.description == "out of stock"


# Routes


def starlette_tree():
    inner = [
        Route("/items/{id:int}", endpoint()),
        Route("/", endpoint()),
        Route("/{rest:path}/raw", endpoint()),
    ]
    wrapped = BaseHTTPMiddleware(Starlette(routes=inner), dispatch=lambda request, call_next: call_next(request))
    return Starlette(
        routes=[
            Route("/", endpoint()),
            Route("/form", endpoint(), methods=["POST"]),
            Route("/dir/", endpoint()),
            Mount("/static", OK),
            Mount("/api/{tenant}", routes=[Mount("/v{version:int}", routes=inner), *inner]),
            Mount("/same/{id}", routes=inner),
            Mount("/wrapped/{tenant}", wrapped),
            Host("{sub}.example.net", Router([Mount("/h/{x}", routes=inner)])),
            Mount("/router", Router(inner)),
        ]
    )


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/", "/"),
        ("/form", "/form"),
        ("/nowhere", None),
        ("/dir", None),
        ("/static/site.css", "/static/{path}"),
        ("/api/acme/items/5", "/api/{tenant}/items/{id}"),
        ("/api/items/items/5", "/api/{tenant}/items/{id}"),
        ("/api/acme/v2/items/5", "/api/{tenant}/v{version}/items/{id}"),
        ("/api/acme/v2/", "/api/{tenant}/v{version}/"),
        ("/api/acme/a/b/raw", "/api/{tenant}/{rest}/raw"),
        ("/api/acme/nowhere", None),
        ("/same/acme/items/5", "/same/{id}/items/{id}"),
        ("/wrapped/acme/items/5", "/wrapped/{tenant}/items/{id}"),
        ("/router/items/5", "/router/items/{id}"),
        ("/router/nowhere", None),
    ],
)
@pytest.mark.parametrize("root", ["", "/root"])
def test_route_is_the_full_template_in_starlette(recorder, provider, path, route, root):
    """Mounts, nested mounts, parameters of both and the application root are all in the template."""
    app = TracingMiddleware(starlette_tree(), provider)
    for _ in range(2):  # the second time from the cache
        call(app, http_scope(root + path, root_path=root))
    expected = None if route is None else root + route
    assert [span.attributes.get("http.route") for span in recorder.spans] == [expected, expected]
    assert recorder.spans[0].name == ("GET" if expected is None else f"GET {expected}")


def test_route_under_a_host(recorder, provider):
    """Mounts under a Host route are found by the request's own host."""
    scope = http_scope("/h/1/items/5", headers=[(b"host", b"a.example.net")])
    call(TracingMiddleware(starlette_tree(), provider), scope)
    assert recorder.only.attributes["http.route"] == "/h/{x}/items/{id}"


def test_route_under_an_empty_mount(recorder, provider):
    """A mount without a path adds nothing to the template."""
    app = Starlette(routes=[Mount("", routes=[Mount("/a/{x}", routes=[Mount("", routes=[Route("/b", endpoint())])])])])
    call(TracingMiddleware(app, provider), http_scope("/a/1/b"))
    assert recorder.only.attributes["http.route"] == "/a/{x}/b"


def fastapi_tree():
    router = APIRouter(prefix="/shop")
    router.add_api_route("/items/{item_id}", lambda item_id: item_id)
    router.routes.append(Route("/plain/{x}", endpoint()))
    outer = APIRouter()
    outer.include_router(router, prefix="/v{version}")
    sub = FastAPI()
    sub.add_api_route("/things/{thing}", lambda thing: thing)
    sub.include_router(router)
    app = FastAPI()
    app.include_router(router)
    app.include_router(outer, prefix="/outer")
    app.add_api_route("/users/{user}", lambda user: user)
    app.add_route("/old/{x}", endpoint())
    app.mount("/sub/{tenant}", sub)
    app.mount("/static", OK)
    return app


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/users/5", "/users/{user}"),
        ("/shop/items/5", "/shop/items/{item_id}"),
        ("/outer/v2/shop/items/5", "/outer/v{version}/shop/items/{item_id}"),
        ("/plain/5", "/plain/{x}"),
        ("/outer/v2/plain/5", "/outer/v{version}/plain/{x}"),
        ("/old/5", "/old/{x}"),
        ("/openapi.json", "/openapi.json"),
        ("/sub/acme/things/5", "/sub/{tenant}/things/{thing}"),
        ("/sub/acme/shop/items/5", "/sub/{tenant}/shop/items/{item_id}"),
        ("/sub/acme/nowhere", None),
        ("/static/x", "/static/{path}"),
        ("/nowhere", None),
    ],
)
@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_route_is_the_full_template_in_fastapi(recorder, provider, path, route, method):
    """Included routers, their prefixes, plain routes and mounted applications; 405 has its route too."""
    app = TracingMiddleware(fastapi_tree(), provider)
    for _ in range(2):
        call(app, http_scope(path, method=method))
    assert [span.attributes.get("http.route") for span in recorder.spans] == [route, route]


def test_route_in_a_middleware_of_a_mounted_application(recorder, provider):
    """From inside a mounted application the template still begins at the outermost router."""
    inner = Starlette(routes=[Route("/x/{id}", endpoint())], middleware=[Middleware(TracingMiddleware, provider)])
    call(Starlette(routes=[Mount("/m/{tenant}", inner)]), http_scope("/m/acme/x/1"))
    assert recorder.only.attributes["http.route"] == "/m/{tenant}/x/{id}"


def test_route_cache_is_bounded(provider):
    """A mount parameter that takes many values can't fill the memory."""
    app = TracingMiddleware(starlette_tree(), provider)
    for number in range(_CACHE_LIMIT + 10):
        call(app, http_scope(f"/api/t{number}/items/5"))
    assert 0 < len(_templates) <= _CACHE_LIMIT


# When it ends


MORE = {"type": "http.response.body", "body": b"ab", "more_body": True}
LENGTH = {**START, "headers": [(b"Content-Length", b"4")]}


@pytest.mark.parametrize(
    ("messages", "ended", "changes"),
    [
        ([START, BODY], [0, 1], {}),
        ([START, MORE, MORE, BODY], [0, 0, 0, 1], {}),
        ([LENGTH, MORE, MORE, BODY], [0, 0, 1, 1], {}),
        ([{**LENGTH, "headers": iter([(b"content-length", b"4")])}, MORE, MORE, BODY], [0, 0, 0, 1], {}),
        ([START, BODY], [1, 1], {"method": "HEAD"}),
        ([{**START, "status": 204}, BODY], [1, 1], {}),
        ([{**START, "headers": [(b"content-length", b"0")]}, {"type": "http.response.body"}], [1, 1], {}),
        (
            [
                {**START, "trailers": True},
                BODY,
                {"type": "http.response.trailers", "headers": [], "more_trailers": True},
                {"type": "http.response.trailers", "headers": []},
            ],
            [0, 0, 0, 1],
            {},
        ),
        ([START, {"type": "http.response.pathsend", "path": "/x"}], [0, 1], {}),
        (
            [
                START,
                {"type": "http.response.zerocopysend", "file": 3, "more_body": True},
                {"type": "http.response.zerocopysend", "file": 3},
            ],
            [0, 0, 1],
            {},
        ),
        ([{"type": "http.response.debug", "info": {}}, START, BODY], [0, 0, 1], {}),
    ],
)
def test_span_has_ended_before_the_response_is_complete(recorder, provider, messages, ended, changes):
    """It has ended before the message is sent with which a client has the whole response."""
    client = call(TracingMiddleware(responder(*messages), provider), http_scope(**changes), recorder=recorder)
    assert client.ended == ended
    assert client.messages == messages
    assert recorder.only.attributes["http.response.status_code"] == messages[-2 if len(messages) == 2 else 0].get(
        "status", 200
    )


@pytest.mark.parametrize("response", [RedirectResponse("/"), StreamingResponse(iter(["a", "b"])), JSONResponse({})])
def test_starlette_responses_end_the_span_in_time(recorder, provider, response):
    """Also where Starlette's middleware turns a plain response into a stream with a declared length."""
    app = Starlette(
        routes=[Route("/", lambda request: response)],
        middleware=[Middleware(BaseHTTPMiddleware, dispatch=lambda request, call_next: call_next(request))],
    )
    client = call(TracingMiddleware(app, provider), recorder=recorder)
    last = max(number for number, message in enumerate(client.messages) if message.get("body") or number == 0)
    assert client.ended[last] == 1 or client.messages[last].get("more_body")
    assert client.ended[-1] == 1
    assert recorder.only, "exactly one"


def test_a_stream_lasts_until_its_last_chunk(recorder, provider):
    """The duration covers the whole stream, not only its start."""
    seen = []

    async def app(scope, receive, send):
        await send(START)
        await send(MORE)
        seen.append(len(recorder.spans))
        await send(BODY)

    call(TracingMiddleware(app, provider))
    assert seen == [0]
    assert len(recorder.spans) == 1


def test_an_application_that_never_answers_ends_its_span(recorder, provider):
    """No response, no status code; the span is recorded all the same."""
    call(TracingMiddleware(responder(), provider))
    assert "http.response.status_code" not in recorder.only.attributes
    assert recorder.only.status.status_code is StatusCode.UNSET


def test_a_failing_background_task_comes_too_late(recorder, provider):
    """The span has ended with the response; what fails afterwards still reaches the server unchanged."""
    response = PlainTextResponse("ok", background=BackgroundTask(raising(Boom("late")), None))
    with pytest.raises(Boom):
        call(TracingMiddleware(Starlette(routes=[Route("/", lambda request: response)]), provider))
    assert recorder.only.status.status_code is StatusCode.UNSET


# Exceptions


def error_of(span):
    return [event.attributes["exception.type"].rpartition(".")[2] for event in span.events if event.name == "exception"]


def test_unhandled_exception_is_on_the_span_before_the_500_is_complete(recorder, provider):
    """ServerErrorMiddleware answers, then raises: the exception is on the span before its answer."""
    app = TracingMiddleware(Starlette(routes=[Route("/", raising(Boom("why")))]), provider)
    client = Client(recorder)
    with pytest.raises(Boom, match="why"):
        client.call(app, http_scope())
    span = recorder.only
    assert client.ended == [0, 1]
    assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, "Boom: why")
    assert span.attributes["http.response.status_code"] == 500
    assert span.attributes["error.type"].endswith("test_asgi.Boom")
    assert span.attributes["http.route"] == "/"
    assert error_of(span) == ["Boom"]


@pytest.mark.parametrize("inside", [True, False])
def test_exception_without_a_response_is_a_500(recorder, provider, inside):
    """From a bare application or inside ServerErrorMiddleware: recorded once, raised unchanged."""
    error = Boom("why")

    async def bare(scope, receive, send):
        raise error

    app = TracingMiddleware(bare, provider)
    if inside:
        route = Route("/", raising(error))
        app = Starlette(routes=[route], middleware=[Middleware(TracingMiddleware, provider)])
    with pytest.raises(Boom) as caught:
        call(app)
    assert caught.value is error
    assert recorder.only.attributes["http.response.status_code"] == 500
    assert error_of(recorder.only) == ["Boom"]


def test_exception_in_a_stream_keeps_the_status_that_was_sent(recorder, provider):
    """A response that breaks off is an error with the status code that the client has seen."""

    async def app(scope, receive, send):
        await send(START)
        await send(MORE)
        raise Boom("half way")

    with pytest.raises(Boom):
        call(TracingMiddleware(app, provider))
    assert recorder.only.attributes["http.response.status_code"] == 200
    assert recorder.only.status.status_code is StatusCode.ERROR
    assert error_of(recorder.only) == ["Boom"]


@pytest.mark.parametrize(
    ("error", "status", "events", "code"),
    [
        (HTTPException(404), 404, [], StatusCode.UNSET),
        (KeyError("gone"), 410, [], StatusCode.UNSET),
        (HTTPException(503), 503, ["HTTPException"], StatusCode.ERROR),
        (LookupError("db"), 502, ["LookupError"], StatusCode.ERROR),
    ],
)
def test_handled_exceptions_count_by_their_answer(recorder, provider, error, status, events, code):  # noqa: PLR0917  # a case's columns
    """A handler that makes it a 4xx makes it no error; one that makes it a 5xx has its cause recorded."""

    async def gone(request, exc):
        return PlainTextResponse("gone", 410)

    async def bad(request, exc):
        return PlainTextResponse("bad", 502)

    app = Starlette(routes=[Route("/", raising(error))], exception_handlers={KeyError: gone, LookupError: bad})
    call(TracingMiddleware(app, provider))
    span = recorder.only
    assert (span.attributes["http.response.status_code"], span.status.status_code) == (status, code)
    assert error_of(span) == events
    assert ("error.type" in span.attributes) == (status >= 500)


def test_plain_5xx_is_an_error_without_description(recorder, provider):
    """Nothing was raised: the status code itself is the type of the error."""
    call(TracingMiddleware(responder({**START, "status": 503}, BODY), provider))
    span = recorder.only
    assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, None)
    assert span.attributes["error.type"] == "503"
    assert not span.events


def test_an_exception_around_the_request_is_not_its_own(recorder, provider):
    """A server or test that calls the application while handling something else doesn't blame it."""
    app = TracingMiddleware(responder({**START, "status": 503}, BODY), provider)

    async def main():
        try:
            raise Boom("another")  # noqa: TRY301  # what is being handled
        except Boom:
            await app(http_scope(), Client().receive, Client().send)

    asyncio.run(main())
    assert not recorder.only.events


def test_an_exception_without_text_is_recorded(recorder, provider):
    """Even an exception whose `__str__` fails leaves an ended error span."""

    class Mute(Exception):
        def __str__(self):
            raise RuntimeError("no words")

    with pytest.raises(Mute):
        call(TracingMiddleware(Starlette(routes=[Route("/", raising(Mute()))]), provider))
    assert recorder.only.status.status_code is StatusCode.ERROR
    assert recorder.only.name == "GET /"


def test_cancellation_is_no_error(recorder, provider):
    """A cancelled request ends its span with status unset and no event, and says what cut it short."""
    waiting = asyncio.Event

    async def main():
        started = waiting()

        async def app(scope, receive, send):
            started.set()
            await asyncio.Event().wait()

        client = Client()
        task = asyncio.create_task(TracingMiddleware(app, provider)(http_scope(), client.receive, client.send))
        await started.wait()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    asyncio.run(main())
    span = recorder.only
    assert span.status.status_code is StatusCode.UNSET
    assert not span.events
    assert span.attributes["error.type"] == "asyncio.exceptions.CancelledError"


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_goes_away_is_no_error(recorder, provider, stream):
    """Neither the server's OSError nor Starlette's ClientDisconnect counts against the service."""

    async def serve(request):
        return StreamingResponse(iter(["a", "b"])) if stream else PlainTextResponse("ok")

    app = TracingMiddleware(Starlette(routes=[Route("/", serve)]), provider)
    fail_at = "http.response.body" if stream else "http.response.start"
    with pytest.raises(ClientDisconnect if stream else OSError):
        call(app, fail_at=fail_at)
    span = recorder.only
    assert span.status.status_code is StatusCode.UNSET
    assert not span.events
    assert span.attributes["error.type"] == ("starlette.requests.ClientDisconnect" if stream else "OSError")


def test_an_upload_that_breaks_off_is_no_error(recorder, provider):
    """The 500 that Starlette makes of it can reach nobody, so it isn't told."""
    app = TracingMiddleware(Starlette(routes=[Route("/", raising(ClientDisconnect()))]), provider)
    with pytest.raises(ClientDisconnect):
        call(app)
    span = recorder.only
    assert (span.status.status_code, span.events) == (StatusCode.UNSET, ())
    assert "http.response.status_code" not in span.attributes


def test_an_oserror_of_the_application_is_an_error(recorder, provider):
    """A missing file isn't taken for a client that has gone."""
    with pytest.raises(FileNotFoundError):
        call(TracingMiddleware(Starlette(routes=[Route("/", raising(FileNotFoundError("x")))]), provider))
    assert error_of(recorder.only) == ["FileNotFoundError"]


def test_a_coroutine_closed_by_its_loop_ends_its_span(recorder, provider, caplog):
    """A loop that shuts down in the middle of a request loses no span and complains of nothing."""

    async def app(scope, receive, send):
        await asyncio.Event().wait()

    running = TracingMiddleware(app, provider)(http_scope(), Client().receive, Client().send)

    async def main():
        contextvars.copy_context().run(running.send, None)
        running.close()

    asyncio.run(main())
    assert not caplog.records
    assert recorder.only.attributes["error.type"] == "GeneratorExit"


# What isn't recorded


def own_routes(scope_mark):
    async def app(scope, receive, send):
        dict(scope)["tracekeep"].update(scope_mark)
        await OK(scope, receive, send)

    return app


@pytest.mark.parametrize(("kept", "spans"), [(False, 0), (True, 1)])
def test_requests_marked_as_our_own_are_not_recorded(recorder, provider, kept, spans):
    """`record` set to False anywhere below, also in a copy of the scope, keeps the span from ending."""
    app = Starlette(routes=[Mount("/observability", own_routes({"record": False}))])
    call(TracingMiddleware(app, provider, record_own_routes=kept), http_scope("/observability/metrics"))
    assert len(recorder.spans) == spans


def test_a_second_middleware_does_nothing(recorder, provider):
    """Installed twice, a request still makes one span."""
    call(TracingMiddleware(TracingMiddleware(OK, provider), provider))
    assert recorder.started == 1


@pytest.mark.parametrize("kind", ["lifespan", "websocket", "something.else"])
def test_other_connections_pass_untouched(recorder, provider, kind):
    """Scope, receive and send are handed on as they are."""
    seen = []

    async def app(*arguments):
        seen.extend(arguments)

    client, scope = Client(), {"type": kind}
    asyncio.run(TracingMiddleware(app, provider)(scope, client.receive, client.send))
    assert seen == [{"type": kind}, client.receive, client.send]
    assert not recorder.started


def test_frameworks_own_server_spans_are_off(recorder, provider):
    """FastAPI's and Starlette's telemetry would count the request a second time."""
    app = FastAPI(telemetry={"tracer_provider": provider})
    app.add_middleware(StarletteTelemetry, tracer_provider=provider)
    app.add_api_route("/x", lambda: 1)
    call(TracingMiddleware(app, provider), http_scope("/x"))
    assert recorder.only.instrumentation_scope.name == "tracekeep.asgi"


def test_frameworks_own_server_spans_stay_without_ours(recorder, provider):
    """Where we record nothing (no SDK, or it is disabled), nobody else is turned off."""
    app = FastAPI(telemetry={"tracer_provider": provider, "operation_spans": False})
    app.add_api_route("/x", lambda: 1)
    call(TracingMiddleware(app, trace.NoOpTracerProvider()), http_scope("/x"))
    assert recorder.only.instrumentation_scope.name == "fastapi"


# Context


def nested(provider):
    async def app(scope, receive, send):
        with provider.get_tracer("app").start_as_current_span("child"):
            await OK(scope, receive, send)

    return app


def test_spans_of_the_application_are_children(recorder, provider):
    """The server span is current while the application runs, and no longer afterwards."""
    call(TracingMiddleware(nested(provider), provider))
    server, child = recorder.spans
    assert child.parent.span_id == server.context.span_id
    assert not trace.get_current_span().get_span_context().is_valid


@pytest.mark.parametrize("valid", [True, False])
def test_the_callers_trace_is_continued(recorder, provider, valid):
    """A traceparent is the remote parent; a broken one is none."""
    header = PARENT if valid else PARENT[:-5]
    call(
        TracingMiddleware(OK, provider),
        http_scope(headers=[(b"traceparent", header), (b"tracestate", b"a=b")]),
    )
    span = recorder.only
    assert (span.parent is not None) == valid
    if valid:
        assert f"{span.context.trace_id:032x}" == PARENT.decode()[3:35]
        assert span.parent.is_remote
        assert span.context.trace_state["a"] == "b"


def test_baggage_reaches_the_application(provider):
    """Baggage without a trace is carried too, several headers as one list."""
    seen = {}

    async def app(scope, receive, send):
        seen.update(otel_context.get_current().get("baggage") or {})
        seen.update(__import__("opentelemetry.baggage", fromlist=["x"]).get_all())

    call(TracingMiddleware(app, provider), http_scope(headers=[(b"baggage", b"a=1"), (b"baggage", b"b=2")]))
    assert seen == {"a": "1", "b": "2"}


class OddPropagator(TextMapPropagator):
    """Reads another header than it says it writes, as B3 and Jaeger do."""

    def extract(self, carrier, context=None, getter=None):
        value = getter.get(carrier, "X-Trace")
        if not value:
            return context
        trace_id, span_id = (int(part, 16) for part in value[0].split("-"))
        remote = trace.SpanContext(trace_id, span_id, is_remote=True, trace_flags=trace.TraceFlags(1))
        return trace.set_span_in_context(trace.NonRecordingSpan(remote), context)

    def inject(self, carrier, context=None, setter=None):
        raise NotImplementedError

    @property
    def fields(self):
        return {"x-other"}


@pytest.mark.parametrize(("value", "parent"), [(b"ab-cd", 0xCD), (b"garbage", None)])
def test_other_propagators_are_honoured(recorder, provider, monkeypatch, value, parent):
    """Also one that is set later, asks in another case, or fails."""
    app = TracingMiddleware(OK, provider)
    call(app)
    monkeypatch.setattr(propagate, "_HTTP_TEXT_FORMAT", OddPropagator())
    monkeypatch.setattr(asgi, "_complaints", Complaints(asgi._logger))
    call(app, http_scope(headers=[(b"x-trace", value)]))
    found = recorder.spans[1].parent
    assert (found and found.span_id) == parent


def test_an_enclosing_span_is_the_parent(recorder, provider):
    """Without headers an open span around the call is the parent, one that has ended is not."""
    tracer = provider.get_tracer("outer")
    client = Client()

    async def main():
        with tracer.start_as_current_span("outer") as outer:
            await TracingMiddleware(OK, provider)(http_scope(), client.receive, client.send)
            outer.end()
            await TracingMiddleware(OK, provider)(http_scope(), client.receive, client.send)

    asyncio.run(main())
    first, outer, second = recorder.spans
    assert first.parent.span_id == outer.context.span_id
    assert second.parent is None


def test_a_request_that_isnt_sampled_still_propagates():
    """Nothing is recorded, `send` isn't wrapped, but the trace goes on."""
    seen = []

    async def app(scope, receive, send):
        seen.append((trace.get_current_span().get_span_context(), send))

    client = Client()
    middleware = TracingMiddleware(app, TracerProvider(sampler=ALWAYS_OFF))
    client.call(middleware, http_scope(headers=[(b"traceparent", PARENT)]))
    ((context, send),) = seen
    assert f"{context.trace_id:032x}" == PARENT.decode()[3:35]
    assert send == client.send


def test_concurrent_requests_keep_their_own_context(recorder, provider):
    """Each of many interleaved requests sees its own span, and children belong to the right parent."""
    count = 20

    async def main():
        barrier = asyncio.Barrier(count)

        async def app(scope, receive, send):
            await barrier.wait()
            with provider.get_tracer("app").start_as_current_span(scope["path"]):
                await barrier.wait()
            await OK(scope, receive, send)

        middleware, client = TracingMiddleware(app, provider), Client()
        await asyncio.gather(*(middleware(http_scope(f"/{n}"), client.receive, client.send) for n in range(count)))

    asyncio.run(main())
    paths = {span.context.span_id: span.attributes["url.path"] for span in recorder.spans if span.attributes}
    children = [span for span in recorder.spans if not span.attributes]
    assert len(children) == count
    assert all(paths[child.parent.span_id] == child.name for child in children)


# The host never notices


class Broken(SpanProcessor):
    def __init__(self, where):
        self.where = where

    def on_start(self, span, parent_context=None):
        if self.where == "start":
            raise RuntimeError("broken processor")

    def on_end(self, span):
        if self.where == "end":
            raise RuntimeError("broken processor")


@pytest.mark.parametrize("where", ["start", "end"])
def test_a_failing_processor_is_reported_once_and_harms_nobody(monkeypatch, caplog, where):
    """The request is answered in full; the log says so at most every 20 s."""
    monkeypatch.setattr(asgi, "_complaints", Complaints(asgi._logger))
    provider = TracerProvider()
    provider.add_span_processor(Broken(where))
    app = TracingMiddleware(OK, provider)
    for _ in range(3):
        assert call(app).messages == [START, BODY]
    assert [record.levelname for record in caplog.records if record.name.endswith("asgi")] == ["WARNING"]


ODD = st.one_of(
    st.none(), st.integers(), st.text(max_size=5), st.binary(max_size=9), st.lists(st.integers(), max_size=3)
)
HEADERS = st.lists(
    st.tuples(
        st.sampled_from([b"host", b"user-agent", b"traceparent", b"baggage", b"forwarded", b"x-forwarded-host", b"a"]),
        st.binary(max_size=40),
    ),
    max_size=6,
)


@settings(max_examples=300, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(
            [
                "method",
                "path",
                "scheme",
                "http_version",
                "query_string",
                "client",
                "server",
                "root_path",
                "route",
            ]
        ),
        ODD,
    ),
    st.one_of(HEADERS, ODD, st.lists(ODD, max_size=3)),
    st.lists(st.sampled_from([START, MORE, BODY, LENGTH, {"type": "x"}, {"type": "http.response.body", "body": None}])),
)
def test_odd_scopes_and_messages_never_raise(changes, headers, messages):
    """Whatever a server or client makes up, the application runs and the span is well-formed."""
    recorder, provider = Recorder(), TracerProvider()
    provider.add_span_processor(recorder)
    client = call(TracingMiddleware(responder(*messages), provider), http_scope(**changes, headers=headers))
    assert client.messages == messages
    for value in recorder.only.attributes.values():
        assert type(value) in (str, int)
        str(value).encode()  # no lone surrogates


def test_a_nearly_empty_scope_is_enough(recorder, provider):
    """Everything that is missing is left out."""
    call(TracingMiddleware(OK, provider), {"type": "http"})
    assert recorder.only.name == "HTTP"


# A real server


@contextlib.contextmanager
def serving(app):
    """Run uvicorn on a free loopback port, in a thread, until the block ends."""
    listener = socket.create_server(("127.0.0.1", 0))
    started = threading.Event()

    class Server(uvicorn.Server):
        async def startup(self, sockets=None):
            await super().startup(sockets)
            started.set()

    server = Server(uvicorn.Config(app, log_level="critical", lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        assert started.wait(10)
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(10)
        listener.close()


def request_line(path):
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()


def test_a_client_with_its_response_finds_the_span_recorded(recorder, provider):
    """Over a real socket: once the last byte is here, the span is there, streamed or not."""

    async def stream(request):
        return StreamingResponse(iter(["a"] * 100))

    app = Starlette(routes=[Route("/plain", endpoint()), Route("/stream", stream), Route("/fail", raising(Boom()))])
    with serving(TracingMiddleware(app, provider)) as port:
        for count, path in enumerate(["/plain", "/stream", "/fail"], start=1):
            with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
                connection.sendall(request_line(path))
                while connection.recv(65536):
                    pass
            assert len(recorder.spans) == count
    assert [span.name for span in recorder.spans] == ["GET /plain", "GET /stream", "GET /fail"]


def test_a_client_that_hangs_up_ends_the_span(recorder, provider):
    """Over a real socket: an endless stream whose reader has gone ends, without an error."""

    async def endless(request):
        async def chunks():
            yield "first"
            while not await request.is_disconnected():  # noqa: ASYNC110  # no event to wait on
                await asyncio.sleep(0)

        return StreamingResponse(chunks())

    app = Starlette(routes=[Route("/endless", endless)])
    with serving(TracingMiddleware(app, provider)) as port:
        with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
            connection.sendall(request_line("/endless"))
            assert b"200" in connection.recv(65536)
            assert not recorder.spans
        assert recorder.ended.wait(10)
    assert recorder.only.status.status_code is StatusCode.UNSET
    assert recorder.only.attributes["http.route"] == "/endless"
