"""Fitting numbers of a measurement file through the simulator: least squares on what end-to-end data show.

Residuals are logarithms of predicted over measured latencies, since they span decades and a planner needs each to a
few per cent.  Their loss is Charbonnier's (soft L1), quadratic for small residuals and linear for outliers; every
metric of every log has the same weight, however many rows it has.  All simulations see the same requests and the same
random streams, so that a difference between two of them comes from the parameters alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from latency_models.errors import InputError
from scenarios.measurements.logs import Log, RequestTable, read_log, rows_of
from scenarios.measurements.measurement_files import load_measurement, with_values
from scenarios.measurements.replay import replay
from scenarios.measurements.schema import METRICS, Measurement, Metric, ParameterSection, PartSection
from scenarios.measurements.sheets import Rows
from sim.results import Floats, Ints

_OUTLIERS = (1.0, 0.1)
"""Residuals (about a relative error) from which the loss grows linearly: first wide, to get near, then narrow."""
_UNFINISHED = 2.0
"""Residual of a request without a prediction: it was rejected or never finished."""
_WIDEST_STEP = 0.1
_NARROWEST_STEP = 0.01
"""Finite differences in units of a parameter's size."""
_FIRST_DAMPING = 0.01
_DAMPING_RATIO = 6.0
_MOST_DAMPINGS = 4
_MOST_ITERATIONS = 40
_TOLERANCE = 1e-2
"""Relative gain of an iteration below which the differences become narrower."""
_IN_95_PERCENT = 1.96
_UNKNOWN_FROM = 0.5
"""A parameter whose standard error is more than this share of its size is called not identifiable."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FitTarget:
    """A measurement, its log, and the rows that are fitted on."""

    measurement: Measurement
    log: Log
    rows: Rows


@dataclass(frozen=True, slots=True, kw_only=True)
class FittedParameter:
    """One number and how well the data tell it.

    ``low`` and ``high`` are the 95 % interval from the sandwich estimator (White, Econometrica 48, 1980; rows of the
    log are taken as independent), cut at the bounds.
    """

    key: str
    value: float
    low: float
    high: float
    identifiable: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatorFit:
    """Result of a fit through the simulator."""

    parameters: tuple[FittedParameter, ...]
    rows: int
    """Rows that were fitted on."""
    mean_error: float
    """Mean absolute residual of these rows (training error), about a relative error."""
    simulations: int

    def values(self) -> dict[str, float]:
        """Fitted values by dotted key."""
        return {parameter.key: parameter.value for parameter in self.parameters}


def fit_measurement(
    measurement: Measurement, log: Log, progress: Callable[[int], None] | None = None
) -> tuple[Measurement, SimulatorFit | None]:
    """Do what the ``fit`` section of a measurement file asks for.

    Returns
    -------
    measurement : Measurement
        With the fitted values.
    fit : SimulatorFit or None
        How they were found; ``None`` if the file fits nothing.

    Raises
    ------
    InputError
        See :func:`fit_through_simulator`.
    """
    fit = measurement.fit
    if fit is None:
        return measurement, None
    if fit.files:
        targets = [_target(load_measurement(name), fit.part) for name in fit.files]
    else:
        targets = [FitTarget(measurement=measurement, log=log, rows=rows_of(log, fit.part))]
    found = fit_through_simulator(targets, fit.parameters, metrics=fit.metrics, progress=progress)
    return with_values(measurement, found.values()), found


def _target(measurement: Measurement, part: PartSection) -> FitTarget:
    log = read_log(measurement.log)
    return FitTarget(measurement=measurement, log=log, rows=rows_of(log, part))


def fit_through_simulator(
    targets: Sequence[FitTarget],
    parameters: Mapping[str, ParameterSection],
    *,
    metrics: Sequence[Metric] = METRICS,
    progress: Callable[[int], None] | None = None,
) -> SimulatorFit:
    """Find the parameters with which the simulator comes closest to measured latencies.

    Parameters
    ----------
    targets : sequence of FitTarget
        What to fit on; the parameters are set in every one of them.
    parameters : mapping of str to ParameterSection
        Dotted keys of the measurement files, with start and bounds.
    metrics : sequence of str
        Latencies to fit on, as far as they were measured.
    progress : callable, optional
        Called with the number of simulations done.

    Returns
    -------
    SimulatorFit
        Values, intervals, and whether the data tell them.

    Raises
    ------
    InputError
        If a key does not exist, or there are fewer measured latencies than parameters.
    """
    names = list(parameters)
    sections = [parameters[name] for name in names]
    sizes = np.array([section.start or section.highest / 10.0 for section in sections])
    lower = np.array([section.lower for section in sections]) / sizes
    upper = np.array([section.highest for section in sections]) / sizes
    problem = _Problem(targets, names, sizes, tuple(metrics), progress)
    if len(problem.clusters) < len(names):
        raise InputError(
            f"{len(problem.clusters)} measured latencies cannot tell {len(names)} parameters; "
            "allowed: at least one for each. Fit on more rows, or fewer parameters"
        )

    start = np.clip(np.array([section.start for section in sections]) / sizes, lower, upper)
    best = start
    for outlier in _OUTLIERS:
        problem.outlier = outlier
        best = _minimise(problem, best, lower, upper)
    # Narrow differences would take the jumps of a simulation for slopes, and the intervals would be too narrow.
    slopes = _slopes(problem, best, _WIDEST_STEP, lower, upper)
    errors = _standard_errors(slopes, problem.residuals(best), problem.weights(best), problem.clusters)
    fitted = tuple(
        FittedParameter(
            key=name,
            value=float(best[index] * sizes[index]),
            low=float(max(lower[index], best[index] - _IN_95_PERCENT * errors[index]) * sizes[index]),
            high=float(min(upper[index], best[index] + _IN_95_PERCENT * errors[index]) * sizes[index]),
            identifiable=bool(errors[index] <= _UNKNOWN_FROM * max(abs(float(best[index])), 1e-9)),
        )
        for index, name in enumerate(names)
    )
    return SimulatorFit(
        parameters=fitted,
        rows=sum(int(target.rows.sum()) for target in targets),
        mean_error=problem.mean_error(best),
        simulations=problem.simulations,
    )


def _minimise(problem: _Problem, start: Floats, lower: Floats, upper: Floats) -> Floats:
    """Levenberg-Marquardt with reweighting, and with differences so wide that a simulation's decisions average out.

    When no damping helps any more, the differences become narrower.  Returns the scaled parameters with the smallest
    loss found, shape (p,).
    """
    best, loss = start, problem.loss(start)
    step, damping = _WIDEST_STEP, _FIRST_DAMPING
    for _ in range(_MOST_ITERATIONS):
        slopes = _slopes(problem, best, step, lower, upper)
        weighted = slopes * problem.weights(best)[:, None]
        gradient = weighted.T @ problem.residuals(best)
        # At a bound that the loss pushes against, a parameter stays where it is.
        free = np.flatnonzero(~((best <= lower) & (gradient > 0.0) | (best >= upper) & (gradient < 0.0)))
        curvature = (slopes.T @ weighted)[np.ix_(free, free)]
        gained = 0.0
        for _ in range(_MOST_DAMPINGS):
            damped = curvature + damping * np.diag(np.diag(curvature))
            candidate = best.copy()
            candidate[free] -= np.linalg.pinv(damped) @ gradient[free]
            candidate = np.clip(candidate, lower, upper)
            gained = loss - problem.loss(candidate)
            if gained > 0.0:
                best, loss, damping = candidate, loss - gained, damping / _DAMPING_RATIO
                break
            damping *= _DAMPING_RATIO
        if gained <= _TOLERANCE * loss:
            step, damping = step / 2.0, _FIRST_DAMPING
            if step < _NARROWEST_STEP:
                break
    return best


def _slopes(problem: _Problem, scaled: Floats, step: float, lower: Floats, upper: Floats) -> Floats:
    """Slope of each residual with each parameter, shape (n, p), by differences within the bounds."""
    here = problem.residuals(scaled)
    columns = []
    for index in range(len(scaled)):
        moved = scaled.copy()
        width = step * max(1.0, abs(float(scaled[index])))
        moved[index] += width if scaled[index] + width <= upper[index] else -width
        moved[index] = max(moved[index], lower[index])
        columns.append((problem.residuals(moved) - here) / (moved[index] - scaled[index]))
    return np.column_stack(columns)


class _Problem:
    """Residuals as a function of the parameters, remembered for the points already simulated."""

    def __init__(
        self,
        targets: Sequence[FitTarget],
        names: Sequence[str],
        sizes: Floats,
        metrics: tuple[Metric, ...],
        progress: Callable[[int], None] | None,
    ) -> None:
        self._targets = targets
        self._names = names
        self._sizes = sizes
        self._progress = progress
        self._ends_s = [_last_end_s(target) for target in targets]
        self._known: dict[bytes, Floats] = {}
        self.simulations = 0
        self.outlier = _OUTLIERS[0]
        self._parts: list[tuple[int, Metric, Rows]] = []
        weights: list[Floats] = []
        clusters: list[Ints] = []
        first_row = 0
        for number, target in enumerate(targets):
            for metric in metrics:
                if metric not in target.log.measured:
                    continue
                measured = target.log.measured[metric]
                rows = target.rows & (np.nan_to_num(measured) > 0.0)
                if rows.any():
                    self._parts.append((number, metric, rows))
                    weights.append(np.full(int(rows.sum()), 1.0 / rows.sum()))
                    clusters.append(np.flatnonzero(rows) + first_row)
            first_row += len(target.log)
        if not self._parts:
            raise InputError(f"none of {', '.join(metrics)} was measured in the rows to fit on; give fit.metrics")
        self._weights = np.concatenate(weights)
        self.clusters = np.concatenate(clusters)
        """Which row of which log each residual comes from."""

    def loss(self, scaled: Floats) -> float:
        """What is minimised."""
        root = np.sqrt(1.0 + (self.residuals(scaled) / self.outlier) ** 2)
        return float((self._weights * self.outlier**2 * (root - 1.0)).sum())

    def weights(self, scaled: Floats) -> Floats:
        """Weight of each residual in the least squares that have the same slope as the loss here."""
        return self._weights / np.sqrt(1.0 + (self.residuals(scaled) / self.outlier) ** 2)

    def mean_error(self, scaled: Floats) -> float:
        """Mean absolute residual, every metric of every log with the same weight."""
        return float(np.average(np.abs(self.residuals(scaled)), weights=self._weights))

    def residuals(self, scaled: Floats) -> Floats:
        """Logarithms of predicted over measured latencies."""
        key = scaled.tobytes()
        if key not in self._known:
            values = dict(zip(self._names, (scaled * self._sizes).tolist(), strict=True))
            replays = [
                replay(with_values(target.measurement, values), target.log, until_s=until_s, rows=target.rows).predicted
                for target, until_s in zip(self._targets, self._ends_s, strict=True)
            ]
            self.simulations += len(replays)
            if self._progress is not None:
                self._progress(self.simulations)
            parts = []
            for number, metric, rows in self._parts:
                predicted = replays[number][metric][rows]
                measured = self._targets[number].log.measured[metric][rows]
                usable = np.nan_to_num(predicted) > 0.0
                ratio = np.divide(predicted, measured, out=np.ones_like(measured), where=usable)
                parts.append(np.where(usable, np.log(ratio), _UNFINISHED))
            self._known[key] = np.concatenate(parts)
        return self._known[key]


def _last_end_s(target: FitTarget) -> float:
    """When the last request that is fitted on had its answer; what came later cannot have delayed it."""
    log = target.log
    if not isinstance(log, RequestTable) or "e2e" not in log.measured:
        return math.inf
    ends_s = (log.arrival_s + log.measured["e2e"])[target.rows]
    return math.inf if np.isnan(ends_s).any() else float(ends_s.max())


def _standard_errors(jacobian: Floats, residuals: Floats, weights: Floats, clusters: Ints) -> Floats:
    """Standard error of each parameter by the sandwich estimator, clustered by row; infinite if it has no effect."""
    errors = np.full(jacobian.shape[1], np.inf)
    used = np.flatnonzero(np.linalg.norm(jacobian, axis=0) > 0.0)
    if not len(used):
        return errors
    columns = jacobian[:, used]
    weighted = columns * weights[:, None]
    inverse = np.linalg.pinv(columns.T @ weighted)
    _, cluster = np.unique(clusters, return_inverse=True)
    scores = np.zeros((int(cluster.max()) + 1, len(used)))
    np.add.at(scores, cluster, weighted * residuals[:, None])
    errors[used] = np.sqrt(np.maximum(np.diag(inverse @ (scores.T @ scores) @ inverse), 0.0))
    return errors
