"""A picture of load-latency curves."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from analysis.pictures import logarithmic, picture
from latency_models.curves.load_latency import LoadLatencyCurve

_ROWS = (("ttft", "TTFT (s)"), ("tpot", "TPOT (s)"), ("e2e", "E2E (s)"))


def plot_curves(curves: Sequence[LoadLatencyCurve], path: Path) -> None:
    """Draw latency over load: a column for each model, a row for TTFT, TPOT and E2E, a colour for each configuration.

    Lines are means, with their confidence intervals; dashed lines the highest percentile that all curves have.  A
    shaded column is the interval of the stability limit.  The vertical axis is logarithmic.
    """
    import seaborn as sns

    models = list(dict.fromkeys(curve.configuration.model for curve in curves))
    rows = [row for row in _ROWS if any(f"{row[0]}_mean_s" in curve.statistics for curve in curves)]
    with picture(path, len(rows), len(models), size=(6.0, 2.8), share_x="col") as (_, axes):
        for column, model in enumerate(models):
            own = [curve for curve in curves if curve.configuration.model == model]
            colours = sns.color_palette(n_colors=len(own))
            for row, (metric, label) in enumerate(rows):
                for curve, colour in zip(own, colours, strict=True):
                    _draw(axes[row][column], curve, metric, colour)
                logarithmic(axes[row][column], y=True)
                axes[row][column].set(ylabel=label)
            axes[0][column].set_title(
                f"{model}\nmean with its interval; dashed: {_tail(own)}; shaded: stability limit", size="medium"
            )
            axes[0][column].legend(fontsize="small", frameon=False)
            axes[-1][column].set_xlabel("offered load (requests/s)")


def _tail(curves: Sequence[LoadLatencyCurve]) -> str:
    """Name of the highest percentile of the curves."""
    tails = [name for curve in curves for name in curve.statistics if re.fullmatch(r"ttft_p\d+.*_s", name)]
    return tails[-1].removeprefix("ttft_").removesuffix("_s").upper() if tails else "none"


def _draw(axes: Any, curve: LoadLatencyCurve, metric: str, colour: Any) -> None:
    name = f"{metric}_mean_s"
    if name not in curve.statistics:
        return
    where = curve.configuration
    label = f"tp {where.tp}, share {where.compute_share:g}, replicas {where.replicas}"
    axes.plot(curve.rates_per_s, curve.statistics[name], color=colour, marker="o", markersize=3, label=label)
    if name in curve.intervals:
        low, high = zip(*curve.intervals[name], strict=True)
        # A logarithmic axis has no zero.
        lowest = [max(end, 0.01 * value) for end, value in zip(low, curve.statistics[name], strict=True)]
        axes.fill_between(curve.rates_per_s, lowest, high, color=colour, alpha=0.2, linewidth=0)
    tails = [found for found in curve.statistics if found.startswith(f"{metric}_p")]
    if tails:
        axes.plot(curve.rates_per_s, curve.statistics[tails[-1]], color=colour, linestyle="--", linewidth=1)
    if curve.stability_per_s is not None:
        axes.axvspan(*curve.stability_per_s, color=colour, alpha=0.3, linewidth=0)
