"""Calibration of the law in physical terms (``latency: {kind: steps}``) on measured steps.

Few measurements tell all terms of that law.  Some coefficients are fitted, the others are held at the fit that ships
with the package.  Of the fitted ones, those that the steps do not tell stay near it, as :func:`fit_steps` weighs it in,
and are named.

Intervals are those of an M-estimator with correlated observations: Huber, "The behavior of maximum likelihood estimates
under nonstandard conditions" (1967), with scores summed over groups of steps as by Liang and Zeger, Biometrika 73
(1986).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from latency_models.catalogue.architectures import find_architecture
from latency_models.catalogue.gpus import GpuSpec
from latency_models.errors import InputError
from latency_models.fits.fit_quality import FOLDS, LEVEL, Ints, errors_by_regime, regimes
from latency_models.fits.identifiability import WIDE
from latency_models.fits.step_sweep import SweepGroup
from latency_models.fits.step_table import Floats
from latency_models.fits.steps_fit import fit_steps, model_of
from latency_models.laws.steps import DEFAULTS_SOURCE, EFFICIENCIES, StepsCoefficients
from scenarios.calibration.configured_steps import Configuration, ConfiguredSteps
from scenarios.calibration.step_fit import (
    StepCalibration,
    fitted_noise,
    prepared,
    speed_change_notes,
    valid_range,
)

FREE = (
    "step_s",
    "sequence_s",
    "layer_launch_s",
    "parallel_launch_s",
    "prefill_launch_s",
    "compute",
    "memory",
    "kv",
)
"""Coefficients that are fitted: what differs from engine to engine and from GPU to GPU."""

LARGEST_TABLE = 10_000
"""Steps that a fit looks at; of longer logs it takes every k-th."""

_LEAST_STEPS = 20
_TOLD = 0.01
"""Information on the logarithm of a coefficient from which on the steps tell it: the weight of the starting value."""
_PASSES = 5
"""Most fits, each from where the one before ended; every one halves what the first starting values still weigh."""
_DIFFERENCE = 1e-4
"""Change of a logarithm for the slopes."""
_AWAY = 0.3
"""Change of a logarithm at which the steps must speak against a coefficient: one that is hidden behind a longer term
has slopes just where it begins to show, and none beyond."""
_OUTLIER = 0.03
"""Relative residual from which the loss is linear, as in the fit."""
_RESOLUTION = 5e-3
"""Relative half-width below which no interval is stated: the search stops, and the law has kinks."""
_WIDEST = math.log(30.0)
"""Logarithm of a factor from which on an interval says no more than that the steps do not tell."""
_SETTLED = 1e-3
"""Relative change of the coefficients from one fit to the next at which they are taken."""
_AT_BOUND = 0.995
_NO_TIME_S = 2e-9
_HELD = "held at the shipped fit"
_UNTOLD = "not in the data"
_METHOD = (
    "soft-L1 loss on log residuals of all configurations together, few coefficients free; intervals: sandwich over "
    "{groups}; errors: cross-validated over 5 folds of those"
)

_MEANING = {
    "step_s": "time of every step",
    "sequence_s": "time per sequence",
    "layer_launch_s": "time to launch a layer's kernels",
    "parallel_launch_s": "the same, more with tensor parallelism",
    "prefill_launch_s": "the same, more in a step with prefill",
    "compute": "share of the datasheet's throughput",
    "memory": "share of its bandwidth, weights and activations",
    "kv": "share of its bandwidth, KV cache",
    "attention": "share of its throughput, attention of prefill",
    "link": "share of the bandwidth between GPUs",
    "half_tile_cost": "time of half a tile of a product",
    "bandwidth_half_share": "how early bandwidth saturates over the compute share",
    "hidden_passes": "passes of a token's activations, model width",
    "inner_passes": "passes of a token's activations, inner width",
    "reduce_s": "time of each sum over the shards",
    "short_link": "share of the links that a short sum reaches",
    "bulk_reduce_s": "start of a long sum",
    "head_start_s": "time to start the attention of a head",
}
_MEASURE = {
    "step_s": "steps of a single short sequence, and ones of many times their length",
    "sequence_s": "decode steps with few and with many sequences",
    "layer_launch_s": "steps so small that the host's work limits them, beside large ones",
    "parallel_launch_s": "such steps with tensor parallelism",
    "prefill_launch_s": "prefills of a few tokens",
    "compute": "prefills of hundreds of tokens and more",
    "memory": "decode steps with small batches and short contexts",
    "kv": "decode steps of equal batch with short and with long contexts",
}


def in_words(name: str) -> str:
    """What a coefficient of the law is."""
    return _MEANING.get(name, "")


def calibrate_steps_law(steps: ConfiguredSteps, gpu: GpuSpec, *, separate_overhead: bool = False) -> StepCalibration:
    """Fit the law in physical terms.

    Parameters
    ----------
    steps : ConfiguredSteps
        The steps and what ran them.
    gpu : GpuSpec
        The GPU of all of them.
    separate_overhead : bool
        Fit the law to the steps less the engine's CPU time, which is fitted beside it.

    Raises
    ------
    InputError
        If there are too few steps, a model is not supported, or the source does not separate CPU time although it is
        asked for.
    """
    ready = prepared(steps.measured, separate_overhead=separate_overhead, most=LARGEST_TABLE)
    steps = replace(
        steps, measured=ready.measured, configuration_of=steps.configuration_of[ready.chosen]
    ).with_durations(ready.table.duration_s)
    table = ready.table
    if len(table) < _LEAST_STEPS:
        raise InputError(f"only {len(table)} steps can be used; allowed: at least {_LEAST_STEPS}. Measure longer")
    found = _fit(steps.groups(), gpu)
    told = _Told.by(steps.groups(), gpu, found)
    held_out = _cross_validated(steps, gpu)
    training = _relative_errors(steps.groups(), gpu, found)
    labels = regimes(table)
    intervals, remarks = _intervals(found, told, ready.measured.groups)
    names = tuple(dict.fromkeys(find_architecture(each.model).name for each in steps.configurations))
    resampled = "configurations" if len(steps.configurations) == len(np.unique(ready.measured.groups)) else (
        "blocks of consecutive steps" if ready.measured.consecutive else "cells"
    )  # fmt: skip
    return StepCalibration(
        latency=steps_section(steps.target, gpu, found, names),
        method=_METHOD.format(groups=resampled),
        coefficients=asdict(found),
        intervals=intervals,
        remarks=remarks,
        table=table,
        labels=labels,
        relative_errors=held_out,
        errors=errors_by_regime(labels, held_out),
        training_median=float(np.median(np.abs(training))),
        warnings=tuple(_warnings(found, intervals, remarks)),
        valid_range=valid_range(table) | share_range(steps.groups()),
        notes=(
            *ready.measured.notes,
            *_notes(steps, gpu, found, names),
            *speed_change_notes(ready.measured, held_out),
        ),
        overhead=ready.overhead,
        noise=fitted_noise(training) if ready.measured.consecutive else None,
    )


def steps_section(
    target: Configuration, gpu: GpuSpec, coefficients: StepsCoefficients, fitted_models: Sequence[str]
) -> dict[str, Any]:
    """The ``latency:`` section of a fitted law."""
    is_file = target.model.endswith(".json")
    return {
        "kind": "steps",
        "model": {"path": str(Path(target.model).absolute())} if is_file else target.model,
        "gpu": gpu.name,
        "tp": target.tp,
        "coefficients": asdict(coefficients),
        "fitted_models": list(fitted_models),
        "fitted_gpu": gpu.name,
    }


def share_range(groups: Sequence[SweepGroup]) -> dict[str, tuple[float, float]]:
    """Smallest and largest share of the multiprocessors that was measured, if any was."""
    shares = [group.compute_share for group in groups]
    return {"compute_share": (min(shares), max(shares))} if min(shares) < 1.0 else {}


def _fit(groups: Sequence[SweepGroup], gpu: GpuSpec) -> StepsCoefficients:
    """Fit, and again from there what the steps tell, since every fit weighs its starting values in."""
    found = fit_steps(groups, gpu, start=StepsCoefficients(), free=FREE).model.coefficients
    for _ in range(_PASSES - 1):
        told = _Told.by(groups, gpu, found).names
        if not told:
            break
        before, found = found, fit_steps(groups, gpu, start=found, free=told).model.coefficients
        if all(abs(getattr(found, name) / getattr(before, name) - 1.0) < _SETTLED for name in told):
            break
    return found


def _logs(groups: Sequence[SweepGroup], gpu: GpuSpec, coefficients: StepsCoefficients) -> Floats:
    """Logarithms of predicted over measured time, group after group."""
    ratios = [model_of(each, gpu, coefficients).table_s(each.table) / each.table.duration_s for each in groups]
    logs: Floats = np.log(np.concatenate(ratios))
    return logs


def _relative_errors(groups: Sequence[SweepGroup], gpu: GpuSpec, coefficients: StepsCoefficients) -> Floats:
    errors: Floats = np.expm1(_logs(groups, gpu, coefficients))
    return errors


def _cross_validated(steps: ConfiguredSteps, gpu: GpuSpec) -> Floats:
    """Relative error of each step by a law that was fitted without its group's fold."""
    _, numbers = np.unique(steps.measured.groups, return_inverse=True)
    errors = np.empty(len(numbers))
    for fold in range(FOLDS):
        tested = numbers % FOLDS == fold
        if not tested.any():
            continue
        errors[tested] = _relative_errors(steps.groups(tested), gpu, _fit(steps.groups(~tested), gpu))
    return errors


def _loss(residuals: Floats) -> float:
    """Soft-L1 loss, about half the sum of squares where these are small."""
    return float(_OUTLIER**2 * (np.sqrt(1.0 + (residuals / _OUTLIER) ** 2) - 1.0).sum())


@dataclass(frozen=True, slots=True, kw_only=True)
class _Told:
    """Which coefficients the steps tell, with slopes at the fit."""

    names: Sequence[str]
    slopes: Floats
    """Of the logarithm of each step's time over that of each coefficient; shape (n, coefficients), told ones first."""
    curvature: Floats
    """Second derivatives of the loss; shape (coefficients, coefficients)."""
    residuals: Floats

    @classmethod
    def by(cls, groups: Sequence[SweepGroup], gpu: GpuSpec, found: StepsCoefficients) -> _Told:
        residuals = _logs(groups, gpu, found)

        def moved(name: str, change: float) -> Floats:
            value = min(getattr(found, name) * float(np.exp(change)), 1.0 if name in EFFICIENCIES else np.inf)
            return _logs(groups, gpu, replace(found, **{name: value}))

        slopes = {}
        for name in FREE:
            if _bound(name, getattr(found, name)) is not None:
                continue
            worse = [_loss(moved(name, change)) - _loss(residuals) for change in (-_AWAY, _AWAY)]
            if 2.0 * min(worse) >= _TOLD * _AWAY**2:
                # Downwards, as upwards may leave a coefficient's range.
                slopes[name] = (residuals - moved(name, -_DIFFERENCE)) / _DIFFERENCE
        found_slopes = np.array(list(slopes.values())).reshape(len(slopes), len(residuals)).T
        weights = (1.0 + (residuals / _OUTLIER) ** 2) ** -1.5
        curvature = found_slopes.T @ (found_slopes * weights[:, None])
        told = list(range(len(slopes)))
        while told:
            among = curvature[np.ix_(told, told)]
            # Two that cannot be told apart have no inverse; with this they have a huge one.
            information = 1.0 / np.diag(np.linalg.inv(among + 1e-9 * np.trace(among) * np.eye(len(told))))
            worst = int(np.argmin(information))
            if information[worst] >= _TOLD:
                break
            told.pop(worst)
        order = told + [index for index in range(len(slopes)) if index not in told]
        every = list(slopes)
        return cls(
            names=[every[index] for index in told],
            slopes=found_slopes[:, order],
            curvature=curvature[np.ix_(order, order)],
            residuals=residuals,
        )

    def standard_errors(self, groups: Ints) -> Floats:
        """Of the logarithms of the told coefficients, with residuals that are alike within a group; shape (names,).

        Of the others, only the starting value is known, with the weight that the fit gives it.
        """
        pulls = self.residuals / np.sqrt(1.0 + (self.residuals / _OUTLIER) ** 2)
        scores = self.slopes * pulls[:, None]
        _, numbers = np.unique(groups, return_inverse=True)
        count = int(numbers.max()) + 1
        sums = np.column_stack([np.bincount(numbers, weights=column, minlength=count) for column in scores.T])
        started = np.diag(np.where(np.arange(len(self.curvature)) < len(self.names), 0.0, _TOLD))
        inverse = np.linalg.inv(self.curvature + started)
        spread = sums.T @ sums * count / max(count - 1, 1) + started * float(np.mean(pulls**2))
        errors: Floats = np.sqrt(np.maximum(np.diag(inverse @ spread @ inverse), 0.0))
        return errors[: len(self.names)]


def _intervals(
    found: StepsCoefficients, told: _Told, groups: Ints
) -> tuple[dict[str, tuple[float, float]], dict[str, str]]:
    """Intervals of the coefficients that the steps tell, and a word on each of the others."""
    from scipy.stats import t

    intervals: dict[str, tuple[float, float]] = {}
    if told.names:
        factor = float(t.ppf(0.5 + LEVEL / 2.0, max(len(np.unique(groups)) - 1, 1)))
        for name, error in zip(told.names, told.standard_errors(groups), strict=True):
            value, half = getattr(found, name), max(factor * float(error), _RESOLUTION)
            if half > _WIDEST:
                continue
            high = value * float(np.exp(half))
            intervals[name] = (value * float(np.exp(-half)), min(high, 1.0) if name in EFFICIENCIES else high)
    remarks: dict[str, str] = {}
    for entry in fields(found):
        if entry.name not in intervals:
            bound = _bound(entry.name, getattr(found, entry.name)) if entry.name in FREE else _HELD
            remarks[entry.name] = bound or _UNTOLD
    return intervals, remarks


def _bound(name: str, value: float) -> str | None:
    """The bound at which a fitted coefficient sits, in words."""
    if name in EFFICIENCIES:
        return "at its bound, 1" if value >= _AT_BOUND else None
    return "at its bound, 0" if value <= _NO_TIME_S else None


def _warnings(
    found: StepsCoefficients, intervals: Mapping[str, tuple[float, float]], remarks: Mapping[str, str]
) -> list[str]:
    warnings = []
    for name in FREE:
        value, meaning, advice = getattr(found, name), f"{name} ({in_words(name)})", f"measure {_MEASURE[name]}"
        if name in intervals:
            low, high = intervals[name]
            if high - low > 2.0 * WIDE * value:
                warnings.append(
                    f"{meaning} is badly known: {value:.3g}, between {low:.3g} and {high:.3g}. To know it better, "
                    f"{advice}"
                )
        elif remarks[name] == _UNTOLD:
            warnings.append(
                f"{meaning} is not told by these steps, whose times hardly change with it; it stays at {value:.3g}. To "
                f"know it, {advice}"
            )
        else:
            warnings.append(
                f"{meaning} is {remarks[name]}: the law has no better value for these steps. Check that the model, "
                "its weights' format, the GPU and tp are those that were measured"
            )
    return warnings


def _notes(steps: ConfiguredSteps, gpu: GpuSpec, found: StepsCoefficients, fitted_models: Sequence[str]) -> list[str]:
    held = ", ".join(entry.name for entry in fields(found) if entry.name not in FREE)
    notes = [f"held at the shipped fit ({DEFAULTS_SOURCE}): {held}"]
    target = find_architecture(steps.target.model).name
    if target not in fitted_models:
        notes.append(
            f"{target} was not measured: the law of {', '.join(fitted_models)} on {gpu.name} is scaled by architecture"
        )
    return notes
