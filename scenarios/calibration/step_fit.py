"""Calibration on measured steps: the fitted law with everything that says how far to trust it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latency_models.errors import InputError, invalid
from latency_models.fits.fit_quality import (
    RegimeError,
    bootstrap_intervals,
    cross_validated_errors,
    errors_by_regime,
    regimes,
)
from latency_models.fits.fitting import DEFAULT_TERMS, LinearFit, fit_linear, robust_non_negative
from latency_models.fits.identifiability import identifiable_terms, uncertain_terms
from latency_models.fits.step_table import Floats, StepTable
from scenarios.calibration.measured_steps import CpuTimes, MeasuredSteps
from scenarios.calibration.speed_change import speed_change_note

LARGEST_TABLE = 50_000
"""Steps that a fit looks at; of longer logs it takes every k-th, which changes no coefficient visibly."""

NOISE_STEPS = 16
"""Consecutive steps that share a factor of the noise."""

_GAUSSIAN_MAD = 1.4826
_LEAST_NOISE_BLOCKS = 10
_STEPS_PER_TERM = 2
_LEAST_STEPS = 10
_METHOD = (
    "Huber loss on relative errors, non-negative least squares; intervals: bootstrap over blocks of consecutive steps "
    "(cells, for a grid); errors: cross-validated over 5 folds of those blocks"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class OverheadFit:
    """CPU time of the engine around a step, as fitted, in seconds."""

    step_s: float
    per_sequence_s: float
    separate: bool
    """Whether it is left out of the step-time law, as a scenario's ``cpu_overhead_s`` needs it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NoiseFit:
    """Spread of the measured steps around the law."""

    sigma: float
    """Standard deviation of the logarithm of measured over predicted, averaged over :data:`NOISE_STEPS` steps."""
    persistence: float
    """Correlation of one such average with the next."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepCalibration:
    """A law fitted to steps; columns have shape (n,)."""

    latency: Mapping[str, Any]
    """The ``latency:`` section."""
    coefficients: Mapping[str, float]
    """Numbers of the law."""
    intervals: Mapping[str, tuple[float, float]]
    """95 % intervals of those that the steps can tell."""
    remarks: Mapping[str, str] = field(default_factory=dict)
    """Why another one has none, where it is not simply missing in the data."""
    method: str
    """How all of this was found."""
    table: StepTable
    labels: NDArray[np.str_]
    """Regime of each step."""
    relative_errors: Floats
    """Cross-validated: each step predicted by a law that was fitted without its fold."""
    errors: list[RegimeError]
    """The same by regime."""
    training_median: float
    """Median absolute relative error on the steps that the law was fitted to."""
    warnings: tuple[str, ...]
    valid_range: Mapping[str, tuple[float, float]]
    notes: tuple[str, ...]
    overhead: OverheadFit | None
    noise: NoiseFit | None
    """Of consecutive steps; a grid has none."""

    @property
    def rows(self) -> int:
        """Steps that were used."""
        return len(self.table)


def calibrate_on_steps(measured: MeasuredSteps, *, separate_overhead: bool = False, seed: int = 0) -> StepCalibration:
    """Fit the linear law to measured steps.

    Parameters
    ----------
    measured : MeasuredSteps
        The steps.
    separate_overhead : bool
        Fit the law to the steps less the engine's CPU time, which is fitted beside it.
    seed : int
        Seed of the resampling behind the intervals.

    Raises
    ------
    InputError
        If there are too few steps, or the source does not separate CPU time although it is asked for.
    """
    ready = prepared(measured, separate_overhead=separate_overhead, most=LARGEST_TABLE)
    measured, table = ready.measured, ready.table
    kept, missing = identifiable_terms(table, DEFAULT_TERMS)
    least = max(_LEAST_STEPS, _STEPS_PER_TERM * len(kept))
    if len(table) < least:
        raise InputError(
            f"only {len(table)} steps can be used; allowed: at least {least}, and {_STEPS_PER_TERM} for each "
            f"of the {len(kept)} coefficients that they show. Measure longer"
        )

    def fit(steps: StepTable) -> LinearFit:
        return fit_linear(steps, terms=kept)

    found = fit(table)
    intervals = bootstrap_intervals(table, fit, measured.groups, seed=seed)
    fitted = {name: intervals[name] for name in kept}
    held_out = cross_validated_errors(table, fit, measured.groups)
    labels = regimes(table)
    coefficients = {name: value for name, value in found.coefficients.items() if name in DEFAULT_TERMS}
    return StepCalibration(
        latency={"kind": "linear", **coefficients},
        method=_METHOD,
        coefficients=coefficients,
        intervals=fitted,
        table=table,
        labels=labels,
        relative_errors=held_out,
        errors=errors_by_regime(labels, held_out),
        training_median=found.median_relative_error,
        warnings=(*missing, *uncertain_terms(table, found.coefficients, fitted)),
        valid_range=valid_range(table),
        notes=(*measured.notes, *speed_change_notes(measured, held_out)),
        overhead=ready.overhead,
        noise=fitted_noise(found.relative_errors) if measured.consecutive else None,
    )


def speed_change_notes(measured: MeasuredSteps, relative_errors: Floats) -> tuple[str, ...]:
    """What the errors of consecutive steps tell of the machine's speed."""
    note = speed_change_note(relative_errors) if measured.consecutive else None
    return () if note is None else (note,)


def valid_range(table: StepTable) -> dict[str, tuple[float, float]]:
    """Smallest and largest of what the measured steps computed."""
    quantities = {
        "tokens": table.tokens,
        "sequences": table.sequences,
        "context": table.context,
        "context_per_sequence": table.context / table.sequences,
        "prefill_tokens": table.prefill_tokens,
        "decode_sequences": table.decode_seqs,
    }
    return {name: (float(values.min()), float(values.max())) for name, values in quantities.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedSteps:
    """Steps as a law is fitted to them."""

    measured: MeasuredSteps
    """Those that the fit looks at."""
    chosen: slice
    """Their rows among all that were read."""
    table: StepTable
    """The same without the engine's CPU time, where that is fitted beside the law."""
    overhead: OverheadFit | None


def prepared(measured: MeasuredSteps, *, separate_overhead: bool, most: int) -> PreparedSteps:
    """Thin a long log out to ``most`` steps, and fit the engine's CPU time where the source separates it.

    Raises
    ------
    InputError
        If the source does not separate CPU time although it is asked for.
    """
    rows = len(measured.table)
    chosen = slice(None, None, max(1, -(-rows // most)))
    if rows > most:
        measured = _thinned(measured, chosen)
    table, cpu = measured.table, measured.cpu
    overhead = None if cpu is None else _fit_overhead(cpu, separate=separate_overhead)
    if separate_overhead:
        table = _without_cpu(table, cpu)
    return PreparedSteps(measured=measured, chosen=chosen, table=table, overhead=overhead)


def _thinned(measured: MeasuredSteps, chosen: slice) -> MeasuredSteps:
    cpu = measured.cpu
    return replace(
        measured,
        table=measured.table.rows(chosen),
        groups=measured.groups[chosen],
        cpu=None if cpu is None else CpuTimes(sequences=cpu.sequences[chosen], cpu_s=cpu.cpu_s[chosen]),
        notes=(*measured.notes, f"of {len(measured.table)} usable steps every {chosen.step}th was used"),
    )


def _fit_overhead(cpu: CpuTimes, *, separate: bool) -> OverheadFit:
    spent = cpu.cpu_s > 0.0
    if spent.sum() < _STEPS_PER_TERM:
        raise invalid("CPU times of the steps", int(spent.sum()), "at least 2 steps with a time > 0")
    design = np.column_stack([np.ones(int(spent.sum())), cpu.sequences[spent]]) / cpu.cpu_s[spent, None]
    if np.ptp(cpu.sequences[spent]) == 0.0:
        design = design[:, :1]
    step_s, per_sequence_s = [*robust_non_negative(design, np.ones(len(design))).tolist(), 0.0][:2]
    return OverheadFit(step_s=step_s, per_sequence_s=per_sequence_s, separate=separate)


def _without_cpu(table: StepTable, cpu: CpuTimes | None) -> StepTable:
    if cpu is None:
        raise InputError(
            "--separate-overhead needs steps whose CPU time is known; allowed: step rows with the times of the "
            "engine's loop (t_sched_start, ..., or schedule_s, ...). Leave it out: the law then contains the CPU time"
        )
    return replace(table, duration_s=table.duration_s - cpu.cpu_s)


def fitted_noise(relative_errors: Floats) -> NoiseFit | None:
    """Spread of consecutive steps around a law, robust against the outliers that every log has.

    The law's own misfit counts as noise.  Logs too short to tell it give ``None``.
    """
    blocks = len(relative_errors) // NOISE_STEPS
    if blocks < _LEAST_NOISE_BLOCKS:
        return None
    logs = -np.log1p(np.maximum(relative_errors[: blocks * NOISE_STEPS], -0.999))
    means = np.median(logs.reshape(blocks, NOISE_STEPS), axis=1)
    centred = means - np.median(means)
    sigma = _GAUSSIAN_MAD * float(np.median(np.abs(centred)))
    clipped = np.clip(centred, -3.0 * sigma, 3.0 * sigma)
    power = float(clipped @ clipped)
    persistence = float(clipped[:-1] @ clipped[1:]) / power if power > 0.0 else 0.0
    return NoiseFit(sigma=min(sigma, 1.0), persistence=min(max(persistence, 0.0), 0.99))
