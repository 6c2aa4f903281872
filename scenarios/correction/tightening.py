"""The obvious alternative to correcting curves: tighten all targets by one factor until the plan holds.

It knows no more of the simulation than whether a plan held, so every model pays for what one of them showed.  It is
here to be compared with: the same trial arrivals, the same proofs, the same confidence.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace

from optimizer.search import Progress, optimise
from scenarios.correction.search import GAP, Correction, Fate, Step, plan_of
from scenarios.correction.simulated_plans import PlanSimulator
from scenarios.optimisation.problem_file import ReadProblem

_TIGHTEST = 0.1
_PRECISION = 1.02


def tightened_plan(
    read: ReadProblem,
    simulator: PlanSimulator,
    plans: int,
    *,
    optimising: Callable[[int], Callable[[Progress], None] | None] = lambda number: None,
) -> Correction:
    """Find the loosest targets whose plan holds to the original ones, by bisection.

    The bisection goes by trials, to 2 %.  The plan in which it ends is proven; if that fails, it goes on below.

    Parameters
    ----------
    read : ReadProblem
        The problem, and what goes into its plans.
    simulator : PlanSimulator
        Of the same problem, and unused.
    plans : int
        Plans to simulate at most.
    optimising : callable, optional
        Gives the progress callback for the search for the plan of a number, from 1 on.
    """
    search = _Bisection(read, simulator, plans, optimising)
    while True:
        candidate = search.loosest()
        if candidate is None:
            return search.ended("no tightened targets have a plan that does well in the trial")
        if not simulator.can_prove:
            return search.ended("no arrivals are left that no plan was tried on")
        if search.prove(candidate):
            return search.ended("the plan of the loosest such targets holds")


class _Bisection:
    def __init__(
        self,
        read: ReadProblem,
        simulator: PlanSimulator,
        plans: int,
        optimising: Callable[[int], Callable[[Progress], None] | None],
    ) -> None:
        self._read, self._simulator, self._plans, self._optimising = read, simulator, plans, optimising
        self._failing = math.inf
        """Smallest factor with which a plan did not hold."""
        self._steps: list[Step] = []

    def ended(self, why: str) -> Correction:
        return Correction(steps=tuple(self._steps), ended=why)

    def loosest(self) -> Step | None:
        """The plan of the loosest targets that does well in the trial, below those that failed."""
        holding, best = _TIGHTEST, None
        while self._failing / holding > _PRECISION and len(self._steps) < self._plans:
            factor = 1.0 if math.isinf(self._failing) else math.sqrt(holding * self._failing)
            step = self._tried(factor)
            if step is not None and step.fate is Fate.TOO_SLOW:
                self._failing = factor
                continue
            # Where no plan is left, the targets are too tight.
            holding, best = factor, step or best
            if factor == 1.0:
                break
        return best

    def prove(self, step: Step) -> bool:
        """Whether a plan holds on fresh arrivals."""
        began = time.monotonic()
        proof = self._simulator.prove(step.plan)
        proven = replace(
            step,
            proof=proof,
            slos=tuple(step.trial.with_runs(proof.runs).slos(self._simulator.rules)),
            fate=Fate(proof.outcome),
            wall_s=step.wall_s + time.monotonic() - began,
        )
        self._steps[self._steps.index(step)] = proven
        self._failing = step.tightened
        return proven.fate is Fate.HOLDS

    def _tried(self, factor: float) -> Step | None:
        """The plan of tightened targets in the trial; ``None`` if there is no plan."""
        began = time.monotonic()
        slos = tuple(replace(slo, target_s=factor * slo.target_s) for slo in self._read.problem.slos)
        problem = replace(self._read.problem, slos=slos)
        optimum = optimise(problem, gap=GAP, progress=self._optimising(len(self._steps) + 1))
        if optimum.best is None:
            return None
        plan = plan_of(self._read, problem, optimum)
        trial = self._simulator.trial(plan)
        step = Step(
            plan=plan,
            setup=optimum.best.setup,
            tightened=factor,
            trial=trial,
            slos=tuple(trial.slos(self._simulator.rules)),
            fate=Fate.PROMISING if trial.promising(self._simulator.rules) else Fate.TOO_SLOW,
            wall_s=time.monotonic() - began,
        )
        self._steps.append(step)
        return step
