"""A trace as a tree: who called whom, whose clock was off, where the time went, and what the caller waited for.

Times that are compared are **adjusted**: a span of another process that its caller's span doesn't hold, though it
would fit, is moved to the middle of it with all that is below; clocks differ, and half of what is left over is as good
a guess as any of each way over the network. So does the clock skew adjuster of jaegertracing/jaeger. A consumer is
never moved: it may begin long after its producer has ended.

**Self time** is a span's duration less the time in which at least one of its children ran inside of it: concurrent
children count once. It is never negative.

The **critical path** is the chain of work without which the trace would have ended sooner: from the end backwards, a
span's own work after its child that finished last, then that child's path, then on from where that child began. A child
that was still running when a later one began is not on it. Source: Zhang and others, "CRISP: Critical Path Analysis
of Large-Scale Microservice Architectures", USENIX ATC 2022, section 3 (last finishing child), as in Jaeger's interface.
What a child does after its parent has ended keeps nobody waiting there, and is cut off.

Several roots, and spans whose parent is missing, are roots side by side; the path goes through them as through children
of a span that is the whole trace. Parts of the path are disjoint, so that together they are at most the trace's length.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from ..storage import SpanView


@dataclass(slots=True, eq=False)
class Node:
    """One span in its tree.

    Attributes:
        span: it.
        parent: what called it, where that is there.
        children: what it called, by adjusted start.
        orphan: whether it names a parent that is not retained.
        depth: 0 for a root.
        skew_ns: what was added to its times to make up for its clock.
        start: its adjusted start.
        end: its adjusted end.
        self_ns: time in which none of its children ran.
        critical_ns: what it has of the critical path.
    """

    span: SpanView
    start: int
    end: int
    parent: Node | None = None
    children: list[Node] = field(default_factory=list)
    orphan: bool = False
    depth: int = 0
    skew_ns: int = 0
    self_ns: int = 0
    critical_ns: int = 0


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of the critical path, in adjusted times: a span's own work."""

    node: Node
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Tree:
    """A whole trace.

    Attributes:
        roots: by adjusted start.
        nodes: all, parents before their children, siblings by adjusted start.
        start: the first adjusted start.
        end: the last adjusted end.
        path: the critical path, by time.
    """

    roots: Sequence[Node]
    nodes: Sequence[Node]
    start: int
    end: int
    path: Sequence[Segment]


def grow(spans: Iterable[SpanView]) -> Tree:
    """The tree of a trace's spans; there must be one. Nothing of it is recursive: a trace may be very deep."""
    nodes = [Node(span, span.start_ns, span.start_ns + span.duration_ns) for span in spans]
    roots = _link(nodes)
    ordered = _in_order(roots)
    _adjust(ordered)
    for node in ordered:
        node.children.sort(key=_begin)
    roots.sort(key=_begin)
    ordered = _in_order(roots)
    for node in ordered:
        node.self_ns = _self_time(node)
    path = _critical_path(roots)
    for segment in path:
        segment.node.critical_ns += segment.end - segment.start
    return Tree(roots, ordered, min(node.start for node in ordered), max(node.end for node in ordered), path)


# --- who called whom ------------------------------------------------------------------------------------------------


def _link(nodes: list[Node]) -> list[Node]:
    """Hang each node under its parent; the roots. Of spans with one id the first to begin is the parent of others."""
    nodes.sort(key=_begin)
    by_id: dict[str, Node] = {}
    for node in nodes:
        by_id.setdefault(node.span.span_id, node)
    roots = []
    for node in nodes:
        wanted = node.span.parent_span_id
        parent = by_id.get(wanted) if wanted is not None else None
        if parent is None or parent is node:
            node.orphan = wanted is not None
            roots.append(node)
        else:
            node.parent = parent
            parent.children.append(node)
    return roots + _cut_circles(nodes, roots)


def _cut_circles(nodes: list[Node], roots: list[Node]) -> list[Node]:
    """Nodes that call each other in a circle have no root: the first of them to begin becomes one."""
    reached = {id(node) for node in _in_order(roots)}
    cut = []
    for node in nodes:
        if id(node) not in reached:
            assert node.parent is not None
            node.parent.children.remove(node)
            node.parent, node.orphan = None, True
            cut.append(node)
            reached.update(id(each) for each in _in_order([node]))
    return cut


def _in_order(roots: Sequence[Node]) -> list[Node]:
    """All below the roots, parents first; sets the depth."""
    found, waiting = [], [*reversed(roots)]
    while waiting:
        node = waiting.pop()
        node.depth = node.parent.depth + 1 if node.parent is not None else 0
        found.append(node)
        waiting += reversed(node.children)
    return found


# --- clocks -----------------------------------------------------------------------------------------------------------


def _adjust(ordered: Sequence[Node]) -> None:
    for node in ordered:
        parent = node.parent
        if parent is None:
            continue
        node.skew_ns = parent.skew_ns if _same_clock(node, parent) else _skew(node, parent)
        node.start += node.skew_ns
        node.end += node.skew_ns


def _same_clock(node: Node, parent: Node) -> bool:
    """Whether one process recorded both: a span in the same process begins after its parent by the same clock."""
    return not node.span.parent_is_remote and node.span.resource == parent.span.resource


def _skew(node: Node, parent: Node) -> int:
    """What is to be added to the times of a span of another process."""
    if node.span.kind == "consumer" or (parent.start <= node.start and node.end <= parent.end):
        return 0
    room = (parent.end - parent.start) - (node.end - node.start)
    return parent.start + room // 2 - node.start if room >= 0 else 0


# --- where the time went ----------------------------------------------------------------------------------------------


def _self_time(node: Node) -> int:
    """Duration less the union of the children's times inside of it."""
    covered, until = 0, node.start
    for child in node.children:  # by start
        begin, end = max(child.start, until), min(child.end, node.end)
        if end > begin:
            covered += end - begin
            until = end
    return node.end - node.start - covered


def _critical_path(roots: Sequence[Node]) -> list[Segment]:
    """From the end backwards."""
    begin, end = min(root.start for root in roots), max(root.end for root in roots)
    path: list[Segment] = []
    frames = [_Frame(None, begin, end, roots)]
    while frames:
        frame = frames[-1]
        child = frame.last_finishing()
        until = min(child.end, frame.limit) if child is not None else frame.begin
        if frame.node is not None and frame.at > until:
            path.append(Segment(frame.node, until, frame.at))
        if child is None:
            frames.pop()
            continue
        frame.at = max(child.start, frame.begin)
        frames.append(_Frame(child, frame.at, until, child.children))
    path.reverse()
    return path


class _Frame:
    """One span of the walk: the time from `begin` to `at` is still to be explained."""

    __slots__ = ("_waiting", "at", "begin", "limit", "node")

    def __init__(self, node: Node | None, begin: int, end: int, children: Sequence[Node]) -> None:
        self.node = node
        self.begin = begin
        self.at = self.limit = end
        self._waiting = sorted(children, key=lambda child: (min(child.end, end), -child.start))

    def last_finishing(self) -> Node | None:
        """The next child that ended before where the walk is, the last one first; each is given once."""
        while self._waiting:
            child = self._waiting.pop()
            if min(child.end, self.limit) <= self.at and child.start < self.at and child.end > self.begin:
                return child
        return None


def _begin(node: Node) -> tuple[int, int, str]:
    """Siblings in order: by start, the longer first."""
    return node.start, -node.end, node.span.span_id
