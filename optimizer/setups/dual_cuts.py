"""The linear programme that leads to the dual point with the lowest bound of all setups.

The bound of all setups is convex in the prices: over the loads l, ``sum_l v_l [phi(p_l) + sum_k beta_lk]``, and on top
the largest sum of replies of any setup.  Every point that was tried gives planes that the bound lies above: one for
``phi`` of each load, from the assignment at its prices, and one for the replies, from the setup that reached the bound.
The programme finds the lowest point above all planes (Kelley 1960), within a box that makes it bounded.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from optimizer.problem import Setup
from optimizer.routing import JointPoint, RoutingSolver

Floats = NDArray[np.float64]

_HIGHEST_PRICE = 2.0
_HIGHEST_BETA = 20.0


class DualCuts:
    """Planes from the points that were tried; variables are, load by load, M prices, K betas and phi, then the replies.

    Parameters
    ----------
    solver : RoutingSolver
    """

    def __init__(self, solver: RoutingSolver) -> None:
        self._solver = solver
        self._models, self._slos = solver.table.models, len(solver.shared)
        self._each = self._models + self._slos + 1
        self._variables = len(solver.weights) * self._each + 1
        self._rows: list[Floats] = []
        self._limits: list[float] = []

    def add(self, point: JointPoint, setup: Setup) -> None:
        """Add the planes of a point and of the setup that reaches its bound."""
        replies = np.zeros(self._variables)
        replies[-1] = -1.0
        for load, (dual, (shares, delays)) in enumerate(zip(point, self._solver.replies_of(setup, point), strict=True)):
            weight, first = self._solver.weights[load], load * self._each
            row = np.zeros(self._variables)
            row[first : first + self._models] = -dual.assignment.fractions
            row[first + self._each - 1] = -1.0
            self._rows.append(row)
            self._limits.append(-dual.assignment.score)
            replies[first : first + self._models] = weight * shares
            replies[first + self._models : first + self._each - 1] = -weight * delays
        self._rows.append(replies)
        self._limits.append(0.0)

    def solve(self) -> tuple[float, list[tuple[Floats, Floats]]]:
        """Lowest value above all planes, and the prices and betas of each load where it is reached."""
        from scipy.optimize import linprog

        cost: list[float] = []
        bounds: list[tuple[float, float | None]] = []
        for weight in self._solver.weights:
            cost += [0.0] * self._models + [weight] * (self._slos + 1)
            bounds += (
                [(-_HIGHEST_PRICE, _HIGHEST_PRICE)] * self._models
                + [(0.0, _HIGHEST_BETA)] * self._slos
                + [(-2 * _HIGHEST_PRICE, None)]
            )
        cost.append(1.0)
        found = linprog(
            cost,
            A_ub=np.array(self._rows) if self._rows else None,
            b_ub=self._limits or None,
            bounds=[*bounds, (0.0, None)],
            method="highs",
        )
        if found.status != 0 or found.x is None:
            raise ArithmeticError(f"the linear programme was not solved: {found.message}")
        points = []
        for load in range(len(self._solver.weights)):
            first = load * self._each
            values = found.x[first : first + self._each - 1]
            points.append((values[: self._models], values[self._models :]))
        return float(found.x @ cost), points
