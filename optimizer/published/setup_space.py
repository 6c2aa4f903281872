"""The setups of a problem that use its GPUs and have a place on them, one by one, for methods that try them all."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from latency_models.errors import InputError
from optimizer.placement import Placement, Placer
from optimizer.problem import LEFT_OUT, Option, Problem, Setup
from optimizer.published.retained import Footprint, SetupCounts, count_setups, first_fit_decreasing, retained_setups


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedSetup:
    """A setup and the GPU of each of its shards, by model."""

    setup: Setup
    gpus: Placement


@dataclass(frozen=True, slots=True)
class _Nothing:
    """A model that is left out."""

    compute: float = 0.0
    shards: int = 0
    memory_share: float = 0.0


class SetupSpace:
    """All setups of a problem, and those that are retained.

    Parameters
    ----------
    problem : Problem
        With ``packing`` "memory", a setup has a place if first-fit decreasing by memory finds one, as published; with
        "compute", if shards can also be placed so that compute shares sum to at most 1 on every GPU.
    least_compute : float
        Lowest share of all GPUs' compute that a retained setup uses; 1 in the publication.
    as_published : bool
        Whether every model runs, once: options with several replicas are skipped, and no model is left out.

    Raises
    ------
    InputError
        A model has no option with one replica, and ``as_published``.
    """

    def __init__(self, problem: Problem, *, least_compute: float = 1.0, as_published: bool = False) -> None:
        self._problem, self._least_compute = problem, least_compute
        self._indices: list[list[int]] = []
        self._footprints: list[list[Footprint]] = []
        for model in problem.models:
            indices = [k for k, option in enumerate(model.options) if option.replicas == 1 or not as_published]
            if not indices:
                raise InputError(
                    f"model {model.name} has no option with one replica; the published method knows no replicas. "
                    "Add one, or use the exact method"
                )
            left_out = model.optional and not as_published
            self._indices.append(indices + [LEFT_OUT] * left_out)
            chosen: list[Option | _Nothing] = [model.options[k] for k in indices]
            self._footprints.append([*chosen, *([_Nothing()] * left_out)])

    def counts(self) -> SetupCounts:
        """How many there are and how many each filter of the publication leaves."""
        return count_setups(self._footprints, self._problem.gpus, self._least_compute)

    def retained(self) -> Iterator[PlacedSetup]:
        """Setups that use enough compute and have a place."""
        placer = Placer(self._problem)
        for numbers in retained_setups(self._footprints, self._problem.gpus, self._least_compute):
            setup = tuple(self._indices[model][number] for model, number in enumerate(numbers))
            if self._problem.packing == "memory":
                chosen = [self._footprints[model][number] for model, number in enumerate(numbers)]
                gpus = first_fit_decreasing(chosen, self._problem.gpus)
            else:
                gpus = placer.place(setup)
            if gpus is not None:
                yield PlacedSetup(setup=setup, gpus=gpus)
