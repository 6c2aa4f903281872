"""What traffic costs a model in latency: ``h(y) = y * l(load * y)`` over the share ``y`` of the requests that it gets.

``l`` comes from a load-latency curve and is linear between breakpoints, so ``h`` is quadratic between them.  An SLO on
all requests together is ``sum_i h_i(y_i) <= limit``: with the mean latency for ``l`` and the target for the limit, or
with the share of late requests for ``l`` and the share that may be late for the limit.  Both are divided by the limit
here, so every limit is 1.  An SLO on one model is a highest share of traffic for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Delay:
    """``l`` of one option for each of K SLOs, on shares from 0 to the highest that it may get.

    Parameters
    ----------
    shares : ndarray, shape (n,), n >= 1
        Breakpoints, ascending from 0.
    relative : ndarray, shape (K, n)
        ``l / limit`` at each of them; linear between.
    """

    shares: Floats
    relative: Floats

    @property
    def highest(self) -> float:
        """Highest share of the traffic that the option may get."""
        return float(self.shares[-1])

    def at(self, share: float) -> Floats:
        """``h / limit`` of each SLO at a share inside the range, shape (K,)."""
        return share * np.array([np.interp(share, self.shares, values) for values in self.relative])

    def between(self, low: float, high: float) -> Floats:
        """Breakpoints inside an interval, with both of its ends."""
        inside = self.shares[(self.shares > low) & (self.shares < high)]
        return np.unique(np.concatenate([[low], inside, [high]]))

    def kinks(self) -> Floats:
        """Breakpoints inside the range between which every ``h`` is convex, except where ``l`` falls.

        Convexity ends at breakpoints where the slope of ``l`` drops, and at both ends of a segment where ``l`` falls.
        """
        if len(self.shares) <= 2 or not len(self.relative):
            return np.zeros(0)
        slopes = np.diff(self.relative, axis=1) / np.diff(self.shares)
        tolerance = 1e-12 * (1.0 + np.abs(slopes))
        bent = np.logical_or.reduce(slopes[:, 1:] < slopes[:, :-1] - tolerance[:, 1:], axis=0)
        falling = np.logical_or.reduce(slopes < -tolerance, axis=0)
        kinks: Floats = self.shares[1:-1][bent | falling[1:] | falling[:-1]]
        return kinks


class DelayTable:
    """The options of one model at one load, evaluated together.

    For a price ``p`` and prices ``beta`` of the SLOs, the reply of an option is ``max_y p y - sum_k beta_k h_k(y)``:
    what it can earn with the best share of traffic.  It is exact for any ``l``, whether ``h`` is convex or not.

    Parameters
    ----------
    options : sequence of Delay
        At least one.
    """

    def __init__(self, options: Sequence[Delay]) -> None:
        self.options = tuple(options)
        self.slos = len(self.options[0].relative)
        low, high, linear, square, first = [], [], [], [], [0]
        for option in options:
            shares = option.shares if len(option.shares) > 1 else np.repeat(option.shares, 2)
            relative = option.relative if len(option.shares) > 1 else np.repeat(option.relative, 2, axis=1)
            width = np.diff(shares)
            slope = np.diff(relative, axis=1) / np.where(width > 0.0, width, 1.0)
            low.append(shares[:-1])
            high.append(shares[1:])
            square.append(slope)
            linear.append(relative[:, :-1] - slope * shares[:-1])
            first.append(first[-1] + len(width))
        self._low, self._high = np.concatenate(low), np.concatenate(high)
        self._linear, self._square = np.concatenate(linear, axis=1), np.concatenate(square, axis=1)
        self._first = first

    def replies(self, price: float, betas: Floats) -> Floats:
        """Reply of every option, shape (options,)."""
        _, values = _best_in_segments(price, self._low, self._high, betas @ self._linear, betas @ self._square)
        return np.maximum.reduceat(values, self._first[:-1])

    def reply(
        self, option: int, price: float, betas: Floats, within: tuple[float, float] | None = None
    ) -> tuple[float, float]:
        """Best share of one option, possibly within an interval, and what it earns."""
        part = slice(self._first[option], self._first[option + 1])
        low, high = self._low[part], self._high[part]
        linear, square = self._linear[:, part], self._square[:, part]
        if within is not None:
            low, high = np.maximum(low, within[0]), np.minimum(high, within[1])
            overlaps = low <= high
            low, high, linear, square = low[overlaps], high[overlaps], linear[:, overlaps], square[:, overlaps]
        shares, values = _best_in_segments(price, low, high, betas @ linear, betas @ square)
        best = int(np.argmax(values))
        return float(shares[best]), float(values[best])


def _best_in_segments(price: float, low: Floats, high: Floats, linear: Floats, square: Floats) -> tuple[Floats, Floats]:
    """Best share inside each segment and its value: the vertex of a concave segment, else one of its ends."""
    rising = square > 0.0
    vertex = np.where(rising, (price - linear) / np.where(rising, 2.0 * square, 1.0), low)
    vertex = np.clip(vertex, low, high)
    candidates = np.stack([low, vertex, high])
    values = candidates * (price - linear - square * candidates)
    best = np.argmax(values, axis=0)
    columns = np.arange(len(low))
    return candidates[best, columns], values[best, columns]
