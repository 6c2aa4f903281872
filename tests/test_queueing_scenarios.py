"""The engine reduced to a queue agrees with queueing theory, by confidence intervals over replications.

Each test asserts that the interval covers the theory's value and that it is narrow, so that a wrong simulation fails.
Seeds are fixed: what passes once passes always.
"""

import math
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from analysis.metrics import RequestLatencies
from analysis.queueing.batch_service import batch_service
from analysis.queueing.little import littles_law
from analysis.queueing.many_servers import erlang_c, mg_infinity, mmc, mmc_wait_quantile_s
from analysis.queueing.single_server import md1, mg1, mg1_processor_sharing, mm1, mm1_sojourn_quantile_s
from analysis.statistics import mean_interval
from scenarios.scenario_files import load_scenario
from scenarios.workloads.build import build_traffic
from sim.cluster import simulate
from sim.random_streams import seed_sequence

CONFIDENCE = 0.99
REPLICATIONS = 16
STEP_S = 1e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class Replication:
    """What one run showed once it was stationary."""

    wait_s: np.ndarray
    sojourn_s: np.ndarray
    output_tokens: np.ndarray
    in_system: np.ndarray
    """At the samples."""
    rate_per_s: float
    busy_share: float


@cache
def replications(name: str, requests: int, *overrides: str) -> tuple[Replication, ...]:
    """Runs of a library scenario without their first and their last requests."""
    scenario = load_scenario(name, [f"workload.requests={requests}", "run.sample_interval_s=0.7310585786", *overrides])
    cluster = scenario.cluster()
    runs: list[Replication] = []
    for number in range(REPLICATIONS):
        traffic = build_traffic(scenario.workload, seed_sequence(scenario.seed, number, "workload"), Path())
        result = simulate(cluster, traffic, scenario.run_spec(number, shared_content=False))
        columns = result.requests
        latencies = RequestLatencies.of(columns)
        assert latencies.finished.all()
        kept = slice(requests // 12, requests - requests // 50)
        begin_s, end_s = columns.arrival_s[kept][[0, -1]]
        samples = result.samples[(result.samples[:, 0] >= begin_s) & (result.samples[:, 0] <= end_s)]
        runs.append(
            Replication(
                wait_s=latencies.queue_s[kept],
                sojourn_s=latencies.e2e_s[kept],
                output_tokens=columns.output_tokens[kept],
                in_system=samples[:, 2] + samples[:, 3],
                rate_per_s=(kept.stop - kept.start - 1) / (end_s - begin_s),
                busy_share=float(result.busy_s[0]) / float(columns.finish_s.max()),
            )
        )
    return tuple(runs)


def assert_agrees(values, theory, within):
    """The interval of the mean covers ``theory`` and its half width is at most the share ``within`` of it."""
    interval = mean_interval([float(value) for value in values], confidence=CONFIDENCE)
    shown = f"theory {theory:.5g}, simulation {interval.estimate:.5g} +- {interval.half_width:.2g}"
    assert interval.half_width <= within * theory, f"too wide to tell: {shown}"
    assert interval.contains(theory), shown


def assert_queue(runs, queue, within):
    assert_agrees([run.wait_s.mean() for run in runs], queue.mean_wait_s, within)
    assert_agrees([run.sojourn_s.mean() for run in runs], queue.mean_sojourn_s, within)


MM1 = ("mm1", 6_000)
MD1 = ("md1", 4_000)
MG1 = ("mg1", 10_000)
MMC = ("mmc", 8_000)
MG_INFINITY = ("mg-infinity", 2_500)
PROCESSOR_SHARING = ("processor-sharing", 6_000)
BATCH = ("batch-service", 5_000)


def test_mm1():
    runs = replications(*MM1)
    # Exponential lengths are rounded up to whole tokens.
    service_s = STEP_S / -math.expm1(-1 / 1000)
    assert_queue(runs, mm1(0.6, service_s), 0.07)
    assert_agrees([run.busy_share for run in runs], 0.6 * service_s / 1.0, 0.02)


@pytest.mark.parametrize("quantile", [0.5, 0.9, 0.99])
def test_mm1_sojourn_distribution(quantile):
    runs = replications(*MM1)
    theory = mm1_sojourn_quantile_s(0.6, 1.0005, quantile)
    assert_agrees([np.quantile(run.sojourn_s, quantile) for run in runs], theory, 0.1)


def test_md1():
    assert_queue(replications(*MD1), md1(0.6, 1.0), 0.06)


def test_md1_at_another_load():
    runs = replications("md1", 3_000, "workload.arrivals.rate_per_s=0.3")
    assert_queue(runs, md1(0.3, 1.0), 0.05)


def test_mg1_pollaczek_khinchine():
    assert_queue(replications(*MG1), mg1(0.6, 1.0, service_cv2=1.5**2), 0.1)


def test_mmc():
    runs = replications(*MMC)
    queue = mmc(3.5, 1.0, 5)
    # Who finds a seat still waits for the end of the step, half of it on average.
    found_seat = 1 - erlang_c(3.5, 5)
    assert_agrees([run.wait_s.mean() for run in runs], queue.mean_wait_s + found_seat * STEP_S / 2, 0.15)
    assert_agrees([run.sojourn_s.mean() for run in runs], queue.mean_sojourn_s + found_seat * STEP_S / 2, 0.05)
    assert_agrees([(run.wait_s > 1.5 * STEP_S).mean() for run in runs], erlang_c(3.5, 5), 0.06)


def test_mmc_wait_distribution():
    runs = replications(*MMC)
    assert_agrees([np.quantile(run.wait_s, 0.9) for run in runs], mmc_wait_quantile_s(3.5, 1.0, 5, 0.9), 0.15)


def test_mg_infinity():
    runs = replications(*MG_INFINITY)
    queue = mg_infinity(20.0, 1.0)
    # Some request is nearly always there, so an arrival waits for the end of a step, half of it on average.
    assert_agrees([run.wait_s.mean() for run in runs], STEP_S / 2, 0.02)
    assert_agrees([run.sojourn_s.mean() for run in runs], queue.mean_sojourn_s + STEP_S / 2, 0.03)
    assert_agrees([run.in_system.mean() for run in runs], queue.mean_in_system, 0.04)


def test_the_number_in_mg_infinity_is_poisson():
    runs = replications(*MG_INFINITY)
    assert_agrees([run.in_system.var() / run.in_system.mean() for run in runs], 1.0, 0.12)


def test_processor_sharing():
    runs = replications(*PROCESSOR_SHARING)
    queue = mg1_processor_sharing(0.6, 1.0)
    assert_agrees([run.sojourn_s.mean() for run in runs], queue.mean_sojourn_s, 0.08)


def test_processor_sharing_slows_every_size_alike():
    runs = replications(*PROCESSOR_SHARING)
    for low, high in ((200, 500), (500, 1500), (1500, 90_000)):
        slowdowns = []
        for run in runs:
            rows = (run.output_tokens >= low) & (run.output_tokens < high)
            slowdowns.append((run.sojourn_s[rows] / (run.output_tokens[rows] * STEP_S)).mean())
        assert_agrees(slowdowns, 1 / (1 - 0.6), 0.08)


def test_processor_sharing_does_not_depend_on_the_distribution():
    runs = replications("processor-sharing", 3_000, "workload.lengths.output={kind: constant, tokens: 1000}")
    assert_agrees([run.sojourn_s.mean() for run in runs], mg1_processor_sharing(0.6, 1.0).mean_sojourn_s, 0.05)


def test_batch_service():
    runs = replications(*BATCH)
    queue = batch_service(6.0, 1.0, 8)
    assert_queue(runs, queue, 0.04)
    assert_agrees([run.busy_share for run in runs], queue.utilisation, 0.002)


@pytest.mark.parametrize(("seats", "limit"), [(1000, None), (3, 3)])
def test_batch_service_at_other_limits(seats, limit):
    runs = replications(
        "batch-service", 6_000, "workload.arrivals.rate_per_s=2", f"models.server.engine.max_num_seqs={seats}"
    )
    assert_queue(runs, batch_service(2.0, 1.0, limit), 0.03)


@pytest.mark.parametrize("case", [MM1, MD1, MG1, MMC, MG_INFINITY, PROCESSOR_SHARING, BATCH], ids=lambda case: case[0])
def test_littles_law(case):
    gaps = []
    for run in replications(*case):
        law = littles_law(
            mean_in_system=float(run.in_system.mean()),
            rate_per_s=run.rate_per_s,
            mean_sojourn_s=float(run.sojourn_s.mean()),
        )
        gaps.append(law.mean_in_system / law.rate_times_sojourn - 1)
        assert law.relative_gap < 0.1
    interval = mean_interval(gaps, confidence=CONFIDENCE)
    assert interval.half_width < 0.03
    assert interval.contains(0.0), (
        f"mean number in system is off by {interval.estimate:+.2%} +- {interval.half_width:.2%}"
    )


def test_a_wrong_theory_is_noticed():
    runs = replications(*MM1)
    with pytest.raises(AssertionError, match="theory"):
        assert_queue(runs, mm1(0.6 * 1.05, 1.0), 0.06)
    with pytest.raises(AssertionError, match="too wide"):
        assert_queue(runs[:2], mm1(0.6, 1.0), 0.01)
