"""Distributions as GuideLLM's reports have them: of values, of rates over time, and of concurrency over time.

Definitions follow GuideLLM 0.8: a percentile is the first value at which the cumulated weight reaches it; instants
closer than a tenth of a millisecond are merged; the rate at an event counts for the time halfway to its neighbours.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from sim.results import Floats, Ints

STATUSES = ("successful", "errored", "incomplete")
"""Groups of requests; reports have their ``total`` beside them."""

_PERCENTILES = {
    "p001": 0.001, "p01": 0.01, "p05": 0.05, "p10": 0.1, "p25": 0.25, "p50": 0.5, "p75": 0.75, "p90": 0.9, "p95": 0.95,
    "p99": 0.99, "p999": 0.999,
}  # fmt: skip
_MERGED_WITHIN_S = 1e-4
_LAST_EVENT_S = 1e-6
"""Least time that the last event counts for, when it lies at the very end."""

Distribution = dict[str, Any]


def by_status(of_rows: Callable[[Ints], Distribution], groups: Mapping[str, Ints]) -> dict[str, Distribution]:
    """A distribution for each status and for all requests together.

    Parameters
    ----------
    of_rows : callable
        Makes the distribution of the requests in some rows.
    groups : mapping
        Rows by status.
    """
    found = {status: of_rows(groups[status]) for status in STATUSES}
    some = [status for status in STATUSES if len(groups[status])]
    everyone = np.concatenate([groups[status] for status in STATUSES])
    return {**found, "total": found[some[0]] if len(some) == 1 else of_rows(everyone)}


def of_values(values: Floats, weights: Floats | None = None, *, count: int | None = None) -> Distribution:
    """Distribution of values, each with a weight (1 by default); ``count`` is the sum of the weights by default."""
    if weights is None:
        weights = np.ones(len(values))
    if count is None:
        count = round(float(weights.sum()))
    distinct, inverse = np.unique(values, return_inverse=True)
    mass: Floats = np.zeros(len(distinct))
    np.add.at(mass, inverse, weights)
    distinct, mass = distinct[mass > 0], mass[mass > 0]
    if not len(distinct):
        zeros = dict.fromkeys(("mean", "median", "mode", "variance", "std_dev", "min", "max"), 0.0)
        return {**zeros, "count": count, "total_sum": 0.0, "percentiles": dict.fromkeys(_PERCENTILES, 0.0)}
    share = mass / mass.sum()
    ranks = np.minimum(np.searchsorted(np.cumsum(share), list(_PERCENTILES.values())), len(distinct) - 1)
    percentiles = dict(zip(_PERCENTILES, distinct[ranks].tolist(), strict=True))
    mean = float((distinct * share).sum())
    variance = float(((distinct - mean) ** 2 * share).sum())
    return {
        "mean": mean,
        "median": percentiles["p50"],
        "mode": float(distinct[share.argmax()]),
        "variance": variance,
        "std_dev": variance**0.5,
        "min": float(distinct[0]),
        "max": float(distinct[-1]),
        "count": count,
        "total_sum": mean * count,
        "percentiles": percentiles,
    }


def of_rates(times_s: Floats, weights: Floats, window_s: tuple[float, float] | None = None) -> Distribution:
    """Distribution over time of how much happens per second, from events with weights.

    With a window only events inside it count, and it begins and ends with it.
    """
    if window_s is not None:
        inside = (times_s >= window_s[0]) & (times_s <= window_s[1])
        times_s = np.concatenate([[window_s[0]], times_s[inside], [window_s[1]]])
        weights = np.concatenate([[0.0], weights[inside], [0.0]])
    times_s, weights = _merged(times_s, weights)
    if len(times_s) <= 1:
        return of_values(np.empty(0))
    middles_s = (times_s[1:] + times_s[:-1]) / 2
    durations_s = np.diff(middles_s, prepend=times_s[0], append=times_s[-1])
    durations_s[-1] = max(durations_s[-1], _LAST_EVENT_S)
    return of_values(weights / durations_s, durations_s, count=round(float(weights.sum())))


def of_concurrency(
    begin_s: Floats, end_s: Floats, weights: Floats | None = None, window_s: tuple[float, float] | None = None
) -> Distribution:
    """Distribution over time of how much is going on at once, from intervals with weights (1 by default)."""
    weights = np.ones(len(begin_s)) if weights is None else weights
    if window_s is not None:
        overlaps = (end_s >= window_s[0]) & (begin_s <= window_s[1])
        begin_s, end_s, weights = begin_s[overlaps], end_s[overlaps], weights[overlaps]
    count = len(begin_s)
    times_s, changes = _merged(np.concatenate([begin_s, end_s]), np.concatenate([weights, -weights]))
    if window_s is not None and len(times_s):
        first, last = np.searchsorted(times_s, window_s[0]), np.searchsorted(times_s, window_s[1], side="right")
        before = changes[:first].sum()
        times_s = np.concatenate([[window_s[0]], times_s[first:last], [window_s[1]]])
        changes = np.concatenate([[before], changes[first:last], [0.0]])
    levels = np.maximum(np.cumsum(changes), 0.0)
    if len(levels) <= 1:
        return of_values(levels)
    durations_s = np.diff(times_s)
    if not (durations_s > 0).any():
        return of_values(np.empty(0))
    return of_values(levels[:-1], durations_s, count=count)


def _merged(times_s: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """Sum the weights of instants that lie close together; the first instant of each group stands for it."""
    if not len(times_s):
        return times_s, weights
    order = np.argsort(times_s)
    times_s, weights = times_s[order], weights[order]
    ends = np.searchsorted(times_s, times_s + _MERGED_WITHIN_S, side="right")
    starts = []
    at = 0
    while at < len(ends):
        starts.append(at)
        at = int(ends[at])
    return times_s[starts], np.add.reduceat(weights, starts)
