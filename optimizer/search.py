"""The optimum of a problem: setup, routing and placement, with what proves that there is no better."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from optimizer.infeasible import Infeasibility, explain
from optimizer.problem import Problem
from optimizer.setups.setup_search import Progress, SetupSearch, SetupSolution

__all__ = ["Infeasibility", "Optimum", "Progress", "SetupSolution", "optimise"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Optimum:
    """What the search found and proved.

    Parameters
    ----------
    best : SetupSolution or None
        ``None`` if no setup keeps the SLOs, or none was found in time.
    bound : float
        No setup has a higher score; negative if it is proven that none keeps the SLOs.
    considered : int
        Setups that the problem has.
    pruned : int
        Those that were ruled out by bounds, by the compute of the GPUs or by better options, or not reached in time.
    solved : int
        Those whose routing was solved, or given up when it could not beat the best.
    unplaceable : int
        Those without a placement that were met, alone or as one beginning that many setups have in common.
    wall_s : float
    undecided : int
        Those of which it is not known whether they have a placement; the bound is theirs too.
    infeasible : Infeasibility or None
        What would have to change, if it is proven that no setup keeps the SLOs, and was found out in time.
    """

    best: SetupSolution | None
    bound: float
    considered: int
    pruned: int
    solved: int
    unplaceable: int
    wall_s: float
    undecided: int = 0
    infeasible: Infeasibility | None = None

    @property
    def score(self) -> float:
        """Score of the best setup; -inf if there is none."""
        return -math.inf if self.best is None else self.best.routing.score

    @property
    def gap(self) -> float:
        """What a better setup or routing could gain at most; 0 if it is proven that there is none at all."""
        if self.best is None:
            return 0.0 if self.bound < 0.0 else math.inf
        return max(0.0, self.bound - self.score)


def optimise(
    problem: Problem,
    *,
    gap: float = 1e-6,
    time_limit_s: float = math.inf,
    progress: Callable[[Progress], None] | None = None,
) -> Optimum:
    """Find the setup and the routing with the highest predicted score that the SLOs allow.

    Parameters
    ----------
    problem : Problem
        What is asked.
    gap : float
        Stop when no other solution can be better by more than this, in units of score.
    time_limit_s : float
        Stop after this time with what was found and its bound; a setup that is being solved is finished first.
    progress : callable, optional
        Called with a :class:`~optimizer.setups.setup_search.Progress` about ten times a second.
    """
    began = time.monotonic()
    found = SetupSearch(problem, gap).run(time_limit_s=time_limit_s, progress=progress)
    impossible = found.best is None and found.bound < 0.0
    infeasible = explain(problem, until=began + time_limit_s) if impossible else None
    return Optimum(
        best=found.best,
        bound=found.bound,
        considered=found.considered,
        pruned=found.considered - found.solved - found.unplaceable - found.undecided,
        solved=found.solved,
        unplaceable=found.unplaceable,
        wall_s=time.monotonic() - began,
        undecided=found.undecided,
        infeasible=infeasible,
    )
