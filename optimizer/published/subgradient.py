"""Dual prices of a traffic split by subgradient steps, as published (RouterWise, arXiv:2604.10907, the inner problem).

For fractions ``c`` the score is ``S(c) = min_alpha g(alpha)`` with
``g(alpha) = mean_j max_i (s_ij - alpha_i) + sum_i alpha_i c_i``, and ``n_i(alpha) / N - c_i`` (prompts that prefer
model i at these prices, less those it shall get) is minus a subgradient of ``g``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from optimizer.splits.assignment import ScoreTable

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRule:
    """How long and how far the subgradient method walks; the publication says neither."""

    first_step: float = 0.3
    """Step of iteration k is ``first_step / sqrt(k)``: small enough in the end, and of infinite sum."""
    iterations: int = 20
    tolerance: float = 1e-3
    """Stop when every model gets its fraction to within this share of the prompts."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DualPrices:
    """The best prices that were met, shape (M,), and ``g`` there: an upper bound of the score of the split."""

    prices: Floats
    bound: float


def dual_prices(table: ScoreTable, fractions: Floats, start: Floats, rule: StepRule | None = None) -> DualPrices:
    """Walk from prices ``start`` towards those at which the models get ``fractions``, both of shape (M,).

    Prices matter only up to a constant; they are given with mean zero.
    """
    rule = StepRule() if rule is None else rule
    prices = start - start.mean()
    best = DualPrices(prices=prices, bound=np.inf)
    for iteration in range(1, rule.iterations + 1):
        found = table.assign(prices)
        bound = found.phi + float(prices @ fractions)
        if bound < best.bound:
            best = DualPrices(prices=prices, bound=bound)
        excess = found.fractions - fractions
        if np.abs(excess).max() <= rule.tolerance:
            break
        prices = prices + rule.first_step / np.sqrt(iteration) * excess
    return best
