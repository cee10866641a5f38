"""Metrics queries: the spans that a pipeline finds, counted or measured by step and group.

As in a search, filters see the spans that began in the window, and their relations come from whole traces.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from ...storage import Store
from ...storage.search import TraceReader
from ...storage.tracing import StoredSpan, hex_id
from .aggregation import Accumulator, accumulator, label, number
from .candidates import candidates
from .comparing import Compared
from .errors import TraceQLError
from .expressions import compile_expression, is_of_the_span
from .fields import getter, needs_trace
from .model import Coalesce, Comparison, Filter, Metric, Pipeline, Query, Select, Value
from .ranking import Labels, Lines, apply
from .results import Exemplar, Sample, SeriesList, TimeSeries
from .searching import in_window, traces_of
from .spansets import Spans, compile_pipeline, group_key
from .timeline import Timeline, over_instant, over_range
from .trees import Trace

MOST_SERIES = 1000
"""Series of an answer where nothing else is asked."""
_MOST_EXEMPLARS = 100

Found = Iterator[tuple[StoredSpan, Trace | None]]


def query_range(
    store: Store,
    query: Query,
    *,
    since_ns: int,
    until_ns: int,
    step_ns: int,
    exemplars: int = 0,
    max_series: int = MOST_SERIES,
    deadline: float | None = None,
) -> SeriesList:
    """Values by step.

    The window is widened to multiples of the step. Each sample covers the step that ends at its time, so the first
    one, at the multiple up to `since_ns`, is of what came before.

    Args:
        store: what is asked.
        query: with a metrics function.
        since_ns: ns since the epoch.
        until_ns: the same.
        step_ns: ns.
        exemplars: how many spans to give beside the values, over all series; at most 100.
        max_series: how many series; spans of further ones are left out, and `message` says so.
        deadline: seconds; at most, and by default, the store's own.

    Raises:
        TraceQLError: the query is none for metrics, or the steps are too many.
        QueryTimeout: the deadline passed.
    """
    timeline = over_range(since_ns, until_ns, step_ns)
    wanted = min(_exemplars(query, exemplars), _MOST_EXEMPLARS)
    return _answer(store, query, timeline, _Gathering(query, timeline, wanted, max_series or MOST_SERIES), deadline)


def query_instant(
    store: Store,
    query: Query,
    *,
    since_ns: int,
    until_ns: int,
    max_series: int = MOST_SERIES,
    deadline: float | None = None,
) -> SeriesList:
    """One value for each series, over the whole window, both ends included; otherwise as `query_range`."""
    timeline = over_instant(since_ns, until_ns)
    return _answer(store, query, timeline, _Gathering(query, timeline, 0, max_series or MOST_SERIES), deadline)


def _answer(
    store: Store, query: Query, timeline: Timeline, gathering: _Gathering, deadline: float | None
) -> SeriesList:
    reader = store.tracing(until=None if deadline is None else time.monotonic() + deadline)
    for span, trace in _spans(reader, query, timeline):
        gathering.take(span, trace)
    return SeriesList(gathering.series(), degraded=reader.degraded, message=gathering.message)


def _exemplars(query: Query, asked: int) -> int:
    """How many: the hint `exemplars` may say another number, or false for none."""
    hint = query.hints.get("exemplars")
    if hint.__class__ is int:
        return max(0, int(hint))
    return 0 if hint is False else max(0, asked)


# --- the spans ----------------------------------------------------------------------------------------------------


def _spans(reader: TraceReader, query: Query, timeline: Timeline) -> Found:
    """The spans of all spansets that the pipeline finds."""
    since, until = timeline.since_ns, timeline.until_ns
    test = _alone(query)
    if test is not None:
        wanted = candidates(query.pipeline)
        for page in reader.candidates(wanted.condition, since, until):
            reader.check_deadline()
            yield from ((span, None) for span in page if test(span))
        return
    run = compile_pipeline(query.pipeline)
    for trace in traces_of(reader, query.pipeline, since, until):
        for each in run([Spans(in_window(trace, since, until))], trace):
            yield from ((span, trace) for span in each.spans)


def _alone(query: Query) -> Callable[[StoredSpan], bool] | None:
    """What tells whether a span counts, where it can be told from the span alone."""
    stages = [stage for stage in _flat(query.pipeline) if not isinstance(stage, Select | Coalesce)]
    conditions = [stage.condition for stage in stages if isinstance(stage, Filter)]
    metric = query.metric
    if len(conditions) < len(stages) or not conditions or not all(map(is_of_the_span, conditions)):
        return None
    if isinstance(metric, Metric) and any(map(needs_trace, [*metric.by, *([metric.field] if metric.field else [])])):
        return None
    if isinstance(metric, Comparison) and not is_of_the_span(metric.selection.condition):
        return None
    tests = [compile_expression(condition) for condition in conditions if condition is not None]
    return lambda span: all(test(span, None) is True for test in tests)


def _flat(pipeline: Pipeline) -> Iterator[Any]:
    for stage in pipeline.stages:
        if isinstance(stage, Pipeline):
            yield from _flat(stage)
        else:
            yield stage


# --- the series ---------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Group:
    """One combination of the values that are grouped by."""

    labels: Labels
    accumulator: Accumulator
    exemplars: list[tuple[int, StoredSpan, Value]] = field(default_factory=list)
    """Number of the step, span, value."""


class _Gathering:
    """Takes spans, gives series."""

    def __init__(self, query: Query, timeline: Timeline, exemplars: int, max_series: int) -> None:
        if query.metric is None:
            raise TraceQLError("not a metrics query: it needs a function such as rate() at its end")
        self._timeline = timeline
        self._then = query.then
        self._max_series = max_series
        self._groups: dict[Any, _Group] = {}
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
        values = [get(span, trace) for _name, get in self._by]
        group = self._group(values)
        if group is None:
            self._left_out += 1
            return
        place = self._timeline.place(span.start)
        value = None if self._value is None else self._value(span, trace)
        group.accumulator.take(place, value)
        if self._exemplars.left and (self._value is None or number(value) is not None) and self._exemplars.take(place):
            group.exemplars.append((place, span, value))

    def _group(self, values: list[Value]) -> _Group | None:
        key = tuple(map(group_key, values))
        found = self._groups.get(key)
        if found is None and len(self._groups) < self._max_series:
            pairs = zip(self._by, values, strict=True)
            labels = tuple((name, label(value)) for (name, _get), value in pairs if value is not None)
            if self._by and not labels:
                labels = ((self._by[0][0], "nil"),)
            found = self._groups[key] = _Group(labels, accumulator(self._metric, self._timeline))
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
            yield TimeSeries(labels, samples, tuple(self._shown(labels, points)))

    def _lines(self) -> Lines:
        lines: Lines = {}
        self._of_line: dict[Labels, _Group] = {}
        if not self._groups and not self._by:
            self._group([])
        for group in self._groups.values():
            for further, points in group.accumulator.points():
                labels = group.labels + further or (("__name__", self._metric.function),)
                lines[labels] = points
                self._of_line.setdefault(labels, group)
        return lines

    def _shown(self, labels: Labels, points: list[float]) -> Iterator[Exemplar]:
        """A group's exemplars, with the first of its series; where there is no value of their own, the series' one."""
        group = self._of_line.get(labels) if self._compared is None else None
        taken, rest = [], group.exemplars if group is not None else []
        for place, span, value in rest:
            shown = number(value)
            if not math.isnan(points[place]):
                taken.append((place, span, points[place] if shown is None else shown))
        if group is not None:
            group.exemplars = []
        for _place, span, shown in taken:
            yield Exemplar(span.trace_id.hex(), hex_id(span.span_id), span.start, shown)


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
