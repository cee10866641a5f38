"""Content negotiation for `/metrics`: which exposition format, how names are escaped, how the page is compressed.

Written by hand because prometheus_client ignores q-values, echoes any version back and
fails on nonsense. Only what conforms is offered; whatever can't be matched or read gets
text 0.0.4, never an error: a scrape with an odd header is still a scrape.

Formats and escaping: https://prometheus.io/docs/instrumenting/content_negotiation/
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum


class Format(Enum):
    """The exposition formats on offer; the value is the media type that says it."""

    TEXT = "text/plain; version=0.0.4"
    TEXT_1 = "text/plain; version=1.0.0"
    OPENMETRICS = "application/openmetrics-text; version=1.0.0"


class Escaping(Enum):
    """What becomes of names outside `[a-zA-Z_:][a-zA-Z0-9_:]*`; the value is the parameter's."""

    UNDERSCORES = "underscores"
    ALLOW_UTF8 = "allow-utf-8"
    DOTS = "dots"
    VALUES = "values"


@dataclass(frozen=True, slots=True)
class Exposition:
    """How a page is written."""

    format: Format = Format.TEXT
    escaping: Escaping = Escaping.UNDERSCORES

    @property
    def content_type(self) -> str:
        """`Content-Type`. What an old scraper gets by default is named as it has always been."""
        plain = self == Exposition()
        return f"{self.format.value}; charset=utf-8{'' if plain else f'; escaping={self.escaping.value}'}"


@dataclass(frozen=True, slots=True)
class Range:
    """One element of an `Accept` header: a media range, or a coding, with its weight."""

    value: str
    params: Mapping[str, str]
    q: float


_OFFERS = {
    Format.TEXT: ("text/plain", "0.0.4"),
    Format.TEXT_1: ("text/plain", "1.0.0"),
    Format.OPENMETRICS: ("application/openmetrics-text", "1.0.0"),
}
_ESCAPINGS = {escaping.value: escaping for escaping in Escaping}
# Split outside quotes. Each alternative begins with a different character, so this is linear.
_ELEMENT = re.compile(r'(?:[^,"]|"(?:[^"\\]|\\.)*"?)+')
_PIECE = re.compile(r'(?:[^;"]|"(?:[^"\\]|\\.)*"?)+')
_QVALUE = re.compile(r"(?:0(?:\.\d{0,3})?|1(?:\.0{0,3})?)", re.ASCII)
# Longer headers than any scraper or browser sends are not worth reading.
_LONGEST = 8192
_ANY = Range("*/*", {}, 0.0)


def choose_exposition(accept: str) -> Exposition:
    """The format that an `Accept` header likes best (RFC 9110 section 12.5.1), with the escaping that it asks for.

    The most specific matching range gives a format its weight; between equal weights the
    more specific range wins, then the one named first, then text 0.0.4.
    """
    ranges = list(_ranges(accept))
    rated = [(*_rate(offer, ranges), offer) for offer in _OFFERS]
    best = max((each for each in rated if each[0][0] > 0), key=lambda each: each[0], default=None)
    if best is None:
        return Exposition()
    return Exposition(best[2], _ESCAPINGS.get(best[1].params.get("escaping", ""), Escaping.UNDERSCORES))


def choose_coding(accept_encoding: str, available: Sequence[str]) -> str | None:
    """The content coding that an `Accept-Encoding` header likes best.

    Args:
        accept_encoding: the header.
        available: codings on offer, the preferred one first; all but `gzip` have to be named by the client.

    Returns:
        A coding; None where the page is to be sent as it is.
    """
    weights = {element.value: element.q for element in _ranges(accept_encoding)}
    if "x-gzip" in weights:
        weights.setdefault("gzip", weights["x-gzip"])
    if "*" in weights:
        weights.setdefault("gzip", weights["*"])
    best = max(available, key=lambda coding: weights.get(coding, 0.0))  # the first of equals
    weight = weights.get(best, 0.0)
    return best if weight > 0 and weight >= weights.get("identity", 0.0) else None


def _rate(offer: Format, ranges: list[Range]) -> tuple[tuple[float, int, int], Range]:
    """Weight, specificity and negated position of the range that decides about an offer; and that range."""
    matches = [
        (specificity, -position, element)
        for position, element in enumerate(ranges)
        if (specificity := _specificity(element, *_OFFERS[offer]))
    ]
    specificity, position, element = max(matches, key=lambda match: match[:2], default=(0, 0, _ANY))
    return (element.q, specificity, position), element


def _specificity(element: Range, media_type: str, version: str) -> int:
    """How closely a range names a media type; 0 where it doesn't match."""
    if element.value == media_type:
        asked = element.params.get("version")
        return 3 if asked is None else 4 * (asked == version)
    if element.value == f"{media_type.partition('/')[0]}/*":
        return 2
    return int(element.value == "*/*")


def _ranges(header: str) -> Iterator[Range]:
    for element in _ELEMENT.findall(header[:_LONGEST]):
        value, *pieces = _PIECE.findall(element) or [""]
        params = dict(_parameter(piece) for piece in pieces)
        weight = params.pop("q", "1")
        if _QVALUE.fullmatch(weight):  # an element weighed by nonsense is left out
            yield Range(value.strip().lower(), params, float(weight))


def _parameter(piece: str) -> tuple[str, str]:
    name, _, value = piece.partition("=")
    return name.strip().lower(), value.strip().strip('"')
