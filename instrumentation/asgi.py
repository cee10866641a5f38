"""Server spans for ASGI applications, after the stable HTTP semantic conventions, at little cost per request.

A span has ended, so all processors' `on_end` have returned, before the server is handed the message that
completes the response: a client that has its whole response knows that the span is kept, whatever happens to
the process then. What the application raises after that message (a background task) can't be on the span.
"""

import logging
import os
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context, attach, detach, get_current
from opentelemetry.propagators.textmap import Getter, TextMapPropagator
from opentelemetry.trace import SpanKind, StatusCode

from .complaints import Complaints
from .errors import mark_seen, text_of, type_name
from .request import declared_length, describe, header_dict
from .routes import route_template

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]

_logger = logging.getLogger(__name__)

_SCHEMA_URL = "https://opentelemetry.io/schemas/1.44.0"  # the conventions that the attributes follow
_KNOWN_METHODS = "CONNECT,DELETE,GET,HEAD,OPTIONS,PATCH,POST,PUT,QUERY,TRACE"
_W3C_FIELDS = frozenset(("traceparent", "tracestate", "baggage"))
_BODILESS = frozenset((204, 304))
_SERVER_ERROR = 500


class TracingMiddleware:
    """Record one SERVER span for every HTTP request of an ASGI application.

    Other kinds of connection pass through untouched, and so does a request that another `TracingMiddleware`
    has seen. The caller's trace is continued from the headers, through OpenTelemetry's global propagator;
    without any, the parent is the enclosing span, if one is open. `scope["tracekeep"]` is
    `{"record": True, "span": …}`: whoever sets `record` to False while handling a request keeps it from being
    recorded.

    `server.address` is what the client asked for (Forwarded, X-Forwarded-Host, Host); `client.address` and
    `url.scheme` are the server's word, which knows the proxies to trust. FastAPI's and Starlette's own server
    spans are turned off for the request, which would otherwise be counted twice.

    Args:
        app: the application.
        tracer_provider: the provider to use; by default the global one, also if that is only set later.
        record_own_routes: record requests even when `record` was set to False.
    """

    def __init__(
        self,
        app: ASGIApp,
        tracer_provider: trace.TracerProvider | None = None,
        *,
        record_own_routes: bool = False,
    ) -> None:
        from opentelemetry.propagate import get_global_textmap  # noqa: PLC0415  # looks for entry points when imported

        self.app = app
        self._propagator_in_use = get_global_textmap
        self._tracer = trace.get_tracer("tracekeep.asgi", _version(), tracer_provider, _SCHEMA_URL)
        self._record_own_routes = record_own_routes
        methods = os.environ.get("OTEL_INSTRUMENTATION_HTTP_KNOWN_METHODS", "").strip() or _KNOWN_METHODS
        self._methods = frozenset(method.strip() for method in methods.split(","))
        self._propagator: TextMapPropagator | None = None
        self._always_extract = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection; see the class. Raises only what the application raises."""
        exchange = None
        if scope.get("type") == "http" and "tracekeep" not in scope:
            exchange = self._begin(scope, send)
        if exchange is None:
            await self.app(scope, receive, send)
            return
        token, closed = attach(exchange.context), False
        try:
            await self.app(scope, receive, send if exchange.ended else exchange.send)
        except BaseException as error:
            exchange.fail(error)
            closed = isinstance(error, GeneratorExit)  # maybe in another context: none to go back to
            raise
        finally:
            exchange.finish()
            if not closed:
                detach(token)

    def _begin(self, scope: Scope, send: Send) -> "_Exchange | None":
        """Start the request's span. A failure of ours is reported and leaves the request alone."""
        try:
            headers = header_dict(scope)
            verb, attributes = describe(scope, headers, self._methods)
            parent = self._parent(scope, headers)
            span = self._tracer.start_span(verb, parent, SpanKind.SERVER, attributes)
            context = trace.set_span_in_context(span, parent)
            exchange = _Exchange(span, context, scope, send, verb)
            if self._record_own_routes:
                exchange.keep()
        except Exception:
            _report("start a span")
            return None
        return exchange

    def _parent(self, scope: Scope, headers: dict[bytes, bytes]) -> Context:
        context = get_current()
        if context and getattr(trace.get_current_span(context), "end_time", None) is not None:
            # Servers leak the context in which they were started: a span that has ended is nobody's parent.
            context = trace.set_span_in_context(trace.INVALID_SPAN, context)
        propagator = self._propagator_in_use()
        if propagator is not self._propagator:
            self._learn(propagator)
        if b"traceparent" in headers or b"baggage" in headers or self._always_extract:
            return _extracted(propagator, scope, context)
        return context

    def _learn(self, propagator: TextMapPropagator) -> None:
        """Find out which headers carry the caller's context.

        W3C's propagators read what `fields` says. Of others (B3, Jaeger) that isn't sure, as some read more
        than they write: they are always asked.
        """
        self._always_extract = not _W3C_FIELDS.issuperset(propagator.fields)
        self._propagator = propagator


class _Exchange:
    """One request, from the start of its span to the message that completes the response.

    None of the methods raises anything of ours; `send` raises what the server's `send` does.
    """

    _status = 0
    _trailers = False
    _left: int | None = None  # of a declared Content-Length, what is still to be sent
    _error: BaseException | None = None
    _gone: OSError | None = None
    _outer: BaseException | None = None  # in flight around the request, so not the request's own

    def __init__(self, span: trace.Span, context: Context, scope: Scope, send: Send, verb: str) -> None:
        self.span = span
        self.context = context
        self.ended = not span.is_recording()
        self._scope = scope
        self._send = send
        self._verb = verb
        self._mark = scope["tracekeep"] = {"record": True, "span": span}
        if outer := sys.exception():
            self._outer = outer
        if not self.ended or span.get_span_context().is_valid:
            scope.setdefault("fastapi.telemetry", None)
            scope["starlette.opentelemetry"] = True

    async def send(self, message: Message) -> None:
        """Pass a message on to the server, once the span has ended if it completes the response."""
        if not self.ended:
            try:
                kind = message["type"]
                if kind == "http.response.start":
                    self._note_start(message)
                elif kind != "http.response.body" or self._trailers or message.get("more_body", False):
                    self._note(kind, message)
                else:
                    self.finish()
            except Exception:
                _report("follow a response")
        try:
            await self._send(message)
        except OSError as error:
            self._gone = error
            raise

    def _note_start(self, message: Message) -> None:
        status = self._status = int(message["status"])
        if status >= _SERVER_ERROR:
            # Handlers, and Starlette's ServerErrorMiddleware, answer from within their `except` block.
            error = sys.exception()
            if error is not None and error is not self._outer:
                self._error = error
                if self._is_disconnect(error):
                    self._status = 0  # there is nobody to get this answer
        if message.get("trailers", False):
            self._trailers = True
            return
        headers = message.get("headers")
        if headers.__class__ is list or headers.__class__ is tuple:  # another may be readable only once
            self._left = declared_length(headers)
        if self._left == 0 or status in _BODILESS or self._scope.get("method") == "HEAD":
            self.finish()  # servers send such a response with this message

    def _note(self, kind: str, message: Message) -> None:
        if kind == "http.response.trailers":
            complete = not message.get("more_trailers", False)
        elif self._trailers:
            complete = False
        elif kind == "http.response.body" and self._left is not None:
            # A client with all the declared bytes has the whole response, whatever `more_body` says.
            self._left -= len(message.get("body", b""))
            complete = self._left <= 0
        else:
            complete = kind == "http.response.pathsend" or (
                kind == "http.response.zerocopysend" and not message.get("more_body", False)
            )
        if complete:
            self.finish()

    def keep(self) -> None:
        """Record the request whatever the application makes of the mark in its scope."""
        self._mark = {"record": True}

    def fail(self, error: BaseException) -> None:
        """End the span with the exception that left the application."""
        if not self.ended:
            self._error = error
            if not self._status and not self._is_disconnect(error):
                self._status = 500  # what the server will answer
            self.finish()

    def finish(self) -> None:
        """End the span, unless it has ended or the request isn't to be recorded."""
        if self.ended:
            return
        self.ended = True
        if not self._mark["record"]:
            return
        try:
            self._complete()
        except Exception:
            _report("complete a span")
        try:
            self.span.end()
        except Exception:
            _report("end a span")

    def _complete(self) -> None:
        span, error = self.span, self._error
        if self._status:
            span.set_attribute("http.response.status_code", self._status)
        if self._status >= _SERVER_ERROR or error is not None:
            self._judge(error)
        route = route_template(self._scope)
        if route:
            span.set_attribute("http.route", route)
            if getattr(span, "name", self._verb) == self._verb:  # else the application has named it
                span.update_name(f"{self._verb} {route}")
        if error is not None and not self._is_disconnect(error):
            span.record_exception(error)
            mark_seen(error)

    def _judge(self, error: BaseException | None) -> None:
        """Set `error.type` and status of a request that went wrong or was given up."""
        if error is None:
            self.span.set_attribute("error.type", str(self._status))
            if getattr(getattr(self.span, "status", None), "is_unset", True):  # else keep what it describes
                self.span.set_status(StatusCode.ERROR)
            return
        self.span.set_attribute("error.type", type_name(type(error)))
        if not self._is_disconnect(error):
            self.span.set_status(StatusCode.ERROR, f"{type(error).__name__}: {text_of(error)}")

    def _is_disconnect(self, error: BaseException) -> bool:
        """Tell whether the request was given up rather than failed.

        A cancelled task, a closing loop and a client that has gone are no errors of the service: they leave
        the status unset and make no event. `error.type` says what cut the request short.
        """
        if not isinstance(error, Exception) or type(error).__name__ == "ClientDisconnect":
            return True
        return self._gone is not None and self._gone in (error, error.__context__, error.__cause__)


class _HeaderGetter(Getter[dict[str, list[str]]]):
    """Reads headers for the propagators, whatever case they ask in."""

    def get(self, carrier: dict[str, list[str]], key: str) -> list[str] | None:
        return carrier.get(key.lower())

    def keys(self, carrier: dict[str, list[str]]) -> list[str]:
        return list(carrier)


_GETTER = _HeaderGetter()


def _extracted(propagator: TextMapPropagator, scope: Scope, context: Context) -> Context:
    try:
        carrier: dict[str, list[str]] = {}
        for name, value in scope["headers"]:
            carrier.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
        if "baggage" in carrier:  # several are one list (W3C Baggage); the propagator reads only the first
            carrier["baggage"] = [",".join(carrier["baggage"])]
        return propagator.extract(carrier, context, _GETTER)
    except Exception:
        _report("read the caller's trace context")
        return context


def _version() -> str | None:
    from importlib import metadata  # noqa: PLC0415  # 20 ms, for who makes a middleware

    try:
        return metadata.version("tracekeep")
    except metadata.PackageNotFoundError:  # run from a checkout that isn't installed
        return None


_complaints = Complaints(_logger)


def _report(what: str) -> None:
    """Log a failure of our own, from inside its `except` block."""
    _complaints.note("tracekeep could not %s; the request goes on without", what)
