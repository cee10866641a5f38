"""What a route takes and gives, beside its handler: what requests are read by and the API's schema is made from.

    @described(Spans, params=SPANS)
    async def spans(request): ...

A handler without it fails `tests/exporter/test_openapi.py`: no route is missing from the schema.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, TypeVar, cast

from .params import Param
from .problems import Problem

F = TypeVar("F", bound=Callable[..., Any])

_PROBLEM = "application/problem+json"


@dataclass(frozen=True, slots=True)
class Content:
    """One form of an answer.

    Attributes:
        media: its media type.
        type: what msgspec encodes; `str` and `bytes` are told as text and as binary.
    """

    media: str
    type: Any


@dataclass(frozen=True, slots=True)
class Description:
    """One route, apart from its path and methods.

    Attributes:
        answers: the forms of each status, of those that are not a problem document.
        problems: statuses with a problem document.
        params: of the query.
        path: of the path.
        tag: what routes are listed under.
        body: forms of the request's body.
    """

    answers: Mapping[int, Sequence[Content]]
    problems: Sequence[int] = ()
    params: Sequence[Param] = ()
    path: Sequence[Param] = ()
    tag: str = "history"
    body: Sequence[Content] = field(default=())


def described(
    answer: Any,
    *,
    params: Sequence[Param] = (),
    path: Sequence[Param] = (),
    problems: Sequence[int] = (),
    also: Mapping[int, Any] | None = None,
    tag: str = "history",
    body: Sequence[Content] = (),
    plain: Sequence[int] = (),
) -> Callable[[F], F]:
    """Say what a handler takes and gives.

    Args:
        answer: what a 200 has: a Struct, encoded as JSON, or a sequence of `Content`.
        params: parameters of the query.
        path: parameters of the path.
        problems: statuses with a problem document, beside 500, 503, and 400 where there are parameters.
        also: other statuses with what they have.
        tag: what the route is listed under.
        body: forms of the request's body.
        plain: statuses that are told in plain text.
    """
    refused = {400} if params or path or body else set()
    text = {status: (Content("text/plain", str),) for status in plain}
    answers = {status: _contents(each) for status, each in {200: answer, **text, **(also or {})}.items()}
    known = sorted({*problems, *refused, 500, 503} - {*answers})
    description = Description(answers, known, tuple(params), tuple(path), tag, tuple(body))

    def mark(handler: F) -> F:
        cast("Any", handler).description = description
        return handler

    return mark


def description_of(handler: Any) -> Description | None:
    """What has been said of a handler."""
    found = getattr(handler, "description", None)
    return found if isinstance(found, Description) else None


def contents_of(description: Description) -> dict[int, Sequence[Content]]:
    """The forms of all statuses, problem documents included."""
    problem = (Content(_PROBLEM, Problem),)
    return {**description.answers, **dict.fromkeys(description.problems, problem)}


def reason(status: int) -> str:
    """A status in words."""
    return HTTPStatus(status).phrase


def _contents(answer: Any) -> Sequence[Content]:
    return tuple(answer) if isinstance(answer, list | tuple) else (Content("application/json", answer),)
