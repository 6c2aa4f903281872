"""Pictures of a study of setups."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from optimizer.setup_search import SetupSolution
from scenarios.studies.pictures import pictures, save
from scenarios.studies.setup_study import CaseStudy, CountsAt

_MARKERS = {
    "equal-split": "s",
    "size-proportional": "D",
    "isolated": "^",
    "best single model": "v",
    "random fractions": "X",
}


def plot_setups(studies: Sequence[CaseStudy], path: Path, *, fastest: bool = False) -> None:
    """Draw score over latency: a panel for each case, a point for each retained setup with its best routing.

    The latency is that of this routing; or, for ``fastest``, the least that the setup can have with any routing, which
    tells how much room it leaves below the target.  Setups that can be placed with compute packed are blue, others
    grey; larger markers are baselines and the optimum; a dotted line is the target.
    """
    plt, sns = pictures()
    across = min(4, len(studies))
    down = -(-len(studies) // across)
    with sns.axes_style("whitegrid"):
        figure, axes = plt.subplots(
            down, across, figsize=(4.2 * across, 3.6 * down + 0.6), squeeze=False, layout="constrained"
        )
    panels = axes.flatten()
    colours = sns.color_palette("dark", n_colors=len(_MARKERS) + 1)
    for panel, study in zip(panels, studies, strict=False):
        for deployable, colour, label in ((False, "0.7", "needs > 100 % of a GPU"), (True, "tab:blue", "deployable")):
            points = [
                _point(study, solution, fastest)
                for solution in study.enumeration.solved
                if (solution.setup in study.deployable) is deployable
            ]
            if points:
                panel.scatter(*zip(*points, strict=True), s=12, color=colour, alpha=0.6, linewidth=0, label=label)
        marked = [(baseline.name, baseline.solution) for baseline in study.baselines]
        for (name, solution), colour in zip([*marked, ("optimum", study.exact.best)], colours, strict=True):
            if solution is not None:
                marker = _MARKERS.get(name, "*")
                panel.scatter(
                    *_point(study, solution, fastest),
                    s=150 if marker == "*" else 60,
                    marker=marker,
                    color=colour,
                    label=name,
                )
        if not study.enumeration.solved:
            panel.text(0.5, 0.5, "no retained setup keeps the target", ha="center", transform=panel.transAxes)
        panel.axvline(1e3 * study.case.target_s, color="0.4", linewidth=1, linestyle=":")
        ratio = "" if study.ratio is None else f"; best/worst {study.ratio:.2f}"
        panel.set_title(f"{study.case}{ratio}", fontsize="medium")
        metric = study.problem.slos[0].metric.upper()
        panel.set(xlabel=f"{'least ' if fastest else ''}mean {metric}, ms", ylabel="score")
        if fastest:
            _logarithmic(panel.xaxis, panel.set_xscale)
    for panel in panels[len(studies) :]:
        panel.remove()
    _shared_legend(figure, panels[: len(studies)])
    save(plt, figure, path)


def plot_counts(counts: Sequence[CountsAt], path: Path) -> None:
    """Draw how many setups are retained over the number of GPUs: a line for each number of models."""
    plt, sns = pictures()
    with sns.axes_style("whitegrid"):
        figure, axes = plt.subplots(figsize=(5.5, 4), layout="constrained")
    for many in dict.fromkeys(entry.models for entry in counts):
        own = [entry for entry in counts if entry.models == many]
        axes.plot(
            [entry.gpus for entry in own],
            [entry.counts.retained for entry in own],
            marker="o",
            label=f"{many} models",
        )
    axes.set(xlabel="GPUs", ylabel="retained setups")
    if any(entry.counts.retained for entry in counts):
        axes.set_yscale("symlog", linthresh=1.0)
    axes.legend(frameon=False)
    save(plt, figure, path)


def _point(study: CaseStudy, solution: SetupSolution, fastest: bool) -> tuple[float, float]:
    """Latency in ms, and score."""
    (load,) = solution.routing.loads
    latency_s = study.least_latency_s[solution.setup] if fastest else load.slos[0].value
    assert latency_s is not None  # it carries the load, or it would have no routing
    return 1e3 * latency_s, load.score


def _logarithmic(axis: Any, set_scale: Callable[[str], None]) -> None:
    """A logarithmic axis with plain numbers."""
    from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter

    set_scale("log")
    axis.set_major_locator(LogLocator(subs=(1.0, 1.5, 2.0, 3.0, 5.0, 7.0)))
    axis.set_major_formatter(ScalarFormatter())
    axis.set_minor_formatter(NullFormatter())


def _shared_legend(figure: Any, panels: Sequence[Any]) -> None:
    entries: dict[str, Any] = {}
    for panel in panels:
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    if entries:
        figure.legend(entries.values(), entries.keys(), loc="outside lower center", ncols=4, frameon=False)
