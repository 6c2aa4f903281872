"""The best routing for one setup: a split of every load, its prices, and what they promise."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from optimizer.delays.delay_curves import delay_tables, highest_rate, late_share_at, shared_slos, statistic_at
from optimizer.problem import LEFT_OUT, LoadCase, Option, Problem, Setup, SloTarget
from optimizer.setups.dominance import dominated
from optimizer.splits.assignment import AssignmentPool, ScoreTable
from optimizer.splits.column_generation import DualPoint
from optimizer.splits.split import Split, SplitSolver

Floats = NDArray[np.float64]
JointPoint = tuple[DualPoint, ...]
"""A dual point for each load."""

_NO_TRAFFIC = 1e-9
_STEP = 1e-4
"""Relative change of a target that tells what it is worth."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SloOutcome:
    """What a routing promises for one SLO at one load.

    Parameters
    ----------
    slo : SloTarget
    by_model_s : tuple of float or None, length M
        The limited statistic of each model, in seconds; ``None`` for a model without traffic, and for the other models
        if the SLO is on one.
    value : float
        What is limited: the mean in seconds; or, for a percentile of all requests, the share that is later than the
        target.  For an SLO that limits each model by itself, the largest of ``by_model_s``.
    limit : float
        The most that ``value`` may be.
    beta : float
        Score for each unit more of ``limit``; 0 for an SLO that limits each model by itself.
    score_per_s : float
        Score for each second more of the target, for small changes.
    """

    slo: SloTarget
    by_model_s: tuple[float | None, ...]
    value: float
    limit: float
    beta: float
    score_per_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadRouting:
    """Routing of one load.

    Parameters
    ----------
    load : LoadCase
    fractions : tuple of float, length M
        Share of the requests of each model.
    prices : tuple of float, length M
        Each prompt goes to ``argmax_i s_i(x) - prices_i``; those that are tied are split so that the fractions hold.
    score : float
        Mean predicted score.
    bound : float
        No routing of this setup has a higher score at this load.
    slos : tuple of SloOutcome
        In the order of the problem.
    """

    load: LoadCase
    fractions: tuple[float, ...]
    prices: tuple[float, ...]
    score: float
    bound: float
    slos: tuple[SloOutcome, ...]

    @property
    def beta(self) -> tuple[float, ...]:
        """Score for each unit more of the limit of each SLO, in the order of the problem."""
        return tuple(outcome.beta for outcome in self.slos)


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutingSolution:
    """Routing of every load, for one setup.

    Parameters
    ----------
    loads : tuple of LoadRouting
        In the order of the problem.
    score : float
        Mean of the loads' scores by their weights.
    bound : float
        No routing of this setup has a higher one.
    """

    loads: tuple[LoadRouting, ...]
    score: float
    bound: float

    @property
    def gap(self) -> float:
        """What a better routing of this setup could gain at most."""
        return self.bound - self.score


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Routed:
    """Splits of one setup: the score of all loads, its bound, and the dual point that shows it."""

    splits: tuple[Split, ...]
    score: float
    bound: float
    point: JointPoint


class RoutingSolver:
    """Solves setups of one problem; each one makes the next ones cheaper.

    Parameters
    ----------
    problem : Problem
    """

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.table = ScoreTable(problem.table.predicted)
        self._pool = AssignmentPool(self.table)
        self.shared = shared_slos(problem)
        self._solvers = [SplitSolver(self.table, self._pool, delay_tables(problem, load)) for load in problem.loads]
        self.weights = [load.weight for load in problem.loads]
        self._order = sorted(range(len(problem.loads)), key=lambda number: -problem.loads[number].rate_per_s)

    def dominated(self, model: int) -> NDArray[np.bool_]:
        """Which options of a model can be left aside, because another one is as good and takes no more."""
        return dominated(self.problem.models[model], [solver.delays[model].options for solver in self._solvers])

    def point(self, prices: Sequence[Floats], betas: Sequence[Floats]) -> JointPoint:
        """Dual point with prices of the models, shape (M,), and of the SLOs, shape (K,), for each load."""
        assignments = [self.table.assign(p) for p in prices]
        for found in assignments:
            self._pool.add(found)
        return tuple(DualPoint(assignment=found, betas=b) for found, b in zip(assignments, betas, strict=True))

    def free(self) -> JointPoint:
        """Dual point at which nothing costs anything."""
        loads = len(self._solvers)
        return self.point([np.zeros(self.table.models)] * loads, [np.zeros(len(self.shared))] * loads)

    def replies(self, point: JointPoint) -> tuple[float, list[Floats]]:
        """Constant of a dual point's bound, and what each option of each model adds; the last one is to be left out."""
        constant = math.fsum(weight * dual.constant for weight, dual in zip(self.weights, point, strict=True))
        by_model = []
        for model, options in enumerate(self.problem.models):
            total = np.zeros(len(options.options) + int(options.optional))
            for weight, dual, solver in zip(self.weights, point, self._solvers, strict=True):
                replies = solver.delays[model].replies(float(dual.prices[model]), dual.betas)
                total[: len(replies)] += weight * replies
            by_model.append(total)
        return constant, by_model

    def replies_of(self, setup: Setup, point: JointPoint) -> list[tuple[Floats, Floats]]:
        """Best shares of a setup at a dual point, shape (M,), and the sum of ``h`` of each SLO, shape (K,), by load."""
        found = []
        for dual, solver in zip(point, self._solvers, strict=True):
            shares, total = np.zeros(len(setup)), np.zeros(len(self.shared))
            for model, (table, k) in enumerate(zip(solver.delays, setup, strict=True)):
                if k != LEFT_OUT:
                    shares[model] = table.reply(k, float(dual.prices[model]), dual.betas)[0]
                    total += table.options[k].at(shares[model])
            found.append((shares, total))
        return found

    def route(
        self, setup: Setup, *, tolerance: float, start: JointPoint | None = None, give_up_below: float = -math.inf
    ) -> Routed:
        """Solve a setup, or give up as soon as its score is known not to be above a value; see :class:`SplitSolver`."""
        point = list(start or self.free())
        bounds = [self._bound(number, setup, dual) for number, dual in enumerate(point)]
        splits: dict[int, Split] = {}
        for number in self._order:
            others = math.fsum(w * b for k, (w, b) in enumerate(zip(self.weights, bounds, strict=True)) if k != number)
            split = self._solvers[number].solve(
                setup,
                tolerance=tolerance,
                start=point[number],
                give_up_below=(give_up_below - others) / self.weights[number],
            )
            point[number] = split.outer
            bounds[number] = split.bound
            splits[number] = split
            if split.score == -math.inf:
                break
        whole = len(splits) == len(point) and all(split.score > -math.inf for split in splits.values())
        score = -math.inf
        if whole:
            score = math.fsum(self.weights[number] * split.score for number, split in splits.items())
        return Routed(
            splits=tuple(splits[number] for number in range(len(point))) if whole else (),
            score=score,
            bound=math.fsum(w * b for w, b in zip(self.weights, bounds, strict=True)),
            point=tuple(point),
        )

    def solution(self, setup: Setup, routed: Routed) -> RoutingSolution:
        """What the splits of a setup promise."""
        loads = []
        for load, split in zip(self.problem.loads, routed.splits, strict=True):
            loads.append(
                LoadRouting(
                    load=load,
                    fractions=tuple(split.fractions.tolist()),
                    prices=tuple(split.dual.prices.tolist()),
                    score=split.score,
                    bound=split.bound,
                    slos=tuple(self._outcome(number, setup, load, split) for number in range(len(self.problem.slos))),
                )
            )
        return RoutingSolution(loads=tuple(loads), score=routed.score, bound=max(routed.bound, routed.score))

    def _bound(self, number: int, setup: Setup, dual: DualPoint) -> float:
        tables = self._solvers[number].delays
        replies = (
            table.reply(k, float(price), dual.betas)[1]
            for table, k, price in zip(tables, setup, dual.prices, strict=True)
            if k != LEFT_OUT
        )
        return dual.constant + math.fsum(replies)

    def _outcome(self, number: int, setup: Setup, load: LoadCase, split: Split) -> SloOutcome:
        slo = self.problem.slos[number]
        used: dict[int, Option] = {
            model: self.problem.models[model].options[k]
            for model, k in enumerate(setup)
            if k != LEFT_OUT and split.fractions[model] > _NO_TRAFFIC
        }
        rates = {model: load.rate_per_s * float(split.fractions[model]) for model in used}
        seconds = {
            model: statistic_at(option.curve, rates[model], slo.curve_statistic)
            for model, option in used.items()
            if slo.model in (None, self.problem.models[model].name)
        }
        value, limit, beta = max(seconds.values(), default=0.0), slo.target_s, 0.0
        if number in self.shared:
            limit = slo.target_s if slo.late_share is None else slo.late_share
            beta = float(split.dual.betas[self.shared.index(number)]) / limit
            value = _over_models(slo, used, rates, split.fractions)
            step = _STEP * slo.target_s
            worth = beta
            if slo.late_share is not None:
                before = _over_models(replace(slo, target_s=slo.target_s - step), used, rates, split.fractions)
                worth = beta * (before - value) / step
        else:
            worth = math.fsum(self._worth(number, model, setup, load, split) for model in seconds)
        return SloOutcome(
            slo=slo,
            by_model_s=tuple(seconds.get(model) for model in range(len(setup))),
            value=value,
            limit=limit,
            beta=beta,
            score_per_s=worth,
        )

    def _worth(self, number: int, model: int, setup: Setup, load: LoadCase, split: Split) -> float:
        """Score for each second more of the target of an SLO that limits the traffic of one model."""
        slos, options = self.problem.slos, self.problem.models[model]
        delays = self._solvers[self.problem.loads.index(load)].delays[model].options[setup[model]]
        share = float(split.fractions[model])
        if load.rate_per_s == 0.0 or share < delays.highest - _NO_TRAFFIC:
            return 0.0
        step = _STEP * slos[number].target_s
        tighter = replace(slos[number], target_s=slos[number].target_s - step)
        own = [tighter if k == number else slo for k, slo in enumerate(slos) if k not in self.shared]
        own = [slo for slo in own if slo.model in (None, options.name)]
        lost = share - min(highest_rate(options.options[setup[model]].curve, own) / load.rate_per_s, 1.0)
        width = _STEP * share
        slope = (delays.at(share) - delays.at(share - width)) / width
        return max(0.0, float(split.dual.prices[model] - split.dual.betas @ slope)) * max(0.0, lost) / step


def solve_routing(problem: Problem, setup: Setup, *, tolerance: float = 1e-7) -> RoutingSolution | None:
    """Find the best routing for one setup.

    Parameters
    ----------
    problem : Problem
        What is asked.
    setup : tuple of int, length M
        Number of the option of each model.
    tolerance : float
        Gap between score and bound to stop at.

    Returns
    -------
    RoutingSolution or None
        ``None`` if no routing keeps the SLOs, or, where curves are far from convex, if none was found.
    """
    solver = RoutingSolver(problem)
    routed = solver.route(setup, tolerance=tolerance)
    return None if routed.score == -math.inf else solver.solution(setup, routed)


def _over_models(
    slo: SloTarget, used: dict[int, Option], rates: dict[int, float], fractions: Sequence[float] | Floats
) -> float:
    """Mean over the requests of all models: of the latency, or of being late."""
    if slo.late_share is None:
        each = {model: statistic_at(option.curve, rates[model], slo.curve_statistic) for model, option in used.items()}
    else:
        each = {model: late_share_at(option.curve, rates[model], slo) for model, option in used.items()}
    return math.fsum(float(fractions[model]) * value for model, value in each.items())
