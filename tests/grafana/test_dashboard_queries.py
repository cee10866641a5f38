"""Every query of every dashboard against a real Prometheus, filled by the real demo under load."""

import re
import time

import promql_parser as promql
import pytest
from tk_grafana import Dashboard, boards, groupings, queries, selectors, variables

from tracekeep.storage.families import FAMILIES

BOARDS = boards()
WINDOW = "15s"  # stands for $__rate_interval and $__range: the shop has not run for long
OF_PROMETHEUS = {"scrape_duration_seconds", "scrape_samples_scraped", "up", "ALERTS"}
"""What Prometheus makes itself."""


@pytest.fixture(scope="module")
def opened(place):
    """All dashboards, opened once every variable has something to choose from."""

    def opened():
        found = {name: Dashboard(board, place.prometheus, WINDOW) for name, board in BOARDS.items()}
        empty = [
            (name, key) for name, each in found.items() for key, options in each.options.items() if len(options) < 1
        ]
        assert not empty
        return found

    return place.patiently(opened)


@pytest.mark.parametrize("name", BOARDS)
def test_every_query_returns_data(place, opened, name):
    """Each query of each panel, with everything chosen, is answered with numbers, and its legend has its labels."""
    for query in queries(name, BOARDS[name]):
        if (missing := _to_come(query.text)) is not None:
            pytest.skip(f"{missing} is not exposed yet: {query.place}")
        result = place.patiently(lambda query=query: _answer(place.prometheus, opened[name].fill(query.text), query))
        for label in re.findall(r"\{\{(\w+)\}\}", query.legend):
            assert any(label in each["metric"] for each in result), (
                f"{query}: no series has {label}, as its legend says"
            )


@pytest.mark.parametrize("name", BOARDS)
def test_exemplars_are_there(place, opened, name):
    """Where a panel shows exemplars there are some, and each has the trace's id."""
    for query in queries(name, BOARDS[name]):
        if query.exemplars:
            expression = opened[name].fill(query.text)
            found = place.patiently(lambda expression=expression: place.prometheus.exemplars(expression))
            assert all(re.fullmatch(r"[0-9a-f]{32}", labels["trace_id"]) for _, labels, _ in found)


@pytest.mark.parametrize("name", BOARDS)
def test_metrics_and_labels_are_exposed(place, opened, name):
    """No query names a metric or a label that the shop or its guest doesn't expose."""
    place.patiently(lambda: opened)
    known = _Known(place.prometheus)
    texts = [query.text for query in queries(name, BOARDS[name])]
    for text in [*texts, *_variable_queries(BOARDS[name])]:
        assert known.unknown(promql.parse(opened[name].fill(text))) == [], text


@pytest.mark.parametrize(
    ("expression", "unknown"),
    [
        ("rate(http_server_request_duration_seconds_bucket[5m])", []),
        ("rate(http_server_request_duration_bucket[5m])", ["http_server_request_duration_bucket"]),
        ('exceptions_total{service="a", exception_typ="b"}', ["exceptions_total{exception_typ}"]),
        ("sum by (service, span_nam) (traces_spanmetrics_calls_total)", ["by/on (span_nam)"]),
        ("up * on (instance) group_left (versio) target_info", ["by/on (versio)"]),
        ("count({instance='x'})", []),
    ],
)
def test_an_unknown_name_is_found(place, opened, expression, unknown):
    """The check above sees a metric and a label that isn't there, wherever it stands."""
    assert opened
    assert _Known(place.prometheus).unknown(promql.parse(expression)) == unknown


class _Known:
    """What Prometheus has: metrics, and the labels of each."""

    def __init__(self, prometheus):
        self._prometheus = prometheus
        self._metrics = set(prometheus.label_values("__name__")) | OF_PROMETHEUS
        self._labels = {}

    def labels(self, metric):
        if metric not in self._labels:
            self._labels[metric] = self._prometheus.labels(metric or '{__name__=~".+"}')
        return self._labels[metric]

    def unknown(self, node):
        found = []
        for metric, labels in selectors(node):
            if metric and metric not in self._metrics:
                if _to_come(metric) is None:
                    found.append(metric)
                continue
            found += [f"{metric}{{{each}}}" for each in labels - self.labels(metric)]
        for labels, metrics in groupings(node):
            if not any(_to_come(metric or "") for metric in metrics):
                has = set().union(*map(self.labels, metrics))
                found += [f"by/on ({each})" for each in labels - has]
        return found


def _variable_queries(board):
    """Selectors and expressions that variables ask for."""
    for variable in variables(board):
        if variable["type"] != "query":
            continue
        text = variable["query"]["query"]
        if found := re.fullmatch(r"label_values\((.+), (\w+)\)", text):
            yield f"count by ({found[2]}) ({found[1]})"
        else:
            yield re.fullmatch(r"query_result\((.+)\)", text)[1]


def _to_come(text):
    """The name of a metric of error groups, as long as nobody exposes any."""
    found = re.search(r"tracekeep_error_groups_\w+", text)
    return found[0] if found and found[0].removesuffix("_total") not in FAMILIES else None


def _answer(prometheus, expression, query):
    """What the panel would get: at the end, or over the last seconds."""
    if query.instant:
        return prometheus.query(expression)
    now = time.time()
    result = prometheus.ask("query_range", query=expression, start=now - 5, end=now, step=1)["result"]
    numbers = [float(value) for series in result for _, value in series["values"]]
    assert any(number == number for number in numbers), f"{query}: no numbers"  # noqa: PLR0124 - not NaN
    return result
