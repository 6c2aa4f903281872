"""Fit of the ``steps`` law to sweeps of measured steps, and its errors on what a fit has not seen.

Residuals are logarithms of predicted over measured time, with a loss that grows only linearly for outliers (soft L1);
coefficients are fitted as logarithms, so that none becomes negative.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from latency_models.catalogue.architectures import find_architecture
from latency_models.catalogue.gpus import GpuSpec
from latency_models.errors import InputError, invalid
from latency_models.fits.fit_quality import regimes
from latency_models.fits.step_sweep import SweepGroup
from latency_models.fits.step_table import Floats
from latency_models.laws.share_residuals import FactorTable, ShareResiduals
from latency_models.laws.steps import EFFICIENCIES, StepsCoefficients, StepsStepTime

START = StepsCoefficients(
    step_s=1e-3,
    sequence_s=5e-6,
    layer_launch_s=2e-4,
    parallel_launch_s=2e-4,
    prefill_launch_s=2e-4,
    compute=0.8,
    memory=0.8,
    kv=0.8,
    attention=0.6,
    link=0.7,
    half_tile_cost=0.6,
    bandwidth_half_share=0.25,
    hidden_passes=40.0,
    inner_passes=15.0,
    reduce_s=5e-5,
    short_link=0.1,
    bulk_reduce_s=5e-5,
    head_start_s=2e-6,
)
"""Round numbers to start a fit from; what the steps do not tell stays near them."""

_OUTLIER = 0.03
"""Relative residual from which the loss is linear."""
_PRIOR_SPREAD = 0.3
"""Relative distance from its start at which a coefficient costs as much as one residual at :data:`_OUTLIER`: nothing
beside steps that tell it, enough to keep one in place that they do not tell from the others."""
_MAX_EVALUATIONS = 60
_TOLERANCE = 1e-4
_SMALLEST = 1e-9
_LONGEST_S = 0.1
_MOST_PASSES = 1e3
# Short prompts hardly tell attention; T. Dao, FlashAttention-2 (2023), figure 4, reaches 0.73 of an A100's throughput.
_UPPER = {"half_tile_cost": 1.0, **dict.fromkeys(EFFICIENCIES, 1.0), "attention": 0.73}
_LOWER = {"half_tile_cost": 0.25, **dict.fromkeys(EFFICIENCIES, 0.01)}
_KERNEL_LOG_SHARE = 0.15
"""Distance in log share over which factors of neighbouring shares count 1/e, to average their noise."""


def model_of(group: SweepGroup, gpu: GpuSpec, coefficients: StepsCoefficients) -> StepsStepTime:
    """The law for the configuration of a group, whose model must be in the catalogue."""
    return StepsStepTime(
        architecture=find_architecture(group.model),
        gpu=gpu,
        tp=group.tp,
        compute_share=group.compute_share,
        coefficients=coefficients,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class StepsFit:
    """A fitted law.

    Parameters
    ----------
    model : StepsStepTime
        The law for the first group's model, GPUs and share.
    relative_errors : ndarray, shape (n,)
        (predicted - measured) / measured of all steps, group after group.
    """

    model: StepsStepTime
    relative_errors: Floats

    @property
    def coefficients(self) -> Mapping[str, float]:
        """All coefficients by name."""
        return asdict(self.model.coefficients)


def fit_steps(
    groups: Sequence[SweepGroup],
    gpu: GpuSpec,
    *,
    start: StepsCoefficients = START,
    free: Sequence[str] | None = None,
) -> StepsFit:
    """Fit one set of coefficients to the steps of all groups.

    Parameters
    ----------
    groups : sequence of SweepGroup
        Measured steps; their models are names of the catalogue of architectures.
    gpu : GpuSpec
        The GPU of all of them.
    start : StepsCoefficients
        Where the search begins.
    free : sequence of str, optional
        Coefficients to fit; the others keep their values of ``start``.  Default: all.

    Returns
    -------
    StepsFit
        The law.  Coefficients that these steps cannot tell (sums over the shards without tensor parallelism, memory
        from launches with a single model) stay near those of ``start``.

    Raises
    ------
    InputError
        If there are fewer steps than coefficients, or a model is unknown.
    """
    from scipy.optimize import least_squares

    names = [field.name for field in fields(StepsCoefficients)] if free is None else list(free)
    if sum(len(group.table) for group in groups) < len(names):
        raise InputError(
            f"there are {sum(len(group.table) for group in groups)} measured steps; allowed: at least {len(names)}, "
            "one per fitted coefficient"
        )
    measured = np.log(np.concatenate([group.table.duration_s for group in groups]))
    bases = [model_of(group, gpu, start) for group in groups]

    def residuals(logs: Floats) -> Floats:
        difference: Floats = np.log(_predicted_s(groups, bases, _coefficients(start, names, logs))) - measured
        return difference

    def with_prior(logs: Floats) -> Floats:
        return np.concatenate([residuals(logs), (logs - begin) * (_OUTLIER / _PRIOR_SPREAD)])

    lower = np.log([_LOWER.get(name, _SMALLEST) for name in names])
    upper = np.log([_upper(name) for name in names])
    begin = np.log([max(getattr(start, name), _SMALLEST) for name in names])
    begin = np.clip(begin, lower + 1e-3, upper - 1e-3)
    found = least_squares(
        with_prior,
        begin,
        bounds=(lower, upper),
        loss="soft_l1",
        f_scale=_OUTLIER,
        ftol=_TOLERANCE,
        max_nfev=_MAX_EVALUATIONS,
    )
    coefficients = _coefficients(start, names, found.x)
    return StepsFit(
        model=model_of(groups[0], gpu, coefficients), relative_errors=np.expm1(residuals(np.asarray(found.x)))
    )


def _coefficients(start: StepsCoefficients, names: Sequence[str], logs: Floats) -> StepsCoefficients:
    # The logarithm of an upper bound may come back an ulp above it.
    values = np.exp(logs)
    return replace(start, **{name: min(float(value), _upper(name)) for name, value in zip(names, values, strict=True)})


def _upper(name: str) -> float:
    return _LONGEST_S if name.endswith("_s") else _UPPER.get(name, _MOST_PASSES)


def _predicted_s(
    groups: Sequence[SweepGroup], bases: Sequence[StepsStepTime], coefficients: StepsCoefficients
) -> Floats:
    return np.concatenate(
        [
            replace(base, coefficients=coefficients).table_s(group.table)
            for group, base in zip(groups, bases, strict=True)
        ]
    )


def fit_residuals(groups: Sequence[SweepGroup], gpu: GpuSpec, coefficients: StepsCoefficients) -> ShareResiduals:
    """Factors between measured steps and the law, over share and tokens.

    Parameters
    ----------
    groups : sequence of SweepGroup
        Shares of one model and tensor parallelism.
    gpu : GpuSpec
        Their GPU.
    coefficients : StepsCoefficients
        The law.

    Returns
    -------
    ShareResiduals
        Medians over steps of the same kind, share and tokens, averaged with those of neighbouring shares.

    Raises
    ------
    InputError
        If the groups differ in more than the share, or lack prefills or decodes.
    """
    kinds = {(group.model, group.tp) for group in groups}
    if len(kinds) != 1:
        raise invalid("groups", sorted(kinds), "shares of one model and one tp")
    return ShareResiduals(
        prefill=_factor_table(groups, gpu, coefficients, decode=False),
        decode=_factor_table(groups, gpu, coefficients, decode=True),
    )


def _factor_table(
    groups: Sequence[SweepGroup], gpu: GpuSpec, coefficients: StepsCoefficients, *, decode: bool
) -> FactorTable:
    cells: dict[tuple[float, int], float] = {}
    for group in groups:
        table = group.table.rows((group.table.prefill_seqs == 0) == decode)
        logs = np.log(table.duration_s / model_of(group, gpu, coefficients).table_s(table))
        for count in np.unique(table.tokens):
            cells[group.compute_share, int(count)] = float(np.median(logs[table.tokens == count]))
    if not cells:
        raise InputError(f"the sweep has no {'decode' if decode else 'prefill'} step; allowed: some of both kinds")
    shares = sorted({share for share, _ in cells})
    counts = sorted({count for _, count in cells})
    return FactorTable(
        shares=shares,
        tokens=counts,
        factors=[[round(math.exp(_smoothed(cells, share, count)), 4) for count in counts] for share in shares],
    )


def _smoothed(cells: Mapping[tuple[float, int], float], share: float, count: int) -> float:
    """Mean over the measured shares of a size, the nearer ones weighing more."""
    near = [(other, value) for (other, size), value in cells.items() if size == count]
    weights = np.exp([-abs(math.log(other / share)) / _KERNEL_LOG_SHARE for other, _ in near])
    return float(weights @ np.array([value for _, value in near]) / weights.sum())


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOut:
    """Errors on the steps of one group, by a law that was fitted without it.

    Parameters
    ----------
    group : SweepGroup
        What was left out.
    relative_errors : ndarray, shape (n,)
        (predicted - measured) / measured of its steps.
    regimes : ndarray of str, shape (n,)
        Kind of each step (:func:`latency_models.fits.fit_quality.regimes`).
    """

    group: SweepGroup
    relative_errors: Floats
    regimes: NDArray[np.str_]

    def absolute(self, *, decode: bool) -> Floats:
        """Absolute relative errors of the decode steps, or of the prefill steps."""
        chosen = (self.group.table.prefill_seqs == 0) == decode
        errors: Floats = np.abs(self.relative_errors[chosen])
        return errors


Key = Literal["share", "model"]


def leave_one_out(
    groups: Sequence[SweepGroup], gpu: GpuSpec, key: Key, *, only: Iterable[float | str] | None = None
) -> list[HeldOut]:
    """Predict each share, or each model, from a fit to the others.

    A share is predicted as one would for a model that was measured at other shares: one law of all models at these
    shares, with factors of the same model and tensor parallelism.  A model is predicted by scaling one law of all other
    models, without factors.

    Parameters
    ----------
    groups : sequence of SweepGroup
        Measured steps.
    gpu : GpuSpec
        Their GPU.
    key : {'share', 'model'}
        What is left out.
    only : iterable, optional
        Leave out just these; default: each in turn.

    Raises
    ------
    InputError
        If ``key`` is neither, nothing is left without one, or a name of ``only`` is not there.
    """
    if key not in ("share", "model"):
        raise invalid("leave one out", key, "share or model")

    def value(group: SweepGroup) -> float | str:
        return group.compute_share if key == "share" else group.model

    known = {value(group) for group in groups}
    chosen = sorted(known, key=str) if only is None else list(only)
    for left_out in chosen:
        if left_out not in known:
            raise invalid(f"{key} to leave out", left_out, ", ".join(sorted(map(str, known))))
    found: list[HeldOut] = []
    for left_out in chosen:
        tested = [group for group in groups if value(group) == left_out]
        kept = [group for group in groups if value(group) != left_out]
        if not kept:
            raise InputError(f"the sweep has one {key}, {left_out}; allowed: at least two, to leave one out")
        found += _predict_shares(tested, kept, gpu) if key == "share" else _predict_models(tested, kept, gpu)
    return found


def _predict_models(tested: Sequence[SweepGroup], kept: Sequence[SweepGroup], gpu: GpuSpec) -> list[HeldOut]:
    coefficients = fit_steps(kept, gpu).model.coefficients
    return [_held_out(group, model_of(group, gpu, coefficients)) for group in tested]


def _predict_shares(tested: Sequence[SweepGroup], kept: Sequence[SweepGroup], gpu: GpuSpec) -> list[HeldOut]:
    found = []
    coefficients = fit_steps(kept, gpu).model.coefficients
    for group in tested:
        same = [other for other in kept if (other.model, other.tp) == (group.model, group.tp)]
        if same:
            found.append(_held_out(group, fit_shares(same, gpu, coefficients).at_share(group.compute_share)))
    return found


def fit_shares(groups: Sequence[SweepGroup], gpu: GpuSpec, coefficients: StepsCoefficients) -> StepsStepTime:
    """A law with the factors of one model and tensor parallelism that was measured at several shares.

    The coefficients are those of all models: fitted to one of them alone they predict a share that was left out no
    better, and lose their physical meaning.

    Parameters
    ----------
    groups : sequence of SweepGroup
        Shares of one model and tensor parallelism.
    gpu : GpuSpec
        Their GPU.
    coefficients : StepsCoefficients
        The law, as :func:`fit_steps` finds it.

    Returns
    -------
    StepsStepTime
        For the whole GPU; ask :meth:`~latency_models.laws.steps.StepsStepTime.at_share` for another share.

    Raises
    ------
    InputError
        If the groups differ in more than the share, or lack prefills or decodes.
    """
    factors = fit_residuals(groups, gpu, coefficients)
    return replace(
        model_of(groups[0], gpu, coefficients),
        compute_share=1.0,
        residuals=factors,
        fitted_models=(groups[0].model,),
        fitted_gpu=gpu.name,
    )


def _held_out(group: SweepGroup, model: StepsStepTime) -> HeldOut:
    errors = model.table_s(group.table) / group.table.duration_s - 1.0
    return HeldOut(group=group, relative_errors=errors, regimes=regimes(group.table))
