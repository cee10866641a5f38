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
    verdicts: dict[int, bool] = {}

    def is_below(span: StoredSpan) -> bool:
        passed, last = [], span
        verdict = None
        for last in trace.ancestors(span):
            verdict = True if id(last) in known else verdicts.get(id(last))
            if verdict is not None:
                break
            passed.append(id(last))
        if verdict or trace.parent(last) is None:  # what was seen of a circle is told by where it was entered
            verdicts.update(dict.fromkeys(passed, bool(verdict)))
        return bool(verdict)

    return [span for span in spans if is_below(span)]


def _ancestors(descendants: Spans, spans: Spans, trace: Trace) -> list[StoredSpan]:
    known: set[int] = set()
    for span in descendants:
        for ancestor in trace.ancestors(span):
            if id(ancestor) in known:
                break
            known.add(id(ancestor))
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
