"""Exemplars in the database: of each bucket the newest."""

from __future__ import annotations

from collections.abc import Iterable
from math import isfinite

import msgspec

from .views import Exemplar

Found = tuple[bytes, int, float, int]
"""Trace id, span id, value and time (ns)."""
Exemplars = dict[int, Found]
"""By the number of the bucket; 0 for a counter."""

_decode = msgspec.msgpack.Decoder(Exemplars).decode
_MAX_SPAN_ID = (1 << 64) - 1
_TRACE_BYTES = 16


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
                found[bucket] = (trace_id, span_id, value, time_ns)
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
        for bucket, (trace_id, span_id, value, time_ns) in found.items()
    }
