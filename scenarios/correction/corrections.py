"""A problem whose curves are corrected by what simulations of its plans showed.

For each model and SLO, what its options showed makes a shift (:mod:`scenarios.correction.shifted_curves`) that all of
its options get; a model that was never seen gets that of all models together.  An option that was seen keeps what it
showed as well: at the loads where it was seen its corrected latency is exactly that, and between them, and down to no
load, the distance to the shift is interpolated.  An option that did not carry a load is not asked for more than a part
of it again.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from latency_models.curves.load_latency import LoadLatencyCurve
from optimizer.delays.lateness import known_percentiles
from optimizer.problem import ModelOptions, Option, Problem, SloTarget
from scenarios.correction.shifted_curves import Floats, Shift, Sighting, fitted_shift, usable_rates

Seen = tuple[int, int, int]
"""Numbers of model, option and SLO."""

_CARRIED = 0.95
"""Part of a load that was not carried up to which an option may be loaded again."""

_SAME_LOAD = 1e-4
"""Relative difference below which two loads are one: two plans with the same routing differ by rounding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Corrections:
    """What simulations showed of the options of a problem.

    Parameters
    ----------
    problem : Problem
        With the curves as they were promised.
    sightings : mapping of (model, option, SLO) to mapping of float to float
        Latency over that of the curve by load in requests/s.
    """

    problem: Problem
    sightings: Mapping[Seen, Mapping[float, float]] = field(default_factory=dict)

    def seeing(self, found: Iterable[tuple[Seen, Sighting]]) -> Corrections:
        """With more sightings; one at a load where there is one already takes its place."""
        sightings = {seen: dict(factors) for seen, factors in self.sightings.items()}
        for seen, sighting in found:
            factors = sightings.setdefault(seen, {})
            for rate in [rate for rate in factors if math.isclose(rate, sighting.rate_per_s, rel_tol=_SAME_LOAD)]:
                del factors[rate]
            factors[sighting.rate_per_s] = sighting.factor
        return replace(self, sightings=sightings)

    def growing(self, seen: Iterable[Seen], factor: float) -> Corrections:
        """With everything longer by a factor that some options showed."""
        longer = {
            entry: {rate: factor * seen_factor for rate, seen_factor in self.sightings[entry].items()}
            for entry in seen
            if entry in self.sightings
        }
        return replace(self, sightings={**self.sightings, **longer})

    def shift(self, model: int, slo: int) -> Shift:
        """The shift of a model's options, as far as an SLO is concerned."""
        own = [seen for seen in self.sightings if seen[0] == model and seen[2] == slo]
        return fitted_shift(
            [
                (self._option(seen).curve, self.problem.slos[slo].curve_statistic, sighting)
                for seen in own or [seen for seen in self.sightings if seen[2] == slo]
                for sighting in self._of(seen)
            ]
        )

    def corrected(self) -> Problem:
        """The problem with corrected curves."""
        if not self.sightings:
            return self.problem
        return replace(
            self.problem, models=tuple(self._model(number, model) for number, model in enumerate(self.problem.models))
        )

    def _model(self, number: int, model: ModelOptions) -> ModelOptions:
        slos = {k: slo for k, slo in enumerate(self.problem.slos) if slo.model in (None, model.name)}
        shifts = {k: self.shift(number, k) for k in slos}
        options = []
        for index, option in enumerate(model.options):
            own = {k: self._of((number, index, k)) for k in slos}
            options.append(replace(option, curve=_corrected(option.curve, slos, shifts, own)))
        return replace(model, options=tuple(options))

    def _option(self, seen: Seen) -> Option:
        return self.problem.models[seen[0]].options[seen[1]]

    def _of(self, seen: Seen) -> list[Sighting]:
        found = self.sightings.get(seen, {})
        return [Sighting(rate_per_s=rate, factor=factor) for rate, factor in sorted(found.items())]


def _corrected(
    curve: LoadLatencyCurve,
    slos: Mapping[int, SloTarget],
    shifts: Mapping[int, Shift],
    own: Mapping[int, list[Sighting]],
) -> LoadLatencyCurve:
    """One option's curve.  It never falls with load, so what was seen at a load holds at higher ones."""
    rates = usable_rates(curve)
    bends = [rates / shift.heavier for shift in shifts.values()]
    visited = [sighting.rate_per_s for sightings in own.values() for sighting in sightings]
    rates = np.unique(np.concatenate([rates, *bends, np.minimum(visited, rates[-1])]))
    factors: dict[str, Floats] = {}
    for k, slo in slos.items():
        factor = _factor(curve, slo, shifts[k], own[k], rates)
        limited = [slo.curve_statistic]
        if slo.late_share is not None:
            limited = [name for _, name in known_percentiles(curve, slo.metric)]
        for name in limited:
            factors[name] = np.maximum(factors[name], factor) if name in factors else factor
    statistics = {}
    for name in curve.statistics:
        values = np.interp(rates, curve.rates_per_s, curve.statistics[name])
        if name in factors:
            values = np.maximum.accumulate(values * factors[name])
        statistics[name] = tuple(values.tolist())
    return LoadLatencyCurve(
        configuration=curve.configuration,
        rates_per_s=tuple(rates.tolist()),
        statistics=statistics,
        stability_per_s=_stability(curve, [sighting for sightings in own.values() for sighting in sightings]),
        provenance=curve.provenance,
    )


def _factor(curve: LoadLatencyCurve, slo: SloTarget, shift: Shift, own: list[Sighting], rates: Floats) -> Floats:
    factor = shift.factor(curve, slo.curve_statistic, rates)
    carried = [sighting for sighting in own if math.isfinite(sighting.factor)]
    if not carried:
        return factor
    at = np.array([sighting.rate_per_s for sighting in carried])
    distance = np.log([sighting.factor for sighting in carried])
    distance -= np.log(shift.factor(curve, slo.curve_statistic, at))
    # What an option shows beyond the others' shift comes from its load; what it lacks, it lacks without load as well.
    idle = min(0.0, float(distance[0]))
    beyond: Floats = np.interp(rates, np.append(0.0, at), np.append(idle, distance))
    return factor * np.exp(beyond)


def _stability(curve: LoadLatencyCurve, own: list[Sighting]) -> tuple[float, float] | None:
    overloaded = [sighting.rate_per_s for sighting in own if math.isinf(sighting.factor)]
    if not overloaded:
        return curve.stability_per_s
    limit = min(overloaded)
    return min(curve.highest_rate_per_s, _CARRIED * limit), limit
