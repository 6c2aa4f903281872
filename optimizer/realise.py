"""Fractions made exact on a table: which model answers each prompt, so that the counts come out.

A prompt goes to ``argmax_i s_i(x) - p_i``; that leaves open where tied prompts go, and prices are known to a tolerance
only.  So prompts are moved, one chain at a time and each along the chain that costs least, until every model has its
count.  As in any transportation problem solved by shortest augmenting paths, the result is the best assignment with
these counts.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from latency_models.errors import invalid
from optimizer.splits.assignment import ScoreTable

Floats = NDArray[np.float64]

_ROUNDING = 1e-12


def exact_counts(fractions: Sequence[float] | Floats, prompts: int) -> NDArray[np.intp]:
    """Prompts of each model, shape (M,): those of the fractions, rounded so that they sum up (largest remainders).

    Raises
    ------
    InputError
        If fractions are negative or do not sum to 1.
    """
    shares = np.asarray(fractions, dtype=np.float64)
    if not np.isfinite(shares).all() or (shares < 0.0).any() or abs(shares.sum() - 1.0) > 1e-6:
        raise invalid("fractions", shares.tolist(), "shares >= 0 that sum to 1")
    exact = shares * (prompts / shares.sum())
    counts: NDArray[np.intp] = np.floor(exact + 1e-9).astype(np.intp)
    first = np.argsort(counts - exact, kind="stable")[: prompts - int(counts.sum())]
    counts[first] += 1
    return counts


def realise(
    scores: Floats, fractions: Sequence[float] | Floats, prices: Sequence[float] | Floats | None = None
) -> NDArray[np.intp]:
    """Assign prompts to models with exact counts, at the highest mean score that these counts allow.

    Parameters
    ----------
    scores : ndarray, shape (N, M)
    fractions : sequence of float, length M
        Share of the prompts of each model.
    prices : sequence of float, length M, optional
        Prices that nearly give these fractions; the better they are, the fewer prompts have to move.

    Returns
    -------
    ndarray of int, shape (N,)
        Model of each prompt.
    """
    table = ScoreTable(scores)
    counts = exact_counts(fractions, table.prompts)
    start = np.zeros(table.models) if prices is None else np.asarray(prices, dtype=np.float64)
    model = table.choose(start)
    moves = _Moves(np.asarray(scores, dtype=np.float64), model)
    surplus = np.bincount(model, minlength=table.models) - counts
    while surplus.any():
        path = moves.cheapest_path(surplus)
        moves.along(path)
        surplus[path[0]] -= 1
        surplus[path[-1]] += 1
    return model


class _Moves:
    """What it costs to move the cheapest prompt from one model to another; ``model`` is changed by moves."""

    def __init__(self, scores: Floats, model: NDArray[np.intp]) -> None:
        self._scores, self._model = scores, model
        models = scores.shape[1]
        self._heaps: list[list[list[tuple[float, int]]]] = []
        for source in range(models):
            prompts = np.flatnonzero(model == source)
            losses = scores[prompts, source][:, None] - scores[prompts]
            order = np.argsort(losses, axis=0, kind="stable")
            self._heaps.append(
                [
                    list(zip(losses[order[:, to], to].tolist(), prompts[order[:, to]].tolist(), strict=True))
                    for to in range(models)
                ]
            )

    def cheapest_path(self, surplus: NDArray[np.intp]) -> list[int]:
        """Models from one with a surplus to one with a deficit, such that a chain of moves loses least score."""
        models = len(surplus)
        costs = [[self._cost(source, to) for to in range(models)] for source in range(models)]
        distance = [0.0 if excess > 0 else math.inf for excess in surplus]
        before = [-1] * models
        for _ in range(models - 1):  # Bellman and Ford; there are no negative cycles, as the assignment is optimal
            for source in range(models):
                for to in range(models):
                    if distance[source] + costs[source][to] < distance[to] - _ROUNDING:
                        distance[to] = distance[source] + costs[source][to]
                        before[to] = source
        at = min((to for to in range(models) if surplus[to] < 0), key=distance.__getitem__)
        path = [at]
        while before[path[-1]] >= 0:
            path.append(before[path[-1]])
        return path[::-1]

    def along(self, path: list[int]) -> None:
        """Move one prompt over each step of a path."""
        moved = [(self._heaps[source][to][0][1], to) for source, to in itertools.pairwise(path)]
        for prompt, to in moved:
            self._model[prompt] = to
            for other, score in enumerate(self._scores[prompt].tolist()):
                heapq.heappush(self._heaps[to][other], (float(self._scores[prompt, to]) - score, prompt))

    def _cost(self, source: int, to: int) -> float:
        heap = self._heaps[source][to]
        while heap and self._model[heap[0][1]] != source:
            heapq.heappop(heap)
        return heap[0][0] if heap and source != to else math.inf
