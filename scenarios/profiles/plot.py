"""A picture of load-latency curves."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from analysis.pictures import logarithmic, picture
from latency_models.curves.load_latency import LoadLatencyCurve

_ROWS = (("ttft", "TTFT (s)"), ("tpot", "TPOT (s)"), ("e2e", "E2E (s)"))
_PANEL_WIDTH_IN = 6.4
_PANEL_HEIGHT_IN = 2.8
_LEGEND_COLUMNS = 2
_LEGEND_LINE_IN = 0.2
_LEGEND_GAP_IN = 0.55
"""Room for the ticks and the label of the horizontal axis."""
_DISTINCT_COLOURS = 10
"""So many has the usual palette."""


def plot_curves(curves: Sequence[LoadLatencyCurve], path: Path) -> None:
    """Draw latency over load: a column for each model, a row for TTFT, TPOT and E2E, a colour for each configuration.

    Lines are means, with their confidence intervals; dashed lines their highest percentile.  A dotted
    vertical line is the middle of the interval of the stability limit, which a bar at the top shows.  The vertical axis
    is logarithmic.
    """
    import seaborn as sns

    models = list(dict.fromkeys(curve.configuration.model for curve in curves))
    by_model = {model: [curve for curve in curves if curve.configuration.model == model] for model in models}
    rows = [row for row in _ROWS if any(f"{row[0]}_mean_s" in curve.statistics for curve in curves)]
    legend_in = _LEGEND_LINE_IN * (3 + max(map(len, by_model.values())) // _LEGEND_COLUMNS)
    size = (_PANEL_WIDTH_IN, _PANEL_HEIGHT_IN + legend_in / len(rows))
    with picture(path, len(rows), len(models), size=size, share_x="col") as (_, axes):
        for column, (model, own) in enumerate(by_model.items()):
            palette = None if len(own) <= _DISTINCT_COLOURS else "husl"
            colours = sns.color_palette(palette, n_colors=len(own))
            for row, (metric, label) in enumerate(rows):
                for curve, colour in zip(own, colours, strict=True):
                    _draw(axes[row][column], curve, metric, colour)
                logarithmic(axes[row][column], y=True)
                _draw_limits(axes[row][column], own, colours)
                axes[row][column].set(ylabel=label, xlim=(0.0, None))
            axes[0][column].set_title(model, size="medium")
            axes[-1][column].set_xlabel("offered load (requests/s)")
            _legend(axes[-1][column], own, colours)


def _tail(curves: Sequence[LoadLatencyCurve]) -> str:
    """Name of the highest percentile of the curves; empty if there is none."""
    tails = [name for curve in curves for name in curve.statistics if re.fullmatch(r"ttft_p\d+.*_s", name)]
    return tails[-1].removeprefix("ttft_").removesuffix("_s").upper() if tails else ""


def _draw(axes: Any, curve: LoadLatencyCurve, metric: str, colour: Any) -> None:
    name = f"{metric}_mean_s"
    if name not in curve.statistics:
        return
    axes.plot(curve.rates_per_s, curve.statistics[name], color=colour, marker="o", markersize=3)
    if name in curve.intervals:
        low, high = zip(*curve.intervals[name], strict=True)
        # A logarithmic axis has no zero.
        lowest = [max(end, 0.01 * value) for end, value in zip(low, curve.statistics[name], strict=True)]
        axes.fill_between(curve.rates_per_s, lowest, high, color=colour, alpha=0.2, linewidth=0)
    tails = [found for found in curve.statistics if found.startswith(f"{metric}_p")]
    if tails:
        axes.plot(curve.rates_per_s, curve.statistics[tails[-1]], color=colour, linestyle="--", linewidth=1)


def _draw_limits(axes: Any, curves: Sequence[LoadLatencyCurve], colours: Sequence[Any]) -> None:
    """A line at each stability limit, with its interval as a bar at the top, each bar at a height of its own."""
    across = axes.get_xaxis_transform()
    for number, (curve, colour) in enumerate(zip(curves, colours, strict=True)):
        if curve.stability_per_s is None:
            continue
        low, high = curve.stability_per_s
        height = 1.0 - 0.2 * (number + 1) / (len(curves) + 1)
        axes.axvline(0.5 * (low + high), color=colour, linestyle=":", linewidth=1)
        axes.plot((low, high), (height, height), color=colour, marker="|", markersize=5, transform=across)


def _legend(axes: Any, curves: Sequence[LoadLatencyCurve], colours: Sequence[Any]) -> None:
    """What the lines mean, below the lowest panel, where it hides none of them."""
    from matplotlib.lines import Line2D

    handles = []
    for curve, colour in zip(curves, colours, strict=True):
        where = curve.configuration
        label = f"tp {where.tp}, share {where.compute_share:g}, replicas {where.replicas}"
        handles.append(Line2D([], [], color=colour, label=label))
    handles.append(Line2D([], [], color="black", marker="o", markersize=3, label="mean, with its 95 % interval"))
    if tail := _tail(curves):
        handles.append(Line2D([], [], color="black", linestyle="--", linewidth=1, label=tail))
    if any(curve.stability_per_s is not None for curve in curves):
        handles.append(
            Line2D([], [], color="black", linestyle=":", linewidth=1, label="stability limit (bar: interval)")
        )
    axes.legend(
        handles=handles,
        loc="upper center",
        bbox_to_anchor=(0.5, -_LEGEND_GAP_IN / _PANEL_HEIGHT_IN),
        ncols=_LEGEND_COLUMNS,
        fontsize="small",
        frameon=False,
    )
