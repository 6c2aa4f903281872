"""Calibration on the latencies of requests: arrival, lengths, first token and end of each.

No step is seen there.  A regression on which requests overlapped (:mod:`scenarios.calibration.request_overlaps`) is
nearly right; what it misses, it misses alike when the same requests are simulated.  So the law is chosen such that the
regression on its simulation gives what the regression on the measurement gave: indirect inference (Gourieroux, Monfort
and Renault, Journal of Applied Econometrics 8, 1993).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from latency_models.errors import InputError
from latency_models.fits.fit_quality import FOLDS, REPLICATIONS, Ints, RegimeError, consecutive_blocks
from latency_models.fits.fitting import DEFAULT_TERMS
from latency_models.fits.identifiability import WIDE, in_words, what_to_measure
from latency_models.fits.step_table import Floats
from scenarios.calibration.request_columns import engine_note, recognised_columns, server_of, unit_of
from scenarios.calibration.request_overlaps import OverlapRows, overlap_rows
from scenarios.measurements.logs import RequestTable, read_log
from scenarios.measurements.measurement_files import with_values
from scenarios.measurements.plots import requests_in_system
from scenarios.measurements.replay import replay
from scenarios.measurements.schema import Measurement

_FULL_STEPS = 3
_STEPS = 9
"""Corrections: the first ones in full, the later ones smaller and smaller, as a simulation's decisions are discrete."""
_RESOLUTION = 1e-2
"""Relative half-width below which no interval is stated, for the same reason."""
_LEAST_REQUESTS = 20
_METHOD = (
    "indirect inference: a regression on overlapping requests, its bias taken off by simulation; intervals: bootstrap "
    "over blocks of consecutive requests; errors: cross-validated over 5 folds of those blocks"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOutLatencies:
    """Measured latencies, and how far the law missed them that was fitted without their fold; columns of shape (n,)."""

    each: Literal["request", "level"]
    """What a row is."""
    load: Floats
    load_in_words: str
    prompt_tokens: Floats
    measured_s: Mapping[Any, Floats]
    """By latency; NaN where there is none."""
    relative_errors: Mapping[Any, Floats]


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestCalibration:
    """A law fitted to latencies of requests."""

    coefficients: Mapping[str, float]
    intervals: Mapping[str, tuple[float, float]]
    errors: list[RegimeError]
    """Cross-validated, by latency; the last is over all of them."""
    training_mean: float
    """Mean absolute error on the rows that the law was fitted to."""
    warnings: tuple[str, ...]
    valid_range: Mapping[str, tuple[float, float]]
    notes: tuple[str, ...]
    rows: int
    method: str
    held_out: HeldOutLatencies
    """What ``errors`` sums up."""

    @property
    def latency(self) -> Mapping[str, Any]:
        """The ``latency:`` section."""
        return {"kind": "linear", **self.coefficients}

    @property
    def remarks(self) -> Mapping[str, str]:
        """None: every coefficient has an interval."""
        return {}


def calibrate_on_requests(
    path: Path,
    *,
    engine: Mapping[str, Any],
    unit: str | None = None,
    columns: Mapping[str, str] | None = None,
    where: Mapping[str, str] | None = None,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> RequestCalibration:
    """Fit the linear law to requests.

    Parameters
    ----------
    path : Path
        CSV of requests.
    engine : mapping
        Engine settings that differ from those of a server.
    unit : {"s", "ms", "us", "ns"}, optional
        Unit of times whose columns do not name one.
    columns : mapping of str to str, optional
        Columns of the file by our name, where they are not recognised.
    where : mapping of str to str, optional
        Rows to take: column and value.
    seed : int
        Seed of the resampling behind the intervals.
    progress : callable, optional
        Called with the number of simulations done.

    Raises
    ------
    InputError
        The file lacks a column, holds bad values or too few rows, or its times cannot be in that unit.
    """
    named = recognised_columns(path, "requests", columns or {})
    section = {"kind": "requests", "path": str(path), "where": dict(where or {}), "columns": named, **unit_of(unit)}
    measurement = server_of(section, engine)
    log = read_log(measurement.log)
    assert isinstance(log, RequestTable)
    if len(log) < _LEAST_REQUESTS:
        raise InputError(f"{path} has {len(log)} requests to use; allowed: at least {_LEAST_REQUESTS}. Measure longer")
    simulation = _Simulation(measurement, log, progress)
    with_end = _with_end(log, log.measured)
    measured = overlap_rows(log, with_end)
    blocks = consecutive_blocks(len(log))
    coefficients = simulation.unbiased(measured, np.ones(len(log), dtype=bool))
    errors = {metric: np.full(len(log), np.nan) for metric in log.measured}
    training = simulation.latencies(coefficients)
    for fold in range(FOLDS):
        tested = blocks % FOLDS == fold
        predicted = simulation.latencies(simulation.unbiased(measured, ~tested))
        for metric, values in log.measured.items():
            usable = tested & (np.nan_to_num(values) > 0.0)
            errors[metric][usable] = predicted[metric][usable] / values[usable] - 1.0
    values_of = dict(zip(DEFAULT_TERMS, coefficients.tolist(), strict=True))
    intervals = _intervals(measured, blocks, coefficients, seed)
    return RequestCalibration(
        coefficients=values_of,
        intervals=intervals,
        errors=latency_errors(errors),
        training_mean=_mean_error(log, training),
        warnings=tuple(badly_known(values_of, intervals)),
        valid_range={
            "prompt_tokens": (float(log.prompt_tokens.min()), float(log.prompt_tokens.max())),
            "output_tokens": (float(log.output_tokens.min()), float(log.output_tokens.max())),
        },
        notes=(engine_note(engine),),
        rows=len(log),
        method=_METHOD,
        held_out=HeldOutLatencies(
            each="request",
            load=requests_in_system(log.arrival_s, with_end["e2e"]).astype(np.float64),
            load_in_words="requests in the system at arrival",
            prompt_tokens=log.prompt_tokens.astype(np.float64),
            measured_s=log.measured,
            relative_errors=errors,
        ),
    )


class _Simulation:
    """The same requests on the same engine, with whatever coefficients."""

    def __init__(self, measurement: Measurement, log: RequestTable, progress: Callable[[int], None] | None) -> None:
        self._measurement = measurement
        self._log = log
        self._progress = progress
        self._done = 0

    def latencies(self, coefficients: Floats) -> Mapping[Any, Floats]:
        """Latencies of the requests by a law, in seconds."""
        values = {f"latency.{name}": float(value) for name, value in zip(DEFAULT_TERMS, coefficients, strict=True)}
        predicted = replay(with_values(self._measurement, values), self._log).predicted
        self._done += 1
        if self._progress is not None:
            self._progress(self._done)
        return predicted

    def unbiased(self, measured: OverlapRows, chosen: Any) -> Floats:
        """Coefficients whose simulation gives the regression that the chosen requests gave; shape (terms,)."""
        goal = measured.coefficients(chosen[measured.request])
        coefficients = goal.copy()
        for step in range(_STEPS):
            simulated = overlap_rows(self._log, self.latencies(coefficients))
            share = 1.0 if step < _FULL_STEPS else (_FULL_STEPS - 1) / step
            missed = goal - simulated.coefficients(chosen[simulated.request])
            coefficients = np.maximum(coefficients + share * missed, 0.0)
        return coefficients


def _with_end(log: RequestTable, measured: Mapping[Any, Floats]) -> Mapping[Any, Floats]:
    """Measured latencies with TTFT and E2E, which may follow from TTFT and TPOT."""
    if "ttft" not in measured or not {"e2e", "tpot"} & set(measured):
        raise InputError(
            "the requests have no TTFT, or neither an end nor a TPOT; allowed: both the first token and the end"
        )
    if "e2e" in measured:
        return measured
    later = np.maximum(log.output_tokens - 1.0, 0.0)
    return {**measured, "e2e": measured["ttft"] + np.where(later > 0.0, later * measured["tpot"], 0.0)}


def _intervals(measured: OverlapRows, blocks: Ints, coefficients: Floats, seed: int) -> dict[str, tuple[float, float]]:
    """Spread of the regression over resampled blocks of requests, around the coefficients without its bias."""
    rows_of = [np.flatnonzero(blocks[measured.request] == block) for block in range(int(blocks.max()) + 1)]
    rng = np.random.default_rng(seed)
    found = [
        measured.coefficients(
            np.concatenate([rows_of[block] for block in rng.integers(len(rows_of), size=len(rows_of))])
        )
        for _ in range(REPLICATIONS)
    ]
    moves = np.array(found) - measured.coefficients()
    low, high = np.percentile(moves, [2.5, 97.5], axis=0)
    slack = _RESOLUTION * coefficients
    low_ends = np.maximum(coefficients + np.minimum(low, -slack), 0.0)
    high_ends = coefficients + np.maximum(high, slack)
    return {name: (float(low_ends[index]), float(high_ends[index])) for index, name in enumerate(DEFAULT_TERMS)}


def _mean_error(log: RequestTable, predicted: Mapping[Any, Floats]) -> float:
    errors = [np.abs(predicted[metric] / values - 1.0)[values > 0.0] for metric, values in log.measured.items()]
    return float(np.nanmean(np.concatenate(errors)))


def latency_errors(errors: Mapping[Any, Floats]) -> list[RegimeError]:
    """Errors of each latency, and of all of them last; NaN is left out."""
    found = [_error(metric, values) for metric, values in errors.items()]
    return [*found, _error("all", np.concatenate(list(errors.values())))]


def _error(name: str, errors: Floats) -> RegimeError:
    known = errors[~np.isnan(errors)]
    if not len(known):
        raise InputError(f"no prediction of {name} could be tested; allowed: at least two measured rows. Measure more")
    return RegimeError(
        regime=name,
        steps=len(known),
        median=float(np.median(np.abs(known))),
        p90=float(np.percentile(np.abs(known), 90.0)),
        bias=float(np.mean(known)),
    )


def badly_known(values: Mapping[str, float], intervals: Mapping[str, tuple[float, float]]) -> list[str]:
    """A sentence on each coefficient whose interval is wide."""
    return [
        f"{name} ({in_words(name)}) is badly known: {value:.3g}, between {intervals[name][0]:.3g} and "
        f"{intervals[name][1]:.3g}. To know it better, measure {what_to_measure(name)}, or calibrate on steps"
        for name, value in values.items()
        if intervals[name][1] - intervals[name][0] > 2.0 * WIDE * value
    ]
