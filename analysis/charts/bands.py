"""Long series as few points that hide no peak: means, and the least and the most, of even windows of time."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from sim.results import Floats, Ints

_WIDTHS_S = (
    *(step * 10.0**power for power in range(-6, 1) for step in (1, 2, 5)),
    *(10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1800.0, 3600.0, 7200.0, 14400.0, 21600.0, 43200.0),
    *(86400.0 * days for days in (1, 2, 5, 10, 20, 50, 100)),
)
"""As clocks have them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Band:
    """A line over time, with what it hides; NaN where nothing is known."""

    time_s: Floats
    middle: Floats
    low: Floats | None = None
    high: Floats | None = None
    width_s: float
    """Of a window; of a series that is shown as it is, between two points."""
    points: bool = False
    """Whether these are the points of the series, and not windows."""

    def parts(self) -> Iterator[Floats]:
        """The line, and its bounds if it has any."""
        yield self.middle
        if self.low is not None and self.high is not None:
            yield from (self.low, self.high)


def window_edges(end_s: float, most: int) -> Floats:
    """Edges of at most ``most`` even windows from 0 to past ``end_s``, of a width that reads well."""
    if end_s <= 0.0:
        return np.array([0.0, 1.0])
    least_s = end_s / most * (1.0 - 1e-9)
    width_s = next((width for width in _WIDTHS_S if width >= least_s), least_s)
    return width_s * np.arange(max(1, math.ceil(end_s / width_s)) + 1, dtype=np.float64)


def counted(times_s: Floats, edges_s: Floats, end_s: float) -> Band:
    """Events per second in each window; NaN in the last one if ``end_s`` leaves less than half of it."""
    counts, _ = np.histogram(times_s, edges_s)
    widths_s = np.diff(edges_s)
    widths_s[-1] = min(widths_s[-1], end_s - edges_s[-2])
    whole = widths_s >= 0.5 * _width(edges_s)
    return Band(
        time_s=_middles(edges_s), middle=np.where(whole, counts / np.where(whole, widths_s, 1.0), np.nan),
        width_s=_width(edges_s),
    )  # fmt: skip


def banded(times_s: Floats, values: Floats, end_s: float, most: int) -> Band:
    """Samples as mean, least and most: of each window, or of each time if these are few.

    Parameters
    ----------
    times_s, values : array, shape (n,)
        The samples, in order of time; there may be several of one time.
    end_s : float
        End of the axis.
    most : int
        Windows; samples at up to twice as many times are left as they are, and only have bounds where there are several
        of one time.
    """
    moments_s, first = np.unique(times_s, return_index=True)
    if len(moments_s) <= 2 * most:
        width_s = float(np.diff(moments_s).mean()) if len(moments_s) > 1 else end_s
        middle, low, high = _by_group(values, first)
        alone = len(moments_s) == len(times_s)
        return Band(
            time_s=moments_s, middle=middle, low=None if alone else low, high=None if alone else high, width_s=width_s,
            points=True,
        )  # fmt: skip
    edges_s = window_edges(end_s, most)
    starts, places = _groups(times_s, edges_s)
    middle, low, high = (np.full(len(edges_s) - 1, np.nan) for _ in range(3))
    middle[places], low[places], high[places] = _by_group(values, starts)
    return Band(time_s=_middles(edges_s), middle=middle, low=low, high=high, width_s=_width(edges_s))


def _by_group(values: Floats, starts: Ints) -> tuple[Floats, Floats, Floats]:
    """Mean, least and most of the values from each start to the next."""
    sizes = np.diff(np.append(starts, len(values)))
    return (
        np.add.reduceat(values, starts) / sizes,
        np.minimum.reduceat(values, starts),
        np.maximum.reduceat(values, starts),
    )


def quantile_by_window(times_s: Floats, values: Floats, edges_s: Floats, quantile: float) -> Band:
    """A quantile of the values in each window; NaN where there are none, or where it is infinite."""
    order = np.argsort(times_s, kind="stable")
    times_s, values = times_s[order], values[order]
    starts, places = _groups(times_s, edges_s)
    middle = np.full(len(edges_s) - 1, np.nan)
    for place, part in zip(places, np.split(values, starts[1:]), strict=True):
        if len(part):
            # "higher" never lies between a number and infinity.
            middle[place] = np.quantile(part, quantile, method="higher")
    middle[~np.isfinite(middle)] = np.nan
    return Band(time_s=_middles(edges_s), middle=middle, width_s=_width(edges_s))


def _groups(times_s: Floats, edges_s: Floats) -> tuple[Ints, Ints]:
    """Where the values of each window that has any begin, and the numbers of these windows."""
    numbers = np.clip(np.searchsorted(edges_s, times_s, side="right") - 1, 0, len(edges_s) - 2)
    places, starts = np.unique(numbers, return_index=True)
    return starts, places


def _middles(edges_s: Floats) -> Floats:
    return (edges_s[1:] + edges_s[:-1]) / 2


def _width(edges_s: Floats) -> float:
    return float(edges_s[1] - edges_s[0])
