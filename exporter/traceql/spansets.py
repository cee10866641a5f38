"""Stages of a pipeline: each turns spansets of one trace into others."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from ...storage.tracing import StoredSpan
from .expressions import compile_expression
from .fields import Getter
from .model import (
    Aggregate,
    Coalesce,
    Duration,
    Filter,
    GroupBy,
    Literal,
    Pipeline,
    Scalar,
    ScalarFilter,
    Select,
    SetOperation,
    Stage,
    Value,
)
from .structure import RELATIONS, Relation
from .trees import Trace
from .values import arithmetic, comparison, first, is_number


@dataclass(frozen=True, slots=True)
class Spans:
    """A spanset while it is worked on."""

    spans: Sequence[StoredSpan]
    attributes: tuple[tuple[str, Value], ...] = ()

    def noted(self, more: Iterable[tuple[str, Value]]) -> Spans:
        """The same with further attributes, each name once."""
        return Spans(self.spans, tuple({**dict(self.attributes), **dict(more)}.items()))


Sets = list[Spans]
Step = Callable[[Sets, Trace], Sets]


def compile_pipeline(pipeline: Pipeline) -> Step:
    """What runs all stages."""
    steps = [compile_stage(stage) for stage in pipeline.stages]
    if len(steps) == 1:
        return steps[0]

    def run(sets: Sets, trace: Trace) -> Sets:
        for step in steps:
            sets = step(sets, trace)
            if not sets:
                break
        return sets

    return run


def compile_stage(stage: Stage) -> Step:
    """What runs one stage."""
    if isinstance(stage, Filter):
        return _filter(stage)
    if isinstance(stage, SetOperation):
        return _set_operation(stage)
    if isinstance(stage, Pipeline):
        return compile_pipeline(stage)
    if isinstance(stage, GroupBy):
        return _group(stage)
    if isinstance(stage, ScalarFilter):
        return _scalar_filter(stage)
    if isinstance(stage, Coalesce):
        return lambda sets, _trace: [Spans(_union(each.spans for each in sets))]
    assert isinstance(stage, Select)
    return lambda sets, _trace: sets


def _filter(stage: Filter) -> Step:
    if stage.condition is None:
        return lambda sets, _trace: [each for each in sets if each.spans]
    holds = compile_expression(stage.condition)

    def run(sets: Sets, trace: Trace) -> Sets:
        kept = []
        for each in sets:
            spans = [span for span in each.spans if holds(span, trace) is True]
            if spans:
                kept.append(Spans(spans, each.attributes))
        return kept

    return run


# --- sets and structure -------------------------------------------------------------------------------------------


def _set_operation(stage: SetOperation) -> Step:
    left, right, operator = compile_stage(stage.left), compile_stage(stage.right), stage.operator
    relation = RELATIONS.get(operator.lstrip("!&"))

    def combine(one: Sets, other: Sets, trace: Trace) -> Sequence[StoredSpan]:
        first_spans, second_spans = _union(each.spans for each in one), _union(each.spans for each in other)
        if operator == "&&":
            return _union((first_spans, second_spans)) if one and other else ()
        if operator == "||":
            return _union((first_spans, second_spans))
        assert relation is not None
        return _related(relation, operator, first_spans, second_spans, trace)

    def run(sets: Sets, trace: Trace) -> Sets:
        kept = []
        for each in sets:
            spans = combine(left([each], trace), right([each], trace), trace)
            if spans:
                kept.append(Spans(spans, each.attributes))
        return kept

    return run


def _related(
    relation: Relation, operator: str, left: Sequence[StoredSpan], right: Sequence[StoredSpan], trace: Trace
) -> Sequence[StoredSpan]:
    """Of the right those that stand in the relation to one of the left, or with `!` to none; with `&` of both."""
    found = relation.of_right(left, right, trace)
    if operator.startswith("!"):
        related = set(map(id, found))
        return [span for span in right if id(span) not in related]
    return _union((relation.of_left(left, right, trace), found)) if operator.startswith("&") else found


def _union(parts: Iterable[Sequence[StoredSpan]]) -> Sequence[StoredSpan]:
    """All spans once, by start."""
    parts = list(parts)
    if len(parts) == 1:
        return parts[0]
    found = {id(span): span for spans in parts for span in spans}
    return sorted(found.values(), key=lambda span: (span.start, -span.duration, span.span_id))


# --- groups and scalars -------------------------------------------------------------------------------------------


def _group(stage: GroupBy) -> Step:
    value_of, name = compile_expression(stage.expression), str(stage)

    def run(sets: Sets, trace: Trace) -> Sets:
        kept: Sets = []
        for each in sets:
            groups: dict[Any, tuple[Value, list[StoredSpan]]] = {}
            for span in each.spans:
                value = first(value_of(span, trace))
                groups.setdefault(group_key(value), (value, []))[1].append(span)
            kept += [Spans(spans, each.attributes).noted([(name, value)]) for value, spans in groups.values()]
        return kept

    return run


def group_key(value: Value) -> Any:
    """What tells values apart: 1, 1.0 and true are three, and all NaN are one."""
    if isinstance(value, list | dict):
        return type(value).__name__, repr(value)
    return type(value).__name__, "NaN" if isinstance(value, float) and math.isnan(value) else value


Evaluator = Callable[[Spans, Trace], Value]


def _scalar_filter(stage: ScalarFilter) -> Step:
    left, right = _scalar(stage.left), _scalar(stage.right)
    holds = comparison(stage.operator)
    shown = [(str(each), _scalar(each)) for side in (stage.left, stage.right) for each in _aggregates(side)]

    def run(sets: Sets, trace: Trace) -> Sets:
        return [
            each.noted((name, value(each, trace)) for name, value in shown)
            for each in sets
            if holds(left(each, trace), right(each, trace))
        ]

    return run


def _aggregates(scalar: Scalar) -> list[Aggregate]:
    if isinstance(scalar, Aggregate):
        return [scalar]
    return [] if isinstance(scalar, Literal) else [*_aggregates(scalar.left), *_aggregates(scalar.right)]


def _scalar(scalar: Scalar) -> Evaluator:
    if isinstance(scalar, Literal):
        value = scalar.value
        return lambda _set, _trace: value
    if isinstance(scalar, Aggregate):
        if scalar.expression is None:
            return lambda each, _trace: len(each.spans)
        return _aggregate(scalar.function, compile_expression(scalar.expression))
    left, right, combine = _scalar(scalar.left), _scalar(scalar.right), arithmetic(scalar.operator)
    return lambda each, trace: combine(left(each, trace), right(each, trace))


def _aggregate(function: str, value_of: Getter) -> Evaluator:
    """Over the spans that have a number; None where none has."""

    def evaluate(each: Spans, trace: Trace) -> Value:
        values = [value for span in each.spans if is_number(value := first(value_of(span, trace)))]
        if not values:
            return None
        if function == "min":
            return min(values)
        if function == "max":
            return max(values)
        total = sum(values)
        durations = all(value.__class__ is Duration for value in values)
        if function == "avg":
            return Duration(total // len(values)) if durations else total / len(values)
        return Duration(total) if durations else total

    return evaluate
