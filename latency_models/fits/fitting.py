"""Fit of the linear law to measured steps: non-negative, and robust against single bad measurements.

The loss is Huber's on *relative* residuals, since durations span three decades and a planner needs each to a few per
cent.  It is minimised by iteratively reweighted non-negative least squares: Huber, "Robust Estimation of a Location
Parameter", Annals of Mathematical Statistics 35 (1964); Lawson and Hanson, "Solving Least Squares Problems" (1974),
chapter 23, for the non-negative step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from latency_models.errors import InputError, check_finite, unknown_name
from latency_models.fits.step_table import Floats, StepTable
from latency_models.laws.linear import LinearStepTime

DEFAULT_TERMS = ("base_s", "per_token_s", "per_sequence_s", "per_context_token_s", "per_prefill_pair_s")
"""Terms that a fit determines unless told otherwise.  ``per_sample_s`` needs steps in which a prefill emits nothing."""

_HUBER_CONSTANT = 1.345
"""In units of the residuals' scale: 95 % efficiency on Gaussian residuals."""
_GAUSSIAN_MAD = 1.4826
"""Standard deviation of a Gaussian over its median absolute deviation."""
_MAX_ITERATIONS = 100
_TOLERANCE = 1e-8


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearFit:
    """A fitted law and how well it fits.

    Parameters
    ----------
    model : LinearStepTime
        The law.
    steps : int
        Measured steps behind it.
    relative_errors : ndarray, shape (steps,)
        (predicted - measured) / measured, in the order of the table.
    """

    model: LinearStepTime
    steps: int
    relative_errors: Floats

    @property
    def coefficients(self) -> dict[str, float]:
        """All coefficients of the law by name, in seconds."""
        return asdict(self.model)

    @property
    def median_relative_error(self) -> float:
        """Median of the absolute relative errors."""
        return float(np.median(np.abs(self.relative_errors)))

    @property
    def p90_relative_error(self) -> float:
        """90th percentile of the absolute relative errors."""
        return float(np.percentile(np.abs(self.relative_errors), 90.0))


def fit_linear(
    table: StepTable, *, terms: Sequence[str] = DEFAULT_TERMS, fixed: Mapping[str, float] | None = None
) -> LinearFit:
    """Fit the linear law to measured steps.

    Parameters
    ----------
    table : StepTable
        Measured steps; at least as many as terms.
    terms : sequence of str
        Names of the coefficients of :class:`latency_models.laws.linear.LinearStepTime` to determine; the others are 0.
    fixed : mapping of str to float, optional
        Coefficients known from elsewhere, in seconds.  They are part of the law and are not fitted.

    Returns
    -------
    LinearFit
        The law with the smallest loss.  Terms that the table cannot tell apart share their sum in some way, which
        predicts steps like the measured ones equally well.

    Raises
    ------
    InputError
        If a term is unknown, there are fewer steps than terms, or no coefficient turns out positive.
    """
    columns = linear_columns(table)
    known = dict(fixed or {})
    for name in (*terms, *known):
        if name not in columns:
            raise unknown_name("term of the linear law", name, columns)
    free = [name for name in terms if name not in known]
    if len(table) < len(free):
        raise InputError(f"the step table has {len(table)} rows; allowed: at least {len(free)}, one per fitted term")

    known_s = np.zeros(len(table))
    for name, value in known.items():
        known_s += check_finite(f"fixed {name}", value) * columns[name]
    # Divided by the measured durations, every residual is a relative one.
    design = np.column_stack([columns[name] / table.duration_s for name in free])
    target = 1.0 - known_s / table.duration_s
    solution = robust_non_negative(design, target)

    coefficients: dict[str, Any] = {**dict(zip(free, map(float, solution), strict=True)), **known}
    return LinearFit(model=LinearStepTime(**coefficients), steps=len(table), relative_errors=design @ solution - target)


def linear_columns(table: StepTable) -> dict[str, Floats]:
    """What each coefficient of the linear law multiplies, by its name; shape (n,) each."""
    return {
        "base_s": np.ones(len(table)),
        "per_token_s": table.tokens,
        "per_sequence_s": table.sequences,
        "per_context_token_s": table.context,
        "per_prefill_pair_s": table.prefill_work,
        "per_sample_s": table.sampled,
    }


def robust_non_negative(design: Floats, target: Floats) -> Floats:
    """Minimise the Huber loss of ``design @ x - target`` over x >= 0; shapes (n, p), (n,) -> (p,)."""
    from scipy.optimize import nnls

    # Coefficients differ by ten decades; with columns of equal size the solver's tolerances mean the same for each.
    sizes = np.linalg.norm(design, axis=0)
    sizes[sizes == 0.0] = 1.0
    scaled = design / sizes
    weights = np.ones(len(target))
    solution = np.zeros(design.shape[1])
    for _ in range(_MAX_ITERATIONS):
        root = np.sqrt(weights)
        # The solver sees a small triangle instead of the tall matrix: same minimum, and it is called a lot.
        basis, triangle = np.linalg.qr(scaled * root[:, None])
        previous, solution = solution, nnls(triangle, basis.T @ (target * root))[0]
        if np.abs(solution - previous).max() <= _TOLERANCE * max(float(np.abs(solution).max()), _TOLERANCE):
            break
        residuals = np.abs(scaled @ solution - target)
        threshold = _HUBER_CONSTANT * _GAUSSIAN_MAD * float(np.median(residuals))
        # On exact data the median residual is rounding; below that no row is an outlier.
        threshold = max(threshold, 1e-12)
        weights = np.minimum(1.0, threshold / np.maximum(residuals, threshold))
    return np.asarray(solution / sizes, dtype=np.float64)
