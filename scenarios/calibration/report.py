"""A calibration as the YAML of a model file and as text on a terminal."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from analysis.result_files import replacing
from latency_models.errors import InputError
from latency_models.fits.fit_quality import LEVEL, RegimeError
from latency_models.fits.identifiability import in_words as linear_terms_in_words
from scenarios.calibration.measured_steps import MeasuredSteps
from scenarios.calibration.physical_fit import in_words as physical_terms_in_words
from scenarios.calibration.request_fit import RequestCalibration
from scenarios.calibration.step_fit import NOISE_STEPS, OverheadFit, StepCalibration

Calibration = StepCalibration | RequestCalibration

_DIGITS = 7


def provenance(
    kind: str, paths: Sequence[Path], calibration: Calibration, measured: MeasuredSteps | None
) -> dict[str, Any]:
    """Where a model comes from: files with their hashes, rows, versions."""
    values: dict[str, Any] = {
        "method": calibration.method,
        "from": kind,
        "files": [{"name": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()} for path in paths],
    }
    if measured is not None:
        values["rows_read"] = measured.rows_read
        values["rows_dropped"] = dict(measured.dropped)
        if measured.recorded is not None:
            values["recorded"] = measured.recorded
    values["rows_used"] = calibration.rows
    values["versions"] = {name: version(name) for name in ("routerwise", "numpy", "scipy")}
    return values


def model_values(calibration: Calibration, origin: Mapping[str, Any], *, noise: bool) -> dict[str, Any]:
    """Content of the model file; keys as in :mod:`latency_models.fits.model_files`."""
    values: dict[str, Any] = {"latency": _rounded(calibration.latency)}
    if isinstance(calibration, StepCalibration):
        if calibration.overhead is not None:
            values["engine_overhead"] = _overhead(calibration.overhead)
        if noise:
            values["noise"] = _noise(calibration)
    values["intervals"] = {
        "level": LEVEL,
        **{name: [_number(low), _number(high)] for name, (low, high) in calibration.intervals.items()},
    }
    values["errors"] = {
        error.regime: {"steps" if isinstance(calibration, StepCalibration) else "rows": error.steps,
                       **_rounded({"median": error.median, "p90": error.p90, "bias": error.bias})}
        for error in calibration.errors
    }  # fmt: skip
    values["valid_range"] = {
        name: [_number(low), _number(high)] for name, (low, high) in calibration.valid_range.items()
    }
    values["provenance"] = dict(origin)
    values["notes"] = list(calibration.notes)
    values["warnings"] = list(calibration.warnings)
    return values


def write_model(path: Path, values: Mapping[str, Any]) -> None:
    """Write a model file; it appears complete or not at all.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    text = yaml.safe_dump(dict(values), sort_keys=False, width=120, default_flow_style=None, allow_unicode=True)
    with replacing(path) as stream:
        stream.write("# Written by `routerwise calibrate`; use it with  latency: {kind: file, path: THIS FILE}\n")
        stream.write(text)


def coefficient_rows(calibration: Calibration) -> list[tuple[str, str, str, str]]:
    """Name, value, interval and meaning of each coefficient, as text."""
    in_words = physical_terms_in_words if calibration.latency["kind"] == "steps" else linear_terms_in_words
    rows = []
    for name, value in calibration.coefficients.items():
        ends = calibration.intervals.get(name)
        unknown = calibration.remarks.get(name, "not in the data")
        interval = unknown if ends is None else f"{_text(ends[0])} to {_text(ends[1])}"
        rows.append((name, _text(value), interval, in_words(name)))
    return rows


def error_rows(errors: Sequence[RegimeError]) -> list[tuple[str, str, str, str, str]]:
    """Regime, count, median, P90 and bias of the errors, as text."""
    return [
        (error.regime, str(error.steps), f"{error.median:.1%}", f"{error.p90:.1%}", f"{error.bias:+.1%}")
        for error in errors
    ]


def summary_lines(calibration: Calibration) -> list[str]:
    """What is beside the tables: the training error for comparison, CPU time and noise."""
    if isinstance(calibration, RequestCalibration):
        return [f"On the rows that it was fitted to, the mean error is {calibration.training_mean:.1%}"]
    lines = [f"On the steps that it was fitted to, the median error is {calibration.training_median:.1%}"]
    found = calibration.overhead
    if found is not None:
        counted = "beside the law" if found.separate else "part of the law"
        lines.append(
            f"CPU time of a step: {_text(found.step_s)} s + {_text(found.per_sequence_s)} s per sequence, {counted}"
        )
    noise = calibration.noise
    if noise is not None:
        lines.append(
            f"Noise around the law, over {NOISE_STEPS} steps each: {noise.sigma:.1%}, correlation with the next "
            f"{noise.persistence:.2f}"
        )
    return lines


def _noise(calibration: StepCalibration) -> dict[str, Any]:
    """The ``noise:`` section of a scenario's model."""
    noise = calibration.noise
    if noise is None:
        raise InputError(
            "--noise needs a few hundred consecutive steps; allowed: logs, not grids. Leave it out, or take a log"
        )
    return {
        "kind": "lognormal",
        "correlation_steps": NOISE_STEPS,
        **_rounded({"sigma": noise.sigma, "persistence": noise.persistence}),
    }


def _overhead(found: OverheadFit) -> dict[str, Any]:
    where = "beside latency: give both to the model" if found.separate else "within latency already: for information"
    return {
        **_rounded({"cpu_overhead_s": found.step_s, "cpu_per_sequence_s": found.per_sequence_s}),
        "counted": where,
    }


def _rounded(values: Mapping[str, Any]) -> dict[str, Any]:
    """The same with every number rounded that is not a count."""
    return {
        name: _rounded(value) if isinstance(value, Mapping) else _number(value) if isinstance(value, float) else value
        for name, value in values.items()
    }


def _number(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")


def _text(value: float) -> str:
    return f"{value:.4g}"
