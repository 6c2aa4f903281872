"""Calibration on a sweep: mean TTFT and TPOT over concurrency or over rate, fitted through the simulator.

A few means tell a few coefficients: the fixed time of a step, the time per token and the time per token of context.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from latency_models.errors import InputError, check_finite, invalid
from latency_models.fits.fit_quality import FOLDS, consecutive_blocks
from latency_models.fits.step_table import Floats
from scenarios.calibration.request_columns import engine_note, recognised_columns, server_of, unit_of
from scenarios.calibration.request_fit import HeldOutLatencies, RequestCalibration, badly_known, latency_errors
from scenarios.measurements.fit import FitTarget, FittedParameter, SimulatorFit, fit_through_simulator
from scenarios.measurements.logs import RequestTable, RunTable, read_log
from scenarios.measurements.measurement_files import with_values
from scenarios.measurements.replay import replay
from scenarios.measurements.schema import Metric, ParameterSection
from sim.random_streams import named_generator

TERMS = ("base_s", "per_token_s", "per_context_token_s")
"""Coefficients that the few means of a sweep can tell."""

_REQUESTS_PER_RATE = 400
_HIGHEST = 1000.0
"""Upper bounds of the coefficients over their starting values."""
_RESOLUTION = 1e-3
"""Relative half-width below which no interval is stated: a simulation's decisions are discrete, and so is the fit."""
_ARRIVALS = "arrivals at each rate are taken to be Poisson; the intervals do not hold that other draws might have come"
_METHOD = (
    "least squares through the simulator on logarithms of the means; intervals: jackknife over 5 folds of rows, or the "
    "fit's own where wider; errors: cross-validated over the same folds"
)


def calibrate_on_sweep(
    path: Path,
    *,
    engine: Mapping[str, Any],
    unit: str | None = None,
    columns: Mapping[str, str] | None = None,
    where: Mapping[str, str] | None = None,
    progress: Callable[[int], None] | None = None,
) -> RequestCalibration:
    """Fit the linear law to the means of a sweep; parameters and errors as in :func:`calibrate_on_requests`.

    A row with a concurrency is a closed loop of so many clients, one with a rate an open loop with Poisson arrivals.
    """
    named = recognised_columns(path, "sweep", columns or {})
    rate_column = named.pop("rate", None)
    # The means over a rate are read like those of a closed loop; the generated requests then take the clients' place.
    clients = {"concurrency": named["prompt_tokens"]} if rate_column is not None else {}
    section = {"kind": "closed-loop", "path": str(path), "where": dict(where or {}), **unit_of(unit)}
    measurement = server_of({**section, "columns": {**named, **clients}}, engine)
    log = read_log(measurement.log)
    assert isinstance(log, RunTable)
    if len(log) < FOLDS:
        raise InputError(
            f"{path} has {len(log)} rows to use; allowed: at least {FOLDS}, to test the law on rows that it was not "
            "fitted to. Measure more levels"
        )
    load, name = np.asarray(log.concurrency, dtype=np.float64), "concurrency"
    if rate_column is not None:
        load, name = _rates(path, log, rate_column), "rate_per_s"
        log = _open_loop(log, load)
        measurement = server_of(_aggregates(path, named), engine)
    start = _start(log)
    measurement = with_values(measurement, {f"latency.{term}": start[term] for term in TERMS})
    parameters = {
        f"latency.{term}": ParameterSection(start=start[term], upper=_HIGHEST * start[term]) for term in TERMS
    }
    target = FitTarget(measurement=measurement, log=log, rows=np.ones(len(log), dtype=bool))
    found = fit_through_simulator([target], parameters, progress=progress)
    errors, interval_of_key = _cross_validated(target, found, parameters, progress)
    values = {term: found.values()[f"latency.{term}"] for term in TERMS}
    intervals = {term: interval_of_key[f"latency.{term}"] for term in TERMS}
    lengths = np.array([run.prompt_tokens[0] for run in log.requests]) if log.requests else log.prompt_tokens
    quantities = {name: load, "prompt_tokens": np.asarray(lengths)}
    return RequestCalibration(
        coefficients=values,
        intervals=intervals,
        errors=latency_errors(errors),
        training_mean=found.mean_error,
        warnings=tuple(badly_known(values, intervals)),
        valid_range={key: (float(column.min()), float(column.max())) for key, column in quantities.items()},
        notes=(engine_note(engine), *([] if rate_column is None else [_ARRIVALS])),
        rows=len(log),
        method=_METHOD,
        held_out=HeldOutLatencies(
            each="level",
            load=load,
            load_in_words="requests per second" if rate_column is not None else "requests kept in flight",
            prompt_tokens=np.asarray(lengths, dtype=np.float64),
            measured_s=log.measured,
            relative_errors=errors,
        ),
    )


def _aggregates(path: Path, named: Mapping[str, str]) -> dict[str, Any]:
    """Log section of a rate sweep whose requests are generated, not read."""
    lengths = {name: named[name] for name in ("prompt_tokens", "output_tokens")}
    means = {name: column for name, column in named.items() if name not in lengths}
    return {
        "kind": "aggregates",
        "path": str(path),
        "key": "rate",
        "columns": {"arrival": "arrival_s", **lengths},
        "measured": {"path": str(path), "key": "rate", "columns": means},
    }


def _rates(path: Path, table: RunTable, column: str) -> Floats:
    rates = []
    for row, text in enumerate(table.cells[column]):
        try:
            rates.append(check_finite(f"{path} row {row + 1}, {column}", float(text), exclusive=True))
        except ValueError:
            raise invalid(f"{path} row {row + 1}, {column}", text, "requests per second, a finite number > 0") from None
    return np.array(rates)


def _open_loop(table: RunTable, rates: Floats) -> RunTable:
    """Poisson arrivals at each rate, the same draws for every one."""
    assert table.prompt_tokens is not None
    assert table.output_tokens is not None
    gaps = named_generator(np.random.SeedSequence(0), "calibration arrivals").exponential(size=_REQUESTS_PER_RATE)
    requests = [
        RequestTable(
            arrival_s=np.cumsum(gaps) / rate,
            prompt_tokens=np.full(_REQUESTS_PER_RATE, prompt),
            output_tokens=np.full(_REQUESTS_PER_RATE, output),
            measured={},
            cells={},
        )
        for rate, prompt, output in zip(rates, table.prompt_tokens, table.output_tokens, strict=True)
    ]
    return RunTable(measured=table.measured, cells=table.cells, requests=requests)


def _start(log: RunTable) -> dict[str, float]:
    """Rough values from the fastest rows, whose requests hardly met others."""
    lengths = np.array([run.prompt_tokens[0] for run in log.requests]) if log.requests else log.prompt_tokens
    assert lengths is not None
    measured = log.measured
    prefill_s = measured["ttft"] if "ttft" in measured else next(iter(measured.values())) / 10.0
    per_token_s = float(np.nanmin(prefill_s / lengths))
    fast_s = float(np.nanmin(measured["tpot"])) if "tpot" in measured else 100.0 * per_token_s
    return {
        "base_s": max(0.7 * fast_s, 1e-6),
        "per_token_s": max(0.7 * per_token_s, 1e-9),
        "per_context_token_s": max(0.02 * fast_s / float(lengths.mean()), 1e-12),
    }


def _cross_validated(
    target: FitTarget,
    found: SimulatorFit,
    parameters: Mapping[str, ParameterSection],
    progress: Callable[[int], None] | None,
) -> tuple[dict[Metric, Floats], dict[str, tuple[float, float]]]:
    """Leave each fold out: errors of its rows by the law of the others, and how much the law changes (jackknife)."""
    blocks = consecutive_blocks(len(target.log))
    begin = {
        key: ParameterSection(
            start=min(max(value, 1e-3 * parameters[key].start), parameters[key].highest), upper=parameters[key].highest
        )
        for key, value in found.values().items()
    }
    errors = {metric: np.full(len(target.log), np.nan) for metric in target.log.measured}
    laws: list[Mapping[str, float]] = []
    for fold in range(FOLDS):
        tested = blocks % FOLDS == fold
        trained = FitTarget(measurement=target.measurement, log=target.log, rows=~tested)
        laws.append(fit_through_simulator([trained], begin, near_start=True, progress=progress).values())
        predicted = replay(with_values(target.measurement, laws[-1]), target.log).predicted
        for metric, measured in target.log.measured.items():
            usable = tested & (np.nan_to_num(measured) > 0.0)
            errors[metric][usable] = predicted[metric][usable] / measured[usable] - 1.0
    intervals = {
        each.key: _jackknifed(each, [law[each.key] for law in laws], parameters[each.key].highest)
        for each in found.parameters
    }
    return errors, intervals


def _jackknifed(fitted: FittedParameter, left_out: Sequence[float], highest: float) -> tuple[float, float]:
    """95 % interval from fits that leave a fold out; never narrower than the fit's own, nor than its resolution."""
    from scipy.stats import t

    folds = len(left_out)
    error = float(np.sqrt((folds - 1) * np.var(left_out)))
    half = max(float(t.ppf(0.975, folds - 1)) * error, _RESOLUTION * fitted.value)
    return max(0.0, min(fitted.low, fitted.value - half)), min(highest, max(fitted.high, fitted.value + half))
