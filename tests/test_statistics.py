"""Confidence intervals from independent values, against tables, by hand and by coverage."""

import math

import numpy as np
import pytest
from scipy.stats import binom

from analysis.statistics import (
    Interval,
    bootstrap_interval,
    mean_interval,
    proportion_interval,
    quantile_interval,
    ratio_interval,
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


def test_equal_values_have_an_interval_of_no_width_and_no_rounding():
    found = mean_interval([0.1, 0.1, 0.1])
    assert (found.low, found.estimate, found.high) == (0.1, 0.1, 0.1)


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


@pytest.mark.parametrize(("successes", "trials"), [(0, 10), (1, 10), (7, 10), (10, 10), (3, 400)])
def test_proportion_interval_leaves_half_the_error_in_each_tail(successes, trials):
    found = proportion_interval(successes, trials, confidence=0.9)
    assert found.estimate == successes / trials
    if successes > 0:
        assert binom.sf(successes - 1, trials, found.low) == pytest.approx(0.05)
    else:
        assert found.low == 0
    if successes < trials:
        assert binom.cdf(successes, trials, found.high) == pytest.approx(0.05)
    else:
        assert found.high == 1


@pytest.mark.parametrize(("successes", "trials"), [(-1, 5), (6, 5), (0, 0), (2.5, 5)])
def test_proportion_interval_refuses(successes, trials):
    with pytest.raises(InputError, match=r"successes|trials"):
        proportion_interval(successes, trials)


def test_ratio_interval_ends_where_a_t_test_does():
    rng = np.random.default_rng(7)
    below = rng.uniform(5, 15, 9)
    above = 0.3 * below + rng.normal(0, 1, 9)
    found = ratio_interval(above, below, confidence=0.9)
    assert found.estimate == pytest.approx(above.mean() / below.mean())
    for end in (found.low, found.high):
        rest = mean_interval(above - end * below, confidence=0.9)
        assert abs(rest.estimate) == pytest.approx(rest.half_width)


def test_ratio_interval_of_a_known_denominator_is_that_of_a_mean():
    found, mean = ratio_interval([1.0, 2.0, 4.0], [2.0, 2.0, 2.0]), mean_interval([0.5, 1.0, 2.0])
    assert (found.low, found.high) == pytest.approx((mean.low, mean.high))


def test_ratio_interval_is_open_where_the_denominator_may_be_zero():
    found = ratio_interval([1.0, 2.0, 1.5], [-1.0, 2.0, 0.5])
    assert (found.low, found.high) == (-math.inf, math.inf)
    assert found.half_width == math.inf


def test_ratio_interval_refuses():
    with pytest.raises(InputError, match="as many"):
        ratio_interval([1.0, 2.0], [1.0, 2.0, 3.0])
    with pytest.raises(InputError, match="mean of denominators"):
        ratio_interval([1.0, 2.0], [0.0, 0.0])


def test_ratio_interval_covers_as_often_as_it_says():
    rng = np.random.default_rng(8)
    covered = 0
    for _ in range(1000):
        below = rng.normal(10, 2, 8)
        covered += ratio_interval(0.5 * below + rng.normal(1, 1, 8), below).contains(0.6)
    assert 0.93 < covered / 1000 < 0.97


def _spread_ratio(a, b):
    return float(np.std(a) / np.std(b))


def test_bootstrap_interval_covers_nearly_as_often_as_it_says():
    rng = np.random.default_rng(9)
    covered = 0
    for _ in range(60):
        values = rng.normal(0, 2, 40), rng.normal(0, 1, 40)
        covered += bootstrap_interval(_spread_ratio, *values, rng=rng, resamples=300).contains(2.0)
    assert covered / 60 > 0.85


def test_bootstrap_interval_repeats_and_knows_what_does_not_vary():
    values = np.random.default_rng(10).normal(3, 1, 12)
    drawn = [bootstrap_interval(np.mean, values, rng=np.random.default_rng(1), resamples=200) for _ in range(2)]
    assert drawn[0] == drawn[1]
    assert drawn[0].low < values.mean() < drawn[0].high
    flat = bootstrap_interval(np.mean, [2.0] * 9, rng=np.random.default_rng(1))
    assert (flat.low, flat.high) == (2.0, 2.0)


@pytest.mark.parametrize(
    ("columns", "statistic", "message"),
    [
        ((), np.mean, "at least one column"),
        (([1.0] * 7,), np.mean, "at least 8"),
        (([1.0] * 9, [1.0] * 8), _spread_ratio, "as many"),
        (([1.0] * 9,), lambda a: math.nan, "statistic of a bootstrap sample"),
        (([math.inf] * 9,), np.mean, "replications"),
    ],
)
def test_bootstrap_interval_refuses(columns, statistic, message):
    with pytest.raises(InputError, match=message):
        bootstrap_interval(statistic, *columns, rng=np.random.default_rng(1))
