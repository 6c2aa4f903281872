"""What dual points say of all setups at once.

At given prices the bound of a setup is a constant plus one number for each model, the reply of its option.  The best
setup under a budget of compute, with some options chosen already, is then a multiple-choice knapsack; dynamic
programming over the budget solves it once for each point.  The lowest of the bounds of all points holds.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]
Mask = NDArray[np.bool_]


class SetupBounds:
    """Bounds of partial setups; the models are chosen in order 0, 1, ..., M - 1.

    Parameters
    ----------
    needs : sequence of arrays of int, length M
        Units of compute of each option.
    budget : int
        Units of all GPUs.
    """

    def __init__(self, needs: Sequence[Counts], budget: int) -> None:
        self._needs, self.budget = list(needs), budget
        self.points = 0
        self._constants = np.zeros(16)
        self._replies = [np.zeros((16, len(need))) for need in needs]
        self._rest = [np.zeros((16, budget + 1)) for _ in range(len(needs) + 1)]

    def add(self, constant: float, replies: Sequence[Floats]) -> None:
        """Add a dual point: its constant and the reply of every option of every model."""
        if self.points == len(self._constants):
            self._constants = np.concatenate([self._constants, np.zeros_like(self._constants)])
            self._replies = [np.concatenate([held, np.zeros_like(held)]) for held in self._replies]
            self._rest = [np.concatenate([held, np.zeros_like(held)]) for held in self._rest]
        row = self.points
        self._constants[row] = constant
        self._rest[-1][row] = 0.0
        for model in range(len(self._needs) - 1, -1, -1):
            self._replies[model][row] = replies[model]
            self._rest[model][row] = self._best_with(model, replies[model], self._rest[model + 1][row])
        self.points += 1

    def beside(self, chosen: Sequence[int], left: int, allowed: Sequence[Mask]) -> float:
        """Bound by the tightest point when the later models may only take some of their options."""
        row = self.tightest(chosen, left)
        rest = np.zeros(self.budget + 1)
        for model in range(len(self._needs) - 1, len(chosen) - 1, -1):
            replies = np.where(allowed[model - len(chosen)], self._replies[model][row], -np.inf)
            rest = self._best_with(model, replies, rest)
        return float(self._base(chosen, slice(row, row + 1))[0] + rest[left])

    def completion(self, row: int) -> tuple[int, ...]:
        """Options of the setup that reaches the bound of all setups at a point."""
        left = self.budget
        options = []
        for model, need in enumerate(self._needs):
            after = self._rest[model + 1][row][np.maximum(left - need, 0)]
            best = int(np.argmax(np.where(need <= left, self._replies[model][row] + after, -np.inf)))
            options.append(best)
            left -= int(need[best])
        return tuple(options)

    def forget_last(self) -> None:
        """Drop the point that was added last."""
        self.points -= 1

    def _best_with(self, model: int, replies: Floats, rest: Floats) -> Floats:
        """Best sum of replies of this model and the later ones, by the budget, shape (budget + 1,)."""
        best = np.full(self.budget + 1, -np.inf)
        need = self._needs[model]
        top = np.full(self.budget + 1, -np.inf)
        fits = need <= self.budget
        np.maximum.at(top, need[fits], replies[fits])
        highest = -np.inf
        for units in np.flatnonzero(top > -np.inf).tolist():
            if top[units] <= highest:
                continue  # a cheaper option earns as much
            highest = top[units]
            np.maximum(best[units:], highest + rest[: self.budget + 1 - units], out=best[units:])
        return best

    def of(self, chosen: Sequence[int], left: int, since: int = 0) -> float:
        """Bound of all setups that begin with these options and have so much of the budget left."""
        rows = slice(since, self.points)
        return float((self._base(chosen, rows) + self._rest[len(chosen)][rows, left]).min())

    def at_root(self, row: int) -> float:
        """Bound of all setups by one point."""
        return float(self._constants[row] + self._rest[0][row, self.budget])

    def tightest(self, chosen: Sequence[int], left: int) -> int:
        """Number of the point that gives the lowest bound."""
        rows = slice(0, self.points)
        return int(np.argmin(self._base(chosen, rows) + self._rest[len(chosen)][rows, left]))

    def children(self, chosen: Sequence[int], left: int) -> Floats:
        """Bound for every option of the next model; -inf where it does not fit the budget."""
        rows = slice(0, self.points)
        need = self._needs[len(chosen)]
        after = self._rest[len(chosen) + 1][rows][:, np.maximum(left - need, 0)]
        bounds = (self._base(chosen, rows)[:, None] + self._replies[len(chosen)][rows] + after).min(axis=0)
        return np.where(need <= left, bounds, -np.inf)

    def _base(self, chosen: Sequence[int], rows: slice) -> Floats:
        base = self._constants[rows].copy()
        for model, option in enumerate(chosen):
            base += self._replies[model][rows, option]
        return base
