"""From load-latency curves and SLOs to delays: what each option of each model does at one load.

Rules
-----
- Beyond the highest load of a curve an option carries nothing.  Below the lowest it counts as slow as at the lowest.
- The mean: the curve's mean, linear between its loads.
- A percentile of all requests together: the share of late requests (:mod:`optimizer.delays.lateness`) at the loads of
  the curve and at those where one of its percentiles crosses the target; linear between.  If no curve has a
  percentile above the one of the SLO, no option is known to have fewer late requests than are allowed, so every model
  that gets requests must keep the SLO by itself.
- A statistic of one model: traffic up to the first load at which the curve exceeds the target.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from latency_models.curves.load_latency import LoadLatencyCurve
from optimizer.delays.delay import Delay, DelayTable
from optimizer.delays.lateness import known_percentiles, late_share
from optimizer.problem import LoadCase, Problem, SloTarget

Floats = NDArray[np.float64]

_SAME_SHARE = 1e-9
_JUMP = 1e-6
"""Share of the traffic within which a change of latency is a jump."""
_RAMP = 1e-4
"""Share of the traffic below a jump in which latency rises to what it is above it."""


def shared_slos(problem: Problem) -> tuple[int, ...]:
    """Numbers of the SLOs that limit a sum over models; each of the others limits every model by itself."""
    return tuple(
        number for number, slo in enumerate(problem.slos) if slo.model is None and not _by_itself(problem, slo)
    )


def delay_tables(problem: Problem, load: LoadCase) -> tuple[DelayTable, ...]:
    """Options of each model at a load, for the SLOs of :func:`shared_slos`."""
    shared = [problem.slos[number] for number in shared_slos(problem)]
    tables = []
    for model in problem.models:
        own = [slo for slo in problem.slos if slo not in shared and slo.model in (None, model.name)]
        tables.append(DelayTable([delay(option.curve, load.rate_per_s, shared, own) for option in model.options]))
    return tuple(tables)


def delay(curve: LoadLatencyCurve, load_per_s: float, shared: Sequence[SloTarget], own: Sequence[SloTarget]) -> Delay:
    """One option at a total load in requests/s, with SLOs over all models and SLOs of its own."""
    rates = _usable_rates(curve)
    for slo in shared:
        if slo.late_share is not None:
            for _, name in known_percentiles(curve, slo.metric):
                rates = _with_crossings(rates, _values(curve, name, rates), slo.target_s)
    relative = np.array([_relative(curve, slo, rates) for slo in shared]).reshape(len(shared), len(rates))
    highest = highest_rate(curve, own)
    if highest < 0.0 or highest == 0.0 < load_per_s:
        return Delay(shares=np.zeros(1), relative=relative[:, :1])
    if load_per_s == 0.0:
        return Delay(shares=np.array([0.0, 1.0]), relative=np.repeat(relative[:, :1], 2, axis=1))
    end = min(highest, load_per_s)
    inside = rates < end
    at_end = [[np.interp(end, rates, values)] for values in relative]
    shares = np.append(rates[inside], end) / load_per_s
    relative = np.concatenate([relative[:, inside], np.array(at_end).reshape(len(shared), 1)], axis=1)
    return _from_the_foot_of_jumps(shares, relative)


def _from_the_foot_of_jumps(shares: Floats, relative: Floats) -> Delay:
    """Spread jumps over a small interval below their foot: a linear programme with a slope of 1e10 returns nonsense."""
    first = np.flatnonzero(np.append(True, np.diff(shares) > _JUMP))
    if len(first) == len(shares):
        return Delay(shares=shares, relative=relative)
    feet = shares[first[np.diff(np.append(first, len(shares))) > 1]] - _RAMP
    feet = feet[feet > 0.0]
    kept = shares[first]
    kept[-1] = shares[-1] if len(first) > 1 else 0.0  # the highest share stays what it is
    tops = np.maximum.reduceat(relative, first, axis=1)
    places = np.unique(np.concatenate([kept, feet]))
    below = np.array([np.interp(places, shares, values) for values in relative]).reshape(len(relative), len(places))
    below[:, np.searchsorted(places, kept)] = tops
    return Delay(shares=places, relative=below)


def highest_rate(curve: LoadLatencyCurve, own: Sequence[SloTarget]) -> float:
    """Load in requests/s up to which an option keeps its own SLOs; negative if it does not even without load."""
    rates = _usable_rates(curve)
    highest = float(rates[-1])
    for slo in own:
        values = _values(curve, slo.curve_statistic, rates)
        above = np.flatnonzero(values > slo.target_s)
        if len(above) and above[0] == 0:
            return -1.0
        if len(above):
            first = int(above[0])
            part = (slo.target_s - values[first - 1]) / (values[first] - values[first - 1])
            highest = min(highest, float(rates[first - 1] + part * (rates[first] - rates[first - 1])))
    return highest


def statistic_at(curve: LoadLatencyCurve, rate_per_s: float, statistic: str) -> float:
    """Value of a statistic at a load that an option may get, in seconds."""
    return float(np.interp(rate_per_s, curve.rates_per_s, curve.statistics[statistic]))


def late_share_at(curve: LoadLatencyCurve, rate_per_s: float, slo: SloTarget) -> float:
    """Share of the requests that miss an SLO on a percentile at a load that an option may get."""
    rates = _usable_rates(curve)
    for _, name in known_percentiles(curve, slo.metric):
        rates = _with_crossings(rates, _values(curve, name, rates), slo.target_s)
    return float(np.interp(rate_per_s, rates, _late_shares(curve, slo, rates)))


def _by_itself(problem: Problem, slo: SloTarget) -> bool:
    allowed = slo.late_share
    if allowed is None:
        return False
    return all(
        known_percentiles(option.curve, slo.metric)[-1][0] >= allowed - _SAME_SHARE
        for model in problem.models
        for option in model.options
    )


def _usable_rates(curve: LoadLatencyCurve) -> Floats:
    """Loads from 0 to the highest usable one, the breakpoints of the curve."""
    end = curve.highest_rate_per_s
    return np.unique([0.0, *(rate for rate in curve.rates_per_s if rate < end), end])


def _values(curve: LoadLatencyCurve, statistic: str, rates: Floats) -> Floats:
    return np.interp(rates, curve.rates_per_s, curve.statistics[statistic])


def _with_crossings(rates: Floats, values: Floats, target: float) -> Floats:
    """Add the loads at which the values cross the target."""
    above = values > target
    left = np.flatnonzero(above[1:] != above[:-1])
    part = (target - values[left]) / (values[left + 1] - values[left])
    return np.unique(np.concatenate([rates, rates[left] + part * (rates[left + 1] - rates[left])]))


def _relative(curve: LoadLatencyCurve, slo: SloTarget, rates: Floats) -> Floats:
    if slo.late_share is None:
        return _values(curve, slo.curve_statistic, rates) / slo.target_s
    return _late_shares(curve, slo, rates) / slo.late_share


def _late_shares(curve: LoadLatencyCurve, slo: SloTarget, rates: Floats) -> Floats:
    known = known_percentiles(curve, slo.metric)
    late = [share for share, _ in known]
    columns = np.array([_values(curve, name, rates) for _, name in known])
    return np.array([late_share(slo.target_s, late, column.tolist()) for column in columns.T])
