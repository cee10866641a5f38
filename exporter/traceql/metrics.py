"""Metrics queries: the spans that a pipeline finds, counted or measured by step and group.

As in a search, filters see the spans that began in the window, and their relations come from whole traces.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

from ...storage import Store
from ...storage.conditions import All
from ...storage.search import TraceReader
from ...storage.tracing import StoredSpan
from .candidates import candidates, is_exact, is_of_operation, widen
from .expressions import compile_expression, is_of_the_span
from .fields import needs_trace
from .gathering import Gathering
from .model import Coalesce, Comparison, Expression, Filter, Metric, Pipeline, Query, Select
from .results import SeriesList
from .searching import in_window, traces_of
from .spansets import Spans, compile_pipeline
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
    return _answer(store, query, timeline, Gathering(query, timeline, wanted, max_series or MOST_SERIES), deadline)


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
    return _answer(store, query, timeline, Gathering(query, timeline, 0, max_series or MOST_SERIES), deadline)


def _answer(store: Store, query: Query, timeline: Timeline, gathering: Gathering, deadline: float | None) -> SeriesList:
    reader = store.tracing(until=None if deadline is None else time.monotonic() + deadline)
    if _is_countable(query):
        _count(reader, query, timeline, gathering)
    else:
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


def _count(reader: TraceReader, query: Query, timeline: Timeline, gathering: Gathering) -> None:
    """Let storage count the spans: its conditions are exact."""
    since, until = timeline.since_ns, timeline.until_ns
    conditions = _conditions(query.pipeline)
    tests = [compile_expression(condition) for condition in conditions if condition is not None]
    for span in reader.pending(since, until):
        if all(test(span, None) is True for test in tests):
            gathering.take(span, None)
    for numbered, tallies in reader.tallies(All([widen(each) for each in conditions]), since, until, gathering.steps):
        reader.check_deadline()
        gathering.add(numbered, tallies)


def _is_countable(query: Query) -> bool:
    """Whether operation, status, duration and start of a span tell all."""
    metric, stages = query.metric, list(_flat(query.pipeline))
    if not isinstance(metric, Metric) or not all(isinstance(stage, Filter | Select | Coalesce) for stage in stages):
        return False
    of_operation = all(is_of_operation(each) or str(each) == "status" for each in metric.by)
    of_duration = metric.field is None or str(metric.field) == "duration"
    return of_operation and of_duration and all(map(is_exact, _conditions(query.pipeline)))


def _conditions(pipeline: Pipeline) -> list[Expression | None]:
    return [stage.condition for stage in _flat(pipeline) if isinstance(stage, Filter)]


def _alone(query: Query) -> Callable[[StoredSpan], bool] | None:
    """What tells whether a span counts, where it can be told from the span alone."""
    stages = [stage for stage in _flat(query.pipeline) if not isinstance(stage, Select | Coalesce)]
    conditions, metric = _conditions(query.pipeline), query.metric
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
