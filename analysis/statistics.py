"""Statistics of simulation output: confidence intervals, warm-up, comparisons, quantiles.

Replications are independent, so Student's t applies to their means.  Observations within one run are not: group them
into batches first (:func:`batch_means`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from latency_models.errors import InputError, check_count, invalid

Series = Sequence[float] | NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """An estimate and its two-sided confidence interval, in the unit of the data."""

    estimate: float
    low: float
    high: float
    confidence: float
    count: int
    """Independent observations (replications or batches) behind it."""

    @property
    def half_width(self) -> float:
        """Half the width of the interval."""
        return (self.high - self.low) / 2

    def contains(self, value: float) -> bool:
        """Whether the interval covers ``value``."""
        return self.low <= value <= self.high


def student_t_quantile(probability: float, degrees: int) -> float:
    """Quantile of Student's t distribution.

    Parameters
    ----------
    probability : float
        Between 0 and 1, exclusive.
    degrees : int
        Degrees of freedom, at least 1.
    """
    from scipy.special import stdtrit

    _check_share("probability", probability)
    return float(stdtrit(check_count("degrees", degrees), probability))


def mean_interval(values: Series, *, confidence: float = 0.95) -> Interval:
    """Confidence interval of a mean of independent values, one of each replication, by Student's t.

    Raises
    ------
    InputError
        If there are fewer than two values, one is not finite, or the confidence is not between 0 and 1.
    """
    data = _finite("values", values, at_least=2)
    _check_share("confidence", confidence)
    half = student_t_quantile((1 + confidence) / 2, len(data) - 1) * float(data.std(ddof=1)) / math.sqrt(len(data))
    mean = float(data.mean())
    return Interval(estimate=mean, low=mean - half, high=mean + half, confidence=confidence, count=len(data))


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchMeans:
    """Confidence interval from one run, and whether its batches look independent."""

    interval: Interval
    batch_size: int
    """Observations of each batch."""
    lag1_correlation: float
    """Correlation of neighbouring batch means; 0 if they are all equal."""
    independent: bool
    """Whether that correlation is within two standard errors of zero (2 / sqrt(batches)).  If not, the interval is too
    narrow: take fewer batches or a longer run."""


def batch_means(values: Series, *, batches: int = 20, confidence: float = 0.95) -> BatchMeans:
    """Confidence interval of the mean of one stationary, correlated series.

    The series is cut into consecutive batches of equal size (the first values are left out if it does not divide),
    whose means are nearly independent if batches are much longer than the correlation.

    Parameters
    ----------
    values : sequence of float
        Observations in order, without the warm-up; at least two for each batch.
    batches : int
        Number of batches; 10 to 30 is customary (Schmeiser, "Batch size effects in the analysis of simulation output",
        Operations Research 30, 1982).
    confidence : float
        Between 0 and 1.
    """
    check_count("batches", batches, minimum=2)
    data = _finite("values", values, at_least=2 * batches)
    size = len(data) // batches
    means = data[len(data) - size * batches :].reshape(batches, size).mean(axis=1)
    centred = means - means.mean()
    spread = float(centred @ centred)
    correlation = float(centred[1:] @ centred[:-1]) / spread if spread > 0 else 0.0
    return BatchMeans(
        interval=mean_interval(means, confidence=confidence),
        batch_size=size,
        lag1_correlation=correlation,
        independent=abs(correlation) <= 2 / math.sqrt(batches),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Truncation:
    """Where the warm-up of a series ends."""

    index: int
    """First observation to keep."""
    found: bool
    """Whether the rule found an end.  If not, the series was still drifting halfway through: it is too short."""
    statistic: float
    """MSER statistic of what is kept: its squared standard error if observations were independent."""


def mser5(values: Series) -> Truncation:
    """Detect the end of the warm-up of a series by MSER-5.

    Observations are averaged in groups of five: z_1 .. z_n.  Dropping the first d groups leaves the statistic

        MSER(d) = sum over i > d of (z_i - mean of z_(d+1) .. z_n)**2 / (n - d)**2,

    which falls while dropping removes bias and rises once it only removes data.  The warm-up ends at the smallest
    d in the first half of the series (d <= n / 2) that minimises it; a minimum at the border of the half is no
    minimum, and the warm-up's end was not found.

    References
    ----------
    K. P. White, "An effective truncation heuristic for bias reduction in simulation output", Simulation 69 (1997);
    K. P. White, M. J. Cobb, S. C. Spratt, "A comparison of five steady-state truncation heuristics for simulation",
    Winter Simulation Conference 2000.

    Raises
    ------
    InputError
        If there are fewer than 20 values or one is not finite.
    """
    data = _finite("values", values, at_least=20)
    groups = len(data) // 5
    z = data[: groups * 5].reshape(groups, 5).mean(axis=1)
    z = z - z.mean()  # so that the sums of squares below lose no digits
    kept = np.arange(groups, 0, -1.0)
    sums = np.cumsum(z[::-1])[::-1]
    squares = np.cumsum((z * z)[::-1])[::-1]
    statistic = np.maximum(squares - sums * sums / kept, 0.0) / kept**2
    last = groups // 2
    best = int(np.argmin(statistic[: last + 1]))
    return Truncation(index=best * 5, found=best < last, statistic=float(statistic[best]))


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedDifference:
    """Comparison of two systems that were given the same random numbers."""

    interval: Interval
    """Of the mean of b - a."""
    correlation: float
    """Between the two; common random numbers help as far as it is positive."""
    variance_ratio: float
    """Variance of the difference over that with independent random numbers: below 1 if pairing helped; NaN if neither
    system varies."""

    @property
    def significant(self) -> bool:
        """Whether the interval excludes zero."""
        return not self.interval.contains(0.0)


def paired_difference(a: Series, b: Series, *, confidence: float = 0.95) -> PairedDifference:
    """Difference b - a of two systems, replication by replication (paired Student's t).

    Parameters
    ----------
    a, b : sequence of float
        One value for each replication, equal replications having had common random numbers.
    confidence : float
        Between 0 and 1.
    """
    first, second = _finite("a", a, at_least=2), _finite("b", b, at_least=2)
    if len(first) != len(second):
        raise InputError(f"a has {len(first)} replications and b has {len(second)}; a paired comparison needs as many")
    difference = second - first
    apart = float(first.var(ddof=1) + second.var(ddof=1))
    scale = float(first.std() * second.std())
    covariance = float(((first - first.mean()) * (second - second.mean())).mean())
    return PairedDifference(
        interval=mean_interval(difference, confidence=confidence),
        correlation=covariance / scale if scale > 0 else 0.0,
        variance_ratio=float(difference.var(ddof=1)) / apart if apart > 0 else math.nan,
    )


def quantile_interval(values: Series, quantile: float, *, confidence: float = 0.95) -> Interval:
    """Distribution-free confidence interval of a quantile, from order statistics of independent values.

    The number of values below the quantile is binomial, so the quantile lies between the l-th and the u-th smallest
    value with probability P(l <= Binomial(n, quantile) < u).  Ranks are chosen so that each tail has at most half of
    1 - confidence (W. J. Conover, "Practical Nonparametric Statistics", section 3.2).  Where too few values lie on a
    side, the interval is open there: minus or plus infinity.

    Parameters
    ----------
    values : sequence of float
        Independent observations, at least two.
    quantile : float
        Between 0 and 1, exclusive: 0.99 for P99.
    confidence : float
        Between 0 and 1.
    """
    from scipy.special import bdtr

    data = np.sort(_finite("values", values, at_least=2))
    _check_share("quantile", quantile)
    _check_share("confidence", confidence)
    tail = (1 - confidence) / 2
    # bdtr(k, n, p) is P(Binomial <= k), rising in k.
    at_most = bdtr(np.arange(len(data) + 1, dtype=np.float64), len(data), quantile)
    lower = int(np.searchsorted(at_most, tail, side="right"))  # P(Binomial < lower) <= tail
    upper = int(np.searchsorted(at_most, 1 - tail, side="left")) + 1  # P(Binomial >= upper) <= tail
    return Interval(
        estimate=float(np.quantile(data, quantile)),
        low=float(data[lower - 1]) if lower >= 1 else -math.inf,
        high=float(data[upper - 1]) if upper <= len(data) else math.inf,
        confidence=confidence,
        count=len(data),
    )


def _finite(field: str, values: Series, *, at_least: int) -> NDArray[np.float64]:
    data = np.asarray(values, dtype=np.float64)
    if data.ndim != 1 or len(data) < at_least:
        raise invalid(f"number of {field}", data.size, f"at least {at_least}", "Take more replications or a longer run")
    wrong = data[~np.isfinite(data)]
    if len(wrong):
        raise invalid(field, float(wrong[0]), "finite numbers")
    return data


def _check_share(field: str, value: float) -> None:
    if not 0 < value < 1:
        raise invalid(field, value, "a number between 0 and 1, exclusive")
