"""The search for a plan that holds: its log as a table and as JSON."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from analysis.summary import plain
from optimizer.plan import Plan, PromisedSlo
from scenarios.correction.planning import Planning
from scenarios.correction.search import Correction, Fate, Step
from scenarios.correction.simulated_plans import SimulatedSlo
from scenarios.summary_table import results_console
from scenarios.validation.report import validation_json

_NUMBERS = ("plan", "score", "promised", "simulated", "for chance", "replications")
_BROKEN, _INFEASIBLE = 3, 4


def print_planning(title: str, planning: Planning, plan: Plan | None) -> None:
    """Print the log, the proven plan if there is one, and the comparison if there is one."""
    console = results_console()
    console.soft_wrap = True
    _print_log(title, planning.corrected, console)
    if planning.tightened is not None:
        _print_log("The same by tightening the targets", planning.tightened, console)
        console.print(_compared(planning.corrected, planning.tightened))
    best = planning.corrected.best
    if best is None or plan is None:
        console.print(_failure(planning.corrected))
        return
    console.print(f"Plan {1 + planning.corrected.steps.index(best)} holds: {plan.provenance['proof']}")
    console.print(f"{setup_text(plan)}")
    console.print(f"Score {best.score:.4f} predicted{_simulated_score(best)}; {_given_up(planning.corrected)}")


def planning_json(planning: Planning, plan: Plan | None) -> dict[str, Any]:
    """Log, plan and comparison as plain values."""
    return {
        "exit_status": exit_status(planning),
        "plan": None if plan is None else plan.model_dump(mode="json"),
        "corrected": _log_json(planning.corrected),
        "tightened": None if planning.tightened is None else _log_json(planning.tightened),
    }


def exit_status(planning: Planning) -> int:
    """0 if a plan holds, 4 if none is left that could, 3 otherwise."""
    if planning.corrected.best is not None:
        return 0
    return _INFEASIBLE if planning.corrected.infeasible is not None else _BROKEN


def _print_log(title: str, correction: Correction, console: Console) -> None:
    console.print(f"{title}\n")
    table = Table(box=None, pad_edge=False)
    for heading in ("plan", "score", "SLO", "promised", "simulated", "for chance", "replications", "outcome", "setup"):
        table.add_column(heading, justify="right" if heading in _NUMBERS else "left")
    for number, step in enumerate(correction.steps, start=1):
        for row, slo in enumerate(step.slos):
            first = row == 0
            table.add_row(
                str(number) if first else "",
                f"{step.score:.4f}" if first else "",
                str(slo.target),
                _promised_text(step, slo),
                _simulated_text(slo, slo.value),
                f"+ {_simulated_text(slo, slo.chance)}",
                _replications(step) if first else "",
                step.fate.value if first else "",
                setup_text(step.plan) if first else "",
            )
    console.print(table)
    console.print(f"\nEnded: {correction.ended}.\n")


def _log_json(correction: Correction) -> dict[str, Any]:
    best = correction.best
    return {
        "plans": [_step_json(number, step) for number, step in enumerate(correction.steps, start=1)],
        "ended": correction.ended,
        "infeasible": None if correction.infeasible is None else str(correction.infeasible),
        "best": None if best is None else 1 + correction.steps.index(best),
        "score": None if best is None else best.score,
    }


def setup_text(plan: Plan) -> str:
    """Setup and fractions in a few words: ``llama-7b 52% on tp 4 at 30%``."""
    fractions = plan.routing[0].fractions
    return "; ".join(
        f"{name} {fractions[name]:.1%} on tp {model.tp} at {model.compute_share:.0%}"
        + (f" x {len(model.replicas)}" if len(model.replicas) > 1 else "")
        for name, model in plan.models.items()
    )


def _replications(step: Step) -> str:
    trial = str(len(step.trial.runs))
    return trial if step.proof is None else f"{trial} + {len(step.proof.runs)}"


def _promised(step: Step, slo: SimulatedSlo) -> PromisedSlo:
    assert step.plan.promise is not None
    target = slo.target
    return next(
        entry
        for entry in step.plan.promise.loads[0].slos
        if (entry.metric, entry.statistic, entry.model) == (target.metric, target.statistic, target.model)
    )


def _promised_text(step: Step, slo: SimulatedSlo) -> str:
    promised = _promised(step, slo)
    # A percentile that limits every model by itself is promised in seconds, one of all requests as a share.
    return _value(promised.value, in_seconds=promised.limit == promised.target_s)


def _simulated_text(slo: SimulatedSlo, value: float) -> str:
    return _value(value, in_seconds=slo.target.late_share is None)


def _value(value: float, *, in_seconds: bool) -> str:
    return f"{1e3 * value:,.1f} ms" if in_seconds else f"{value:.2%} late"


def _step_json(number: int, step: Step) -> dict[str, Any]:
    return {
        "plan": number,
        "score": step.score,
        "outcome": step.fate.value,
        "tightened": step.tightened,
        "models": {
            name: {
                "tp": model.tp,
                "compute_share": model.compute_share,
                "replicas": len(model.replicas),
                "fraction": step.plan.routing[0].fractions[name],
            }
            for name, model in step.plan.models.items()
        },
        "shifts": [
            {"model": model, "slo": slo, "slower": shift.slower, "heavier": shift.heavier}
            for (model, slo), shift in step.shifts.items()
        ],
        "slos": [_slo_json(step, slo) for slo in step.slos],
        "trial_replications": len(step.trial.runs),
        "proof": None
        if step.proof is None
        else {"first_replication": step.proof.replications.start, **validation_json(step.proof, ())},
        "wall_s": step.wall_s,
    }


def _slo_json(step: Step, slo: SimulatedSlo) -> dict[str, Any]:
    promised = _promised(step, slo)
    return {
        "slo": str(slo.target),
        "promised": {"value": promised.value, "limit": promised.limit},
        "simulated": plain(
            {"value": slo.value, "for_chance": slo.chance, "limit": slo.limit, "unanswered": slo.unanswered}
        ),
    }


def _failure(correction: Correction) -> str:
    text = f"No plan was found that holds: {correction.ended}."
    if correction.infeasible is not None and correction.steps:
        text += f" With the curves as the simulations corrected them: {correction.infeasible}."
    elif correction.infeasible is not None:
        text += f" Without any simulation: {correction.infeasible}."
    if any(step.fate is Fate.UNDECIDED for step in correction.steps):
        text += " A proof stayed undecided; more replications (--most) may help."
    return text


def _given_up(correction: Correction) -> str:
    first, best = correction.steps[0], correction.best
    assert best is not None
    if best is first:
        return "what the curves promised holds as it is"
    fate = first.fate.value if first.fate is Fate.HOLDS else f"is {first.fate.value}"
    return f"the plan that the curves promised had {first.score:.4f}, and {fate}"


def _simulated_score(step: Step) -> str:
    quality = None if step.proof is None else step.proof.summary["overall"].get("quality")
    if not quality:
        return ""
    achieved = quality["achieved"]
    if achieved is None:
        return ""
    return f", {achieved['mean']:.4f} [{achieved['low']:.4f}, {achieved['high']:.4f}] achieved in the proof"


def _compared(corrected: Correction, tightened: Correction) -> str:
    if corrected.best is None or tightened.best is None:
        return "Only one of the two ways has a plan that holds, or none has.\n"
    ours, theirs = corrected.best.score, tightened.best.score
    more = f"{ours - theirs:+.4f} with corrected curves"
    return f"Score of the plan that holds: corrected curves {ours:.4f}, tightened targets {theirs:.4f} ({more}).\n"
