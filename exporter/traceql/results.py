"""What the engine gives: plain values, for a wire form to encode.

Values of attributes and labels are str, int, float, bool, lists of these, or None; durations stand as
Go writes them (`1.5s`), status and kind as their names. Times and durations are integers of nanoseconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from .model import Value

NO_ROOT = "<root span not yet received>"
"""The service of a trace whose root isn't stored."""

Pairs = tuple[tuple[str, Value], ...]


@dataclass(frozen=True, slots=True)
class FoundSpan:
    """A span of a spanset, with what the query's conditions and `select` refer to and it has."""

    span_id: str
    name: str
    start_ns: int
    duration_ns: int
    attributes: Pairs


@dataclass(frozen=True, slots=True)
class SpanSet:
    """Spans of one trace that belong together."""

    spans: tuple[FoundSpan, ...]
    """The first ones, by start."""
    matched: int
    """How many there are."""
    attributes: Pairs
    """What `by` and aggregates gave, by what they are written as: `by(name)`, `count()`."""


@dataclass(frozen=True, slots=True)
class ServiceStats:
    """How many spans of a trace are a service's."""

    span_count: int
    error_count: int


@dataclass(frozen=True, slots=True)
class FoundTrace:
    """A trace that has spansets."""

    trace_id: str
    root_service: str
    """`NO_ROOT` where the root isn't stored."""
    root_name: str
    start_ns: int
    duration_ns: int
    services: Mapping[str, ServiceStats]
    span_sets: tuple[SpanSet, ...]


@dataclass(frozen=True, slots=True)
class SearchResult:
    """What a search found, the newest first."""

    traces: tuple[FoundTrace, ...]
    inspected_traces: int
    inspected_spans: int
    degraded: bool = False
    """True where a database could not be read and the journals answered instead."""


@dataclass(frozen=True, slots=True)
class Sample:
    """A value at a time: of the step that ends then."""

    time_ns: int
    value: float


@dataclass(frozen=True, slots=True)
class Exemplar:
    """A span that stands for others of its series."""

    trace_id: str
    span_id: str
    time_ns: int
    value: float
    labels: Pairs = ()


@dataclass(frozen=True, slots=True)
class TimeSeries:
    """One series; steps without a value are left out."""

    labels: Pairs
    samples: tuple[Sample, ...]
    exemplars: tuple[Exemplar, ...] = ()


class SeriesList(list[TimeSeries]):
    """What a metrics query gives.

    Attributes:
        degraded: True where a database could not be read and the journals answered instead.
        message: what is not as asked, for people: series that were left out; empty where all is.
    """

    def __init__(self, series: Iterable[TimeSeries] = (), *, degraded: bool = False, message: str = "") -> None:
        super().__init__(series)
        self.degraded = degraded
        self.message = message
