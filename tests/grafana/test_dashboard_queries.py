"""Every query of every dashboard against a real Prometheus, filled by the real demo under load."""

import re
import time

import promql_parser as promql
import pytest
from tk_grafana import answer, boards, groupings, queries, selectors, variables
from tk_tempo import Grafana

BOARDS = boards()
OF_PROMETHEUS = {"scrape_duration_seconds", "scrape_samples_scraped", "up", "ALERTS"}
"""What Prometheus makes itself."""


@pytest.fixture(scope="module")
def opened(place):
    """All dashboards, opened once every variable has something to choose from."""

    def opened():
        found = place.opened()
        assert not [(name, key) for name, each in found.items() for key, options in each.options.items() if not options]
        return found

    return place.patiently(opened)


def test_the_shop_fills_all_but_what_it_cannot(place, empty_by_design):
    """With nothing wrong, exactly those panels are empty that are meant to be."""
    assert place.alone == set(empty_by_design)


@pytest.mark.parametrize("name", BOARDS)
def test_every_query_returns_data(place, opened, name):
    """With faults, each query of each panel is answered with numbers, and its legend has its labels."""
    for query in queries(name, BOARDS[name]):
        expression = opened[name].fill(query.text)
        result = place.patiently(lambda query=query, text=expression: answer(place.prometheus, query, text))
        for label in re.findall(r"\{\{(\w+)\}\}", query.legend):
            assert any(label in each["metric"] for each in result), (
                f"{query}: no series has {label}, as its legend says"
            )


@pytest.mark.parametrize("name", BOARDS)
def test_shares_are_shares(place, opened, name):
    """What is shown in percent is between 0 and 1, and Apdex is."""
    for query in queries(name, BOARDS[name]):
        if query.unit == "percentunit" or query.place == "Apdex":
            found = place.prometheus.query(opened[name].fill(query.text))
            values = [float(each["value"][1]) for each in found if each["value"][1] != "NaN"]
            assert all(-1e-9 <= value <= 1 + 1e-9 for value in values), f"{query}: {values}"


@pytest.mark.parametrize("name", BOARDS)
def test_every_traceql_query_is_answered(place, opened, name):
    """Each query to the Tempo data source finds something, in an answer that Grafana's own decoder takes."""
    tempo = Grafana(place.port, "/observability/tempo")
    for query in queries(name, BOARDS[name], "tempo"):
        text = opened[name].fill(query.text)
        if query.format == "traceql":
            place.patiently(lambda text=text: _asked(tempo, text))


def test_the_service_map_has_its_metrics(place, opened):
    """What the Tempo data source asks Prometheus for the map is answered, narrowed as the panel says."""
    (chosen,) = [query for query in queries("graph", BOARDS["graph"], "tempo") if query.format == "serviceMap"]
    narrowed = opened["graph"].fill(chosen.text)
    for part in ("total", "failed_total", "server_seconds_sum", "server_seconds_bucket"):
        metric = f"traces_service_graph_request_{part}{narrowed}"
        assert place.patiently(
            lambda metric=metric: place.prometheus.query(f"sum by (client, server) (rate({metric}[10s]))")
        )
        assert place.prometheus.query(f"group by (client, connection_type, server) ({metric})")


def test_an_operation_can_be_chosen(place, opened):
    """The name of a route, braces and all, chooses its traces as a value of the variable."""
    assert "GET /products/{product_id}" in opened["traces"].options["operation"]
    tempo = Grafana(place.port, "/observability/tempo")
    found = tempo.search('{ name =~ "GET /products/{product_id}|nothing" && kind = server }', limit=5)
    assert {trace.rootTraceName for trace in found.traces} == {"GET /products/{product_id}"}


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
    texts = [query.text for query in queries(name, BOARDS[name])]
    parsed = {text: promql.parse(opened[name].fill(text)) for text in [*texts, *_variable_queries(BOARDS[name])]}

    def none_unknown():
        known = _Known(place.prometheus)
        assert not {text: unknown for text, node in parsed.items() if (unknown := known.unknown(node))}
        return True

    place.patiently(none_unknown)


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
                found.append(metric)
                continue
            found += [f"{metric}{{{each}}}" for each in labels - self.labels(metric)]
        for labels, metrics in groupings(node):
            found += [f"by/on ({each})" for each in labels - set().union(*map(self.labels, metrics))]
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


def _asked(tempo, text):
    """What Grafana sends for a TraceQL query over the last minutes; it finds something."""
    since, until = int(time.time()) - 300, int(time.time()) + 1
    if re.search(r"\|\s*\w+_over_time\(|\|\s*rate\(", text):
        series = tempo.range(text, start=since, end=until, step="5s", exemplars=100).series
        return any(sample.value > 0 for each in series for sample in each.samples)
    return tempo.search(text, limit=50, spss=3, start=since, end=until).traces
