"""Confidence intervals from one long, stationary, correlated run, cut into batches.

Means of batches that are much longer than the correlation are nearly independent.  Leave the warm-up out first
(:func:`analysis.warmup.mser5`).  Where replications are cheap, they are the safer way.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from analysis.pooled_requests import pooled_quantile_interval
from analysis.statistics import Interval, Series, Values, check_probability, finite_values, mean_interval
from latency_models.errors import check_count

_BATCHES = 20
_FINE_BATCHES = (512, 256, 128)
_JOINED = 4
"""Fine batches that make one batch: independence is judged with many batches, the interval made from fewer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchEstimate:
    """Confidence interval from one run, and whether its batches look independent."""

    interval: Interval
    batch_size: int
    """Observations of each batch."""
    lag1_correlation: float
    """Correlation of neighbouring batches; 0 if they are all equal."""
    independent: bool
    """Whether that correlation is within two standard errors of zero (2 / sqrt(batches)).  If not, the interval is too
    narrow: take fewer batches or a longer run."""


def batch_means(values: Series, *, batches: int | None = None, confidence: float = 0.95) -> BatchEstimate:
    """Confidence interval of the mean of one stationary, correlated series.

    The series is cut into consecutive batches of equal size; the first values are left out if it does not divide.

    Parameters
    ----------
    values : sequence of float
        Observations in order, without the warm-up; at least two for each batch.
    batches : int, optional
        Number of batches.  By default 128, 64 or 32, the largest for which batches of a quarter of the size have means
        whose lag-1 correlation is within one standard error of zero; 20 if none has (Law and Carson's idea: judge
        independence with many batches, then join them, since few batches cannot show a correlation).
    confidence : float
        Between 0 and 1.

    References
    ----------
    A. M. Law, J. S. Carson, "A sequential procedure for determining the length of a steady-state simulation",
    Operations Research 27 (1979); A. M. Law, "Simulation Modeling and Analysis", 5th edition, McGraw-Hill 2015,
    section 9.5.3; B. Schmeiser, "Batch size effects in the analysis of simulation output", Operations Research 30
    (1982): 10 to 30 batches suffice.
    """
    data = _enough(values, _BATCHES if batches is None else batches)
    rows = _cut(data, _automatic(data) if batches is None else batches)
    means = rows.mean(axis=1)
    return _estimate(mean_interval(means, confidence=confidence), rows, means)


def batch_quantile(
    values: Series, quantile: float, *, batches: int = _BATCHES, confidence: float = 0.95
) -> BatchEstimate:
    """Confidence interval of a quantile of one stationary, correlated series.

    Batches stand for replications in :func:`analysis.pooled_requests.pooled_quantile_interval`: the estimate is the
    quantile of the whole series, which has less bias than quantiles of batches, and the interval comes from the shares
    of each batch beyond it.

    Parameters
    ----------
    values : sequence of float
        Observations in order, without the warm-up; at least two for each batch.
    quantile : float
        Between 0 and 1, exclusive: 0.95 for P95.
    batches : int
        Number of batches.
    confidence : float
        Between 0 and 1.
    """
    check_probability("quantile", quantile)
    rows = _cut(_enough(values, batches), batches)
    interval = pooled_quantile_interval(list(rows), quantile, confidence=confidence)
    return _estimate(interval, rows, (rows > interval.estimate).mean(axis=1))


def _enough(values: Series, batches: int) -> Values:
    return finite_values("values", values, at_least=2 * check_count("batches", batches, minimum=2))


def _cut(data: Values, batches: int) -> Values:
    """Batches as rows, from the end of the series."""
    size = len(data) // batches
    return data[len(data) - size * batches :].reshape(batches, size)


def _automatic(data: Values) -> int:
    for fine in _FINE_BATCHES:
        if len(data) >= 2 * fine and _lag1(_cut(data, fine).mean(axis=1)) <= 1 / math.sqrt(fine):
            return fine // _JOINED
    return _BATCHES


def _estimate(interval: Interval, rows: Values, means: Values) -> BatchEstimate:
    correlation = _lag1(means)
    return BatchEstimate(
        interval=interval,
        batch_size=rows.shape[1],
        lag1_correlation=correlation,
        independent=abs(correlation) <= 2 / math.sqrt(len(means)),
    )


def _lag1(means: Values) -> float:
    centred = means - means.mean()
    spread = float(centred @ centred)
    return float(centred[1:] @ centred[:-1]) / spread if spread > 0 else 0.0
