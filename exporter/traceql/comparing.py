"""`compare()`: how often each value of each attribute occurs in a selection of spans, and in the others."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ...storage.tracing import StoredSpan
from .aggregation import Points, label
from .expressions import compile_expression
from .model import Comparison, Kind, Status, Value
from .ranking import Labels, Lines
from .spansets import group_key
from .timeline import Timeline
from .values import from_stored

_MOST_VALUES = 1000
"""Values of one attribute that are told apart; spans with further ones count in the total alone."""
_MOST_ATTRIBUTES = 1000


class Compared:
    """Counts by attribute, value and step.

    Args:
        comparison: as asked.
        timeline: the steps.
    """

    def __init__(self, comparison: Comparison, timeline: Timeline) -> None:
        condition = comparison.selection.condition
        self._selects = None if condition is None else compile_expression(condition)
        self._comparison = comparison
        self._timeline = timeline
        self._sides = {"baseline": _Side(timeline.count), "selection": _Side(timeline.count)}

    def take(self, span: StoredSpan, trace: Any) -> None:
        """Count one span."""
        side = self._sides["selection" if self._is_selected(span, trace) else "baseline"]
        place = self._timeline.place(span.start)
        for name, value in _attributes(span):
            side.count(name, value, place)

    def _is_selected(self, span: StoredSpan, trace: Any) -> bool:
        since, until = self._comparison.since_ns, self._comparison.until_ns
        if until and not since <= span.start < until:
            return False
        return self._selects is None or self._selects(span, trace) is True

    def lines(self) -> Lines:
        """The most frequent values of each attribute, all its values together, and which have more than was asked."""
        top = self._comparison.top
        lines: Lines = {}
        crowded: dict[str, None] = {}
        for name, side in self._sides.items():
            for attribute, (total, values) in side.counts.items():
                ranked = sorted(values.values(), key=lambda each: (-sum(each[1]), repr(each[0])))
                for value, points in ranked[:top]:
                    lines[("__meta_type", name), (attribute, value)] = points
                lines[("__meta_type", f"{name}_total"), (attribute, "nil")] = total
                if len(values) > top:
                    crowded[attribute] = None
        for attribute in crowded:
            labels: Labels = (("__meta_error", "__too_many_values__"), (attribute, "nil"))
            lines[labels] = []
        return lines


class _Side:
    """The selection, or what isn't in it."""

    def __init__(self, steps: int) -> None:
        self._steps = steps
        self.counts: dict[str, tuple[Points, dict[Any, tuple[Value, Points]]]] = {}

    def count(self, attribute: str, value: Value, place: int) -> None:
        """One span that has a value."""
        known = self.counts.get(attribute)
        if known is None:
            if len(self.counts) >= _MOST_ATTRIBUTES:
                return
            known = self.counts[attribute] = ([0.0] * self._steps, {})
        total, values = known
        total[place] += 1
        key = group_key(value)
        if key not in values:
            if len(values) >= _MOST_VALUES:
                return
            values[key] = (label(value), [0.0] * self._steps)
        values[key][1][place] += 1


def _attributes(span: StoredSpan) -> Iterator[tuple[str, Value]]:
    """All attributes of a span and of what recorded it; of its intrinsics those with few values."""
    operation, details = span.operation, span.details
    yield "name", operation.name
    yield "status", Status(span.status)
    yield "kind", Kind(operation.kind)
    if "message" in details:
        yield "statusMessage", details["message"]
    for scope, attributes in (
        ("resource", operation.resource),
        ("span", {**span.shared, **span.own}),
        ("instrumentation", operation.scope.get("attributes") or {}),
        *(("event", attributes) for _time, _name, attributes in details.get("events", ())),
        *(("link", attributes) for _trace_id, _id, attributes in details.get("links", ())),
    ):
        for name, stored in attributes.items():
            value = from_stored(stored)
            if value is not None and value.__class__ is not dict:
                yield f"{scope}.{name}", value
