"""`/tempo/api/search`: traces that a TraceQL query finds, in exactly the keys that Grafana's strict decoder knows."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from ...storage import Store
from .. import otlp_encoding as otlp
from .. import traceql
from ..offload import QUERIES, ask
from ..problems import ParameterError
from ..traceql import FoundSpan, FoundTrace, SearchResult, SpanSet
from . import legacy, params, plain
from .told import JSON, told

_LIMIT, _MOST = 20, 10_000
_SPANS, _MOST_SPANS = 3, 1000
_EVER = params.Window(0, (1 << 63) - 1)
_UINT32 = (1 << 32) - 1
_MS = 10**6


@told(JSON, "q", "limit", "spss", "start", "end", "tags", "minDuration", "maxDuration")
@plain.plainly
async def search(request: Request) -> Response:
    """`GET /tempo/api/search`: by `q`, or by the `tags` and durations of older Grafana."""
    text = _read_query(request)
    limit = params.whole(request, "limit", low=1, high=_MOST, default=_LIMIT)
    spans = params.whole(request, "spss", low=0, high=_MOST_SPANS, default=_SPANS) or _MOST_SPANS
    window = params.window(request) or _EVER

    def question(store: Store) -> Response:
        query = traceql.parse(text)
        store.flush(plain.FLUSH_SECONDS)
        found = traceql.search(
            store, query, since_ns=window.since_ns, until_ns=window.until_ns, limit=limit, spans_per_set=spans
        )  # fmt: skip
        return plain.json(_document(found), degraded=found.degraded)

    return await ask(request, QUERIES, question)


def _read_query(request: Request) -> str:
    text, old = params.text(request, "q"), legacy.read_query(request)
    if text and params.text(request, "tags"):
        raise ParameterError("tags", params.text(request, "tags"), "invalid tags: can't be given together with q")
    return text or old or "{}"


def _document(found: SearchResult) -> dict[str, Any]:
    """A `SearchResponse`. Newer versions' keys would make older decoders fail, so there are no others."""
    as_text = _of_several_types(span for trace in found.traces for each in trace.span_sets for span in each.spans)
    return {
        "traces": [_trace(trace, as_text) for trace in found.traces],
        "metrics": {"inspectedTraces": min(found.inspected_traces, _UINT32)},
    }


def _trace(trace: FoundTrace, as_text: set[str]) -> dict[str, Any]:
    return {
        "traceID": trace.trace_id,
        "rootServiceName": trace.root_service,
        "rootTraceName": trace.root_name,
        "startTimeUnixNano": str(trace.start_ns),
        "durationMs": min(trace.duration_ns // _MS, _UINT32),
        "serviceStats": {
            service: {"spanCount": stats.span_count, "errorCount": stats.error_count}
            for service, stats in trace.services.items()
        },
        "spanSets": [_span_set(each, as_text) for each in trace.span_sets],
    }


def _span_set(found: SpanSet, as_text: set[str]) -> dict[str, Any]:
    return {
        "spans": [_span(span, as_text) for span in found.spans],
        "matched": min(found.matched, _UINT32),
        "attributes": _attributes(found.attributes),
    }


def _span(span: FoundSpan, as_text: set[str]) -> dict[str, Any]:
    return {
        "spanID": span.span_id,
        "name": span.name,
        "startTimeUnixNano": str(span.start_ns),
        "durationNanos": str(span.duration_ns),
        "attributes": _attributes(
            (key, otlp.as_text(value) if key in as_text and value is not None else value)
            for key, value in span.attributes
        ),
    }


def _attributes(pairs: Iterable[tuple[str, Any]]) -> list[dict[str, Any]]:
    """`KeyValue`s; what has no value is left out."""
    return otlp.attributes({key: value for key, value in pairs if value is not None})


def _of_several_types(spans: Iterable[FoundSpan]) -> set[str]:
    """Keys whose values don't fit one column of a table: texts, numbers, truth values or lists."""
    kinds: dict[str, set[str]] = {}
    for span in spans:
        for key, value in span.attributes:
            if value is not None:
                kinds.setdefault(key, set()).add(_column(value))
    return {key for key, found in kinds.items() if len(found) > 1}


def _column(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    return "number" if isinstance(value, int | float) else "text" if isinstance(value, str) else "list"
