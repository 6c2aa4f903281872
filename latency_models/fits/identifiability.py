"""Which coefficients of the linear law a set of steps can tell, and what to measure for the others.

Two things can go wrong.  A coefficient's column may be zero, or a combination of the others': no fit can tell it, and
the fit leaves it out.  Or it is nearly one: then the interval is wide, and the variance decomposition of Belsley, Kuh
and Welsch ("Regression Diagnostics", 1980, chapter 3) names the columns that are confused with each other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from latency_models.fits.fitting import linear_columns
from latency_models.fits.step_table import Floats, StepTable

_SAME = 1e-5
"""Share of a column that must be left beside the others for its coefficient to be fitted."""
WIDE = 0.25
"""Relative half-width of an interval from which on a coefficient counts as badly known."""
_FELT = 1e-6
"""Share of a step's time below which a coefficient's upper bound is no more than rounding."""
_CONFUSED = 0.5
"""Share of a coefficient's variance in one direction, from which on it takes part in that direction's confusion."""

_MEANING = {
    "base_s": "the fixed time of a step",
    "per_token_s": "the time per computed token",
    "per_sequence_s": "the time per sequence",
    "per_context_token_s": "the time per token of context",
    "per_prefill_pair_s": "the time per query-key pair of prefill attention",
    "per_sample_s": "the time per sampled token",
}
_MEASURE = {
    "base_s": "steps of very different sizes, with a single short sequence among them",
    "per_token_s": "prefill steps from a few to thousands of tokens",
    "per_sequence_s": "decode steps with few and with many sequences, and prefills of one long prompt",
    "per_context_token_s": "decode steps of equal batch with short and with long contexts",
    "per_prefill_pair_s": "prefills of one prompt of thousands of tokens beside prefills of short ones",
    "per_sample_s": "prefill chunks that end no prompt",
}


def identifiable_terms(table: StepTable, terms: Sequence[str]) -> tuple[list[str], list[str]]:
    """Terms that the steps can tell, and a sentence on each of the others.

    Earlier terms are preferred: of two that cannot be told apart the first is kept and takes the sum.

    Parameters
    ----------
    table : StepTable
        Measured steps.
    terms : sequence of str
        Coefficients of :class:`latency_models.laws.linear.LinearStepTime`.

    Returns
    -------
    kept : list of str
        Terms to fit.
    warnings : list of str
        What the others would need, in words.
    """
    columns = linear_columns(table)
    kept: list[str] = []
    warnings: list[str] = []
    basis = np.zeros((len(table), 0))
    for name in terms:
        column = columns[name] / table.duration_s
        size = float(np.linalg.norm(column))
        needs = f"To know it, measure {_MEASURE[name]}"
        if size == 0.0:
            warnings.append(
                f"{name} ({_MEANING[name]}) is not in the data: no step has any of it; it is set to 0. {needs}"
            )
            continue
        # Twice, as one projection leaves rounding behind.
        rest = column - basis @ (basis.T @ column)
        rest -= basis @ (basis.T @ rest)
        if float(np.linalg.norm(rest)) <= _SAME * size:
            shares = ", ".join(_partners(columns, table, kept, column))
            warnings.append(
                f"{name} ({_MEANING[name]}) cannot be told apart from {shares}, which now contains it; it is set to 0 "
                f"and the law holds for steps like the measured ones only. {needs}"
            )
            continue
        basis = np.column_stack([basis, rest / np.linalg.norm(rest)])
        kept.append(name)
    return kept, warnings


def _partners(columns: Mapping[str, Floats], table: StepTable, kept: Sequence[str], column: Floats) -> list[str]:
    """Kept terms that make up a column."""
    design = np.column_stack([columns[name] / table.duration_s for name in kept])
    weights = np.linalg.lstsq(design, column, rcond=None)[0]
    shares = np.abs(weights) * np.linalg.norm(design, axis=0) / np.linalg.norm(column)
    return [name for name, share in zip(kept, shares, strict=True) if share > 1e-3]


def uncertain_terms(
    table: StepTable, coefficients: Mapping[str, float], intervals: Mapping[str, tuple[float, float]]
) -> list[str]:
    """A sentence on each fitted coefficient that came out as 0 or with a wide interval.

    Parameters
    ----------
    table : StepTable
        Steps that the law was fitted to.
    coefficients : mapping
        Fitted coefficients by name.
    intervals : mapping
        Their intervals.
    """
    columns = linear_columns(table)
    names = list(intervals)
    confusions = _confusions({name: columns[name] / table.duration_s for name in names})
    warnings: list[str] = []
    for name in names:
        low, high = intervals[name]
        value = coefficients[name]
        others = f", confused with {', '.join(confusions[name])}" if confusions[name] else ""
        advice = f"To know it better, measure {_MEASURE[name]}"
        meaning = f"{name} ({_MEANING[name]})"
        if value == 0.0:
            felt = high * columns[name] > _FELT * table.duration_s
            most = f", at most {high:.3g}" if felt.any() else ""
            warnings.append(f"{meaning} came out as 0, the smallest value allowed{most}{others}. {advice}")
        elif high - low > 2.0 * WIDE * value:
            warnings.append(
                f"{meaning} is badly known: {value:.3g}, between {low:.3g} and {high:.3g}{others}. {advice}"
            )
    return warnings


def _confusions(design: Mapping[str, Floats]) -> dict[str, list[str]]:
    """For each column the others that it shares its worst-determined direction with."""
    names = list(design)
    scaled = np.column_stack([column / np.linalg.norm(column) for column in design.values()])
    _, singular, directions = np.linalg.svd(scaled, full_matrices=False)
    # Variance of coefficient j in direction k; shape (directions, coefficients).
    parts = (directions / singular[:, None]) ** 2
    shares = parts / parts.sum(axis=0)
    found: dict[str, list[str]] = {}
    for index, name in enumerate(names):
        worst = int(np.argmax(parts[:, index]))
        members = [other for other, share in zip(names, shares[worst], strict=True) if share > _CONFUSED]
        found[name] = [other for other in members if other != name] if name in members else []
    return found


def in_words(name: str) -> str:
    """What a coefficient of the linear law is."""
    return _MEANING[name]


def what_to_measure(name: str) -> str:
    """Steps that tell a coefficient of the linear law."""
    return _MEASURE[name]
