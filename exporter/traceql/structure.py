"""Structural operators: which spans of two sets are related, in time proportional to the sets and the tree's depth."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ...storage.tracing import StoredSpan
from .trees import Trace

Spans = Sequence[StoredSpan]
Finder = Callable[[Spans, Spans, Trace], list[StoredSpan]]


@dataclass(frozen=True, slots=True)
class Relation:
    """Finds the spans of one set that are related to any of the other: `left`, `right`, trace."""

    of_right: Finder
    of_left: Finder


def _children(parents: Spans, spans: Spans, trace: Trace) -> list[StoredSpan]:
    known = set(map(id, parents))
    return [span for span in spans if (parent := trace.parent(span)) is not None and id(parent) in known]


def _parents(children: Spans, spans: Spans, trace: Trace) -> list[StoredSpan]:
    known = {id(parent) for child in children if (parent := trace.parent(child)) is not None}
    return [span for span in spans if id(span) in known]


def _descendants(ancestors: Spans, spans: Spans, trace: Trace) -> list[StoredSpan]:
    known = set(map(id, ancestors))
    nearest: dict[int, int | None] = {}
    """For each span that was passed the first known one above it. In a circle that may be the one that asks."""

    def above(span: StoredSpan) -> int | None:
        passed: list[int] = []
        last, found = span, None
        for last in trace.ancestors(span):
            if id(last) in known:
                found = id(last)
                break
            if id(last) in nearest:
                found = nearest[id(last)]
                break
            passed.append(id(last))
        else:
            if id(span) in known and trace.parent(last) is span:
                found = id(span)
        nearest.update(dict.fromkeys(passed, found))
        return found

    return [span for span in spans if above(span) not in (None, id(span))]


def _ancestors(descendants: Spans, spans: Spans, trace: Trace) -> list[StoredSpan]:
    known: set[int] = set()
    circles: dict[int, int] = {}
    """For each span of a circle the one that asked first: it is above the others, though not above itself."""
    for span in descendants:
        passed: list[int] = []
        last = span
        for last in trace.ancestors(span):
            if id(last) in known:
                if (first := circles.get(id(last), id(span))) != id(span):
                    known.add(first)
                break
            passed.append(id(last))
        else:
            if trace.parent(last) is span:
                circles.update(dict.fromkeys(passed, id(span)))
        known.update(passed)
    return [span for span in spans if id(span) in known]


def _siblings(others: Spans, spans: Spans, _trace: Trace) -> list[StoredSpan]:
    families: dict[int | None, set[int]] = {}
    for span in others:
        families.setdefault(span.parent_id, set()).add(id(span))
    families.pop(None, None)
    return [span for span in spans if (family := families.get(span.parent_id)) and len(family) > (id(span) in family)]


def _swapped(finder: Finder) -> Finder:
    return lambda left, right, trace: finder(right, left, trace)


RELATIONS = {
    ">": Relation(_children, _swapped(_parents)),
    "<": Relation(_parents, _swapped(_children)),
    ">>": Relation(_descendants, _swapped(_ancestors)),
    "<<": Relation(_ancestors, _swapped(_descendants)),
    "~": Relation(_siblings, _swapped(_siblings)),
}
"""By operator, without `!` and `&`."""
