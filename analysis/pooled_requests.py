"""Shares and quantiles over all requests of several replications together.

Requests of one replication wait behind each other, so a thousand requests are not a thousand observations: the
replication is the independent unit, and its requests are a cluster.  A percentile over all requests is the plain
meaning of "95 % of requests", and short replications bias it less than they bias the mean of their own percentiles.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from analysis.statistics import (
    Interval,
    Series,
    Values,
    check_paired,
    check_probability,
    finite_values,
    proportion_interval,
    ratio_interval,
)
from latency_models.errors import check_count, invalid


def share_interval(hits: Series, totals: Series, *, confidence: float = 0.95) -> Interval:
    """Confidence interval of the share of requests that something happens to, from several replications.

    The wider of two on each side: Fieller's interval of the ratio of means, which knows how replications differ, and
    Clopper-Pearson's, as if all requests were independent.  The second alone would be too narrow where requests wait
    for each other; the first alone would be a point where no replication had a hit.

    Parameters
    ----------
    hits : sequence of float
        Requests of each replication that it happened to, e.g. that missed the SLO: late, rejected or unfinished.
    totals : sequence of float
        All requests of each replication; some may be zero, not all.  At least two replications.
    confidence : float
        Between 0 and 1.

    Returns
    -------
    Interval
        Within [0, 1].

    Raises
    ------
    InputError
        If a count is negative, not a whole number, or there are more hits than requests.
    """
    happened, requests = check_counts("hits", hits, totals)
    between = ratio_interval(happened, requests, confidence=confidence)
    within = proportion_interval(int(happened.sum()), int(requests.sum()), confidence=confidence)
    return Interval(
        estimate=within.estimate,
        low=max(min(between.low, within.low), 0.0),
        high=min(max(between.high, within.high), 1.0),
        confidence=confidence,
        count=len(requests),
    )


def check_counts(field: str, hits: Series, totals: Series) -> tuple[Values, Values]:
    """Return hits, which ``field`` names, and totals as floats; :class:`InputError` if they are no such counts."""
    happened = finite_values(field, hits, at_least=2)
    requests = finite_values("totals", totals, at_least=2)
    check_paired(field, happened, "totals", requests)
    for name, counts in ((field, happened), ("totals", requests)):
        wrong = counts[(counts < 0) | (counts != np.floor(counts))]
        if len(wrong):
            raise invalid(name, float(wrong[0]), "whole numbers >= 0")
    if (happened > requests).any():
        worst = int(np.argmax(happened - requests))
        raise invalid(field, int(happened[worst]), f"at most the {int(requests[worst])} requests of its replication")
    if requests.sum() == 0:
        raise invalid("sum of totals", 0, "at least one request", "Take longer replications")
    return happened, requests


def pooled_quantile_interval(samples: Sequence[Series], quantile: float, *, confidence: float = 0.95) -> Interval:
    """Confidence interval of a quantile over all requests of several replications.

    The share of requests beyond the estimate has an interval (:func:`share_interval`).  If it may truly be larger by d,
    the quantile may be as far up as the one of ``quantile + d``; and likewise down (Woodruff's method, here with
    replications as clusters).

    Parameters
    ----------
    samples : sequence of sequences of float
        One for each replication, at least two, each with one value for each request.  NaN and infinity stand for
        requests that were never served: they lie beyond all others.
    quantile : float
        Between 0 and 1, exclusive: 0.95 for P95.
    confidence : float
        Between 0 and 1.

    Returns
    -------
    Interval
        Of the smallest value that at least the share ``quantile`` of requests does not exceed; infinite if it falls on
        requests that were never served, open where the requests do not suffice.

    References
    ----------
    R. S. Woodruff, "Confidence intervals for medians and other position measures", Journal of the American Statistical
    Association 47 (1952).
    """
    check_count("number of replications", len(samples), minimum=2)
    check_probability("quantile", quantile)
    data = [np.asarray(values, dtype=np.float64) for values in samples]
    data = [np.where(np.isnan(values), math.inf, values) for values in data]
    pooled = np.sort(np.concatenate(data))
    totals = [float(len(values)) for values in data]
    if not len(pooled):
        raise invalid("number of requests", 0, "at least one", "Take longer replications")
    estimate = _smallest_covering(pooled, quantile)
    beyond = share_interval(
        [float(np.count_nonzero(values > estimate)) for values in data], totals, confidence=confidence
    )
    return Interval(
        estimate=estimate,
        low=_smallest_covering(pooled, quantile - (beyond.estimate - beyond.low)),
        high=_smallest_covering(pooled, quantile + (beyond.high - beyond.estimate)),
        confidence=confidence,
        count=len(data),
    )


def _smallest_covering(ordered: Values, share: float) -> float:
    """Smallest of the values that at least this share of them does not exceed; open beyond 0 and 1."""
    if share <= 0:
        return -math.inf
    if share >= 1:
        return math.inf
    return float(ordered[math.ceil(share * len(ordered)) - 1])
