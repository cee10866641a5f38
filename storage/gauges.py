"""Gauges in memory: what each live process last said, and how that becomes one value.

A series of this kind lives with the processes that give it: it goes when the last of them does.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from math import inf, isnan

from .families import FamilySpec, Labels
from .series import encode_labels

_PARTS = 4  # of a journal's name: boot, pid, time in ms, random

ReadingKey = tuple[str, Labels]
"""A journal, and the labels as its process gave them."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What one process said of one of its series; of a counter the sum of what it added."""

    value: float = 0.0
    sum: float = 0.0
    buckets: tuple[float, ...] | None = None
    time: int = 0

    def plus(self, more: Reading) -> Reading:
        """With what was added since."""
        return Reading(self.value + more.value, self.sum + more.sum, _added((self, more)), max(self.time, more.time))


class GaugeState:
    """A series that is made of live processes' readings, as it was committed last.

    Attributes:
        start: when it began (ns); 0 of a gauge.
        readings: by process and labels; only an overflow series has readings with other labels than its own.
    """

    __slots__ = ("labels", "labels_text", "readings", "spec", "start")

    def __init__(self, spec: FamilySpec, labels: Labels, start: int) -> None:
        self.spec = spec
        self.labels = labels
        self.labels_text = encode_labels(labels)
        self.start = start
        self.readings: dict[ReadingKey, Reading] = {}

    def after(self, changes: dict[ReadingKey, Reading | None]) -> dict[ReadingKey, Reading]:
        """Its readings with some changed, or gone."""
        merged = {**self.readings, **changes}
        return {key: reading for key, reading in merged.items() if reading is not None}


def combine(spec: FamilySpec, readings: Collection[Reading]) -> Reading:
    """One reading of several, at least one, by the metric's policy.

    `max`, `min` and `mostrecent` choose one process's reading, with all of its buckets; values that are no
    number are passed over while there is another. All else adds up.
    """
    if len(readings) == 1:
        return next(iter(readings))
    if spec.policy == "max":
        return max(readings, key=lambda reading: -inf if isnan(reading.value) else reading.value)
    if spec.policy == "min":
        return min(readings, key=lambda reading: inf if isnan(reading.value) else reading.value)
    if spec.policy == "mostrecent":
        return max(readings, key=lambda reading: reading.time)
    return Reading(
        sum(reading.value for reading in readings),
        sum(reading.sum for reading in readings),
        _added(readings),
        max(reading.time for reading in readings),
    )


def _added(readings: Iterable[Reading]) -> tuple[float, ...] | None:
    known = [reading.buckets for reading in readings if reading.buckets is not None]
    return tuple(map(sum, zip(*known, strict=True))) if known else None


def worker_label(journal: str) -> str:
    """What tells a process from all others, for people to read: its pid and the random part of its journal's name."""
    parts = journal.split("-")
    return f"{parts[1]}-{parts[-1]}"[:32] if len(parts) == _PARTS else journal[-32:]


def started(journal: str) -> int:
    """When a process began its journal (ms), by the journal's name; 0 where that doesn't say."""
    parts = journal.split("-")
    return int(parts[2]) if len(parts) == _PARTS and parts[2].isdecimal() else 0
