"""What one look at an application's metrics gives: metrics with cumulative values, checked and bounded."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Any

import msgspec

from ...storage.families import FAMILIES, Labels, bounded

CUMULATIVE = frozenset({"counter", "barecounter", "histogram", "summary"})
"""Types whose points are journaled as what was added; all others as they are."""
TYPES = CUMULATIVE | {"gauge", "gaugehistogram", "info", "stateset", "unknown"}

_TARGET = "target"
"""Of these there is one at most: the first."""
_OWN = "tracekeep_"
_EXACT = 1 << 53
"""Whole numbers up to this are floats without loss."""
_MAX_NAME = 256
_MAX_HELP = 1024
_MAX_LABELS = 64
_MAX_BOUNDS = 1000
_MAX_FAMILIES = 5000

_SUFFIXES = {
    "counter": ("_total", "_created"),
    "barecounter": ("_created",),
    "summary": ("_sum", "_count", "_created"),
    "histogram": ("_bucket", "_sum", "_count", "_created"),
    "gaugehistogram": ("_bucket", "_gsum", "_gcount"),
    "info": ("_info",),
}
"""Of the samples that a metric is exposed with (OpenMetrics 1.0)."""


class Exemplar(msgspec.Struct, array_like=True, frozen=True):
    """A measurement made in a span: `bucket` is 0 for a counter, `time` in ns."""

    bucket: int
    trace_id: bytes
    span_id: int
    value: float
    time: int


class Point(msgspec.Struct):
    """A series as it is now. `value` is a histogram's count; `buckets` aren't cumulative, `+Inf` last."""

    value: float
    sum: float = 0.0
    buckets: list[float] | None = None
    created: int = 0
    """When it began (ns); 0 where nobody knows. Another one than before means that it began again."""
    exemplars: list[Exemplar] | None = None


class Reading(msgspec.Struct):
    """A metric as it is now; fields as in `MetricFamily`."""

    name: str
    type: str
    help: str = ""
    unit: str = ""
    policy: str = "sum"
    bounds: tuple[float, ...] = ()
    points: dict[Labels, Point] = {}
    is_added_to: bool = False
    """A gauge that is the sum of what was added, below zero too: a forked child's own part can be told."""

    @property
    def is_cumulative(self) -> bool:
        """Whether its points only grow."""
        return self.type in CUMULATIVE


class FaultError(ValueError):
    """Something that can't be taken in; `reason` is one of `faults.REASONS`."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class Readings(dict[str, Reading]):
    """All metrics of one look, by name: no name means two things."""

    def __init__(self, policies: Mapping[str, str] | None = None) -> None:
        super().__init__()
        self._policies = policies or {}
        self._taken = {sample: spec.name for spec in FAMILIES.values() for sample in samples(spec.name, spec.type)}

    def take(self, reading: Reading, *, own: bool = False, additive: bool = False) -> int:
        """Take a metric in.

        Args:
            reading: it is kept, and may be changed.
            own: made by tracekeep itself, which has its names to itself.
            additive: points that are there already are added up rather than duplicates.

        Returns:
            How many of its series were there already, and are left out.

        Raises:
            FaultError: nothing of it is taken in.
        """
        if not own and reading.name.startswith(_OWN):
            raise FaultError("conflict", f"{reading.name} is a name of tracekeep's own")
        known = self.get(reading.name)
        if known is not None and reading.name == _TARGET:
            return 0
        if known is None:
            self._claim(reading)
            reading.policy = self._policy(reading)
            self[reading.name] = reading
            return 0
        if (known.type, known.bounds, known.unit) != (reading.type, reading.bounds, reading.unit):
            raise FaultError("conflict", f"{reading.name} is a {known.type} of another kind already")
        return _merge(known, reading, additive=additive)

    def _claim(self, reading: Reading) -> None:
        if len(self) >= _MAX_FAMILIES:
            raise FaultError("limit", f"there are {_MAX_FAMILIES} metrics already")
        exposed = samples(reading.name, reading.type)
        other = next((self._taken[sample] for sample in exposed if sample in self._taken), None)
        if other is not None:
            raise FaultError("conflict", f"{reading.name} would be exposed under names of {other}")
        self._taken.update(dict.fromkeys(exposed, reading.name))

    def _policy(self, reading: Reading) -> str:
        for name in samples(reading.name, reading.type):
            if name in self._policies:
                return self._policies[name]
        return reading.policy


def _merge(known: Reading, reading: Reading, *, additive: bool) -> int:
    duplicates = 0
    for labels, point in reading.points.items():
        before = known.points.get(labels)
        if before is None:
            known.points[labels] = point
        elif additive and (known.is_cumulative or (known.is_added_to and reading.is_added_to)):
            add(before, point)
        else:
            duplicates += 1
    return duplicates


def add(point: Point, other: Point) -> None:
    """Add a cumulative point to another one of the same metric."""
    point.value += other.value
    point.sum += other.sum
    if point.buckets is not None and other.buckets is not None:
        point.buckets = [a + b for a, b in zip(point.buckets, other.buckets, strict=True)]
    point.created = min(point.created, other.created)
    if other.exemplars:
        point.exemplars = (point.exemplars or []) + other.exemplars


def samples(name: str, type_: str) -> list[str]:
    """Names that a metric is exposed under."""
    return [name, *(name + suffix for suffix in _SUFFIXES.get(type_, ()))]


# --- checks of what anybody may have written ----------------------------------------------------------------------


def checked_name(name: object) -> str:
    """A metric's or a label's name: text that can be written.

    Raises:
        FaultError: it isn't.
    """
    if not isinstance(name, str) or not name or len(name) > _MAX_NAME or not _is_writable(name):
        raise FaultError("invalid", f"{name!r:.100} is no name")
    return name


def checked_help(text: object) -> str:
    """A metric's description, cut where it is long."""
    help_ = text if isinstance(text, str) else str(text or "")
    return help_[:_MAX_HELP].encode(errors="replace").decode()


def checked_labels(pairs: Iterable[tuple[object, object]]) -> tuple[Labels, bool]:
    """Labels in the order of their names, values bounded; and whether a value was cut.

    Raises:
        FaultError: a name can't be written, or there are too many.
    """
    labels: list[tuple[str, str]] = []
    cut = False
    for name, value in pairs:
        text = value if isinstance(value, str) else str(value)
        kept = bounded(text)
        cut = cut or kept is not text
        if not kept.isascii() and not _is_writable(kept):
            kept = kept.encode(errors="replace").decode()
        labels.append((checked_label(name), kept))
    if len(labels) > _MAX_LABELS:
        raise FaultError("limit", f"a series has {len(labels)} labels")
    return tuple(sorted(labels)), cut


def checked_label(name: object) -> str:
    """A label's name.

    Raises:
        FaultError: it can't be one.
    """
    text = checked_name(name)
    if text == "__name__":
        raise FaultError("invalid", "__name__ is no label")
    return text


def checked_number(value: Any, *, cumulative: bool = False) -> float:
    """A number as it is; a cumulative one must be finite and not negative.

    Raises:
        FaultError: it isn't one.
    """
    if value.__class__ is not float and not (value.__class__ is int and -_EXACT <= value <= _EXACT):
        try:
            value = float(value)  # numpy's and others' numbers
        except (TypeError, ValueError, OverflowError):
            raise FaultError("invalid", f"{value!r:.100} is no number") from None
    number: float = value
    if cumulative and not (math.isfinite(number) and number >= 0):
        raise FaultError("invalid", f"a counter can't be {number}")
    return number


def checked_bounds(bounds: Iterable[float]) -> tuple[float, ...]:
    """Upper bounds of a histogram's buckets, without `+Inf`.

    Raises:
        FaultError: they don't rise, or there are too many.
    """
    found = tuple(bounds)
    if len(found) > _MAX_BOUNDS:
        raise FaultError("limit", f"a histogram has {len(found)} buckets")
    if any(not low < high for low, high in pairwise(found)) or not all(map(math.isfinite, found)):
        raise FaultError("invalid", "the bounds of a histogram don't rise")
    return found


def _is_writable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in text
