"""The best split of one load among the models of one setup, with a certificate.

maximise S(w) subject to sum_i h_ki(w_i) <= 1 for every SLO k, w on the simplex, w_i at most what option i carries.

Where every ``h`` is convex, column generation solves it (:mod:`optimizer.splits.column_generation`).  Where some
``h`` is not, a mixture of shares may cost more than it promises.  The split is then first sought where every ``h`` is
convex, around the one of the mixture; after that the ranges of the shares are cut where hull and ``h`` differ most,
best bound first, until nothing better is left or a number of cuts is reached.  The gap that remains shows in the bound.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from optimizer.delays.delay import Delay, DelayTable
from optimizer.problem import LEFT_OUT, Setup
from optimizer.splits.assignment import AssignmentPool, ScoreTable
from optimizer.splits.column_generation import SLO_ROUNDING, ColumnGeneration, DualPoint, Ranges, Relaxed

Floats = NDArray[np.float64]

_MOST_CUTS = 40
_MOST_SHARES = 12


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Split:
    """The best split that was found, and what bounds it.

    Parameters
    ----------
    fractions : ndarray, shape (M,)
        Share of the traffic of each model; zeros if there is no split.
    score : float
        Mean score; -inf if no split keeps the SLOs, or if the search gave up on it.
    bound : float
        No split has a higher score.
    dual : DualPoint
        Prices that belong to the split: each prompt goes to ``argmax_i s_i(x) - prices_i``.
    outer : DualPoint
        Prices that bound the score of the setup; the same, where every ``h`` is convex.
    rounds : int
        Linear programmes that were solved.
    """

    fractions: Floats
    score: float
    bound: float
    dual: DualPoint
    outer: DualPoint
    rounds: int


class SplitSolver:
    """Splits of one load; what was learnt of one setup warms the start of the next.

    Parameters
    ----------
    table : ScoreTable
    pool : AssignmentPool
        Shared by all loads.
    delays : sequence of DelayTable, length M
    """

    def __init__(self, table: ScoreTable, pool: AssignmentPool, delays: Sequence[DelayTable]) -> None:
        self._table, self._pool, self.delays = table, pool, tuple(delays)
        self._seen: list[dict[int, list[float]]] = [{} for _ in self.delays]

    def solve(
        self, setup: Setup, *, tolerance: float, start: DualPoint | None = None, give_up_below: float = -np.inf
    ) -> Split:
        """Find the best split for a setup.

        Parameters
        ----------
        setup : tuple of int, length M
        tolerance : float
            Gap between bound and score to stop at.
        start : DualPoint, optional
            Prices to begin with.
        give_up_below : float
            Give up as soon as the bound shows that the score is not higher than this.
        """
        able = [i for i, k in enumerate(setup) if k != LEFT_OUT and self.delays[i].options[k].highest > 0.0]
        options = [self.delays[i].options[setup[i]] for i in able]
        whole: Ranges = tuple((0.0, option.highest) for option in options)

        def relax(ranges: Ranges, start: DualPoint | None, give_up_below: float) -> Relaxed:
            return self._relax(setup, np.array(able, dtype=np.intp), ranges, tolerance, start, give_up_below)

        root = relax(whole, start, give_up_below)
        best: Relaxed | None = root
        bound, rounds = root.bound, root.rounds
        if root.bound <= give_up_below or root.score == -np.inf:
            best = None
        elif not _keeps_limits(options, root):
            cuts = _Cuts(relax, options, tolerance, give_up_below)
            best, bound = cuts.best_below(root, whole)
            rounds += cuts.rounds
        fractions = np.zeros(len(setup))
        if best is not None:
            fractions[able] = np.maximum(best.traffic, 0.0) / np.maximum(best.traffic, 0.0).sum()
        return Split(
            fractions=fractions,
            score=-np.inf if best is None else best.score,
            bound=bound if best is None else max(bound, best.score),
            dual=root.dual if best is None else best.dual,
            outer=root.dual,
            rounds=rounds,
        )

    def _relax(
        self,
        setup: Setup,
        able: NDArray[np.intp],
        ranges: Ranges,
        tolerance: float,
        start: DualPoint | None,
        give_up_below: float,
    ) -> Relaxed:
        shares = []
        for i, (low, high) in zip(able, ranges, strict=True):
            seen = [share for share in self._seen[i].get(setup[i], ()) if low < share < high]
            shares.append([*self.delays[i].options[setup[i]].between(low, high).tolist(), *seen])
        known = [len(shares_i) for shares_i in shares]
        columns = ColumnGeneration(self._table, self._pool, self.delays, setup, able, ranges, shares)
        relaxed = columns.solve(tolerance=tolerance, start=start, give_up_below=give_up_below)
        for i, shares_i, first in zip(able, shares, known, strict=True):
            seen = self._seen[i].setdefault(setup[i], [])
            seen.extend(shares_i[first:][-_MOST_SHARES // 2 :])
            del seen[:-_MOST_SHARES]
        return relaxed


class _Cuts:
    """Branch and bound over the ranges of the shares, where some ``h`` is not convex."""

    def __init__(
        self,
        relax: Callable[[Ranges, DualPoint | None, float], Relaxed],
        options: Sequence[Delay],
        tolerance: float,
        give_up_below: float,
    ) -> None:
        self._relax, self._options = relax, options
        self._kinks = [option.kinks() for option in options]
        self._tolerance, self._give_up_below = tolerance, give_up_below
        self._best: Relaxed | None = None
        self.rounds = 0

    def best_below(self, root: Relaxed, whole: Ranges) -> tuple[Relaxed | None, float]:
        """Best split that truly keeps the limits, and the bound."""
        self._dive(root, whole)
        order = itertools.count()
        waiting = [(-root.bound, next(order), whole, root)]
        for _ in range(_MOST_CUTS):
            if not waiting or -waiting[0][0] <= self._least():
                break
            _, _, ranges, relaxed = heapq.heappop(waiting)
            at = int(np.argmax(np.max(_excess(self._options, relaxed), axis=0)))
            low, high = ranges[at]
            where = self._where(at, low, high, float(relaxed.traffic[at]))
            for part in ((low, where), (where, high)):
                smaller = (*ranges[:at], part, *ranges[at + 1 :])
                child = self._solved(smaller, relaxed.dual)
                if child.bound > self._least() and not _keeps_limits(self._options, child):
                    heapq.heappush(waiting, (-child.bound, next(order), smaller, child))
                    if self._best is None:
                        self._dive(child, smaller)
        open_bound = -waiting[0][0] if waiting else -np.inf
        return self._best, min(root.bound, max(open_bound, self._least()))

    def _least(self) -> float:
        return max(self._give_up_below, -np.inf if self._best is None else self._best.score + self._tolerance)

    def _solved(self, ranges: Ranges, start: DualPoint) -> Relaxed:
        relaxed = self._relax(ranges, start, self._least())
        self.rounds += relaxed.rounds
        if _keeps_limits(self._options, relaxed) and (self._best is None or relaxed.score > self._best.score):
            self._best = relaxed
        return relaxed

    def _where(self, at: int, low: float, high: float, share: float) -> float:
        """Where to cut a range: at the kink of ``h`` next to a share, else at the share itself."""
        kinks = self._kinks[at][(self._kinks[at] > low) & (self._kinks[at] < high)]
        return float(kinks[np.argmin(np.abs(kinks - share))]) if len(kinks) else share

    def _dive(self, relaxed: Relaxed, ranges: Ranges) -> None:
        """Look for a split between the kinks around a given one."""
        inner = []
        for kinks, (low, high), share in zip(self._kinks, ranges, relaxed.traffic.tolist(), strict=True):
            right = int(np.searchsorted(kinks, share))
            before = kinks[right - 1] if right > 0 else low
            after = kinks[right] if right < len(kinks) else high
            inner.append((max(low, float(before)), min(high, float(after))))
        self._solved(tuple(inner), relaxed.dual)


def _excess(options: Sequence[Delay], relaxed: Relaxed) -> Floats:
    """By how much ``h`` exceeds its hull at the split, shape (K, n)."""
    true = [option.at(float(share)) for option, share in zip(options, relaxed.traffic, strict=True)]
    return np.array(true).T.reshape(relaxed.hull.shape) - relaxed.hull


def _keeps_limits(options: Sequence[Delay], relaxed: Relaxed) -> bool:
    """Whether the split keeps the limits with the true ``h``."""
    if relaxed.score == -np.inf:
        return False
    return bool((relaxed.hull.sum(axis=1) + _excess(options, relaxed).sum(axis=1) <= 1.0 + SLO_ROUNDING).all())
