"""What a routing with given fractions promises: for methods that choose fractions without a proof."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from optimizer.problem import Setup
from optimizer.routing import Routed, RoutingSolution, RoutingSolver
from optimizer.splits.column_generation import DualPoint
from optimizer.splits.split import Split
from optimizer.splits.split_score import score_of_split

Floats = NDArray[np.float64]


def routing_with_fractions(solver: RoutingSolver, setup: Setup, fractions: Floats, betas: Floats) -> RoutingSolution:
    """Route every load by the same fractions, each prompt to the best model that they allow.

    Parameters
    ----------
    solver : RoutingSolver
    setup : tuple of int, length M
    fractions : ndarray, shape (M,)
        They keep the SLOs; that is not checked.
    betas : ndarray, shape (K,)
        Prices of the SLOs over all models, to report.

    Returns
    -------
    RoutingSolution
        Its bound is only that every prompt gets its best answer.
    """
    exact = score_of_split(solver.table, fractions)
    point = DualPoint(assignment=exact.assignment, betas=betas)
    bound = float(solver.problem.table.predicted.max(axis=1).mean())
    split = Split(fractions=fractions, score=exact.score, bound=bound, dual=point, outer=point, rounds=0)
    loads = len(solver.problem.loads)
    routed = Routed(splits=(split,) * loads, score=exact.score, bound=bound, point=(point,) * loads)
    return solver.solution(setup, routed)
