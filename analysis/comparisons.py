"""Comparison of systems that were given the same random numbers, replication by replication.

The differences of pairs are independent whatever the correlation within a pair, so Student's t applies to them; common
random numbers make them small [Law 2015, sections 10.2.1 and 11.2].  Several comparisons at once are corrected for
their number: intervals by Bonferroni hold all together with the stated confidence, and tests by Holm reject a true
equality, any at all, with probability at most 1 - confidence.  Holm's tests are the sharper: a difference can be
significant whose interval still touches zero.

References
----------
A. M. Law, "Simulation Modeling and Analysis", 5th edition, McGraw-Hill 2015, sections 10.2, 10.3 and 11.2.
S. Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 6 (1979).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from analysis.statistics import (
    Interval,
    Series,
    check_paired,
    check_probability,
    finite_values,
    mean_interval,
)
from latency_models.errors import InputError, unknown_name


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedDifference:
    """Comparison of two systems that were given the same random numbers."""

    interval: Interval
    """Of the mean of b - a."""
    p_value: float
    """Probability of a difference as large, either way, between systems that are equal; 0 if every replication shows
    the same difference, 1 if none shows any."""
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
        One value for each replication, equal replications having had common random numbers; at least two.
    confidence : float
        Between 0 and 1.
    """
    from scipy.special import stdtr

    first, second = finite_values("a", a, at_least=2), finite_values("b", b, at_least=2)
    check_paired("a", first, "b", second)
    difference = second - first
    interval = mean_interval(difference, confidence=confidence)
    error = float(difference.std(ddof=1)) / math.sqrt(len(difference))
    apart = float(first.var(ddof=1) + second.var(ddof=1))
    scale = float(first.std() * second.std())
    covariance = float(((first - first.mean()) * (second - second.mean())).mean())
    return PairedDifference(
        interval=interval,
        p_value=2 * float(stdtr(len(difference) - 1, -abs(interval.estimate) / error))
        if error > 0
        else float(interval.estimate == 0),
        correlation=covariance / scale if scale > 0 else 0.0,
        variance_ratio=float(difference.var(ddof=1)) / apart if apart > 0 else math.nan,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One of several comparisons."""

    base: str
    other: str
    difference: PairedDifference
    """Of ``other`` - ``base``; its interval holds together with those of all other comparisons (Bonferroni), its
    p-value is that of this comparison alone."""
    adjusted_p_value: float
    """Holm's p-value: smallest error rate over all comparisons together at which this one is significant."""
    significant: bool
    """Whether the two differ, by Holm's test."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparisons:
    """Several comparisons that hold together with the stated confidence."""

    pairs: tuple[Comparison, ...]
    confidence: float


def compare_with(values: Mapping[str, Series], reference: str, *, confidence: float = 0.95) -> Comparisons:
    """Compare every system with a reference.

    Parameters
    ----------
    values : mapping of str to sequence of float
        One value for each replication of each system, replications paired by common random numbers; at least two
        systems.
    reference : str
        One of their names.
    confidence : float
        Of all comparisons together, between 0 and 1.
    """
    if reference not in values:
        raise unknown_name("reference", reference, values)
    return _compare(values, [(reference, name) for name in values if name != reference], confidence)


def compare_pairs(values: Mapping[str, Series], *, confidence: float = 0.95) -> Comparisons:
    """Compare every system with every other: k (k - 1) / 2 comparisons of k systems.

    Parameters
    ----------
    values : mapping of str to sequence of float
        As for :func:`compare_with`.
    confidence : float
        Of all comparisons together, between 0 and 1.
    """
    return _compare(values, list(itertools.combinations(values, 2)), confidence)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values, in the order given.

    Parameters
    ----------
    p_values : sequence of float
        Of single tests, dependent in any way.
    """
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(np.argsort(p_values, kind="stable").tolist()):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def _compare(values: Mapping[str, Series], pairs: list[tuple[str, str]], confidence: float) -> Comparisons:
    if not pairs:
        raise InputError("a comparison needs at least two systems")
    check_probability("confidence", confidence)
    columns = {name: finite_values(f"values of {name}", column, at_least=2) for name, column in values.items()}
    for name, column in columns.items():
        check_paired(f"values of {pairs[0][0]}", columns[pairs[0][0]], f"values of {name}", column)
    each = 1 - (1 - confidence) / len(pairs)
    found = [paired_difference(columns[base], columns[other], confidence=each) for base, other in pairs]
    adjusted = holm([difference.p_value for difference in found])
    return Comparisons(
        pairs=tuple(
            Comparison(
                base=base, other=other, difference=difference, adjusted_p_value=p, significant=p <= 1 - confidence
            )
            for (base, other), difference, p in zip(pairs, found, adjusted, strict=True)
        ),
        confidence=confidence,
    )
