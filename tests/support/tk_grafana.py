"""Dashboards as Grafana reads them: their queries, what their variables stand for, and what PromQL names."""

import json
import math
import re
import time
from dataclasses import dataclass
from pathlib import Path

import promql_parser as promql

FOLDER = Path(__file__).parent.parent.parent / "grafana" / "dashboards"
FILES = sorted(FOLDER.glob("*.json"))
_VARIABLE = re.compile(r"\$\{(\w+)(?::pipe)?\}|\$(\w+)")
_SPECIAL = re.compile(r"([\\^$*+?.()|\[\]{}])")
_CHILDREN = ("expr", "lhs", "rhs", "param", "vector_selector")


@dataclass(frozen=True)
class Query:
    """One target of a panel, or one variable."""

    board: str
    place: str
    """Title of the panel, or name of the variable."""
    text: str
    source: str
    """Type of the data source."""
    instant: bool = False
    exemplars: bool = False
    legend: str = ""
    format: str = ""
    unit: str = ""
    """Of the panel, or of the table's column."""

    def __str__(self):
        return f"{self.board} / {self.place}: {self.text}"


def boards():
    return {path.stem: json.loads(path.read_text()) for path in FILES}


def panels(board):
    """All panels but rows, those in collapsed rows too."""
    for panel in board["panels"]:
        yield from panels(panel) if panel.get("panels") else ()
        if panel["type"] != "row":
            yield panel


def variables(board):
    return board["templating"]["list"]


def queries(name, board, source="prometheus"):
    """The targets that go to a type of data source."""
    found = []
    for panel in panels(board):
        for target in panel["targets"]:
            kind = (target.get("datasource") or panel["datasource"])["type"]
            if kind != source:
                continue
            text = target["expr"] if kind == "prometheus" else target.get("query") or target["serviceMapQuery"]
            found.append(
                Query(
                    name,
                    panel["title"],
                    text,
                    kind,
                    bool(target.get("instant")),
                    bool(target.get("exemplar")),
                    target.get("legendFormat", ""),
                    target.get("format") or target.get("queryType", ""),
                    _unit(panel, target["refId"]),
                )
            )
    return found


def _unit(panel, letter):
    configured = panel.get("fieldConfig") or {"defaults": {}, "overrides": []}
    if panel["type"] != "table" or not panel.get("transformations"):
        return configured["defaults"].get("unit", "")
    (names,) = [each["options"]["renameByName"] for each in panel["transformations"] if each["id"] == "organize"]
    title = names[f"Value #{letter}"]
    properties = [
        one for each in configured["overrides"] if each["matcher"]["options"] == title for one in each["properties"]
    ]
    return next(each["value"] for each in properties if each["id"] == "unit")


# --- variables -----------------------------------------------------------------------------------------------------


class Dashboard:
    """A dashboard that has been opened: its variables have been asked for, in order, with everything chosen."""

    def __init__(self, board, prometheus, window):
        self._prometheus, self._window = prometheus, window
        self.values = {"__rate_interval": window, "__range": window, "__interval": "5s"}
        self.options = {}
        for variable in variables(board):
            if variable["type"] == "query":
                self._open(variable)

    def fill(self, text):
        """Put the variables in, as Grafana's Prometheus data source does. An unknown one is an error."""
        return _VARIABLE.sub(lambda found: self.values[found[1] or found[2]], text)

    def _open(self, variable):
        name = variable["name"]
        options = self.options[name] = self._ask(self.fill(variable["query"]["query"]), variable.get("regex", ""))
        # Custom "All" goes in as it is; else every value, escaped and for a string in PromQL.
        escaped = [_SPECIAL.sub(r"\\\\\1", option) for option in options]
        self.values[name] = variable.get("allValue") or f"({'|'.join(escaped)})"

    def _ask(self, query, regex):
        if found := re.fullmatch(r"label_values\((?:(.+),\s*)?(\w+)\)", query):
            selector, label = found.groups()
            return self._prometheus.label_values(label, selector)
        (expression,) = re.fullmatch(r"query_result\((.+)\)", query).groups()
        lines = [_text(sample) for sample in self._prometheus.query(expression)]
        matches = [re.search(regex.strip("/"), line) for line in lines]
        return sorted({match[1] for match in matches if match})


def _text(sample):
    """A result of `query_result` as Grafana writes it."""
    labels = ",".join(f'{key}="{value}"' for key, value in sample["metric"].items() if key != "__name__")
    moment, value = sample["value"]
    return f"{sample['metric'].get('__name__', '')}{{{labels}}} {value} {moment * 1000:.0f}"


class Unanswered(AssertionError):  # noqa: N818  # what it was
    """Queries that had no data."""


def answer(prometheus, query, expression, seconds=5):
    """What a panel would get: series with at least one number, at the end or over the last seconds; else raises."""
    if query.instant:
        result = prometheus.query(expression)
        numbers = [float(each["value"][1]) for each in result]
    else:
        now = time.time()
        asked = {"query": expression, "start": now - seconds, "end": now, "step": 1}
        result = prometheus.ask("query_range", **asked)["result"]
        numbers = [float(value) for series in result for _, value in series["values"]]
    if all(map(math.isnan, numbers)):
        raise Unanswered(str(query))
    return result


# --- what PromQL names ---------------------------------------------------------------------------------------------


def selectors(node):
    """(metric, labels that are matched) of every selector."""
    if isinstance(node, promql.VectorSelector):
        yield node.name, {matcher.name for matcher in node.matchers.matchers}
    for child in _children(node):
        yield from selectors(child)


def groupings(node):
    """(labels, metrics) of every grouping and matching: the labels, and the metrics that ought to have them."""
    labels = _labels(node)
    if labels:
        yield labels, {metric for metric, _ in selectors(node)}
    for child in _children(node):
        yield from groupings(child)


def _children(node):
    children = [getattr(node, name, None) for name in _CHILDREN] + list(getattr(node, "args", None) or [])
    return [child for child in children if isinstance(child, promql.Expr) or hasattr(child, "prettify")]


def _labels(node):
    modifier = getattr(node, "modifier", None)
    if modifier is None:
        return set()
    if isinstance(node, promql.AggregateExpr):
        return set(modifier.labels)
    matching, group = modifier.matching, modifier.group_labels
    return {*(matching.labels if matching else ()), *(group or ())}
