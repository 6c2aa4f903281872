"""Charts as files of their own, and panels as SVG for a page."""

from __future__ import annotations

import io
import math
import re
from pathlib import Path

from analysis.charts.chart import Chart, Panel
from analysis.charts.style import GRID, INK, MUTED, SURFACE, chart_style
from analysis.pictures import save_figure

_COLUMNS = 3
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

        columns = min(_COLUMNS, len(chart.panels))
        rows = math.ceil(len(chart.panels) / columns)
        width, height = (max(panel.size_in[side] for panel in chart.panels) for side in (0, 1))
        figure, grid = plt.subplots(
            rows, columns, figsize=(width * columns, height * rows + 0.4), squeeze=False, layout="constrained"
        )
        try:
            axes = list(grid.flat)
            for place, panel in zip(axes, chart.panels, strict=False):
                panel.draw(place)
                if len(chart.panels) > 1:
                    place.set_title(panel.title)
            for place in axes[len(chart.panels) :]:
                place.set_axis_off()
            figure.suptitle(chart.title, x=0.01, ha="left", fontsize=11.5, fontweight="bold")
            save_figure(figure, path)
        finally:
            plt.close(figure)


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
