import dataclasses

import numpy as np
import pytest

from latency_models.errors import InputError
from latency_models.fits.fit_quality import (
    bootstrap_intervals,
    consecutive_blocks,
    cross_validated_errors,
    errors_by_regime,
    regimes,
)
from latency_models.fits.fitting import DEFAULT_TERMS, fit_linear
from latency_models.fits.identifiability import identifiable_terms, uncertain_terms
from latency_models.fits.step_table import StepTable
from latency_models.laws.linear import LinearStepTime

TRUTH = LinearStepTime(
    base_s=0.012, per_token_s=7e-5, per_sequence_s=2e-5, per_context_token_s=3e-7, per_prefill_pair_s=3e-9
)


def steps(noise=0.02, copies=4, seed=1):
    """Prefills and decodes of many shapes, in random order, with independent noise."""
    rng = np.random.default_rng(seed)
    batch, length = (np.tile(grid.ravel(), copies) for grid in np.meshgrid([1, 2, 8, 32, 128], [16, 128, 1024, 4096]))
    ones = np.ones(len(batch))
    table = StepTable.concatenate(
        [StepTable.of_prefills(batch, length, ones), StepTable.of_decodes(batch, length, ones)]
    ).rows(rng.permutation(2 * len(batch)))
    return dataclasses.replace(table, duration_s=table.predicted_s(TRUTH) * rng.lognormal(0.0, noise, len(table)))


def test_a_table_predicts_with_the_law_of_runs_and_of_mixed_steps():
    table = steps(noise=0.0)
    expected = (
        TRUTH.base_s
        + TRUTH.per_token_s * table.tokens
        + TRUTH.per_sequence_s * table.sequences
        + TRUTH.per_context_token_s * table.context
        + TRUTH.per_prefill_pair_s * table.prefill_work
    )
    assert table.predicted_s(TRUTH) == pytest.approx(expected)


def test_intervals_hold_the_truth_about_as_often_as_they_say():
    held = 0
    for seed in range(8):
        table = steps(0.05, seed=seed)
        intervals = bootstrap_intervals(table, fit_linear, np.arange(len(table)), seed=seed, replications=80)
        held += sum(intervals[name][0] <= getattr(TRUTH, name) <= intervals[name][1] for name in DEFAULT_TERMS)
    assert held >= 34, f"{held} of 40 intervals of 95 % hold the truth"


def test_intervals_widen_with_the_noise():
    widths = []
    for noise in (0.02, 0.1):
        table = steps(noise)
        low, high = bootstrap_intervals(table, fit_linear, np.arange(len(table)), replications=60)["base_s"]
        widths.append(high - low)
    assert 2.0 < widths[1] / widths[0] < 12.0


def test_resampling_blocks_sees_correlation_that_single_steps_hide():
    table = steps(noise=0.0, copies=20)
    rng = np.random.default_rng(3)
    blocks = consecutive_blocks(len(table))
    drifting = dataclasses.replace(table, duration_s=table.duration_s * rng.lognormal(0.0, 0.1, 50)[blocks])

    def width(groups):
        low, high = bootstrap_intervals(drifting, fit_linear, groups, replications=60)["base_s"]
        return high - low

    assert width(blocks) > 1.5 * width(np.arange(len(table)))


def test_cross_validation_predicts_steps_that_the_fit_has_not_seen():
    table = steps(noise=0.0)
    groups = np.arange(len(table))
    assert np.abs(cross_validated_errors(table, fit_linear, groups)).max() < 1e-6
    # A fold that alone takes twice as long is invisible to the others' law.
    slow = dataclasses.replace(table, duration_s=np.where(groups % 5 == 0, 2.0, 1.0) * table.duration_s)
    errors = cross_validated_errors(slow, fit_linear, groups)
    assert np.median(errors[groups % 5 == 0]) == pytest.approx(-0.5, abs=0.02)


def test_too_few_groups_are_refused():
    table = steps()
    with pytest.raises(InputError, match="form 1 group; allowed: at least 2"):
        cross_validated_errors(table, fit_linear, np.zeros(len(table), dtype=np.int64))
    with pytest.raises(InputError, match="form 1 group"):
        bootstrap_intervals(table, fit_linear, np.zeros(len(table), dtype=np.int64))


def test_errors_are_reported_by_regime():
    table = StepTable.concatenate(
        [
            StepTable.of_prefills([1.0], [100.0], [0.1]),
            StepTable.of_decodes([1.0, 2.0, 30.0, 40.0], [10.0] * 4, [0.1] * 4),
        ]
    )
    labels = regimes(table)
    assert labels.tolist() == ["prefill", *["decode, batch <= 16"] * 2, *["decode, batch > 16"] * 2]
    found = {each.regime: each for each in errors_by_regime(labels, np.array([0.5, 0.1, -0.1, -0.2, -0.4]))}
    assert found["decode, batch <= 16"].bias == pytest.approx(0.0)
    assert found["decode, batch > 16"].median == pytest.approx(0.3)
    assert found["all"].steps == 5


def test_a_regime_is_mixed_when_both_kinds_are_in_a_step():
    table = dataclasses.replace(
        StepTable.of_prefills([2.0], [100.0], [0.1]), decode_seqs=np.array([1.0]), decode_context=np.array([5.0])
    )
    assert regimes(table).tolist() == ["mixed"]


def test_steps_without_prefill_cannot_tell_the_terms_of_prefill():
    batch, length = (grid.ravel() for grid in np.meshgrid([1.0, 2.0, 8.0, 32.0], [16.0, 128.0, 1024.0]))
    table = StepTable.of_decodes(batch, length, np.linspace(0.01, 0.02, len(batch)))
    kept, warnings = identifiable_terms(table, DEFAULT_TERMS)
    assert kept == ["base_s", "per_token_s", "per_context_token_s"]
    assert "per_sequence_s (the time per sequence) cannot be told apart from per_token_s" in warnings[0]
    assert "per_prefill_pair_s" in warnings[1]
    assert "not in the data" in warnings[1]
    assert "thousands of tokens" in warnings[1]


def test_a_constant_batch_hides_the_fixed_time():
    length = np.linspace(100.0, 1000.0, 20)
    table = StepTable.of_decodes(np.full(20, 8.0), length, 0.01 + 1e-6 * length)
    kept, warnings = identifiable_terms(table, DEFAULT_TERMS)
    assert kept == ["base_s", "per_context_token_s"]
    assert "per_token_s (the time per computed token) cannot be told apart from base_s" in warnings[0]


def test_a_wide_interval_names_what_it_is_confused_with():
    rng = np.random.default_rng(5)
    batch = rng.integers(1, 40, 400).astype(float)
    # Contexts hardly differ, so that a sequence and its context are nearly the same.
    table = StepTable.of_decodes(batch, rng.uniform(990.0, 1010.0, 400), np.ones(400))
    table = dataclasses.replace(table, duration_s=table.predicted_s(TRUTH) * rng.lognormal(0.0, 0.05, 400))
    kept, _ = identifiable_terms(table, DEFAULT_TERMS)

    def fit(rows):
        return fit_linear(rows, terms=kept)

    intervals = bootstrap_intervals(table, fit, np.arange(400), replications=60)
    warnings = uncertain_terms(table, fit(table).coefficients, {name: intervals[name] for name in kept})
    text = " ".join(warnings)
    assert "per_context_token_s (the time per token of context)" in text
    assert "confused with per_token_s" in text
    assert "base_s" not in text
