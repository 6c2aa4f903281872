"""Confidence intervals, warm-up detection and comparisons, against tables and by coverage."""

import math

import numpy as np
import pytest

from analysis.statistics import (
    Interval,
    batch_means,
    mean_interval,
    mser5,
    paired_difference,
    quantile_interval,
    student_t_quantile,
)
from latency_models.errors import InputError


@pytest.mark.parametrize(
    ("probability", "degrees", "table"),
    [(0.975, 1, 12.706), (0.975, 4, 2.776), (0.95, 9, 1.833), (0.995, 29, 2.756), (0.975, 10**6, 1.960)],
)
def test_student_t_from_the_table(probability, degrees, table):
    assert student_t_quantile(probability, degrees) == pytest.approx(table, abs=6e-4)


def test_mean_interval_by_hand():
    found = mean_interval([1.0, 2.0, 3.0, 4.0, 5.0])
    assert found.estimate == 3.0
    assert found.half_width == pytest.approx(2.776445 * math.sqrt(2.5 / 5), rel=1e-6)
    assert found.count == 5
    assert found.contains(3.5)
    assert not found.contains(9.0)


def test_mean_interval_covers_as_often_as_it_says():
    rng = np.random.default_rng(1)
    covered = sum(mean_interval(rng.normal(7, 2, 6), confidence=0.9).contains(7.0) for _ in range(2000))
    assert 0.87 < covered / 2000 < 0.93


@pytest.mark.parametrize("values", [[], [1.0], [1.0, math.nan], [1.0, math.inf], [[1.0, 2.0], [3.0, 4.0]]])
def test_mean_interval_refuses(values):
    with pytest.raises(InputError, match="values"):
        mean_interval(values)


@pytest.mark.parametrize("confidence", [0.0, 1.0, -0.5, 95, math.nan])
def test_confidence_is_a_share(confidence):
    with pytest.raises(InputError, match="confidence"):
        mean_interval([1.0, 2.0], confidence=confidence)


def _autoregressive(rng, n, correlation):
    noise = rng.normal(size=n)
    series = np.empty(n)
    series[0] = noise[0] / math.sqrt(1 - correlation**2)
    for i in range(1, n):
        series[i] = correlation * series[i - 1] + noise[i]
    return series


def test_batch_means_cover_where_a_naive_interval_does_not():
    rng = np.random.default_rng(2)
    naive = batched = 0
    for _ in range(200):
        series = _autoregressive(rng, 4000, 0.9)
        naive += mean_interval(series).contains(0.0)
        batched += batch_means(series, batches=20).interval.contains(0.0)
    assert naive < 120
    assert batched > 176


def test_batch_means_notice_batches_that_are_too_short():
    series = _autoregressive(np.random.default_rng(3), 2000, 0.99)
    assert not batch_means(series, batches=400).independent
    found = batch_means(np.random.default_rng(3).normal(size=2003), batches=20)
    assert found.independent
    assert found.batch_size == 100
    assert batch_means(np.ones(100), batches=10).lag1_correlation == 0.0


def test_batch_means_refuse_a_short_run():
    with pytest.raises(InputError, match="at least 40"):
        batch_means([1.0] * 39, batches=20)
    with pytest.raises(InputError, match="batches"):
        batch_means([1.0] * 39, batches=1)


def test_mser5_is_the_minimum_of_its_definition():
    rng = np.random.default_rng(4)
    for _ in range(20):
        n = int(rng.integers(20, 400))
        series = rng.normal(size=n) + 5 * np.exp(-np.arange(n) / rng.uniform(1, 40)) + 1e3
        z = series[: n // 5 * 5].reshape(-1, 5).mean(axis=1)
        values = [((z[d:] - z[d:].mean()) ** 2).sum() / (len(z) - d) ** 2 for d in range(len(z) // 2 + 1)]
        found = mser5(series)
        assert found.index == 5 * int(np.argmin(values))
        assert found.statistic == pytest.approx(min(values), rel=1e-6)


def test_mser5_on_a_constant_and_on_a_drift():
    assert mser5(np.full(100, 3.0)).index == 0
    assert mser5(np.arange(200.0)).found is False
    with pytest.raises(InputError, match="at least 20"):
        mser5(np.ones(19))


def test_paired_difference_uses_the_common_random_numbers():
    rng = np.random.default_rng(5)
    load = rng.normal(0, 10, 12)
    a, b = load + rng.normal(0, 0.1, 12), load + 1 + rng.normal(0, 0.1, 12)
    found = paired_difference(a, b)
    assert found.interval.contains(1.0)
    assert found.significant
    assert found.correlation > 0.99
    assert found.variance_ratio < 0.01
    assert not paired_difference(a, rng.permutation(a)).significant
    assert paired_difference([1.0, 2.0], [2.0, 1.0]).correlation == pytest.approx(-1.0)
    assert math.isnan(paired_difference([1.0, 1.0], [2.0, 2.0]).variance_ratio)


def test_paired_difference_needs_pairs():
    with pytest.raises(InputError, match="as many"):
        paired_difference([1.0, 2.0], [1.0, 2.0, 3.0])


def test_quantile_interval_against_direct_binomial_sums():
    n, q = 40, 0.9
    tail = [math.fsum(math.comb(n, k) * q**k * (1 - q) ** (n - k) for k in range(j)) for j in range(n + 2)]  # P(B < j)
    found = quantile_interval(np.arange(1.0, n + 1), q, confidence=0.95)
    low, high = int(found.low), int(found.high) if math.isfinite(found.high) else n + 1
    assert tail[low] <= 0.025 < tail[low + 1]
    assert 1 - tail[high] <= 0.025 < 1 - tail[high - 1]


def test_quantile_interval_covers():
    rng = np.random.default_rng(6)
    truth = -math.log(0.1)
    covered = sum(quantile_interval(rng.exponential(size=200), 0.9).contains(truth) for _ in range(1000))
    assert covered / 1000 > 0.94


def test_quantile_interval_is_open_without_data_on_a_side():
    found = quantile_interval(np.arange(10.0), 0.99)
    assert found.high == math.inf
    assert quantile_interval(np.arange(10.0), 0.01).low == -math.inf
    assert isinstance(found, Interval)
    with pytest.raises(InputError, match="quantile"):
        quantile_interval(np.arange(10.0), 99)
