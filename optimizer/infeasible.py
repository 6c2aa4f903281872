"""Why a problem has no solution: what would have to change for there to be one, and by how much.

Each question is a search for any solution at all, with a single prompt whose scores are 0; each answer is found by
bisection, and lies on the feasible side.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from optimizer.problem import LONGEST_TARGET_S, Problem, SloTarget
from optimizer.setups.setup_search import SetupSearch
from sim.prompt_table import PromptTable

_PRECISION = 1e-3
_GAP = 1e-6
_LARGEST_FACTOR = 1e15


@dataclass(frozen=True, slots=True, kw_only=True)
class Infeasibility:
    """What stands in the way.

    Parameters
    ----------
    binding : {"slo", "load", "placement"}
        Targets that are too tight; a load that no setup carries, however late; models that do not fit on the GPUs.
    slos : tuple of SloTarget
        Targets of the problem.
    smallest_target_s : tuple of float or None, one for each SLO
        Smallest target that is feasible when the others stay as they are, within 0.1 %; ``None`` if this one alone is
        not what binds.
    factor : float or None
        Smallest factor on all targets together that is feasible, within 0.1 %.
    load_factor : float or None
        Largest part of the loads that can be carried without regard to targets, within 0.1 %.
    """

    binding: Literal["slo", "load", "placement"]
    slos: tuple[SloTarget, ...]
    smallest_target_s: tuple[float | None, ...]
    factor: float | None = None
    load_factor: float | None = None

    def __str__(self) -> str:
        if self.binding == "placement":
            return "the models that must run do not fit on the GPUs together, at any load"
        if self.binding == "load":
            return f"no setup carries the load; the most that one carries is {self.load_factor:.1%} of it"
        found = zip(self.slos, self.smallest_target_s, strict=True)
        alone = [
            f"{slo}: smallest feasible target {1e3 * target:.4g} ms" for slo, target in found if target is not None
        ]
        if alone:
            return "; or ".join(alone)
        return f"no single target is the cause; all of them are feasible when {self.factor:.4g} times as long"


class _Undecided(Exception):
    """Whether there is a solution could not be found out."""


def explain(problem: Problem, *, until: float = math.inf) -> Infeasibility | None:
    """Find out why a problem without a solution has none.

    Parameters
    ----------
    problem : Problem
    until : float
        Time of ``time.monotonic()`` to stop at.

    Returns
    -------
    Infeasibility or None
        ``None`` if it was not found out by then, or depends on placements that are undecided.
    """
    try:
        return _Questions(problem, until).answer()
    except _Undecided:
        return None


class _Questions:
    def __init__(self, problem: Problem, until: float) -> None:
        self._problem, self._until = problem, until

    def answer(self) -> Infeasibility:
        problem = self._problem
        none = (None,) * len(problem.slos)
        everything = range(len(problem.slos))
        patient = _with_targets(problem, math.inf, everything)
        if not self._has_solution(patient):
            if not self._has_solution(_with_load(patient, 0.0)):
                return Infeasibility(binding="placement", slos=problem.slos, smallest_target_s=none)
            # The search is for the inverse of the load, so that here, too, the feasible end is the larger one.
            inverse = _smallest(lambda factor: self._has_solution(_with_load(patient, 1.0 / factor)))
            return Infeasibility(binding="load", slos=problem.slos, smallest_target_s=none, load_factor=1.0 / inverse)
        factor = _smallest(lambda factor: self._has_solution(_with_targets(problem, factor, everything)))
        if len(problem.slos) == 1:
            alone: tuple[float | None, ...] = (factor * problem.slos[0].target_s,)
        else:
            alone = tuple(self._smallest_alone(number) for number in everything)
        return Infeasibility(binding="slo", slos=problem.slos, smallest_target_s=alone, factor=factor)

    def _smallest_alone(self, number: int) -> float | None:
        """Smallest feasible target of one SLO beside the others; ``None`` if it is not the only one that binds."""
        problem = self._problem
        if not self._has_solution(_with_targets(problem, math.inf, [number])):
            return None
        factor = _smallest(lambda factor: self._has_solution(_with_targets(problem, factor, [number])))
        return factor * problem.slos[number].target_s

    def _has_solution(self, problem: Problem) -> bool:
        zero = PromptTable(models=problem.table.models, predicted=np.zeros((1, len(problem.models))))
        search = SetupSearch(replace(problem, table=zero), _GAP)
        found = search.run(time_limit_s=self._until - time.monotonic())
        if found.best is None and found.bound >= 0.0:
            raise _Undecided
        return found.best is not None


def _smallest(feasible: Callable[[float], bool]) -> float:
    """Smallest feasible factor above 1, to a precision, given that 1 is not; infinity if no factor is."""
    low, high = 1.0, 2.0
    while not feasible(high):
        low, high = high, 2.0 * high
        if high > _LARGEST_FACTOR:
            return math.inf
    while high / low > 1.0 + _PRECISION:
        middle = (low * high) ** 0.5
        low, high = (low, middle) if feasible(middle) else (middle, high)
    return high


def _with_targets(problem: Problem, factor: float, numbers: Iterable[int]) -> Problem:
    """The problem with some targets longer by a factor, up to the longest allowed."""
    slos = list(problem.slos)
    for number in numbers:
        slos[number] = replace(slos[number], target_s=min(factor * slos[number].target_s, LONGEST_TARGET_S))
    return replace(problem, slos=tuple(slos))


def _with_load(problem: Problem, factor: float) -> Problem:
    if factor == 0.0:
        return replace(problem, loads=(replace(problem.loads[0], rate_per_s=0.0, weight=1.0),))
    return replace(problem, loads=tuple(replace(load, rate_per_s=factor * load.rate_per_s) for load in problem.loads))
