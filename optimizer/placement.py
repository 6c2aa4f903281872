"""Which GPU holds which shard: exact packing of compute and memory, no two shards of a model on one GPU.

GPUs are alike, so a partial placement is known by what is left on each GPU, in any order.  Models are placed largest
first, on the fullest GPUs that have room (best fit decreasing); when that fails, every other choice that differs is
tried, and states that failed are not tried again.  As packing is hard in the worst case, the search gives up after a
number of states, and says so.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from optimizer.problem import LEFT_OUT, Packing, Problem, Setup

Placement = tuple[tuple[int, ...], ...]
"""GPU numbers of the shards of each model, replica by replica; empty for a model that is left out."""

_UNITS = 1_000_000
_ROUNDING = 1e-3
"""Part of a unit by which a share may exceed a whole number of units."""

_MOST_STATES = 20_000
"""Partial placements that are tried for a setup: about half a second; ordinary setups need a few dozen."""

_Need = tuple[int, int, int]
"""Shards, and the units of compute and of memory of each."""
_Room = tuple[int, int]
"""Units of compute and of memory that are left on a GPU."""


class Placer:
    """Places setups of one problem; remembers what it found.

    Parameters
    ----------
    problem : Problem
        With ``packing`` "memory", shards on a GPU share its memory, and its compute without a limit; together they
        take no more compute than all GPUs have.
    """

    def __init__(self, problem: Problem) -> None:
        self._gpus = problem.gpus
        self._needs = [
            [
                _need(option.shards, option.compute_share, option.memory_share, problem.packing)
                for option in model.options
            ]
            for model in problem.models
        ]
        self._compute = [
            [option.shards * _units(option.compute_share) for option in model.options] for model in problem.models
        ]
        self._found: dict[tuple[_Need, ...], tuple[tuple[int, ...], ...] | None] = {}
        self._undecided: set[tuple[_Need, ...]] = set()
        self._beside: dict[tuple[int, int, int], NDArray[np.bool_]] = {}

    def place(self, setup: Setup) -> Placement | None:
        """GPUs of every shard, or ``None`` if the setup fits on no GPUs, or is :meth:`undecided`."""
        if sum(self._compute[model][k] for model, k in enumerate(setup) if k != LEFT_OUT) > self._gpus * _UNITS:
            return None
        order, key = self._in_order(setup)
        if key not in self._found:
            search = _Search(self._gpus, key)
            self._found[key] = search.run()
            if self._found[key] is None and search.gave_up:
                self._undecided.add(key)
        found = self._found[key]
        if found is None:
            return None
        gpus = dict(zip(order, found, strict=True))
        return tuple(gpus.get(model, ()) for model in range(len(setup)))

    def undecided(self, setup: Setup) -> bool:
        """Whether the search for a place for this setup was given up, so that there may be one or none."""
        return self._in_order(setup)[1] in self._undecided

    def _in_order(self, setup: Setup) -> tuple[list[int], tuple[_Need, ...]]:
        """Models that run, largest first, and what they need."""
        needs = {model: self._needs[model][k] for model, k in enumerate(setup) if k != LEFT_OUT}
        order = sorted(needs, key=lambda model: (_size(needs[model]), needs[model]), reverse=True)
        return order, tuple(needs[model] for model in order)

    def beside(self, model: int, option: int, other: int) -> NDArray[np.bool_]:
        """Which options of another model fit on the GPUs next to this one, shape (options,)."""
        key = (model, option, other)
        if key not in self._beside:
            shards, compute, memory = self._needs[model][option]
            needs = np.array(self._needs[other])
            together = (needs[:, 1] + compute <= _UNITS) & (needs[:, 2] + memory <= _UNITS)
            self._beside[key] = np.where(together, np.maximum(needs[:, 0], shards), needs[:, 0] + shards) <= self._gpus
        return self._beside[key]


class _Search:
    def __init__(self, gpus: int, needs: Sequence[_Need]) -> None:
        self._needs = needs
        self._gpus = gpus
        self._failed: set[tuple[int, tuple[_Room, ...]]] = set()
        self._tried = 0

    @property
    def gave_up(self) -> bool:
        """Whether there are more states than are tried."""
        return self._tried > _MOST_STATES

    def run(self) -> tuple[tuple[int, ...], ...] | None:
        return self._from(0, [(_UNITS, _UNITS)] * self._gpus)

    def _from(self, model: int, rooms: list[_Room]) -> tuple[tuple[int, ...], ...] | None:
        self._tried += 1
        if model == len(self._needs):
            return ()
        state = (model, tuple(sorted(rooms)))
        if state in self._failed:
            return None
        if self._can_hold(model, rooms):
            _, compute, memory = self._needs[model]
            for gpus in self._choices(model, rooms):
                rest = list(rooms)
                for gpu in gpus:
                    rest[gpu] = (rooms[gpu][0] - compute, rooms[gpu][1] - memory)
                found = self._from(model + 1, rest)
                if found is not None:
                    return (gpus, *found)
                if self.gave_up:
                    return None
        self._failed.add(state)
        return None

    def _can_hold(self, model: int, rooms: list[_Room]) -> bool:
        """Whether all that is left to place can fit, by sums and by the GPUs that have room for each model."""
        rest = self._needs[model:]
        if sum(n * c for n, c, _ in rest) > sum(c for c, _ in rooms):
            return False
        if sum(n * m for n, _, m in rest) > sum(m for _, m in rooms):
            return False
        return all(sum(c <= left and m <= space for left, space in rooms) >= n for n, c, m in rest)

    def _choices(self, model: int, rooms: list[_Room]) -> Iterator[tuple[int, ...]]:
        """Sets of GPUs that differ, fullest first."""
        shards, compute, memory = self._needs[model]
        groups: dict[_Room, list[int]] = {}
        for gpu, room in enumerate(rooms):
            if room[0] >= compute and room[1] >= memory:
                groups.setdefault(room, []).append(gpu)
        yield from _take(shards, [groups[room] for room in sorted(groups, key=lambda room: (sum(room), room))])


def _take(many: int, groups: Sequence[Sequence[int]]) -> Iterator[tuple[int, ...]]:
    """Ways to take so many members of groups of equals, as many as possible of the first groups first."""
    if many == 0:
        yield ()
        return
    if sum(len(group) for group in groups) < many:
        return
    first, rest = groups[0], groups[1:]
    for taken in range(min(many, len(first)), -1, -1):
        for others in _take(many - taken, rest):
            yield (*first[:taken], *others)


def _need(shards: int, compute_share: float, memory_share: float, packing: Packing) -> _Need:
    compute = 0 if packing == "memory" else _units(compute_share)
    return shards, compute, _units(memory_share)


def _units(share: float) -> int:
    return int(share * _UNITS + _ROUNDING)


def _size(need: _Need) -> int:
    shards, compute, memory = need
    return shards * max(compute, memory)
