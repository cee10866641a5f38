"""The pictures: what is asked, and how the answer is drawn."""

from __future__ import annotations

import json
import math
import urllib.parse
import urllib.request
from collections.abc import Callable, Sequence
from typing import Any

from .chart import Frame, Line, Point, heatmap, line_chart, stacked_chart

STEP = 5
"""Seconds between two scrapes, and between two points."""
_DURATION = "http_server_request_duration_seconds"
get = urllib.request.build_opener(urllib.request.ProxyHandler({})).open


class Answers:
    """Asks a Prometheus about a time; `marks` are moments to be drawn."""

    def __init__(self, url: str, start: float, end: float, marks: Sequence[tuple[float, str]]) -> None:
        self.url, self.start, self.end, self.marks = url, start, end, marks

    def frame(self, title: str, query: str, show: Callable[[float], str] = "{:g}".format, **more: Any) -> Frame:
        """An empty picture of that time."""
        return Frame(title, query, self.start, self.end, STEP, show, self.marks, **more)

    def lines(self, query: str, name: Callable[[dict[str, str]], str]) -> list[Line]:
        """The series that a query gives, largest first."""
        found = self._ask("query_range", query=query, start=self.start, end=self.end, step=STEP)["result"]
        lines = [Line(name(each["metric"]), _points(each["values"])) for each in found]
        return sorted((line for line in lines if line.points), key=lambda line: -sum(value for _, value in line.points))

    def named(self, query: str, name: str) -> list[Line]:
        """The one series that a query gives."""
        return self.lines(query, lambda _: name)

    def exemplars(self, metric: str) -> list[Point]:
        """When exemplars of a metric were, and their values."""
        found = self._ask("query_exemplars", query=metric, start=self.start, end=self.end)
        return [(each["timestamp"], float(each["value"])) for series in found for each in series["exemplars"]]

    def _ask(self, path: str, **parameters: object) -> Any:
        with get(f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}", timeout=30) as response:
            return json.load(response)["data"]


def requests(answers: Answers) -> str:
    """The traffic of each route."""
    query = f'sum by (http_route) (rate({_DURATION}_count{{http_route!=""}}[1m]))'
    lines = answers.lines(query, lambda labels: labels["http_route"])
    return stacked_chart(answers.frame("Requests per second, by route", query), lines)


def durations(answers: Answers) -> str:
    """How long requests took, with exemplars."""
    query = f"sum by (le) (rate({_DURATION}_bucket[1m]))"
    lines = sorted(answers.lines(query, lambda labels: labels["le"]), key=lambda line: float(line.name))
    cells, below = [], dict[float, float]()
    for line in lines:
        cells.append([(moment, value - below.get(moment, 0.0)) for moment, value in line.points])
        below = dict(line.points)
    used = max(number for number, row in enumerate(cells) if any(value > 0 for _, value in row)) + 1
    bounds = [float(line.name) for line in lines[:used]]
    dots = [(moment, _place(value, bounds)) for moment, value in answers.exemplars(f"{_DURATION}_bucket")]
    labels = [f"{bound:g} s" for bound in bounds]
    return heatmap(answers.frame("Duration of requests, with exemplars", query), labels, cells[:used], _thinned(dots))


def quantiles(answers: Answers) -> str:
    """The usual three percentiles."""
    query = f"histogram_quantile(…, sum by (le) (rate({_DURATION}_bucket[1m])))"
    shares = {"p99": "0.99", "p95": "0.95", "p50": "0.5"}
    lines = [line for name, share in shares.items() for line in answers.named(query.replace("…", share), name)]
    frame = answers.frame("Duration of requests, percentiles", query, "{:g} s".format)
    return line_chart(frame, lines)


def errors(answers: Answers) -> str:
    """Exceptions by type."""
    query = "sum by (exception_type) (rate(exceptions_total[1m]))"
    lines = answers.lines(query, lambda labels: labels["exception_type"].rpartition(".")[2].removesuffix("Error"))
    return stacked_chart(answers.frame("Exceptions per second, by type", query), lines)


def totals(answers: Answers) -> str:
    """All requests ever counted: killed and started again, the counter goes on."""
    query = 'sum(traces_spanmetrics_calls_total{span_kind="SPAN_KIND_SERVER"})'
    lines = answers.named(query, "requests since the first start")
    return line_chart(answers.frame("A counter, through kill -9", query, "{:,.0f}".format), lines)


def burn(answers: Answers) -> str:
    """How fast the error budget burns, as the rules see it."""
    query = "service:request_errors:ratio_rate… / scalar(slo:request_errors:budget)"
    windows = ("5m", "1h")
    lines = [line for window in windows for line in answers.named(query.replace("…", window), f"over {window}")]
    limits = [(14.4, "14.4: ErrorRatioBurnsFast fires")]
    return line_chart(
        answers.frame("Burn rate of the error budget (99.9 %)", query, "{:g} x".format, limits=limits), lines
    )


PICTURES = {each.__name__: each for each in (requests, durations, quantiles, errors, totals, burn)}


def _points(values: Sequence[tuple[float, str]]) -> list[Point]:
    found = [(moment, float(value)) for moment, value in values]
    return [(moment, value) for moment, value in found if not math.isnan(value)]


def _place(value: float, bounds: Sequence[float]) -> float:
    """Where a value is between the bounds, in rows."""
    for number, bound in enumerate(bounds):
        if value <= bound:
            before = bounds[number - 1] if number else 0.0
            return number + (value - before) / (bound - before)
    return float(len(bounds))


def _thinned(dots: Sequence[Point]) -> list[Point]:
    """At most one in some seconds and a row: others would cover it."""
    return list({(int(moment / (4 * STEP)), int(place)): (moment, place) for moment, place in dots}.values())
