"""Query parameters as Tempo reads them: the first of several counts, an empty one is none, unknown ones are ignored."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from starlette.requests import Request

from ..params import parse_instant
from ..problems import ParameterError

T = TypeVar("T")
_SECOND = 10**9
_LONGEST_SHOWN = 100
_WHOLE = re.compile(r"\d{1,9}", re.ASCII)
_SECONDS = re.compile(r"\d{1,10}(?:\.\d{0,9})?", re.ASCII)
_NANOSECONDS = re.compile(r"\d{16,19}", re.ASCII)
_DECIMAL = re.compile(r"\d{1,12}(?:\.\d{0,12})?", re.ASCII)
_GO_PART = re.compile(r"(\d{1,19}(?:\.\d{0,15})?|\.\d{1,15})(ns|us|µs|μs|ms|s|m|h)", re.ASCII)
_UNITS_NS = {
    "ns": 1, "us": 10**3, "µs": 10**3, "μs": 10**3, "ms": 10**6, "s": _SECOND, "m": 60 * _SECOND, "h": 3600 * _SECOND,
}  # fmt: skip
_LONGEST_NS = (1 << 63) - 1
_LONGEST_TEXT = 1 << 16


class Window(NamedTuple):
    """A time range in ns: from the first, before the second."""

    since_ns: int
    until_ns: int


def text(request: Request, name: str) -> str:
    """A parameter's text; empty where there is none."""
    found = request.query_params.getlist(name)
    value = found[0] if found else ""
    if len(value) > _LONGEST_TEXT:
        raise ParameterError(name, value, f"invalid {name}: longer than {_LONGEST_TEXT} characters")
    return value


def read(request: Request, name: str, parse: Callable[[str], T], allowed: str, default: T) -> T:
    """A parameter's value.

    Args:
        request: with the query.
        name: of the parameter.
        parse: raises `ValueError` where the text is not allowed.
        allowed: completes "must be …".
        default: where it isn't given.

    Raises:
        ParameterError: it names the parameter, its value and what is allowed.
    """
    value = text(request, name)
    if not value:
        return default
    try:
        return parse(value)
    except (ValueError, OverflowError):
        raise ParameterError(name, value, f"invalid {name}: must be {allowed}, not {_shown(value)}") from None


def _shown(value: str) -> str:
    return repr(value[:_LONGEST_SHOWN])


def whole(request: Request, name: str, *, low: int, high: int, default: int) -> int:
    """A whole number between bounds."""

    def parse(value: str) -> int:
        if not _WHOLE.fullmatch(value) or not low <= int(value) <= high:
            raise ValueError(value)
        return int(value)

    return read(request, name, parse, f"a whole number from {low} to {high}", default)


def duration(request: Request, name: str, default: int = 0) -> int:
    """A duration as Go writes it, in ns."""
    return read(request, name, parse_duration, "a duration such as 100ms, 1.5s or 1h30m", default)


def step(request: Request, name: str, default: int) -> int:
    """A duration as Go writes it or a number of seconds, more than nothing, in ns."""
    return read(request, name, _parse_step, "a duration such as 30s or a number of seconds", default)


def window(request: Request) -> Window | None:
    """`start` and `end`: both, or none; both 0 are none.

    Raises:
        ParameterError: one is missing or malformed, or they are in the wrong order.
    """
    allowed = "Unix seconds, Unix nanoseconds or a time of RFC 3339"
    since = read(request, "start", parse_time, allowed, None)
    until = read(request, "end", parse_time, allowed, None)
    if not since and not until:
        return None
    if since is None or until is None:
        name, other = ("start", "end") if since is None else ("end", "start")
        raise ParameterError(name, "", f"invalid {name}: {other} is given without it; give both or neither")
    if since >= until:
        value = text(request, "end")
        raise ParameterError("end", value, f"invalid end: must be later than start, not {_shown(value)}")
    return Window(since, until)


def parse_time(value: str) -> int:
    """Nanoseconds since the epoch.

    Raises:
        ValueError: it is no time.
    """
    if _NANOSECONDS.fullmatch(value):
        return _bounded(int(value))
    if _SECONDS.fullmatch(value):
        seconds, _, fraction = value.partition(".")
        return _bounded(int(seconds) * _SECOND + int(fraction.ljust(9, "0")))
    return parse_instant(value)


def parse_duration(value: str) -> int:
    """Nanoseconds of a duration as Go's `time.ParseDuration` takes it, not negative.

    Raises:
        ValueError: it is none.
    """
    if value == "0":
        return 0
    parts = _GO_PART.findall(value)
    if not parts or "".join(number + unit for number, unit in parts) != value:
        raise ValueError(value)
    return _bounded(sum(_scaled(number, _UNITS_NS[unit]) for number, unit in parts))


def _scaled(number: str, unit_ns: int) -> int:
    """Exactly, where it is whole: floats lose nanoseconds."""
    return int(number) * unit_ns if number.isdecimal() else math.floor(float(number) * unit_ns)


def _parse_step(value: str) -> int:
    found = round(float(value) * _SECOND) if _DECIMAL.fullmatch(value) else parse_duration(value)
    if found <= 0:
        raise ValueError(value)
    return _bounded(found)


def _bounded(value: int) -> int:
    if value > _LONGEST_NS:
        raise ValueError(value)
    return value


def choice(request: Request, name: str, values: tuple[str, ...], default: Any) -> Any:
    """One of some words."""

    def parse(value: str) -> str:
        if value not in values:
            raise ValueError(value)
        return value

    return read(request, name, parse, f"one of {', '.join(values)}", default)
