"""Bursty arrivals, distributions of waits and dispersion against direct recursions and chains."""

import math

import numpy as np
import pytest

from analysis.queueing.bursts import TwoStateArrivals, index_of_dispersion, two_state_m_1
from analysis.queueing.single_server import (
    md1,
    md1_sojourn_quantile_s,
    md1_wait_probability,
    mg1,
    mm1,
    residual_service_s,
)
from analysis.queueing.variability import gamma_m_1, kingman
from latency_models.errors import InputError


def lindley_waits(gaps, services):
    """Waits in a queue with one server, first come first served."""
    walk = np.cumsum(np.concatenate([[0.0], services[:-1] - gaps[1:]]))
    return walk - np.minimum.accumulate(walk)


def test_md1_distribution_against_a_recursion():
    rng = np.random.default_rng(3)
    waits = lindley_waits(rng.exponential(1 / 0.8, 600_000), np.ones(600_000))
    for wait in (0.0, 0.5, 1.0, 2.5, 6.0):
        assert md1_wait_probability(0.8, 1.0, wait) == pytest.approx(np.mean(waits <= wait), abs=0.01)
    assert md1_sojourn_quantile_s(0.8, 1.0, 0.95) == pytest.approx(np.quantile(waits, 0.95) + 1.0, rel=0.05)


@pytest.mark.parametrize("load", [0.3, 0.7, 0.9])
def test_md1_distribution_integrates_to_the_mean(load):
    waits = np.linspace(0.0, 9 / (1 - load), 400)
    beyond = np.array([1 - md1_wait_probability(load, 1.0, wait) for wait in waits])
    assert np.trapezoid(beyond, waits) == pytest.approx(md1(load, 1.0).mean_wait_s, rel=0.02)
    assert (np.diff(beyond) <= 1e-12).all()
    assert md1_wait_probability(load, 1.0, 0.0) == pytest.approx(1 - load, rel=1e-9)
    assert md1_sojourn_quantile_s(load, 1.0, 0.0) == 1.0


@pytest.mark.parametrize("load", [0.3, 0.9, 0.99])
def test_md1_quantiles_far_out_are_those_of_the_whole_sum(load):
    for quantile in (0.95, 0.999, 1 - 1e-7):
        wait_s = md1_sojourn_quantile_s(load, 1.0, quantile) - 1.0
        assert 1 - md1_wait_probability(load, 1.0, wait_s) == pytest.approx(1 - quantile, rel=1e-5)


def test_md1_quantiles_near_load_one():
    # There the wait is exponential (Kingman's heavy traffic limit); the whole sum would have a million terms.
    mean_s = md1(1 - 1e-7, 1.0).mean_wait_s
    assert md1_sojourn_quantile_s(1 - 1e-7, 1.0, 0.95) == pytest.approx(mean_s * math.log(20), rel=1e-5)


def test_residual_service_is_what_a_random_instant_finds():
    rng = np.random.default_rng(4)
    services = rng.gamma(0.5, 2.0, 200_000)
    ends = np.cumsum(services)
    at = rng.uniform(0, ends[-1], 100_000)
    left = ends[np.searchsorted(ends, at)] - at
    assert residual_service_s(1.0, service_cv2=2.0) == pytest.approx(left.mean(), rel=0.02)
    assert mg1(0.5, 1.0, service_cv2=2.0).mean_wait_s == pytest.approx(residual_service_s(1.0, service_cv2=2.0))


@pytest.mark.parametrize("cv2", [0.25, 1.0, 4.0, 9.0])
def test_gamma_arrivals_against_a_recursion(cv2):
    rng = np.random.default_rng(5)
    size = 1_500_000
    waits = lindley_waits(rng.gamma(1 / cv2, cv2 / 0.6, size), rng.exponential(1.0, size))
    assert gamma_m_1(0.6, 1.0, arrival_cv2=cv2).mean_wait_s == pytest.approx(waits.mean(), rel=0.04)


def test_gamma_arrivals_meet_poisson_and_heavy_traffic():
    assert gamma_m_1(0.7, 2.0 / 3, arrival_cv2=1.0).mean_wait_s == pytest.approx(mm1(0.7, 2.0 / 3).mean_wait_s)
    exact = gamma_m_1(0.999, 1.0, arrival_cv2=6.0).mean_wait_s
    assert kingman(0.999, 1.0, arrival_cv2=6.0, service_cv2=1.0).mean_wait_s == pytest.approx(exact, rel=0.01)
    # At light load clumps of arrivals matter more than their variance says, up to Kingman's bound.
    light = gamma_m_1(0.3, 1.0, arrival_cv2=6.0).mean_wait_s
    assert kingman(0.3, 1.0, arrival_cv2=6.0, service_cv2=1.0).mean_wait_s < 0.6 * light
    assert light < 0.3 * (6.0 / 0.3**2 + 1.0) / (2 * (1 - 0.3))


def truncated_chain_mean(arrivals, service_s, levels):
    """Mean number in MMPP(2)/M/1, by solving the balance equations of the first levels."""
    size = 2 * levels
    generator = np.zeros((size, size))
    for level in range(levels):
        for phase in range(2):
            here = 2 * level + phase
            generator[here, 2 * level + 1 - phase] += 1 / arrivals.sojourns_s[phase]
            if level + 1 < levels:
                generator[here, here + 2] += arrivals.rates_per_s[phase]
            if level:
                generator[here, here - 2] += 1 / service_s
    generator -= np.diag(generator.sum(axis=1))
    equations = np.vstack([generator.T, np.ones(size)])
    found = np.linalg.lstsq(equations, np.append(np.zeros(size), 1.0), rcond=None)[0]
    return found @ np.repeat(np.arange(levels), 2)


@pytest.mark.parametrize(
    ("rates", "sojourns"), [((0.2, 1.1), (10.0, 5.0)), ((0.0, 1.5), (4.0, 2.0)), ((0.5, 0.5), (1.0, 9.0))]
)
def test_two_state_arrivals_against_their_balance_equations(rates, sojourns):
    arrivals = TwoStateArrivals(rates_per_s=rates, sojourns_s=sojourns)
    queue = two_state_m_1(arrivals, 1.0)
    assert queue.mean_in_system == pytest.approx(truncated_chain_mean(arrivals, 1.0, 150), rel=1e-4)
    if rates[0] == rates[1]:
        assert queue.mean_wait_s == pytest.approx(mm1(0.5, 1.0).mean_wait_s, rel=1e-9)


@pytest.mark.parametrize("sojourn_s", [1e-6, 1e-9, 1e-13])
def test_arrivals_that_switch_at_once_are_poisson(sojourn_s):
    arrivals = TwoStateArrivals(rates_per_s=(2.0, 12.0), sojourns_s=(sojourn_s, sojourn_s))
    assert two_state_m_1(arrivals, 0.1).mean_wait_s == pytest.approx(mm1(7.0, 0.1).mean_wait_s, rel=1e-4)


def test_dispersion_of_two_states_against_counts():
    arrivals = TwoStateArrivals(rates_per_s=(1.0, 10.0), sojourns_s=(20.0, 5.0))
    rng = np.random.default_rng(6)
    edges = np.cumsum(rng.exponential(np.tile([20.0, 5.0], 8000)))
    rate = np.tile([1.0, 10.0], 8000)
    starts = np.concatenate([[0.0], edges[:-1]])
    times = np.sort(
        np.concatenate(
            [rng.uniform(a, b, rng.poisson(r * (b - a))) for a, b, r in zip(starts, edges, rate, strict=True)]
        )
    )
    assert arrivals.mean_rate_per_s == pytest.approx(2.8)
    gaps = np.diff(times)
    assert arrivals.gap_cv2 == pytest.approx(gaps.var() / gaps.mean() ** 2, rel=0.05)
    for window in (0.5, 5.0, 50.0):
        counts = np.histogram(times, np.arange(0, edges[-1], window))[0]
        assert arrivals.dispersion(window) == pytest.approx(index_of_dispersion(counts), rel=0.06)
    assert arrivals.dispersion(1e9) == pytest.approx(arrivals.dispersion(math.inf))
    assert arrivals.dispersion(1e-6) == pytest.approx(1.0, abs=1e-4)


def test_bad_input():
    two = {"rates_per_s": (1.0, 2.0), "sojourns_s": (1.0, 1.0)}
    for call in (
        lambda: TwoStateArrivals(**(two | {"rates_per_s": (0.0, 0.0)})),
        lambda: TwoStateArrivals(**(two | {"rates_per_s": (-1.0, 2.0)})),
        lambda: TwoStateArrivals(**(two | {"sojourns_s": (0.0, 2.0)})),
        lambda: TwoStateArrivals(**(two | {"sojourns_s": (math.inf, 2.0)})),
        lambda: TwoStateArrivals(**two).dispersion(0.0),
        lambda: TwoStateArrivals(**two).dispersion(math.nan),
        lambda: two_state_m_1(TwoStateArrivals(**two), 1.0),
        lambda: gamma_m_1(0.5, 1.0, arrival_cv2=0.0),
        lambda: gamma_m_1(1.5, 1.0, arrival_cv2=1.0),
        lambda: index_of_dispersion([3]),
        lambda: index_of_dispersion([0, 0]),
        lambda: index_of_dispersion([1, math.nan]),
        lambda: md1_wait_probability(0.5, 1.0, -1.0),
        lambda: md1_sojourn_quantile_s(0.5, 1.0, 1.0),
        lambda: residual_service_s(1.0, service_cv2=-1.0),
    ):
        with pytest.raises(InputError):
            call()
