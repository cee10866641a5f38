"""The dashboards as they are committed: up to date, whole, and importable anywhere."""

import json
import re

import promql_parser as promql
import pytest
from tk_grafana import FOLDER, boards, groupings, panels, queries, variables

from tracekeep.exporter.traceql import parse
from tracekeep.grafana.make.all import dashboards
from tracekeep.grafana.make.live import live_of
from tracekeep.storage import StoreSettings

BOARDS = boards()
BUILT_IN = {"__url_time_range", "__data", "__value", "__field", "__rate_interval", "__range", "__interval", "__all"}
PROMETHEUS, TEMPO = {"type": "prometheus", "uid": "${prometheus}"}, {"type": "tempo", "uid": "${tempo}"}


def made(**settings):
    return dashboards(live_of(StoreSettings(**settings)))


def used(node):
    """All texts in a dashboard in which variables are put in."""
    if isinstance(node, dict):
        for value in node.values():
            yield from used(value)
    elif isinstance(node, list):
        for value in node:
            yield from used(value)
    elif isinstance(node, str):
        yield node


def test_they_are_up_to_date():
    """What is committed is what is made for the default settings; `make dashboards` writes it."""
    assert made() == {path.name: path.read_text() for path in FOLDER.iterdir()}


@pytest.mark.parametrize("name", BOARDS)
def test_panels_are_whole(name):
    """Each panel has a title, a description, a data source from a variable, queries with letters, and a number."""
    board = BOARDS[name]
    ids = [panel["id"] for panel in board["panels"]]
    assert len(set(ids)) == len(ids)
    assert min(ids) > 0
    titles = [panel["title"] for panel in panels(board)]
    assert len(set(titles)) == len(titles)
    for panel in panels(board):
        assert len(panel["description"]) > 20, panel["title"]
        assert panel["datasource"] in (PROMETHEUS, TEMPO), panel["title"]
        letters = [target["refId"] for target in panel["targets"]]
        assert letters == list("ABCDEFGHIJ"[: len(letters)]), panel["title"]
        assert letters, panel["title"]


@pytest.mark.parametrize("name", BOARDS)
def test_numbers_have_units(name):
    """Each panel says what its numbers are; of a table each column does."""
    for panel in panels(BOARDS[name]):
        if panel["type"] in {"timeseries", "stat", "state-timeline"}:
            assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        elif panel["type"] == "heatmap":
            assert panel["options"]["yAxis"]["unit"], panel["title"]
        elif panel["type"] == "table" and panel["datasource"] == PROMETHEUS:
            (organize,) = [each for each in panel["transformations"] if each["id"] == "organize"]
            columns = set(organize["options"]["renameByName"].values())
            units = {
                each["matcher"]["options"]
                for each in panel["fieldConfig"]["overrides"]
                if any(one["id"] == "unit" for one in each["properties"])
            }
            assert columns <= units, panel["title"]


@pytest.mark.parametrize("name", BOARDS)
def test_they_can_be_imported_anywhere(name):
    """No data source has a fixed uid, no panel comes from a library, and the dashboard has an address of its own."""
    text = json.dumps(BOARDS[name])
    assert set(re.findall(r'"uid": "([^"]*)"', text)) <= {"${prometheus}", "${tempo}", f"tracekeep-{name}"}
    assert "libraryPanel" not in text
    assert "id" not in BOARDS[name]
    sources = {each["query"] for each in variables(BOARDS[name]) if each["type"] == "datasource"}
    assert {panel["datasource"]["type"] for panel in panels(BOARDS[name])} <= sources


@pytest.mark.parametrize("name", BOARDS)
def test_variables_are_known(name):
    """Each variable that is used is one of the dashboard's or Grafana's own, and each one is used."""
    board = BOARDS[name]
    known = [each["name"] for each in variables(board)]
    assert len(set(known)) == len(known)
    names = set()
    for text in used(board):
        names |= {match[0] or match[1] for match in re.findall(r"\$\{(\w+)[^}]*\}|\$(\w+)", text)}
    assert names <= {*known, *BUILT_IN}
    assert set(known) <= names | {"tempo"}  # which exemplars and links of others need


@pytest.mark.parametrize("name", BOARDS)
def test_links_lead_somewhere(name):
    """Each link leads to a dashboard that is there, with variables that it has, from fields that its table has."""
    for panel in panels(BOARDS[name]):
        for text in used(panel):
            if not (found := re.match(r"/d/tracekeep-(\w+)\?", text)):
                continue
            assert found[1] in BOARDS, text
            known = {each["name"] for each in variables(BOARDS[found[1]])}
            assert set(re.findall(r"var-(\w+)=", text)) <= known, text
            assert set(re.findall(r"\$\{(\w+):queryparam\}", text)) <= known, text
            labels = set()
            for target in panel["targets"]:
                for each, _ in groupings(promql.parse(re.sub(r"\$__\w+", "5m", target["expr"]))):
                    labels |= each
            assert set(re.findall(r"__data\.fields\.(\w+)", text)) <= labels, text


@pytest.mark.parametrize("name", BOARDS)
def test_tempo_queries_are_traceql(name):
    """Each query to the Tempo data source that is TraceQL can be parsed by our own parser."""
    for query in queries(name, BOARDS[name], "tempo"):
        if query.format != "serviceMap":
            parse(re.sub(r"\$\{\w+:pipe\}", ".*", query.text))


def test_queries_follow_the_names():
    """With the Collector's names no query has Tempo's, its unit, nor its label of the service."""
    text = made(span_metric_names="collector")["services.json"]
    assert "traces_spanmetrics" not in text
    for query in queries("services", json.loads(text)):
        if "traces_span_metrics_duration_milliseconds_bucket{" in query.text:
            assert 'service_name=~\\"$service\\"' in json.dumps(query.text)
    assert '"unit": "ms"' in text


def test_queries_follow_the_bounds():
    """Only buckets that are there are asked for, and what they mean is said."""
    bounds = (0.1, 0.5, 1.9)
    text = made(http_duration_buckets=bounds, slow_ms=1500.0)["services.json"]
    asked = set(re.findall(r'le=\\"([\d.]+)\\"', text))
    assert asked == {"0.1", "0.5", "1.9"} - {"0.1"}
    assert "0.5 s" in text
    assert "1.9 s" in text


def test_dimensions_can_be_chosen():
    """Each further label of the span metrics is a variable, and the span metrics are narrowed by it."""
    board = json.loads(made(span_metric_dimensions=("deployment.region",))["services.json"])
    (variable,) = [each for each in variables(board) if each["name"] == "deployment_region"]
    assert variable["query"]["query"].endswith(", deployment_region)")
    narrowed = [query for query in queries("services", board) if "spanmetrics" in query.text]
    assert narrowed
    assert all('deployment_region=~"$deployment_region"' in query.text for query in narrowed)
