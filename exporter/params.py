"""Query parameters, declared as data and read strictly.

A route lists its parameters; `read` turns a request's query into keyword arguments for the
store, or raises a `ParameterError` that names the parameter, its value and what is allowed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta
from starlette.requests import Request

from .problems import ParameterError

# Longer texts than any name or attribute value that is kept.
_LONGEST_TEXT = 4096
_MOST_ATTRIBUTES = 16
_MOST_NAMES = 1000
_LONGEST_SHOWN = 100
# Durations and windows that can't be meant, and that must not overflow 64-bit nanoseconds.
_LONGEST_MS = 1e12
_LONGEST_WINDOW_NS = 3650 * 86_400 * 10**9
_UNITS_NS = {"s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9, "d": 86_400 * 10**9, "w": 604_800 * 10**9}

_RFC3339 = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(?:\.(\d{1,9})\d*)?(?:([Zz])|([+\- ]\d\d:\d\d))", re.ASCII
)
_WINDOW = re.compile(r"(\d{1,9})([smhdw])", re.ASCII)
_WHOLE = re.compile(r"\d{1,9}", re.ASCII)
_DECIMAL = re.compile(r"\d{1,15}(?:\.\d{1,15})?", re.ASCII)
_GROUP_ID = re.compile(r"[0-9a-fA-F]{16}", re.ASCII)
_TRACE_ID = re.compile(r"[0-9a-fA-F]{32}", re.ASCII)


Instant = Annotated[
    str,
    Meta(
        pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?([Zz]|[+\- ][0-9]{2}:[0-9]{2})$",
        description="A time of RFC 3339, from 1970 to 2261.",
        examples=["2026-11-23T08:00:00Z"],
    ),
]
Duration = Annotated[
    str, Meta(pattern="^[0-9]{1,9}[smhdw]$", description="A whole number with its unit.", examples=["30s", "5m", "1h"])
]
Milliseconds = Annotated[float, Meta(ge=0, le=_LONGEST_MS)]
TraceId = Annotated[str, Meta(pattern="^[0-9a-fA-F]{32}$")]
Pair = Annotated[
    str, Meta(pattern="^[^:]+:", max_length=_LONGEST_TEXT, examples=["http.route:/items/{id}", "cache.hit:true"])
]


@dataclass(frozen=True, slots=True)
class Param:
    """One query parameter.

    Attributes:
        name: as it stands in the query.
        parse: from text to value; raises `ValueError` where the text is not allowed.
        allowed: completes the sentence "Parameter 'x' must be …".
        to: the keyword that the value is given as; the name where empty.
        default: the value where the parameter is absent; `None` leaves the keyword out.
        many: how often it may stand.
        collect: makes one value of the values of a parameter that may stand more than once.
        type: what the text must be, as msgspec checks it and the API's schema tells it.
        about: what the parameter does, in a sentence.
    """

    name: str
    parse: Callable[[str], Any]
    allowed: str
    to: str = ""
    default: Any = None
    many: int = 1
    collect: Callable[[list[Any]], Any] = list
    type: Any = str
    about: str = ""


def read(request: Request, params: Sequence[Param], *, others_ignored: bool = False) -> dict[str, Any]:
    """Keyword arguments for the store from a request's query.

    Raises:
        ParameterError: a parameter is unknown (unless others are ignored), repeated, or has a value that is not
            allowed.
    """
    known = {param.name: param for param in params}
    texts: dict[str, list[str]] = {}
    for name, text in request.query_params.multi_items():
        if name not in known:
            if others_ignored:
                continue
            raise ParameterError(name, text, _unknown(name, known))
        texts.setdefault(name, []).append(text)
    values = ((param.to or name, _value(param, texts.get(name, []))) for name, param in known.items())
    return {keyword: value for keyword, value in values if value is not None}


def _unknown(name: str, known: dict[str, Param]) -> str:
    choice = f"Allowed are {', '.join(known)}." if known else "It takes none."
    return f"There is no parameter {name[:_LONGEST_SHOWN]!r} here. {choice}"


def _value(param: Param, texts: list[str]) -> Any:
    if not texts:
        return param.default
    if len(texts) > param.many:
        times = "only once" if param.many == 1 else f"at most {param.many} times"
        raise ParameterError(param.name, texts[-1], f"Parameter {param.name!r} may be given {times}.")
    if param.many == 1:
        return _checked(param, param.parse, texts[0])
    values = [_checked(param, param.parse, text) for text in texts]
    return _checked(param, lambda _: param.collect(values), texts[-1])


def _checked(param: Param, parse: Callable[[str], Any], text: str) -> Any:
    try:
        return parse(text)
    except ValueError:
        detail = f"Parameter {param.name!r} must be {param.allowed}, not {text[:_LONGEST_SHOWN]!r}."
        raise ParameterError(param.name, text, detail) from None


def whole(name: str, *, low: int, high: int, default: int, about: str = "") -> Param:
    """A whole number between bounds."""
    number = Annotated[int, Meta(ge=low, le=high)]

    def parse(text: str) -> Any:
        if not _WHOLE.fullmatch(text):
            raise ValueError(text)
        return _valid(int(text), number)

    return Param(name, parse, f"a whole number from {low} to {high}", default=default, type=number, about=about)


def text(name: str, *, shortest: int = 1, about: str = "") -> Param:
    """Text that a column is compared with."""
    type_ = Annotated[str, Meta(min_length=shortest, max_length=_LONGEST_TEXT, pattern="^[^\\x00]*$")]

    def parse(text: str) -> Any:
        if "\0" in text:
            raise ValueError(text)
        return _valid(text, type_)

    return Param(name, parse, f"text of {shortest} to {_LONGEST_TEXT} characters", type=type_, about=about)


def choice(name: str, *values: str, default: str | None = None, about: str = "") -> Param:
    """One of a few words."""
    words: Any = Literal[values]

    def parse(text: str) -> Any:
        return _valid(text, words)

    return Param(name, parse, f"one of {', '.join(values)}", default=default, type=words, about=about)


def instant(name: str, about: str = "") -> Param:
    """A time of RFC 3339, given on as `<name>_ns`."""
    allowed = "a time of RFC 3339 from 1970 to 2261 such as 2026-11-23T08:00:00Z"
    return Param(name, parse_instant, allowed, to=f"{name}_ns", type=Instant, about=about)


def milliseconds(name: str, to: str, about: str = "") -> Param:
    """A duration in milliseconds, given on in nanoseconds."""
    allowed = f"a number of milliseconds from 0 to {_LONGEST_MS:.0f}"
    return Param(name, _milliseconds, allowed, to=to, type=Milliseconds, about=about)


def window(name: str, about: str = "") -> Param:
    """A span of time, such as one before now, given on as `<name>_ns`."""
    allowed = "a duration from 1s to 3650d such as 30s, 5m, 1h or 7d"
    return Param(name, _window, allowed, to=f"{name}_ns", type=Duration, about=about)


def attributes(name: str) -> Param:
    """Pairs of attribute key and value, given on as `attributes`."""
    allowed = "a key and a value with a colon between them such as http.route:/items/{id}, each key once"
    about = "An attribute of the span and its value as text; given several times, all must be there."
    return Param(
        name,
        _attribute,
        allowed,
        to="attributes",
        many=_MOST_ATTRIBUTES,
        collect=_pairs,
        type=Annotated[list[Pair], Meta(max_length=_MOST_ATTRIBUTES)],
        about=about,
    )


def parse_trace_id(text: str) -> str:
    """A trace id in lower case."""
    if not _TRACE_ID.fullmatch(text):
        raise ValueError(text)
    return text.lower()


def parse_group_id(text: str) -> str:
    """The id of an error group, in lower case."""
    if not _GROUP_ID.fullmatch(text):
        raise ValueError(text)
    return text.lower()


def require_order(request: Request, values: dict[str, Any], low: Param, high: Param, *, or_equal: bool = False) -> None:
    """Check that the low parameter is below the high one, where both are given.

    Raises:
        ParameterError: it isn't; the high one is named.
    """
    bottom, top = values.get(low.to or low.name), values.get(high.to or high.name)
    if bottom is None or top is None or bottom < top or (or_equal and bottom == top):
        return
    than = "at least" if or_equal else "later than"
    raise ParameterError(
        high.name, request.query_params[high.name], f"Parameter {high.name!r} must be {than} {low.name!r}."
    )


def parse_instant(text: str) -> int:
    """Nanoseconds since the epoch of a time of RFC 3339; a `+` that a query turned into a space is mended."""
    match = _RFC3339.fullmatch(text)
    if match is None:
        raise ValueError(text)
    date, clock, fraction, _, offset = match.groups()
    zone = "+00:00" if offset is None else offset.replace(" ", "+")
    moment = datetime.fromisoformat(f"{date}T{clock}{zone}")
    seconds = math.floor((moment - datetime.fromtimestamp(0, UTC)).total_seconds())
    nanoseconds = seconds * 10**9 + int((fraction or "0").ljust(9, "0"))
    if not 0 <= nanoseconds < 2**63:
        raise ValueError(text)
    return nanoseconds


def _valid(value: Any, type_: Any) -> Any:
    """The value, if msgspec finds it to be of the type.

    Raises:
        ValueError: it isn't.
    """
    try:
        return msgspec.convert(value, type_)
    except msgspec.ValidationError as error:
        raise ValueError(value) from error


def _milliseconds(text: str) -> int:
    if not _DECIMAL.fullmatch(text):
        raise ValueError(text)
    milliseconds: float = _valid(float(text), Milliseconds)
    return round(milliseconds * 1e6)


def _window(text: str) -> int:
    match = _WINDOW.fullmatch(text)
    value = int(match[1]) * _UNITS_NS[match[2]] if match else 0
    if not 0 < value <= _LONGEST_WINDOW_NS:
        raise ValueError(text)
    return value


def _attribute(text: str) -> tuple[str, str]:
    key, colon, value = text.partition(":")
    if not colon or not key or len(text) > _LONGEST_TEXT or "\0" in text:
        raise ValueError(text)
    return key, value


def _pairs(pairs: list[tuple[str, str]]) -> dict[str, str]:
    if len(found := dict(pairs)) < len(pairs):
        raise ValueError(pairs)
    return found


TRACE_ID = Param("trace_id", parse_trace_id, "32 hexadecimal digits", type=TraceId, about="Of the trace.")
LIMIT = whole("limit", low=1, high=1000, default=50, about="The most that are given.")
CURSOR = text("cursor", about="The `next` of an earlier answer to the same question: what comes after it.")
NAMES = Param(
    "name[]",
    text("name[]").parse,
    f"text of 1 to {_LONGEST_TEXT} characters",
    to="names",
    many=_MOST_NAMES,
    type=Annotated[list[Annotated[str, Meta(min_length=1)]], Meta(max_length=_MOST_NAMES)],
    about="Only metrics of these names; their samples' names count too.",
)


def read_trace_id(value: str) -> str:
    """The trace id of a path.

    Raises:
        ParameterError: it is malformed.
    """
    found: str = _checked(TRACE_ID, TRACE_ID.parse, value)
    return found


def read_path(request: Request, param: Param) -> Any:
    """A parameter of the path.

    Raises:
        ParameterError: it is malformed.
    """
    return _checked(param, param.parse, request.path_params[param.name])
