"""Pictures of a study of setups."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from analysis.pictures import logarithmic, picture
from optimizer.search import SetupSolution
from scenarios.studies.setup_study import CaseStudy, CountsAt

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

_MARKERS = {
    "equal-split": "s",
    "size-proportional": "D",
    "isolated": "^",
    "best single model": "v",
    "random fractions": "X",
    "optimum": "*",
}
_POINTS = {"needs > 100 % of a GPU": "0.7", "deployable": "tab:blue"}
"""Retained setups, first those that are not deployable, and their colours."""
_TARGET = "target"
_PANEL_IN = (4.4, 3.4)
_COUNTS_IN = (5.6, 4.0)


def plot_setups(studies: Sequence[CaseStudy], path: Path, *, fastest: bool = False) -> None:
    """Draw score over latency: a panel for each case, a point for each retained setup with its best routing.

    The latency is that of this routing; or, for ``fastest``, the least that the setup can have with any routing, which
    tells how much room it leaves below the target.  Setups that can be placed with compute packed are blue, others
    grey; larger markers are baselines and the optimum; a dotted line is the target.  The last panel is the legend.
    """
    across = min(3, math.ceil(math.sqrt(len(studies) + 1)))
    down = math.ceil((len(studies) + 1) / across)
    with picture(path, down, across, size=_PANEL_IN) as (_, rows):
        panels = [panel for row in rows for panel in row]
        for panel, study in zip(panels, studies, strict=False):
            _draw_case(panel, study, fastest)
        for empty in panels[len(studies) :]:
            empty.axis("off")
        _legend(panels[len(studies)], panels[: len(studies)])


def plot_counts(counts: Sequence[CountsAt], path: Path) -> None:
    """Draw how many setups are retained over the number of GPUs: a line for each number of models."""
    with picture(path, 1, 1, size=_COUNTS_IN) as (_, [[axes]]):
        for many in dict.fromkeys(entry.models for entry in counts):
            own = [entry for entry in counts if entry.models == many]
            gpus, retained = [entry.gpus for entry in own], [entry.counts.retained for entry in own]
            axes.plot(gpus, retained, marker="o", label=f"{many} model{'s' if many > 1 else ''}")
        axes.set(xlabel="GPUs", ylabel="retained setups")
        if any(entry.counts.retained for entry in counts):
            axes.set_yscale("symlog", linthresh=1.0)
            axes.yaxis.set_major_formatter("{x:,.0f}")
        axes.legend(frameon=False)


def _draw_case(panel: Axes, study: CaseStudy, fastest: bool) -> None:
    import seaborn as sns

    for deployable, (label, colour) in enumerate(_POINTS.items()):
        points = [
            _point(study, solution, fastest)
            for solution in study.enumeration.solved
            if (solution.setup in study.deployable) == deployable
        ]
        if points:
            latencies_ms, scores = zip(*points, strict=True)
            panel.scatter(latencies_ms, scores, s=12, color=colour, alpha=0.6, linewidth=0, label=label)
    solutions = {baseline.name: baseline.solution for baseline in study.baselines} | {"optimum": study.exact.best}
    colours = [*sns.color_palette("dark", n_colors=len(_MARKERS) - 1), "crimson"]
    for (name, marker), colour in zip(_MARKERS.items(), colours, strict=True):
        solution = solutions[name]
        if solution is not None:
            size = 150 if marker == "*" else 60
            panel.scatter(*_point(study, solution, fastest), s=size, marker=marker, color=colour, label=name)
    if not study.enumeration.solved:
        panel.text(0.5, 0.6, "no retained setup keeps the target", ha="center", transform=panel.transAxes)
    ratio = "" if study.ratio is None else f"; best/worst {study.ratio:.2f}"
    panel.set_title(f"{study.case}{ratio}", size="medium")
    if not any(solutions.values()):
        panel.set(xticks=[], yticks=[])
        return
    panel.axvline(1e3 * study.case.target_s, color="0.4", linewidth=1, linestyle=":", label=_TARGET)
    metric = study.problem.slos[0].metric.upper()
    panel.set(xlabel=f"{'least ' if fastest else ''}mean {metric}, ms", ylabel="score")
    if fastest:
        logarithmic(panel, x=True)


def _point(study: CaseStudy, solution: SetupSolution, fastest: bool) -> tuple[float, float]:
    """Latency in ms, and score."""
    (load,) = solution.routing.loads
    latency_s = study.least_latency_s[solution.setup] if fastest else load.slos[0].value
    assert latency_s is not None  # it carries the load, or it would have no routing
    return 1e3 * latency_s, load.score


def _legend(where: Axes, panels: Sequence[Axes]) -> None:
    entries: dict[str, Artist] = {}
    for panel in panels:
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    shown = [label for label in (*_POINTS, *_MARKERS, _TARGET) if label in entries]
    where.legend([entries[label] for label in shown], shown, loc="center left", frameon=False)
