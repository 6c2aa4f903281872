"""Charts as files of their own, and panels as SVG for a page."""

from __future__ import annotations

import io
import re
import textwrap
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from analysis.charts.chart import Chart, Panel
from analysis.charts.style import GRID, INK, MUTED, SMALL, SURFACE, chart_style
from analysis.pictures import save_figure

_COLUMNS = 3
_HEADING_IN, _TITLE_IN, _LINE_IN = 0.35, 0.3, 0.16
_CHARACTERS_PER_IN = 14
"""Of the caption, on average."""
_PAGE_COLOURS = {INK: "var(--ink)", MUTED: "var(--muted)", GRID: "var(--grid)", SURFACE: "var(--surface)"}


def write_chart(chart: Chart, path: Path) -> None:
    """Write all panels of a chart as one picture; the ending of the name says the format.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    with chart_style():
        import matplotlib.pyplot as plt

        rows = _rows(chart.panels)
        columns = max(len(row) for row in rows)
        heights = [max(panel.size_in[1] for panel in row) for row in rows]
        widths = [max(row[place].size_in[0] for row in rows if place < len(row)) for place in range(columns)]
        caption = textwrap.wrap(chart.caption, round(sum(widths) * _CHARACTERS_PER_IN))
        size = (sum(widths), sum(heights) + _HEADING_IN + _TITLE_IN * len(rows) + _LINE_IN * len(caption))
        figure, grid = plt.subplots(
            len(rows),
            columns,
            figsize=size,
            squeeze=False,
            layout="constrained",
            height_ratios=heights,
            width_ratios=widths,
        )
        try:
            for places, row in zip(grid, rows, strict=True):
                for place in places[len(row) :]:
                    place.set_axis_off()
                for place, panel in zip(places, row, strict=False):
                    panel.draw(place)
                    if len(chart.panels) > 1:
                        place.set_title(panel.title)
            figure.suptitle(chart.title, x=0.01, ha="left", fontsize=11.5, fontweight="bold")
            figure.supxlabel("\n".join(caption), x=0.01, ha="left", fontsize=SMALL, color=MUTED)
            save_figure(figure, path)
        finally:
            plt.close(figure)


def _rows(panels: Sequence[Panel]) -> list[list[Panel]]:
    """Panels of each group in rows of two if that fills them, otherwise of three."""
    groups = [list(group) for _, group in groupby(panels, key=lambda panel: panel.group)]
    columns = 2 if all(len(group) in (2, 4) for group in groups) else _COLUMNS
    return [group[first : first + columns] for group in groups for first in range(0, len(group), columns)]


def panel_svg(panel: Panel, name: str) -> str:
    """A panel as an ``<svg>`` element for a page.

    Its text stays text; ink, grid and surface are the page's variables ``--ink``, ``--muted``, ``--grid`` and
    ``--surface``; identifiers inside begin with ``name``, so that several fit into one page.
    """
    with chart_style():
        import matplotlib as mpl
        import matplotlib.pyplot as plt

        figure, axes = plt.subplots(figsize=panel.size_in, layout="constrained")
        try:
            panel.draw(axes)
            stream = io.StringIO()
            with mpl.rc_context({"svg.hashsalt": name, "svg.id": name}):
                figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
        finally:
            plt.close(figure)
    return _for_a_page(stream.getvalue(), name)


def _for_a_page(text: str, name: str) -> str:
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'\b(id="|xlink:href="#|href="#|url\(#)', lambda found: f"{found[1]}{name}-", text)
    for stand_in, variable in _PAGE_COLOURS.items():
        text = text.replace(stand_in, variable)
    return text
