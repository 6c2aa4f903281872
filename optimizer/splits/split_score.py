"""The score of given fractions: the best assignment in which every model gets its share of the prompts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from optimizer.splits.assignment import Assignment, AssignmentPool, ScoreTable
from optimizer.splits.master import Columns, best_mixture

Floats = NDArray[np.float64]

_MOST_ROUNDS = 200


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SplitScore:
    """Mean score of the best assignment, between what a mixture of assignments reaches and what prices bound.

    Parameters
    ----------
    score : float
    bound : float
    assignment : Assignment
        Prices that give the bound, and the assignment at these: ties have to be split for the fractions to hold.
    """

    score: float
    bound: float
    assignment: Assignment


def score_of_split(table: ScoreTable, fractions: Floats, *, tolerance: float = 1e-7) -> SplitScore:
    """Find ``S(fractions)`` by cutting planes (Kelley 1960), to a tolerance.

    Parameters
    ----------
    table : ScoreTable
    fractions : ndarray, shape (M,)
        Sum 1; models with 0 get no prompt.
    """
    available = fractions > 0.0
    able = np.flatnonzero(available)
    pool = AssignmentPool(table)
    closest = table.assign(np.zeros(table.models), available)
    numbers = [*able.tolist(), pool.add(closest)]  # the pool begins with all prompts to one model
    bound, score = np.inf, -np.inf
    for _ in range(_MOST_ROUNDS):
        splits, scores = pool.splits(numbers)
        mixture = best_mixture(
            Columns(
                fractions=splits[:, able],
                scores=scores,
                owner=np.arange(len(able)),
                shares=fractions[able],
                delays=np.zeros((0, len(able))),
            )
        )
        if mixture is None:
            raise ArithmeticError("assignments to single models mix to every split")
        score = mixture.value
        prices = np.zeros(table.models)
        prices[able] = mixture.prices
        found = table.assign(prices, available)
        value = found.phi + float(found.prices[able] @ fractions[able])
        if value < bound:
            bound, closest = value, found
        if bound - score <= tolerance:
            break
        numbers.append(pool.add(found))
    return SplitScore(score=score, bound=bound, assignment=closest)
