"""A trace as `/monitoring/traces` answers it."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from ..storage import Page, SpanView
from .responses import Span, ms, rfc3339, span_fields
from .trace_tree import Node, Segment, grow


class TreeSpan(Span, frozen=True, kw_only=True):
    """A span in its tree.

    `depth` is 0 for a root. `orphan`: it names a parent that is not retained. `skew_ms` was added to its times, which
    stand as recorded, to make up for its clock: the tree and the path go by corrected ones. `self_ms` is the time in
    which none of its children ran, `critical_ms` what it has of the critical path.
    """

    depth: int
    orphan: bool
    skew_ms: float
    self_ms: float
    critical_ms: float

    @classmethod
    def of_node(cls, node: Node) -> TreeSpan:
        """From the tree."""
        return cls(
            **span_fields(node.span),
            depth=node.depth,
            orphan=node.orphan,
            skew_ms=ms(node.skew_ns),
            self_ms=ms(node.self_ns),
            critical_ms=ms(node.critical_ns),
        )


class Step(msgspec.Struct, frozen=True):
    """A part of the critical path: the span's own work, from `start` on, by corrected clocks."""

    span_id: str
    start: str
    duration_ms: float

    @classmethod
    def of(cls, segment: Segment) -> Step:
        """From the tree."""
        return cls(segment.node.span.span_id, rfc3339(max(0, segment.start)), ms(segment.end - segment.start))


class Trace(msgspec.Struct, frozen=True):
    """All retained spans of a trace, parents before their children, siblings by start.

    `duration_ms` is from the first start to the last end, by corrected clocks. `critical_path` is the work without
    which the trace would have ended sooner: from the end backwards, of each span the child that finished last.
    `missing_parents` is how many spans name a parent that is not retained; `truncated` says that there are more spans.
    """

    trace_id: str
    span_count: int
    start: str
    duration_ms: float
    roots: Sequence[str]
    missing_parents: int
    critical_path_ms: float
    critical_path: Sequence[Step]
    spans: Sequence[TreeSpan]
    truncated: bool
    degraded: bool

    @classmethod
    def of(cls, trace_id: str, found: Page[SpanView]) -> Trace:
        """From the store's view; at least one span."""
        tree = grow(found.items)
        return cls(
            trace_id,
            len(tree.nodes),
            rfc3339(max(0, tree.start)),
            ms(tree.end - tree.start),
            [root.span.span_id for root in tree.roots],
            sum(node.orphan for node in tree.nodes),
            ms(sum(segment.end - segment.start for segment in tree.path)),
            [Step.of(segment) for segment in tree.path],
            [TreeSpan.of_node(node) for node in tree.nodes],
            found.truncated,
            found.degraded,
        )
