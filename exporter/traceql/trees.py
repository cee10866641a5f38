"""A trace as a tree: who is whose parent, and what is true of the whole."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property

from ...storage.tracing import StoredSpan
from .results import ServiceStats

_NO_NUMBERS = (0, 0, 0)


class Trace:
    """All stored spans of a trace, by start.

    Args:
        spans: at least one.
    """

    def __init__(self, spans: Sequence[StoredSpan]) -> None:
        self.spans = spans
        self.id = spans[0].trace_id

    @cached_property
    def _by_id(self) -> dict[int, StoredSpan]:
        return {span.span_id: span for span in reversed(self.spans)}

    @cached_property
    def _children(self) -> dict[int, list[StoredSpan]]:
        found: dict[int, list[StoredSpan]] = {}
        for span in self.spans:
            if span.parent_id is not None:
                found.setdefault(span.parent_id, []).append(span)
        return found

    def parent(self, span: StoredSpan) -> StoredSpan | None:
        """Its parent, where that is stored."""
        found = None if span.parent_id is None else self._by_id.get(span.parent_id)
        return None if found is span else found

    def child_count(self, span: StoredSpan) -> int:
        """How many spans have it as their parent."""
        return sum(child is not span for child in self._children.get(span.span_id, ()))

    def ancestors(self, span: StoredSpan) -> Iterator[StoredSpan]:
        """Its parent, that one's parent and so on; each once, even where ids go round in a circle."""
        met = {id(span)}
        at = self.parent(span)
        while at is not None and id(at) not in met:
            met.add(id(at))
            yield at
            at = self.parent(at)

    @cached_property
    def root(self) -> StoredSpan | None:
        """The first span without a parent."""
        return next((span for span in self.spans if span.parent_id is None), None)

    @cached_property
    def start(self) -> int:
        """When the first span began."""
        return min(span.start for span in self.spans)

    @cached_property
    def duration(self) -> int:
        """From the first start to the last end."""
        return max(span.end for span in self.spans) - self.start

    @cached_property
    def services(self) -> dict[str, ServiceStats]:
        """Spans and failed ones by service."""
        counts: dict[str, list[int]] = {}
        for span in self.spans:
            count = counts.setdefault(span.operation.service, [0, 0])
            count[0] += 1
            count[1] += span.status == "error"
        return {service: ServiceStats(*count) for service, count in counts.items()}

    def nested(self, span: StoredSpan) -> tuple[int, int, int]:
        """Its nested set numbers: left, right, and the parent's left; a root's parent is -1.

        Spans that hang from no stored root have none: 0 each.
        """
        return self._nested.get(id(span), _NO_NUMBERS)

    @cached_property
    def _nested(self) -> dict[int, tuple[int, int, int]]:
        numbers: dict[int, tuple[int, int, int]] = {}
        counter = 0
        for root in self.spans:
            if root.parent_id is not None:
                continue
            counter += 1
            open_ = [(root, counter, -1, iter(self._below(root)))]
            met = {id(root)}
            while open_:
                span, left, parent, children = open_[-1]
                counter += 1
                child = next((each for each in children if id(each) not in met), None)
                if child is not None:
                    met.add(id(child))
                    open_.append((child, counter, left, iter(self._below(child))))
                else:
                    numbers[id(span)] = (left, counter, parent)
                    open_.pop()
        return numbers

    def _below(self, span: StoredSpan) -> list[StoredSpan]:
        """Its children; of spans with one id, the first has them."""
        return self._children.get(span.span_id, []) if self._by_id[span.span_id] is span else []
