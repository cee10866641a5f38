"""Panels, each with a title, a description and a unit: there is no way to leave them out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from grafana_foundation_sdk.builders import common as common_builders
from grafana_foundation_sdk.builders import (
    dashboard,
    heatmap,
    nodegraph,
    prometheus,
    stat,
    statetimeline,
    table,
    tempo,
    timeseries,
)
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.variants import Dataquery
from grafana_foundation_sdk.models import common
from grafana_foundation_sdk.models import heatmap as heatmap_models
from grafana_foundation_sdk.models import tempo as tempo_models
from grafana_foundation_sdk.models.dashboard import (
    DashboardLinkType,
    DataSourceRef,
    DataTransformerConfig,
    DynamicConfigValue,
    FieldColorModeId,
    Panel,
    Threshold,
    ThresholdsMode,
)
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

PROMETHEUS = DataSourceRef(type_val="prometheus", uid="${prometheus}")
TEMPO = DataSourceRef(type_val="tempo", uid="${tempo}")

GREEN, YELLOW, RED = "green", "yellow", "red"
Limits = tuple[float, float]
"""From where a value is yellow, and from where red."""
FAILED_LIMITS: Limits = (0.01, 0.05)
"""Of a share that failed."""
_TRACES_SHOWN = 50
_EXEMPLARS = 100


@dataclass(frozen=True, slots=True)
class Line:
    """A query of a time series panel; the legend may have `{{label}}`."""

    query: str
    legend: str
    exemplars: bool = False


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table: its query gives one value for each row."""

    title: str
    query: str
    unit: str = "short"
    limits: Limits | None = None
    decimals: int | None = None


def lines(
    title: str,
    description: str,
    unit: str,
    *drawn: Line,
    width: int = 12,
    stacked: bool = False,
    limits: Limits | None = None,
    maximum: float | None = None,
) -> Builder[Panel]:
    """Values over time."""
    panel = (
        _timeseries([_over_time(each) for each in drawn], stacked=stacked)
        .title(title).description(description).datasource(PROMETHEUS).unit(unit).span(width)
        .show_points(common.VisibilityMode.NEVER)
        .legend(
            common_builders.VizLegendOptions()
            .display_mode(common.LegendDisplayMode.TABLE).placement(common.LegendPlacement.BOTTOM)
            .calcs(["mean", "max"]).show_legend(True)
        )
    )  # fmt: skip
    if maximum is not None:
        panel = panel.max(maximum)
    if limits is not None:
        panel = panel.thresholds(_thresholds(limits)).thresholds_style(
            common_builders.GraphThresholdsStyleConfig().mode(common.GraphThresholdsStyleMode.DASHED)
        )
    return panel


def number(
    title: str,
    description: str,
    unit: str,
    query: str,
    *,
    limits: Limits | None = None,
    rising: bool = True,
    width: int = 4,
    decimals: int | None = None,
) -> Builder[Panel]:
    """The latest value, with its course behind it. Without limits it has no colour; a good value may be a high one."""
    panel = (
        stat.Panel()
        .title(title).description(description).datasource(PROMETHEUS).unit(unit).height(4).span(width)
        .graph_mode(common.BigValueGraphMode.AREA).no_value("none")
        .reduce_options(common_builders.ReduceDataOptions().calcs(["lastNotNull"]))
        .color_mode(common.BigValueColorMode.NONE if limits is None else common.BigValueColorMode.VALUE)
        .thresholds(_thresholds(limits, rising=rising))
        .targets(_lettered([_over_time(Line(query, title))]))
    )  # fmt: skip
    return panel if decimals is None else panel.decimals(decimals)


def rows(
    title: str,
    description: str,
    columns: Sequence[Column],
    *,
    sort: str,
    links: Sequence[tuple[str, str, str]] = (),
    width: int = 24,
    height: int = 8,
) -> Builder[Panel]:
    """A table: a row for each set of labels that the queries of its columns give.

    Args:
        title: of the panel.
        description: what a row is and where the numbers come from.
        columns: what is asked for, each at the end of the range.
        sort: title of the column that it is sorted by, largest first.
        links: (name of the field, title, address) each.
        width: of 24.
        height: in Grafana's units.
    """
    queries = [
        prometheus.Dataquery().expr(each.query).instant().format(PromQueryFormat.TABLE).legend_format("")
        for each in columns
    ]
    letters = [_letter(place) for place in range(len(columns))]
    # A table of one query calls its values "Value", one of several "Value #A" and so on.
    names = {f"Value #{letter}": each.title for letter, each in zip(letters, columns, strict=True)}
    names |= {"Value": columns[0].title}
    panel = (
        table.Panel()
        .title(title).description(description).datasource(PROMETHEUS).span(width).height(height).filterable(True)
        .sort_by([common_builders.TableSortByFieldState().display_name(sort).desc(True)])
        .targets(_lettered(queries))
        .with_transformation(DataTransformerConfig(id_val="merge", options={}))
        .with_transformation(
            DataTransformerConfig(id_val="organize", options={"excludeByName": {"Time": True}, "renameByName": names})
        )
    )  # fmt: skip
    for each in columns:
        panel = panel.override_by_name(each.title, _cell(each))
    for name, label, address in links:
        panel = panel.override_by_name(name, [DynamicConfigValue("links", [{"title": label, "url": address}])])
    return panel


def durations(title: str, description: str, unit: str, query: str, *, exemplars: bool = True) -> Builder[Panel]:
    """A histogram over time; its exemplars are points that open their trace."""
    return (
        heatmap.Panel()
        .title(title).description(description).datasource(PROMETHEUS).span(24).height(9)
        .calculate(False)
        .y_axis(heatmap.YAxisConfig().unit(unit).axis_placement(common.AxisPlacement.LEFT))
        .cell_values(heatmap.CellValues().unit("short").decimals(1))
        .color(heatmap.HeatmapColorOptions().mode(heatmap_models.HeatmapColorMode.SCHEME).scheme("Oranges").steps(64))
        .filter_values(heatmap.FilterValueRange().le(1e-9))
        .exemplars_color("rgba(31, 120, 193, 0.9)").show_y_histogram()
        .targets(_lettered([
            prometheus.Dataquery().expr(query).range().format(PromQueryFormat.HEATMAP).legend_format("{{le}}")
            .exemplar(exemplars)
        ]))
    )  # fmt: skip


def states(title: str, description: str, query: str, legend: str, *, width: int = 24) -> Builder[Panel]:
    """0 or 1 over time, green or red."""
    return (
        statetimeline.Panel()
        .title(title).description(description).datasource(PROMETHEUS).span(width).height(5).unit("bool_yes_no")
        .color_scheme(dashboard.FieldColor().mode(FieldColorModeId.THRESHOLDS))
        .thresholds(dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE)
                    .steps([Threshold(color=GREEN), Threshold(value=1, color=RED)]))
        .show_value(common.VisibilityMode.NEVER).merge_values(True)
        .targets(_lettered([_over_time(Line(query, legend))]))
    )  # fmt: skip


def found_traces(title: str, description: str, query: str, *, spans: bool = False, height: int = 10) -> Builder[Panel]:
    """A table of what a TraceQL search finds; its ids open the trace."""
    shown = tempo_models.SearchTableType.SPANS if spans else tempo_models.SearchTableType.TRACES
    return (
        table.Panel()
        .title(title).description(description).datasource(TEMPO).span(24).height(height).filterable(True)
        .targets(_lettered([_traceql(query).limit(_TRACES_SHOWN).table_type(shown)]))
    )  # fmt: skip


def traced(
    title: str, description: str, unit: str, *queries: str, width: int = 12, stacked: bool = False
) -> Builder[Panel]:
    """What TraceQL metrics queries give, over time."""
    return (
        _timeseries([_measured(each) for each in queries], stacked=stacked)
        .title(title).description(description).datasource(TEMPO).unit(unit).span(width)
    )  # fmt: skip


def traced_durations(title: str, description: str, query: str) -> Builder[Panel]:
    """What a TraceQL `histogram_over_time` gives."""
    return (
        heatmap.Panel()
        .title(title).description(description).datasource(TEMPO).span(24).height(9)
        .calculate(False)
        .y_axis(heatmap.YAxisConfig().unit("s").axis_placement(common.AxisPlacement.LEFT))
        .color(heatmap.HeatmapColorOptions().mode(heatmap_models.HeatmapColorMode.SCHEME).scheme("Oranges").steps(64))
        .exemplars_color("rgba(31, 120, 193, 0.9)")
        .targets(_lettered([_measured(query)]))
    )  # fmt: skip


def node_graph(title: str, description: str, selector: str) -> Builder[Panel]:
    """The service map, which the Tempo data source makes from the service graph's metrics in Prometheus."""
    return (
        nodegraph.Panel()
        .title(title).description(description).datasource(TEMPO).span(24).height(14)
        .targets(_lettered([tempo.TempoQuery().query_type("serviceMap").service_map_query(selector).datasource(TEMPO)]))
    )  # fmt: skip


def link_between(tag: str) -> dashboard.DashboardLink:
    """Links to all dashboards with a tag; variables and time go along."""
    return (
        dashboard.DashboardLink("tracekeep").type(DashboardLinkType.DASHBOARDS).tags([tag])
        .as_dropdown(False).include_vars(True).keep_time(True)
    )  # fmt: skip


def _timeseries(queries: Sequence[prometheus.Dataquery | tempo.TempoQuery], *, stacked: bool) -> timeseries.Panel:
    panel = (
        timeseries.Panel().min(0).height(8).line_width(1).fill_opacity(30 if stacked else 8)
        .tooltip(common_builders.VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI)
                 .sort(common.SortOrder.DESCENDING))
        .targets(_lettered(queries))
    )  # fmt: skip
    return panel.stacking(common_builders.StackingConfig().mode(common.StackingMode.NORMAL)) if stacked else panel


def _over_time(line: Line) -> prometheus.Dataquery:
    query = prometheus.Dataquery().expr(line.query).range().legend_format(line.legend).datasource(PROMETHEUS)
    return query.exemplar(True) if line.exemplars else query


def _traceql(query: str) -> tempo.TempoQuery:
    return tempo.TempoQuery().query_type("traceql").query(query).datasource(TEMPO)


def _measured(query: str) -> tempo.TempoQuery:
    return _traceql(query).metrics_query_type(tempo_models.MetricsQueryType.RANGE).exemplars(_EXEMPLARS)


def _lettered(queries: Sequence[prometheus.Dataquery | tempo.TempoQuery]) -> list[Builder[Dataquery]]:
    return [query.ref_id(_letter(place)) for place, query in enumerate(queries)]


def _letter(place: int) -> str:
    return chr(ord("A") + place)


def _thresholds(limits: Limits | None, *, rising: bool = True) -> dashboard.ThresholdsConfig:
    first, last = (GREEN, RED) if rising else (RED, GREEN)
    steps = [Threshold(color=GREEN if limits is None else first)]
    if limits is not None:
        low, high = limits
        steps += [Threshold(value=low, color=YELLOW), Threshold(value=high, color=last)]
    return dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps)


def _cell(column: Column) -> list[DynamicConfigValue]:
    properties = [DynamicConfigValue("unit", column.unit)]
    if column.decimals is not None:
        properties.append(DynamicConfigValue("decimals", column.decimals))
    if column.limits is not None:
        steps = _thresholds(column.limits).build().to_json()
        properties.append(DynamicConfigValue("thresholds", steps))
        properties.append(DynamicConfigValue("custom.cellOptions", {"type": "color-text"}))
    return properties
