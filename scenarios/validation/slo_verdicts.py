"""Whether one SLO holds, from the figures of several replications."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from analysis.pooled_requests import pooled_quantile_interval, share_interval
from analysis.statistics import Interval, ratio_interval
from analysis.verdicts import Outcome, Verdict, mean_verdict, overall_outcome, share_verdict
from latency_models.errors import InputError
from optimizer.problem import SloTarget
from scenarios.validation.measure import SloFigures


@dataclass(frozen=True, slots=True, kw_only=True)
class SloVerdict:
    """What can be said of one SLO."""

    target: SloTarget
    outcome: Outcome
    statistic_s: Interval
    """The limited statistic, over all requests of all replications together; infinite where it falls on requests that
    were never answered."""
    missed: Interval
    """Share of the requests that were slower than the target, or not answered."""
    unanswered: Interval
    """Share of the requests that were not answered."""
    tolerance: float | None
    """Greatest share of unanswered requests with which a mean can hold; ``None`` for a percentile."""
    further: int | None
    """Estimated replications to add until it is decided; ``None`` if it is, or if that is not to be told."""


def slo_verdict(target: SloTarget, figures: Sequence[SloFigures], *, confidence: float, tolerance: float) -> SloVerdict:
    """Judge one SLO.

    A percentile holds if no more than its share of all requests is late or unanswered.  A mean holds if the mean over
    all requests with a latency, and of those that waited in vain, keeps the target *and* no more than ``tolerance`` of
    the requests are unanswered: turning requests away makes the others fast.

    Parameters
    ----------
    target : SloTarget
        The SLO.
    figures : sequence of SloFigures
        One of each replication, at least two.
    confidence : float
        Of the verdict, between 0 and 1; :meth:`analysis.looks.Looks.confidence_at` when looking repeatedly.
    tolerance : float
        Between 0 and 1, exclusive.

    Raises
    ------
    InputError
        There is nothing to judge: no request, or none that has such a latency.
    """
    totals = [float(entry.requests) for entry in figures]
    if not sum(totals):
        raise InputError(f"{target}: cannot be judged, since no request that it is about was sent after the warm-up")
    unanswered = [float(entry.unanswered) for entry in figures]
    missed = [float(entry.missed) for entry in figures]
    is_mean = target.late_share is None
    if not any(entry.timed for entry in figures) and sum(unanswered) < sum(totals):
        raise InputError(
            f"{target}: cannot be judged, since no answer has more than one token; choose another metric, such as ttft"
        )
    parts = (
        [_mean(target, figures, confidence), share_verdict(unanswered, totals, tolerance, confidence=confidence)]
        if is_mean
        else [share_verdict(missed, totals, target.late_share or 0.0, confidence=confidence)]
    )
    outcome = overall_outcome(part.outcome for part in parts)
    open_parts = [part for part in parts if part.outcome is Outcome.UNDECIDED]
    furthers = [part.further for part in open_parts if part.further is not None]
    decidable = outcome is Outcome.UNDECIDED and len(furthers) == len(open_parts)
    return SloVerdict(
        target=target,
        outcome=outcome,
        statistic_s=parts[0].interval if is_mean else _percentile(target, figures, confidence),
        missed=share_interval(missed, totals, confidence=confidence),
        unanswered=share_interval(unanswered, totals, confidence=confidence),
        tolerance=tolerance if is_mean else None,
        further=max(furthers) if decidable else None,
    )


def _mean(target: SloTarget, figures: Sequence[SloFigures], confidence: float) -> Verdict:
    """The mean over all requests of all replications, which busy replications have more of.

    It is at most t just when the mean over replications of (sum of latencies - t * number) is at most 0: Fieller's
    test, which agrees with the interval of the ratio.
    """
    sums = np.array([entry.latency_sum_s for entry in figures])
    counts = np.array([float(entry.timed) for entry in figures])
    if not counts.any():
        endless = Interval(estimate=math.inf, low=math.inf, high=math.inf, confidence=confidence, count=len(figures))
        return Verdict(outcome=Outcome.BROKEN, limit=target.target_s, interval=endless, further=None)
    excess_s = (sums - target.target_s * counts) / counts.mean()
    found = mean_verdict(excess_s, 0.0, confidence=confidence)
    mean_s = ratio_interval(sums, counts, confidence=confidence)
    return Verdict(outcome=found.outcome, limit=target.target_s, interval=mean_s, further=found.further)


def _percentile(target: SloTarget, figures: Sequence[SloFigures], confidence: float) -> Interval:
    return pooled_quantile_interval(
        [entry.latencies_s for entry in figures], 1.0 - (target.late_share or 0.0), confidence=confidence
    )
