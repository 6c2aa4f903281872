"""What one would do without optimising setup and routing together, each with the best routing that its setup allows.

Equal-split, size-proportional and isolated are the baselines of RouterWise (arXiv:2604.10907), chosen among the
retained setups.  All answers from one model, and fractions drawn at random, show what routing itself is worth.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from latency_models.errors import check_finite, invalid, unknown_name
from optimizer.delays.delay_curves import delay_tables, shared_slos
from optimizer.placement import Placer
from optimizer.problem import LEFT_OUT, Problem, Setup
from optimizer.published.given_fractions import routing_with_fractions
from optimizer.published.setup_space import PlacedSetup
from optimizer.routing import RoutingSolver
from optimizer.setups.setup_search import SetupSolution

Floats = NDArray[np.float64]

_ROUNDING = 1e-9
_TOLERANCE = 1e-6
_DRAWS = 20_000
_KEPT_DRAWS = 15


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """A baseline and what it reaches.

    Parameters
    ----------
    name : str
    solution : SetupSolution or None
        ``None`` if there is no such setup, or it cannot keep the SLOs.
    note : str
        How it was chosen, or why there is none.
    """

    name: str
    solution: SetupSolution | None
    note: str


class Baselines:
    """The baselines of one problem.

    Parameters
    ----------
    problem : Problem
    retained : sequence of PlacedSetup
        Setups to choose from, as of :class:`optimizer.published.setup_space.SetupSpace`.
    sizes : mapping of str to float, optional
        Size of each model, in any unit; default: the memory of a replica on the fewest GPUs.

    Raises
    ------
    InputError
        A size is not positive, or of no model.
    """

    def __init__(
        self, problem: Problem, retained: Sequence[PlacedSetup], *, sizes: Mapping[str, float] | None = None
    ) -> None:
        self._problem, self._retained = problem, retained
        self._solver = RoutingSolver(problem)
        self._sizes = _sizes(problem, sizes)

    def all(self, *, seed: int = 0) -> tuple[Baseline, ...]:
        """Every baseline; ``seed`` is that of the random fractions, which are drawn for the equal-split setup."""
        equal = self.equal_split()
        return (
            equal,
            self.size_proportional(),
            self.isolated(),
            self.best_single_model(),
            self.random_fractions(equal.solution, seed=seed),
        )

    def equal_split(self) -> Baseline:
        """The retained setup whose models' computes are closest to an equal share of the GPUs."""
        models = len(self._problem.models)
        return self._closest("equal-split", np.full(models, self._problem.gpus / models))

    def size_proportional(self) -> Baseline:
        """The retained setup whose models' computes are closest to their sizes' shares of the GPUs."""
        return self._closest("size-proportional", self._problem.gpus * self._sizes / self._sizes.sum())

    def isolated(self) -> Baseline:
        """The best retained setup in which no two shards share a GPU."""
        alone = []
        for placed in self._retained:
            shards = [len(gpus) for gpus in placed.gpus]
            if sum(shards) <= self._problem.gpus:
                starts = np.concatenate([[0], np.cumsum(shards)]).tolist()
                gpus = tuple(tuple(range(starts[i], starts[i + 1])) for i in range(len(shards)))
                alone.append(PlacedSetup(setup=placed.setup, gpus=gpus))
        return self._best("isolated", alone, "no GPU shared")

    def best_single_model(self) -> Baseline:
        """The one model, on whatever fits, that answers every request best."""
        placer = Placer(self._problem)
        names = len(self._problem.models)
        candidates = []
        for model, options in enumerate(self._problem.models):
            for k in range(len(options.options)):
                setup = tuple(k if i == model else LEFT_OUT for i in range(names))
                gpus = placer.place(setup)
                if gpus is not None:
                    candidates.append(PlacedSetup(setup=setup, gpus=gpus))
        return self._best("best single model", candidates, "one model alone on the GPUs")

    def random_fractions(self, given: SetupSolution | None, *, seed: int = 0) -> Baseline:
        """The median, by score, of fractions drawn evenly from those that keep the SLOs on a setup."""
        name = "random fractions"
        if given is None:
            return Baseline(name=name, solution=None, note="there is no setup to draw them for")
        draws = np.random.default_rng(seed).dirichlet(np.ones(len(given.setup)), _DRAWS)
        kept = draws[self._keeps_slos(given.setup, draws)]
        if not len(kept):
            return Baseline(name=name, solution=None, note=f"none of {_DRAWS:,} draws keeps the SLOs")
        prices = np.zeros(len(shared_slos(self._problem)))
        routings = sorted(
            (routing_with_fractions(self._solver, given.setup, draw, prices) for draw in kept[:_KEPT_DRAWS]),
            key=lambda routing: routing.score,
        )
        return Baseline(
            name=name,
            solution=SetupSolution(setup=given.setup, routing=routings[len(routings) // 2], gpus=given.gpus),
            note=f"median of {len(routings)} draws that keep the SLOs, on the equal-split setup",
        )

    def _closest(self, name: str, wanted: Floats) -> Baseline:
        """The best of the retained setups at the least Euclidean distance."""
        distances = [float(np.linalg.norm(self._compute(placed.setup) - wanted)) for placed in self._retained]
        reach = min(distances, default=0.0) + _ROUNDING
        closest = [placed for placed, away in zip(self._retained, distances, strict=True) if away <= reach]
        text = ", ".join(f"{value:.3g}" for value in wanted)
        return self._best(name, closest, f"computes closest to {text} GPUs")

    def _best(self, name: str, candidates: Iterable[PlacedSetup], note: str) -> Baseline:
        """The candidate with the highest score; of equals, the one with the least compute."""
        best: SetupSolution | None = None
        tried = 0
        for placed in sorted(candidates, key=lambda placed: float(self._compute(placed.setup).sum())):
            tried += 1
            routed = self._solver.route(placed.setup, tolerance=_TOLERANCE)
            if routed.score > (-math.inf if best is None else best.routing.score + _TOLERANCE):
                routing = self._solver.solution(placed.setup, routed)
                best = SetupSolution(setup=placed.setup, routing=routing, gpus=placed.gpus)
        if best is None:
            reason = f"none of {tried} setups keeps the SLOs" if tried else "no such setup is retained"
            return Baseline(name=name, solution=None, note=f"{note}: {reason}")
        return Baseline(name=name, solution=best, note=f"{note}; best of {tried}" if tried > 1 else note)

    def _compute(self, setup: Setup) -> Floats:
        """GPUs' worth of compute of each model, shape (M,)."""
        models = self._problem.models
        return np.array([0.0 if k == LEFT_OUT else models[i].options[k].compute for i, k in enumerate(setup)])

    def _keeps_slos(self, setup: Setup, draws: Floats) -> NDArray[np.bool_]:
        """Which fractions, shape (D, M), keep all SLOs at all loads, shape (D,)."""
        keeps = np.ones(len(draws), dtype=bool)
        for load in self._problem.loads:
            tables = delay_tables(self._problem, load)
            total = np.zeros((tables[0].slos, len(draws)))
            for model, k in enumerate(setup):
                shares = draws[:, model]
                if k == LEFT_OUT:
                    keeps &= shares == 0.0
                    continue
                delay = tables[model].options[k]
                keeps &= shares <= delay.highest
                total += shares * np.array([np.interp(shares, delay.shares, row) for row in delay.relative]).reshape(
                    total.shape
                )
            keeps &= (total <= 1.0).all(axis=0)
        return keeps


def _sizes(problem: Problem, given: Mapping[str, float] | None) -> Floats:
    if given is None:
        fewest = [min(model.options, key=lambda option: option.shards) for model in problem.models]
        return np.array([option.memory_share * option.tp for option in fewest])
    names = [model.name for model in problem.models]
    for name in given:
        if name not in names:
            raise unknown_name("model in sizes", name, names)
    if len(given) < len(names):
        raise invalid("sizes", sorted(given), f"one for each of {', '.join(names)}")
    return np.array([check_finite(f"size of {name}", given[name], exclusive=True) for name in names])
