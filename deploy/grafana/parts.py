"""What the dashboards are made of: panels, variables, links."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from grafana_foundation_sdk.builders import (
    common,
    dashboard,
    heatmap,
    prometheus,
    stat,
    statetimeline,
    table,
    timeseries,
)
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import common as c
from grafana_foundation_sdk.models import dashboard as d
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

SOURCE = d.DataSourceRef(type_val="prometheus", uid="${datasource}")
DOCS = "/public/captionist/docs"  # Grafana itself serves docs/ here, if it is mounted below its public files
RUNBOOK = "${docs:raw}/operations.md"
GREEN, YELLOW, ORANGE, RED, BLUE = "green", "yellow", "orange", "red", "blue"

Levels = Sequence[tuple[float | None, str]]
Panel = Builder[d.Panel]
_Panel = TypeVar("_Panel", heatmap.Panel, stat.Panel, statetimeline.Panel, table.Panel, timeseries.Panel)


@dataclass(frozen=True)
class Query:
    """A query, and the legend of its result, where {{label}} stands for a label's value."""

    expr: str
    legend: str = ""


def _common(
    panel: _Panel, title: str, description: str, queries: Sequence[Query], width: int, height: int, runbook: str
) -> _Panel:
    panel.title(title).description(description).datasource(SOURCE).span(width).height(height)
    if runbook:
        link = dashboard.DashboardLink(f"Runbook: {runbook}").type(d.DashboardLinkType.LINK)
        panel.links([link.url(f"{RUNBOOK}#{runbook.lower()}").target_blank(True)])
    for place, query in enumerate(queries):
        target = prometheus.Dataquery().datasource(SOURCE).ref_id(chr(ord("A") + place)).expr(query.expr)
        target.legend_format(query.legend or "__auto")
        if isinstance(panel, stat.Panel | table.Panel):
            target.instant()
        else:
            target.range()
        if isinstance(panel, table.Panel):
            target.format(PromQueryFormat.TABLE)
        if isinstance(panel, heatmap.Panel):
            target.format(PromQueryFormat.HEATMAP)
        panel.with_target(target)
    return panel


def _thresholds(levels: Levels) -> dashboard.ThresholdsConfig:
    steps = [d.Threshold(value, color) for value, color in levels]
    return dashboard.ThresholdsConfig().mode(d.ThresholdsMode.ABSOLUTE).steps(steps)


def number(
    title: str,
    description: str,
    unit: str,
    expr: str,
    levels: Levels = ((None, BLUE),),
    *,
    width: int = 4,
    decimals: int | None = None,
    none: str = "none",
    runbook: str = "",
) -> stat.Panel:
    """One large number: the query's current value. levels: a color from each value on. none: shown without data."""
    panel = _common(stat.Panel(), title, description, [Query(expr)], width, 4, runbook)
    panel.unit(unit).thresholds(_thresholds(levels)).no_value(none)
    panel.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    panel.color_mode(c.BigValueColorMode.VALUE).graph_mode(c.BigValueGraphMode.NONE)
    return panel if decimals is None else panel.decimals(decimals)


def curves(
    title: str,
    description: str,
    unit: str,
    *queries: Query,
    width: int = 8,
    levels: Levels = (),
    stacked: bool = False,
    steps: bool = False,
    low: float | None = 0,
    high: float | None = None,
    runbook: str = "",
) -> timeseries.Panel:
    """Curves over time. levels: dashed lines at these values. steps: whole numbers that jump."""
    panel = _common(timeseries.Panel(), title, description, queries, width, 8, runbook)
    panel.unit(unit).line_width(1).fill_opacity(40 if stacked else 8).show_points(c.VisibilityMode.NEVER)
    panel.legend(
        common.VizLegendOptions()
        .display_mode(c.LegendDisplayMode.TABLE)
        .placement(c.LegendPlacement.BOTTOM)
        .show_legend(True)
        .calcs(["lastNotNull", "max"])
    )
    panel.tooltip(common.VizTooltipOptions().mode(c.TooltipDisplayMode.MULTI).sort(c.SortOrder.DESCENDING))
    if stacked:
        panel.stacking(common.StackingConfig().mode(c.StackingMode.NORMAL).group("A"))
    if steps:
        panel.line_interpolation(c.LineInterpolation.STEP_AFTER).decimals(0)
    if levels:
        panel.thresholds(_thresholds([(None, "transparent"), *levels]))
        panel.thresholds_style(common.GraphThresholdsStyleConfig().mode(c.GraphThresholdsStyleMode.DASHED))
    if low is not None:
        panel.min(low)
    return panel if high is None else panel.max(high)


def spread(title: str, description: str, unit: str, query: Query, *, width: int = 8) -> heatmap.Panel:
    """How observations spread over a histogram's buckets, as a heat map."""
    panel = _common(heatmap.Panel(), title, description, [query], width, 8, "")
    return panel.y_axis(heatmap.YAxisConfig().unit(unit)).cell_gap(1).show_legend()


def states(
    title: str, description: str, query: Query, values: dict[str, tuple[str, str]], *, width: int = 8, runbook: str = ""
) -> statetimeline.Panel:
    """A row for each series, colored by its value: values maps it to a text and a color."""
    panel = _common(statetimeline.Panel(), title, description, [query], width, 8, runbook)
    results = {value: d.ValueMappingResult(text=text, color=color) for value, (text, color) in values.items()}
    panel.unit("none").mappings([d.ValueMap(options=results)]).merge_values(True).fill_opacity(70)
    return panel.show_value(c.VisibilityMode.AUTO)


def listing(
    title: str, description: str, query: Query, *, columns: Sequence[str], value: str, width: int
) -> table.Panel:
    """A table with a row for each series: these labels, and its value under the name given."""
    panel = _common(table.Panel(), title, description, [query], width, 8, "").unit("none")
    order = {name: place for place, name in enumerate((*columns, "Value"))}
    organize = {"excludeByName": {"Time": True}, "indexByName": order, "renameByName": {"Value": value}}
    return panel.with_transformation(d.DataTransformerConfig(id_val="organize", options=organize))


def board(uid: str, title: str, description: str, rows: Mapping[str, Sequence[Panel]]) -> dashboard.Dashboard:
    """A dashboard with these rows of panels, and the variables, links and marks that all dashboards have."""
    boards = dashboard.DashboardLink("Captionist").type(d.DashboardLinkType.DASHBOARDS).tags(["captionist"])
    runbook = dashboard.DashboardLink("Runbook").type(d.DashboardLinkType.LINK).icon("doc").url(RUNBOOK)
    alerts = dashboard.AnnotationQuery().name("Alerts").datasource(SOURCE).enable(True).icon_color(RED)
    made = dashboard.Dashboard(title).uid(uid).description(description).tags(["captionist"]).readonly()
    made.tooltip(d.DashboardCursorSync.CROSSHAIR).time("now-3h", "now").refresh("30s").timezone("browser")
    made.annotation(alerts.expr('ALERTS{alertname=~"Captionist.+", alertstate="firing", job="$job"}'))
    made.link(boards.as_dropdown(False).include_vars(True).keep_time(True)).link(runbook.target_blank(True))
    for variable in _variables():
        made.with_variable(variable)
    for name, panels in rows.items():
        made.with_row(dashboard.Row(name))
        for panel in panels:
            made.with_panel(panel)
    return made


def _variables() -> list[dashboard.DatasourceVariable | dashboard.QueryVariable | dashboard.TextBoxVariable]:
    job = dashboard.QueryVariable("job").label("Job").query("label_values(captionist_ready, job)")
    job.current(d.VariableOption(text="captionist", value="captionist"))
    # Tasks come and go, so "all" is a pattern and not a list of the present ones.
    task = dashboard.QueryVariable("instance").label("Task").multi(True).include_all(True).all_value(".*")
    task.query('label_values(captionist_ready{job="$job"}, instance)')
    task.current(d.VariableOption(text="All", value="$__all"))
    for variable in (job, task):
        variable.datasource(SOURCE).refresh(d.VariableRefresh.ON_TIME_RANGE_CHANGED).sort(d.VariableSort.NATURAL_ASC)
    docs = dashboard.TextBoxVariable("docs").label("Documentation at").hide(d.VariableHide.HIDE_VARIABLE)
    docs.description("Where operations.md can be read: a URL without the file's name")
    docs.default_value(DOCS).current(d.VariableOption(text=DOCS, value=DOCS))
    return [dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus"), job, task, docs]
