"""Fit of the item-response model behind the built-in prompt table to recorded outcomes.

``python -m scenarios.prompt_tables.item_response_fit CORRECT.csv.gz OUTPUT_TOKENS.csv.gz`` prints the figures of
:mod:`scenarios.prompt_tables.item_response` for the files ``correct`` and ``output_tokens`` of MMLU-Pro outcomes.

The two-parameter logistic model says P(correct) = sigmoid(a (theta - b)), with the ability theta of the model and the
discrimination a and difficulty b of the prompt (Birnbaum 1968, in Lord and Novick, Statistical Theories of Mental Test
Scores, ch. 17).  Prompts are exchangeable: b is standard normal, ln a is normal, and both are integrated out by Gauss-
Hermite quadrature, so that the abilities and two figures for a are all that is fitted (marginal maximum likelihood,
Bock and Aitkin, Psychometrika 46, 1981).
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from latency_models.errors import InputError
from scenarios.prompt_tables.columns import read_columns
from scenarios.prompt_tables.layouts import read_score_file
from sim.prompt_table import Floats

_NODES_DIFFICULTY, _NODES_DISCRIMINATION = 21, 9


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemResponseFit:
    """Figures of the model.

    Parameters
    ----------
    abilities : dict of str to float
        By model, in standard deviations of the difficulty.
    log_discrimination : tuple of float
        Mean and standard deviation of ln a.
    subject_deviation : float
        Standard deviation, over subjects, of how much a model's ability differs from its usual one.
    """

    abilities: dict[str, float]
    log_discrimination: tuple[float, float]
    subject_deviation: float


def fit_item_response(outcomes: Floats, models: tuple[str, ...], subjects: tuple[str, ...]) -> ItemResponseFit:
    """Fit abilities and discrimination, then how abilities differ between subjects.

    Parameters
    ----------
    outcomes : array, shape (N, M)
        0 or 1.
    models, subjects : tuple of str, lengths M and N
        Names of the columns, and the subject of each prompt.

    Raises
    ------
    InputError
        An outcome is neither 0 nor 1, or all are alike for a model.
    """
    if not np.isin(outcomes, (0.0, 1.0)).all():
        raise InputError("the outcomes hold values other than 0 and 1; allowed: 0 and 1, for an item-response model")
    share = outcomes.mean(axis=0)
    if ((share == 0.0) | (share == 1.0)).any():
        raise InputError(f"all outcomes of a model are alike (shares {share.tolist()}); leave it out")
    start = np.append(1.5 * np.log(share / (1.0 - share)), (0.0, np.log(0.5)))
    best = _lowest(lambda x: -log_likelihood(outcomes, x[:-2], float(x[-2]), float(np.exp(x[-1]))), start)
    abilities, discrimination = best[:-2], (float(best[-2]), float(np.exp(best[-1])))
    return ItemResponseFit(
        abilities={name: float(value) for name, value in zip(models, abilities, strict=True)},
        log_discrimination=discrimination,
        subject_deviation=_subject_deviation(outcomes, abilities, discrimination, np.array(subjects)),
    )


def log_likelihood(outcomes: Floats, abilities: Floats, mean: float, deviation: float) -> float:
    """Mean log likelihood of a prompt's outcomes, its difficulty and discrimination integrated out."""
    difficulty, weight_b = _standard_normal(_NODES_DIFFICULTY)
    log_a, weight_a = _standard_normal(_NODES_DISCRIMINATION)
    a = np.exp(mean + deviation * log_a)[:, None, None]
    logits = (a * (abilities - difficulty[:, None])).reshape(-1, outcomes.shape[1])
    patterns, counts = np.unique(outcomes, axis=0, return_counts=True)
    # ln sigmoid(x) - ln sigmoid(-x) = x
    each = patterns @ logits.T - np.logaddexp(0.0, logits).sum(axis=1)
    weights = (weight_a[:, None] * weight_b).ravel()
    top = each.max(axis=1, keepdims=True)
    return float(counts @ (np.log(np.exp(each - top) @ weights) + top[:, 0]) / counts.sum())


def _subject_deviation(
    outcomes: Floats, abilities: Floats, discrimination: tuple[float, float], subjects: NDArray[np.str_]
) -> float:
    """Deviation of abilities by subject, beyond what is common to all models and what sampling explains."""

    def fitted(part: Floats) -> Floats:
        return _lowest(lambda x: -log_likelihood(part, x, *discrimination), abilities)

    excess = []
    for subject in np.unique(subjects):
        part = outcomes[subjects == subject]
        # Half the difference of two halves has the variance that sampling gives to the whole.
        noise = np.var(fitted(part[::2]) - fitted(part[1::2]), ddof=1) / 4.0
        excess.append(float(np.var(fitted(part) - abilities, ddof=1) - noise))
    return float(np.sqrt(max(0.0, float(np.mean(excess)))))


def _lowest(loss: Callable[[Floats], float], start: Floats) -> Floats:
    from scipy.optimize import minimize

    return np.asarray(minimize(loss, start, method="L-BFGS-B").x, dtype=np.float64)


def _standard_normal(nodes: int) -> tuple[Floats, Floats]:
    points, weights = np.polynomial.hermite_e.hermegauss(nodes)
    return points, weights / weights.sum()


def main(correct: Path, tokens: Path) -> None:
    """Print the figures."""
    found = read_score_file(correct, tokens=tokens)
    columns = read_columns(correct)
    subject_of = dict(zip(columns["question_id"], columns["category"], strict=True))
    assert found.outcomes is not None
    assert found.output_tokens is not None
    fit = fit_item_response(found.outcomes, found.models, tuple(subject_of[name] for name in found.prompt_ids))
    print(f"{len(found.prompt_ids)} prompts, {len(found.models)} models")
    print(f"log discrimination: mean {fit.log_discrimination[0]:.3f}, deviation {fit.log_discrimination[1]:.3f}")
    print(f"deviation of abilities between subjects: {fit.subject_deviation:.3f}")
    for index, name in enumerate(found.models):
        lengths = np.log(np.maximum(found.output_tokens[:, index], 1.0))
        print(
            f"{name:32} share correct {found.outcomes[:, index].mean():.3f}  ability {fit.abilities[name]:+.3f}  "
            f"tokens: median {np.exp(np.median(lengths)):.0f}, deviation of ln {lengths.std():.2f}"
        )


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
