"""Exact order statistics of weighted arithmetic progressions, without expanding them.

A progression stands for the samples ``first + k * growth`` for k = 0 .. steps - 1, each occurring ``weight`` times in
each *cell* (a cell is whatever the caller tells apart).  A billion inter-token latencies fit into a few hundred
thousand progressions, so their percentiles are found by counting progressions, never samples.

It takes two passes over the progressions, which may therefore be larger than memory.  :class:`Histogram` counts the
samples of each bin; the percentile's bin is then known, and :class:`BinRows` keeps only what reaches into it.
Bins are ranges of equal leading bits of the floating-point number, so that the bin of a value is exact and monotone.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from sim.results import Floats, Ints

_BIN_BITS = 9  # 512 bins an octave: a bin is at most 0.2 % wide
_SHIFT = 52 - _BIN_BITS
_LOWEST_BIN = (1023 - 40) << _BIN_BITS  # values under 2**-40 share the first bin
BINS = 64 << _BIN_BITS  # and those over 2**24 the last
_EXPAND_SAMPLES = 20_000
_EDGES_AT_ONCE = 1 << 20


class Progressions(NamedTuple):
    """Columns of progressions; ``growth`` is never negative (see :func:`rising`)."""

    first: Floats
    growth: Floats
    steps: Floats
    """Whole numbers, at least 1."""
    weights: Floats
    """Shape (cells, progressions): whole numbers, how often each sample occurs."""


def rising(first: Floats, growth: Floats, steps: Floats, weights: Floats) -> Progressions:
    """Progressions that never fall: a falling one is read backwards, a single sample has no growth."""
    growth = np.where(steps > 1, growth, 0.0)
    falling = growth < 0
    if falling.any():
        first = np.where(falling, first + (steps - 1) * growth, first)
        growth = np.abs(growth)
    return Progressions(first, growth, steps, weights)


def value_bins(values: Floats) -> Ints:
    """Bin of each value (not negative): a monotone function of the value."""
    bits = np.ascontiguousarray(values, dtype=np.float64).view(np.int64)
    bins: Ints = np.clip((bits >> _SHIFT) - _LOWEST_BIN, 0, BINS - 1)
    return bins


def _bin_floors(bins: Ints) -> Floats:
    """Smallest value of each bin; minus infinity for the first one and infinity behind the last one."""
    floors = ((bins + _LOWEST_BIN) << _SHIFT).view(np.float64)
    return np.where(bins <= 0, -np.inf, np.where(bins >= BINS, np.inf, floors))


def count_below(first: Floats, growth: Floats, begin: Floats, end: Floats, bound: Floats) -> Floats:
    """First index in [begin, end] whose sample is not below ``bound``, exactly as floating point evaluates samples.

    All arguments broadcast; ``growth`` is not negative.
    """
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        index = np.ceil((bound - first) / growth)
    index = np.where(growth > 0, index, np.where(first < bound, np.inf, -np.inf))
    index = np.clip(index, begin, end)
    # Rounding of the quotient is repaired by one index either way ...
    index = index + ((index < end) & (first + index * growth < bound))
    index = index - ((index > begin) & (first + (index - 1) * growth >= bound))
    low_side = (index < end) & (first + index * growth < bound)
    high_side = (index > begin) & (first + (index - 1) * growth >= bound)
    wrong = np.flatnonzero(low_side | high_side)
    if len(wrong):
        # ... unless the growth is so small that many neighbours round to the same float.
        first, growth, begin, end, bound = (
            np.broadcast_to(column, index.shape)[wrong] for column in (first, growth, begin, end, bound)
        )
        low, high = begin.copy(), end.copy()
        while (open_rows := low < high).any():
            middle = np.floor((low + high) / 2)
            below = first + middle * growth < bound
            low = np.where(open_rows & below, middle + 1, low)
            high = np.where(open_rows & ~below, middle, high)
        index[wrong] = low
    return index


class Histogram:
    """Samples of each cell by bin, exact, with their number, sum and extremes.

    Parameters
    ----------
    cells : int
        Number of cells.
    """

    def __init__(self, cells: int) -> None:
        self.counts: Floats = np.zeros((cells, BINS))
        self.total_s: Floats = np.zeros(cells)
        self.least: Floats = np.full(cells, np.inf)
        self.greatest: Floats = np.full(cells, -np.inf)

    def add(self, rows: Progressions) -> None:
        """Count the samples of ``rows``."""
        first, growth, steps, weights = rows
        if not len(first):
            return
        last = first + (steps - 1) * growth
        self.total_s += weights @ (steps * first + growth * (steps * (steps - 1) / 2))
        for cell, weight in enumerate(weights):
            used = weight > 0
            if used.any():
                self.least[cell] = min(self.least[cell], first[used].min())
                self.greatest[cell] = max(self.greatest[cell], last[used].max())
        low, high = value_bins(first), value_bins(last)
        self._count(low, weights * steps)
        spread = high - low
        # A sample that lies in a higher bin than its progression's first one moves up, bin by bin.
        few = np.flatnonzero((spread > 0) & (steps <= spread))
        self._move_samples(rows, low, few)
        many = np.flatnonzero((spread > 0) & (steps > spread))
        edges = np.cumsum(spread[many])
        while len(many):
            taken = max(int(np.searchsorted(edges, _EDGES_AT_ONCE, side="right")), 1)
            self._move_over_edges(rows, low, spread, many[:taken])
            many, edges = many[taken:], edges[taken:] - edges[taken - 1]

    def _count(self, bins: Ints, samples: Floats) -> None:
        for counts, weight in zip(self.counts, samples, strict=True):
            counts += np.bincount(bins, weights=weight, minlength=BINS)

    def _move_samples(self, rows: Progressions, low: Ints, chosen: Ints) -> None:
        if len(chosen):
            owner, index = _positions(chosen, rows.steps[chosen].astype(np.int64))
            self._count(low[chosen], -rows.weights[:, chosen] * rows.steps[chosen])
            self._count(value_bins(rows.first[owner] + index * rows.growth[owner]), rows.weights[:, owner])

    def _move_over_edges(self, rows: Progressions, low: Ints, spread: Ints, chosen: Ints) -> None:
        owner, index = _positions(chosen, spread[chosen])
        edge = low[owner] + 1 + index
        steps = rows.steps[owner]
        below = count_below(rows.first[owner], rows.growth[owner], np.zeros_like(steps), steps, _bin_floors(edge))
        moved = rows.weights[:, owner] * (steps - below)
        self._count(edge, moved)
        self._count(edge - 1, -moved)


def _positions(chosen: Ints, repeats: Ints) -> tuple[Ints, Ints]:
    """Each of ``chosen`` as often as ``repeats`` says, and the running number within it."""
    owner = np.repeat(chosen, repeats)
    begins = np.cumsum(repeats) - repeats
    return owner, np.arange(len(owner)) - np.repeat(begins, repeats)


class Ranks(NamedTuple):
    """Where a percentile lies among sorted samples, by numpy's linear rule."""

    lower: int
    upper: int
    fraction: float

    @classmethod
    def of(cls, percent: float, count: int) -> Ranks:
        """Ranks whose samples a percentile of ``count`` samples mixes."""
        position = (count - 1) * (percent / 100)
        lower = min(int(position), count - 1)
        return cls(lower, min(lower + 1, count - 1), position - lower)

    def mix(self, low: float, high: float) -> float:
        """Interpolate as numpy does, from the nearer end."""
        step = high - low
        return low + step * self.fraction if self.fraction < 0.5 else high - step * (1 - self.fraction)


class BinRows:
    """The progressions that reach into chosen bins, and samples picked from them by rank.

    Parameters
    ----------
    bins : iterable of int
        The chosen bins.
    cells : int
        Number of cells.
    """

    def __init__(self, bins: Iterable[int], cells: int) -> None:
        wanted = np.zeros(BINS + 1, dtype=np.int64)
        wanted[np.fromiter(bins, dtype=np.int64) + 1] = 1
        self._wanted_before: Ints = np.cumsum(wanted)
        self._parts: list[Progressions] = []
        self._cells = cells

    def add(self, rows: Progressions) -> None:
        """Keep what reaches into a chosen bin."""
        if not len(rows.first):
            return
        low = value_bins(rows.first)
        high = value_bins(rows.first + (rows.steps - 1) * rows.growth)
        kept = np.flatnonzero(self._wanted_before[high + 1] > self._wanted_before[low])
        if len(kept):
            self._parts.append(_merge_constant(Progressions(*(column[..., kept] for column in rows))))

    def prepare(self) -> None:
        """Join the parts; call it once, after the last :meth:`add`."""
        empty = Progressions(np.empty(0), np.empty(0), np.empty(0), np.empty((self._cells, 0)))
        columns = zip(*(self._parts or [empty]), strict=True)
        self._rows = Progressions(*(np.concatenate(column, axis=-1) for column in columns))
        self._low = value_bins(self._rows.first)
        self._high = value_bins(self._rows.first + (self._rows.steps - 1) * self._rows.growth)
        self._parts = []

    def select(self, cells: Sequence[int], bin_: int, ranks: Sequence[int]) -> list[float]:
        """The samples of given ranks among those of ``cells`` in the chosen bin ``bin_``.

        Parameters
        ----------
        cells : sequence of int
            Cells whose samples are taken together.
        bin_ : int
            One of the chosen bins.
        ranks : sequence of int
            0 for the smallest sample of the bin.
        """
        rows = np.flatnonzero((self._low <= bin_) & (bin_ <= self._high))
        weight = self._rows.weights[np.ix_(np.array(cells, dtype=np.int64), rows)].sum(axis=0)
        rows, weight = rows[weight > 0], weight[weight > 0]
        first, growth, steps = self._rows.first[rows], self._rows.growth[rows], self._rows.steps[rows]
        floors = _bin_floors(np.array([bin_, bin_ + 1]))
        begin = count_below(first, growth, np.zeros_like(steps), steps, floors[:1])
        end = count_below(first, growth, begin, steps, floors[1:])
        used = begin < end
        return [
            _sample_of_rank(first[used], growth[used], begin[used], end[used], weight[used], rank) for rank in ranks
        ]


def _merge_constant(rows: Progressions) -> Progressions:
    """Join the progressions without growth that have the same value: a constant step time gives millions of them."""
    constant = rows.growth == 0
    values, group = np.unique(rows.first[constant], return_inverse=True)
    samples = rows.weights[:, constant] * rows.steps[constant]
    merged = np.stack([np.bincount(group, weights=cell, minlength=len(values)) for cell in samples])
    return Progressions(
        np.concatenate([values, rows.first[~constant]]),
        np.concatenate([np.zeros(len(values)), rows.growth[~constant]]),
        np.concatenate([np.ones(len(values)), rows.steps[~constant]]),
        np.concatenate([merged, rows.weights[:, ~constant]], axis=1),
    )


def _sample_of_rank(first: Floats, growth: Floats, begin: Floats, end: Floats, weight: Floats, rank: int) -> float:
    """Sample of a rank among indices [begin, end) of progressions, by bisection on the bits of its value."""
    remaining = float(rank)
    while True:
        lowest, highest = first + begin * growth, first + (end - 1) * growth
        low, high = float(lowest.min()), float(highest.max())
        if low == high:
            return low
        if (end - begin).sum() <= _EXPAND_SAMPLES:
            owner, index = _positions(np.arange(len(first)), (end - begin).astype(np.int64))
            samples = first[owner] + (begin[owner] + index) * growth[owner]
            order = np.argsort(samples)
            position = np.searchsorted(np.cumsum(weight[owner][order]), remaining, side="right")
            return float(samples[order[position]])
        bound = _middle(low, high)
        cut = count_below(first, growth, begin, end, np.array([bound]))
        below = float((weight * (cut - begin)).sum())
        if remaining < below:
            end = cut
        else:
            remaining -= below
            begin = cut
        used = np.flatnonzero(begin < end)
        first, growth, begin, end, weight = first[used], growth[used], begin[used], end[used], weight[used]


def _middle(low: float, high: float) -> float:
    """The float halfway between two by number of floats: above ``low`` and at most ``high``."""
    bits = np.array([low, high]).view(np.int64)
    middle = np.array([bits[0] + (bits[1] - bits[0] + 1) // 2])
    value = float(middle.view(np.float64)[0])
    return value if math.isfinite(value) else high
