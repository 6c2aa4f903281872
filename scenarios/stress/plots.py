"""Pictures of a stress test: the strain along each axis, and the map of two."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from analysis.pictures import picture
from analysis.verdicts import Outcome
from scenarios.stress.report import axis_label
from scenarios.stress.stress import Stress, StressedAxis, StressMap

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLUMNS = 3
_COLOURS = {Outcome.HOLDS: "#2b6ca3", Outcome.UNDECIDED: "#b8b8b8", Outcome.BROKEN: "#c0392b"}
_WORDS = {Outcome.HOLDS: "holds", Outcome.UNDECIDED: "undecided", Outcome.BROKEN: "broken"}
_MOST_STRAIN = 3.0
"""Strains above are drawn here, as triangles."""


def plot_stress(found: Stress, path: Path) -> None:
    """Draw how much of its limit the weakest SLO uses along each axis, with the bracket in which the plan breaks.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    columns = min(_COLUMNS, len(found.axes))
    rows = math.ceil(len(found.axes) / columns)
    with picture(path, rows, columns, size=(4.2, 3.2)) as (_, panels):
        flat = [axes for row in panels for axes in row]
        for axes, entry in zip(flat, found.axes, strict=False):
            _draw_axis(axes, entry)
        for axes in flat[len(found.axes) :]:
            axes.set_axis_off()
        _outcome_legend(flat[0], [point.outcome for entry in found.axes for point in entry.bracket.points])


def plot_map(found: StressMap, path: Path) -> None:
    """Draw the outcome at each pair of values, with the strain of the weakest SLO.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    from matplotlib.colors import ListedColormap

    order = list(_COLOURS)
    codes = [[order.index(point.outcome) for point in row] for row in found.points]
    size = (1.6 + 0.72 * len(found.x_values), 1.4 + 0.5 * len(found.y_values))
    with picture(path, 1, 1, size=size) as (_, panels):
        axes = panels[0][0]
        axes.imshow(codes, cmap=ListedColormap(list(_COLOURS.values())), vmin=0, vmax=2, origin="lower", aspect="auto")
        axes.grid(visible=False)
        for row, points in enumerate(found.points):
            for column, point in enumerate(points):
                axes.text(column, row, _share(point.strain), ha="center", va="center", color="white", fontsize=9)
        axes.set_xticks(range(len(found.x_values)), [f"{value:.3g}" for value in found.x_values])
        axes.set_yticks(range(len(found.y_values)), [f"{value:.3g}" for value in found.y_values])
        axes.set_xlabel(axis_label(found.x))
        axes.set_ylabel(axis_label(found.y))
        axes.set_title("Largest share of an SLO's limit", fontsize=10, loc="left")
        _outcome_legend(axes, [point.outcome for row in found.points for point in row], beside=True)


def _draw_axis(axes: Axes, entry: StressedAxis) -> None:
    bracket = entry.bracket
    values = [point.value for point in bracket.points]
    strains = [min(point.strain, _MOST_STRAIN) for point in bracket.points]
    if bracket.holds is not None and bracket.breaks is not None:
        axes.axvspan(bracket.holds.value, bracket.breaks.value, color="#e8d9a8", linewidth=0)
    axes.axhline(1.0, color="#444444", linewidth=1.0, linestyle="--")
    axes.plot(values, strains, color="#8a8a8a", linewidth=1.2, zorder=2)
    for point, strain in zip(bracket.points, strains, strict=True):
        marker = "^" if point.strain > _MOST_STRAIN else "o"
        axes.scatter([point.value], [strain], color=_COLOURS[point.outcome], marker=marker, s=28, zorder=3)
    axes.set_ylim(0.0, max(1.25, *strains) * 1.06)
    axes.set_title(axis_label(entry), fontsize=10, loc="left")
    axes.set_ylabel("share of the SLO's limit")


def _outcome_legend(axes: Axes, outcomes: list[Outcome], *, beside: bool = False) -> None:
    from matplotlib.lines import Line2D

    present = [outcome for outcome in _COLOURS if outcome in outcomes]
    handles = [
        Line2D([], [], marker="s" if beside else "o", linestyle="", color=_COLOURS[outcome], label=_WORDS[outcome])
        for outcome in present
    ]
    if beside:
        axes.legend(handles=handles, loc="upper left", bbox_to_anchor=(1.01, 1.0), fontsize=9, frameon=False)
    else:
        axes.legend(handles=handles, loc="upper left", fontsize=8)


def _share(strain: float) -> str:
    return f"{strain:.0%}" if strain < 10.0 else ">10x"
