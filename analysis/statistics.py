"""Confidence intervals from independent values: means, quantiles, proportions, ratios, and anything by bootstrap.

Replications are independent, so Student's t applies to their means.  Requests of one run are not: take one value of
each replication, all requests together (:mod:`analysis.pooled_requests`), or batches of one long run
(:mod:`analysis.long_run`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from latency_models.errors import InputError, check_count, invalid

Values = NDArray[np.float64]
Series = Sequence[float] | Values


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
        """Half the width of the interval; infinite if a side is open, NaN around an infinite estimate."""
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

    check_probability("probability", probability)
    return float(stdtrit(check_count("degrees", degrees), probability))


def mean_interval(values: Series, *, confidence: float = 0.95) -> Interval:
    """Confidence interval of a mean of independent values, one of each replication, by Student's t.

    Values that are all equal, as without randomness, give an interval of no width.

    Raises
    ------
    InputError
        If there are fewer than two values, one is not finite, or the confidence is not between 0 and 1.
    """
    data = finite_values("values", values, at_least=2)
    check_probability("confidence", confidence)
    if data.min() == data.max():  # exactly, without the rounding of a sum
        mean, half = float(data[0]), 0.0
    else:
        mean = float(data.mean())
        half = student_t_quantile((1 + confidence) / 2, len(data) - 1) * float(data.std(ddof=1)) / math.sqrt(len(data))
    return Interval(estimate=mean, low=mean - half, high=mean + half, confidence=confidence, count=len(data))


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

    data = np.sort(finite_values("values", values, at_least=2))
    check_probability("quantile", quantile)
    check_probability("confidence", confidence)
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


def proportion_interval(successes: int, trials: int, *, confidence: float = 0.95) -> Interval:
    """Clopper-Pearson interval of a probability, from independent trials.

    It covers at least as often as it says, for any number of trials and also where all or none succeed.  For requests,
    which are not independent within a replication, see :func:`analysis.pooled_requests.share_interval`.

    Parameters
    ----------
    successes : int
        Trials that succeeded, for example replications in which an SLO was kept.
    trials : int
        All of them, at least one.
    confidence : float
        Between 0 and 1.

    References
    ----------
    C. J. Clopper, E. S. Pearson, "The use of confidence or fiducial limits illustrated in the case of the binomial",
    Biometrika 26 (1934).
    """
    from scipy.special import betaincinv

    check_count("trials", trials)
    if check_count("successes", successes, minimum=0) > trials:
        raise invalid("successes", successes, f"at most the {trials} trials")
    check_probability("confidence", confidence)
    tail = (1 - confidence) / 2
    return Interval(
        estimate=successes / trials,
        low=float(betaincinv(successes, trials - successes + 1, tail)) if successes > 0 else 0.0,
        high=float(betaincinv(successes + 1, trials - successes, 1 - tail)) if successes < trials else 1.0,
        confidence=confidence,
        count=int(trials),
    )


def ratio_interval(numerators: Series, denominators: Series, *, confidence: float = 0.95) -> Interval:
    """Fieller's interval of a ratio of two means, from pairs of values of independent replications.

    It holds every ratio r for which the mean of ``numerator - r * denominator`` is not told from zero by Student's t.
    Where the mean denominator itself is not told from zero, any ratio is possible and the interval is open on both
    sides.

    Parameters
    ----------
    numerators, denominators : sequence of float
        One value for each replication, paired; at least two, and denominators that are not zero on average.
    confidence : float
        Between 0 and 1.

    References
    ----------
    E. C. Fieller, "Some problems in interval estimation", Journal of the Royal Statistical Society B 16 (1954).
    """
    upper = finite_values("numerators", numerators, at_least=2)
    lower = finite_values("denominators", denominators, at_least=2)
    check_paired("numerators", upper, "denominators", lower)
    check_probability("confidence", confidence)
    mean = float(lower.mean())
    if mean == 0:
        raise invalid("mean of denominators", mean, "a mean other than zero")
    ratio = float(upper.mean()) / mean
    rest = upper - ratio * lower  # with zero mean, so that nothing below cancels
    squared_t = student_t_quantile((1 + confidence) / 2, len(lower) - 1) ** 2 / len(lower)
    leading = mean * mean - squared_t * float(lower.var(ddof=1))
    if leading <= 0:
        low, high = -math.inf, math.inf
    else:
        shared = squared_t * float(rest @ (lower - mean)) / (len(lower) - 1)
        root = math.sqrt(shared**2 + leading * squared_t * float(rest.var(ddof=1)))
        low, high = ratio + (-shared - root) / leading, ratio + (-shared + root) / leading
    return Interval(estimate=ratio, low=low, high=high, confidence=confidence, count=len(lower))


def bootstrap_interval(
    statistic: Callable[..., float],
    *columns: Series,
    rng: np.random.Generator,
    confidence: float = 0.95,
    resamples: int = 2000,
) -> Interval:
    """Bootstrap interval (bias-corrected and accelerated) of any statistic of independent replications.

    Only for what has no interval of its own above: it assumes no distribution but needs more replications, and covers
    less often than it says with few.

    Parameters
    ----------
    statistic : callable
        ``statistic(*columns)`` as a finite number, for columns of any replications, drawn with repetition.
    *columns : sequence of float
        One value for each replication, in each column; at least eight.
    rng : numpy.random.Generator
        Draws the replications: the same generator state gives the same interval.
    confidence : float
        Between 0 and 1.
    resamples : int
        Number of draws, at least 100.

    Raises
    ------
    InputError
        If columns differ in length, are too short or not finite, or the statistic of a draw is not finite.

    References
    ----------
    B. Efron, R. J. Tibshirani, "An Introduction to the Bootstrap", Chapman & Hall 1993, section 14.3.
    """
    from scipy.stats import bootstrap

    if not columns:
        raise InputError("bootstrap_interval needs at least one column of values")
    data = [finite_values("replications", column, at_least=8) for column in columns]
    for column in data[1:]:
        check_paired("the first column", data[0], "another", column)
    check_probability("confidence", confidence)
    check_count("resamples", resamples, minimum=100)

    def checked(*drawn: Values) -> float:
        value = float(statistic(*drawn))
        if not math.isfinite(value):
            raise invalid("statistic of a bootstrap sample", value, "a finite number", "Take more replications")
        return value

    count = len(data[0])
    estimate = checked(*data)
    without = [checked(*(np.delete(column, index) for column in data)) for index in range(count)]
    if max(without) == min(without):  # nothing to accelerate by: no replication matters
        return Interval(estimate=estimate, low=estimate, high=estimate, confidence=confidence, count=count)
    found = bootstrap(
        data,
        checked,
        paired=True,
        vectorized=False,
        n_resamples=resamples,
        confidence_level=confidence,
        method="BCa",
        random_state=rng,
    ).confidence_interval
    return Interval(estimate=estimate, low=float(found.low), high=float(found.high), confidence=confidence, count=count)


def finite_values(field: str, values: Series, *, at_least: int) -> Values:
    """Return values as one-dimensional floats; :class:`InputError` if there are too few or one is not finite."""
    data = np.asarray(values, dtype=np.float64)
    if data.ndim != 1 or len(data) < at_least:
        raise invalid(f"number of {field}", data.size, f"at least {at_least}", "Take more replications or a longer run")
    wrong = data[~np.isfinite(data)]
    if len(wrong):
        raise invalid(field, float(wrong[0]), "finite numbers")
    return data


def check_paired(first: str, first_values: Values, second: str, second_values: Values) -> None:
    """Raise :class:`InputError` if two columns do not have one value for each replication, both."""
    if len(first_values) != len(second_values):
        raise InputError(
            f"{first} has {len(first_values)} replications and {second} has {len(second_values)}; "
            "pairs of values need as many"
        )


def check_probability(field: str, value: float) -> None:
    """Raise :class:`InputError` unless ``value`` is between 0 and 1, exclusive."""
    if not 0 < value < 1:
        raise invalid(field, value, "a number between 0 and 1, exclusive")
