"""`/monitoring/performance`: operations over a window, as time series, and one window or release beside another."""

from __future__ import annotations

from functools import partial
from typing import Any

from starlette.requests import Request

from ..storage import Store, Window
from ..storage.performance import GROUPINGS, MOST_POINTS, Minutes
from .described import described
from .offload import query
from .params import choice, instant, milliseconds, read, text, whole, window
from .performance_answers import Comparison, Performance, PerformanceSeries
from .problems import ParameterError
from .responses import Json
from .windows import SINCE, UNTIL, WINDOW, take_window

_MINUTE_NS = 60 * 10**9
_USUAL_POINTS = 60

SERVICE = text("service", about="Of the spans: their `service.name`.")
NAME = text("name", about="Of the spans.")
KIND = choice("kind", "internal", "server", "client", "producer", "consumer", about="Of the spans.")
RELEASE = text("release", shortest=0, about="Of the spans: their `service.version`; empty where they have none.")
BY = choice(
    "by",
    *GROUPINGS,
    default="operation",
    about="What is summed up. By service or release only requests count (server, consumer), unless there is a kind.",
)
STEP = window("step", f"Whole minutes; at most {MOST_POINTS} fit into the window. By default about {_USUAL_POINTS}.")
BASELINE_SINCE = instant("baseline_since", "Where the baseline begins.")
BASELINE_UNTIL = instant("baseline_until", "Where it ends.")
BASELINE_RELEASE = text("baseline_release", shortest=0, about="The release to compare with, as `release`.")

_COMMON = (WINDOW, SINCE, UNTIL, SERVICE, NAME, KIND, RELEASE)
PERFORMANCE = (
    *_COMMON,
    BY,
    whole("limit", low=1, high=1000, default=100, about="The most operations that are given, busiest first."),
    milliseconds("slow_ms", "threshold_ns", "From when on a request is listed as slow; the setting where not given."),
)
SERIES = (*_COMMON, BY, STEP, whole("limit", low=1, high=50, default=10, about="The most series, busiest first."))
COMPARE = (
    *_COMMON,
    BASELINE_SINCE,
    BASELINE_UNTIL,
    BASELINE_RELEASE,
    whole("limit", low=1, high=1000, default=100, about="The most operations and kinds of errors that are given."),
)


@described(Performance, params=PERFORMANCE, tag="performance")
async def performance(request: Request) -> Json:
    """`GET /monitoring/performance`: every operation over a window, and the newest slow requests."""
    values = read(request, PERFORMANCE)
    asked = take_window(request, values)
    return Json(await query(request, partial(_performance, asked=asked, values=values)))


@described(PerformanceSeries, params=SERIES, tag="performance")
async def series(request: Request) -> Json:
    """`GET /monitoring/performance/series`: the same step by step."""
    values = read(request, SERIES)
    asked = take_window(request, values)
    values["step_ns"] = _step(request, asked, values.get("step_ns"))

    def found(store: Store) -> PerformanceSeries:
        return PerformanceSeries.of(
            asked, store.performance_series(since_ns=asked.since_ns, until_ns=asked.until_ns, **values)
        )

    return Json(await query(request, found))


@described(Comparison, params=COMPARE, tag="performance")
async def compare(request: Request) -> Json:
    """`GET /monitoring/performance/compare`: two windows or releases; errors that are new or gone, shifts of p95."""
    values = read(request, COMPARE)
    releases = values.pop("baseline_release", values.get("release")), values.pop("release", None)
    asked = take_window(request, values)
    baseline = _baseline(request, values, asked, same=releases[0] != releases[1])

    def found(store: Store) -> Comparison:
        return Comparison.of(store.compare_performance(baseline, asked, releases=releases, **values), releases)

    return Json(await query(request, found))


def _performance(store: Store, asked: Window, values: dict[str, Any]) -> Performance:
    threshold_ns = values.pop("threshold_ns", round(store.settings.slow_ms * 1e6))
    found = store.performance(since_ns=asked.since_ns, until_ns=asked.until_ns, **values)
    slow = store.slow_requests(
        since_ns=asked.since_ns,
        until_ns=asked.until_ns,
        threshold_ns=threshold_ns,
        service=values.get("service"),
        name=values.get("name"),
    )
    return Performance.of(asked, found, slow)


def _step(request: Request, asked: Window, step_ns: int | None) -> int:
    """The step as asked for, or one of whole minutes that makes a chart's worth of points.

    Raises:
        ParameterError: it isn't whole minutes, or the points are too many.
    """
    if step_ns is None:
        minutes = Minutes.touched(asked.since_ns, asked.until_ns)
        return max(1, -(-(minutes.last - minutes.first + 1) // _USUAL_POINTS)) * _MINUTE_NS
    given = request.query_params[STEP.name]
    if step_ns % _MINUTE_NS:
        raise ParameterError(STEP.name, given, f"Parameter 'step' must be whole minutes, not {given!r}.")
    minutes = Minutes.touched(asked.since_ns, asked.until_ns, step_ns // _MINUTE_NS)
    points = (minutes.last - minutes.first + 1) * _MINUTE_NS // step_ns
    if points > MOST_POINTS:
        least = -(-(asked.until_ns - asked.since_ns) // _MINUTE_NS) // (MOST_POINTS - 2) + 1
        detail = f"Parameter 'step' makes {points} points of this window; at most {MOST_POINTS} are given: {least}m."
        raise ParameterError(STEP.name, given, detail)
    return step_ns


def _baseline(request: Request, values: dict[str, Any], asked: Window, *, same: bool) -> Window:
    """The window to compare with: as given, the same one for another release, else as long a one just before.

    Raises:
        ParameterError: only one end is given, or they are in the wrong order.
    """
    ends = [values.pop("baseline_since_ns", None), values.pop("baseline_until_ns", None)]
    since_ns, until_ns = ends
    if since_ns is None and until_ns is None:
        length = asked.until_ns - asked.since_ns
        return asked if same else Window(max(0, asked.since_ns - length), max(1, asked.since_ns))
    name = BASELINE_SINCE.name if until_ns is None else BASELINE_UNTIL.name
    if since_ns is None or until_ns is None or since_ns >= until_ns:
        detail = "Parameters 'baseline_since' and 'baseline_until' go together, the former the earlier one."
        raise ParameterError(name, request.query_params[name], detail)
    return Window(since_ns, until_ns)
