"""Load-latency curves: what a model answers at which offered load, from a simulation or from measurements.

A curve belongs to one configuration (model, tensor-parallel degree, compute share, replicas).  Between its loads it is
linear; outside of them it says nothing.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from latency_models.errors import check_count, check_finite, invalid, unknown_name

_ROUNDING = 1e-9
"""Relative violation of convexity up to which a curve counts as convex."""

Bounds = tuple[float, float]
"""Low and high end of a confidence interval."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """What a curve is of."""

    model: str
    tp: int = 1
    """GPUs of each replica (tensor parallel)."""
    compute_share: float = 1.0
    """Share of each GPU's compute units, 0 < share <= 1."""
    replicas: int = 1

    def __post_init__(self) -> None:
        if not isinstance(self.model, str) or not self.model:
            raise invalid("model", self.model, "a name")
        check_count("tp", self.tp)
        check_count("replicas", self.replicas)
        if check_finite("compute_share", self.compute_share, exclusive=True) > 1:
            raise invalid("compute_share", self.compute_share, "a share of the GPU, 0 < share <= 1, not per cent")

    def __str__(self) -> str:
        return f"{self.model} tp {self.tp}, share {self.compute_share:g}, replicas {self.replicas}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Convexity:
    """Whether y * l(rate * y) is convex in y, at the loads of a curve.

    That function is what a share y of the traffic contributes to the mean latency; a plan whose contributions are all
    convex is a convex problem.
    """

    worst_violation: float
    """By how much it lies above the chord of its neighbours at the worst load, relative to itself; 0 if convex."""
    at_rate_per_s: float | None
    """That load; ``None`` if convex."""
    significant: bool
    """Whether the violation remains when every value moves to the end of its confidence interval that makes it smaller;
    without intervals, whether there is one."""

    @property
    def convex(self) -> bool:
        """Whether there is no violation."""
        return self.worst_violation == 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadLatencyCurve:
    """Statistics of one configuration over offered load.

    Parameters
    ----------
    configuration : Configuration
        What it is of.
    rates_per_s : tuple of float, length n
        Offered loads in requests/s, ascending, of all replicas together.  0 is the limit in which each request is
        alone.
    statistics : mapping of str to tuple of float, length n
        Values at those loads: ``ttft_mean_s``, ``tpot_p95_s``, ``e2e_p99_s``, ``utilisation``, ...
    intervals : mapping of str to tuple of (low, high), length n
        Confidence intervals of some or all of the statistics.
    stability_per_s : tuple of float, optional
        Interval of the stability limit: the backlog does not grow at the first load and grows at the second.
    provenance : mapping
        Where it comes from, as plain values.

    Raises
    ------
    InputError
        If loads do not ascend, lengths differ, or a value is negative or not finite.
    """

    configuration: Configuration
    rates_per_s: tuple[float, ...]
    statistics: Mapping[str, tuple[float, ...]]
    intervals: Mapping[str, tuple[Bounds, ...]] = field(default_factory=dict)
    stability_per_s: Bounds | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        where = f"curve of {self.configuration}"
        for rate in self.rates_per_s:
            check_finite(f"{where}: rate_per_s", rate)
        if not self.rates_per_s or any(b <= a for a, b in zip(self.rates_per_s, self.rates_per_s[1:], strict=False)):
            raise invalid(f"{where}: rates_per_s", list(self.rates_per_s), "rates, each above the one before")
        if not self.statistics:
            raise invalid(f"{where}: statistics", {}, "at least one, such as ttft_mean_s")
        for name, values in self.statistics.items():
            self._check_length(f"{where}: {name}", values)
            for value in values:
                check_finite(f"{where}: {name}", value, exclusive=is_latency(name))
        for name, bounds in self.intervals.items():
            if name not in self.statistics:
                raise unknown_name(f"statistic with intervals ({where})", name, self.statistics)
            self._check_length(f"{where}: intervals of {name}", bounds)
            for low, high in bounds:
                if not (math.isfinite(low) and math.isfinite(high) and low <= high):
                    raise invalid(f"{where}: interval of {name}", [low, high], "two finite numbers, low <= high")
        if self.stability_per_s is not None:
            low, high = self.stability_per_s
            check_finite(f"{where}: stability_per_s", low)
            if check_finite(f"{where}: stability_per_s", high) < low:
                raise invalid(f"{where}: stability_per_s", [low, high], "low <= high")

    def _check_length(self, what: str, values: tuple[Any, ...]) -> None:
        if len(values) != len(self.rates_per_s):
            raise invalid(f"number of values of {what}", len(values), f"{len(self.rates_per_s)}, one per rate")

    @property
    def highest_rate_per_s(self) -> float:
        """Load up to which the curve can be asked: the last one measured, if the system is known to be stable there."""
        last = self.rates_per_s[-1]
        return last if self.stability_per_s is None else min(last, self.stability_per_s[0])

    def at(self, rate_per_s: float, statistic: str) -> float:
        """Value of a statistic at a load, linear between the loads of the curve.

        Raises
        ------
        InputError
            If the load is outside of what was measured or beyond the stability limit, or the statistic is unknown.
        """
        values = self._values(statistic)
        check_finite("rate_per_s", rate_per_s)
        if not self.rates_per_s[0] <= rate_per_s <= self.highest_rate_per_s:
            raise invalid(
                f"rate_per_s for {self.configuration}",
                rate_per_s,
                f"{self.rates_per_s[0]:g} to {self.highest_rate_per_s:g}, the loads of its curve",
                "Measure the curve there, or lower the load.",
            )
        right = bisect_right(self.rates_per_s, rate_per_s)
        if right == len(values):
            return values[-1]
        left_rate, right_rate = self.rates_per_s[right - 1], self.rates_per_s[right]
        share = (rate_per_s - left_rate) / (right_rate - left_rate)
        return values[right - 1] + share * (values[right] - values[right - 1])

    def at_or_infinity(self, rate_per_s: float, statistic: str) -> float:
        """As :meth:`at`, but infinity above the highest load: for planners, to whom such a load is infeasible."""
        self._values(statistic)
        if check_finite("rate_per_s", rate_per_s) > self.highest_rate_per_s:
            return math.inf
        return self.at(rate_per_s, statistic)

    def convexity(self, statistic: str) -> Convexity:
        """Test whether h(y) = y * l(rate * y) is convex in y at the loads of the curve.

        In terms of the load r = rate * y, h is r * l(r) up to a constant factor.  It is convex on the grid if no point
        lies above the chord of its two neighbours.
        """
        values = self._values(statistic)
        bounds = self.intervals.get(statistic, tuple((value, value) for value in values))
        rates = self.rates_per_s
        worst, worst_at, significant = 0.0, None, False
        for i in range(1, len(rates) - 1):
            share = (rates[i] - rates[i - 1]) / (rates[i + 1] - rates[i - 1])
            here = rates[i] * values[i]
            excess = here - _mix(share, rates[i - 1] * values[i - 1], rates[i + 1] * values[i + 1])
            if here <= 0.0 or excess / here <= _ROUNDING:
                continue
            chord = _mix(share, rates[i - 1] * bounds[i - 1][1], rates[i + 1] * bounds[i + 1][1])
            significant |= rates[i] * bounds[i][0] > chord
            if excess / here > worst:
                worst, worst_at = excess / here, rates[i]
        return Convexity(worst_violation=worst, at_rate_per_s=worst_at, significant=significant)

    def _values(self, statistic: str) -> tuple[float, ...]:
        if statistic not in self.statistics:
            raise unknown_name(f"statistic of {self.configuration}", statistic, self.statistics)
        return self.statistics[statistic]


def is_latency(statistic: str) -> bool:
    """Whether a statistic is a time in seconds: ``ttft_mean_s`` is, ``requests_per_s`` is not."""
    return statistic.endswith("_s") and not statistic.endswith("_per_s")


def _mix(share: float, left: float, right: float) -> float:
    return (1.0 - share) * left + share * right
