"""Takes spans, gives series: one for each combination of the values that are grouped by."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from ...storage.search import Numbered, Steps, Tally
from ...storage.tracing import StoredSpan, hex_id
from .aggregation import Accumulator, Tallied, accumulator, label, number, thawed
from .comparing import Compared
from .errors import TraceQLError
from .fields import getter
from .model import Comparison, Duration, Metric, Query, Value
from .ranking import Labels, Lines, apply
from .results import Exemplar, Sample, TimeSeries
from .spansets import group_key
from .timeline import Timeline
from .trees import Trace
from .values import first


@dataclass(slots=True)
class Group:
    """One combination of the values that are grouped by."""

    labels: Labels
    accumulator: Accumulator
    exemplars: list[tuple[int, bytes, int, int, Value]] = field(default_factory=list)
    """Number of the step, trace id, span id, start, value."""


class Gathering:
    """Takes spans, gives series."""

    def __init__(self, query: Query, timeline: Timeline, exemplars: int, max_series: int) -> None:
        if query.metric is None:
            raise TraceQLError("not a metrics query: it needs a function such as rate() at its end")
        self._timeline = timeline
        self._then = query.then
        self._max_series = max_series
        self._groups: dict[Any, Group] = {}
        self._of_line: dict[Labels, Group] = {}
        self._siblings: dict[int, list[Labels]] = {}
        self._points: Lines = {}
        self._left_out = 0
        self._exemplars = _Ration(exemplars, timeline.count)
        self._compared = Compared(query.metric, timeline) if isinstance(query.metric, Comparison) else None
        self._metric = query.metric if isinstance(query.metric, Metric) else Metric("compare")
        self._by = [(str(each), getter(each)) for each in self._metric.by]
        self._value = getter(self._metric.field) if self._metric.field is not None else None

    @property
    def message(self) -> str:
        """What was left out, if anything."""
        if not self._left_out:
            return ""
        return f"The answer has its first {self._max_series} series; {self._left_out} spans of others were left out."

    def take(self, span: StoredSpan, trace: Trace | None) -> None:
        """One span."""
        if self._compared is not None:
            self._compared.take(span, trace)
            return
        group = self._group([first(get(span, trace)) for _name, get in self._by])
        if group is None:
            self._left_out += 1
            return
        place = self._timeline.place(span.start)
        value = None if self._value is None else self._value(span, trace)
        group.accumulator.take(place, value)
        if self._exemplars.left:
            self._keep(group, place, (span.trace_id, span.span_id, span.start), value)

    @property
    def steps(self) -> Steps:
        """How storage is to count for `add`."""
        function = self._metric.function
        bucketed = function in ("quantile_over_time", "histogram_over_time")
        return Steps(self._timeline.first, self._timeline.step, bucketed, function == "min_over_time")

    def add(self, numbered: Numbered, tallies: list[Tally]) -> None:
        """What storage has counted, where groups depend on operation and status alone, and the value is duration."""
        groups: dict[tuple[int, int], Group | None] = {}
        for operation, status, place, bucket, count, total, extreme, trace_id, span_id, start in tallies:
            key = (operation, status)
            if key not in groups:
                like = StoredSpan(b"", 0, None, numbered.operations[operation], {}, 0, 0, status, None, None)
                groups[key] = self._group([get(like, None) for _name, get in self._by])
            group = groups[key]
            if group is None:
                self._left_out += count
                continue
            group.accumulator.add(place, Tallied(bucket, count, total, extreme))
            if self._exemplars.left:
                value = None if self._value is None else Duration(extreme)
                self._keep(group, place, (trace_id, span_id, start), value)

    def _keep(self, group: Group, place: int, ids: tuple[bytes, int, int], value: Value) -> None:
        """A span as an exemplar, if there may be one more in its step."""
        if (self._value is None or number(value)) and self._exemplars.take(place):
            group.exemplars.append((place, *ids, value))

    def _group(self, values: list[Value]) -> Group | None:
        key = tuple(map(group_key, values))
        found = self._groups.get(key)
        if found is None and len(self._groups) < self._max_series:
            pairs = zip(self._by, values, strict=True)
            labels = tuple((name, label(value)) for (name, _get), value in pairs if value is not None)
            if self._by and not labels:
                labels = ((self._by[0][0], "nil"),)
            found = self._groups[key] = Group(labels, accumulator(self._metric, self._timeline))
        return found

    def series(self) -> Iterator[TimeSeries]:
        """All of them, by label."""
        lines = self._compared.lines() if self._compared is not None else self._lines()
        if self._then:
            lines = apply(self._then, lines)
        for labels in sorted(lines, key=str)[: self._max_series if self._compared is None else None]:
            points = lines[labels]
            samples = tuple(
                Sample(self._timeline.end_of(place), point)
                for place, point in enumerate(points)
                if not math.isnan(point)
            )
            yield TimeSeries(thawed(labels), samples, tuple(self._shown(labels, points)))

    def _lines(self) -> Lines:
        lines: Lines = {}
        if not self._groups and not self._by:
            self._group([])
        for group in self._groups.values():
            for further, points in group.accumulator.points():
                labels = group.labels + further or (("__name__", self._metric.function),)
                lines[labels] = points
                self._of_line[labels] = group
                self._siblings.setdefault(id(group), []).append(labels)
        self._points = lines
        return lines

    def _shown(self, labels: Labels, points: list[float]) -> Iterator[Exemplar]:
        """A group's exemplars, each with the nearest of its series; without a value of its own it has the series'."""
        group = self._of_line.get(labels) if self._compared is None else None
        for place, trace_id, span_id, start, value in group.exemplars if group is not None else ():
            own = number(value)
            if not math.isnan(points[place]) and self._nearest(labels, place, own):
                yield Exemplar(trace_id.hex(), hex_id(span_id), start, points[place] if own is None else own)

    def _nearest(self, labels: Labels, place: int, value: float | None) -> bool:
        """Whether of a group's series (buckets, quantiles) this is the one that a value is shown with."""
        siblings = self._siblings[id(self._of_line[labels])]
        if value is None or len(siblings) == 1:
            return True
        distances = {each: abs(self._position(each, place) - value) for each in siblings}
        return min(siblings, key=distances.__getitem__) == labels

    def _position(self, labels: Labels, place: int) -> float:
        """Where a series is: a bucket at its bound, any other at its value."""
        name, value = labels[-1]
        return float(value) if name == "__bucket" else self._points[labels][place]


class _Ration:
    """Exemplars, spread over the steps."""

    def __init__(self, count: int, steps: int) -> None:
        self.left = count
        self._each = max(1, count // steps)
        self._taken: dict[int, int] = {}

    def take(self, place: int) -> bool:
        """Whether there may be one more in a step; then it is counted."""
        taken = self._taken.get(place, 0)
        if taken >= self._each:
            return False
        self._taken[place] = taken + 1
        self.left -= 1
        return True
