"""How far a fitted step-time law can be trusted: intervals, cross-validated errors, errors by regime.

All resampling is over *groups* of steps (blocks of consecutive steps of a log, cells of a grid), because neighbours in
a log have nearly the same batch and the same state of the machine: resampling single steps would promise too much
(Kunsch, "The jackknife and the bootstrap for general stationary observations", Annals of Statistics 17, 1989).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from latency_models.errors import InputError
from latency_models.fits.step_table import Floats, StepTable
from latency_models.step_time import StepTimeModel

Ints = NDArray[np.int64]

BLOCKS = 50
"""Blocks that a log is cut into: enough to resample, each long enough to be nearly independent of the others."""
FOLDS = 5
REPLICATIONS = 200
"""Bootstrap samples behind an interval."""
LEVEL = 0.95

_RESOLUTION = 1e-6
"""Relative half-width below which no interval is stated: logs round their times."""
_SMALL_BATCH_QUANTILE = 0.5


class FittedLaw(Protocol):
    """What a fit returns, as far as its quality is concerned."""

    @property
    def model(self) -> StepTimeModel:
        """The law."""
        ...

    @property
    def coefficients(self) -> Mapping[str, float]:
        """Its fitted numbers by name."""
        ...


Fitter = Callable[[StepTable], FittedLaw]
"""Fits a law to steps; raises :class:`InputError` if they do not suffice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RegimeError:
    """Errors of the steps of one kind; relative errors are (predicted - measured) / measured."""

    regime: str
    steps: int
    median: float
    """Median of the absolute relative errors."""
    p90: float
    """90th percentile of the absolute relative errors."""
    bias: float
    """Mean of the relative errors with their sign."""


def consecutive_blocks(steps: int) -> Ints:
    """Group number of each step of a log: about :data:`BLOCKS` blocks of consecutive steps; shape (steps,)."""
    blocks: Ints = np.arange(steps) * min(BLOCKS, steps) // max(steps, 1)
    return blocks


def bootstrap_intervals(
    table: StepTable, fitter: Fitter, groups: Ints, *, seed: int = 0, replications: int = REPLICATIONS
) -> dict[str, tuple[float, float]]:
    """95 % percentile intervals of the coefficients, from fits to resampled groups.

    Parameters
    ----------
    table : StepTable
        Measured steps.
    fitter : callable
        Fits the law.
    groups : ndarray, shape (n,)
        Group number of each step.
    seed : int
        Seed of the resampling.
    replications : int
        Number of resampled fits.

    Returns
    -------
    dict
        Lower and upper end by the coefficient's name; never closer to the estimate than the logs' resolution.

    Raises
    ------
    InputError
        If there are fewer than two groups, or most of the resampled tables cannot be fitted.
    """
    members = _members(groups)
    rng = np.random.default_rng(seed)
    found: list[Mapping[str, float]] = []
    for _ in range(replications):
        drawn = rng.integers(len(members), size=len(members))
        try:
            found.append(fitter(table.rows(np.concatenate([members[group] for group in drawn]))).coefficients)
        except InputError:
            continue  # The draw misses what a coefficient needs, as a small table's may.
    if len(found) < replications / 2:
        raise InputError(
            f"{replications - len(found)} of {replications} resampled tables could not be fitted; allowed: at most "
            "half. Measure more steps of each kind"
        )
    estimate = fitter(table).coefficients
    tail = 50.0 * (1.0 - LEVEL)
    intervals: dict[str, tuple[float, float]] = {}
    for name, value in estimate.items():
        low, high = np.percentile([each[name] for each in found], [tail, 100.0 - tail])
        slack = _RESOLUTION * value
        intervals[name] = (max(0.0, min(float(low), value - slack)), max(float(high), value + slack))
    return intervals


def cross_validated_errors(table: StepTable, fitter: Fitter, groups: Ints, *, folds: int = FOLDS) -> Floats:
    """Relative error of each step as predicted by a law that was fitted without its group's fold.

    Groups are dealt to the folds in turn, so that every fold has some of each load.

    Returns
    -------
    ndarray, shape (n,)
        (predicted - measured) / measured.

    Raises
    ------
    InputError
        If there are fewer than two groups, or what is left without a fold cannot be fitted.
    """
    members = _members(groups)
    count = min(folds, len(members))
    errors = np.empty(len(table))
    for fold in range(count):
        tested = np.concatenate(members[fold::count])
        kept = np.ones(len(table), dtype=bool)
        kept[tested] = False
        held_out = table.rows(tested)
        predicted_s = held_out.predicted_s(fitter(table.rows(kept)).model)
        errors[tested] = predicted_s / held_out.duration_s - 1.0
    return errors


def regimes(table: StepTable) -> NDArray[np.str_]:
    """Kind of each step: decode of a small or a large batch (around the median batch), prefill, mixed; shape (n,)."""
    decode = table.prefill_seqs == 0
    labels = np.where(table.decode_seqs == 0, "prefill", "mixed").astype("<U32")
    if decode.any():
        middle = float(np.quantile(table.decode_seqs[decode], _SMALL_BATCH_QUANTILE))
        labels[decode & (table.decode_seqs <= middle)] = f"decode, batch <= {middle:g}"
        labels[decode & (table.decode_seqs > middle)] = f"decode, batch > {middle:g}"
    return labels


def errors_by_regime(labels: NDArray[np.str_], relative_errors: Floats) -> list[RegimeError]:
    """Errors of each kind of step, decode first, and of all of them last."""
    chosen = [(str(label), labels == label) for label in np.unique(labels)]
    chosen.append(("all", np.ones(len(labels), dtype=bool)))
    return [
        RegimeError(
            regime=name,
            steps=int(rows.sum()),
            median=float(np.median(np.abs(relative_errors[rows]))),
            p90=float(np.percentile(np.abs(relative_errors[rows]), 90.0)),
            bias=float(np.mean(relative_errors[rows])),
        )
        for name, rows in chosen
    ]


def _members(groups: Ints) -> list[Ints]:
    """Rows of each group."""
    _, codes = np.unique(groups, return_inverse=True)
    order = np.argsort(codes, kind="stable")
    members: list[Ints] = np.split(order, np.flatnonzero(np.diff(codes[order])) + 1)
    if len(members) < 2:
        raise InputError(
            f"the {len(groups)} measured steps form {len(members)} group; allowed: at least 2, to test a law on steps "
            "that it was not fitted to. Measure more steps"
        )
    return members
