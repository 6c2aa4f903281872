"""How a load-latency curve looks once everything takes longer and the load counts for more.

Two things make a deployed model slower than its curve.  *Slower*: every request takes longer, busy or idle, as when
another model on the GPU takes memory bandwidth.  *Heavier*: the model behaves as if its load were higher, as when
requests come in bursts, or answers are longer than those that were profiled; a lightly loaded option hardly feels it,
one near its limit very much.  With ``l`` from the curve, the latency at load r is ``slower * l(heavier * r)``.  Neither
has to do with how a model is run, so what one option of a model shows is a guess for its others.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from latency_models.curves.load_latency import LoadLatencyCurve
from optimizer.delays.delay_curves import statistic_at
from optimizer.delays.lateness import known_percentiles
from optimizer.problem import SloTarget

Floats = NDArray[np.float64]

_HEAVIEST = 4.0
_ALL_LATE = 0.999
"""A share of late requests with which a time can be told."""
_LARGEST = 4.0
"""Factor beyond which an option was overloaded, or nearly all of its requests were late: the others learn no more."""
_STEPS = 200
_SCATTER = 0.05
"""Relative scatter of what options show around their common shift."""
_DOUBT = 0.3
"""How far, as a logarithm, a shift is from 1 before anything is seen: what is seen is shrunk by that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shift:
    """Latency at load r is ``slower * l(heavier * r)``."""

    slower: float = 1.0
    heavier: float = 1.0

    def factor(self, curve: LoadLatencyCurve, statistic: str, rates_per_s: Floats) -> Floats:
        """Latency over that of the curve, at loads in requests/s that the curve has, shape (n,)."""
        heavy = extended(curve, statistic, self.heavier * rates_per_s)
        factor: Floats = self.slower * heavy / extended(curve, statistic, rates_per_s)
        return factor


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """How an option did in a simulation."""

    rate_per_s: float
    """Its load, of all replicas together."""
    factor: float
    """Latency over that of its curve; infinite if it did not carry the load."""


def usable_rates(curve: LoadLatencyCurve) -> Floats:
    """Loads of a curve up to the highest usable one."""
    end = curve.highest_rate_per_s
    return np.unique([*(rate for rate in curve.rates_per_s if rate < end), end])


def extended(curve: LoadLatencyCurve, statistic: str, rates_per_s: Floats) -> Floats:
    """Latency at any load: beyond the usable ones it rises on as steeply as at the end, at least in proportion to load.

    Only to say how much heavier a load is; a plan never goes there.
    """
    rates = usable_rates(curve)
    values = np.interp(rates, curve.rates_per_s, curve.statistics[statistic])
    last_rate, last = rates[-1], values[-1]
    slope = last / last_rate if last_rate > 0.0 else 0.0
    if len(rates) > 1:
        slope = max(slope, (last - values[-2]) / (last_rate - rates[-2]))
    beyond = slope * np.maximum(rates_per_s - last_rate, 0.0)
    latency: Floats = np.interp(rates_per_s, rates, values) + beyond
    return latency


def fitted_shift(seen: Sequence[tuple[LoadLatencyCurve, str, Sighting]]) -> Shift:
    """The shift that fits what options showed, shrunk towards none: least squares of logarithms.

    Parameters
    ----------
    seen : sequence of (curve, statistic, sighting)
        Of options that are alike in it; those that did not carry their load tell nothing here.
    """
    usable = [entry for entry in seen if math.isfinite(entry[2].factor)]
    if not usable:
        return Shift()
    heavier = np.geomspace(1.0, _HEAVIEST, _STEPS)
    rest = np.array([_log_excess(heavier, *entry) for entry in usable])
    # With the load fixed, the best factor on time is a shrunk mean; neither is ever below 1.
    slower = np.maximum(0.0, rest.sum(axis=0) / (len(usable) + (_SCATTER / _DOUBT) ** 2))
    misfit = ((rest - slower) ** 2).sum(axis=0) / _SCATTER**2 + (slower**2 + np.log(heavier) ** 2) / _DOUBT**2
    best = int(np.argmin(misfit))
    return Shift(slower=math.exp(slower[best]), heavier=float(heavier[best]))


def _log_excess(heavier: Floats, curve: LoadLatencyCurve, statistic: str, sighting: Sighting) -> Floats:
    """What was seen over what a heavier load alone explains, as logarithms, for each of some factors on the load."""
    rate = np.array([sighting.rate_per_s])
    explained = extended(curve, statistic, heavier * rate) / extended(curve, statistic, rate)
    excess: Floats = math.log(min(sighting.factor, _LARGEST)) - np.log(explained)
    return excess


def latency_factor(curve: LoadLatencyCurve, slo: SloTarget, rate_per_s: float, value: float) -> float:
    """How many times longer than in the curve latencies are, from what an SLO limits.

    Parameters
    ----------
    curve : LoadLatencyCurve
    slo : SloTarget
    rate_per_s : float
        Load of the option.
    value : float
        What was seen: the mean in seconds; for an SLO on a percentile the share of requests that were late.  The factor
        is then the one on all percentiles of the curve with which :func:`optimizer.delays.lateness.late_share` gives
        that share.
    """
    if slo.late_share is None:
        return value / statistic_at(curve, rate_per_s, slo.curve_statistic)
    known = known_percentiles(curve, slo.metric)
    shares = np.array([1.0, *(share for share, _ in known)])
    times = np.maximum.accumulate([0.0, *(statistic_at(curve, rate_per_s, name) for _, name in known)])
    value = min(value, _ALL_LATE)
    if value <= shares[-1]:
        # The curve cannot promise fewer; what it must not promise is more.
        return min(1.0, slo.target_s / float(times[-1]))
    time_s = float(np.interp(-math.log(value), -np.log(shares), times))
    return slo.target_s / time_s if time_s > 0.0 else math.inf
