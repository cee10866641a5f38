"""`/monitoring/spans` and `/monitoring/traces`: retained spans."""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.requests import Request

from .described import described
from .offload import query
from .params import (
    CURSOR,
    LIMIT,
    TRACE_ID,
    attributes,
    choice,
    milliseconds,
    read,
    read_trace_id,
    require_order,
)
from .performance import KIND, NAME, SERVICE
from .responses import Json, Spans, Trace
from .windows import SINCE, UNTIL

SHORTEST = milliseconds("min_duration_ms", "min_duration_ns", "Spans that took at least this long.")
LONGEST = milliseconds("max_duration_ms", "max_duration_ns", "Spans that took at most this long.")
FILTERS = (
    SERVICE,
    NAME,
    KIND,
    choice("status", "unset", "ok", "error", about="Of the spans."),
    SHORTEST,
    LONGEST,
    SINCE,
    UNTIL,
    TRACE_ID,
    attributes("attribute"),
)
SPANS = (LIMIT, CURSOR, *FILTERS)


@described(Spans, params=SPANS, tag="traces")
async def spans(request: Request) -> Json:
    """`GET /monitoring/spans`: retained spans that match, newest first."""
    values = read(request, SPANS)
    require_order(request, values, SINCE, UNTIL)
    require_order(request, values, SHORTEST, LONGEST, or_equal=True)
    return Json(await query(request, lambda store: Spans.of(store.spans(**values))))


@described(Trace, path=(TRACE_ID,), problems=(404,), tag="traces")
async def trace(request: Request) -> Json:
    """`GET /monitoring/traces/{trace_id}`: all retained spans of one trace, as a tree, with its critical path."""
    read(request, ())
    trace_id = read_trace_id(request.path_params["trace_id"])
    found = await query(request, lambda store: store.trace(trace_id))
    if not found.items:
        raise HTTPException(404, f"No span of trace {trace_id} is retained.")
    return Json(Trace.of(trace_id, found))
