"""The best split of one load over the convex hulls of ``h``: column generation between a score and its bound.

The dual function ``D(p, beta) = phi(p) + sum_k beta_k + sum_i max_y [p_i y - sum_k beta_k h_ki(y)]`` bounds the score
from above for every ``p`` and ``beta >= 0``, whatever the shape of ``h``.  It is minimised by cutting planes (Kelley
1960), in the form of their linear programming dual (Dantzig and Wolfe 1960), which mixes known assignments and shares
and so is a routing at every step.  Every query lies between the prices of the programme and the best ones so
far, which calms the jumps of the former (in-out separation, Ben-Ameur and Neto 2007).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from optimizer.delays.delay import Delay, DelayTable
from optimizer.problem import Setup
from optimizer.splits.assignment import Assignment, AssignmentPool, ScoreTable
from optimizer.splits.master import Columns, Mixture, best_mixture, least_excess

Floats = NDArray[np.float64]
Ranges = tuple[tuple[float, float], ...]
"""Lowest and highest share of each model that can get traffic."""

SLO_ROUNDING = 1e-8
"""Part of a target by which rounding may exceed it."""

_MOST_ROUNDS = 400
_SAME_SHARE = 1e-8
_MOST_POOLED = 40
_TOWARDS_BEST = 0.5
_RAY = 1000.0
"""How far below zero the bound of an impossible setup is taken, in units of score."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DualPoint:
    """Prices at one load, which bound the score of every setup.

    Parameters
    ----------
    assignment : Assignment
        Prices of the models, and the best assignment at these.
    betas : ndarray, shape (K,)
        Price of each SLO.
    """

    assignment: Assignment
    betas: Floats

    @property
    def prices(self) -> Floats:
        """Price of a share of the traffic, by model, shape (M,)."""
        return self.assignment.prices

    @property
    def constant(self) -> float:
        """Part of the bound that is the same for all setups; the replies of their options come on top."""
        return self.assignment.phi + float(self.betas.sum())


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Relaxed:
    """Best split over the hulls.

    Parameters
    ----------
    bound : float
        No split has a higher score; negative if none is possible.
    dual : DualPoint
        Prices that show it.
    rounds : int
        Linear programmes that were solved.
    score : float
        Score of the mixture; -inf if none is possible.
    traffic : ndarray, shape (n,)
        Share of each model that can get traffic.
    hull : ndarray, shape (K, n)
        What the mixture says that ``h`` is; less than ``h`` where that is not convex.
    """

    bound: float
    dual: DualPoint
    rounds: int
    score: float
    traffic: Floats
    hull: Floats


class ColumnGeneration:
    """One setup at one load, with the shares of its models limited to ranges.

    Parameters
    ----------
    table : ScoreTable
    pool : AssignmentPool
        Read and added to.
    delays : sequence of DelayTable, length M
    setup : tuple of int, length M
    able : ndarray of int, shape (n,)
        Models that can get traffic.
    ranges : tuple of (low, high), length n
    shares : sequence of lists of float, length n
        Shares to begin with; added to.
    """

    def __init__(
        self,
        table: ScoreTable,
        pool: AssignmentPool,
        delays: Sequence[DelayTable],
        setup: Setup,
        able: NDArray[np.intp],
        ranges: Ranges,
        shares: Sequence[list[float]],
    ) -> None:
        self._table, self._pool, self._able, self._ranges = table, pool, able, ranges
        self._delays = [delays[i] for i in able]
        self._options: list[Delay] = [delays[i].options[setup[i]] for i in able]
        self._numbers_of_options = [setup[i] for i in able]
        self._available = np.zeros(len(setup), dtype=bool)
        self._available[able] = True
        self._numbers: list[int] = []
        self._shares = shares
        self._costs = [[self._cost(j, share) for share in known] for j, known in enumerate(shares)]
        self._slos = delays[0].slos
        self._rounds = 0

    def solve(self, *, tolerance: float, start: DualPoint | None, give_up_below: float) -> Relaxed:
        """Close the gap between score and bound to a tolerance, or show that the score is not above a value."""
        low, high = (sum(ends) for ends in zip(*self._ranges, strict=True)) if self._ranges else (0.0, 0.0)
        if high < 1.0 - 1e-12 or low > 1.0 + 1e-12:
            return self._impossible(1.0 if high < 1.0 else -1.0, np.zeros(self._slos), max(1.0 - high, low - 1.0))
        centre = start or self._dual_point(np.zeros(len(self._available)), np.zeros(self._slos))
        self._numbers = self._pool.select(centre.prices, self._available, _MOST_POOLED)
        bound, reached, pull = np.inf, -np.inf, _TOWARDS_BEST
        while True:
            self._rounds += 1
            mixture = best_mixture(self._columns())
            if mixture is None:
                impossible = self._reach_limits()
                if impossible is not None:
                    return impossible
                if self._rounds >= _MOST_ROUNDS:
                    raise ArithmeticError("the linear programme of a setup that keeps the limits was not solved")
                continue
            prices = centre.prices.copy()
            prices[self._able] = pull * centre.prices[self._able] + (1.0 - pull) * mixture.prices
            value, dual = self._query(prices, pull * centre.betas + (1.0 - pull) * mixture.betas)
            stuck = value >= bound and mixture.value <= reached + 0.1 * tolerance
            if value < bound:
                bound, centre = value, dual
            if bound - mixture.value <= tolerance or bound <= give_up_below or self._rounds >= _MOST_ROUNDS:
                return self._relaxed(bound, centre, mixture)
            reached, pull = mixture.value, 0.0 if stuck else _TOWARDS_BEST

    def _columns(self) -> Columns:
        fractions, scores = self._pool.splits(self._numbers)
        counts = [len(known) for known in self._shares]
        return Columns(
            fractions=fractions[:, self._able],
            scores=scores,
            owner=np.repeat(np.arange(len(counts)), counts),
            shares=np.concatenate(self._shares),
            delays=np.array([cost for known in self._costs for cost in known]).reshape(sum(counts), self._slos).T,
        )

    def _cost(self, j: int, share: float) -> Floats:
        return self._options[j].at(share)

    def _query(self, prices: Floats, betas: Floats) -> tuple[float, DualPoint]:
        """Value of the dual function; what it takes is added to the columns."""
        assignment = self._assign(prices)
        dual = DualPoint(assignment=assignment, betas=betas)
        return dual.constant + self._reply(dual.prices, betas), dual

    def _assign(self, prices: Floats) -> Assignment:
        assignment = self._table.assign(prices, self._available)
        self._numbers.append(self._pool.add(assignment))
        return assignment

    def _reply(self, prices: Floats, betas: Floats) -> float:
        """Sum of the best replies of the models; their shares are added to the columns."""
        total = 0.0
        for j, i in enumerate(self._able):
            share, value = self._delays[j].reply(self._numbers_of_options[j], float(prices[i]), betas, self._ranges[j])
            total += value
            if min(abs(share - known) for known in self._shares[j]) > _SAME_SHARE:
                self._shares[j].append(share)
                self._costs[j].append(self._cost(j, share))
        return total

    def _reach_limits(self) -> Relaxed | None:
        """Add shares with which the limits can be kept; or show that they cannot."""
        while True:
            self._rounds += 1
            mixture = least_excess(self._columns())
            if mixture.value <= 0.0:
                return None
            prices = np.zeros(len(self._available))
            prices[self._able] = mixture.prices
            least = float(mixture.prices[0]) - self._reply(prices, mixture.betas) - 1.0
            closed = mixture.value - least <= 0.1 * SLO_ROUNDING or self._rounds >= _MOST_ROUNDS
            if least > SLO_ROUNDING or closed:
                return self._impossible(float(mixture.prices[0]), mixture.betas, least)

    def _impossible(self, price: float, betas: Floats, excess: float) -> Relaxed:
        """No split: with prices along this ray the bound falls without end; the point is where it is negative."""
        length = _RAY / max(excess, 1e-12)
        dual = self._dual_point(np.full(len(self._available), length * price), length * betas)
        none = np.zeros(len(self._able))
        return Relaxed(
            bound=-np.inf,
            dual=dual,
            rounds=self._rounds,
            score=-np.inf,
            traffic=none,
            hull=np.zeros((self._slos, len(none))),
        )

    def _dual_point(self, prices: Floats, betas: Floats) -> DualPoint:
        assignment = self._assign(prices) if len(self._able) else self._table.assign(prices)
        return DualPoint(assignment=assignment, betas=betas)

    def _relaxed(self, bound: float, dual: DualPoint, mixture: Mixture) -> Relaxed:
        return Relaxed(
            bound=bound,
            dual=dual,
            rounds=self._rounds,
            score=mixture.value,
            traffic=mixture.traffic,
            hull=mixture.hull,
        )
