from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optimizer_cases import score_of_counts

from latency_models.errors import InputError
from optimizer.realise import exact_counts, realise
from optimizer.splits.assignment import AssignmentPool, ScoreTable


def random_scores(seed: int, prompts: int, models: int, tied: bool) -> np.ndarray:
    rng = np.random.default_rng(seed)
    scores = rng.random((prompts, models))
    return np.round(2 * scores) / 2 if tied else scores


def test_assignment_takes_the_highest_net_score() -> None:
    scores = np.array([[0.9, 0.2], [0.4, 0.8], [0.5, 0.6]])
    found = ScoreTable(scores).assign(np.array([0.0, 0.15]))
    assert found.fractions.tolist() == [2 / 3, 1 / 3]
    assert found.score == pytest.approx((0.9 + 0.8 + 0.5) / 3)
    assert found.phi == pytest.approx((0.9 + 0.65 + 0.5) / 3)


def test_the_price_of_a_model_that_is_not_available_is_the_lowest_that_nobody_pays() -> None:
    scores = random_scores(0, 50, 3, tied=False)
    table = ScoreTable(scores)
    found = table.assign(np.array([0.1, 0.0, 0.2]), np.array([True, False, True]))
    assert found.fractions[1] == 0.0
    again = table.assign(found.prices)
    assert again.phi == pytest.approx(found.phi, abs=1e-15)
    cheaper = found.prices - np.array([0.0, 1e-6, 0.0])
    assert table.assign(cheaper).fractions[1] > 0.0


@given(st.integers(0, 1000), st.integers(2, 40), st.integers(1, 4), st.booleans())
@settings(max_examples=60, deadline=None)
def test_any_prices_bound_the_score_of_any_counts(seed: int, prompts: int, models: int, tied: bool) -> None:
    rng = np.random.default_rng(seed + 1)
    scores = random_scores(seed, prompts, models, tied)
    counts = rng.multinomial(prompts, np.full(models, 1 / models))
    best = score_of_counts(scores, counts)
    found = ScoreTable(scores).assign(rng.normal(0, 0.3, models))
    assert best <= found.phi + found.prices @ (counts / prompts) + 1e-12
    own = np.rint(found.fractions * prompts).astype(int)
    assert found.score == pytest.approx(score_of_counts(scores, own), abs=1e-12)


def test_the_pool_selects_what_is_nearly_best_and_uses_available_models_only() -> None:
    table = ScoreTable(random_scores(1, 300, 3, tied=False))
    pool = AssignmentPool(table)
    rng = np.random.default_rng(0)
    found = [table.assign(rng.normal(0, 0.3, 3)) for _ in range(200)]
    numbers = [pool.add(one) for one in found]
    best = table.assign(np.zeros(3))
    kept = pool.select(np.zeros(3), np.ones(3, dtype=bool), 20)
    assert len(kept) == 3 + 20
    nearest = max(found, key=lambda one: one.score)
    assert numbers[found.index(nearest)] in kept
    assert nearest.score <= best.score
    two = pool.select(np.zeros(3), np.array([True, False, True]), 20)
    assert (pool.splits(two)[0][:, 1] == 0.0).all()


@given(st.integers(0, 1000), st.integers(1, 40), st.integers(1, 5), st.booleans())
@settings(max_examples=60, deadline=None)
def test_realised_counts_are_exact_and_their_score_is_the_best(
    seed: int, prompts: int, models: int, tied: bool
) -> None:
    rng = np.random.default_rng(seed)
    scores = random_scores(seed, prompts, models, tied)
    fractions = rng.dirichlet(np.ones(models))
    counts = exact_counts(fractions, prompts)
    assert np.abs(counts - prompts * fractions).max() < 1.0
    model = realise(scores, fractions, rng.normal(0, 0.2, models))
    assert np.bincount(model, minlength=models).tolist() == counts.tolist()
    assert scores[np.arange(prompts), model].mean() == pytest.approx(score_of_counts(scores, counts), abs=1e-12)


def test_ties_are_split_when_all_scores_are_equal() -> None:
    model = realise(np.full((10, 3), 0.5), [0.2, 0.3, 0.5])
    assert np.bincount(model).tolist() == [2, 3, 5]


def test_whole_counts_survive_rounding() -> None:
    assert exact_counts([0.1, 0.2, 0.7], 10).tolist() == [1, 2, 7]
    assert exact_counts([1 / 3, 1 / 3, 1 / 3], 3).tolist() == [1, 1, 1]
    assert exact_counts([0.5, 0.5], 3).sum() == 3


@pytest.mark.parametrize("fractions", [[0.5, 0.6], [-0.1, 1.1], [float("nan"), 1.0]])
def test_fractions_that_are_none_are_rejected(fractions: list[float]) -> None:
    with pytest.raises(InputError, match="fractions"):
        realise(np.full((4, 2), 0.5), fractions)
