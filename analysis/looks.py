"""Sequential stopping: when to look at growing replications, and what each look may claim.

Whoever looks again and again and stops when the figures please finds what is not there.  So looks are planned, at
doubling numbers of replications, and each spends a part of the permitted error: look k spends
(1 - confidence) / (k (k + 1)), which adds up to 1 - confidence over all looks, however many.  Whatever is said at any
look, and whenever one stops, all intervals together hold with the stated confidence (Bonferroni's inequality; the means
must be nearly normal, as for any Student's t interval).

References
----------
K. K. G. Lan, D. L. DeMets, "Discrete sequential boundaries for clinical trials", Biometrika 70 (1983), for spending;
S. R. Howard, A. Ramdas, J. McAuliffe, J. Sekhon, "Time-uniform, nonparametric, nonasymptotic confidence sequences",
Annals of Statistics 49 (2021), section 3.1, for the union over geometrically growing epochs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from analysis.statistics import Interval, Series, check_probability, finite_values, mean_interval, student_t_quantile
from latency_models.errors import check_count, check_finite, invalid

_MOST_TO_ESTIMATE = 1_000_000
"""Replications beyond which an estimate of how many would do says nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Looks:
    """At which numbers of replications one may look, and with what confidence each time.

    The looks do not depend on ``most``, so that going on later with a larger one keeps the guarantee.

    Raises
    ------
    InputError
        If ``first`` is below 2, ``most`` is below ``first``, or the confidence is not between 0 and 1.
    """

    first: int = 5
    """Replications before the first look.  With fewer than about five, Student's t asks for very clear outcomes."""
    most: int = 40
    """No look beyond this number."""
    confidence: float = 0.95
    """Probability that everything said at all looks together holds, for one statistic."""

    def __post_init__(self) -> None:
        check_count("first", self.first, minimum=2)
        check_count("most", self.most, minimum=2)
        if self.most < self.first:
            raise invalid("most replications", self.most, f"at least {self.first}, those before the first look")
        check_probability("confidence", self.confidence)

    @property
    def counts(self) -> tuple[int, ...]:
        """Numbers of replications at which to look: ``first``, doubled as long as it is at most ``most``."""
        doublings = (self.most // self.first).bit_length()
        return tuple(self.first << k for k in range(doublings))

    def confidence_at(self, count: int) -> float:
        """Confidence to ask of an interval or a verdict at the look after ``count`` replications.

        Raises
        ------
        InputError
            If ``count`` is not one of :attr:`counts`.
        """
        if count not in self.counts:
            raise invalid("replications at a look", count, f"one of {', '.join(map(str, self.counts))}")
        look = self.counts.index(count) + 1
        return 1 - (1 - self.confidence) / (look * (look + 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Precision:
    """How precisely a mean is known, against what was asked for."""

    interval: Interval
    relative: float
    """Half-width over the absolute estimate; infinite if that is zero and the values vary."""
    reached: bool
    """Whether the true mean is known within the target, relative to itself."""
    further: int | None
    """Estimated replications to add, if the mean and the spread stay; ``None`` if reached or not to be told."""


def relative_precision(values: Series, target: float, *, confidence: float = 0.95) -> Precision:
    """Whether replications suffice for a relative precision of their mean, or how many more it takes.

    The half-width may be at most target / (1 + target) of the estimate, which makes the error at most ``target`` of the
    true mean [Law 2015, section 9.4.1].

    Parameters
    ----------
    values : sequence of float
        One for each replication, at least two.
    target : float
        Relative error, e.g. 0.05.
    confidence : float
        Between 0 and 1; :meth:`Looks.confidence_at` when looking repeatedly.

    References
    ----------
    A. M. Law, "Simulation Modeling and Analysis", 5th edition, McGraw-Hill 2015.
    """
    allowed = check_finite("target", target, exclusive=True) / (1 + target)
    data = finite_values("values", values, at_least=2)
    interval = mean_interval(data, confidence=confidence)
    scale = abs(interval.estimate)
    reached = interval.half_width <= allowed * scale
    spread = float(data.std(ddof=1))
    return Precision(
        interval=interval,
        relative=interval.half_width / scale if scale > 0 else (math.inf if spread > 0 else 0.0),
        reached=reached,
        further=None
        if reached
        else further_replications(
            len(data), lambda count: expected_half_width(spread, count, confidence=confidence) <= allowed * scale
        ),
    )


def expected_half_width(spread: float, count: int, *, confidence: float) -> float:
    """Half-width of Student's t interval of a mean of ``count`` values of standard deviation ``spread``."""
    return student_t_quantile((1 + confidence) / 2, count - 1) * spread / math.sqrt(count)


def further_replications(count: int, suffices: Callable[[int], bool]) -> int | None:
    """Replications to add to ``count`` until ``suffices`` of their number; ``None`` if a million do not.

    Parameters
    ----------
    count : int
        Replications so far, which do not suffice.
    suffices : callable
        Whether a number of replications is enough; once true, true for every larger number.
    """
    low, high = count, count + 1
    while not suffices(high):
        low, high = high, 2 * high
        if high > _MOST_TO_ESTIMATE:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if suffices(middle) else (middle, high)
    return high - count
