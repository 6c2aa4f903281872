"""Queueing formulas against independent numerics: birth-death chains, textbook values and direct recursions."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.queueing.batch_service import batch_service
from analysis.queueing.little import littles_law
from analysis.queueing.many_servers import erlang_b, erlang_c, mg_infinity, mmc, mmc_wait_quantile_s, mmck
from analysis.queueing.single_server import (
    md1,
    mg1,
    mg1_processor_sharing,
    mg1_processor_sharing_sojourn_s,
    mm1,
    mm1_sojourn_quantile_s,
)
from analysis.queueing.variability import allen_cunneen, kingman
from latency_models.errors import InputError


def birth_death(rate, service, servers, capacity):
    """Stationary distribution of the number in the system, by solving the balance equations."""
    generator = np.zeros((capacity + 1, capacity + 1))
    for n in range(capacity):
        generator[n, n + 1] = rate
        generator[n + 1, n] = min(n + 1, servers) / service
    generator -= np.diag(generator.sum(axis=1))
    equations = np.vstack([generator.T, np.ones(capacity + 1)])
    return np.linalg.lstsq(equations, np.append(np.zeros(capacity + 1), 1.0), rcond=None)[0]


@pytest.mark.parametrize(("rate", "service", "servers"), [(0.5, 1.0, 1), (3.0, 0.8, 4), (1.8, 1.0, 2), (0.1, 2.0, 3)])
def test_mmc_against_its_balance_equations(rate, service, servers):
    chain = birth_death(rate, service, servers, 300)
    numbers = np.arange(301)
    queue = mmc(rate, service, servers)
    assert queue.mean_in_system == pytest.approx(chain @ numbers, rel=1e-6)
    assert queue.mean_waiting == pytest.approx(chain @ np.maximum(numbers - servers, 0), rel=1e-6)
    assert erlang_c(rate * service, servers) == pytest.approx(chain[servers:].sum(), rel=1e-6)


@pytest.mark.parametrize(
    ("rate", "servers", "capacity"), [(0.5, 1, 4), (3.0, 2, 5), (1.0, 1, 7), (4.0, 4, 4), (50, 3, 9)]
)
def test_mmck_against_its_balance_equations(rate, servers, capacity):
    chain = birth_death(rate, 1.0, servers, capacity)
    numbers = np.arange(capacity + 1)
    found = mmck(rate, 1.0, servers, capacity)
    assert found.rejected_share == pytest.approx(chain[-1], rel=1e-8)
    assert found.served.mean_in_system == pytest.approx(chain @ numbers, rel=1e-8)
    assert found.served.mean_waiting == pytest.approx(chain @ np.maximum(numbers - servers, 0), rel=1e-8, abs=1e-12)
    assert found.served.utilisation == pytest.approx(chain @ np.minimum(numbers, servers) / servers, rel=1e-8)


def test_textbook_values():
    assert mm1(0.5, 1.0).mean_sojourn_s == pytest.approx(2.0)
    assert md1(0.5, 1.0).mean_wait_s == pytest.approx(0.5)
    assert mm1(0.8, 1.0).mean_in_system == pytest.approx(4.0)
    # Erlang's tables: 10 erlangs offered to 15 lines lose 3.65 %; 2 erlangs to 3 servers wait with 4/9.
    assert erlang_b(10.0, 15) == pytest.approx(0.0365, abs=5e-5)
    assert erlang_c(2.0, 3) == pytest.approx(4 / 9)
    assert erlang_b(0.0, 3) == 0.0


def test_erlang_b_at_a_size_where_factorials_overflow():
    assert 0 < erlang_b(1000.0, 1000) < 0.03
    assert 0 < mmck(1000.0, 1.0, 1000, 1000).rejected_share == pytest.approx(erlang_b(1000.0, 1000))


def test_mg1_against_a_lindley_recursion():
    rng = np.random.default_rng(7)
    n, rate = 400_000, 0.6
    service = rng.gamma(0.5, 2.0, n)  # mean 1, squared coefficient of variation 2
    steps = np.concatenate([[0.0], service[:-1] - rng.exponential(1 / rate, n - 1)])
    walk = np.cumsum(steps)
    wait = walk - np.minimum.accumulate(walk)
    assert mg1(rate, 1.0, service_cv2=2.0).mean_wait_s == pytest.approx(wait.mean(), rel=0.08)


def test_quantiles_agree_with_the_distributions():
    queue = mm1(0.7, 1.0)
    assert mm1_sojourn_quantile_s(0.7, 1.0, 0.0) == 0.0
    p90 = mm1_sojourn_quantile_s(0.7, 1.0, 0.9)
    assert math.exp(-p90 / queue.mean_sojourn_s) == pytest.approx(0.1)
    # The mean wait is the integral of its quantiles.
    shares = (np.arange(20_000) + 0.5) / 20_000
    mean = np.mean([mmc_wait_quantile_s(3.0, 0.8, 4, share) for share in shares])
    assert mean == pytest.approx(mmc(3.0, 0.8, 4).mean_wait_s, rel=1e-3)
    assert mmc_wait_quantile_s(0.1, 1.0, 4, 0.9) == 0.0


def test_limits_and_special_cases():
    assert mg_infinity(3.0, 2.0).mean_in_system == 6.0
    sharing = mg1_processor_sharing(0.5, 1.0)
    assert sharing.mean_sojourn_s == mm1(0.5, 1.0).mean_sojourn_s
    assert mg1_processor_sharing_sojourn_s(0.5, 1.0, 3.0) == 6.0
    assert kingman(0.5, 1.0, arrival_cv2=1.0, service_cv2=0.0) == md1(0.5, 1.0)
    assert allen_cunneen(3.0, 0.8, 4, arrival_cv2=1.0, service_cv2=1.0).mean_wait_s == mmc(3.0, 0.8, 4).mean_wait_s
    assert allen_cunneen(3.0, 0.8, 4, arrival_cv2=0.0, service_cv2=0.0).mean_wait_s == 0.0


@given(st.floats(0.01, 0.98), st.floats(0.001, 100.0), st.integers(1, 40))
def test_more_servers_of_the_same_capacity_wait_less(load, service_s, servers):
    rate = load * servers / service_s
    waits = [mmc(rate * factor, service_s, servers * factor).mean_wait_s for factor in (1, 2)]
    assert waits[1] <= waits[0]
    assert mmc(rate, service_s, servers).mean_waiting == pytest.approx(
        erlang_c(load * servers, servers) * load / (1 - load), rel=1e-9
    )


def test_littles_law_holds_both_sides_up():
    assert littles_law(mean_in_system=6.0, rate_per_s=3.0, mean_sojourn_s=2.0).relative_gap == 0.0
    assert littles_law(mean_in_system=9.0, rate_per_s=3.0, mean_sojourn_s=5.0).relative_gap == pytest.approx(0.5)
    assert littles_law(mean_in_system=0.0, rate_per_s=0.0, mean_sojourn_s=5.0).relative_gap == 0.0


def test_batch_service_of_one_is_md1():
    found, expected = batch_service(0.7, 1.0, 1), md1(0.7, 1.0)
    assert found.mean_wait_s == pytest.approx(expected.mean_wait_s, rel=1e-9)
    assert found.utilisation == pytest.approx(0.7, rel=1e-9)


def test_a_large_batch_limit_is_no_limit():
    assert batch_service(3.0, 1.5, 60).mean_wait_s == pytest.approx(batch_service(3.0, 1.5, None).mean_wait_s, rel=1e-9)
    assert batch_service(500.0, 1.0, 1000).mean_wait_s == pytest.approx(0.5, rel=1e-9)
    assert 0.5 < batch_service(900.0, 1.0, 1000).mean_wait_s < 0.51
    # Nobody waits when arrivals are rare, half a batch when they are dense.
    assert batch_service(1e-6, 1.0, None).mean_wait_s == pytest.approx(0.0, abs=1e-5)
    assert batch_service(50.0, 1.0, None).mean_wait_s == pytest.approx(0.5, rel=1e-9)


@pytest.mark.parametrize(("rate", "limit"), [(1.5, 2), (3.2, 4), (6.0, 8)])
def test_batch_service_against_a_direct_simulation(rate, limit):
    rng = np.random.default_rng(8)
    arrivals = np.cumsum(rng.exponential(1 / rate, 120_000)).tolist()
    now, served, waited, busy = 0.0, 0, 0.0, 0
    while served < len(arrivals):
        now = max(now, arrivals[served])
        batch = 1
        while batch < limit and served + batch < len(arrivals) and arrivals[served + batch] <= now:
            batch += 1
        waited += sum(now - arrivals[served + i] for i in range(batch))
        served, now, busy = served + batch, now + 1.0, busy + 1
    found = batch_service(rate, 1.0, limit)
    assert found.mean_wait_s == pytest.approx(waited / len(arrivals), rel=0.05)
    assert found.utilisation == pytest.approx(busy / now, rel=0.01)


@pytest.mark.parametrize("formula", [mm1, md1, mg1_processor_sharing])
@pytest.mark.parametrize(("rate", "service"), [(1.0, 1.0), (2.0, 1.0)])
def test_unstable_queues_are_refused(formula, rate, service):
    with pytest.raises(InputError, match="grow without end"):
        formula(rate, service)


@pytest.mark.parametrize(
    "call",
    [
        lambda bad: mm1(bad, 1.0),
        lambda bad: mm1(1.0, bad),
        lambda bad: mmc(bad, 1.0, 2),
        lambda bad: mmck(1.0, bad, 1, 2),
        lambda bad: mg_infinity(bad, 1.0),
        lambda bad: batch_service(bad, 1.0, 3),
        lambda bad: batch_service(1.0, bad, None),
    ],
)
@pytest.mark.parametrize("bad", [0.0, -1.0, math.nan, math.inf])
def test_rates_and_times_are_positive_and_finite(call, bad):
    with pytest.raises(InputError, match="finite"):
        call(bad)


def test_other_bad_input():
    for call in (
        lambda: mg1(0.5, 1.0, service_cv2=-1.0),
        lambda: mmc(0.5, 1.0, 0),
        lambda: mmck(0.5, 1.0, 3, 2),
        lambda: erlang_b(-1.0, 2),
        lambda: erlang_c(2.0, 2),
        lambda: mm1_sojourn_quantile_s(0.5, 1.0, 1.0),
        lambda: batch_service(4.0, 1.0, 4),
        lambda: batch_service(1.0, 1.0, 0),
        lambda: batch_service(3.999999, 1.0, 4),
        lambda: littles_law(mean_in_system=math.nan, rate_per_s=1.0, mean_sojourn_s=1.0),
    ):
        with pytest.raises(InputError):
            call()
