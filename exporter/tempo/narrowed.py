"""What the spans have that a query finds, finished or not: suggestions that go with what is written already.

Bounded in time and in spans: what is found until then is as good as any other selection.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import islice
from typing import Any

from ...storage import QueryTimeout, Store
from ...storage.tags import Values
from ...storage.tracing import StoredSpan
from ...storage.views import TagFilter
from .. import traceql
from ..traceql.candidates import candidates
from ..traceql.expressions import compile_expression, is_of_the_span
from ..traceql.fields import getter, needs_trace
from ..traceql.model import Attribute, Field, Filter, Intrinsic, Query
from ..traceql.searching import in_window, traces_of
from ..traceql.spansets import Spans, compile_pipeline
from .names import SCOPES, Tag

_SECONDS = 1.0
_MOST_SPANS = 20_000


def read(text: str) -> Query | None:
    """What a text narrows to; None where that is nothing, or TraceQL can't be read here."""
    with suppress(ModuleNotFoundError):  # suggestions don't need it
        query = traceql.narrow(text)
        return query if query != traceql.narrow("{}") else None
    return None


def names(store: Store, query: Query, wanted: TagFilter) -> tuple[dict[str, list[str]], bool]:
    """Names of the matching spans' attributes by scope; and whether something may be missing because of a fault."""
    search = _Search(store, query, wanted)
    found: dict[str, set[str]] = {scope: set() for scope in SCOPES if wanted.scope in (None, scope)}
    for span, _trace in search.spans():
        for scope, keys in found.items():
            keys.update(_keys(span, scope))
    return {scope: sorted(keys)[: wanted.limit] for scope, keys in found.items()}, search.degraded


def values(store: Store, query: Query, tag: Tag, wanted: TagFilter) -> tuple[Values, bool]:
    """Values of an attribute or intrinsic of the matching spans; and the same."""
    fields: list[Field] = [Attribute(scope, tag.name) for scope in tag.scopes] or [Intrinsic(tag.name)]
    search, found = _Search(store, query, wanted, fields), Values(wanted.limit)
    getters = [getter(field) for field in fields]
    for span, trace in search.spans():
        for get in getters:
            found.add(get(span, trace))
        if found.is_full:
            break
    return found, search.degraded


class _Search:
    """The spans that a query finds.

    Args:
        fields: what is to be looked up of them.
    """

    def __init__(self, store: Store, query: Query, wanted: TagFilter, fields: Sequence[Field] = ()) -> None:
        self._reader = store.tracing(until=time.monotonic() + _SECONDS)
        self._pipeline = query.pipeline
        self._since, self._until = wanted.since_ns, wanted.until_ns
        self._whole_traces = any(map(needs_trace, fields))

    @property
    def degraded(self) -> bool:
        return self._reader.degraded

    def spans(self) -> Iterator[tuple[StoredSpan, Any]]:
        """Matching spans, about the newest first, until one of the bounds; with their traces where those are needed."""
        with suppress(QueryTimeout):
            yield from islice(self._alone() or self._of_traces(), _MOST_SPANS)

    def _alone(self) -> Iterator[tuple[StoredSpan, Any]] | None:
        """Where a span alone tells everything, traces need not be read: far quicker."""
        stages = self._pipeline.stages
        if self._whole_traces or len(stages) != 1 or not isinstance(stages[0], Filter):
            return None
        condition = stages[0].condition
        if condition is None or not is_of_the_span(condition):
            return None
        test = compile_expression(condition)
        pages = self._reader.candidates(candidates(self._pipeline).condition, self._since, self._until)
        return ((span, None) for page in pages for span in page if test(span, None) is True)

    def _of_traces(self) -> Iterator[tuple[StoredSpan, Any]]:
        run = compile_pipeline(self._pipeline)
        for trace in traces_of(self._reader, self._pipeline, self._since, self._until):
            for found in run([Spans(in_window(trace, self._since, self._until))], trace):
                yield from ((span, trace) for span in found.spans)


def _keys(span: StoredSpan, scope: str) -> Iterator[str]:
    if scope == "resource":
        yield from span.operation.resource
    elif scope == "instrumentation":
        yield from span.operation.scope.get("attributes") or ()
    elif scope == "span":
        yield from span.shared
        yield from span.own
    else:
        for *_, attributes in span.details.get(f"{scope}s", ()):
            yield from attributes
