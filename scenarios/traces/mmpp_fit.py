"""Fit of a two-state Markov-modulated Poisson process to counts at several time scales and to the gaps."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from scenarios.workloads.arrival_processes import MMPP2
from scenarios.workloads.request_chunks import Floats


def mmpp_dispersion(process: MMPP2, window_s: float) -> float:
    """Index of dispersion for counts in windows of ``window_s`` seconds.

    With state probabilities p and q, rates a and b, and relaxation rate s (sum of the inverse mean sojourns), it is
    ``1 + 2 p q (a - b)**2 / (m s) * (1 - (1 - exp(-s t)) / (s t))`` with mean rate m (Heffes and Lucantoni, IEEE
    JSAC 4(6), 1986).
    """
    (first, second), (stay_first, stay_second) = process.rates_per_s, process.sojourns_s
    share = stay_first / (stay_first + stay_second)
    mean = share * first + (1 - share) * second
    relaxation = 1 / stay_first + 1 / stay_second
    variance = share * (1 - share) * (first - second) ** 2
    scaled = relaxation * window_s
    return 1 + 2 * variance / (mean * relaxation) * (1 + math.expm1(-scaled) / scaled)


def mmpp_gap_cdf(process: MMPP2, gaps: Floats) -> Floats:
    """Distribution function of the gap between arrivals, shape of ``gaps``: a mixture of two exponentials."""
    rates = np.array(process.rates_per_s)
    leave = 1 / np.array(process.sojourns_s)
    trace = float(rates.sum() + leave.sum())
    determinant = float(rates.prod() + rates[0] * leave[1] + rates[1] * leave[0])
    root = math.sqrt(max(trace * trace - 4 * determinant, 0.0))
    fast = 0.5 * (trace + root)
    # The small root from the product of both: the difference would cancel.
    slow = determinant / fast
    at_arrival = rates * leave[::-1]
    density = float((at_arrival * rates).sum() / at_arrival.sum())
    weight = (density - slow) / (fast - slow) if fast > slow else 1.0
    return 1 - weight * np.exp(-fast * gaps) - (1 - weight) * np.exp(-slow * gaps)


def fit_mmpp(rate_per_s: float, gaps: Floats, dispersions: Mapping[float, float]) -> MMPP2 | None:
    """MMPP-2 with exactly the given mean rate that comes closest to the dispersions and the gaps.

    Minimises the mean of ``|ln(fitted dispersion / measured)|`` over the windows plus the Kolmogorov-Smirnov distance
    of the gaps, by Nelder-Mead from a grid of starts.

    Parameters
    ----------
    rate_per_s : float
        Mean rate.
    gaps : ndarray of shape (n,)
        Measured gaps in seconds.
    dispersions : mapping
        Measured index of dispersion by window in seconds.

    Returns
    -------
    MMPP2 or None
        ``None`` if no window is more variable than Poisson arrivals: such a process cannot be.
    """
    from scipy.optimize import minimize

    burstiest = max(dispersions.values(), default=0.0)
    if burstiest <= 1.05:
        return None
    levels = (np.arange(min(len(gaps), 1000)) + 0.5) / min(len(gaps), 1000)
    points = np.quantile(gaps, levels)

    def process(parameters: NDArray[np.float64]) -> MMPP2:
        """From (log relaxation rate, logit busy share, logit of the low rate's share of the mean)."""
        relaxation = math.exp(float(np.clip(parameters[0], -12, 8)))
        busy = 1 / (1 + math.exp(-float(np.clip(parameters[1], -9, 9))))
        low = rate_per_s / (1 + math.exp(-float(np.clip(parameters[2], -9, 9))))
        high = (rate_per_s - (1 - busy) * low) / busy
        return MMPP2(rates_per_s=(high, low), sojourns_s=(1 / (relaxation * (1 - busy)), 1 / (relaxation * busy)))

    def distance(parameters: NDArray[np.float64]) -> float:
        candidate = process(parameters)
        counts = [
            abs(math.log(mmpp_dispersion(candidate, window) / measured)) for window, measured in dispersions.items()
        ]
        return float(np.mean(counts) + np.abs(mmpp_gap_cdf(candidate, points) - levels).max())

    starts = [
        np.array([math.log(relaxation), busy, low])
        for relaxation in (0.003, 0.03, 0.3, 3.0)
        for busy in (-3.0, -1.0, 1.0)
        for low in (-4.0, 0.0)
    ]
    starts.sort(key=distance)
    best = min(
        (minimize(distance, start, method="Nelder-Mead", options={"maxiter": 400}) for start in starts[:4]),
        key=lambda result: float(result.fun),
    )
    return process(best.x)
