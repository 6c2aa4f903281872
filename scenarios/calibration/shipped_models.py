"""The calibrated models that come with the package (``latency_models/calibrated``), and how to make them again.

``python -m scenarios.calibration.shipped_models SWEEP.csv [FOLDER]`` fits MuxServe's step times of LLaMA on A100-80GB
and writes one model file per model and tensor parallelism, and CodeLlama-34B scaled from them.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from analysis.result_files import replacing
from latency_models.catalogue.gpus import find_gpu
from latency_models.fits.fit_quality import errors_by_regime
from latency_models.fits.model_files import SHIPPED
from latency_models.fits.step_sweep import SweepGroup, read_step_sweep
from latency_models.fits.step_table import StepTable
from latency_models.fits.steps_fit import HeldOut, fit_shares, fit_steps, leave_one_out
from latency_models.laws.share_residuals import FactorTable, ShareResiduals
from latency_models.laws.steps import FITTED_GPU, StepsCoefficients, StepsStepTime
from scenarios.calibration.configured_steps import Configuration
from scenarios.calibration.physical_fit import share_range, steps_section
from scenarios.calibration.step_fit import valid_range

_SCALED = "codellama-34b"
_SCALED_TP = (1, 2, 4, 8)
_JUMP, _JUMP_TOKENS = 1.1, 4096
"""Factor above which a prefill of so many tokens or more is said to leave the law."""
_RANGES = ("tokens", "sequences", "context")
_SOURCE = (
    "MuxServe (github.com/EfficientLLMSys/MuxServe, commit 9fb0fa5, examples/placement/llama.json): single steps of "
    "LLaMA-1, fp16, early vLLM without chunked prefill, A100-80GB, MPS shares 30 to 100 %"
)
_LENGTH_NOTE = "Measured with 32 to 512 tokens per sequence; attention to longer contexts follows the law's terms."


def write_shipped_models(sweep: Path, folder: Path) -> list[Path]:
    """Fit the sweep and write the model files.

    Parameters
    ----------
    sweep : Path
        MuxServe's step times, in the columns of :func:`latency_models.fits.step_sweep.read_step_sweep`.
    folder : Path
        Where to write; files of the same name are replaced.

    Returns
    -------
    list of Path
        The files.

    Raises
    ------
    InputError
        If the sweep cannot be read or fitted.
    """
    groups, gpu = read_step_sweep(sweep), find_gpu(FITTED_GPU)
    origin = {
        "source": _SOURCE,
        "file": {"name": sweep.name, "sha256": hashlib.sha256(sweep.read_bytes()).hexdigest()},
        "versions": {name: version(name) for name in ("routerwise", "numpy", "scipy")},
    }
    found = []
    coefficients = fit_steps(groups, gpu).model.coefficients
    without_share = leave_one_out(groups, gpu, "share")
    ordered = sorted(groups, key=lambda group: (group.model, group.tp, group.compute_share))
    for (model, tp), same in groupby(ordered, key=lambda group: (group.model, group.tp)):
        members = list(same)
        path = folder / f"{model}-{FITTED_GPU}-tp{tp}.yaml"
        held_out = [each for each in without_share if (each.group.model, each.group.tp) == (model, tp)]
        values = _measured(members, fit_shares(members, gpu, coefficients), held_out)
        _write(path, values | {"provenance": origin | _METHOD_MEASURED})
        found.append(path)
    errors = _errors(leave_one_out(groups, gpu, "model"))
    for tp in _SCALED_TP:
        path = folder / f"{_SCALED}-{FITTED_GPU}-tp{tp}.yaml"
        values = {
            "latency": _latency(_SCALED, tp, coefficients, sorted({group.model for group in groups})),
            "errors": errors,
            "valid_range": _valid_range(groups),
            "provenance": origin | _METHOD_SCALED,
            "notes": [
                f"{_SCALED} was not measured: one law of LLaMA 7B, 13B and 65B is scaled by its architecture; errors "
                "are those of each of these models predicted from the others.",
                _LENGTH_NOTE,
            ],
        }
        _write(path, values)
        found.append(path)
    return found


_METHOD_MEASURED = {
    "method": "soft-L1 loss on log residuals of all models, with factors of this model over share and tokens; errors: "
    "each share predicted from the others"
}
_METHOD_SCALED = {"method": "soft-L1 loss on log residuals of all models; errors: each model predicted from the others"}


def _measured(members: Sequence[SweepGroup], law: StepsStepTime, held_out: Sequence[HeldOut]) -> dict[str, Any]:
    model, tp = members[0].model, members[0].tp
    latency = _latency(model, tp, law.coefficients, [model]) | {"residuals": _residuals(law)}
    return {
        "latency": latency,
        "errors": _errors(held_out),
        "valid_range": _valid_range(members),
        "notes": [_LENGTH_NOTE, *_jump_notes(law.residuals)],
    }


def _jump_notes(residuals: ShareResiduals | None) -> list[str]:
    """From where long prefills leave the law, if they do."""
    if residuals is None:
        return []
    table = residuals.prefill
    whole = table.factors[-1]
    long = [
        place
        for place, (tokens, factor) in enumerate(zip(table.tokens, whole, strict=True))
        if tokens >= _JUMP_TOKENS and factor > _JUMP
    ]
    if not long:
        return []
    return [
        f"Prefill from {table.tokens[long[0]]} tokens in one step takes {whole[long[0]]:.2f} to "
        f"{max(whole[long[0] :]):.2f} times what the law says on the whole GPU; the factors hold that.  The source "
        "shows this jump with tensor parallelism only, and about the same seconds at every share, so that neither "
        "computing nor reading memory explains it.  Engines with a token budget below run no such steps."
    ]


def _latency(model: str, tp: int, coefficients: StepsCoefficients, fitted: Sequence[str]) -> dict[str, Any]:
    rounded = {name: float(f"{value:.4g}") for name, value in asdict(coefficients).items()}
    target = Configuration(model=model, tp=tp)
    return steps_section(target, find_gpu(FITTED_GPU), StepsCoefficients(**rounded), fitted)


def _residuals(law: StepsStepTime) -> dict[str, Any]:
    def plain(table: FactorTable) -> dict[str, Any]:
        return {
            "shares": list(table.shares),
            "tokens": list(table.tokens),
            "factors": [list(row) for row in table.factors],
        }

    return {} if law.residuals is None else {
        "prefill": plain(law.residuals.prefill), "decode": plain(law.residuals.decode)
    }  # fmt: skip


def _errors(held_out: Sequence[HeldOut]) -> dict[str, Any]:
    labels = np.concatenate([np.where(each.group.table.prefill_seqs == 0, "decode", "prefill") for each in held_out])
    errors = np.concatenate([each.relative_errors for each in held_out])
    return {
        error.regime: {
            "steps": error.steps,
            **{name: round(getattr(error, name), 4) for name in ("median", "p90", "bias")},
        }
        for error in errors_by_regime(labels, errors)
    }


def _valid_range(groups: Sequence[SweepGroup]) -> dict[str, Any]:
    found = valid_range(StepTable.concatenate(group.table for group in groups))
    whole = {name: [int(low), int(high)] for name, (low, high) in found.items() if name in _RANGES}
    return whole | {name: list(ends) for name, ends in share_range(groups).items()}


def _write(path: Path, values: dict[str, Any]) -> None:
    text = yaml.safe_dump(values, sort_keys=False, width=120, default_flow_style=None, allow_unicode=True)
    with replacing(path) as stream:
        stream.write(f"# Use it with  latency: {{kind: file, name: {path.stem}}}\n")
        stream.write(text)


if __name__ == "__main__":
    for written in write_shipped_models(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else SHIPPED):
        print(written)
