"""A mergeable quantile sketch: the OpenTelemetry base-2 exponential histogram at scale 5.

Bucket `i` holds values in `(base ** i, base ** (i + 1)]` with `base = 2 ** (1 / 32)`, so the middle
that `quantile` gives is off by at most (base - 1) / (base + 1) = 1.083 %. Merging adds counts and
changes nothing. Source: OpenTelemetry metrics data model, "ExponentialHistogram".
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from itertools import chain
from math import ceil

import msgspec

from .compiled import compiled

SCALE = 5
_PER_OCTAVE = 1 << SCALE
_ZERO = -(1 << 20)  # the bucket of zero and what is below it

_BOUNDS = [0.5, *(2 ** ((i + 1) / _PER_OCTAVE) for i in range(64 * _PER_OCTAVE))]
"""Upper bounds: of zero, then of the buckets from 0 on (which holds 1 ns too), up to 2**64."""
_place = partial(bisect_left, _BOUNDS)
_WHOLE_BOUNDS = array("q", (min(int(bound), (1 << 63) - 1) for bound in _BOUNDS)).tobytes()
"""A whole number is above a bound where it is above what is whole of it."""

Counts = dict[int, int]
"""Count by bucket index."""

_decoder = msgspec.msgpack.Decoder(dict[int, int])
_all_decoder = msgspec.msgpack.Decoder(list[dict[int, int]])
_add_counts = compiled(__package__, "add_counts")


def add(counts: Counts, values: list[int]) -> None:
    """Count values (whole ns below 2**63; negative ones count as zero) into their buckets."""
    if _add_counts is not None:
        _add_counts(counts, values, _WHOLE_BOUNDS, _ZERO)
    else:
        add_in_python(counts, values)


def add_in_python(counts: Counts, values: Iterable[int]) -> None:
    """What `add_counts` of `_native_fold.c` does."""
    for place, count in Counter(map(_place, values)).items():
        index = place - 1 if place else _ZERO
        counts[index] = counts.get(index, 0) + count


def merge(into: Counts, other: Mapping[int, int]) -> None:
    """Add another sketch's counts."""
    for index, count in other.items():
        into[index] = into.get(index, 0) + count


def merge_encoded(into: Counts, blobs: Sequence[bytes]) -> None:
    """Add the counts of stored sketches.

    Together they are one msgpack array: decoding it costs a fraction of decoding each.

    Raises:
        msgspec.MsgspecError: one of the blobs is no sketch.
    """
    array = b"\xdd" + len(blobs).to_bytes(4, "big") + b"".join(blobs)
    get = into.get
    for index, count in chain.from_iterable(map(dict.items, _all_decoder.decode(array))):
        into[index] = get(index, 0) + count


def quantile(counts: Mapping[int, int], q: float) -> float:
    """The value at rank `ceil(q * n)` (nearest rank), within 1.083 %; 0.0 where there is none."""
    return quantiles(counts, (q,))[0]


def quantiles(counts: Mapping[int, int], qs: Iterable[float]) -> list[float]:
    """`quantile` of several, in rising order."""
    total, passed, found = sum(counts.values()), 0, []
    indexes = iter(sorted(counts))
    index = _ZERO
    for q in qs:
        rank = max(1, ceil(q * total))
        while passed < rank and (following := next(indexes, None)) is not None:
            index = following
            passed += counts[index]
        found.append(middle(index))
    return found


def edges(counts: Mapping[int, int], ranks: Iterable[int]) -> dict[int, tuple[float, float]]:
    """The borders of the buckets that the values at some ranks, from 1 to their number, are in."""
    found: dict[int, tuple[float, float]] = {}
    wanted, passed = sorted(set(ranks), reverse=True), 0
    for index in sorted(counts):
        passed += counts[index]
        while wanted and wanted[-1] <= passed:
            found[wanted.pop()] = borders(index)
    return found


def borders(index: int) -> tuple[float, float]:
    """What the values of a bucket are above, and the most that they are."""
    return (0.0, 0.0) if index == _ZERO else (2 ** (index / _PER_OCTAVE), 2 ** ((index + 1) / _PER_OCTAVE))


def middle(index: int) -> float:
    """The value with the least relative error for all in the bucket."""
    low, high = borders(index)
    if not high:
        return 0.0
    return float(2 * low * high / (low + high))


def encode(counts: Counts) -> bytes:
    """As stored: a msgpack map of bucket index to count."""
    return msgspec.msgpack.encode(counts)


def decode(blob: bytes) -> Counts:
    """The reverse of `encode`.

    Raises:
        msgspec.MsgspecError: the blob is none.
    """
    return _decoder.decode(blob)
