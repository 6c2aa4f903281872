"""Warm-up, replication/deletion, batch means and batch quantiles."""

import math

import numpy as np
import pytest
from scipy.signal import lfilter

from analysis.long_run import batch_means, batch_quantile
from analysis.statistics import mean_interval
from analysis.warmup import mser5, replication_deletion
from latency_models.errors import InputError


def autoregressive(rng, n, correlation):
    """A stationary AR(1) series of mean 0 and variance 1 / (1 - correlation**2)."""
    noise = rng.normal(size=n)
    noise[0] /= math.sqrt(1 - correlation**2)
    return lfilter([1.0], [1.0, -correlation], noise)


def test_batch_means_cover_where_a_naive_interval_does_not():
    rng = np.random.default_rng(2)
    naive = batched = 0
    for _ in range(200):
        series = autoregressive(rng, 4000, 0.9)
        naive += mean_interval(series).contains(0.0)
        batched += batch_means(series, batches=20).interval.contains(0.0)
    assert naive < 120
    assert batched > 176


def test_batch_means_notice_batches_that_are_too_short():
    series = autoregressive(np.random.default_rng(3), 2000, 0.99)
    assert not batch_means(series, batches=400).independent
    found = batch_means(np.random.default_rng(3).normal(size=2003), batches=20)
    assert found.independent
    assert found.batch_size == 100
    assert batch_means(np.ones(100), batches=10).lag1_correlation == 0.0


def test_batches_leave_out_the_first_values_if_they_do_not_divide():
    assert batch_means([9.0] + [1.0] * 40, batches=20).interval.estimate == 1.0


def test_batch_means_refuse_a_short_run():
    with pytest.raises(InputError, match="at least 40"):
        batch_means([1.0] * 39, batches=20)
    with pytest.raises(InputError, match="batches"):
        batch_means([1.0] * 39, batches=1)
    with pytest.raises(InputError, match="at least 40"):
        batch_means([1.0] * 39)
    with pytest.raises(InputError, match="values"):
        batch_means([1.0] * 50 + [math.nan])


def test_automatic_batches_grow_with_the_correlation():
    rng = np.random.default_rng(31)
    sizes = [batch_means(autoregressive(rng, 20_000, c)).batch_size for c in (0.0, 0.97, 0.999)]
    assert sizes == sorted(sizes)
    assert sizes[0] == 20_000 // 128
    assert sizes[-1] == 20_000 // 20


def test_batch_quantile_is_the_quantile_of_the_series_and_covers():
    rng = np.random.default_rng(32)
    truth = 1.2815515655 / math.sqrt(1 - 0.9**2)
    covered = 0
    for _ in range(200):
        series = autoregressive(rng, 10_000, 0.9)
        found = batch_quantile(series, 0.9)
        assert found.interval.estimate == np.quantile(series, 0.9, method="inverted_cdf")
        covered += found.interval.contains(truth)
    assert 0.92 <= covered / 200 <= 0.98
    assert found.batch_size == 500
    assert found.independent


def test_batch_quantile_notices_batches_that_are_too_short():
    assert not batch_quantile(autoregressive(np.random.default_rng(33), 4000, 0.999), 0.5, batches=200).independent


@pytest.mark.parametrize("quantile", [0.0, 1.0, 95, math.nan])
def test_batch_quantile_refuses(quantile):
    with pytest.raises(InputError, match="quantile"):
        batch_quantile(np.ones(100), quantile)


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


def test_replication_deletion_cuts_all_alike_and_removes_the_bias():
    rng = np.random.default_rng(34)
    runs = [autoregressive(rng, 2000 + 100 * k, 0.7) for k in range(10)]
    for run in runs:
        run[:150] -= np.linspace(9, 3, 150)
    found = replication_deletion(runs)
    assert found.found
    assert 150 <= found.index < 400
    assert abs(found.interval.estimate) < 0.1  # four standard errors
    assert mean_interval([run.mean() for run in runs]).high < -0.2
    assert found.interval.estimate == pytest.approx(np.mean([run[found.index :].mean() for run in runs]))


def test_replication_deletion_says_when_the_runs_are_too_short():
    assert replication_deletion([np.arange(100.0), np.arange(120.0)]).found is False
    with pytest.raises(InputError, match="number of replications"):
        replication_deletion([np.ones(100)])
    with pytest.raises(InputError, match="at least 20"):
        replication_deletion([np.ones(100), np.ones(19)])
