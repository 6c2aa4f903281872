"""Staffing, networks, choices and batching servers against definitions, chains and limits."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.queueing.choices import at_least_in_queue, power_of_choices, shortest_queue_bounds
from analysis.queueing.many_servers import (
    erlang_c,
    mg_infinity,
    mmc,
    mmc_sojourn_beyond,
    mmc_sojourn_quantile_s,
)
from analysis.queueing.networks import Station, jackson
from analysis.queueing.single_server import mg1_processor_sharing, mm1, mm1_sojourn_quantile_s
from analysis.queueing.staffing import (
    halfin_whitt_probability,
    staffing_for_mean_wait,
    staffing_for_wait_probability,
)
from analysis.queueing.state_dependent import batching_engine, state_dependent
from latency_models.errors import InputError


def test_halfin_whitt_is_the_limit_of_erlang_c():
    for headroom in (0.2, 1.0, 2.0):
        servers = round(40_000 + headroom * 200)
        assert erlang_c(40_000.0, servers) == pytest.approx(halfin_whitt_probability(headroom), rel=0.02)
    assert halfin_whitt_probability(0.0) == 1.0
    assert halfin_whitt_probability(50.0) == 0.0


@given(st.floats(0.3, 1000.0), st.floats(0.05, 0.9))
def test_staffing_is_the_least_that_keeps_the_target_and_the_rule_is_near(offered, target):
    found = staffing_for_wait_probability(offered, 1.0, target)
    assert erlang_c(offered, found.exact_servers) <= target
    assert found.exact_servers - 1 <= offered or erlang_c(offered, found.exact_servers - 1) > target
    assert 0 <= found.exact_servers - found.square_root_servers <= 1
    assert found.wait_probability <= target


@given(st.floats(0.3, 300.0), st.floats(0.001, 5.0))
def test_staffing_for_a_mean_wait(offered, target_s):
    found = staffing_for_mean_wait(offered / 2.0, 2.0, target_s)
    assert found.mean_wait_s <= target_s
    fewer = found.exact_servers - 1
    assert fewer <= offered or mmc(offered / 2.0, 2.0, fewer).mean_wait_s > target_s
    assert 0 <= found.exact_servers - found.square_root_servers <= 2


def test_mmc_sojourn_distribution():
    assert mmc_sojourn_beyond(3.0, 0.8, 4, 0.0) == 1.0
    times = np.linspace(0, 80, 20_001)
    beyond = [mmc_sojourn_beyond(3.0, 0.8, 4, time) for time in times]
    assert np.trapezoid(beyond, times) == pytest.approx(mmc(3.0, 0.8, 4).mean_sojourn_s, rel=1e-4)
    assert mmc_sojourn_quantile_s(0.7, 1.0, 1, 0.95) == pytest.approx(mm1_sojourn_quantile_s(0.7, 1.0, 0.95), rel=1e-9)
    # Where both rates are equal: c m - rate = m.
    assert mmc_sojourn_beyond(1.0, 1.0, 2, 3.0) == pytest.approx(mmc_sojourn_beyond(1.0 + 1e-5, 1.0, 2, 3.0), rel=1e-4)


def test_tandem_and_feedback_networks():
    gateway = Station(name="gateway", service_s=0.01, arrivals_per_s=20.0)
    engine = Station(name="engine", service_s=0.4, servers=10)
    tandem = jackson([gateway, engine], [[0, 1], [0, 0]])
    assert tandem.queues == (mmc(20.0, 0.01, 1), mmc(20.0, 0.4, 10))
    assert tandem.mean_sojourn_s == pytest.approx(sum(queue.mean_sojourn_s for queue in tandem.queues))
    # One of five answers is sent back: a request passes 1 / (1 - 0.2) times.
    feedback = jackson([gateway, replace(engine, servers=12)], [[0, 1], [0.2, 0]])
    assert feedback.visits == pytest.approx((1.25, 1.25))
    assert feedback.queues[1].rate_per_s == pytest.approx(25.0)
    assert feedback.mean_sojourn_s == pytest.approx(
        sum(v * q.mean_sojourn_s for v, q in zip(feedback.visits, feedback.queues, strict=True))
    )


def test_a_station_that_nobody_visits_is_empty():
    network = jackson(
        [Station(name="a", service_s=0.1, arrivals_per_s=2.0), Station(name="spare", service_s=0.1)], [[0, 0], [0, 0]]
    )
    assert network.queues[1].mean_in_system == 0.0
    assert network.mean_sojourn_s == mm1(2.0, 0.1).mean_sojourn_s


@pytest.mark.parametrize(
    ("routing", "expected"),
    [
        ([[0, 1], [1, 0]], "never leave"),
        ([[0, 1.2], [0, 0]], "from 0 to 1"),
        ([[0.5, 0.7], [0, 0]], "at most 1"),
        ([[0, math.nan], [0, 0]], "finite"),
        ([[0, 1]], "2 rows"),
        ([[0, 0.9], [0.95, 0]], "load of station b"),
    ],
)
def test_wrong_networks(routing, expected):
    stations = [Station(name="a", service_s=0.01, arrivals_per_s=2.0), Station(name="b", service_s=0.3)]
    with pytest.raises(InputError, match=expected):
        jackson(stations, routing)


def test_networks_without_traffic_or_names():
    with pytest.raises(InputError, match="more than 0"):
        jackson([Station(name="a", service_s=1.0)], [[0]])
    with pytest.raises(InputError, match="differ"):
        jackson([Station(name="a", service_s=1.0, arrivals_per_s=0.1)] * 2, [[0, 0], [0, 0]])
    with pytest.raises(InputError, match="at least one"):
        jackson([], [])
    with pytest.raises(InputError, match="service_s"):
        Station(name="a", service_s=0.0)


def test_two_choices_in_the_limit():
    assert power_of_choices(0.7, 1.0, 1) == mm1(0.7, 1.0)
    # Mitzenmacher's table 1: two choices at load 0.9 take 2.6141 mean services, at 0.99 5.4320.
    assert power_of_choices(0.9, 1.0, 2).mean_sojourn_s == pytest.approx(2.6141, abs=2e-3)
    assert power_of_choices(0.99, 1.0, 2).mean_sojourn_s == pytest.approx(5.4320, abs=2e-3)
    assert at_least_in_queue(0.9, 1.0, 2, 3) == pytest.approx(0.9**7)
    assert at_least_in_queue(0.9, 1.0, 1, 3) == pytest.approx(0.9**3)
    assert at_least_in_queue(0.9, 1.0, 2, 0) == 1.0
    waits = [power_of_choices(0.9, 1.0, choices).mean_wait_s for choices in (1, 2, 3, 10)]
    assert waits == sorted(waits, reverse=True)


def test_shortest_queue_lies_between_its_bounds():
    rng = np.random.default_rng(9)
    free_at, arrival, sojourns, queues = np.zeros(4), 0.0, [], [[] for _ in range(4)]
    for _ in range(60_000):
        arrival += rng.exponential(1 / 3.2)
        for queue in queues:
            while queue and queue[0] <= arrival:
                queue.pop(0)
        chosen = min(range(4), key=lambda index: (len(queues[index]), rng.random()))
        free_at[chosen] = max(free_at[chosen], arrival) + rng.exponential(1.0)
        queues[chosen].append(free_at[chosen])
        sojourns.append(free_at[chosen] - arrival)
    bounds = shortest_queue_bounds(3.2, 1.0, 4)
    assert bounds.low_s < np.mean(sojourns[1000:]) < bounds.high_s


def test_state_dependent_has_the_known_queues_as_cases():
    assert state_dependent(0.7, lambda n: 1.0).mean_sojourn_s == pytest.approx(
        mg1_processor_sharing(0.7, 1.0).mean_sojourn_s, rel=1e-9
    )
    assert state_dependent(30.0, lambda n: n / 2.0).mean_sojourn_s == pytest.approx(
        mg_infinity(30.0, 2.0).mean_sojourn_s, rel=1e-9
    )
    seats = state_dependent(3.5, lambda n: n / 1.0, seats=5)
    assert seats.mean_wait_s == pytest.approx(mmc(3.5, 1.0, 5).mean_wait_s, rel=1e-9)
    assert seats.mean_sojourn_s == pytest.approx(mmc(3.5, 1.0, 5).mean_sojourn_s, rel=1e-9)
    assert seats.utilisation == pytest.approx(1 - _empty(3.5, 5))


def _empty(offered, servers):
    weights = [offered**n / math.factorial(n) for n in range(servers)]
    return 1 / (sum(weights) + offered**servers / math.factorial(servers) / (1 - offered / servers))


def test_many_seats_are_as_good_as_no_limit():
    def completions(n):
        return n / (200 * (0.02 + 5e-4 * n))

    assert state_dependent(4.0, completions, seats=2000).mean_sojourn_s == pytest.approx(
        state_dependent(4.0, completions).mean_sojourn_s, rel=1e-9
    )


@pytest.mark.parametrize("rate", [0.5, 3.0, 4.6])
def test_a_batching_engine_in_closed_form(rate):
    found = batching_engine(rate, 200, 0.02, 0.001)
    solved = state_dependent(rate, lambda n: n / (200 * (0.02 + 0.001 * n)))
    assert found.mean_sojourn_s == pytest.approx(solved.mean_sojourn_s, rel=1e-8)
    assert found.utilisation == pytest.approx(solved.utilisation, rel=1e-8)
    # Without a base it is processor sharing.
    assert batching_engine(rate, 200, 0.0, 0.001).mean_sojourn_s == pytest.approx(
        mg1_processor_sharing(rate, 0.2).mean_sojourn_s
    )


def test_other_bad_input():
    for call in (
        lambda: staffing_for_wait_probability(1.0, 1.0, 0.0),
        lambda: staffing_for_wait_probability(1.0, 1.0, 1.0),
        lambda: staffing_for_wait_probability(1e9, 1.0, 0.5),
        lambda: staffing_for_mean_wait(1.0, 1.0, 0.0),
        lambda: staffing_for_mean_wait(0.0, 1.0, 1.0),
        lambda: halfin_whitt_probability(math.nan),
        lambda: power_of_choices(0.9, 1.0, 0),
        lambda: power_of_choices(1.1, 1.0, 2),
        lambda: shortest_queue_bounds(4.0, 1.0, 4),
        lambda: state_dependent(1.1, lambda n: 1.0),
        lambda: state_dependent(5.0, lambda n: float(n), seats=5),
        lambda: state_dependent(1.0, lambda n: 0.0),
        lambda: state_dependent(1.0, lambda n: math.nan),
        lambda: state_dependent(1.0, lambda n: 2.0, seats=0),
        lambda: batching_engine(5.0, 200, 0.02, 0.001),
        lambda: batching_engine(1.0, 200, -0.02, 0.001),
        lambda: batching_engine(1.0, 200, 0.02, 0.0),
        lambda: mmc_sojourn_beyond(1.0, 1.0, 3, -1.0),
        lambda: mmc_sojourn_quantile_s(1.0, 1.0, 3, 1.0),
    ):
        with pytest.raises(InputError):
            call()
