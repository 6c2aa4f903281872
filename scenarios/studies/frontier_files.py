"""The files and the printed table of a frontier."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from optimizer.plan import make_plan
from scenarios.optimisation.problem_file import ReadProblem
from scenarios.studies.frontier import AXES, FrontierPoint, load_mean
from scenarios.studies.setup_study import described

Row = dict[str, Any]


def plan_name(point: FrontierPoint) -> str:
    """Name of the plan's file in the folder ``plans``."""
    text = f"{point.shown:.12g}" + ("ms" if point.sweep == "target" else "per-s")
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
            engines=read.engines,
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
            "target_ms": round(1e3 * problem.slos[slo].target_s, 9),
            "rate_per_s": load_mean(problem.loads, [load.rate_per_s for load in problem.loads]),
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
            worth = load_mean(problem.loads, [load.slos[slo].score_per_s for load in best.routing.loads])
            row["score_per_ms"] = f"{1e-3 * worth:.6g}"
            row["setup"] = described(problem, best.setup)
            for number, model in enumerate(problem.models):
                fractions = [load.fractions[number] for load in best.routing.loads]
                row[f"fraction {model.name}"] = round(load_mean(problem.loads, fractions), 9)
            row["plan"] = f"plans/{plan_name(point)}"
        rows.append(row)
    return rows


def printed(points: Sequence[FrontierPoint]) -> str:
    """A line per point for the terminal."""
    lines = []
    for sweep, axis in AXES.items():
        own = [point for point in points if point.sweep == sweep]
        if own:
            lines.append(f"{axis:>20}{'score':>10}  setup")
        for point in own:
            value = f"{point.shown:g}"
            best = point.optimum.best
            if best is None:
                lines.append(f"{value:>20}{'-':>10}  {_why_not(point)}")
            else:
                lines.append(f"{value:>20}{best.routing.score:>10.4f}  {described(point.problem, best.setup)}")
    return "\n".join(lines)


def _why_not(point: FrontierPoint) -> str:
    reason = point.optimum.infeasible
    return "no setup keeps the SLOs" + ("" if reason is None else f": {reason}")
