"""The promises of the problem documents: told at once, nothing internal told, and the exception goes on."""

# ruff: noqa: ARG001  # ASGI callables, endpoints and processors have the signature that is called
# ruff: noqa: N818  # exceptions of a service are named as services name them

import asyncio
import json

import pytest
from fastapi import FastAPI
from opentelemetry.sdk.trace import TracerProvider
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from tk_asgi import http_scope

from tracekeep.instrumentation.asgi import TracingMiddleware
from tracekeep.instrumentation.json_errors import JsonErrorMiddleware, install_json_errors


class Boom(Exception):
    """Unexpected."""


class Missing(Exception):
    status_code = 404


class Busy(Exception):
    operational = True
    status_code = 503


class Invalid(Exception):
    operational = True


class Shouting(Exception):
    status_code = 500


class Failing(Exception):
    @property
    def status_code(self):
        raise RuntimeError("no status")


class Mute(Exception):
    operational = True

    def __str__(self):
        raise RuntimeError("no words")


def failing(error, *messages):
    async def app(scope, receive, send):
        for message in messages:
            await send(message)
        raise error

    return app


def answer(app, path="/", send_error=None):
    """Call the application; return what it sent, and what it raised."""
    sent, raised = [], None

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message):
        if send_error:
            raise send_error
        sent.append(message)

    try:
        asyncio.run(app(http_scope(path), receive, send))
    except Exception as error:
        raised = error
    return sent, raised


def problem(sent):
    start, body = sent
    headers = dict(start["headers"])
    assert headers[b"content-type"] == b"application/problem+json"
    assert int(headers[b"content-length"]) == len(body["body"])
    document = json.loads(body["body"])
    assert document["status"] == start["status"]
    return document


def starlette_app(error, **how):
    async def serve(request):
        raise error

    app = Starlette(routes=[Route("/", serve)], **how)
    install_json_errors(app)
    return app


def fastapi_app(error):
    async def serve():
        raise error

    app = FastAPI()
    app.add_api_route("/", serve)
    install_json_errors(app)
    return app


def wrapped_app(error):
    return JsonErrorMiddleware(failing(error))


APPS = pytest.mark.parametrize("make", [wrapped_app, starlette_app, fastapi_app])


@APPS
@pytest.mark.parametrize("error", [Boom("secret"), Shouting("secret"), Failing("secret")])
def test_unexpected_errors_say_nothing_and_go_on(make, error):
    """A 500 without the message; the very same exception reaches the server."""
    sent, raised = answer(make(error))
    assert problem(sent) == {"type": "about:blank", "title": "Internal Server Error", "status": 500}
    assert raised is error


@APPS
@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (Missing("no item 5"), {"title": "Not Found", "status": 404, "detail": "no item 5"}),
        (Busy("try later"), {"title": "Service Unavailable", "status": 503, "detail": "try later"}),
        (Invalid("no such unit"), {"title": "Bad Request", "status": 400, "detail": "no such unit"}),
        (Mute(), {"title": "Bad Request", "status": 400}),
    ],
)
def test_expected_errors_show_their_text(make, error, expected):
    """An exception that declares itself expected is answered as it asks, and is no crash for the server."""
    sent, raised = answer(make(error))
    assert problem(sent) == {"type": "about:blank", **expected}
    assert raised is None


def test_a_status_without_a_name_has_a_title():
    """A 4xx that HTTP doesn't know still makes a document."""
    error = Missing("x")
    error.status_code = 499
    assert problem(answer(wrapped_app(error))[0])["title"] == "Error"


@pytest.mark.parametrize("error", [Boom(), Missing()])
def test_a_response_that_has_started_is_left_alone(error):
    """Nothing more is sent; the exception passes through, expected or not."""
    start = {"type": "http.response.start", "status": 200, "headers": []}
    sent, raised = answer(JsonErrorMiddleware(failing(error, start)))
    assert sent == [start]
    assert raised is error


def test_a_client_that_has_gone_hides_nothing():
    """When the answer can't be sent, the server still sees the application's exception."""
    error = Boom()
    assert answer(wrapped_app(error), send_error=OSError()) == ([], error)


@pytest.mark.parametrize("kind", ["websocket", "lifespan"])
def test_other_connections_pass_untouched(kind):
    """Scope, receive and send are handed on as they are."""
    seen = []

    async def app(*arguments):
        seen.extend(arguments)

    asyncio.run(JsonErrorMiddleware(app)({"type": kind}, None, None))
    assert seen == [{"type": kind}, None, None]


def test_the_applications_own_handlers_come_first():
    """HTTPException and exceptions with a handler are answered as before."""

    async def gone(request, error):
        return PlainTextResponse("gone", 410)

    assert answer(starlette_app(Missing(), exception_handlers={Missing: gone}))[0][0]["status"] == 410
    assert answer(starlette_app(HTTPException(404)))[0][1]["body"] == b"Not Found"


@pytest.mark.parametrize("place", ["outside", "inside"])
def test_the_trace_id_is_told(place):
    """Whether the span is current or its middleware is further in, the document names its trace."""
    spans = []
    provider = TracerProvider()
    if place == "outside":
        app = TracingMiddleware(starlette_app(Boom()), provider)
    else:
        app = starlette_app(Boom(), middleware=[Middleware(TracingMiddleware, provider)])

    async def watched(scope, receive, send):
        try:
            await app(scope, receive, send)
        finally:
            spans.append(scope["tracekeep"]["span"])

    sent, _ = answer(watched)
    assert problem(sent)["trace_id"] == f"{spans[0].get_span_context().trace_id:032x}"
    assert spans[0].events[0].attributes["exception.type"].endswith("Boom")
