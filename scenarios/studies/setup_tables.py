"""The files and the printed table of a study of setups."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from optimizer.problem import Problem, Setup
from optimizer.setups.setup_search import SetupSolution
from scenarios.studies.setup_study import CaseStudy, CountsAt, described

Row = dict[str, Any]


def setup_rows(study: CaseStudy) -> list[Row]:
    """One row per retained setup; what an infeasible one does not have is empty."""
    rows = [
        {**_where(study), **_setup(study.problem, solution.setup, study), **_reached(study.problem, solution)}
        for solution in study.enumeration.solved
    ]
    none = dict.fromkeys(_reached_columns(study.problem), "")
    rows += [
        {**_where(study), **_setup(study.problem, placed.setup, study), **none}
        for placed in study.enumeration.infeasible
    ]
    return rows


def baseline_rows(study: CaseStudy) -> list[Row]:
    """One row per baseline, and one for the certified optimum."""
    rows = [(baseline.name, baseline.solution, study.problem, baseline.note) for baseline in study.baselines]
    exact = study.exact
    proof = f"gap {exact.gap:.1e}, {exact.solved} setups solved in {exact.wall_s:.2f} s"
    note = f"replicas and models left out are allowed, compute is packed; {proof}"
    rows.append(("optimum", exact.best, study.problem, note))
    return [
        {
            **_where(study),
            "name": name,
            "setup": "" if solution is None else described(problem, solution.setup),
            **(dict.fromkeys(_reached_columns(problem), "") if solution is None else _reached(problem, solution)),
            "note": note,
        }
        for name, solution, problem, note in rows
    ]


def summary_row(study: CaseStudy) -> Row:
    """The case in one row."""
    enumeration, best = study.enumeration, study.best_deployable
    scores = {baseline.name: _score(baseline.solution) for baseline in study.baselines}
    return {
        **_where(study),
        "retained": len(enumeration.solved) + len(enumeration.infeasible),
        "feasible": len(enumeration.solved),
        "worst": _score(enumeration.worst),
        "best": _score(enumeration.best),
        "best_over_worst": "" if study.ratio is None else round(study.ratio, 4),
        "deployable": len(study.deployable),
        "best_deployable": _score(best),
        **{name.replace(" ", "_").replace("-", "_"): score for name, score in scores.items()},
        "optimum": _score(study.exact.best),
        "optimum_gap": study.exact.gap,
        "enumerate_s": round(enumeration.wall_s, 2),
        "optimum_s": round(study.exact.wall_s, 3),
    }


def count_rows(counts: Sequence[CountsAt]) -> list[Row]:
    """One row per number of models and of GPUs."""
    return [
        {
            "models": entry.models,
            "gpus": entry.gpus,
            "product": entry.counts.product,
            "within_compute": entry.counts.within_compute,
            "retained": entry.counts.retained,
        }
        for entry in counts
    ]


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows of equal keys under a header."""
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def printed(studies: Sequence[CaseStudy]) -> str:
    """A line per case for the terminal."""
    columns = ("retained", "feasible", "worst", "best", "best/worst", "deployable", "their best", "optimum")
    lines = [f"{'case':24}" + "".join(f"{name:>12}" for name in columns)]
    for study in studies:
        row = summary_row(study)
        values = [row[key] for key in ("retained", "feasible", "worst", "best", "best_over_worst", "deployable")]
        values += [row["best_deployable"], row["optimum"]]
        lines.append(f"{study.case!s:24}" + "".join(f"{_cell(value):>12}" for value in values))
    return "\n".join(lines)


def _cell(value: object) -> str:
    if value == "":
        return "-"
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def _where(study: CaseStudy) -> Row:
    case = study.case
    return {"gpus": case.gpus, "rate_per_s": case.rate_per_s, "target_ms": round(1e3 * case.target_s, 6)}


def _setup(problem: Problem, setup: Setup, study: CaseStudy) -> Row:
    row: Row = {"setup": described(problem, setup)}
    for model, k in zip(problem.models, setup, strict=True):
        row[f"tp {model.name}"] = model.options[k].tp
        row[f"compute_share {model.name}"] = model.options[k].compute_share
    row["deployable"] = setup in study.deployable
    least_s = study.least_latency_s[setup]
    row["least_latency_ms"] = "" if least_s is None else round(1e3 * least_s, 6)
    return row


def _reached(problem: Problem, solution: SetupSolution) -> Row:
    (load,) = solution.routing.loads
    (outcome,) = load.slos
    values = (
        round(load.score, 9),
        round(load.bound, 9),
        round(1e3 * outcome.value, 6),
        f"{outcome.score_per_s * 1e-3:.6g}",
        *(round(fraction, 9) for fraction in load.fractions),
    )
    return dict(zip(_reached_columns(problem), values, strict=True))


def _reached_columns(problem: Problem) -> list[str]:
    fractions = (f"fraction {model.name}" for model in problem.models)
    return ["score", "bound", "latency_ms", "score_per_ms", *fractions]


def _score(solution: SetupSolution | None) -> float | str:
    return "" if solution is None else round(solution.routing.score, 6)
