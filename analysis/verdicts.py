"""Does an SLO hold?  A verdict with its interval, and how many more replications would decide it.

A statistic is held to a limit from above.  To hold one from below (a score of at least 0.5), negate values and limit.

Each verdict errs with probability at most (1 - confidence) / 2 on either side; under repeated looks ask for
:meth:`analysis.looks.Looks.confidence_at`.  Of several SLOs, "all hold" needs no correction, since it is only said when
each does (R. L. Berger, "Multiparameter hypothesis testing and acceptance sampling", Technometrics 24, 1982); "one is
broken" errs up to as many times as often as there are SLOs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from analysis.looks import expected_half_width, further_replications
from analysis.pooled_requests import check_counts, share_interval
from analysis.statistics import (
    Interval,
    Series,
    check_probability,
    finite_values,
    mean_interval,
    proportion_interval,
)
from latency_models.errors import InputError, invalid


class Outcome(StrEnum):
    """What can be said of an SLO."""

    HOLDS = "holds"
    BROKEN = "broken"
    UNDECIDED = "undecided"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Whether a statistic keeps its limit."""

    outcome: Outcome
    """``holds`` if the whole interval is at most the limit, ``broken`` if it is all above."""
    limit: float
    interval: Interval
    """Of the statistic, in its unit."""
    further: int | None
    """Estimated replications to add until it is decided, if the estimate and the spread stay as they are; ``None`` if
    it is decided, or the estimate is too close to the limit to tell."""


def mean_verdict(values: Series, limit: float, *, confidence: float = 0.95) -> Verdict:
    """Whether the mean over replications is at most ``limit``, by Student's t.

    Parameters
    ----------
    values : sequence of float
        The statistic in each replication, at least two.  NaN or infinity says that a replication has none, since
        nothing was served: the SLO is broken there.  A mean over values that can be infinite is above every limit, so
        one such value decides, and the interval is infinite.
    limit : float
        Greatest mean that keeps the SLO, in the unit of the values.
    confidence : float
        Between 0 and 1.

    Notes
    -----
    Values that are all equal, as without randomness, decide at once.
    """
    data = np.asarray(values, dtype=np.float64)
    if np.isneginf(data).any():
        raise invalid("values", -math.inf, "finite numbers, or NaN or infinity where nothing was served")
    if not math.isfinite(limit):
        raise invalid("limit", limit, "a finite number")
    unserved = ~np.isfinite(data)
    if unserved.any():
        finite_values("values", np.where(unserved, 0.0, data), at_least=2)
        check_probability("confidence", confidence)
        endless = Interval(estimate=math.inf, low=math.inf, high=math.inf, confidence=confidence, count=len(data))
        return Verdict(outcome=Outcome.BROKEN, limit=limit, interval=endless, further=None)
    interval = mean_interval(data, confidence=confidence)
    spread, distance = float(data.std(ddof=1)), abs(interval.estimate - limit)

    def suffices(count: int) -> bool:
        return expected_half_width(spread, count, confidence=confidence) < distance

    outcome = _against(interval, limit)
    further = further_replications(len(data), suffices) if outcome is Outcome.UNDECIDED else None
    return Verdict(outcome=outcome, limit=limit, interval=interval, further=further)


def share_verdict(misses: Series, totals: Series, limit_share: float, *, confidence: float = 0.95) -> Verdict:
    """Whether the share of requests that miss something is at most ``limit_share``, over all replications.

    It decides percentiles too: P95 of the TTFT is at most 0.5 s just when at most 5 % of all requests have a greater
    one or none.  Rejected, timed-out and unfinished requests then count, as they do not in a percentile of those
    served.

    Parameters
    ----------
    misses : sequence of float
        Requests of each replication that missed; one that was never served missed.  At least two replications.
    totals : sequence of float
        All requests of each replication.
    limit_share : float
        Between 0 and 1, exclusive: 0.05 for P95.
    confidence : float
        Between 0 and 1.
    """
    check_probability("limit_share", limit_share)
    missed, requests = check_counts("misses", misses, totals)
    interval = share_interval(missed, requests, confidence=confidence)
    count, happened, trials = len(missed), float(missed.sum()), float(requests.sum())
    excess = missed - limit_share * requests
    spread, distance = float(excess.std(ddof=1)), abs(float(excess.mean()))

    def suffices(larger: int) -> bool:
        grown = larger / count
        scaled = proportion_interval(round(happened * grown), round(trials * grown), confidence=confidence)
        half = expected_half_width(spread, larger, confidence=confidence)
        return half < distance and not scaled.contains(limit_share)

    outcome = _against(interval, limit_share)
    further = further_replications(count, suffices) if outcome is Outcome.UNDECIDED else None
    return Verdict(outcome=outcome, limit=limit_share, interval=interval, further=further)


def overall_outcome(outcomes: Iterable[Outcome]) -> Outcome:
    """Outcome of several SLOs that must all hold: broken if one is, holds if all do, undecided otherwise.

    Raises
    ------
    InputError
        If there are none.
    """
    found = set(outcomes)
    if not found:
        raise InputError("no SLO to judge; give at least one limit")
    if Outcome.BROKEN in found:
        return Outcome.BROKEN
    return Outcome.UNDECIDED if Outcome.UNDECIDED in found else Outcome.HOLDS


def _against(interval: Interval, limit: float) -> Outcome:
    if interval.high <= limit:
        return Outcome.HOLDS
    return Outcome.BROKEN if interval.low > limit else Outcome.UNDECIDED
