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
from latency_models.fits.steps_fit import HeldOut, fit_shares, fit_steps, leave_one_out
from latency_models.laws.share_residuals import FactorTable
from latency_models.laws.steps import FITTED_GPU, StepsCoefficients, StepsStepTime

_SCALED = "codellama-34b"
_SCALED_TP = (1, 2, 4, 8)
_SOURCE = (
    "MuxServe (github.com/EfficientLLMSys/MuxServe, commit 9fb0fa5, examples/placement/llama.json): single steps of "
    "LLaMA-1, fp16, early vLLM without chunked prefill, A100-80GB, MPS shares 30 to 100 %"
)
_TP_NOTE = (
    "Prefill of more than about 32,000 tokens in one step with tensor parallelism takes up to twice as long as the law "
    "says (the source shows a jump there that no term explains); engines with a token budget run no such steps."
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
        values = _measured(members, fit_shares(members, gpu, start=coefficients), held_out)
        _write(path, values | {"provenance": origin | _METHOD_MEASURED})
        found.append(path)
    errors = _errors(leave_one_out(groups, gpu, "model"))
    for tp in _SCALED_TP:
        path = folder / f"{_SCALED}-{FITTED_GPU}-tp{tp}.yaml"
        values = {
            "latency": _latency(_SCALED, tp, coefficients)
            | {"fitted_models": sorted({group.model for group in groups})},
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
    "method": "soft-L1 loss on log residuals, with factors over share and tokens; errors: each share predicted from "
    "the others"
}
_METHOD_SCALED = {"method": "soft-L1 loss on log residuals of all models; errors: each model predicted from the others"}


def _measured(members: Sequence[SweepGroup], law: StepsStepTime, held_out: Sequence[HeldOut]) -> dict[str, Any]:
    model, tp = members[0].model, members[0].tp
    latency = _latency(model, tp, law.coefficients) | {"fitted_models": [model], "residuals": _residuals(law)}
    return {
        "latency": latency,
        "errors": _errors(held_out),
        "valid_range": _valid_range(members),
        "notes": [_LENGTH_NOTE] + ([_TP_NOTE] if tp > 1 else []),
    }


def _latency(model: str, tp: int, coefficients: StepsCoefficients) -> dict[str, Any]:
    return {
        "kind": "steps",
        "model": model,
        "gpu": FITTED_GPU,
        "tp": tp,
        "coefficients": {name: float(f"{value:.4g}") for name, value in asdict(coefficients).items()},
        "fitted_gpu": FITTED_GPU,
    }


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
    columns = {
        name: np.concatenate([getattr(group.table, name) for group in groups])
        for name in ("tokens", "sequences", "context")
    }
    shares = [group.compute_share for group in groups]
    return {name: [int(column.min()), int(column.max())] for name, column in columns.items()} | {
        "compute_share": [min(shares), max(shares)]
    }


def _write(path: Path, values: dict[str, Any]) -> None:
    text = yaml.safe_dump(values, sort_keys=False, width=120, default_flow_style=None, allow_unicode=True)
    with replacing(path) as stream:
        stream.write(f"# Use it with  latency: {{kind: file, name: {path.stem}}}\n")
        stream.write(text)


if __name__ == "__main__":
    for written in write_shipped_models(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else SHIPPED):
        print(written)
