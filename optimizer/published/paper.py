"""RouterWise as published (arXiv:2604.10907): all retained setups, each routed by gradient ascent and bisection.

Algorithm 3 (SelectSetup) over :mod:`optimizer.published.setup_space` and :mod:`optimizer.published.routing`, which say
what was chosen where the publication is silent.  It proves nothing; :func:`optimizer.search.optimise` does.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import numpy as np

from latency_models.errors import InputError
from optimizer.delays.delay_curves import delay_tables
from optimizer.problem import Problem
from optimizer.published.given_fractions import routing_with_fractions
from optimizer.published.routing import PublishedRules, PublishedSplit, optimise_beta
from optimizer.published.setup_space import PlacedSetup, SetupSpace
from optimizer.routing import RoutingSolver
from optimizer.search import Optimum
from optimizer.setups.setup_search import Progress, SetupSolution


def optimise_as_published(
    problem: Problem,
    *,
    rules: PublishedRules | None = None,
    least_compute: float = 1.0,
    progress: Callable[[Progress], None] | None = None,
) -> Optimum:
    """Find a setup and a routing by the published method.

    Setups are compared by the method's own estimate of their scores.  The score that is returned is that of the best
    assignment for the fractions of the chosen setup; the bound is only that every prompt gets its best answer.

    Parameters
    ----------
    problem : Problem
        One load, and one target on a mean latency of all requests: the publication knows no others.
    rules : PublishedRules, optional
    least_compute : float
        Lowest share of all GPUs' compute that a setup must use.
    progress : callable, optional
        Called with a :class:`~optimizer.setups.setup_search.Progress` after each setup.

    Raises
    ------
    InputError
        The problem has more than the publication knows.
    """
    _check(problem)
    rules = PublishedRules() if rules is None else rules
    began = time.monotonic()
    space = SetupSpace(problem, least_compute=least_compute, as_published=True)
    counts = space.counts()
    retained = list(space.retained())
    solver = RoutingSolver(problem)
    tables = delay_tables(problem, problem.loads[0])
    bound = float(problem.table.predicted.max(axis=1).mean())
    best: tuple[PlacedSetup, PublishedSplit] | None = None
    for done, placed in enumerate(retained, start=1):
        delays = [table.options[k] for table, k in zip(tables, placed.setup, strict=True)]
        split = optimise_beta(solver.table, delays, rules)
        if split is not None and (best is None or split.score > best[1].score):
            best = (placed, split)
        if progress is not None:
            score = -math.inf if best is None else best[1].score
            progress(Progress(solved=done, open=len(retained) - done, best=score, bound=bound))
    return Optimum(
        best=None if best is None else _solution(solver, *best),
        bound=bound,
        considered=counts.product,
        pruned=counts.product - counts.within_compute,
        solved=len(retained),
        unplaceable=counts.within_compute - len(retained),
        wall_s=time.monotonic() - began,
    )


def _check(problem: Problem) -> None:
    if len(problem.loads) > 1:
        raise InputError(
            f"the problem has {len(problem.loads)} loads; the published method knows one. Use the exact method"
        )
    slos = problem.slos
    if len(slos) > 1 or slos[0].statistic != "mean" or slos[0].model is not None:
        raise InputError(
            f"the SLOs are {', '.join(str(slo) for slo in slos)}; the published method knows one target on a mean "
            "latency of all requests. Use the exact method"
        )


def _solution(solver: RoutingSolver, placed: PlacedSetup, found: PublishedSplit) -> SetupSolution:
    routing = routing_with_fractions(solver, placed.setup, found.fractions, np.array([found.beta]))
    return SetupSolution(setup=placed.setup, routing=routing, gpus=placed.gpus)
