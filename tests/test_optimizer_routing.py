"""Routing of one setup: optimality conditions, duality, feasibility, and independent solvers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optimizer_cases import certify, curve_of, option_of, problem_of, score_of_counts, three_models, true_cost

from optimizer.delays.delay_curves import late_share_at
from optimizer.problem import LEFT_OUT, Option, Problem, Setup, SloTarget
from optimizer.routing import RoutingSolver, solve_routing
from optimizer.splits.assignment import ScoreTable
from optimizer.splits.split_score import score_of_split

TTFT = SloTarget(metric="ttft", target_s=0.2)


def grid_best(problem: Problem, setup: Setup, steps: int) -> float:
    """Best score over splits in whole steps, for two or three models; ``steps`` divides the number of prompts."""
    scores = problem.table.predicted
    best = -np.inf
    models = len(setup)
    for first in range(steps + 1):
        for second in range(steps - first + 1) if models == 3 else [steps - first]:
            counts = np.array([first, second, steps - first - second][:models])
            if true_cost(problem, setup, counts / steps) <= 1.0 + 1e-9:
                best = max(best, score_of_counts(scores, counts * (len(scores) // steps)))
    return best


@pytest.mark.parametrize("target_s", [0.08, 0.12, 0.2, 0.5])
@pytest.mark.parametrize("setup", [(2, 1, 2), (5, 5, 5), (0, 2, 5), (5, 2, 4)])
def test_optimality_conditions(target_s: float, setup: Setup) -> None:
    problem = three_models(prompts=60, slos=[SloTarget(metric="ttft", target_s=target_s)])
    found = solve_routing(problem, setup)
    best = grid_best(problem, setup, 20)
    if found is None:
        assert best == -np.inf
        return
    certify(problem, setup, found.loads[0])
    assert found.score >= best - 1e-7
    assert found.loads[0].slos[0].value == pytest.approx(
        target_s * true_cost(problem, setup, found.loads[0].fractions), rel=1e-9
    )


def test_a_loose_target_gives_every_prompt_its_best_answer_and_has_no_price() -> None:
    problem = three_models(slos=[SloTarget(metric="ttft", target_s=60.0)], rate_per_s=5.0)
    found = solve_routing(problem, (5, 5, 5))
    assert found is not None
    assert found.score == pytest.approx(problem.table.predicted.max(axis=1).mean(), abs=1e-7)
    assert found.loads[0].beta == (0.0,)


def test_beta_is_what_a_longer_target_gains() -> None:
    targets = [0.0795, 0.08, 0.0805]
    found = [
        solve_routing(three_models(slos=[SloTarget(metric="ttft", target_s=t)]), (5, 2, 5), tolerance=1e-9)
        for t in targets
    ]
    gained = (found[2].score - found[0].score) / (targets[2] - targets[0])
    assert gained > 0.1
    assert found[1].loads[0].slos[0].score_per_s == pytest.approx(gained, rel=0.05)
    assert found[1].loads[0].slos[0].beta == found[1].loads[0].slos[0].score_per_s


def test_a_longer_target_of_one_model_gains_what_it_is_said_to() -> None:
    def solved(target_s: float):
        slos = [SloTarget(metric="ttft", target_s=5.0), SloTarget(metric="ttft", target_s=target_s, model="m2")]
        return solve_routing(three_models(slos=slos), (5, 2, 5), tolerance=1e-9)

    low, middle, high = (solved(t) for t in (0.099, 0.1, 0.101))
    gained = (high.score - low.score) / 0.002
    assert gained > 0.01
    assert middle.loads[0].slos[1].score_per_s == pytest.approx(gained, rel=0.05)
    assert middle.loads[0].slos[1].value == pytest.approx(0.1)


def test_a_longer_target_of_a_percentile_gains_what_it_is_said_to() -> None:
    def solved(target_s: float):
        slos = [SloTarget(metric="ttft", statistic="p95", target_s=target_s)]
        return solve_routing(three_models(slos=slos), (5, 2, 5), tolerance=1e-9)

    low, middle, high = (solved(t) for t in (0.299, 0.3, 0.301))
    gained = (high.score - low.score) / 0.002
    assert gained > 0.01
    assert middle.loads[0].slos[0].score_per_s == pytest.approx(gained, rel=0.1)


def test_several_slos_hold_together_and_each_has_its_price() -> None:
    slos = [
        SloTarget(metric="ttft", statistic="p95", target_s=0.3),
        SloTarget(metric="e2e", target_s=1.9),
        SloTarget(metric="ttft", target_s=0.12, model="m2"),
    ]
    problem = three_models(slos=slos)
    found = solve_routing(problem, (5, 2, 5))
    assert found is not None
    certify(problem, (5, 2, 5), found.loads[0])
    for outcome in found.loads[0].slos:
        assert outcome.value <= outcome.limit * (1 + 1e-7)
    for alone in slos:
        single = solve_routing(three_models(slos=[alone]), (5, 2, 5))
        assert single.score >= found.score - 1e-6
    assert sum(beta > 0 for beta in found.loads[0].beta) >= 1


def test_a_percentile_of_all_requests_counts_late_requests() -> None:
    slo = SloTarget(metric="ttft", statistic="p95", target_s=0.3)
    problem = three_models(slos=[slo])
    found = solve_routing(problem, (5, 2, 5)).loads[0]
    late = sum(
        share * late_share_at(problem.models[i].options[k].curve, 20.0 * share, slo)
        for i, (k, share) in enumerate(zip((5, 2, 5), found.fractions, strict=True))
    )
    assert found.slos[0].value == pytest.approx(late)
    assert found.slos[0].limit == 0.05
    assert late == pytest.approx(0.05, abs=1e-6)


def test_the_highest_known_percentile_holds_for_every_model_with_traffic() -> None:
    slo = SloTarget(metric="ttft", statistic="p99", target_s=0.5)
    problem = three_models(slos=[slo])
    found = solve_routing(problem, (5, 2, 5)).loads[0]
    certify(problem, (5, 2, 5), found)
    assert [s for s in found.slos[0].by_model_s if s is not None]
    assert max(s for s in found.slos[0].by_model_s if s is not None) == pytest.approx(0.5)


def test_each_load_has_its_own_routing() -> None:
    problem = three_models(rate_per_s=[(10.0, 0.25), (25.0, 0.75)], slos=[SloTarget(metric="ttft", target_s=0.09)])
    found = solve_routing(problem, (5, 2, 5))
    assert found is not None
    for number, rate in enumerate((10.0, 25.0)):
        alone = solve_routing(three_models(rate_per_s=rate, slos=problem.slos), (5, 2, 5))
        assert found.loads[number].score == pytest.approx(alone.score, abs=1e-6)
        certify(problem, (5, 2, 5), found.loads[number])
    assert found.score == pytest.approx(0.25 * found.loads[0].score + 0.75 * found.loads[1].score)
    assert found.loads[0].score > found.loads[1].score + 1e-3


def test_a_model_left_out_gets_nothing() -> None:
    problem = three_models(optional=True)
    found = solve_routing(problem, (5, LEFT_OUT, 5))
    assert found.loads[0].fractions[1] == 0.0
    certify(problem, (5, LEFT_OUT, 5), found.loads[0])
    assert found.loads[0].slos[0].by_model_s[1] is None
    assert solve_routing(problem, (LEFT_OUT,) * 3) is None


def test_too_much_load_or_too_short_a_target_has_no_routing() -> None:
    assert solve_routing(three_models(rate_per_s=500.0), (5, 5, 5)) is None
    assert solve_routing(three_models(slos=[SloTarget(metric="ttft", target_s=0.001)]), (5, 5, 5)) is None


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_all_scores_tied(value: float) -> None:
    problem = problem_of(
        [[option_of(1, 1.0, 0.05, 25.0)], [option_of(1, 1.0, 0.1, 15.0)]], np.full((7, 2), value), rate_per_s=20.0
    )
    found = solve_routing(problem, (0, 0))
    assert found.score == pytest.approx(value)
    certify(problem, (0, 0), found.loads[0])


def test_one_model() -> None:
    problem = problem_of([[option_of(1, 1.0, 0.05, 40.0)]], np.array([[0.25], [0.75]]), rate_per_s=20.0)
    found = solve_routing(problem, (0,))
    assert found.score == pytest.approx(0.5)
    assert found.loads[0].fractions == (1.0,)
    certify(problem, (0,), found.loads[0])


def test_zero_load() -> None:
    problem = three_models(rate_per_s=0.0)
    found = solve_routing(problem, (5, 2, 5))
    assert found.score == pytest.approx(problem.table.predicted.max(axis=1).mean(), abs=1e-7)
    certify(problem, (5, 2, 5), found.loads[0])


def test_curves_with_one_point() -> None:
    options = [
        [Option(tp=1, memory_share=0.5, curve=curve_of([rate], [latency]))]
        for rate, latency in ((15.0, 0.1), (8.0, 0.3))
    ]
    scores = np.random.default_rng(0).random((50, 2)) * np.array([0.5, 1.0])
    problem = problem_of(options, scores, rate_per_s=20.0, slos=[SloTarget(metric="ttft", target_s=0.16)])
    found = solve_routing(problem, (0, 0))
    assert found.loads[0].fractions[1] == pytest.approx(0.3)  # 0.1 (1 - y) + 0.3 y = 0.16
    certify(problem, (0, 0), found.loads[0])


def bent_problem(seed: int, models: int, prompts: int, points: int = 6) -> Problem:
    """Curves with noise and kinks, some of which fall: the cost of traffic is not convex."""
    rng = np.random.default_rng(seed)
    options = []
    for _ in range(models):
        rates = np.concatenate([[0.0], np.sort(rng.uniform(1.0, 20.0, points - 1))])
        latency = rng.uniform(0.02, 0.3, points)
        if rng.random() < 0.5:
            latency = np.sort(latency)
        options.append([Option(tp=1, memory_share=0.1, curve=curve_of(rates.tolist(), latency.tolist()))])
    scores = rng.random((prompts, models)) * np.linspace(0.6, 1.0, models)
    return problem_of(options, scores, rate_per_s=18.0, slos=[SloTarget(metric="ttft", target_s=0.15)])


@pytest.mark.parametrize("seed", range(18))
def test_non_convex_costs_keep_a_valid_bound_and_a_feasible_routing(seed: int) -> None:
    problem = bent_problem(seed, 2, 60)
    found = solve_routing(problem, (0, 0))
    best = grid_best(problem, (0, 0), 60)
    if found is None:
        assert best == -np.inf
        return
    assert true_cost(problem, (0, 0), found.loads[0].fractions) <= 1.0 + 1e-7
    assert best <= found.bound + 1e-9
    assert found.score >= best - 1e-6
    assert found.gap <= 1e-6


@pytest.mark.parametrize("seed", range(5))
def test_non_convex_costs_of_three_models(seed: int) -> None:
    problem = bent_problem(seed, 3, 30)
    found = solve_routing(problem, (0, 0, 0))
    best = grid_best(problem, (0, 0, 0), 30)
    if found is None:
        assert best == -np.inf
        return
    assert true_cost(problem, (0, 0, 0), found.loads[0].fractions) <= 1.0 + 1e-7
    assert best <= found.bound + 1e-9
    assert found.score >= best - 1e-6
    assert found.gap <= 1e-4


def jumping_problem(seed: int) -> Problem:
    """Curves that jump: two of their loads are neighbours among the floating-point numbers."""
    rng = np.random.default_rng(seed)
    options = []
    for _ in range(3):
        rates = [0.0, *np.sort(rng.uniform(1.0, 15.0, 3)).tolist()]
        latency = np.sort(rng.uniform(0.05, 0.4, 5)).tolist()
        options.append(
            [Option(tp=1, memory_share=0.1, curve=curve_of([*rates, np.nextafter(rates[-1], 99.0)], latency))]
        )
    scores = rng.random((40, 3)) * [0.6, 0.8, 1.0]
    return problem_of(options, scores, rate_per_s=18.0, slos=[SloTarget(metric="ttft", target_s=0.22)])


@pytest.mark.parametrize("seed", range(12))
def test_a_score_that_is_promised_can_be_had_where_latency_jumps(seed: int) -> None:
    problem = jumping_problem(seed)
    found = solve_routing(problem, (0, 0, 0))
    best = grid_best(problem, (0, 0, 0), 40)
    if found is None:
        assert best == -np.inf
        return
    routing = found.loads[0]
    possible = score_of_split(ScoreTable(problem.table.predicted), np.array(routing.fractions))
    assert found.score <= possible.bound + 1e-6
    assert true_cost(problem, (0, 0, 0), routing.fractions) <= 1.0 + 1e-6
    assert found.score >= best - 1e-3  # latencies count from the foot of a jump


def test_what_one_setup_taught_does_not_change_the_next() -> None:
    problem = three_models(slos=[SloTarget(metric="ttft", target_s=0.09)])
    solver = RoutingSolver(problem)
    for setup in [(5, 5, 5), (5, 2, 5), (4, 2, 5), (5, 1, 4), (5, 5, 5)]:
        again = solver.route(setup, tolerance=1e-8)
        fresh = solve_routing(problem, setup, tolerance=1e-8)
        assert again.score == pytest.approx(-np.inf if fresh is None else fresh.score, abs=3e-8)


def test_a_setup_that_cannot_win_is_given_up() -> None:
    problem = three_models(slos=[SloTarget(metric="ttft", target_s=0.09)])
    best = solve_routing(problem, (5, 2, 5))
    given_up = RoutingSolver(problem).route((5, 2, 5), tolerance=1e-7, give_up_below=best.score + 0.01)
    assert given_up.score == -np.inf
    assert best.score <= given_up.bound <= best.score + 0.01


@given(st.integers(0, 100_000))
@settings(max_examples=20, deadline=None)
def test_optimality_conditions_on_any_convex_instance(seed: int) -> None:
    rng = np.random.default_rng(seed)
    models = int(rng.integers(1, 5))
    options = [[option_of(1, 1.0, float(rng.uniform(0.02, 0.3)), float(rng.uniform(3.0, 40.0)))] for _ in range(models)]
    scores = rng.random((int(rng.integers(1, 80)), models))
    if rng.random() < 0.3:
        scores = np.round(scores)
    slos = [SloTarget(metric="ttft", target_s=float(rng.uniform(0.05, 0.6)))]
    if rng.random() < 0.4:
        slos.append(SloTarget(metric="ttft", statistic="p90", target_s=float(rng.uniform(0.1, 1.5))))
    problem = problem_of(options, scores, gpus=8, rate_per_s=float(rng.uniform(1.0, 40.0)), slos=slos)
    setup = (0,) * models
    found = solve_routing(problem, setup)
    if found is not None:
        certify(problem, setup, found.loads[0])
