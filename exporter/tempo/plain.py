"""Answers as Tempo gives them: errors are plain text, which Grafana shows to the user."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from ...storage import QueryTimeout, SettingError, Unavailable
from ..otlp_encoding import ProtobufMissing
from ..problems import RETRY_AFTER, ParameterError
from ..traceql.errors import TraceQLError

Endpoint = Callable[[Request], Awaitable[Response]]
PROTOBUF = "application/protobuf"
# As for a scrape: long enough for the writer's 50 ms, short enough not to be noticed.
FLUSH_SECONDS = 0.25
_HEADERS = {"Cache-Control": "no-store"}
_DEGRADED = {"X-Tracekeep-Degraded": "true"}


def plainly(endpoint: Endpoint) -> Endpoint:
    """The endpoint with every error of a request or of the store as plain text."""

    @wraps(endpoint)
    async def answered(request: Request) -> Response:
        try:
            return await endpoint(request)
        except ParameterError as error:
            return _text(400, str(error))
        except TraceQLError as error:
            return _text(400, f"invalid TraceQL query: {error}")
        except ModuleNotFoundError as error:
            return _text(501, f"TraceQL needs the package {error.name}: pip install 'tracekeep[serve]'")
        except ProtobufMissing as error:
            return _text(501, f"{error}; or ask for JSON with Accept: application/json")
        except QueryTimeout as error:
            return _text(503, str(error), RETRY_AFTER)
        except Unavailable as error:
            return _text(503, f"No answer just now: {error}", RETRY_AFTER)
        except SettingError as error:
            return _text(503, f"The store can't be opened: {error}", RETRY_AFTER)

    return answered


def _text(status: int, text: str, headers: dict[str, str] | None = None) -> Response:
    return PlainTextResponse(f"{text}\n", status, _HEADERS | (headers or {}))


def not_found(text: str) -> Response:
    """404 in words."""
    return _text(404, text)


def json(document: Any, *, degraded: bool = False) -> Response:
    """A document as JSON. Where its form has no place for it, a header says that something may be missing."""
    headers = _HEADERS | (_DEGRADED if degraded else {})
    return Response(msgspec.json.encode(document), headers=headers, media_type="application/json")


def protobuf(body: bytes, *, degraded: bool = False) -> Response:
    """A message's bytes, with the same header."""
    return Response(body, headers=_HEADERS | (_DEGRADED if degraded else {}), media_type=PROTOBUF)


def wants_protobuf(request: Request) -> bool:
    """Whether the request asks for protobuf, found as Tempo finds it: anywhere in `Accept`."""
    return any(PROTOBUF in each for each in request.headers.getlist("accept"))
