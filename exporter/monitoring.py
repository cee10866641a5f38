"""`/monitoring`: history and statistics as JSON.

Each route lists its parameters as data, asks the store on a thread, and wraps the answer.
What this process recorded before the request is seen by it: reads flush first, bounded.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from starlette.exceptions import HTTPException
from starlette.requests import Request

from ..storage import Store
from .offload import QUERIES, ask
from .params import (
    CURSOR,
    LIMIT,
    TRACE_ID,
    attributes,
    choice,
    instant,
    milliseconds,
    read,
    read_trace_id,
    require_order,
    text,
    window,
)
from .problems import ParameterError
from .responses import Account, Cleared, Errors, Json, Performance, Spans, Trace

T = TypeVar("T")

# As for a scrape: long enough for the writer's 50 ms, short enough not to be noticed.
_FLUSH_SECONDS = 0.25
_HOUR_NS = 3600 * 10**9

SERVICE = text("service")
KIND = choice("kind", "internal", "server", "client", "producer", "consumer")
SINCE = instant("since")
UNTIL = instant("until")
WINDOW = window("window")
SHORTEST = milliseconds("min_duration_ms", "min_duration_ns")
LONGEST = milliseconds("max_duration_ms", "max_duration_ns")

ERRORS = (LIMIT, CURSOR, SERVICE, text("type"), SINCE, UNTIL)
PERFORMANCE = (WINDOW, SINCE, UNTIL, SERVICE, KIND, milliseconds("slow_ms", "threshold_ns"))
SPANS = (
    LIMIT,
    CURSOR,
    SERVICE,
    text("name"),
    KIND,
    choice("status", "unset", "ok", "error"),
    SHORTEST,
    LONGEST,
    SINCE,
    UNTIL,
    TRACE_ID,
    attributes("attribute"),
)


async def errors(request: Request) -> Json:
    """`GET /monitoring/errors`: errors, newest first, with statistics of all."""
    values = read(request, ERRORS)
    require_order(request, values, SINCE, UNTIL)
    return Json(await _query(request, lambda store: Errors.of(store.errors(**values), store.error_stats())))


async def clear_errors(request: Request) -> Json:
    """`POST /monitoring/errors/clear`: 200 when applied, 202 when the writer hasn't got to it yet."""
    read(request, ())
    command = await ask(request, QUERIES, lambda store: store.clear_errors())
    cleared = command.result.get("cleared") if command.applied else None
    return Json(Cleared(command.id, cleared), 200 if command.applied else 202)


async def performance(request: Request) -> Json:
    """`GET /monitoring/performance`: every operation over a window, and the newest slow requests."""
    values = read(request, PERFORMANCE)
    values |= _window(request, values)
    return Json(await _query(request, partial(_performance, values=values)))


async def spans(request: Request) -> Json:
    """`GET /monitoring/spans`: retained spans that match, newest first."""
    values = read(request, SPANS)
    require_order(request, values, SINCE, UNTIL)
    require_order(request, values, SHORTEST, LONGEST, or_equal=True)
    return Json(await _query(request, lambda store: Spans.of(store.spans(**values))))


async def trace(request: Request) -> Json:
    """`GET /monitoring/traces/{trace_id}`: all retained spans of one trace."""
    read(request, ())
    trace_id = read_trace_id(request.path_params["trace_id"])
    found = await _query(request, lambda store: store.trace(trace_id))
    if not found.items:
        raise HTTPException(404, f"No span of trace {trace_id} is retained.")
    return Json(Trace.of(trace_id, found))


async def accounting(request: Request) -> Json:
    """`GET /monitoring/accounting`: where every accepted record is."""
    read(request, ())
    return Json(await _query(request, lambda store: Account.of(store.accounting())))


async def _query(request: Request, question: Callable[[Store], T]) -> T:
    def flushed(store: Store) -> T:
        store.flush(_FLUSH_SECONDS)
        return question(store)

    return await ask(request, QUERIES, flushed)


def _performance(store: Store, values: dict[str, Any]) -> Performance:
    threshold_ns = values.pop("threshold_ns", round(store.settings.slow_ms * 1e6))
    since_ns, until_ns = values["since_ns"], values["until_ns"]
    found = store.performance(**values)
    slow = store.slow_requests(since_ns=since_ns, until_ns=until_ns, threshold_ns=threshold_ns)
    return Performance.of(since_ns, until_ns, found, slow)


def _window(request: Request, values: dict[str, Any]) -> dict[str, int]:
    """The window as `since_ns` and `until_ns`: from the one, the other or both, or an hour up to now."""
    length = values.pop("window_ns", None)
    if length is not None and ("since_ns" in values or "until_ns" in values):
        detail = "Parameter 'window' ends now: give either it or 'since' and 'until'."
        raise ParameterError(WINDOW.name, request.query_params[WINDOW.name], detail)
    until_ns = values.get("until_ns", time.time_ns())
    since_ns = values.get("since_ns", max(0, until_ns - (length or _HOUR_NS)))
    if since_ns >= until_ns:
        name = "since" if "since_ns" in values else "until"
        detail = "Parameter 'since' must be earlier than 'until', which is now where it isn't given."
        raise ParameterError(name, request.query_params[name], detail)
    return {"since_ns": since_ns, "until_ns": until_ns}
