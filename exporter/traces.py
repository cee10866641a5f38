"""`/monitoring/spans` and `/monitoring/traces`: retained spans."""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.requests import Request

from ..storage import Store
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
from .responses import Json, Spans
from .trace_answers import Trace
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
    """`GET /monitoring/traces/{trace_id}`: all retained spans of one trace, as a tree, with its critical path.

    Spans stand in the tree's order: parents before their children, siblings by start. At most 10,000 are given.
    """
    read(request, ())
    trace_id = read_trace_id(request.path_params["trace_id"])
    found = await query(request, lambda store: _trace(store, trace_id))
    if found is None:
        raise HTTPException(404, f"No span of trace {trace_id} is retained.")
    return Json(found)


def _trace(store: Store, trace_id: str) -> Trace | None:
    page = store.trace(trace_id)
    return Trace.of(trace_id, page) if page.items else None
