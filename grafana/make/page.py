"""A dashboard around its panels: variables, links, and the JSON that Grafana reads."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.builders.dashboard import Dashboard
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    Panel,
    VariableModel,
    VariableOption,
    VariableRefresh,
    VariableSort,
)

from .live import Live
from .panels import PROMETHEUS, link_between
from .queries import RANGE

TAG = "tracekeep"
EVERYTHING = ".*"
ENVIRONMENT, VERSION = "deployment_environment_name", "service_version"
"""Labels of `target_info`: the resource attributes `deployment.environment.name` and `service.version`."""
_ALL = VariableOption(selected=True, text="All", value="$__all")

Panels = list[Builder[Panel]]
Variables = list[Builder[VariableModel]]
Section = tuple[str, Panels]
"""A heading, and the panels under it."""

__all__ = ["Dashboard", "Panels", "choice", "instances", "page", "services", "sources", "text_of", "to"]


def page(
    name: str,
    title: str,
    description: str,
    variables: Sequence[Builder[VariableModel]],
    sections: Sequence[Section],
    *,
    since: str = "now-1h",
) -> Dashboard:
    """A dashboard; `name` is in its address."""
    made = (
        Dashboard(title)
        .uid(f"tracekeep-{name}").description(description).tags([TAG]).editable()
        .tooltip(DashboardCursorSync.CROSSHAIR).time(since, "now").refresh("30s").timezone("browser")
        .link(link_between(TAG))
    )  # fmt: skip
    for variable in variables:
        made = made.with_variable(variable)
    for heading, panels in sections:
        made = made.with_row(dashboard.Row(heading))
        for panel in panels:
            made = made.with_panel(panel)
    return made


def sources() -> Variables:
    """Variables for the data sources, so that a dashboard can be imported anywhere."""
    return [
        dashboard.DatasourceVariable("prometheus").label("Metrics").type("prometheus"),
        dashboard.DatasourceVariable("tempo").label("Traces").type("tempo"),
    ]


def instances() -> Variables:
    """Environment and version, and the instances that had them in the time that is looked at.

    Only `target_info` has the two, and only where the resource has them. An instance without it can't be told, so
    it is left in.
    """
    label = f'{ENVIRONMENT}=~"$environment"'
    known = f"last_over_time(tracekeep_writer_up[{RANGE}])"
    matching = f'last_over_time(target_info{{{label}, {VERSION}=~"$version"}}[{RANGE}])'
    untold = f"last_over_time(target_info[{RANGE}])"
    chosen = f"{known} and on (job, instance) {matching} or {known} unless on (job, instance) {untold}"
    return [
        choice("environment", "Environment", f"label_values(target_info, {ENVIRONMENT})"),
        choice("version", "Version", f"label_values(target_info{{{label}}}, {VERSION})"),
        choice("instance", "Instance", f"query_result({chosen})", regex='/instance="([^"]+)"/', everything=""),
    ]


def services(live: Live) -> Variables:
    """The services that have recorded spans, and a choice for each further label of the span metrics."""
    label = live.span_service
    own = f'{live.calls}{{instance=~"$instance", {label}=~"$service"}}'
    return [
        choice("service", "Service", f'label_values({live.calls}{{instance=~"$instance"}}, {label})'),
        *(choice(each, each, f"label_values({own}, {each})") for each in live.dimensions),
    ]


def to(name: str, *variables: str) -> str:
    """The address of another dashboard: the same time, data sources and instances, and variables such as `var-a=b`."""
    kept = [f"${{{each}:queryparam}}" for each in ("prometheus", "tempo", "environment", "version", "instance")]
    return f"/d/tracekeep-{name}?{'&'.join(['${__url_time_range}', *kept, *variables])}"


def choice(
    name: str, label: str, query: str, *, regex: str = "", everything: str = EVERYTHING
) -> dashboard.QueryVariable:
    """Any number of values, all to begin with.

    `everything` is what "All" stands for; without it, for each of the values.
    """
    variable = (
        dashboard.QueryVariable(name)
        .label(label).datasource(PROMETHEUS).query({"query": query, "refId": name}).current(_ALL)
        .multi(True).include_all(True).sort(VariableSort.ALPHABETICAL_ASC).refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
    )  # fmt: skip
    if regex:
        variable = variable.regex(regex)
    return variable.all_value(everything) if everything else variable


def text_of(made: Dashboard) -> str:
    """The JSON of a dashboard, ready to be imported or provisioned."""
    found = json.loads(json.dumps(made.build(), cls=JSONEncoder))
    for number, panel in enumerate(_panels(found["panels"]), start=1):
        panel["id"] = number  # the SDK gives none, and 0 to rows; Grafana wants them distinct
    for variable in found["templating"]["list"]:
        for key in ("auto", "auto_min", "auto_count"):  # the SDK gives them to all; they belong to intervals
            variable.pop(key, None)
    return json.dumps(found, indent=2, ensure_ascii=False) + "\n"


def _panels(panels: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for panel in panels:
        yield panel
        yield from _panels(panel.get("panels", []))
