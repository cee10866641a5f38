"""What the routes of the Tempo interface take and give, for the schema. `params.py` reads them as Tempo does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal, TypeVar

from msgspec import Meta

from ..described import Content, described
from ..params import Param
from . import plain

F = TypeVar("F", bound=Callable[..., Any])

_TEXT = (Content("text/plain", str),)
_TIME = Annotated[str, Meta(examples=["1795467600", "2026-11-23T08:00:00Z"])]
_DURATION = Annotated[str, Meta(examples=["100ms", "1.5s", "1h30m"])]
_SCOPES = Literal["none", "resource", "span", "event", "link", "instrumentation", "intrinsic"]


def _param(name: str, allowed: str, about: str, type_: Any = str) -> Param:
    return Param(name, str, allowed, type=type_, about=about)


_PARAMS = {
    param.name: param
    for param in (
        _param("q", "a TraceQL query", "What to find; in requests for tags it narrows, and may be incomplete."),
        _param("start", "Unix seconds or nanoseconds, or a time of RFC 3339", "With `end`.", _TIME),
        _param("end", "the same, later than start", "With `start`.", _TIME),
        _param("since", "a duration as Go writes it", "Instead of `start` and `end`.", _DURATION),
        _param("step", "a duration as Go writes it, or seconds", "Between two samples.", _DURATION),
        _param("limit", "a whole number", "The most that is answered.", Annotated[int, Meta(ge=0)]),
        _param("spss", "a whole number to 1,000", "Spans a span set.", Annotated[int, Meta(ge=0, le=1000)]),
        _param("exemplars", "a whole number", "How many exemplars.", Annotated[int, Meta(ge=0)]),
        _param("maxSeries", "a whole number", "How many series.", Annotated[int, Meta(ge=0)]),
        _param("scope", "one of the scopes", "Whose names.", _SCOPES),
        _param("tags", "logfmt", "Attributes, as older Grafana sends them."),
        _param("minDuration", "a duration as Go writes it", "Of older Grafana.", _DURATION),
        _param("maxDuration", "a duration as Go writes it", "Of older Grafana.", _DURATION),
    )
}
_PATH = {
    "trace_id": _param(
        "trace_id", "hexadecimal digits", "It may be short.", Annotated[str, Meta(pattern="^[0-9A-Fa-f]+$")]
    ),
    "tag": _param("tag", "the name of an attribute or intrinsic", "As TraceQL writes it."),
}
JSON = (Content("application/json", dict[str, Any]),)
TEXT = _TEXT
EITHER = (*JSON, Content(plain.PROTOBUF, bytes))


def told(answer: Any, *params: str, path: str = "", unknown: bool = False) -> Callable[[F], F]:
    """Say what a handler takes and gives; its errors are plain text.

    Args:
        answer: what a 200 has.
        params: names of its parameters.
        path: name of its path parameter.
        unknown: whether it answers 404.
    """
    errors = {400: _TEXT, 501: _TEXT, 503: _TEXT} | ({404: _TEXT} if unknown else {})
    return described(
        answer,
        params=[_PARAMS[name] for name in params],
        path=[_PATH[path]] if path else (),
        also=errors,
        tag="tempo",
    )
