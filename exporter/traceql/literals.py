"""Literals from text to values, and durations back."""

from __future__ import annotations

import re
import sys

from .model import Duration, Kind, Status

_UNITS = {
    "ns": 1, "us": 10**3, "µs": 10**3, "μs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9,
    "d": 86_400 * 10**9, "w": 7 * 86_400 * 10**9, "y": 365 * 86_400 * 10**9,
}  # fmt: skip
_PART = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h|d|w|y)")
_ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{2}|[0-7]{3}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|.)", re.DOTALL)
_PLAIN_ESCAPES = {
    "a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "\\": "\\", '"': '"',
}  # fmt: skip
_MAX = (1 << 63) - 1
_SURROGATES = range(0xD800, 0xE000)
_LAST_ASCII = 0x7F

KEYWORDS: dict[str, object] = {
    "true": True,
    "false": False,
    "nil": None,
    "minInt": -_MAX - 1,
    "maxInt": _MAX,
    **{name: Status(name) for name in ("ok", "error", "unset")},
    **{name: Kind(name) for name in ("unspecified", "internal", "server", "client", "producer", "consumer")},
}


def integer(text: str) -> int:
    """A whole number of 64 bits.

    Raises:
        ValueError: it is larger.
    """
    if len(text) > len(str(_MAX)) or int(text) > _MAX:
        raise ValueError(f"{text[:20]} is too large for a 64-bit integer")
    return int(text)


def duration(text: str) -> Duration:
    """Nanoseconds of a duration such as `1h30m`, `1.5s` or `2d`.

    Raises:
        ValueError: it is longer than 64 bits can count.
    """
    parts = _PART.findall(text)
    total = sum(
        int(number) * _UNITS[unit] for number, unit in parts if number.isdigit() and len(number) < len("9" * 20)
    )
    total += sum(round(float(number) * _UNITS[unit]) for number, unit in parts if not number.isdigit())
    if total > _MAX or any(len(number) >= len("9" * 20) for number, _unit in parts):
        raise ValueError(f"{text[:20]} is too long for a duration")
    return Duration(total)


def string(text: str) -> str:
    """What a quoted text stands for, escapes as in Go.

    Raises:
        ValueError: an escape is unknown.
    """
    return _ESCAPE.sub(_unescape, text[1:-1])


def _unescape(match: re.Match[str]) -> str:
    code = match[1]
    if code in _PLAIN_ESCAPES:
        return _PLAIN_ESCAPES[code]
    if code[0] in "xuU" and len(code) > 1:
        number = int(code[1:], 16)
    elif code.isdigit():
        number = int(code, 8)
    else:
        raise ValueError(f"\\{code} is not an escape")
    if number > sys.maxunicode or number in _SURROGATES or (code[0] not in "uU" and number > _LAST_ASCII):
        raise ValueError(f"\\{code} is not a character")
    return chr(number)


def attribute_name(text: str) -> str:
    """The name in an attribute's path, its quoted parts without their quotes.

    Raises:
        ValueError: an escape is unknown.
    """
    return re.sub(r'"(?:[^"\\\n]|\\.)*"', lambda match: string(match[0]), text)


def format_duration(ns: int) -> str:
    """As Go writes it: `1h2m3.5s`, `1.5ms`, `0s`."""
    if ns < 0:
        return "-" + format_duration(-ns)
    if ns < 10**9:
        for unit, size in (("ms", 10**6), ("µs", 10**3)):
            if ns >= size:
                return _decimal(ns, size) + unit
        return f"{ns}ns" if ns else "0s"
    seconds = _decimal(ns % (60 * 10**9), 10**9) + "s"
    minutes, hours = ns // (60 * 10**9) % 60, ns // (3600 * 10**9)
    if hours:
        return f"{hours}h{minutes}m{seconds}"
    return f"{minutes}m{seconds}" if minutes else seconds


def _decimal(value: int, size: int) -> str:
    whole, rest = divmod(value, size)
    if not rest:
        return str(whole)
    return f"{whole}.{rest:0{len(str(size)) - 1}d}".rstrip("0")
