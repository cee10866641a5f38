"""Exemplars in the database: of each bucket the newest, and only such as lead to a span that is stored."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable
from math import isfinite
from typing import TYPE_CHECKING

import msgspec

from .intake import DURATION, SPAN, START, TRACE, Row
from .views import Exemplar

if TYPE_CHECKING:
    from .series import SeriesState

One = tuple[bytes, int, float, int, int]
"""Trace id, span id, value, time (ns), and when the partition was opened that has the trace (ns); 0: none is known."""
Exemplars = dict[int, One]
"""By the number of the bucket; 0 for a counter."""

_decode = msgspec.msgpack.Decoder(Exemplars).decode
_MAX_SPAN_ID = (1 << 64) - 1
_TIME, _STORED = 3, 4
_TRACE_BYTES = 16
_MAX_CANDIDATES = 10_000
_LOOKS = 100
"""Series whose candidates are looked for at a time: each look costs some 20 µs."""
PACE = 1_000_000_000
"""ns: a series' exemplars are renewed once a second at most, as that costs more than to count the span."""
_PATIENCE = 60_000_000_000
"""ns that a trace may take to be stored after it was made an exemplar: its request must end first."""


def of_span(row: Row, stored: int, now: int) -> One:
    """A span's row as an exemplar, in seconds; a clock that is ahead must not make it the newest for ever."""
    duration = row[DURATION]
    return row[TRACE], row[SPAN] & _MAX_SPAN_ID, duration / 1e9, min(row[START] + duration, now), stored


def chosen(points: Iterable[tuple[int, bytes, int, float, int]] | None, buckets: int, now: int) -> Exemplars | None:
    """Of what a process sent, the newest by bucket that can be one; None where nothing can.

    Args:
        points: (bucket, trace id, span id, value, time) each.
        buckets: how many the series has, at least 1.
        now: an exemplar from later than this is none (ns).
    """
    found: Exemplars = {}
    for bucket, trace_id, span_id, value, time_ns in points or ():
        plausible = len(trace_id) == _TRACE_BYTES and any(trace_id) and 0 < span_id <= _MAX_SPAN_ID
        if plausible and 0 <= bucket < buckets and isfinite(value) and 0 < time_ns <= now:
            known = found.get(bucket)
            if known is None or known[3] <= time_ns:
                found[bucket] = (trace_id, span_id, value, time_ns, 0)
    return found or None


def newest(one: Exemplars | None, other: Exemplars | None) -> Exemplars | None:
    """Of each bucket the later one of two."""
    if not one or not other:
        return other or one
    merged = dict(one)
    for bucket, exemplar in other.items():
        known = merged.get(bucket)
        if known is None or known[3] <= exemplar[3]:
            merged[bucket] = exemplar
    return merged


def kept_in(exemplars: Exemplars, partitions: Container[int]) -> Exemplars | None:
    """Those whose partition is among some."""
    return {bucket: each for bucket, each in exemplars.items() if each[_STORED] in partitions} or None


class Candidates:
    """What processes gave as exemplars of their own metrics: it becomes one when its trace is found in the history."""

    def __init__(self) -> None:
        self._waiting: dict[SeriesState, Exemplars] = {}

    def take(self, state: SeriesState, more: Exemplars) -> None:
        """Note some of a series."""
        while len(self._waiting) >= _MAX_CANDIDATES:
            del self._waiting[next(iter(self._waiting))]
        self._waiting[state] = newest(self._waiting.get(state), more) or more

    def confirm(self, holds: Callable[[bytes], bool], stored: int, now: int) -> dict[SeriesState, Exemplars | None]:
        """The exemplars of those series that have new ones, and all that they have.

        Args:
            holds: whether a trace is in the partition.
            stored: when that was opened (ns).
            now: ns; who has waited too long is forgotten.
        """
        confirmed: dict[SeriesState, Exemplars | None] = {}
        for state in list(self._waiting)[:_LOOKS]:
            waiting = self._waiting.pop(state)
            found, rest = _parted(waiting, holds, stored, now - _PATIENCE)
            if state.is_live and rest:
                self._waiting[state] = rest  # behind the others
            if state.is_live and found:
                confirmed[state] = newest(state.exemplars, found)
        return confirmed


def _parted(
    waiting: Exemplars, holds: Callable[[bytes], bool], stored: int, oldest: int
) -> tuple[Exemplars, Exemplars]:
    """Those whose trace is there, and those that may still wait."""
    found: Exemplars = {}
    rest: Exemplars = {}
    for bucket, each in waiting.items():
        trace_id, span_id, value, time_ns, _none = each
        if holds(trace_id):
            found[bucket] = (trace_id, span_id, value, time_ns, stored)
        elif time_ns > oldest:
            rest[bucket] = each
    return found, rest


def encode_exemplars(exemplars: Exemplars | None) -> bytes | None:
    """As they stand in the database: a msgpack map."""
    return msgspec.msgpack.encode(exemplars) if exemplars else None


def decode_exemplars(blob: bytes | None) -> Exemplars | None:
    """The reverse of `encode_exemplars`."""
    return _decode(blob) if blob else None


def exemplar_views(blob: bytes | None) -> dict[int, Exemplar]:
    """What a reader is given of them."""
    found = decode_exemplars(blob) or {}
    return {
        bucket: Exemplar(trace_id.hex(), f"{span_id:016x}", value, time_ns)
        for bucket, (trace_id, span_id, value, time_ns, _stored) in found.items()
    }
