"""Load-latency curves as a plan needs them: latency never falls with load.

Queueing makes every latency grow with load; where a measured one falls, that is noise.  Each value is raised to the
highest one before it, so that a plan never promises more than was measured.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from itertools import accumulate

from latency_models.curves.load_latency import LoadLatencyCurve, is_latency
from latency_models.errors import InputError

LARGEST_FALL = 0.25
"""A latency that falls by more than this share of its highest value so far is a fault of the measurement, not noise."""


def monotone(
    curve: LoadLatencyCurve, metrics: Collection[str], *, strict: bool = False
) -> tuple[LoadLatencyCurve, dict[str, float]]:
    """Make the latencies of a curve nondecreasing in load.

    Parameters
    ----------
    curve : LoadLatencyCurve
        What was measured or simulated.
    metrics : collection of str
        Metrics that SLOs limit, such as ``ttft``: here a large fall is an error.
    strict : bool
        Whether any fall in these metrics is an error.

    Returns
    -------
    LoadLatencyCurve
        The curve; its intervals stay those of the measurement.
    dict of str to float
        By statistic that was changed: the largest relative change.

    Raises
    ------
    InputError
        A statistic of these metrics falls by more than :data:`LARGEST_FALL`, or at all if strict.
    """
    statistics, changes = dict(curve.statistics), {}
    for name, values in curve.statistics.items():
        if not is_latency(name):
            continue
        raised = tuple(accumulate(values, max))
        if raised == values:
            continue
        falls = [1.0 - value / top for value, top in zip(values, raised, strict=True)]
        worst = max(falls)
        if name.split("_")[0] in metrics and (strict or worst > LARGEST_FALL):
            at = curve.rates_per_s[falls.index(worst)]
            allowed = "none with --strict" if strict else f"up to {LARGEST_FALL:.0%}, as noise"
            raise InputError(
                f"curve of {curve.configuration}: {name} falls by {worst:.2%} at {at:g} requests/s; "
                f"allowed: {allowed}. Measure again with more requests"
            )
        statistics[name] = raised
        changes[name] = max(top / value - 1.0 for value, top in zip(values, raised, strict=True))
    return (replace(curve, statistics=statistics) if changes else curve), changes
