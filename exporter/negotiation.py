"""Content negotiation for `/metrics`: which exposition format, and whether compressed.

Written by hand because prometheus_client ignores q-values, echoes any version back and
fails on nonsense. Only what conforms is offered; whatever can't be matched or read gets
text 0.0.4, never an error: a scrape with an odd header is still a scrape.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum


class Format(Enum):
    """The exposition formats on offer; the value is the `Content-Type`."""

    TEXT = "text/plain; version=0.0.4; charset=utf-8"
    OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Range:
    """One element of an `Accept` header: a media range, or a coding, with its weight."""

    value: str
    params: Mapping[str, str]
    q: float


_OFFERS = {
    Format.TEXT: ("text/plain", "0.0.4"),
    Format.OPENMETRICS: ("application/openmetrics-text", "1.0.0"),
}
# Split outside quotes. Each alternative begins with a different character, so this is linear.
_ELEMENT = re.compile(r'(?:[^,"]|"(?:[^"\\]|\\.)*"?)+')
_PIECE = re.compile(r'(?:[^;"]|"(?:[^"\\]|\\.)*"?)+')
_QVALUE = re.compile(r"(?:0(?:\.\d{0,3})?|1(?:\.0{0,3})?)", re.ASCII)
# Longer headers than any scraper or browser sends are not worth reading.
_LONGEST = 8192


def choose_format(accept: str) -> Format:
    """The format that an `Accept` header likes best (RFC 9110 section 12.5.1).

    The most specific matching range gives a format its weight; between equal weights the
    more specific range wins, then the one named first, then text.
    """
    ranges = list(_ranges(accept))
    rated = [(rating, offer) for offer in _OFFERS if (rating := _rate(offer, ranges))[0] > 0]
    return max(rated, key=lambda pair: pair[0], default=((), Format.TEXT))[1]


def accepts_gzip(accept_encoding: str) -> bool:
    """Whether an `Accept-Encoding` header allows gzip."""
    weights = {element.value: element.q for element in _ranges(accept_encoding)}
    return weights.get("gzip", weights.get("x-gzip", weights.get("*", 0.0))) > 0


def _rate(offer: Format, ranges: list[Range]) -> tuple[float, int, int]:
    """Weight, specificity and negated position of the range that decides about an offer."""
    matches = [
        (specificity, -position, element.q)
        for position, element in enumerate(ranges)
        if (specificity := _specificity(element, *_OFFERS[offer]))
    ]
    specificity, position, q = max(matches, default=(0, 0, 0.0))
    return q, specificity, position


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
