"""Relations between two sets of spans, told of all at once, as they are told by asking each pair."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tk_naive import Family, related

from tracekeep.exporter.traceql.structure import RELATIONS
from tracekeep.exporter.traceql.trees import Trace
from tracekeep.storage.tracing import from_view
from tracekeep.storage.views import SpanView

MOST = 7
parents = st.lists(st.none() | st.integers(1, MOST + 1), min_size=1, max_size=MOST)
"""Of span 1, 2 and so on: missing, not stored, itself, or another; also round in circles."""
numbers = st.sets(st.integers(1, MOST))


def view(number, parent):
    return SpanView(
        trace_id="0" * 31 + "1", span_id=f"{number:016x}", parent_span_id=parent and f"{parent:016x}", service="shop",
        name="", kind="internal", start_ns=number, duration_ns=0, status="unset", status_message=None, attributes={},
        resource={}, scope={},
    )  # fmt: skip


@pytest.mark.parametrize("operator", RELATIONS)
@given(parents=parents, left=numbers, right=numbers)
@example(parents=[3, 3, 2], left={2, 3}, right={1, 2, 3})
@example(parents=[3, 3, 2], left={2}, right={1, 2, 3})
@example(parents=[3, 1, 2], left={1, 2, 3}, right={1, 2, 3})
def test_any_tree(operator, parents, left, right):
    """Both ways: which of the right are related to one of the left, and which of the left to one of the right."""
    views = [view(number, parent) for number, parent in enumerate(parents, 1)]
    family, spans = Family(views), list(map(from_view, views))
    relation, sets = RELATIONS[operator], (chosen(spans, left), chosen(spans, right), Trace(spans))
    lefts, rights = chosen(views, left), chosen(views, right)
    assert [span.span_id for span in relation.of_right(*sets)] == [
        int(other.span_id, 16) for other in rights if any(related(operator, one, other, family) for one in lefts)
    ]
    assert [span.span_id for span in relation.of_left(*sets)] == [
        int(one.span_id, 16) for one in lefts if any(related(operator, one, other, family) for other in rights)
    ]


def chosen(spans, numbers):
    return [span for number, span in enumerate(spans, 1) if number in numbers]
