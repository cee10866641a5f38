"""Unhandled exceptions answered as RFC 9457 problem documents, for JSON APIs: at once, nothing internal told.

An exception is *expected* when it says so itself:

- `status_code` is an int from 400 to 499: answered with that status;
- `operational = True`: answered with its `status_code` if that is an int from 400 to 599, else with 400,
  because the request can't be served as it stands and nothing is broken that a 5xx should wake somebody for.

Its text is then the `detail`. Anything else is unexpected: 500, and its message stays inside.
"""

import contextlib
import json
from collections.abc import Awaitable, Callable, MutableMapping
from http import HTTPStatus
from typing import Any

from opentelemetry import trace

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]

_UNEXPECTED = 500


class JsonErrorMiddleware:
    """Answer the exceptions that leave an ASGI application with `application/problem+json`.

    The body has `type`, `title` and `status`, `detail` for expected errors, and `trace_id` (32 hex digits)
    where the request has a span. An unexpected exception is raised again once answered, so that the server
    logs it. Once a response has started nothing is sent: the exception only passes through.

    Args:
        app: the application.
        expected_only: leave unexpected exceptions to somebody else, unanswered.
    """

    def __init__(self, app: ASGIApp, *, expected_only: bool = False) -> None:
        self.app = app
        self.expected_only = expected_only

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application; see the class."""
        if scope.get("type") != "http":
            await self.app(scope, receive, send)
            return
        started = False

        async def watched(message: Message) -> None:
            nonlocal started
            started = started or message.get("type") == "http.response.start"
            await send(message)

        try:
            await self.app(scope, receive, watched)
        except Exception as error:
            problem = _Problem(error, scope)
            if started or (self.expected_only and problem.unexpected):
                raise
            with contextlib.suppress(Exception):  # the client may have gone; the server is to see `error`
                await problem(scope, receive, send)
            if problem.unexpected:
                raise


def install_json_errors(app: Any) -> None:
    """Make a Starlette or FastAPI application answer its unhandled exceptions as problem documents.

    Unexpected ones through its handler for `Exception`, which answers and raises again; expected ones through
    `JsonErrorMiddleware`, because that handler would raise them too. Handlers for other exceptions keep
    precedence.

    Args:
        app: the application, before its first request.

    Raises:
        RuntimeError: the application has started already (raised by Starlette).
    """
    app.add_middleware(JsonErrorMiddleware, expected_only=True)
    app.add_exception_handler(Exception, _handle)


async def _handle(request: Any, error: Exception) -> "_Problem":
    return _Problem(error, request.scope)


class _Problem:
    """One problem document, which sends itself as an ASGI application."""

    __slots__ = ("body", "status", "unexpected")

    def __init__(self, error: Exception, scope: Scope) -> None:
        status = _expected_status(error)
        self.unexpected = status is None
        self.status = _UNEXPECTED if status is None else status
        self.body = json.dumps(_document(self.status, _text(error) if status else None, scope)).encode()

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        length = str(len(self.body)).encode()
        headers = [(b"content-type", b"application/problem+json"), (b"content-length", length)]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": self.body})


def _expected_status(error: Exception) -> int | None:
    """Return the status that an expected error asks for, None for an unexpected one."""
    try:
        status = getattr(error, "status_code", None)
        operational = getattr(error, "operational", False) is True
    except Exception:  # a property that fails declares nothing
        return None
    if isinstance(status, int) and 400 <= status < (600 if operational else 500):
        return int(status)
    return 400 if operational else None


def _document(status: int, detail: str | None, scope: Scope) -> dict[str, Any]:
    try:
        title = HTTPStatus(status).phrase
    except ValueError:
        title = "Error"
    document: dict[str, Any] = {"type": "about:blank", "title": title, "status": status}
    if detail:
        document["detail"] = detail
    trace_id = _trace_id(scope)
    if trace_id:
        document["trace_id"] = trace_id
    return document


def _text(error: Exception) -> str | None:
    try:
        return str(error)
    except Exception:
        return None


def _trace_id(scope: Scope) -> str | None:
    """Return the trace id of the current span, or of the request's when its middleware is further in."""
    context = trace.get_current_span().get_span_context()
    own = scope.get("tracekeep")
    if not context.is_valid and isinstance(own, dict) and "span" in own:
        context = own["span"].get_span_context()
    return trace.format_trace_id(context.trace_id) if context.is_valid else None
