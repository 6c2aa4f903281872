"""What score a split of the prompts among the models can reach: the concave function S(w), from both sides.

``S(w)`` is the largest mean score of an assignment of prompts to models in which model i gets the share ``w_i``.  For
any prices ``p``, giving each prompt to ``argmax_i s_i(x) - p_i`` tells both sides of it at once:

- from above, ``S(w) <= phi(p) + p . w`` with ``phi(p) = mean_j max_i (s_ij - p_i)``: weak duality of a transportation
  problem, tight for the right prices;
- from below, the assignment itself: a split and its score, and every mixture of such assignments.

Neither depends on GPUs, on loads or on latency, so what is learnt for one setup serves all others.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Assignment:
    """The best assignment at given prices.

    Parameters
    ----------
    prices : ndarray, shape (M,)
        Price of the prompts of each model, in units of score.
    phi : float
        Mean of the best net score, ``mean_j max_i (s_ij - p_i)``.
    fractions : ndarray, shape (M,)
        Share of the prompts that each model gets; of equals, the model that comes first gets the prompt.
    score : float
        Mean score.
    """

    prices: Floats
    phi: float
    fractions: Floats
    score: float


class ScoreTable:
    """Predicted scores of N prompts and M models, shape (N, M), in the layout that prices are tried on."""

    def __init__(self, scores: Floats) -> None:
        self._by_model = np.ascontiguousarray(scores.T, dtype=np.float64)
        self.models, self.prompts = self._by_model.shape

    def assign(self, prices: Floats, available: Mask | None = None) -> Assignment:
        """Find the best assignment at prices of shape (M,) among the available models; default: all of them.

        The price of a model that is not available becomes the lowest at which no prompt prefers it, so that the result
        is also the best assignment among all models at the prices it returns.
        """
        chosen, best = self._choose(prices, available)
        if available is not None and not available.all():
            prices = prices.copy()
            for model in np.flatnonzero(~available):
                prices[model] = float(np.max(self._by_model[model] - best))
        fractions = np.bincount(chosen, minlength=self.models) / self.prompts
        phi = float(best.mean())
        used = fractions > 0.0
        return Assignment(
            prices=prices, phi=phi, fractions=fractions, score=phi + float(prices[used] @ fractions[used])
        )

    def choose(self, prices: Floats, available: Mask | None = None) -> NDArray[np.intp]:
        """Model of each prompt at these prices, shape (N,)."""
        return self._choose(prices, available)[0].astype(np.intp)

    def corners(self) -> Floats:
        """Mean score of each model when it answers every prompt, shape (M,)."""
        means: Floats = self._by_model.mean(axis=1)
        return means

    def _choose(self, prices: Floats, available: Mask | None) -> tuple[NDArray[np.uint16], Floats]:
        models = range(self.models) if available is None else np.flatnonzero(available).tolist()
        first, *others = models
        best = self._by_model[first] - prices[first]
        chosen = np.full(self.prompts, first, dtype=np.uint16)
        for model in others:
            net = self._by_model[model] - prices[model]
            np.copyto(chosen, model, where=net > best)
            np.maximum(best, net, out=best)
        return chosen, best


class AssignmentPool:
    """Assignments found so far, as arrays: a pooled assignment is its split and its score.

    It begins with the assignments of all prompts to one model, so that every split is a mixture of what it holds.
    """

    def __init__(self, table: ScoreTable) -> None:
        self._corners: int = table.models
        self._size: int = table.models
        self._fractions = np.eye(table.models)
        self._scores = table.corners()

    def add(self, assignment: Assignment) -> int:
        """Keep an assignment; returns its number."""
        if self._size == len(self._scores):
            self._fractions = np.concatenate([self._fractions, np.zeros_like(self._fractions)])
            self._scores = np.concatenate([self._scores, np.zeros_like(self._scores)])
        self._fractions[self._size] = assignment.fractions
        self._scores[self._size] = assignment.score
        self._size += 1
        return self._size - 1

    def select(self, prices: Floats, available: Mask, most: int) -> list[int]:
        """Numbers of the assignments among available models that are nearly best at these prices, at most so many.

        The assignments to single models come on top of these.
        """
        fractions, scores = self._fractions[self._corners : self._size], self._scores[self._corners : self._size]
        usable = np.flatnonzero(~(fractions[:, ~available] > 0.0).any(axis=1))
        if len(usable) > most:
            net = scores[usable] - fractions[usable] @ np.where(available, prices, 0.0)
            usable = usable[np.argpartition(-net, most - 1)[:most]]
        return [*np.flatnonzero(available).tolist(), *(usable + self._corners).tolist()]

    def splits(self, numbers: list[int]) -> tuple[Floats, Floats]:
        """Splits, shape (n, M), and scores, shape (n,), of some of the assignments."""
        return self._fractions[numbers], self._scores[numbers]
