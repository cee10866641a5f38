"""Trees, self times and critical paths, of traces drawn by hand and of any."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracekeep.exporter.trace_tree import grow
from tracekeep.storage import SpanView

BASE = 1_000_000


def span(name, start, end, parent=None, *, kind="internal", service="shop", remote=False, span_id=None):
    return SpanView(
        trace_id="a" * 32,
        span_id=span_id or name,
        parent_span_id=parent,
        service=service,
        name=name,
        kind=kind,
        start_ns=BASE + start,
        duration_ns=end - start,
        status="unset",
        status_message=None,
        attributes={},
        resource={"service.name": service},
        scope={},
        parent_is_remote=remote,
    )


def path(tree):
    return [(each.node.span.name, each.start - BASE, each.end - BASE) for each in tree.path]


def self_times(tree):
    return {node.span.name: node.self_ns for node in tree.nodes}


def test_one_span():
    """Is the whole path, and all its own."""
    tree = grow([span("a", 0, 10)])
    assert path(tree) == [("a", 0, 10)]
    assert self_times(tree) == {"a": 10}


def test_children_one_after_another():
    """The path goes down into each and back."""
    tree = grow([span("a", 0, 100), span("b", 10, 30, "a"), span("c", 40, 90, "a"), span("d", 50, 60, "c")])
    assert path(tree) == [
        ("a", 0, 10), ("b", 10, 30), ("a", 30, 40), ("c", 40, 50), ("d", 50, 60), ("c", 60, 90), ("a", 90, 100),
    ]  # fmt: skip
    assert self_times(tree) == {"a": 30, "b": 20, "c": 40, "d": 10}
    assert [(node.span.name, node.depth) for node in tree.nodes] == [("a", 0), ("b", 1), ("c", 1), ("d", 2)]


def test_of_concurrent_children_the_last_to_finish_is_waited_for():
    """The others are not on the path; time in which several ran counts once against the parent."""
    tree = grow([span("a", 0, 100), span("b", 10, 70, "a"), span("c", 20, 90, "a"), span("d", 15, 30, "a")])
    assert path(tree) == [("a", 0, 20), ("c", 20, 90), ("a", 90, 100)]
    assert self_times(tree)["a"] == 20


def test_what_ends_before_the_waited_for_began_is_waited_for_too():
    """Fan-out in two rounds: the slowest of each."""
    tree = grow(
        [
            span("a", 0, 100),
            span("b", 0, 40, "a"),
            span("c", 0, 30, "a"),
            span("d", 40, 100, "a"),
            span("e", 45, 60, "a"),
        ]
    )
    assert path(tree) == [("b", 0, 40), ("d", 40, 100)]


def test_a_child_that_outlasts_its_parent_is_cut():
    """Work in the background keeps nobody waiting."""
    tree = grow([span("a", 0, 50), span("b", 20, 500, "a")])
    assert path(tree) == [("a", 0, 20), ("b", 20, 50)]
    assert self_times(tree) == {"a": 20, "b": 480}
    assert tree.end - tree.start == 500


def test_a_missing_parent_makes_a_root():
    """It says so; the path goes through all roots, and not through the gap between them."""
    tree = grow([span("a", 0, 10), span("b", 20, 30, "gone")])
    assert [(root.span.name, root.orphan) for root in tree.roots] == [("a", False), ("b", True)]
    assert path(tree) == [("a", 0, 10), ("b", 20, 30)]


def test_a_clock_that_is_off_is_made_up_for():
    """A called service's spans are moved into the middle of the call, with all that is below them."""
    tree = grow(
        [
            span("call", 0, 100, kind="client"),
            span("serve", 1000, 1060, "call", kind="server", service="stock", remote=True),
            span("query", 1010, 1030, "serve", kind="client", service="stock"),
        ]
    )
    assert {node.span.name: node.skew_ns for node in tree.nodes} == {"call": 0, "serve": -980, "query": -980}
    assert path(tree) == [
        ("call", 0, 20), ("serve", 20, 30), ("query", 30, 50), ("serve", 50, 80), ("call", 80, 100),
    ]  # fmt: skip
    assert tree.end - tree.start == 100


@pytest.mark.parametrize(
    "child",
    [
        span("late", 200, 210, "a", kind="consumer", service="other", remote=True),
        span("late", 200, 210, "a"),
        span("late", 200, 500, "a", kind="server", service="other", remote=True),
    ],
    ids=["consumer", "same process", "too long to fit"],
)
def test_what_may_be_late_is_left_where_it_is(child):
    """A consumer, a span of the same process, and one that the caller has no room for."""
    tree = grow([span("a", 0, 100), child])
    assert [node.skew_ns for node in tree.nodes] == [0, 0]
    assert path(tree) == [("a", 0, 100)]


def test_a_circle_has_a_root():
    """Spans that name each other as parents are shown, too."""
    tree = grow([span("a", 0, 10, "b"), span("b", 1, 9, "a"), span("c", 2, 3, "c")])
    assert sorted(node.span.name for node in tree.nodes) == ["a", "b", "c"]
    assert [root.span.name for root in tree.roots] == ["a", "c"]


def test_a_very_deep_trace():
    """However deep: nothing is recursive."""
    deep = [span(str(n), n, 20_000 - n, str(n - 1) if n else None) for n in range(5_000)]
    tree = grow(reversed(deep))
    assert tree.nodes[-1].depth == 4_999
    assert sum(each.end - each.start for each in tree.path) == 20_000


names = [str(number) for number in range(12)]
traces = st.lists(
    st.builds(
        lambda name, start, length, parent, kind, service, remote: span(
            name, start, start + length, parent, kind=kind, service=service, remote=remote
        ),
        st.sampled_from(names),
        st.integers(0, 100),
        st.integers(0, 60),
        st.none() | st.sampled_from([*names, "gone"]),
        st.sampled_from(["internal", "client", "server", "consumer"]),
        st.sampled_from(["shop", "stock"]),
        st.booleans(),
    ),
    min_size=1,
    max_size=14,
)


def own_moments(node):
    """Naively: the whole nanoseconds of a span in which none of its children ran."""
    return sum(
        not any(child.start <= moment < child.end for child in node.children) for moment in range(node.start, node.end)
    )


@given(traces)
def test_any_trace(spans):
    """Whatever the clocks and parents: each span once, times that add up, a path without overlap."""
    tree = grow(spans)
    assert sorted(map(id, (node.span for node in tree.nodes))) == sorted(map(id, spans))
    seen = set()
    for node in tree.nodes:
        assert node.parent is None or id(node.parent) in seen
        seen.add(id(node))
        assert 0 <= node.self_ns <= node.end - node.start == node.span.duration_ns
        assert node.self_ns == own_moments(node)
        assert node.children == sorted(node.children, key=lambda child: child.start)
    assert all((node.parent is None) == (node in tree.roots) for node in tree.nodes)
    for before, after in zip(tree.path, tree.path[1:], strict=False):
        assert before.end <= after.start
    for segment in tree.path:
        assert segment.node.start <= segment.start < segment.end <= segment.node.end
    length = sum(segment.end - segment.start for segment in tree.path)
    assert length <= tree.end - tree.start
    assert length == sum(node.critical_ns for node in tree.nodes)
    if len(tree.roots) == 1:
        assert length == tree.roots[0].span.duration_ns


@given(traces, st.randoms())
def test_the_order_of_arrival_changes_nothing(spans, chance):
    """The same spans in any order are the same tree, where ids are unique."""
    unique = list({each.span_id: each for each in spans}.values())
    shuffled = [*unique]
    chance.shuffle(shuffled)
    assert path(grow(unique)) == path(grow(shuffled))
    assert self_times(grow(unique)) == self_times(grow(shuffled))
