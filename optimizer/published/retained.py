"""Which setups the published method keeps: all products of options that use the GPUs' compute and whose shards fit.

Of the product of all models' options (tp, compute share) those are kept whose compute ``C = sum_i tp_i rho_i`` is at
least ``least_compute * gpus`` and at most ``gpus``, and whose shards first-fit decreasing places by memory, no two
shards of one model on a GPU (RouterWise, arXiv:2604.10907, Algorithm 3).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from latency_models.errors import check_count, check_finite, invalid

_ROUNDING = 1e-9

Placement = tuple[tuple[int, ...], ...]
"""GPU of every shard, by model."""


class Footprint(Protocol):
    """What a way to run a model takes; an ``Option`` has these."""

    @property
    def compute(self) -> float:
        """GPUs' worth of compute of all shards."""

    @property
    def shards(self) -> int:
        """Number of shards."""

    @property
    def memory_share(self) -> float:
        """Share of a GPU's memory that one shard takes."""


_Footprint = TypeVar("_Footprint", bound=Footprint)
_Key = tuple[int, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class SetupCounts:
    """How many setups there are, how many have the right compute, and how many of those fit as well."""

    product: int
    within_compute: int
    retained: int


def retained_setups(
    models: Sequence[Sequence[Footprint]], gpus: int, least_compute: float = 1.0
) -> Iterator[tuple[int, ...]]:
    """Setups that pass both filters, as indices of options, in lexicographic order.

    Parameters
    ----------
    models : sequence of sequences
        Options of each model.
    gpus : int
    least_compute : float
        Lowest share of the GPUs' compute that a setup must use, called rho_min; 1 in the publication's experiments.
    """
    lowest = _check(models, gpus, least_compute)
    fits: dict[tuple[_Key, ...], bool] = {}
    most_after = [0.0]
    for options in reversed(models):
        most_after.append(most_after[-1] + max(option.compute for option in options))
    most_after.reverse()

    def below(prefix: tuple[int, ...], used: float) -> Iterator[tuple[int, ...]]:
        depth = len(prefix)
        if depth == len(models):
            chosen = [models[i][k] for i, k in enumerate(prefix)]
            key = tuple(_key(option) for option in chosen)
            if key not in fits:
                fits[key] = first_fit_decreasing(chosen, gpus) is not None
            if fits[key]:
                yield prefix
            return
        for index, option in enumerate(models[depth]):
            total = used + option.compute
            if total <= gpus + _ROUNDING and total + most_after[depth + 1] >= lowest - _ROUNDING:
                yield from below((*prefix, index), total)

    return below((), 0.0)


def count_setups(models: Sequence[Sequence[Footprint]], gpus: int, least_compute: float = 1.0) -> SetupCounts:
    """Count what :func:`retained_setups` yields, and what each filter leaves, without going through the setups.

    Options of one model that take the same memory differ in compute only: sums of compute are counted for each
    combination of memory demands, and each combination is placed once.
    """
    lowest = _check(models, gpus, least_compute)
    groups = [_by_memory(options) for options in models]
    product = within = retained = 0
    for combination in itertools.product(*groups):
        sums = {0.0: 1}
        for group in combination:
            longer: dict[float, int] = {}
            for total, times in sums.items():
                for option in group:
                    # Rounded, so that equal sums of shares count as one.
                    key = round(total + option.compute, 9)
                    longer[key] = longer.get(key, 0) + times
            sums = longer
        product += sum(sums.values())
        passing = sum(n for total, n in sums.items() if lowest - _ROUNDING <= total <= gpus + _ROUNDING)
        within += passing
        if passing and first_fit_decreasing([group[0] for group in combination], gpus) is not None:
            retained += passing
    return SetupCounts(product=product, within_compute=within, retained=retained)


def first_fit_decreasing(chosen: Sequence[Footprint], gpus: int) -> Placement | None:
    """Place shards by memory, largest first, each on the first GPU with room and without a shard of the same model.

    Returns
    -------
    tuple of tuples of int, or None
        GPU of every shard of each model; ``None`` if a shard finds no GPU.
    """
    order = sorted(range(len(chosen)), key=lambda model: -chosen[model].memory_share)
    free = [1.0] * gpus
    placed: list[tuple[int, ...]] = [()] * len(chosen)
    for model in order:
        for _ in range(chosen[model].shards):
            need = chosen[model].memory_share - _ROUNDING
            gpu = next((g for g in range(gpus) if free[g] >= need and g not in placed[model]), None)
            if gpu is None:
                return None
            free[gpu] -= chosen[model].memory_share
            placed[model] = (*placed[model], gpu)
    return tuple(placed)


def _by_memory(options: Sequence[_Footprint]) -> list[list[_Footprint]]:
    groups: dict[_Key, list[_Footprint]] = {}
    for option in options:
        groups.setdefault(_key(option), []).append(option)
    return list(groups.values())


def _key(option: Footprint) -> _Key:
    return option.shards, option.memory_share


def _check(models: Sequence[Sequence[Footprint]], gpus: int, least_compute: float) -> float:
    """Lowest compute that a setup must use."""
    check_count("gpus", gpus)
    if not models or not all(models):
        raise invalid("models", [len(options) for options in models], "at least one model, each with an option")
    if check_finite("least_compute", least_compute) > 1.0:
        raise invalid("least_compute", least_compute, "a share of the GPUs, from 0 to 1")
    return least_compute * gpus
