"""Totals in memory: series that add up for ever, and what a batch adds to them."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from typing import Any

import msgspec

from .exemplars import Exemplars, newest
from .families import FamilySpec, Labels

_EXACT = 1 << 53


class SeriesState:
    """A series as it was committed last.

    Attributes:
        start: when it was first counted, ever (ns).
        touched: when it last changed (ns).
        shown: when some of its spans were made exemplars last (ns).
        is_live: False once it has expired: whoever remembers it must look it up again.
    """

    __slots__ = (
        "buckets", "exemplars", "is_live", "labels", "labels_text", "shown", "spec", "start", "sum", "touched", "value"
    )  # fmt: skip

    def __init__(self, spec: FamilySpec, labels: Labels, start: int, touched: int) -> None:
        self.spec = spec
        self.labels = labels
        self.labels_text = encode_labels(labels)
        self.start = start
        self.touched = touched
        self.is_live = True
        self.shown = 0
        self.value: float = 0
        self.sum: float = 0.0
        self.buckets: list[float] | None = [0] * (len(spec.bounds) + 1) if spec.has_buckets else None
        self.exemplars: Exemplars | None = None

    def after(self, delta: Delta) -> tuple[float, float, list[float] | None, Exemplars | None]:
        """Value, sum, buckets and exemplars with a delta added."""
        buckets = self.buckets
        if buckets is not None and delta.buckets is not None:
            buckets = [have + more for have, more in zip(buckets, delta.buckets, strict=True)]
        return self.value + delta.value, self.sum + delta.sum, buckets, newest(self.exemplars, delta.exemplars)

    def take(self, delta: Delta, now: int) -> None:
        """Add what has been committed."""
        self.value, self.sum, self.buckets, self.exemplars = self.after(delta)
        self.touched = now


@dataclass(slots=True)
class Delta:
    """What a batch adds to a series."""

    value: float = 0
    sum: float = 0.0
    buckets: list[float] | None = None
    exemplars: Exemplars | None = None
    candidates: Exemplars | None = None
    """Exemplars whose trace isn't known to be stored."""

    def add(self, more: Delta) -> None:
        """Add another delta of the same series."""
        self.value += more.value
        self.sum += more.sum
        if more.buckets is not None:
            have = self.buckets or [0] * len(more.buckets)
            self.buckets = [one + other for one, other in zip(have, more.buckets, strict=True)]
        self.exemplars = newest(self.exemplars, more.exemplars)
        self.candidates = newest(self.candidates, more.candidates)


def in_ns(spec: FamilySpec) -> list[int]:
    """The bounds of a metric in seconds, in whole nanoseconds."""
    return [round(bound * 1e9) for bound in spec.bounds]


def sort_into(delta: Delta, bounds: list[int], durations: list[int]) -> dict[int, int]:
    """Add sorted durations (ns) to a delta's sum and buckets; for each bucket that has some, how many come up to it."""
    delta.sum += sum(durations) / 1e9
    if delta.buckets is None:
        delta.buckets = [0] * (len(bounds) + 1)
    below, ends = 0, {}
    for index, bound in enumerate(bounds):
        at_most = bisect_right(durations, bound, below)
        if at_most > below:
            delta.buckets[index] += at_most - below
            ends[index] = below = at_most
    if below < len(durations):
        delta.buckets[-1] += len(durations) - below
        ends[len(bounds)] = len(durations)
    return ends


def encode_labels(labels: Labels) -> str:
    """As they stand in the database: a JSON array of pairs."""
    return msgspec.json.encode(labels).decode()


def decode_labels(text: str) -> Labels:
    """The reverse of `encode_labels`."""
    return tuple((name, value) for name, value in msgspec.json.decode(text))


def encode_buckets(buckets: list[float] | None) -> bytes | None:
    """As they stand in the database: a msgpack array, whole numbers as integers."""
    if buckets is None:
        return None
    return msgspec.msgpack.encode([int(each) if each < _EXACT and each == int(each) else each for each in buckets])


def decode_buckets(blob: Any) -> list[float] | None:
    """The reverse of `encode_buckets`."""
    return msgspec.msgpack.decode(blob, type=list[int | float]) if blob is not None else None


def storable(number: float) -> float:
    """A number as a column takes it: SQLite has no NaN."""
    return number if number == number else 0.0  # noqa: PLR0124  # NaN alone differs from itself
