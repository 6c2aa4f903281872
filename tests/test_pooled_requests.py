"""Shares and quantiles over all requests of several replications."""

import math

import numpy as np
import pytest

from analysis.pooled_requests import pooled_quantile_interval, share_interval
from analysis.statistics import mean_interval, proportion_interval, quantile_interval, ratio_interval
from latency_models.errors import InputError


def test_a_share_is_as_uncertain_as_the_replications_differ():
    found = share_interval([0.0, 100.0, 0.0, 100.0], [1000.0] * 4)
    assert found.estimate == 0.05
    assert found.count == 4
    assert (found.low, found.high) == pytest.approx((0.0, mean_interval([0, 0.1, 0, 0.1]).high))


def test_a_share_of_alike_replications_is_at_least_as_uncertain_as_its_requests():
    alike, requests = share_interval([5.0, 5.0, 5.0], [100.0] * 3), proportion_interval(15, 300)
    assert (alike.low, alike.high) == (requests.low, requests.high)
    none = share_interval([0.0] * 5, [1000.0] * 5)
    assert none.low == 0
    assert none.high == proportion_interval(0, 5000).high > 0
    every = share_interval([10.0] * 5, [10.0] * 5)
    assert every.high == 1
    assert every.low < 1


def test_replications_weigh_by_their_requests():
    hits, totals = [0.0, 30.0, 12.0, 3.0], [80.0, 130.0, 110.0, 80.0]
    found, ratio = share_interval(hits, totals), ratio_interval(hits, totals)
    assert found.estimate == pytest.approx(45 / 400)
    assert found.high == ratio.high
    assert found.low == 0.0 > ratio.low
    assert share_interval([0.0, 30.0, 0.0], [0.0, 300.0, 10.0]).high == 1  # one replication has nearly all: no telling


@pytest.mark.parametrize(
    ("hits", "totals", "message"),
    [
        ([1.0], [2.0], "number of hits"),
        ([1.0, 2.0], [2.0, 2.0, 2.0], "as many"),
        ([1.0, -1.0], [2.0, 2.0], "hits is -1"),
        ([0.5, 1.0], [2.0, 2.0], r"hits is 0\.5"),
        ([3.0, 1.0], [2.0, 2.0], "at most the 2 requests"),
        ([1.0, 1.0], [2.0, math.inf], "totals is inf"),
        ([math.nan, 1.0], [2.0, 2.0], "hits is nan"),
        ([0.0, 0.0], [0.0, 0.0], "sum of totals"),
    ],
)
def test_shares_need_counts(hits, totals, message):
    with pytest.raises(InputError, match=message):
        share_interval(hits, totals)


def test_pooled_quantile_agrees_with_the_share_beyond_it():
    rng = np.random.default_rng(41)
    samples = [rng.exponential(rng.uniform(0.5, 2), int(rng.integers(200, 600))) for _ in range(8)]
    pooled = np.concatenate(samples)
    found = pooled_quantile_interval(samples, 0.9)
    beyond = share_interval([float((s > found.estimate).sum()) for s in samples], [float(len(s)) for s in samples])
    assert found.estimate == np.quantile(pooled, 0.9, method="inverted_cdf")
    one = 2 / len(pooled)
    assert (pooled > found.low).mean() - 0.1 == pytest.approx(beyond.estimate - beyond.low, abs=one)
    assert 0.1 - (pooled > found.high).mean() == pytest.approx(beyond.high - beyond.estimate, abs=one)


def test_pooled_quantile_of_independent_requests_is_no_narrower_than_order_statistics():
    samples = np.random.default_rng(42).exponential(size=(10, 150))
    found, ordered = pooled_quantile_interval(list(samples), 0.99), quantile_interval(samples.ravel(), 0.99)
    assert found.low <= ordered.low
    assert found.high >= ordered.high


def test_unserved_requests_lie_beyond_all_others():
    served = [np.arange(90.0), np.arange(90.0), np.arange(90.0)]
    unserved = [np.concatenate([s, [math.nan] * 5, [math.inf] * 5]) for s in served]
    assert pooled_quantile_interval(unserved, 0.5).estimate == 49
    assert pooled_quantile_interval(unserved, 0.9).estimate == 89
    lost = pooled_quantile_interval(unserved, 0.95)
    assert lost.estimate == lost.high == math.inf
    nothing = pooled_quantile_interval([[math.nan] * 20] * 2, 0.5)
    assert nothing.estimate == math.inf


def test_a_quantile_of_too_few_requests_is_open():
    found = pooled_quantile_interval([[1.0, 2.0, 3.0], [2.0, 3.0, 4.0]], 0.99)
    assert found.estimate == 4.0
    assert found.high == math.inf
    assert pooled_quantile_interval([[1.0, 2.0, 3.0], []], 0.01).low == -math.inf


def test_ties_do_not_shift_a_quantile():
    found = pooled_quantile_interval([[0.0] * 60 + [5.0] * 40] * 4, 0.5)
    assert (found.low, found.estimate, found.high) == (0.0, 0.0, 0.0)
    differing = pooled_quantile_interval([[0.0] * zeros + [5.0] * (100 - zeros) for zeros in (95, 35, 75, 40)], 0.5)
    assert differing.estimate == 0.0
    assert differing.high >= 5.0


def test_pooled_quantile_refuses():
    with pytest.raises(InputError, match="number of replications"):
        pooled_quantile_interval([[1.0, 2.0]], 0.5)
    with pytest.raises(InputError, match="number of requests"):
        pooled_quantile_interval([[], []], 0.5)
    with pytest.raises(InputError, match="quantile"):
        pooled_quantile_interval([[1.0], [2.0]], 95)
