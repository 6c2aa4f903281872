"""The search for the best setup, with a proof: best-first over partial setups, bounded by shared dual points.

A node is a choice of options for the first models.  Its bound is the lowest that any dual point gives for the best
completion within the compute of the GPUs (:mod:`optimizer.setups.bounds`).  The node with the highest bound is opened
next; a complete setup that can be placed is solved, which adds its own best dual point.  The search ends when no open
node can beat the best solution by more than the gap.
"""

from __future__ import annotations

import heapq
import itertools
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from optimizer.placement import Placement, Placer
from optimizer.problem import LEFT_OUT, ModelOptions, Problem, Setup
from optimizer.routing import JointPoint, RoutingSolution, RoutingSolver
from optimizer.setups.bounds import SetupBounds
from optimizer.setups.dual_cuts import DualCuts

_COMPUTE_STEPS = (0.1, 0.05, 0.025, 0.02, 0.01)
_ROUNDING = 1e-9
_PROGRESS_S = 0.1
_ROOT_ROUNDS = 100
_ROOT_GAP = 1e-4


@dataclass(frozen=True, slots=True, kw_only=True)
class SetupSolution:
    """A setup with its routing and its GPUs.

    Parameters
    ----------
    setup : tuple of int, length M
        Option of each model; -1 for one that is left out.
    routing : RoutingSolution
    gpus : tuple of tuple of int, length M
        GPU of each shard, replica by replica; empty for a model that is left out.
    """

    setup: Setup
    routing: RoutingSolution
    gpus: Placement


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """State of a search."""

    solved: int
    open: int
    best: float
    """Best score so far; -inf before there is one."""
    bound: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a search found and proved.

    Parameters
    ----------
    best : SetupSolution or None
    bound : float
        No setup has a higher score; negative if it is proven that none keeps the SLOs.
    considered : int
        Setups that the problem has.
    solved : int
        Those whose routing was solved, or given up when it could not beat the best.
    unplaceable : int
        Those without a placement that were met, alone or as one beginning that many setups have in common.
    undecided : int
        Those of which it is not known whether they have a placement; the bound is theirs too.
    """

    best: SetupSolution | None
    bound: float
    considered: int
    solved: int
    unplaceable: int
    undecided: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Siblings:
    """Options of the next model after some choices, best bound first; ``at`` is the one that is next."""

    chosen: tuple[int, ...]
    left: int
    options: tuple[int, ...]
    bounds: tuple[float, ...]
    seen: int
    """Dual points that the bounds know."""
    at: int = 0


class SetupSearch:
    """State of a search.  Models are chosen in an order of their own, those that need most of a GPU first."""

    def __init__(self, problem: Problem, gap: float) -> None:
        self.problem, self.gap = problem, gap
        self.solver = RoutingSolver(problem)
        self.placer = Placer(problem)
        self.order = sorted(range(len(problem.models)), key=lambda model: -_hunger(problem.models[model]))
        unit = _unit(problem)
        budget = _units(problem.gpus, unit)
        self.needs = [_compute_units(problem.models[model], unit) for model in self.order]
        for model, need in zip(self.order, self.needs, strict=True):
            superfluous = self.solver.dominated(model)
            need[: len(superfluous)][superfluous] = budget + 1
        self.bounds = SetupBounds(self.needs, budget)
        self.points: list[JointPoint] = []
        self.waiting: list[tuple[float, int, int, _Siblings]] = []
        self.counter = itertools.count()
        self.best: SetupSolution | None = None
        self.score = -math.inf
        self.closed = -math.inf
        """Highest bound of all that was left aside or solved."""
        self.solved = self.unplaceable = self.undecided = 0

    def run(self, *, time_limit_s: float = math.inf, progress: Callable[[Progress], None] | None = None) -> Found:
        """Search until the gap is closed or the time is over; ``progress`` is called about ten times a second."""
        began = told = time.monotonic()
        self._add(self.solver.free())
        self._relax_root(began + time_limit_s)
        self._open((), self.bounds.budget)
        while self.waiting and -self.waiting[0][0] > self._least():
            now = time.monotonic()
            if now - began > time_limit_s:
                break
            if progress is not None and now - told >= _PROGRESS_S:
                told = now
                top = max(self.score, -self.waiting[0][0])
                progress(Progress(solved=self.solved, open=len(self.waiting), best=self.score, bound=top))
            self._next()
        if self.waiting:
            self._close(-self.waiting[0][0])
        return Found(
            best=self.best,
            bound=max(self.closed, self.score),
            considered=math.prod(len(need) for need in self.needs),
            solved=self.solved,
            unplaceable=self.unplaceable,
            undecided=self.undecided,
        )

    def _relax_root(self, until: float) -> None:
        """Find the dual point with the lowest bound of all setups, by cutting planes; keep those on the way to it.

        What is found by the time ``until`` is as valid a bound, and only less tight.
        """
        cuts = DualCuts(self.solver)
        centre, best = self.points[0], self.bounds.of((), self.bounds.budget)
        for _ in range(_ROOT_ROUNDS):
            if time.monotonic() > until:
                break
            lowest, prices = cuts.solve()
            if best - lowest <= max(self.gap, _ROOT_GAP) or best <= self._least():
                break
            point = self.solver.point(
                [0.5 * (dual.prices + p) for dual, (p, _) in zip(centre, prices, strict=True)],
                [0.5 * (dual.betas + b) for dual, (_, b) in zip(centre, prices, strict=True)],
            )
            self._add(point)
            row = self.bounds.points - 1
            cuts.add(point, self._setup(self.bounds.completion(row)))
            value = self.bounds.at_root(row)
            if value < best:
                centre, best = point, value
            else:
                self.bounds.forget_last()
                self.points.pop()

    def _next(self) -> None:
        """Look at the choice with the highest bound, and from there on at the best that follows it."""
        siblings = heapq.heappop(self.waiting)[-1]
        self._push(replace(siblings, at=siblings.at + 1))
        chosen = (*siblings.chosen, siblings.options[siblings.at])
        left = siblings.left - int(self.needs[len(siblings.chosen)][chosen[-1]])
        known = siblings.bounds[siblings.at]
        bound = self._tightened(chosen, left, known, siblings.seen)
        if bound <= self._least():
            self._close(bound)
            return
        if bound < known and self.waiting and bound < -self.waiting[0][0]:
            self._push(replace(siblings, options=chosen[-1:], bounds=(bound,), seen=self.bounds.points, at=0))
            return
        setup = self._setup(chosen)
        gpus = self.placer.place(setup)
        if gpus is None:
            all_that_follow = math.prod(len(need) for need in self.needs[len(chosen) :])
            if self.placer.undecided(setup):
                self.undecided += all_that_follow
                self._close(bound)
            else:
                self.unplaceable += all_that_follow
        elif len(chosen) == len(self.needs):
            self._solve(chosen, left, gpus)
        else:
            self._open(chosen, left)

    def _open(self, chosen: tuple[int, ...], left: int) -> None:
        bounds = self.bounds.children(chosen, left)
        bounds[~self._allowed(chosen, len(chosen))] = -np.inf
        worth = bounds > self._least()
        self._close(float(bounds[~worth].max(initial=-math.inf)))
        # Of options that promise the same, the one with more compute is more likely to keep the promise.
        options = np.flatnonzero(worth)
        order = np.lexsort((-self.needs[len(chosen)][options], -np.round(bounds[options] / self.gap)))
        options = options[order]
        self._push(
            _Siblings(
                chosen=chosen,
                left=left,
                options=tuple(options.tolist()),
                bounds=tuple(np.maximum.accumulate(bounds[options][::-1])[::-1].tolist()),
                seen=self.bounds.points,
            )
        )

    def _push(self, siblings: _Siblings) -> None:
        if siblings.at < len(siblings.options):
            entry = (-siblings.bounds[siblings.at], -len(siblings.chosen), next(self.counter), siblings)
            heapq.heappush(self.waiting, entry)

    def _tightened(self, chosen: tuple[int, ...], left: int, bound: float, seen: int) -> float:
        """Bound with the points that came since, and with what fits beside the chosen options."""
        if seen < self.bounds.points:
            bound = min(bound, self.bounds.of(chosen, left, seen))
        if bound > self._least() and len(chosen) < len(self.needs):
            allowed = [self._allowed(chosen, later) for later in range(len(chosen), len(self.needs))]
            bound = min(bound, self.bounds.beside(chosen, left, allowed))
        return bound

    def _allowed(self, chosen: tuple[int, ...], later: int) -> NDArray[np.bool_]:
        """Options of a later model that fit beside each of the chosen ones."""
        model = self.order[later]
        options = len(self.problem.models[model].options)
        allowed = np.ones(len(self.needs[later]), dtype=bool)
        for earlier, option in zip(self.order, chosen, strict=False):
            if option < len(self.problem.models[earlier].options):
                allowed[:options] &= self.placer.beside(earlier, option, model)
        return allowed

    def _solve(self, chosen: tuple[int, ...], left: int, gpus: Placement) -> None:
        setup = self._setup(chosen)
        start = self.points[self.bounds.tightest(chosen, left)]
        routed = self.solver.route(setup, tolerance=self.gap / 2, start=start, give_up_below=self._least())
        self.solved += 1
        self._add(routed.point)
        if routed.score > self.score:
            self.score = routed.score
            self.best = SetupSolution(setup=setup, routing=self.solver.solution(setup, routed), gpus=gpus)
        self._close(routed.bound)

    def _close(self, bound: float) -> None:
        self.closed = max(self.closed, bound)

    def _least(self) -> float:
        """A bound up to which a choice is of no interest; no score is negative."""
        return max(self.score + self.gap, -_ROUNDING)

    def _setup(self, chosen: tuple[int, ...]) -> Setup:
        """Setup with the models left out that are not chosen yet."""
        setup = [LEFT_OUT] * len(self.order)
        for model, option in zip(self.order, chosen, strict=False):
            if option < len(self.problem.models[model].options):
                setup[model] = option
        return tuple(setup)

    def _add(self, point: JointPoint) -> None:
        constant, replies = self.solver.replies(point)
        self.bounds.add(constant, [replies[model] for model in self.order])
        self.points.append(point)


def _hunger(model: ModelOptions) -> float:
    """Largest part of a GPU that a shard of the model may need."""
    return max(option.memory_share for option in model.options)


def _compute_units(model: ModelOptions, unit: float) -> NDArray[np.int64]:
    """Compute of each option, rounded down to units, and of being left out if that is allowed."""
    needs = [_units(option.compute, unit) for option in model.options]
    return np.array(needs + [0] * model.optional, dtype=np.int64)


def _units(compute: float, unit: float) -> int:
    return math.floor(compute / unit + 1e-6)


def _unit(problem: Problem) -> float:
    """Largest step of which every option's compute is a multiple; the finest step, if there is none."""
    computes = [option.compute for model in problem.models for option in model.options]
    for step in _COMPUTE_STEPS:
        if all(abs(compute / step - round(compute / step)) < 1e-6 for compute in computes):
            return step
    return _COMPUTE_STEPS[-1]
