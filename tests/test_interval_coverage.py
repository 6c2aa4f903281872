"""95 % intervals cover the truth 92 to 98 % of the time: M/M/1 by recursion and by engine, and a larger simulation.

Seeds are fixed: what passes once passes always.
"""

import math
from pathlib import Path

import numpy as np
import pytest

from analysis.long_run import batch_means, batch_quantile
from analysis.metrics import RequestLatencies
from analysis.pooled_requests import pooled_quantile_interval, share_interval
from analysis.queueing.many_servers import mmc_wait_quantile_s
from analysis.queueing.single_server import mm1, mm1_sojourn_quantile_s
from analysis.statistics import mean_interval, ratio_interval
from analysis.warmup import replication_deletion
from scenarios.scenario_files import load_scenario
from scenarios.workloads.build import build_traffic
from sim.cluster import simulate
from sim.random_streams import seed_sequence


def mm1_waits_s(rng, load, requests, replications):
    """Waits in M/M/1 from empty, one arrival a second, one row for each replication.

    Lindley's recursion W_(n+1) = max(0, W_n + S_n - A_n), unrolled: the distance of a random walk from its minimum so
    far (S. Asmussen, "Applied Probability and Queues", 2nd edition, 2003, section III.6).
    """
    steps = rng.exponential(load, (replications, requests)) - rng.exponential(1.0, (replications, requests))
    walk = np.cumsum(steps, axis=1)
    return walk - np.minimum(np.minimum.accumulate(walk, axis=1), 0.0)


def coverage(intervals, truth):
    return sum(interval.contains(truth) for interval in intervals) / len(intervals)


def assert_covers(intervals, truth):
    assert 0.92 <= coverage(intervals, truth) <= 0.98


WARMUP = 500


@pytest.fixture(scope="module", params=[(0.6, 2000, 10, 800), (0.8, 5000, 20, 300)], ids=["load 60 %", "load 80 %"])
def found(request):
    """Intervals by name, one of each experiment of several replications, and the truth by the same names."""
    load, requests, replications, experiments = request.param
    rng = np.random.default_rng(74)
    mean_s, limit_s = mm1(1.0, load).mean_wait_s, mmc_wait_quantile_s(1.0, load, 1, 0.95)
    # Waits beyond P95 exceed it by an exponential time, as all waits of those that must wait.
    truth = {
        "deleted mean": mean_s,
        "mean": mean_s,
        "mean as if independent": mean_s,
        "P95": limit_s,
        "mean P95": limit_s,
        "late": 0.05,
        "late share of waiting": 0.05 * (limit_s + load / (1 - load)) / mean_s,
    }
    intervals = {name: [] for name in truth}
    for _ in range(experiments):
        from_empty = mm1_waits_s(rng, load, requests + WARMUP, replications)
        waits = from_empty[:, WARMUP:]
        late = waits > limit_s
        intervals["deleted mean"].append(replication_deletion(list(from_empty)).interval)
        intervals["mean"].append(mean_interval(waits.mean(axis=1)))
        intervals["mean as if independent"].append(mean_interval(waits.ravel()))
        intervals["P95"].append(pooled_quantile_interval(list(waits), 0.95))
        intervals["mean P95"].append(mean_interval(np.quantile(waits, 0.95, axis=1)))
        intervals["late"].append(share_interval(late.sum(axis=1), [float(requests)] * replications))
        intervals["late share of waiting"].append(ratio_interval((waits * late).sum(axis=1), waits.sum(axis=1)))
    return intervals, truth


@pytest.mark.parametrize("name", ["deleted mean", "mean", "P95", "mean P95", "late", "late share of waiting"])
def test_mm1_by_replications(found, name):
    intervals, truth = found
    assert_covers(intervals[name], truth[name])


def test_requests_are_not_independent(found):
    intervals, truth = found
    assert coverage(intervals["mean as if independent"], truth["mean as if independent"]) < 0.5


@pytest.mark.parametrize(("load", "requests"), [(0.6, 40_000), (0.8, 80_000)])
def test_mm1_by_one_long_run(load, requests):
    rng = np.random.default_rng(72)
    means, quantiles = [], []
    for _ in range(200):
        waits = mm1_waits_s(rng, load, requests + WARMUP, 1)[0, WARMUP:]
        means.append(batch_means(waits).interval)
        quantiles.append(batch_quantile(waits, 0.95).interval)
    assert_covers(means, mm1(1.0, load).mean_wait_s)
    assert_covers(quantiles, mmc_wait_quantile_s(1.0, load, 1, 0.95))


def simulated(name, replications, *overrides):
    scenario = load_scenario(name, list(overrides))
    cluster = scenario.cluster()
    runs = []
    for number in range(replications):
        traffic = build_traffic(scenario.workload, seed_sequence(scenario.seed, number, "workload"), Path())
        runs.append(simulate(cluster, traffic, scenario.run_spec(number, shared_content=False)).requests)
    return runs


def experiments_of(values, replications, count):
    """The same replications in many different groups."""
    rng = np.random.default_rng(73)
    return [[values[k] for k in rng.choice(len(values), replications, replace=False)] for _ in range(count)]


def test_mm1_through_the_engine():
    runs = simulated("mm1", 200, "workload.requests=1000")
    sojourns = [RequestLatencies.of(columns).e2e_s[150:] for columns in runs]
    service_s = 1e-3 / -math.expm1(-1 / 1000)  # lengths are rounded up to whole tokens
    groups = experiments_of(sojourns, 10, 400)
    found = [mean_interval([float(run.mean()) for run in group]) for group in groups]
    assert_covers(found, mm1(0.6, service_s).mean_sojourn_s)
    quantiles = [pooled_quantile_interval(group, 0.95) for group in groups]
    assert_covers(quantiles, mm1_sojourn_quantile_s(0.6, service_s, 0.95))


def test_a_large_simulation():
    """Three models behind bursts: no formula, so the truth is what a hundred replications say together."""
    ttfts = [RequestLatencies.of(columns).ttft_s for columns in simulated("demo", 100, "workload.duration_s=300")]
    everyone, limit_s = np.concatenate(ttfts), 2.0
    groups = experiments_of(ttfts, 10, 400)
    assert_covers(
        [mean_interval([float(run.mean()) for run in group]) for group in groups],
        float(np.mean([run.mean() for run in ttfts])),
    )
    assert_covers(
        [
            share_interval([float((run > limit_s).sum()) for run in group], [float(len(run)) for run in group])
            for group in groups
        ],
        float((everyone > limit_s).mean()),
    )
    assert_covers(
        [pooled_quantile_interval(group, 0.95) for group in groups],
        float(np.quantile(everyone, 0.95)),
    )
