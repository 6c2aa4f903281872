"""Warm-up: where it ends in a series, in a run, and in several replications that are cut alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from analysis.statistics import Interval, Series, finite_values, mean_interval
from latency_models.errors import invalid
from sim.results import SimulationResult

_MIN_VALUES = 20


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
    data = finite_values("values", values, at_least=_MIN_VALUES)
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
class Warmup:
    """Where the warm-up of a run ends."""

    warmup_s: float
    """Arrival time of the first request to keep; 0 if there is nothing to leave out."""
    found: bool
    """False if the run was still drifting halfway through or has too few requests to tell; ``warmup_s`` is 0 then."""


def detect_warmup(result: SimulationResult) -> Warmup:
    """Find the end of the warm-up by MSER-5 on the times to first token, in order of arrival.

    The time to first token follows the backlog more closely than the end-to-end latency, whose variation comes from
    output lengths.  Requests that never got a token are left out of the series.
    """
    ttft_s = result.requests.first_token_s - result.requests.arrival_s
    rows = np.flatnonzero(~np.isnan(ttft_s))
    if len(rows) < _MIN_VALUES:
        return Warmup(warmup_s=0.0, found=False)
    cut = mser5(ttft_s[rows])
    if not cut.found or cut.index == 0:
        return Warmup(warmup_s=0.0, found=cut.found)
    return Warmup(warmup_s=float(result.requests.arrival_s[rows[cut.index]]), found=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Deletion:
    """Steady-state mean by replication and deletion."""

    interval: Interval
    """Over the replications, of the mean of what is kept."""
    index: int
    """First observation kept in every replication."""
    found: bool
    """Whether the end of the warm-up was found.  If not, half of the shortest series is left out and the mean may still
    be biased: make the replications longer."""


def replication_deletion(series: Sequence[Series], *, confidence: float = 0.95) -> Deletion:
    """Steady-state mean from replications that all start alike, without their common warm-up.

    Averaging over replications first shows the transient without most of the noise (Welch's idea); MSER-5 then finds
    one cut for all, and the means of what is left are independent.

    Parameters
    ----------
    series : sequence of sequences of float
        One series for each replication, at least two; the k-th value of each at a comparable time, e.g. the time to
        first token of the k-th arrival.  Lengths may differ; the shortest has at least 20 values.
    confidence : float
        Between 0 and 1.

    References
    ----------
    A. M. Law, "Simulation Modeling and Analysis", 5th edition, McGraw-Hill 2015, sections 9.5.1 and 9.5.2.
    """
    if len(series) < 2:
        raise invalid("number of replications", len(series), "at least 2")
    data = [finite_values("values of a replication", values, at_least=_MIN_VALUES) for values in series]
    common = min(len(values) for values in data)
    cut = mser5(np.mean([values[:common] for values in data], axis=0))
    means = [float(values[cut.index :].mean()) for values in data]
    return Deletion(interval=mean_interval(means, confidence=confidence), index=cut.index, found=cut.found)
