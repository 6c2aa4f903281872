"""How good predicted scores are: ranking, calibration, and what a router gains with them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from optimizer.published.subgradient import StepRule, dual_prices
from optimizer.splits.assignment import ScoreTable
from sim.prompt_table import Floats, PromptTable

_BINS = 10
_PRICE_STEPS = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationBin:
    """Prompts of similar prediction: their number, mean prediction and mean outcome."""

    prompts: int
    predicted: float
    outcome: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelQuality:
    """Predictions of one model.

    Parameters
    ----------
    auc : float or None
        Probability that a prompt with an outcome above one half has a higher prediction than one without; ties count
        half.  None if all outcomes are on one side.
    brier, brier_of_mean : float
        Mean squared error of the predictions, and of predicting the mean outcome every time.
    calibration : tuple of CalibrationBin
        Ten bins of equally many prompts.
    """

    auc: float | None
    brier: float
    brier_of_mean: float
    calibration: tuple[CalibrationBin, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterGain:
    """Mean outcomes without any limit on load: best single model, router by predictions, router that knows outcomes.

    And with one: the best model cannot answer everything, which is where predictions count.
    """

    best_model: str
    best_single: float
    routed: float
    routed_standard_error: float
    """Of the difference between routed and best single."""
    oracle: float
    routed_equally: float
    """With the same share of the prompts for each model, given out by prediction."""
    random_equally: float
    """The same at random."""


def model_qualities(table: PromptTable) -> dict[str, ModelQuality]:
    """Quality of the predictions, by model; the table needs outcomes."""
    assert table.outcomes is not None
    return {
        name: _quality(table.predicted[:, column], table.outcomes[:, column])
        for column, name in enumerate(table.models)
    }


def router_gain(table: PromptTable) -> RouterGain:
    """What picking the model of the highest prediction achieves; the table needs outcomes."""
    assert table.outcomes is not None
    single = table.outcomes.mean(axis=0)
    best = int(np.argmax(single))
    routed = np.take_along_axis(table.outcomes, table.predicted.argmax(axis=1)[:, None], axis=1)[:, 0]
    gain = routed - table.outcomes[:, best]
    return RouterGain(
        best_model=table.models[best],
        best_single=float(single[best]),
        routed=float(routed.mean()),
        routed_standard_error=float(gain.std(ddof=1) / np.sqrt(len(gain))) if len(gain) > 1 else float("nan"),
        oracle=float(table.outcomes.max(axis=1).mean()),
        routed_equally=_routed_equally(table.predicted, table.outcomes),
        random_equally=float(single.mean()),
    )


def _routed_equally(predicted: Floats, outcomes: Floats) -> float:
    """Outcome at the prices at which each model gets the same share of the prompts, to within 0.1 %."""
    models = predicted.shape[1]
    table = ScoreTable(predicted)
    equal = np.full(models, 1.0 / models)
    prices = dual_prices(table, equal, np.zeros(models), StepRule(iterations=_PRICE_STEPS)).prices
    return float(np.take_along_axis(outcomes, (predicted - prices).argmax(axis=1)[:, None], axis=1).mean())


def _quality(predicted: Floats, outcome: Floats) -> ModelQuality:
    order = np.argsort(predicted, kind="stable")
    bins = [part for part in np.array_split(order, _BINS) if len(part)]
    return ModelQuality(
        auc=_auc(predicted, outcome > 0.5),
        brier=float(np.mean((predicted - outcome) ** 2)),
        brier_of_mean=float(np.var(outcome)),
        calibration=tuple(
            CalibrationBin(
                prompts=len(part), predicted=float(predicted[part].mean()), outcome=float(outcome[part].mean())
            )
            for part in bins
        ),
    )


def _auc(predicted: Floats, right: np.ndarray) -> float | None:
    """From the rank sum of Mann and Whitney."""
    from scipy.stats import rankdata

    ones = int(right.sum())
    zeros = len(right) - ones
    if not ones or not zeros:
        return None
    return float((rankdata(predicted)[right].sum() - ones * (ones + 1) / 2.0) / (ones * zeros))
