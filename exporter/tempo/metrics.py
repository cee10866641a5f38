"""`/tempo/api/metrics/query_range` and `/tempo/api/metrics/query`: TraceQL metrics, for panels and alert rules."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from ...storage import Store
from .. import otlp_encoding as otlp
from .. import traceql
from ..offload import QUERIES, ask
from ..problems import ParameterError
from ..traceql import Exemplar, SeriesList, TimeSeries
from ..traceql.metrics import MOST_SERIES
from ..traceql.timeline import MOST_STEPS
from . import params, plain
from .params import Window
from .told import JSON, told

_HOUR = 3600 * 10**9
_STEPS = 240
_ROUND_STEPS = tuple(seconds * 10**9 for seconds in (3600, 300, 60, 15, 5, 1))
_EXEMPLARS = 100
_MOST_SERIES, _MOST_POINTS = 10_000, 1_000_000
_MS = 10**6
_DEGRADED = "Some spans may be missing: the history can't be read completely just now (see /health)."


@told(JSON, "q", "start", "end", "since", "step", "exemplars", "maxSeries")
@plain.plainly
async def query_range(request: Request) -> Response:
    """`GET /tempo/api/metrics/query_range`: a value for each step."""
    text, window = _read_query(request), _read_window(request)
    step_ns = params.step(request, "step", _default_step(window))
    steps = (window.until_ns - window.since_ns) // step_ns + 2  # it is widened to whole ones
    if steps > MOST_STEPS:
        value = params.text(request, "step")
        raise ParameterError("step", value, f"invalid step: the time has more than {MOST_STEPS} steps; make it longer")
    exemplars = params.whole(request, "exemplars", low=0, high=999_999_999, default=_EXEMPLARS)
    series = min(_read_max_series(request), _MOST_POINTS // steps)

    def question(store: Store) -> SeriesList:
        return traceql.query_range(
            store, traceql.parse(text), since_ns=window.since_ns, until_ns=window.until_ns, step_ns=step_ns,
            exemplars=exemplars, max_series=series,
        )  # fmt: skip

    return await _answer(request, question, _range_series)


@told(JSON, "q", "start", "end", "since", "step", "exemplars", "maxSeries")
@plain.plainly
async def query(request: Request) -> Response:
    """`GET /tempo/api/metrics/query`: one value for the whole time."""
    text, window = _read_query(request), _read_window(request)
    series = _read_max_series(request)

    def question(store: Store) -> SeriesList:
        return traceql.query_instant(
            store, traceql.parse(text), since_ns=window.since_ns, until_ns=window.until_ns, max_series=series
        )  # fmt: skip

    return await _answer(request, question, _instant_series)


async def _answer(
    request: Request, question: Callable[[Store], SeriesList], form: Callable[[TimeSeries], dict[str, Any]]
) -> Response:
    def answer(store: Store) -> Response:
        store.flush(plain.FLUSH_SECONDS)
        found = question(store)
        message = " ".join(filter(None, (found.message, _DEGRADED if found.degraded else "")))
        partial = {"status": "PARTIAL", "message": message} if message else {}
        series = [form(each) for each in found if each.samples]
        return plain.json({"series": series, "metrics": {}, **partial}, degraded=found.degraded)

    return await ask(request, QUERIES, answer)


# --- parameters -------------------------------------------------------------------------------------------------------


def _read_query(request: Request) -> str:
    text = params.text(request, "q") or params.text(request, "query")
    if not text:
        raise ParameterError("q", "", "invalid q: a TraceQL query with a metrics function such as '{} | rate()'")
    return text


def _read_window(request: Request) -> Window:
    """`start` and `end`, or `since` before now, or the last hour."""
    window = params.window(request)
    length = params.duration(request, "since") or _HOUR
    if window is not None:
        return window
    now = time.time_ns()
    return Window(max(0, now - length), now)


def _read_max_series(request: Request) -> int:
    asked = params.whole(request, "maxSeries", low=0, high=999_999_999, default=MOST_SERIES)
    return min(asked or MOST_SERIES, _MOST_SERIES)


def _default_step(window: Window) -> int:
    """As Tempo chooses: some 240 steps, each a multiple of something round, at least a second."""
    step = (window.until_ns - window.since_ns) // _STEPS
    for unit in _ROUND_STEPS:
        if step >= unit:
            return step // unit * unit
    return _ROUND_STEPS[-1]


# --- documents --------------------------------------------------------------------------------------------------------


def _range_series(series: TimeSeries) -> dict[str, Any]:
    exemplars = {"exemplars": [_exemplar(each) for each in series.exemplars]} if series.exemplars else {}
    return {
        "labels": _labels(series.labels),
        "samples": [{"timestampMs": _ms(each.time_ns), "value": otlp.double(each.value)} for each in series.samples],
        **exemplars,
    }


def _instant_series(series: TimeSeries) -> dict[str, Any]:
    return {"labels": _labels(series.labels), "value": otlp.double(series.samples[-1].value)}


def _exemplar(exemplar: Exemplar) -> dict[str, Any]:
    """Grafana follows the label `trace:id`."""
    labels: Mapping[str, Any] = {**dict(exemplar.labels), "trace:id": exemplar.trace_id, "span:id": exemplar.span_id}
    return {
        "labels": _labels(labels.items()),
        "value": otlp.double(exemplar.value),
        "timestampMs": _ms(exemplar.time_ns),
    }


def _labels(labels: Iterable[tuple[str, Any]]) -> list[dict[str, Any]]:
    """What a group lacks is written `nil`, as in the language."""
    return [{"key": key, "value": otlp.any_value("nil" if value is None else value)} for key, value in labels]


def _ms(time_ns: int) -> str:
    return str(time_ns // _MS)
