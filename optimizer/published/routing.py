"""Routing for one setup as published: projected gradient ascent inside a bisection on the price of latency.

Algorithms 1 (OptimizeFractions) and 2 (OptimizeBeta) of RouterWise, arXiv:2604.10907.  :mod:`optimizer.routing` solves
the same problem to a certified gap; this is here to reproduce the publication and to be compared with.

Where the publication is silent, this is what was chosen
--------------------------------------------------------
- Inner prices: steps of ``0.3 / sqrt(k)``, at most 20 of them, from the prices of the previous split; the best prices
  met are kept (:mod:`optimizer.published.subgradient`).
- Ascent: step k has length ``first_move / k``, whatever the length of the gradient, as near its end a curve can be a
  hundred times as steep as the score.  The best split met is kept; the ascent ends after ``ascent_steps`` of them, or
  ``patience`` without a gain.
- Start: the requests split in proportion to what each model can carry.
- Beyond the last load of a curve: no traffic.  The projection bounds the fraction of a model by it.
- Bisection: the upper end, in units of score per target, is doubled from 1 until the target is kept, then the interval
  is halved until its ends differ by ``beta_tolerance`` of the upper one.  A setup on which no doubling keeps the target
  is infeasible.
- Score of a split: the dual bound ``g`` at the best prices met, which is never below the true score of the split.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from optimizer.delays.delay import Delay
from optimizer.published.simplex import project_on_simplex
from optimizer.published.subgradient import StepRule, dual_prices
from optimizer.splits.assignment import ScoreTable

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedRules:
    """Numbers that the publication does not give."""

    prices: StepRule = field(default_factory=StepRule)
    ascent_steps: int = 60
    first_move: float = 0.1
    patience: int = 20
    least_gain: float = 1e-5
    doublings: int = 24
    bisections: int = 16
    beta_tolerance: float = 1e-2


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PublishedSplit:
    """Fractions of the traffic, shape (M,), with what they cost and earn."""

    fractions: Floats
    prices: Floats
    score: float
    delay: float
    """Mean latency over its target; at most 1 if the target is kept."""
    beta: float
    """Price of the delay at which the split was found, in units of score per target."""


def optimise_fractions(
    table: ScoreTable, delays: Sequence[Delay], beta: float, start: PublishedSplit, rules: PublishedRules
) -> PublishedSplit:
    """Ascend ``J(w) = S(w) - beta (delay(w) - 1)`` from a split (Algorithm 1)."""
    upper = np.array([delay.highest for delay in delays])
    best, best_value, stale = start, -np.inf, 0
    fractions, prices = start.fractions, start.prices
    for step in range(1, rules.ascent_steps + 1):
        dual = dual_prices(table, fractions, prices, rules.prices)
        prices = dual.prices
        delay, slope = delay_and_slope(delays, fractions)
        value = dual.bound - beta * (delay - 1.0)
        stale = 0 if value > best_value + rules.least_gain else stale + 1
        if value > best_value:
            best_value = value
            best = PublishedSplit(fractions=fractions, prices=prices, score=dual.bound, delay=delay, beta=beta)
        if stale >= rules.patience:
            break
        # A constant added to every entry moves nothing on the simplex; without it the length is that of the real move.
        gradient = prices - beta * slope
        gradient = gradient - gradient.mean()
        length = float(np.linalg.norm(gradient))
        if length == 0.0:
            break
        move = rules.first_move / step / length
        fractions = project_on_simplex(fractions + move * gradient, upper)
    return best


def optimise_beta(table: ScoreTable, delays: Sequence[Delay], rules: PublishedRules) -> PublishedSplit | None:
    """Find the price of latency at which the best split just keeps the target (Algorithm 2).

    Returns
    -------
    PublishedSplit or None
        The last split that kept the target; ``None`` if none did.
    """
    upper = np.array([delay.highest for delay in delays])
    if upper.sum() < 1.0:
        return None
    split = PublishedSplit(
        fractions=project_on_simplex(upper / upper.sum(), upper),
        prices=np.zeros(len(delays)),
        score=-np.inf,
        delay=np.inf,
        beta=0.0,
    )
    split = optimise_fractions(table, delays, 0.0, split, rules)
    if split.delay <= 1.0:
        return split
    low, high = 0.0, 1.0
    for _ in range(rules.doublings):
        split = optimise_fractions(table, delays, high, split, rules)
        if split.delay <= 1.0:
            break
        low, high = high, 2.0 * high
    else:
        return None
    kept = split
    for _ in range(rules.bisections):
        if high - low <= rules.beta_tolerance * high:
            break
        middle = 0.5 * (low + high)
        split = optimise_fractions(table, delays, middle, split, rules)
        if split.delay > 1.0:
            low = middle
        else:
            high, kept = middle, split
    return kept


def delay_and_slope(delays: Sequence[Delay], fractions: Floats) -> tuple[float, Floats]:
    """``sum_i w_i l_i(w_i)`` for the first SLO, and its gradient ``l_i + w_i l_i'`` on the segments to the right."""
    total, slopes = 0.0, np.zeros(len(delays))
    for model, (delay, fraction) in enumerate(zip(delays, fractions.tolist(), strict=True)):
        shares, values = delay.shares, delay.relative[0]
        latency = float(np.interp(fraction, shares, values))
        total += fraction * latency
        left = min(int(np.searchsorted(shares, fraction, side="right")) - 1, len(shares) - 2)
        rise = (values[left + 1] - values[left]) / (shares[left + 1] - shares[left]) if left >= 0 else 0.0
        slopes[model] = latency + fraction * rise
    return total, slopes
