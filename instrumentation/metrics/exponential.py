"""Exponential histograms as classic ones: exact, at the price of coarser buckets.

Bounds are the powers of two from 2^-20 to 2^40. At scale 0 and above, each exponential bucket lies between two of
them, so every count at a bound is exact (OpenTelemetry data model, "All scales are perfectly subsetting"). What is
smaller or not positive is in the first bucket, what is larger in the last.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

_LOW, _HIGH = -20, 40
BOUNDS = tuple(2.0**power for power in range(_LOW, _HIGH + 1))


class Buckets(Protocol):
    """The buckets on one side of zero."""

    @property
    def offset(self) -> int:
        """Index of the first."""

    @property
    def bucket_counts(self) -> Sequence[int]:
        """From the first one on."""


class ExponentialPoint(Protocol):
    """What is needed of OpenTelemetry's data point."""

    @property
    def scale(self) -> int:
        """The base is 2^(2^-scale)."""

    @property
    def zero_count(self) -> int:
        """Of values that are 0, or near it."""

    @property
    def positive(self) -> Buckets:
        """Of values above zero."""

    @property
    def negative(self) -> Buckets:
        """Of values below zero."""


def to_explicit(point: ExponentialPoint) -> list[float] | None:
    """Counts of the buckets of `BOUNDS`, `+Inf` last; None where the scale is below 0, whose buckets are wider."""
    if point.scale < 0:
        return None
    counts: list[float] = [0] * (len(BOUNDS) + 1)
    counts[0] = point.zero_count + sum(point.negative.bucket_counts)
    for index, count in enumerate(point.positive.bucket_counts, start=point.positive.offset):
        if count:
            upper = (index >> point.scale) + 1  # bucket i holds (base^i, base^(i+1)]
            counts[min(max(upper - _LOW, 0), len(BOUNDS))] += count
    return counts
