"""The picture of a frontier."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.pictures import logarithmic, picture
from optimizer.search import SetupSolution
from scenarios.studies.frontier import AXES, FrontierPoint, load_mean

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_PANEL_IN = (5.6, 2.9)
_MOST_COLOURS = 10
"""So many has the palette whose colours are easily told apart."""


def plot_frontier(points: Sequence[FrontierPoint], path: Path) -> None:
    """Draw the best score, and below it the share of the requests of each model, over target and over load.

    Crosses at the foot are points at which no setup keeps the SLOs.
    """
    sweeps = [sweep for sweep in AXES if any(point.sweep == sweep for point in points)]
    with picture(path, 2, len(sweeps), size=_PANEL_IN, share_x="col") as (_, axes):
        for column, sweep in enumerate(sweeps):
            own = [point for point in points if point.sweep == sweep]
            feasible = [(point, best) for point in own if (best := point.optimum.best) is not None]
            score, shares = axes[0][column], axes[1][column]
            score.plot([point.shown for point, _ in feasible], [best.routing.score for _, best in feasible], marker="o")
            infeasible = [point.shown for point in own if point.optimum.best is None]
            if infeasible:
                score.plot(
                    infeasible,
                    [0.0] * len(infeasible),
                    "x",
                    color="0.3",
                    transform=score.get_xaxis_transform(),
                    clip_on=False,
                    label="no setup keeps the SLOs",
                )
                score.legend(frameon=False)
            if feasible:
                _draw_shares(shares, feasible)
            score.set(ylabel="best score")
            shares.set(xlabel=AXES[sweep], ylabel="share of requests", ylim=(0.0, 1.0))
            if sweep == "target":
                logarithmic(shares, x=True)
        named = [shares.get_legend_handles_labels() for shares in axes[1]]
        # The last panel is empty where no load of the sweep can be carried.
        handles, labels = next((both for both in named if both[0]), ([], []))
        if handles:
            place: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (1.0, 1.0)}
            axes[1][-1].legend(handles, labels, frameon=False, reverse=True, **place)


def _draw_shares(axes: Axes, feasible: Sequence[tuple[FrontierPoint, SetupSolution]]) -> None:
    import seaborn as sns

    models = [model.name for model in feasible[0][0].problem.models]
    by_model = [
        [load_mean(point.problem.loads, [load.fractions[k] for load in best.routing.loads]) for point, best in feasible]
        for k in range(len(models))
    ]
    palette = None if len(models) <= _MOST_COLOURS else "husl"
    colours = sns.color_palette(palette, n_colors=len(models))
    axes.stackplot([point.shown for point, _ in feasible], by_model, labels=models, colors=colours, alpha=0.8)
