"""Server spans for ASGI applications, after the stable HTTP semantic conventions, at little cost per request.

A span has ended, so all processors' `on_end` have returned, before the server is handed the message that
completes the response: a client that has its whole response knows that the span is kept, whatever happens to
the process then. What the application raises after that message (a background task) can't be on the span.
"""

import logging
import os
import re
import sys
import time
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from functools import lru_cache
from typing import Any
from urllib.parse import unquote_plus

from opentelemetry import trace
from opentelemetry.context import Context, attach, detach, get_current
from opentelemetry.propagators.textmap import Getter, TextMapPropagator
from opentelemetry.trace import SpanKind, StatusCode

from .routes import route_template

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]
_Attributes = dict[str, str | int]

_logger = logging.getLogger(__name__)

_SCHEMA_URL = "https://opentelemetry.io/schemas/1.44.0"  # the conventions that the attributes follow
_KNOWN_METHODS = "CONNECT,DELETE,GET,HEAD,OPTIONS,PATCH,POST,PUT,QUERY,TRACE"
_SENSITIVE = frozenset(
    (
        "AWSAccessKeyId",
        "Signature",
        "sig",
        "X-Goog-Signature",
        "X-Amz-Signature",
        "X-Amz-Credential",
        "X-Amz-Security-Token",
    )
)
_W3C_FIELDS = frozenset(("traceparent", "tracestate", "baggage"))
_DEFAULT_PORTS = {"http": 80, "https": 443}
_FORWARDED_HOST = re.compile(r'(?:^|[;,])\s*host="?([^";,\s]+)', re.IGNORECASE)
_AUTHORITY = re.compile(r"(\[[0-9A-Fa-f:.%\w]+\]|[^\s:/?#@\[\]]+)(?::(\d{1,5}))?")
_CACHED_LENGTH = 300  # bytes: a DNS name has at most 253; what is longer would only fill the cache
_PORT_LIMIT = 65535
_PAIR = 2
_ADDRESS = {"client": "client.address", "server": "server.address"}
_PORT = {"client": "client.port", "server": "server.port"}
_OTHER = "_OTHER"
_BODILESS = frozenset((204, 304))
_SERVER_ERROR = 500
_REPEAT_SECONDS = 20.0


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
            headers = _header_dict(scope)
            verb, attributes = _describe(scope, headers, self._methods)
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
            self._left = _declared_length(headers)
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

    def _judge(self, error: BaseException | None) -> None:
        """Set `error.type` and status of a request that went wrong or was given up."""
        if error is None:
            self.span.set_attribute("error.type", str(self._status))
            if getattr(getattr(self.span, "status", None), "is_unset", True):  # else keep what it describes
                self.span.set_status(StatusCode.ERROR)
            return
        self.span.set_attribute("error.type", _qualified(type(error)))
        if not self._is_disconnect(error):
            self.span.set_status(StatusCode.ERROR, f"{type(error).__name__}: {_text(error)}")

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


def _header_dict(scope: Scope) -> dict[bytes, bytes]:
    """Return the request's headers; of one that is given twice, the last."""
    try:
        return dict(scope["headers"])
    except (KeyError, TypeError, ValueError):
        return {}


def _describe(scope: Scope, headers: dict[bytes, bytes], methods: frozenset[str]) -> tuple[str, _Attributes]:
    """Return the span's first name, and what is known when it starts. Odd values are left out."""
    host = headers.get(b"host", b"")
    if b"forwarded" in headers or b"x-forwarded-host" in headers:
        host = _forwarded_host(headers) or host
    try:
        fixed = _fixed if len(host) <= _CACHED_LENGTH else _fixed.__wrapped__
        verb, known = fixed(scope.get("method"), scope.get("scheme", "http"), scope.get("http_version"), host, methods)
    except TypeError:  # not even hashable
        verb, known = "HTTP", {"http.request.method": _OTHER}
    attributes = known.copy()
    path = scope.get("path")
    if path.__class__ is str:
        attributes["url.path"] = path if path.isascii() else _encodable(path)
    query = scope.get("query_string")
    if query and query.__class__ is bytes:
        attributes["url.query"] = _redacted(query.decode("utf-8", "replace"))
    agent = headers.get(b"user-agent")
    if agent.__class__ is bytes:
        attributes["user_agent.original"] = agent.decode("latin-1")
    _add_peer(attributes, "client", scope.get("client"))
    if "server.address" not in known:
        _add_peer(attributes, "server", scope.get("server"))
    return verb, attributes


@lru_cache(maxsize=512)
def _fixed(
    method: object, scheme: object, version: object, host: bytes, methods: frozenset[str]
) -> tuple[str, _Attributes]:
    """Return the first name and the attributes that are the same for many requests. Don't change them."""
    known = method if isinstance(method, str) and method in methods else _OTHER
    attributes: _Attributes = {"http.request.method": known}
    if isinstance(method, str) and known != method:
        attributes["http.request.method_original"] = _encodable(method)
    if isinstance(scheme, str):
        attributes["url.scheme"] = scheme
    if isinstance(version, str):
        attributes["network.protocol.version"] = version
    if (match := _AUTHORITY.fullmatch(host.decode("latin-1"))) and int(match[2] or 0) <= _PORT_LIMIT:
        attributes["server.address"] = match[1].strip("[]")
        port = int(match[2]) if match[2] else _DEFAULT_PORTS.get(str(scheme))
        if port is not None:
            attributes["server.port"] = port
    return "HTTP" if known is _OTHER else known, attributes


def _add_peer(attributes: _Attributes, side: str, peer: object) -> None:
    if (peer.__class__ is tuple or peer.__class__ is list) and len(peer) == _PAIR:
        address, port = peer
        if address.__class__ is str:
            attributes[_ADDRESS[side]] = address
            if port.__class__ is int:
                attributes[_PORT[side]] = port


def _forwarded_host(headers: dict[bytes, bytes]) -> bytes:
    """Return the host that the client asked the first proxy for."""
    match = _FORWARDED_HOST.search(headers.get(b"forwarded", b"").decode("latin-1"))
    if match:
        return match[1].encode("latin-1")
    return headers.get(b"x-forwarded-host", b"").partition(b",")[0].strip()


def _redacted(query: str) -> str:
    """Replace the values of keys that carry credentials, as the conventions list them."""
    if not ("ig" in query or "A" in query or "%" in query):
        return query  # every one of those keys has one of these in it, or is escaped
    parts = query.split("&")
    for index, part in enumerate(parts):
        key, equals, _value = part.partition("=")
        if equals and unquote_plus(key) in _SENSITIVE:
            parts[index] = f"{key}=REDACTED"
    return "&".join(parts)


def _declared_length(headers: Iterable[tuple[bytes, bytes]]) -> int | None:
    for name, value in headers:
        if name == b"content-length" or name.lower() == b"content-length":
            return int(value)
    return None


def _encodable(text: str) -> str:
    """Replace lone surrogates, which no encoder downstream would take."""
    return text.encode("utf-8", "replace").decode()


def _qualified(kind: type) -> str:
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:
        return "<no text: its __str__ failed>"


def _version() -> str | None:
    from importlib import metadata  # noqa: PLC0415  # 20 ms, for who makes a middleware

    try:
        return metadata.version("tracekeep")
    except metadata.PackageNotFoundError:  # run from a checkout that isn't installed
        return None


_last_report = -_REPEAT_SECONDS


def _report(what: str) -> None:
    """Log a failure of our own, from inside its `except` block, and at most every 20 s."""
    global _last_report  # noqa: PLW0603 - one clock for the process; a lost race only logs twice
    now = time.monotonic()
    if now - _last_report >= _REPEAT_SECONDS:
        _last_report = now
        _logger.warning("tracekeep could not %s; the request goes on without", what, exc_info=sys.exception())
