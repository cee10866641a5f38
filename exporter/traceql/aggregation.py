"""Metrics functions: spans folded into values by step, one accumulator for each series."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from .model import Duration, Metric, Value
from .timeline import Timeline
from .values import first, is_number, to_plain

_SECOND = 1e9
Points = list[float]
"""A value for each step; NaN where there is none."""


@dataclass(frozen=True, slots=True)
class Tallied:
    """What storage has counted of spans with durations in one bucket, in ns."""

    bucket: int
    count: int
    total: float
    extreme: int
    """The least one for `min_over_time`, otherwise the longest."""


class Accumulator(Protocol):
    """Takes the spans of one series."""

    def take(self, place: int, value: Value) -> None:
        """One span's value, at the number of its step."""
        ...

    def add(self, place: int, tally: Tallied) -> None:
        """Many spans, by their durations."""
        ...

    def points(self) -> Iterator[tuple[tuple[tuple[str, Value], ...], Points]]:
        """The series that it makes: further labels, and the values."""
        ...


def accumulator(metric: Metric, timeline: Timeline) -> Accumulator:
    """A new one for a metrics function."""
    name = metric.function
    if name in ("rate", "count_over_time"):
        seconds = timeline.covered / _SECOND
        return _Count(timeline.count, seconds if name == "rate" else 1.0)
    if name == "histogram_over_time":
        return _Histogram(timeline.count)
    if name == "quantile_over_time":
        return _Quantiles(timeline.count, metric.quantiles)
    return _Reduction(timeline.count, name.removesuffix("_over_time"))


def number(value: Value) -> float | None:
    """A value as metrics count it: durations in seconds; None where it is no number."""
    value = first(value)
    if not is_number(value) or math.isnan(value):
        return None
    return value / _SECOND if value.__class__ is Duration else float(value)


class _Count:
    """Spans by step, divided by something. Steps without any are 0."""

    def __init__(self, steps: int, divisor: float) -> None:
        self._counts = [0] * steps
        self._divisor = divisor

    def take(self, place: int, _value: Value) -> None:
        self._counts[place] += 1

    def add(self, place: int, tally: Tallied) -> None:
        self._counts[place] += tally.count

    def points(self) -> Iterator[tuple[tuple[tuple[str, Value], ...], Points]]:
        yield (), [count / self._divisor for count in self._counts]


_EXTREME: dict[str, Callable[[Any, Any], Any]] = {"min": min, "max": max}


class _Reduction:
    """`min`, `max`, `sum`, `avg` by step. Steps without a number have no value."""

    def __init__(self, steps: int, name: str) -> None:
        self._name = name
        self._values = [math.nan] * steps
        self._counts = [0] * steps

    def take(self, place: int, value: Value) -> None:
        taken = number(value)
        if taken is None:
            return
        self._merge(place, 1, taken)

    def add(self, place: int, tally: Tallied) -> None:
        self._merge(place, tally.count, (tally.extreme if self._name in _EXTREME else tally.total) / _SECOND)

    def _merge(self, place: int, count: int, taken: float) -> None:
        self._counts[place] += count
        if self._counts[place] == count:
            self._values[place] = taken
        else:
            self._values[place] = _EXTREME.get(self._name, operator.add)(self._values[place], taken)

    def points(self) -> Iterator[tuple[tuple[tuple[str, Value], ...], Points]]:
        if self._name == "avg":
            yield (), [value / (count or 1) for value, count in zip(self._values, self._counts, strict=True)]
        else:
            yield (), self._values


def bucket_of(value: Value) -> float | None:
    """The upper bound of a number's bucket: the next power of two, of the nanoseconds for a duration, in seconds.

    None for what isn't a positive number.
    """
    value = first(value)
    if not is_number(value) or not 0 < value < math.inf:
        return None
    if value.__class__ is float:
        mantissa, exponent = math.frexp(value)
        power = math.ldexp(1.0, exponent - 1 if mantissa == 0.5 else exponent)  # frexp's least
    else:
        power = float(1 << (int(value) - 1).bit_length())
    return power / _SECOND if value.__class__ is Duration else power


class _Buckets:
    """Counts by bucket and step."""

    def __init__(self, steps: int) -> None:
        self._steps = steps
        self._counts: dict[float, list[int]] = {}

    def take(self, place: int, value: Value) -> None:
        bucket = bucket_of(value)
        if bucket is not None:
            self._merge(place, bucket, 1)

    def add(self, place: int, tally: Tallied) -> None:
        if tally.bucket >= 0:
            self._merge(place, (1 << tally.bucket) / _SECOND, tally.count)

    def _merge(self, place: int, bucket: float, count: int) -> None:
        counts = self._counts.get(bucket)
        if counts is None:
            counts = self._counts[bucket] = [0] * self._steps
        counts[place] += count


class _Histogram(_Buckets):
    """A series for each bucket that has spans."""

    def points(self) -> Iterator[tuple[tuple[tuple[str, Value], ...], Points]]:
        for bucket in sorted(self._counts):
            yield (("__bucket", bucket),), [float(count) for count in self._counts[bucket]]


class _Quantiles(_Buckets):
    """A series for each quantile. Steps without any span are 0."""

    def __init__(self, steps: int, quantiles: tuple[float, ...]) -> None:
        super().__init__(steps)
        self._quantiles = quantiles

    def points(self) -> Iterator[tuple[tuple[tuple[str, Value], ...], Points]]:
        bounds = sorted(self._counts)
        for quantile in self._quantiles if bounds else ():
            yield (
                (("p", quantile),),
                [
                    quantile_of(quantile, [(bound, self._counts[bound][place]) for bound in bounds])
                    for place in range(self._steps)
                ],
            )


def quantile_of(quantile: float, buckets: list[tuple[float, int]]) -> float:
    """A quantile estimated from counts by upper bound, in rising order; 0 of nothing.

    The bucket with the wanted rank is found, and within it the value goes with the rank exponentially.
    A lower bound that isn't among the buckets is half of the upper one.
    """
    buckets = [(bound, count) for bound, count in buckets if count]
    rank = max(1, math.ceil(quantile * sum(count for _bound, count in buckets)))
    below = 0
    for place, (bound, count) in enumerate(buckets):
        if below + count >= rank:
            lower = buckets[place - 1][0] if place else bound / 2
            return float(bound if below + count == rank else lower * (bound / lower) ** ((rank - below) / count))
        below += count
    return 0.0


def label(value: Value) -> Value:
    """A value as a label, which can be a key; what is missing is the text `nil`."""
    plain = to_plain(first(value))
    return "nil" if plain is None else _frozen(plain)


def _frozen(value: Value) -> Value:
    return tuple(map(_frozen, value)) if value.__class__ is list else value


def thawed(labels: tuple[tuple[str, Value], ...]) -> tuple[tuple[str, Value], ...]:
    """Labels with lists in them again."""
    return tuple((name, _thawed(value)) for name, value in labels)


def _thawed(value: Value) -> Value:
    return list(map(_thawed, value)) if value.__class__ is tuple else value
