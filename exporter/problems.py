"""Errors as problem documents (RFC 9457): they name the parameter, the value and what is allowed."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from ..storage import InvalidCursor, QueryTimeout, SettingError, Unavailable

# Long enough for a degraded store to have tried again, short enough for a person to wait.
RETRY_AFTER = {"Retry-After": "5"}
# A value is repeated so that it is recognised; nobody needs all of a long one.
_LONGEST_VALUE = 200


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """The document. `parameter` and `value` are there where one parameter is at fault."""

    type: str
    title: str
    status: int
    detail: str
    parameter: str | None = None
    value: str | None = None


class ParameterError(ValueError):
    """A parameter of a request can't be understood; the text says what is allowed."""

    def __init__(self, parameter: str, value: str, detail: str) -> None:
        super().__init__(detail)
        self.parameter = parameter
        self.value = value[:_LONGEST_VALUE]


def problem(
    status: int,
    detail: str,
    *,
    parameter: str | None = None,
    value: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """A response that carries a problem document."""
    document = Problem("about:blank", HTTPStatus(status).phrase, status, detail, parameter, value)
    return Response(msgspec.json.encode(document), status, headers, "application/problem+json")


async def on_parameter(_: Request, error: Exception) -> Response:
    """400: a parameter is at fault."""
    assert isinstance(error, ParameterError)
    return problem(400, str(error), parameter=error.parameter, value=error.value)


async def on_cursor(request: Request, error: Exception) -> Response:
    """400: the cursor is not one that the store gave out."""
    value = request.query_params.get("cursor", "")[:_LONGEST_VALUE]
    detail = f"Parameter 'cursor' must be the 'next' of an earlier answer to the same question. {error}"
    return problem(400, detail.rstrip(), parameter="cursor", value=value)


async def on_unavailable(_: Request, error: Exception) -> Response:
    """503: nothing can be answered just now."""
    return problem(503, f"No answer just now: {error}", headers=RETRY_AFTER)


async def on_timeout(_: Request, error: Exception) -> Response:
    """503: the query was stopped at its deadline."""
    hint = "Narrow the time with 'since' and 'until', or name a 'service' or an operation."
    return problem(503, f"The query was stopped at its deadline: {error} {hint}", headers=RETRY_AFTER)


async def on_setting(_: Request, error: Exception) -> Response:
    """503: no store can be had because the environment configures it wrongly."""
    return problem(503, f"The store can't be opened: {error}", headers=RETRY_AFTER)


async def on_http(request: Request, error: Exception) -> Response:
    """404, 405 and what else the routing raises."""
    assert isinstance(error, HTTPException)
    detail = error.detail
    if detail == HTTPStatus(error.status_code).phrase:  # raised by the routing
        detail = f"{detail}: {request.method} {request.scope['path']}"  # its URL may have a query that is no UTF-8
    return problem(error.status_code, detail, headers=error.headers)


HANDLERS: dict[Any, Any] = {
    ParameterError: on_parameter,
    InvalidCursor: on_cursor,
    Unavailable: on_unavailable,
    QueryTimeout: on_timeout,
    SettingError: on_setting,
    HTTPException: on_http,
}
