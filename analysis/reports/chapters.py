"""Charts of a page, in chapters, drawn as SVG."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from html import escape

from analysis.charts.catalogue import CHARTS
from analysis.charts.chart import Chart, NoData
from analysis.charts.rendering import panel_svg
from analysis.reports.tables import PageTable, chart_table
from analysis.stored.results import Results

Progress = Callable[[str, int, int], None]
"""Told what is drawn, how many panels are done, and of how many."""

_WIDE_IN = 6.5
"""Panels from this width on take a row of their own."""

_CHAPTERS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("plan", "The plan", ("cluster",)),
    ("promise", "Promise and outcome", ("promise", "gap")),
    ("latency", "Latency", ("latency", "time-parts", "attainment")),
    ("time", "Over time", ("timeline",)),
    ("quality", "Quality", ("quality", "quality-latency", "comparison")),
    ("limits", "How far it holds", ("stress", "stress-map", "frontier")),
    ("load", "Load and cost", ("load", "cost")),
)
_OTHER = ("charts", "More")


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawnPanel:
    """One panel as SVG."""

    title: str
    svg: str
    width_px: int
    """Natural width."""
    is_wide: bool
    starts_row: bool
    """Whether it is the first of several panels that belong together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawnChart:
    """A chart with what is around it."""

    name: str
    title: str
    caption: str
    panels: tuple[DrawnPanel, ...]
    table: PageTable | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Chapter:
    """Charts on one subject."""

    name: str
    title: str
    charts: tuple[DrawnChart, ...]


def drawn_chapters(results: Results, progress: Progress | None = None) -> tuple[Chapter, ...]:
    """Every chart that the results have data for.

    Parameters
    ----------
    results : Results
        What to draw.
    progress : callable, optional
        See :data:`Progress`.
    """
    charts = dict(_charts(results))
    total = sum(len(chart.panels) for chart in charts.values())
    known = {kind for _, _, kinds in _CHAPTERS for kind in kinds}
    rest = (*_OTHER, tuple(kind for kind in charts if kind not in known))
    done = 0
    chapters = []
    for name, title, kinds in (*_CHAPTERS, rest):
        drawn = []
        for kind in kinds:
            if kind in charts:
                drawn.append(_drawn(charts[kind]))
                done += len(charts[kind].panels)
                if progress is not None:
                    progress("Drawing", done, total)
        if drawn:
            chapters.append(Chapter(name=name, title=title, charts=tuple(drawn)))
    return tuple(chapters)


def _charts(results: Results) -> Iterator[tuple[str, Chart]]:
    for kind, entry in CHARTS.items():
        try:
            yield kind, entry.make(results)
        except NoData:
            continue


def _drawn(chart: Chart) -> DrawnChart:
    panels = []
    for place, panel in enumerate(chart.panels):
        label = chart.title if panel.title == chart.title else f"{chart.title}: {panel.title}"
        svg = panel_svg(panel, f"{chart.kind}-{place}")
        panels.append(
            DrawnPanel(
                title=panel.title if len(chart.panels) > 1 else "",
                svg=_accessible(svg, label),
                width_px=round(96 * panel.size_in[0]),
                is_wide=panel.size_in[0] >= _WIDE_IN,
                starts_row=place > 0 and panel.group != chart.panels[place - 1].group,
            )
        )
    return DrawnChart(
        name=chart.kind,
        title=chart.title,
        caption=chart.caption,
        panels=tuple(panels),
        table=None if chart.table is None or not chart.table.rows else chart_table(chart.table),
    )


def _accessible(svg: str, label: str) -> str:
    """The drawing as one image with a name; its size is the page's affair."""
    head, _, rest = svg.partition(">")
    head = re.sub(r'\s(?:width|height|xmlns(?::xlink)?|version)="[^"]*"', "", head)
    return f'{head} role="img" aria-label="{escape(label)}">{rest}'
