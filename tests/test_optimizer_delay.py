from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optimizer_cases import curve_of, option_of, problem_of, queue_curve

from optimizer.delays.delay import Delay, DelayTable
from optimizer.delays.delay_curves import delay, delay_tables, late_share_at, shared_slos
from optimizer.delays.lateness import known_percentiles, late_share
from optimizer.problem import LoadCase, ModelOptions, Option, SloTarget
from optimizer.setups.dominance import dominated

MEAN = SloTarget(metric="ttft", target_s=0.5)


def random_delay(rng: np.random.Generator, slos: int = 1) -> Delay:
    points = int(rng.integers(1, 7))
    shares = np.concatenate([[0.0], np.sort(rng.random(points - 1))]) if points > 1 else np.zeros(1)
    return Delay(shares=shares, relative=rng.random((slos, points)))


def test_the_mean_is_the_curve_over_the_target() -> None:
    found = delay(curve_of([0, 10, 20], [0.1, 0.2, 0.6]), 40.0, [MEAN], [])
    assert found.shares.tolist() == [0.0, 0.25, 0.5]
    assert found.relative.tolist() == [[0.2, 0.4, 1.2]]
    assert found.at(0.375)[0] == pytest.approx(0.375 * 0.8)


def test_a_share_never_exceeds_all_requests_nor_the_last_load() -> None:
    curve = curve_of([0, 10, 20], [0.1, 0.2, 0.6])
    assert delay(curve, 15.0, [MEAN], []).highest == 1.0
    assert delay(curve, 15.0, [MEAN], []).relative[0, -1] == pytest.approx(0.8)
    assert delay(curve, 100.0, [MEAN], []).highest == 0.2


def test_below_the_first_load_a_curve_counts_as_slow_as_there() -> None:
    found = delay(curve_of([5, 10], [0.1, 0.2]), 10.0, [MEAN], [])
    assert found.shares.tolist() == [0.0, 0.5, 1.0]
    assert found.relative.tolist() == [[0.2, 0.2, 0.4]]


def test_the_stability_limit_ends_a_curve() -> None:
    curve = curve_of([0, 10, 20], [0.1, 0.2, 0.6])
    stable = type(curve)(
        configuration=curve.configuration,
        rates_per_s=curve.rates_per_s,
        statistics=curve.statistics,
        stability_per_s=(15.0, 20.0),
    )
    assert delay(stable, 20.0, [MEAN], []).highest == 0.75


def test_without_load_every_share_costs_what_a_lone_request_waits() -> None:
    found = delay(curve_of([0, 10], [0.1, 0.2]), 0.0, [MEAN], [])
    assert found.shares.tolist() == [0.0, 1.0]
    assert found.relative.tolist() == [[0.2, 0.2]]


def test_a_curve_with_one_point_carries_up_to_it() -> None:
    assert delay(curve_of([10], [0.1]), 20.0, [MEAN], []).highest == 0.5
    assert delay(curve_of([0], [0.1]), 20.0, [MEAN], []).highest == 0.0


def test_an_slo_of_one_model_is_a_highest_share_of_traffic() -> None:
    curve = curve_of([0, 10, 20], [0.1, 0.2, 0.6])
    own = SloTarget(metric="ttft", target_s=0.4, model="m0")
    assert delay(curve, 20.0, [], [own]).highest == pytest.approx(0.75)
    tight = SloTarget(metric="ttft", target_s=0.05, model="m0")
    assert delay(curve, 20.0, [], [tight]).highest == 0.0


def test_a_dip_beyond_the_first_crossing_is_not_used() -> None:
    curve = curve_of([0, 10, 20], [0.1, 0.6, 0.2])
    own = SloTarget(metric="ttft", target_s=0.35, model="m0")
    assert delay(curve, 20.0, [], [own]).highest == pytest.approx(0.25)


def test_late_share_interpolates_its_logarithm_and_stops_at_the_last_percentile() -> None:
    late, values = [0.5, 0.1, 0.01], [1.0, 2.0, 4.0]
    assert late_share(1.0, late, values) == 0.5
    assert late_share(2.0, late, values) == pytest.approx(0.1)
    assert late_share(3.0, late, values) == pytest.approx(np.sqrt(0.1 * 0.01))
    assert late_share(0.5, late, values) == pytest.approx(np.sqrt(0.5))
    assert late_share(100.0, late, values) == 0.01
    assert late_share(1.5, late, [1.0, 0.9, 4.0]) < 0.1  # noise: P90 below P50 counts as equal to it


def test_late_share_of_an_exponential_time_is_exact_between_percentiles() -> None:
    times = np.linspace(0.1, -np.log(0.011), 20)
    late = [0.5, 0.1, 0.05, 0.01]
    for time in times:
        assert late_share(float(time), late, [-float(np.log(share)) for share in late]) == pytest.approx(np.exp(-time))


def test_a_percentile_of_one_model_is_kept_up_to_the_load_where_the_curve_crosses_the_target() -> None:
    curve = queue_curve(0.1, 20.0)
    slo = SloTarget(metric="ttft", statistic="p95", target_s=0.6)
    crossing = np.interp(0.6, curve.statistics["ttft_p95_s"], curve.rates_per_s)
    assert late_share_at(curve, float(crossing), slo) == pytest.approx(0.05)
    found = delay(curve, 20.0, [slo], [])
    at = crossing / 20.0
    assert found.at(float(at))[0] == pytest.approx(at * 1.0)
    assert known_percentiles(curve, "ttft")[-1] == (0.01, "ttft_p99_s")


def test_the_highest_known_percentile_limits_every_model_by_itself() -> None:
    options = [[option_of(1, 1.0, 0.1, 20.0)], [option_of(1, 1.0, 0.2, 20.0)]]
    slos = [SloTarget(metric="ttft", statistic="p99", target_s=1.0), MEAN]
    problem = problem_of(options, np.full((2, 2), 0.5), slos=slos)
    assert shared_slos(problem) == (1,)
    curve = problem.models[1].options[0].curve
    crossing = np.interp(1.0, curve.statistics["ttft_p99_s"], curve.rates_per_s)
    assert delay_tables(problem, problem.loads[0])[1].options[0].highest == pytest.approx(min(1.0, crossing / 20.0))


@given(st.integers(0, 10_000))
@settings(max_examples=100, deadline=None)
def test_replies_are_maxima_for_any_delay(seed: int) -> None:
    rng = np.random.default_rng(seed)
    slos = int(rng.integers(0, 3))
    options = [random_delay(rng, slos) for _ in range(3)]
    table = DelayTable(options)
    price, betas = float(rng.normal(0, 1)), rng.random(slos)
    replies = table.replies(price, betas)
    for k, option in enumerate(options):
        grid = np.union1d(np.linspace(0.0, option.highest, 401), option.shares)
        tried = [price * y - float(betas @ option.at(float(y))) for y in grid]
        assert max(tried) <= replies[k] + 1e-12
        assert max(tried) == pytest.approx(replies[k], abs=1e-4)
        share, value = table.reply(k, price, betas)
        assert value == pytest.approx(replies[k], abs=1e-12)
        assert value == pytest.approx(price * share - float(betas @ option.at(share)), abs=1e-12)
        low, high = np.sort(rng.random(2) * option.highest).tolist()
        within = [price * y - float(betas @ option.at(float(y))) for y in option.between(low, high)]
        share, value = table.reply(k, price, betas, (low, high))
        assert low <= share <= high
        assert value >= max(within) - 1e-12
        assert value <= replies[k] + 1e-12


@given(st.integers(0, 10_000))
@settings(max_examples=100, deadline=None)
def test_delay_is_convex_between_kinks_unless_the_curve_falls(seed: int) -> None:
    option = random_delay(np.random.default_rng(seed))
    ends = np.concatenate([[0.0], option.kinks(), [option.highest]])
    for low, high in itertools.pairwise(ends):
        grid = np.linspace(low, high, 41)
        values = np.array([option.at(float(y))[0] for y in grid])
        falls = option.relative[0][np.searchsorted(option.shares, high)] < np.interp(
            low, option.shares, option.relative[0]
        )
        if not falls:
            assert (values[1:-1] <= (values[:-2] + values[2:]) / 2 + 1e-9).all()


def test_a_convex_delay_has_no_kinks() -> None:
    assert len(delay(queue_curve(0.1, 20.0), 15.0, [MEAN], []).kinks()) == 0
    assert delay(curve_of([0, 5, 10, 15], [0.1, 0.2, 0.21, 0.4]), 15.0, [MEAN], []).kinks().tolist() == [5 / 15]


def options_of(*curves: tuple[int, float, float, list[float]]) -> ModelOptions:
    return ModelOptions(
        name="m0",
        options=tuple(
            Option(
                tp=tp,
                compute_share=share,
                memory_share=0.5,
                curve=curve_of([0, highest / 2, highest], mean),
            )
            for tp, share, highest, mean in curves
        ),
    )


def superfluous(model: ModelOptions, slos: list[SloTarget]) -> list[bool]:
    found = [delay(option.curve, 20.0, slos, []) for option in model.options]
    return dominated(model, [found]).tolist()


def test_an_option_that_is_slower_and_larger_is_superfluous() -> None:
    model = options_of((1, 0.5, 10.0, [0.1, 0.2, 0.3]), (1, 0.6, 10.0, [0.1, 0.2, 0.4]))
    assert superfluous(model, [MEAN]) == [False, True]


@pytest.mark.parametrize(
    "other",
    [
        (1, 0.4, 10.0, [0.1, 0.2, 0.4]),  # less compute
        (1, 0.6, 10.0, [0.1, 0.19, 0.4]),  # faster somewhere
        (1, 0.6, 12.0, [0.1, 0.3, 0.4]),  # carries more
        (2, 0.2, 10.0, [0.1, 0.2, 0.4]),  # less of each GPU
    ],
)
def test_an_option_with_any_advantage_stays(other: tuple[int, float, float, list[float]]) -> None:
    assert superfluous(options_of((1, 0.5, 10.0, [0.1, 0.2, 0.3]), other), [MEAN]) == [False, False]


def test_options_that_differ_in_unused_statistics_only_are_judged_by_what_they_carry() -> None:
    model = options_of((1, 0.5, 10.0, [0.1, 0.2, 0.5]), (1, 0.6, 10.0, [0.1, 0.2, 0.4]))
    assert superfluous(model, []) == [False, True]


def test_loads_are_all_looked_at() -> None:
    model = options_of((1, 0.5, 10.0, [0.1, 0.2, 0.3]), (1, 0.6, 20.0, [0.25, 0.26, 0.3]))
    problem = problem_of([model.options], np.full((1, 1), 0.5), rate_per_s=[(5.0, 0.5), (20.0, 0.5)])
    tables = [delay_tables(problem, load)[0].options for load in problem.loads]
    assert dominated(problem.models[0], tables).tolist() == [False, False]
    assert dominated(problem.models[0], tables[:1]).tolist() == [False, True]
    assert problem.loads[0] == LoadCase(rate_per_s=5.0, weight=0.5)
