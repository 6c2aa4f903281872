"""Bursty arrivals: the index of dispersion, and queues with Markov-modulated Poisson arrivals.

References
----------
[Heffes] H. Heffes, D. M. Lucantoni, "A Markov modulated characterization of packetized voice and data traffic and
related statistical multiplexer performance", IEEE Journal on Selected Areas in Communications 4 (1986).
[Fendick] K. W. Fendick, W. Whitt, "Measurements and approximations to describe the offered traffic and predict the
average workload in a single-server queue", Proceedings of the IEEE 77 (1989).
[Neuts] M. F. Neuts, "Matrix-Geometric Solutions in Stochastic Models", Johns Hopkins 1981, chapter 3.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.queueing.queue import Queue, positive, stable_load
from latency_models.errors import InputError, check_finite, invalid


def index_of_dispersion(counts: Sequence[float] | NDArray[np.float64] | NDArray[np.int64]) -> float:
    """Variance over mean of arrivals counted in windows of equal length: 1 for Poisson arrivals, more for bursts.

    Parameters
    ----------
    counts : sequence of float
        Arrivals of each window, at least two of them, not all zero.
    """
    data = np.asarray(counts, dtype=np.float64)
    if data.ndim != 1 or len(data) < 2 or not np.isfinite(data).all() or data.min() < 0 or not data.any():
        raise InputError("the index of dispersion needs counts of at least two windows, none negative, not all zero")
    return float(data.var() / data.mean())


@dataclass(frozen=True, slots=True, kw_only=True)
class TwoStateArrivals:
    """Markov-modulated Poisson arrivals with two states: a quiet one and a busy one, exponentially long each."""

    rates_per_s: tuple[float, float]
    """Arrivals per second in each state."""
    sojourns_s: tuple[float, float]
    """Mean time that each state lasts."""

    def __post_init__(self) -> None:
        for rate in self.rates_per_s:
            check_finite("rates_per_s", rate)
        for sojourn in self.sojourns_s:
            positive("sojourns_s", sojourn)
        if sum(self.rates_per_s) <= 0:
            raise invalid("rates_per_s", self.rates_per_s, "two rates, at least one of them above 0")

    @property
    def mean_rate_per_s(self) -> float:
        """Arrivals per second in the long run."""
        weighted = sum(rate * sojourn for rate, sojourn in zip(self.rates_per_s, self.sojourns_s, strict=True))
        return weighted / sum(self.sojourns_s)

    @property
    def gap_cv2(self) -> float:
        """Squared coefficient of variation of the gaps between arrivals [Heffes, section 2]."""
        first, second = self.rates_per_s
        leave_first, leave_second = (1 / sojourn for sojourn in self.sojourns_s)
        spread = 2 * (first - second) ** 2 * leave_first * leave_second
        mixed = first * second + first * leave_second + second * leave_first
        return 1 + spread / ((leave_first + leave_second) ** 2 * mixed)

    def dispersion(self, window_s: float) -> float:
        """Index of dispersion for counts in windows of ``window_s`` [Heffes, equation 6]; infinity for the limit.

        1 + (limit - 1) (1 - (1 - exp(-r t)) / (r t)), with r the sum of the rates of leaving the states.
        """
        if math.isnan(window_s) or window_s <= 0:
            raise invalid("window_s", window_s, "a number > 0, or infinity")
        leave = [1 / sojourn for sojourn in self.sojourns_s]
        both = sum(leave)
        share = leave[0] * leave[1] / both**2  # product of the shares of time in each state
        limit_excess = 2 * (self.rates_per_s[0] - self.rates_per_s[1]) ** 2 * share / (both * self.mean_rate_per_s)
        if math.isinf(window_s):
            return 1 + limit_excess
        scaled = both * window_s
        return 1 + limit_excess * (1 + math.expm1(-scaled) / scaled)


def two_state_m_1(arrivals: TwoStateArrivals, service_s: float) -> Queue:
    """MMPP(2)/M/1, exactly, by the matrix-geometric method [Neuts].

    Level n is the number in the system, phase the state of the arrivals.  The probabilities of level n are those of
    level 0 times R**n, with R the least solution of A0 + R A1 + R**2 A2 = 0 (arrivals, no change of level, services).
    """
    load = stable_load(arrivals.mean_rate_per_s, service_s)
    up = np.diag(arrivals.rates_per_s)
    first, second = (1 / sojourn for sojourn in arrivals.sojourns_s)
    phases = np.array([[-first, first], [second, -second]])
    down = np.eye(2) / service_s
    within = phases - up - down
    ratio = _rate_matrix(up, within, down)
    # Balance at level 0, and all probabilities sum to one.
    empty = phases - up + ratio @ down
    sums = np.linalg.inv(np.eye(2) - ratio)
    equations = np.column_stack([empty[:, 0], sums.sum(axis=1)])
    level0 = np.linalg.solve(equations.T, np.array([0.0, 1.0]))
    present = float(level0 @ sums @ sums @ ratio @ np.ones(2))
    sojourn = present / arrivals.mean_rate_per_s
    return Queue(
        rate_per_s=arrivals.mean_rate_per_s, utilisation=load, mean_wait_s=sojourn - service_s, mean_sojourn_s=sojourn
    )


def _rate_matrix(
    up: NDArray[np.float64], within: NDArray[np.float64], down: NDArray[np.float64]
) -> NDArray[np.float64]:
    """R, by logarithmic reduction (G. Latouche, V. Ramaswami, Journal of Applied Probability 30, 1993)."""
    inverse = np.linalg.inv(-within)
    high, low = inverse @ up, inverse @ down
    reached, carried = low.copy(), high.copy()  # reached: first passage one level down, so far
    for _ in range(64):
        mixed = high @ low + low @ high
        inverse = np.linalg.inv(np.eye(len(up)) - mixed)
        high, low = inverse @ high @ high, inverse @ low @ low
        step = carried @ low
        reached += step
        carried = carried @ high
        # Squares of squares: what is left to add is far below the last step, and going on would overflow.
        if step.max() < 1e-16 or np.abs(1 - reached.sum(axis=1)).max() < 1e-13:
            break
    found: NDArray[np.float64] = up @ np.linalg.inv(-(within + up @ reached))
    return found
