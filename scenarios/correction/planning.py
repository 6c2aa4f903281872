"""``routerwise plan`` as a function: from a problem and a scenario to a plan that holds, and how it compares."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from analysis.statistics import mean_interval
from latency_models.errors import InputError, unknown_name
from optimizer.search import Progress
from scenarios.correction.search import Correction, SearchRules, corrected_plan
from scenarios.correction.simulated_plans import PlanSimulator, ProofRules
from scenarios.correction.tightening import tightened_plan
from scenarios.optimisation.problem_file import ReadProblem
from scenarios.replicated import Replicator, is_trace
from scenarios.schema import Scenario

Show = Callable[[str, int, int], None]
"""Told what is being done, how much of it is done, and of how much."""

_OTHER_LOAD = 0.1
"""Relative difference of the simulated load from the problem's that is worth a note."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Planning:
    """What came out.

    Parameters
    ----------
    corrected : Correction
        By correcting curves.
    tightened : Correction or None
        By tightening the targets, if that was asked for.
    notes : tuple of str
        What the user should know.
    """

    corrected: Correction
    tightened: Correction | None
    notes: tuple[str, ...]


def check_models(read: ReadProblem, scenario: Scenario) -> None:
    """Raise InputError for a model of the problem that the scenario does not have."""
    for model in read.problem.models:
        if model.name not in scenario.models:
            raise unknown_name(f"model of problem {read.name}, among those of scenario {scenario.name},",
                               model.name, scenario.models)  # fmt: skip


def plan_to_hold(
    read: ReadProblem,
    scenario: Scenario,
    replicator: Replicator,
    *,
    proof: ProofRules,
    search: SearchRules,
    window_s: float | None = None,
    against_tightening: bool = False,
    show: Show | None = None,
) -> Planning:
    """Find the plan of a problem that keeps its SLOs in a scenario.

    Parameters
    ----------
    read : ReadProblem
        The problem.
    scenario : Scenario
        Traffic, and the models of the problem.
    replicator : Replicator
        Where replications are run.
    proof : ProofRules
        How sure one has to be.
    search : SearchRules
        When to stop.
    window_s : float, optional
        Length of the parts of a trace that stand for replications.
    against_tightening : bool
        Also find the plan that tightened targets lead to.
    show : callable, optional
        See :data:`Show`.

    Raises
    ------
    InputError
        The problem has several loads, a model that the scenario does not have, or the scenario is a trace that is not
        cut into windows.
    """
    if len(read.problem.loads) > 1:
        raise InputError(
            f"problem {read.name} has {len(read.problem.loads)} loads, and a scenario has the traffic of one; plan for "
            "each of them, with a scenario of that load"
        )
    check_models(read, scenario)
    if is_trace(scenario.workload) and window_s is None:
        raise InputError(
            "every replication of a trace has the same requests, so that nothing is proven on new ones; cut it into "
            "windows with --window SECONDS"
        )

    def simulator(prefix: str) -> PlanSimulator:
        report = None if show is None else _prefixed(show, prefix)
        return PlanSimulator(read.problem, scenario, replicator, proof, window_s=window_s, report=report)

    corrected = corrected_plan(read, simulator("corrected curves: "), search, optimising=_optimising(show, ""))
    tightened = None
    if against_tightening:
        tightened = tightened_plan(
            read, simulator("tightened targets: "), search.plans, optimising=_optimising(show, "tightened targets: ")
        )
    return Planning(corrected=corrected, tightened=tightened, notes=tuple(_notes(read, corrected)))


def _prefixed(show: Show, prefix: str) -> Show:
    return lambda text, done, total: show(prefix + text, done, total)


def _optimising(show: Show | None, prefix: str) -> Callable[[int], Callable[[Progress], None] | None]:
    if show is None:
        return lambda number: None
    return lambda number: (
        lambda state: show(f"{prefix}optimizing plan {number}", state.solved, state.solved + state.open)
    )


def _notes(read: ReadProblem, corrected: Correction) -> list[str]:
    """Whether the traffic is what the problem was put for."""
    if not corrected.steps:
        return []
    offered = [run.summary["overall"]["offered_per_s"] for run in corrected.steps[0].trial.runs]
    if any(rate is None or not math.isfinite(rate) for rate in offered):
        return []
    rate, planned = mean_interval(offered).estimate, read.problem.loads[0].rate_per_s
    if abs(rate / planned - 1.0) <= _OTHER_LOAD:
        return []
    return [
        f"the scenario sends {rate:.1f} requests/s, the problem is put for {planned:g}; the plan was corrected for "
        "what the scenario sends"
    ]
