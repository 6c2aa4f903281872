"""Fitting numbers of a measurement file through the simulator: least squares on what end-to-end data show.

Residuals are logarithms of predicted over measured latencies, since they span decades and a planner needs each to a
few per cent.  Their loss is Charbonnier's (soft L1), quadratic for small residuals and linear for outliers; every
metric of every log has the same weight, however many rows it has, but a row that jumps has less (see
:mod:`scenarios.measurements.fit_search`).  All simulations see the same requests and the same random streams, so that a
difference between two of them comes from the parameters alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from latency_models.errors import InputError
from scenarios.measurements.fit_search import Cloud, Search
from scenarios.measurements.logs import Log, RequestTable, read_log, rows_of
from scenarios.measurements.measurement_files import load_measurement, with_values
from scenarios.measurements.replay import replay
from scenarios.measurements.schema import METRICS, Measurement, Metric, ParameterSection, PartSection
from scenarios.measurements.sheets import Rows
from sim.results import Floats, Ints

_UNFINISHED = 2.0
"""Residual of a request without a prediction: it was rejected or never finished."""
_PAUSE = 10.0
"""Requests that were alone are kept apart by this many times the time that each took."""
_IN_95_PERCENT = 0.975
_MODEL_ERROR = 0.005
"""Residuals that are smaller (root mean square) tell nothing: no simulation is right to better than half a per cent."""
_UNKNOWN_FROM = 0.5
"""A parameter whose interval reaches further than twice this share of its size is called not identifiable."""
_ALIKE = 0.98
_DOUBTFUL = 0.1
"""Parameters whose effects correlate that much and whose intervals reach so far (a share) are not told apart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FitTarget:
    """A measurement, its log, and the rows that are fitted on."""

    measurement: Measurement
    log: Log
    rows: Rows


@dataclass(frozen=True, slots=True, kw_only=True)
class FittedParameter:
    """One number and how well the data tell it.

    ``low`` and ``high`` are the 95 % interval, cut at the bounds: from the sandwich estimator (White, Econometrica 48,
    1980) over rows or over blocks of consecutive rows, whichever is wider, from what the jumps of the simulation leave
    open, and from an error of the model of half a per cent.
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
    warnings: tuple[str, ...] = ()
    """Parameters that the rows cannot tell apart."""

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
    near_start: bool = False,
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
    near_start : bool
        Whether the starts are known to be close, as those of a fit on most of the same rows are; it saves most of the
        simulations.
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
    # Not of the start, if there is a bound: the same search from any start.
    sizes = np.array([section.start if section.upper is None else section.upper / 10.0 for section in sections])
    lower = np.array([section.lower for section in sections]) / sizes
    upper = np.array([section.highest for section in sections]) / sizes
    problem = _Problem(targets, names, sizes, tuple(metrics), progress)
    if len(problem.clusters) < len(names):
        raise InputError(
            f"{len(problem.clusters)} measured latencies cannot tell {len(names)} parameters; "
            "allowed: at least one for each. Fit on more rows, or fewer parameters"
        )

    start = np.clip(np.array([section.start for section in sections]) / sizes, lower, upper)
    search = Search(residuals=problem.residuals, weights=problem.weights, start=start, lower=lower, upper=upper)
    found = search.nearest() if near_start else search.best()
    # The smallest loss is not quite where the lines have theirs: jumps leave that much open.
    half = np.hypot(_half_intervals(found, problem.residuals(found.centre), problem.clusters), search.step_from(found))
    sizes_now = np.maximum(found.centre, 1e-9)
    fitted = tuple(
        FittedParameter(
            key=name,
            value=float(found.centre[index] * sizes[index]),
            low=float(max(lower[index], found.centre[index] - half[index]) * sizes[index]),
            high=float(min(upper[index], found.centre[index] + half[index]) * sizes[index]),
            identifiable=bool(half[index] <= 2.0 * _UNKNOWN_FROM * sizes_now[index]),
        )
        for index, name in enumerate(names)
    )
    return SimulatorFit(
        parameters=fitted,
        rows=sum(int(target.rows.sum()) for target in targets),
        mean_error=problem.mean_error(found.centre),
        simulations=problem.simulations,
        warnings=_not_told_apart(names, found, half / sizes_now),
    )


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
        self._logs = [_kept_apart(target) for target in targets]
        self._ends_s = [_last_end_s(target, log) for target, log in zip(targets, self._logs, strict=True)]
        self._known: dict[bytes, Floats] = {}
        self.simulations = 0
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
        self.weights = np.concatenate(weights)
        """Weight of each residual: that of a metric of a log is one."""
        self.clusters = np.concatenate(clusters)
        """Which row of which log each residual comes from."""

    def mean_error(self, scaled: Floats) -> float:
        """Mean absolute residual, every metric of every log with the same weight."""
        return float(np.average(np.abs(self.residuals(scaled)), weights=self.weights))

    def residuals(self, scaled: Floats) -> Floats:
        """Logarithms of predicted over measured latencies."""
        key = scaled.tobytes()
        if key not in self._known:
            values = dict(zip(self._names, (scaled * self._sizes).tolist(), strict=True))
            replays = [
                replay(with_values(target.measurement, values), log, until_s=until_s, rows=target.rows).predicted
                for target, log, until_s in zip(self._targets, self._logs, self._ends_s, strict=True)
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


def _kept_apart(target: FitTarget) -> Log:
    """The log, with longer pauses if every request up to the last one that is fitted on was alone in the server.

    A client that sends its next request when it has an answer is no open loop: replayed at its arrivals, a prediction
    that is 0.1 % too slow would put each request into the way of the next one.
    """
    log = target.log
    if not isinstance(log, RequestTable) or "e2e" not in log.measured:
        return log
    sent = int(np.flatnonzero(target.rows)[-1]) + 1
    e2e_s = log.measured["e2e"][:sent]
    ends_s = log.arrival_s[:sent] + e2e_s
    if not (log.arrival_s[1:sent] >= ends_s[:-1]).all():
        return log
    pauses_s = np.full(len(log), _PAUSE * float(e2e_s.sum()))
    pauses_s[:sent] = _PAUSE * (np.cumsum(e2e_s) - e2e_s)
    return replace(log, arrival_s=log.arrival_s + pauses_s)


def _last_end_s(target: FitTarget, log: Log) -> float:
    """When the last request that is fitted on had its answer; what came later cannot have delayed it."""
    if not isinstance(log, RequestTable) or "e2e" not in log.measured:
        return math.inf
    ends_s = (log.arrival_s + log.measured["e2e"])[target.rows]
    return math.inf if np.isnan(ends_s).any() else float(ends_s.max())


def _half_intervals(cloud: Cloud, residuals: Floats, clusters: Ints) -> Floats:
    """Half of the 95 % interval of each scaled parameter, shape (p,); infinite if it has no effect."""
    from scipy.stats import t

    half = np.full(cloud.slopes.shape[1], np.inf)
    used = np.flatnonzero(np.linalg.norm(cloud.slopes, axis=0) > 0.0)
    if not len(used):
        return half
    weights = cloud.weights(residuals)
    columns = cloud.slopes[:, used]
    weighted = columns * weights[:, None]
    inverse = np.linalg.pinv(columns.T @ weighted, rcond=1e-12)
    _, rows = np.unique(clusters, return_inverse=True)
    count = int(rows.max()) + 1
    # Neighbours in the log share a queue and the machine's speed of the moment.
    blocks = rows * math.ceil(math.sqrt(count)) // count
    widest = np.zeros(len(used))
    for groups in (rows, blocks):
        number = int(groups.max()) + 1
        freedom = max(number - len(used), 1)
        scores = np.zeros((number, len(used)))
        np.add.at(scores, groups, weighted * residuals[:, None])
        variances = np.diag(inverse @ (scores.T @ scores) @ inverse) * number / freedom
        widest = np.maximum(widest, float(t.ppf(_IN_95_PERCENT, freedom)) * np.sqrt(np.maximum(variances, 0.0)))
    of_points = cloud.scatter @ weighted @ inverse
    points = len(of_points)
    jumps = 2.0 * np.sqrt((of_points**2).sum(axis=0) / max(points - columns.shape[1] - 1, 1) / points)
    wrong = _MODEL_ERROR * np.sqrt(np.maximum(np.diag(inverse), 0.0) * weights.sum())
    half[used] = np.sqrt(widest**2 + jumps**2 + wrong**2)
    return half


def _not_told_apart(names: Sequence[str], cloud: Cloud, reach: Floats) -> tuple[str, ...]:
    """A sentence for each parameter whose effect others can undo; ``reach`` is half its interval over its value."""
    columns = cloud.slopes * np.sqrt(cloud.trust)[:, None]
    norms = np.linalg.norm(columns, axis=0)
    groups: list[set[int]] = []
    for index in np.flatnonzero((reach > _DOUBTFUL) & (norms > 0.0)):
        others = [other for other in range(len(names)) if other != index and norms[other] > 0.0]
        if not others:
            continue
        shares, *_ = np.linalg.lstsq(columns[:, others] / norms[others], columns[:, index] / norms[index], rcond=None)
        left = columns[:, index] / norms[index] - columns[:, others] / norms[others] @ shares
        if math.sqrt(max(0.0, 1.0 - float(left @ left))) < _ALIKE:
            continue
        group = {int(index), *(other for other, share in zip(others, shares, strict=True) if abs(share) > 0.2)}
        if group not in groups:
            groups.append(group)
    return tuple(
        f"{' and '.join(names[index] for index in sorted(group))} cannot be told apart by these rows; "
        "take one of them out of the fit with a value that is known, or fit on rows at other loads and lengths"
        for group in groups
    )
