"""Plans that keep their SLOs in simulation: optimise, try, correct the curves, optimise again; then prove.

Why it ends: a plan that a trial or a proof did not confirm teaches corrections with which it is no longer feasible, or
else they are made to grow until it is not; after a plan was proven, only plans with a higher score are looked at; and
the number of plans is limited.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from latency_models.errors import check_count, check_finite
from optimizer.infeasible import Infeasibility
from optimizer.plan import Plan, make_plan
from optimizer.problem import LEFT_OUT, Problem, Setup
from optimizer.search import Optimum, Progress, SetupSolution, optimise
from scenarios.correction.corrections import Corrections, Seen
from scenarios.correction.shifted_curves import Shift
from scenarios.correction.simulated_plans import PlanSimulator, SimulatedPlan, SimulatedSlo
from scenarios.optimisation.problem_file import ReadProblem
from scenarios.validation.validate import Validation

GAP = 1e-5
"""Score that a better plan under the same corrections may have at most."""

_SAME_FRACTION = 1e-3
_GROWTH = 1.02
_MOST_GROWTHS = 50


class Fate(StrEnum):
    """What became of a plan."""

    TOO_SLOW = "too slow"
    """In the trial, or too near to a limit for a proof."""
    PROMISING = "promising"
    """In the trial; not proven, since another plan was preferred."""
    BROKEN = "broken"
    """In a proof."""
    UNDECIDED = "undecided"
    """Still after all replications of a proof."""
    HOLDS = "holds"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Step:
    """One plan on the way.

    Parameters
    ----------
    plan : Plan
        Its promise is what the curves promised, as they were corrected then.
    setup : tuple of int, length M
        Option of each model.
    shifts : mapping
        By model and number of the SLO, the corrections that all options of a model had.
    tightened : float
        Factor on the targets, where those are tightened instead.
    trial, proof : SimulatedPlan, Validation or None
        How it did.
    slos : tuple of SimulatedSlo
        Over all simulations of it.
    fate : Fate
    wall_s : float
    """

    plan: Plan
    setup: Setup
    shifts: Mapping[tuple[str, int], Shift] = field(default_factory=dict)
    tightened: float = 1.0
    trial: SimulatedPlan
    proof: Validation | None = None
    slos: tuple[SimulatedSlo, ...]
    fate: Fate
    wall_s: float

    @property
    def score(self) -> float:
        """Mean predicted score."""
        assert self.plan.promise is not None
        return self.plan.promise.score


@dataclass(frozen=True, slots=True, kw_only=True)
class Correction:
    """The search for a plan that holds.

    Parameters
    ----------
    steps : tuple of Step
        In order.
    ended : str
        Why there are no more.
    infeasible : Infeasibility or None
        What would have to change, if it ended because no plan is left.
    """

    steps: tuple[Step, ...]
    ended: str
    infeasible: Infeasibility | None = None

    @property
    def best(self) -> Step | None:
        """The plan with the highest score among those that hold."""
        proven = [step for step in self.steps if step.fate is Fate.HOLDS]
        return max(proven, key=lambda step: step.score) if proven else None


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchRules:
    """When to stop."""

    plans: int = 12
    """Plans to simulate at most."""
    gain: float = 1e-3
    """After a plan was proven, go on as long as another may have a score that is higher by this."""

    def __post_init__(self) -> None:
        check_count("plans", self.plans)
        check_finite("gain", self.gain, exclusive=True)


def corrected_plan(
    read: ReadProblem,
    simulator: PlanSimulator,
    rules: SearchRules,
    *,
    optimising: Callable[[int], Callable[[Progress], None] | None] = lambda number: None,
) -> Correction:
    """Find a plan that holds in simulation, with as high a score as possible.

    Parameters
    ----------
    read : ReadProblem
        The problem, and what goes into its plans.
    simulator : PlanSimulator
        Of the same problem.
    rules : SearchRules
    optimising : callable, optional
        Gives the progress callback for the search for the plan of a number, from 1 on.
    """
    search = _Search(read, simulator)
    while len(search.steps) < rules.plans:
        began = time.monotonic()
        least = search.score + rules.gain
        if least > 1.0:
            return search.ended("a plan holds, and no higher score was asked for")
        optimum = search.optimum(least, optimising(len(search.steps) + 1))
        if optimum.best is None:
            return search.ended("no plan is left", optimum.infeasible)
        if optimum.score < least:
            return search.ended(f"no other plan can have a score of {least:.4f}")
        if not simulator.can_prove:
            return search.ended("no arrivals are left that no plan was tried on")
        search.simulate(optimum, began)
    return search.ended(f"as many plans were simulated as allowed, {rules.plans}")


class _Search:
    def __init__(self, read: ReadProblem, simulator: PlanSimulator) -> None:
        self._read, self._simulator = read, simulator
        self._corrections = Corrections(problem=read.problem)
        self._corrected = read.problem
        self.steps: list[Step] = []
        self.score = -math.inf
        """Best of the plans that hold."""

    def ended(self, why: str, infeasible: Infeasibility | None = None) -> Correction:
        return Correction(steps=tuple(self.steps), ended=why, infeasible=infeasible)

    def optimum(self, least: float, progress: Callable[[Progress], None] | None) -> Optimum:
        """The best plan under the corrections; none that was simulated before, unless its score is below ``least``."""
        optimum = optimise(self._corrected, gap=GAP, progress=progress)
        for _ in range(_MOST_GROWTHS):
            again = [] if optimum.best is None or optimum.score < least else self._seen_of_same(optimum.best)
            if not again:
                break
            self._learn(self._corrections.growing(again, _GROWTH))
            optimum = optimise(self._corrected, gap=GAP, progress=progress)
        return optimum

    def simulate(self, optimum: Optimum, began: float) -> None:
        """Try a plan, prove it if the trial lets hope for it, and learn from both."""
        assert optimum.best is not None
        setup, rules = optimum.best.setup, self._simulator.rules
        plan = plan_of(self._read, self._corrected, optimum)
        trial = everything = self._simulator.trial(plan)
        fate, proof = Fate.TOO_SLOW, None
        if trial.promising(rules):
            proof = self._simulator.prove(plan)
            everything = trial.with_runs(proof.runs)
            fate = Fate(proof.outcome)
        step = Step(
            plan=plan,
            setup=setup,
            shifts=self._shifts(),
            trial=trial,
            proof=proof,
            slos=tuple(everything.slos(rules)),
            fate=fate,
            wall_s=time.monotonic() - began,
        )
        self.steps.append(step)
        self._learn(self._corrections.seeing(everything.sightings(self._read.problem, setup, rules)))
        if fate is Fate.HOLDS:
            self.score = max(self.score, step.score)

    def _learn(self, corrections: Corrections) -> None:
        self._corrections = corrections
        self._corrected = corrections.corrected()

    def _shifts(self) -> dict[tuple[str, int], Shift]:
        return {
            (model.name, k): self._corrections.shift(number, k)
            for number, model in enumerate(self._read.problem.models)
            for k, slo in enumerate(self._read.problem.slos)
            if slo.model in (None, model.name)
        }

    def _seen_of_same(self, found: SetupSolution) -> list[Seen]:
        """What was seen of an earlier plan that is as good as the same."""
        fractions = found.routing.loads[0].fractions
        names = [model.name for model in self._read.problem.models]
        for step in self.steps:
            before = step.plan.routing[0].fractions
            if step.setup == found.setup and all(
                abs(before.get(name, 0.0) - fraction) < _SAME_FRACTION
                for name, fraction in zip(names, fractions, strict=True)
            ):
                return [
                    (model, option, slo)
                    for model, option in enumerate(step.setup)
                    for slo in range(len(self._read.problem.slos))
                    if option != LEFT_OUT
                ]
        return []


def plan_of(read: ReadProblem, problem: Problem, optimum: Optimum) -> Plan:
    """The plan of an optimum of a problem that differs from the one that was read in curves or targets."""
    return make_plan(
        problem, optimum, name=read.name, usable_memory_gib=read.gpu_memory_gib, engines=read.engines,
        provenance=read.sources,
    )  # fmt: skip
