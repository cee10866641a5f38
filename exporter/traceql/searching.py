"""Search: which traces have spansets that a pipeline finds.

The filters of a query see the spans that began in the window; their relations, roots and everything that is
true of a whole trace come from all of its stored spans.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from itertools import islice

from ...storage import Store
from ...storage.search import TraceReader
from ...storage.tracing import StoredSpan, hex_id
from .candidates import candidates
from .errors import TraceQLError
from .expressions import fields_of
from .fields import getter
from .model import Aggregate, Expression, Field, Filter, GroupBy, Pipeline, Query, ScalarFilter, Select, SetOperation
from .results import NO_ROOT, FoundSpan, FoundTrace, Pairs, SearchResult, SpanSet
from .spansets import Spans, compile_pipeline
from .trees import Trace
from .values import to_plain

_BATCH = 32
"""Traces that are read together."""
_SHOWN_ELSEWHERE = frozenset(
    {"name", "duration", "traceDuration", "rootName", "rootServiceName", "trace:id", "span:id", "childCount"}
) - {"childCount"}  # fmt: skip
"""Fields that a result has in places of their own."""


def search(
    store: Store,
    query: Query,
    *,
    since_ns: int,
    until_ns: int,
    limit: int,
    spans_per_set: int = 3,
    deadline: float | None = None,
) -> SearchResult:
    """Traces with spansets that a query finds, about the newest ones, by start.

    Args:
        store: what is searched.
        query: without a metrics function.
        since_ns: spans that began before are not looked for.
        until_ns: the same of those that began then or later.
        limit: of traces.
        spans_per_set: how many spans of a set are given; 0: all.
        deadline: seconds; at most, and by default, the store's own.

    Raises:
        TraceQLError: the query is one for metrics.
        QueryTimeout: the deadline passed.
    """
    if query.metric is not None:
        raise TraceQLError("a metrics query has no traces as its answer: ask for it as a range or an instant")
    reader = store.tracing(until=None if deadline is None else time.monotonic() + deadline)
    run = compile_pipeline(query.pipeline)
    shown = _Shown(query, spans_per_set)
    found: list[FoundTrace] = []
    inspected = spans = 0
    for trace in traces_of(reader, query.pipeline, since_ns, until_ns):
        inspected += 1
        spans += len(trace.spans)
        sets = run([Spans(in_window(trace, since_ns, until_ns))], trace)
        if sets:
            found.append(shown.trace(trace, sets))
            if len(found) >= limit:
                break
    found.sort(key=lambda trace: -trace.start_ns)
    return SearchResult(tuple(found), inspected, spans, reader.degraded)


def in_window(trace: Trace, since_ns: int, until_ns: int) -> list[StoredSpan]:
    """The spans of a trace that began in a window."""
    return [span for span in trace.spans if since_ns <= span.start < until_ns]


def traces_of(reader: TraceReader, pipeline: Pipeline, since_ns: int, until_ns: int) -> Iterator[Trace]:
    """Whole traces that a pipeline may find something in, each once."""
    wanted = candidates(pipeline)
    test = wanted.test
    seen: set[bytes] = set()
    for page in reader.candidates(wanted.condition, since_ns, until_ns):
        fresh = [span.trace_id for span in page if span.trace_id not in seen and (test is None or test(span))]
        ids = iter(dict.fromkeys(fresh))
        seen.update(fresh)
        while batch := list(islice(ids, _BATCH)):
            for spans in reader.traces(batch).values():
                if spans:
                    yield Trace(spans)
        reader.check_deadline()


class _Shown:
    """Makes results of spansets."""

    def __init__(self, query: Query, spans_per_set: int) -> None:
        fields = dict.fromkeys(field for field in _touched(query.pipeline) if str(field) not in _SHOWN_ELSEWHERE)
        self._fields = [(_key(field), getter(field)) for field in fields]
        self._most = spans_per_set or None

    def trace(self, trace: Trace, sets: Sequence[Spans]) -> FoundTrace:
        """A trace with its spansets."""
        root = trace.root
        return FoundTrace(
            trace.id.hex(),
            root.operation.service if root else NO_ROOT,
            root.operation.name if root else "",
            trace.start,
            trace.duration,
            trace.services,
            tuple(self._set(each, trace) for each in sets),
        )

    def _set(self, each: Spans, trace: Trace) -> SpanSet:
        attributes = tuple((name, to_plain(value)) for name, value in each.attributes)
        return SpanSet(tuple(self._span(span, trace) for span in each.spans[: self._most]), len(each.spans), attributes)

    def _span(self, span: StoredSpan, trace: Trace) -> FoundSpan:
        return FoundSpan(
            hex_id(span.span_id), span.operation.name, span.start, span.duration, self._attributes(span, trace)
        )

    def _attributes(self, span: StoredSpan, trace: Trace) -> Pairs:
        found: dict[str, object] = {}
        for key, get in self._fields:
            value = get(span, trace)
            if value is not None and key not in found:
                found[key] = to_plain(value)
        return tuple(found.items())


def _key(field: Field) -> str:
    """An attribute's bare name; an intrinsic's canonical one."""
    name = getattr(field, "name", "")
    return f"parent.{name}" if getattr(field, "of_parent", False) else str(name)


def _touched(stage: object) -> Iterator[Field]:
    """The fields that a stage's conditions and `select` refer to."""
    expressions: list[Expression | None] = []
    if isinstance(stage, Pipeline):
        for each in stage.stages:
            yield from _touched(each)
    elif isinstance(stage, SetOperation | ScalarFilter):
        yield from _touched(stage.left)
        yield from _touched(stage.right)
    elif isinstance(stage, Filter):
        expressions.append(stage.condition)
    elif isinstance(stage, GroupBy | Aggregate):
        expressions.append(stage.expression)
    elif isinstance(stage, Select):
        yield from stage.fields
    for expression in expressions:
        if expression is not None:
            yield from fields_of(expression)
