"""One curve, from the limit of no load to the stability limit, as a generator that asks for runs."""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping
from dataclasses import replace
from typing import Any

from analysis.statistics import mean_interval
from latency_models.curves.load_latency import LoadLatencyCurve
from latency_models.errors import InputError
from scenarios.profiles.configurations import ProfiledConfiguration
from scenarios.profiles.grid import FIRST_SHARES, next_rates
from scenarios.profiles.offered_load import Load, shortest_duration_s
from scenarios.profiles.schema import ProfileSection
from scenarios.profiles.stability import DOUBLINGS, Runs, StabilityLimit, find_limit

CurveStudy = Generator[list[Load], list[Runs], LoadLatencyCurve]
"""Yields loads to simulate, is sent the replications of each, and returns the curve."""

_LIMIT_REQUESTS = 2
"""Runs that narrow down the stability limit are at least so many times as long."""
LONGEST_LIMIT_RUNS = _LIMIT_REQUESTS * 2**DOUBLINGS
"""They are so many times as long at most."""
_REFINED = ("ttft_mean_s", "tpot_mean_s", "e2e_mean_s")
"""Statistics that the grid is adapted to."""


def study_curve(profiled: ProfiledConfiguration, profile: ProfileSection, provenance: Mapping[str, Any]) -> CurveStudy:
    """Measure one curve by simulation; see :data:`CurveStudy`."""
    where = profiled.configuration
    shortest_s = profile.min_duration_s
    if shortest_s is None:
        shortest_s = shortest_duration_s(profiled.scenario.workload)
    requests = profile.requests * where.replicas

    def load_at(rate_per_s: float, length: int = 1) -> Load:
        return Load(rate_per_s=rate_per_s, requests=max(length * requests, math.ceil(rate_per_s * shortest_s)))

    def long_load_at(rate_per_s: float, doublings: int) -> Load:
        load = load_at(rate_per_s, _LIMIT_REQUESTS)
        return replace(load, requests=load.requests * 2**doublings)

    (alone,) = yield [Load(rate_per_s=0.0, requests=profile.requests)]
    if "e2e_mean_s" not in alone[0].statistics:
        raise InputError(f"{where}: no request of the workload is served; is any of them short enough for the engine?")
    start_per_s = where.replicas / alone[0].statistics["e2e_mean_s"]
    limit = yield from find_limit(start_per_s, load_at, long_load_at)
    if limit.stable_per_s == 0:
        raise InputError(
            f"{where}: the runs are too short to show at any load that the backlog does not grow (it does at "
            f"{limit.growing_per_s:.4g} requests/s); raise profile.requests, which is {profile.requests}, to "
            f"{2**DOUBLINGS * profile.requests} or more, or profile.replications, which is {profile.replications}"
        )

    measured: dict[float, Runs] = {0.0: alone}
    beyond: list[float] = []
    if profile.rates == "auto":
        wanted = [share * limit.stable_per_s for share in FIRST_SHARES][: profile.points - 1]
    else:
        wanted = sorted(rate for rate in profile.rates if rate <= limit.stable_per_s)
        beyond = sorted(rate for rate in profile.rates if rate > limit.stable_per_s)
    while wanted:
        measured.update(zip(wanted, (yield [load_at(rate) for rate in wanted]), strict=True))
        wanted = []
        if profile.rates == "auto":
            rates = sorted(measured)
            curves = [_means(measured, name) for name in _REFINED if _present(measured, name)]
            wanted = next_rates(rates, curves, profile.points - len(rates))
    found = {
        "rates_beyond_limit_per_s": beyond,
        "limit_run_requests": limit.run_requests,
        "limit_wide": limit.wide,
        "limit_requests_needed": _requests_for(limit, where.replicas),
        "notes": list(profiled.notes),
    }
    return _curve(profiled, measured, (limit.stable_per_s, limit.growing_per_s), {**provenance, **found})


def _requests_for(limit: StabilityLimit, replicas: int) -> int:
    """Value of ``profile.requests`` that should make the interval of the limit narrow, to two digits."""
    needed = limit.lengthening * limit.run_requests / (LONGEST_LIMIT_RUNS * replicas)
    digits = 1 - math.floor(math.log10(needed))
    return int(round(needed, digits))


def _present(measured: Mapping[float, Runs], name: str) -> bool:
    return all(name in run.statistics for runs in measured.values() for run in runs)


def _means(measured: Mapping[float, Runs], name: str) -> list[float]:
    return [sum(run.statistics[name] for run in measured[rate]) / len(measured[rate]) for rate in sorted(measured)]


def _curve(
    profiled: ProfiledConfiguration,
    measured: Mapping[float, Runs],
    limit: tuple[float, float],
    provenance: Mapping[str, Any],
) -> LoadLatencyCurve:
    rates = sorted(measured)
    names = [name for name in measured[0.0][0].statistics if _present(measured, name)]
    intervals = {
        name: [mean_interval([run.statistics[name] for run in measured[rate]]) for rate in rates] for name in names
    }
    return LoadLatencyCurve(
        configuration=profiled.configuration,
        rates_per_s=tuple(rates),
        statistics={name: tuple(found.estimate for found in intervals[name]) for name in names},
        # Student's interval knows nothing of a quantity that cannot be negative.
        intervals={name: tuple((max(found.low, 0.0), found.high) for found in intervals[name]) for name in names},
        stability_per_s=limit,
        provenance=provenance,
    )
