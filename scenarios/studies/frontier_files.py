"""The files, the picture and the printed table of a frontier."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from optimizer.plan import make_plan
from optimizer.problem import LEFT_OUT, LoadCase
from optimizer.setup_search import SetupSolution
from scenarios.optimisation.problem_file import ReadProblem
from scenarios.studies.frontier import FrontierPoint
from scenarios.studies.pictures import pictures, save
from scenarios.studies.setup_study import described

Row = dict[str, Any]

_AXES = {"target": "target, ms", "load": "load, requests/s"}


def plan_name(point: FrontierPoint) -> str:
    """Name of the plan's file in the folder ``plans``."""
    text = f"{1e3 * point.value:g}ms" if point.sweep == "target" else f"{point.value:g}per-s"
    return f"{point.sweep}-{text}.json"


def write_plans(
    folder: Path, read: ReadProblem, points: Sequence[FrontierPoint], provenance: Mapping[str, str]
) -> None:
    """Write the plan of each point that has one."""
    folder.mkdir()
    for point in points:
        if point.optimum.best is None:
            continue
        plan = make_plan(
            point.problem,
            point.optimum,
            name=f"{read.name}-{plan_name(point).removesuffix('.json')}",
            usable_memory_gib=read.gpu_memory_gib,
            provenance=provenance,
        )
        (folder / plan_name(point)).write_text(plan.to_json(), encoding="utf-8")


def frontier_rows(points: Sequence[FrontierPoint], slo: int) -> list[Row]:
    """One row per point; what an infeasible one does not have is empty.  Several loads are averaged by weight."""
    rows = []
    for point in points:
        problem, optimum = point.problem, point.optimum
        best = optimum.best
        row: Row = {
            "sweep": point.sweep,
            "target_ms": round(1e3 * problem.slos[slo].target_s, 6),
            "rate_per_s": _mean(problem.loads, [load.rate_per_s for load in problem.loads]),
            "feasible": best is not None,
            "score": "",
            "gap": "" if best is None else f"{optimum.gap:.3g}",
            "score_per_ms": "",
            "setup": "",
        }
        row |= dict.fromkeys((f"fraction {model.name}" for model in problem.models), "")
        row |= {"plan": "", "setups_solved": optimum.solved, "wall_s": round(optimum.wall_s, 3)}
        if best is not None:
            row["score"] = round(best.routing.score, 9)
            worth = _mean(problem.loads, [load.slos[slo].score_per_s for load in best.routing.loads])
            row["score_per_ms"] = f"{1e-3 * worth:.6g}"
            row["setup"] = described(problem, best.setup)
            for number, model in enumerate(problem.models):
                fractions = [load.fractions[number] for load in best.routing.loads]
                row[f"fraction {model.name}"] = round(_mean(problem.loads, fractions), 9)
            row["plan"] = f"plans/{plan_name(point)}"
        rows.append(row)
    return rows


def printed(points: Sequence[FrontierPoint]) -> str:
    """A line per point for the terminal."""
    lines = []
    for sweep, axis in _AXES.items():
        own = [point for point in points if point.sweep == sweep]
        if own:
            lines.append(f"{axis:>20}{'score':>10}  setup")
        for point in own:
            value = f"{_shown(point):g}"
            best = point.optimum.best
            if best is None:
                lines.append(f"{value:>20}{'-':>10}  {_why_not(point)}")
            else:
                lines.append(f"{value:>20}{best.routing.score:>10.4f}  {described(point.problem, best.setup)}")
    return "\n".join(lines)


def plot_frontier(points: Sequence[FrontierPoint], path: Path) -> None:
    """Draw score over target and over load; points of one colour have one setup, crosses at the foot have none."""
    plt, sns = pictures()
    sweeps = [sweep for sweep in _AXES if any(point.sweep == sweep for point in points)]
    setups = list(dict.fromkeys(_setup_text(point, best) for point in points if (best := point.optimum.best)))
    colours = dict(zip(setups, sns.color_palette("husl", n_colors=max(1, len(setups))), strict=False))
    with sns.axes_style("whitegrid"):
        figure, axes = plt.subplots(1, len(sweeps), figsize=(7 * len(sweeps), 5), squeeze=False, layout="constrained")
    for panel, sweep in zip(axes[0], sweeps, strict=True):
        own = [point for point in points if point.sweep == sweep]
        feasible = [(point, best) for point in own if (best := point.optimum.best) is not None]
        panel.plot([_shown(p) for p, _ in feasible], [b.routing.score for _, b in feasible], color="0.6", linewidth=1)
        for point, best in feasible:
            panel.scatter(_shown(point), best.routing.score, color=colours[_setup_text(point, best)], zorder=3)
        infeasible = [_shown(point) for point in own if point.optimum.best is None]
        panel.plot(
            infeasible, [0.0] * len(infeasible), "x", color="0.3", transform=panel.get_xaxis_transform(), clip_on=False
        )
        panel.set(xlabel=_AXES[sweep], ylabel="score")
    handles = [axes[0][0].scatter([], [], color=colours[text]) for text in setups]
    if setups:
        axes[0][0].legend(handles, setups, loc="best", fontsize="x-small")
    save(plt, figure, path)


def _why_not(point: FrontierPoint) -> str:
    reason = point.optimum.infeasible
    return "no setup keeps the SLOs" + ("" if reason is None else f": {reason}")


def _shown(point: FrontierPoint) -> float:
    return 1e3 * point.value if point.sweep == "target" else point.value


def _setup_text(point: FrontierPoint, best: SetupSolution) -> str:
    running = [
        f"{model.name} {model.options[k]}"
        for model, k in zip(point.problem.models, best.setup, strict=True)
        if k != LEFT_OUT
    ]
    return ", ".join(running)


def _mean(loads: Sequence[LoadCase], values: Sequence[float]) -> float:
    return sum(load.weight * value for load, value in zip(loads, values, strict=True))
