"""Every retained setup with its best routing, kept, for studies."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from optimizer.problem import Problem
from optimizer.published.retained import SetupCounts
from optimizer.published.setup_space import PlacedSetup, SetupSpace
from optimizer.routing import RoutingSolver
from optimizer.search import Optimum
from optimizer.setups.setup_search import Progress, SetupSolution


@dataclass(frozen=True, slots=True, kw_only=True)
class Enumeration:
    """All retained setups of a problem.

    Parameters
    ----------
    solved : tuple of SetupSolution
        Those that keep the SLOs, each with its best routing.
    infeasible : tuple of PlacedSetup
        Those on which no routing keeps the SLOs.
    counts : SetupCounts
        Setups that there are, and that each filter of the publication leaves.
    wall_s : float
    """

    solved: tuple[SetupSolution, ...]
    infeasible: tuple[PlacedSetup, ...]
    counts: SetupCounts
    wall_s: float

    @property
    def best(self) -> SetupSolution | None:
        """The solution with the highest score; ``None`` if no setup keeps the SLOs."""
        return max(self.solved, key=lambda solution: solution.routing.score, default=None)

    @property
    def worst(self) -> SetupSolution | None:
        """The feasible setup with the lowest score."""
        return min(self.solved, key=lambda solution: solution.routing.score, default=None)

    def optimum(self) -> Optimum:
        """The best of the retained setups; the bound is theirs, and says nothing about setups that are not retained."""
        best = self.best
        solved = len(self.solved) + len(self.infeasible)
        return Optimum(
            best=best,
            bound=-math.inf if best is None else max(solution.routing.bound for solution in self.solved),
            considered=self.counts.product,
            pruned=self.counts.product - self.counts.within_compute,
            solved=solved,
            unplaceable=self.counts.within_compute - solved,
            wall_s=self.wall_s,
        )


def enumerate_setups(
    problem: Problem,
    *,
    least_compute: float = 1.0,
    as_published: bool = False,
    gap: float = 1e-6,
    progress: Callable[[Progress], None] | None = None,
) -> Enumeration:
    """Solve the routing of every retained setup.

    Parameters
    ----------
    problem : Problem
    least_compute : float
        Lowest share of all GPUs' compute that a setup must use.
    as_published : bool
        Whether every model runs, once; see :class:`optimizer.published.setup_space.SetupSpace`.
    gap : float
        Gap between score and bound of each setup's routing to stop at.
    progress : callable, optional
        Called with a :class:`~optimizer.setups.setup_search.Progress` after each setup.
    """
    began = time.monotonic()
    space = SetupSpace(problem, least_compute=least_compute, as_published=as_published)
    retained = list(space.retained())
    solver = RoutingSolver(problem)
    solved: list[SetupSolution] = []
    infeasible: list[PlacedSetup] = []
    best = bound = -math.inf
    start = None
    for done, placed in enumerate(retained, start=1):
        routed = solver.route(placed.setup, tolerance=gap, start=start)
        if routed.score > -math.inf:
            # Setups come in an order in which neighbours differ in one model: their prices are close.
            start = routed.point
            routing = solver.solution(placed.setup, routed)
            solved.append(SetupSolution(setup=placed.setup, routing=routing, gpus=placed.gpus))
            best, bound = max(best, routing.score), max(bound, routing.bound)
        else:
            infeasible.append(placed)
        if progress is not None:
            progress(Progress(solved=done, open=len(retained) - done, best=best, bound=bound))
    return Enumeration(
        solved=tuple(solved),
        infeasible=tuple(infeasible),
        counts=space.counts(),
        wall_s=time.monotonic() - began,
    )
