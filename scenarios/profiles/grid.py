"""Where to measure a curve: a few loads first, then wherever linear interpolation is worst."""

from __future__ import annotations

from collections.abc import Sequence

FIRST_SHARES = (0.3, 0.6, 0.8, 0.9, 0.97)
"""Of the stability limit: denser towards the knee."""
_AT_ONCE = 2
"""Loads that are added together, so that more of them can run at the same time."""
_CLOSEST_SHARE = 0.01
"""Of the highest load: neighbours this close are not divided, as noise would decide where."""


def next_rates(rates: Sequence[float], curves: Sequence[Sequence[float]], room: int) -> list[float]:
    """Choose loads to add.

    The error of linear interpolation on a cell of width w is at most w**2 / 8 times the largest second derivative
    there (a standard result); that is estimated by second differences at both ends and taken relative to the curve.

    Parameters
    ----------
    rates : sequence of float, length n
        Loads measured so far, ascending; at least three.
    curves : sequence of sequences of float, length n each
        Statistics that matter, all above 0.
    room : int
        How many loads may still be added.

    Returns
    -------
    list of float
        Middles of the worst cells; empty if there is no room or no cell is wide enough.
    """
    closest = _CLOSEST_SHARE * rates[-1]
    cells = [cell for cell in range(len(rates) - 1) if rates[cell + 1] - rates[cell] > 2 * closest]
    errors = {cell: max((_error(rates, values, cell) for values in curves), default=0.0) for cell in cells}
    worst = sorted(cells, key=lambda cell: (-errors[cell], cell))[: min(room, _AT_ONCE)]
    return sorted(0.5 * (rates[cell] + rates[cell + 1]) for cell in worst)


def _error(rates: Sequence[float], values: Sequence[float], cell: int) -> float:
    """Estimated relative error of linear interpolation in the middle of a cell."""
    ends = [point for point in (cell, cell + 1) if 0 < point < len(rates) - 1]
    bend = max(abs(_second_derivative(rates, values, point)) for point in ends)
    width = rates[cell + 1] - rates[cell]
    return width * width / 8.0 * bend / (0.5 * (values[cell] + values[cell + 1]))


def _second_derivative(rates: Sequence[float], values: Sequence[float], point: int) -> float:
    before = (values[point] - values[point - 1]) / (rates[point] - rates[point - 1])
    after = (values[point + 1] - values[point]) / (rates[point + 1] - rates[point])
    return 2.0 * (after - before) / (rates[point + 1] - rates[point - 1])
