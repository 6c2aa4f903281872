"""The best setup: against brute force over setups, an independent integer programme, and what must not change it."""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optimizer_cases import all_setups, certify, option_of, problem_of, queue_curve, table_of, three_models

from optimizer.placement import Placer
from optimizer.problem import LEFT_OUT, LoadCase, ModelOptions, Option, Problem, SloTarget
from optimizer.routing import RoutingSolver
from optimizer.search import Optimum, optimise
from optimizer.setups.dual_cuts import DualCuts
from optimizer.setups.setup_search import Progress

GAP = 1e-6


def brute_force(problem: Problem) -> float:
    """Best score over all setups that can be placed within the compute of the GPUs."""
    solver, placer = RoutingSolver(problem), Placer(problem)
    best = -math.inf
    for setup in all_setups(problem):
        chosen = [m.options[k] for m, k in zip(problem.models, setup, strict=True) if k != LEFT_OUT]
        if math.fsum(option.compute for option in chosen) <= problem.gpus + 1e-9 and placer.place(setup) is not None:
            best = max(best, solver.route(setup, tolerance=1e-8).score)
    return best


def random_problem(rng: np.random.Generator, models: int = 3, options: int = 3) -> Problem:
    each = [
        [
            option_of(
                tp,
                share,
                float(rng.uniform(0.02, 0.2)),
                float(rng.uniform(5.0, 40.0)),
                replicas=replicas,
                memory=float(rng.uniform(0.1, 0.9)),
            )
            for tp, share, replicas in [(1, 0.5, 1), (2, 0.6, 1), (1, 1.0, 2)][:options]
        ]
        for _ in range(models)
    ]
    scores = rng.random((int(rng.integers(3, 40)), models)) * rng.uniform(0.5, 1.0, models)
    return problem_of(
        each,
        scores,
        gpus=int(rng.integers(2, 5)),
        rate_per_s=float(rng.uniform(3.0, 40.0)),
        slos=[SloTarget(metric="ttft", target_s=float(rng.uniform(0.05, 0.4)))],
        packing="compute" if rng.random() < 0.5 else "memory",
        optional=bool(rng.random() < 0.5),
    )


def check(problem: Problem, found: Optimum) -> None:
    """Proof, placement and promise of a result."""
    assert found.best is not None
    assert found.gap <= GAP
    assert found.score <= found.bound
    assert found.infeasible is None
    assert found.considered == len(all_setups(problem))
    assert found.pruned >= 0
    used = np.zeros((problem.gpus, 2))
    for model, k, gpus in zip(problem.models, found.best.setup, found.best.gpus, strict=True):
        if k == LEFT_OUT:
            assert model.optional
            assert gpus == ()
            continue
        option = model.options[k]
        assert len(set(gpus)) == len(gpus) == option.shards
        used[list(gpus)] += (option.compute_share if problem.packing == "compute" else 0.0, option.memory_share)
    assert used.max(initial=0.0) <= 1.0 + 1e-5
    for routing in found.best.routing.loads:
        certify(problem, found.best.setup, routing, tolerance=2 * GAP / routing.load.weight)
        for outcome in routing.slos:
            assert outcome.value <= outcome.limit * (1.0 + 1e-7)


@given(st.integers(0, 100_000))
@settings(max_examples=8, deadline=None)
def test_brute_force_finds_nothing_better(seed: int) -> None:
    problem = random_problem(np.random.default_rng(seed))
    found = optimise(problem)
    best = brute_force(problem)
    if found.best is None:
        assert best == -math.inf
        assert found.infeasible is not None
        return
    check(problem, found)
    assert found.score == pytest.approx(best, abs=2 * GAP)
    assert best <= found.bound + 1e-7


@pytest.mark.parametrize("seed", range(3))
def test_several_loads_and_slos_against_brute_force(seed: int) -> None:
    problem = three_models(
        prompts=60,
        shares=(0.7,),
        seed=seed,
        rate_per_s=[(10.0, 0.6), (22.0, 0.4)],
        slos=[SloTarget(metric="ttft", statistic="p95", target_s=0.4), SloTarget(metric="e2e", target_s=2.2)],
        optional=seed == 1,
    )
    found = optimise(problem)
    check(problem, found)
    assert found.score == pytest.approx(brute_force(problem), abs=2 * GAP)


def integer_programme(problem: Problem, points: int, *, outer: bool) -> float:
    """Setup, placement and routing as one mixed-integer programme.

    With chords of h, from inside, or with lines that lie below h, from outside.
    """
    from scipy.optimize import Bounds, LinearConstraint, milp

    scores = problem.table.predicted
    prompts, models = scores.shape
    rate, target = problem.loads[0].rate_per_s, problem.slos[0].target_s
    pieces = []  # for each model and option: shares and h (chords), or slope and intercept (tangents)
    for model in problem.models:
        for option in model.options:
            curve = option.curve
            highest = min(1.0, curve.highest_rate_per_s / rate)
            y = np.union1d(np.linspace(0.0, highest, points), np.array(curve.rates_per_s) / rate)
            y = y[y <= highest]
            pieces.append((y, y * np.interp(y * rate, curve.rates_per_s, curve.statistics["ttft_mean_s"]) / target))
    options = len(pieces)
    owner = np.repeat(np.arange(models), [len(model.options) for model in problem.models])
    gpus = problem.gpus
    x, y, h, z, a = prompts * models, options, options, options, options * gpus
    place = x + y + h + z
    size = place + a
    rows, low, high = [], [], []

    def add(entries: dict[int, float], least: float, most: float) -> None:
        row = np.zeros(size)
        for column, value in entries.items():
            row[column] = value
        rows.append(row)
        low.append(least)
        high.append(most)

    for j in range(prompts):
        add({j * models + i: 1.0 for i in range(models)}, 1.0, 1.0)
    for i in range(models):
        entries = {j * models + i: 1.0 / prompts for j in range(prompts)}
        add({**entries, **{x + k: -1.0 for k in range(options) if owner[k] == i}}, 0.0, 0.0)
        add({x + y + h + k: 1.0 for k in range(options) if owner[k] == i}, 1.0 - problem.models[i].optional, 1.0)
    add({x + y + k: 1.0 for k in range(options)}, -np.inf, 1.0)
    each = [option for model in problem.models for option in model.options]
    add({x + y + h + k: option.compute for k, option in enumerate(each)}, -np.inf, gpus)
    for k, option in enumerate(each):  # every shard has a GPU of its own
        add({place + k * gpus + g: 1.0 for g in range(gpus)} | {x + y + h + k: -option.shards}, 0.0, 0.0)
    for g in range(gpus):
        add({place + k * gpus + g: option.memory_share for k, option in enumerate(each)}, -np.inf, 1.0)
        if problem.packing == "compute":
            add({place + k * gpus + g: option.compute_share for k, option in enumerate(each)}, -np.inf, 1.0)
    for k, (shares, delays) in enumerate(pieces):
        add({x + k: 1.0, x + y + h + k: -float(shares[-1])}, -np.inf, 0.0)
        slopes = np.diff(delays) / np.diff(shares)
        for n, slope in enumerate(slopes):
            # Chords extended to lines lie below a convex h outside of their piece: their maximum is the chord function.
            # Moved down by the largest distance between chord and h on the piece, they lie below h everywhere.
            intercept = delays[n] - slope * shares[n]
            if outer:
                inner = np.linspace(shares[n], shares[n + 1], 9)
                curve = each[k].curve
                true = inner * np.interp(inner * rate, curve.rates_per_s, curve.statistics["ttft_mean_s"]) / target
                intercept -= 1.1 * float(np.max(slope * inner + intercept - true))
            add({x + k: float(slope), x + y + h + k: float(intercept), x + y + k: -1.0}, -np.inf, 0.0)
    cost = np.concatenate([-scores.ravel() / prompts, np.zeros(size - x)])
    found = milp(
        cost,
        constraints=LinearConstraint(np.array(rows), low, high),
        integrality=np.concatenate([np.zeros(x + y + h), np.ones(z + a)]),
        bounds=Bounds(np.zeros(size), np.concatenate([np.ones(x + y), np.full(h, np.inf), np.ones(z + a)])),
        options={"mip_rel_gap": 1e-9},
    )
    return -math.inf if found.status == 2 else -float(found.fun)


@given(st.integers(0, 100_000))
@settings(max_examples=6, deadline=None)
def test_an_integer_programme_agrees(seed: int) -> None:
    rng = np.random.default_rng(seed)
    models, gpus = int(rng.integers(2, 4)), int(rng.integers(1, 4))
    options = [
        [
            option_of(
                tp,
                share,
                float(rng.uniform(0.03, 0.2)),
                float(rng.uniform(8.0, 40.0)),
                replicas=replicas,
                memory=float(rng.uniform(0.1, 0.8)),
            )
            for tp, share, replicas in ((1, 0.3, 1), (1, 0.5, 2), (1, 1.0, 1), (2, 0.6, 1))
            if tp * replicas <= gpus
        ]
        for _ in range(models)
    ]
    problem = problem_of(
        options,
        rng.random((12, models)) * np.linspace(0.6, 1.0, models),
        gpus=gpus,
        rate_per_s=float(rng.uniform(5.0, 30.0)),
        slos=[SloTarget(metric="ttft", target_s=float(rng.uniform(0.06, 0.3)))],
        packing="compute" if rng.random() < 0.7 else "memory",
        optional=bool(rng.random() < 0.5),
    )
    found = optimise(problem)
    inner, outer = (integer_programme(problem, 60, outer=kind) for kind in (False, True))
    assert inner <= found.bound + 1e-7
    assert found.score <= outer + 1e-7
    if inner > -math.inf:
        assert outer - inner < 5e-3


def score(problem: Problem) -> float:
    found = optimise(problem)
    return found.score


def test_a_longer_target_is_never_worse() -> None:
    scores = [score(three_models(slos=[SloTarget(metric="ttft", target_s=t)])) for t in (0.02, 0.04, 0.06, 0.1, 0.3)]
    assert all(b >= a - GAP for a, b in itertools.pairwise(scores))
    assert scores[0] == -math.inf
    assert scores[-1] > scores[2] + 1e-3


def test_more_load_is_never_better() -> None:
    scores = [
        score(three_models(rate_per_s=rate, slos=[SloTarget(metric="ttft", target_s=0.06)])) for rate in (0, 5, 20, 40)
    ]
    assert all(b <= a + GAP for a, b in itertools.pairwise(scores))


def test_more_gpus_are_never_worse() -> None:
    scores = [score(three_models(gpus=gpus, rate_per_s=30.0)) for gpus in (2, 3, 4, 6)]
    assert all(b >= a - GAP for a, b in itertools.pairwise(scores))


def test_packing_memory_only_is_never_worse() -> None:
    slos = [SloTarget(metric="ttft", target_s=0.06)]
    assert score(three_models(slos=slos, packing="memory", gpus=3)) >= score(three_models(slos=slos, gpus=3)) - GAP


def test_leaving_models_out_is_never_worse() -> None:
    slos = [SloTarget(metric="ttft", target_s=0.06)]
    assert score(three_models(slos=slos, optional=True, gpus=2)) >= score(three_models(slos=slos, gpus=2)) - GAP


def test_the_order_of_models_does_not_matter() -> None:
    problem = three_models(slos=[SloTarget(metric="ttft", target_s=0.06)])
    order = [2, 0, 1]
    turned = dataclasses.replace(
        problem,
        models=tuple(problem.models[i] for i in order),
        table=problem.table.select([problem.models[i].name for i in order]),
    )
    assert score(turned) == pytest.approx(score(problem), abs=GAP)


def test_duplicate_prompts_do_not_matter() -> None:
    problem = three_models(prompts=100, slos=[SloTarget(metric="ttft", target_s=0.06)])
    doubled = dataclasses.replace(problem, table=table_of(np.concatenate([problem.table.predicted] * 2)))
    assert score(doubled) == pytest.approx(score(problem), abs=GAP)


def test_curves_that_are_not_convex_keep_an_honest_bound() -> None:
    rng = np.random.default_rng(5)
    problem = three_models(prompts=50, shares=(0.9,), slos=[SloTarget(metric="ttft", target_s=0.08)])
    models = []
    for model in problem.models:
        options = []
        for option in model.options:
            noise = np.exp(rng.normal(0.0, 0.25, len(option.curve.rates_per_s)))
            values = np.maximum.accumulate(np.array(option.curve.statistics["ttft_mean_s"]) * noise)
            curve = dataclasses.replace(option.curve, statistics={"ttft_mean_s": tuple(values.tolist())})
            options.append(dataclasses.replace(option, curve=curve))
        models.append(ModelOptions(name=model.name, options=tuple(options)))
    problem = dataclasses.replace(problem, models=tuple(models))
    found = optimise(problem)
    best = brute_force(problem)
    assert found.best is not None
    assert found.score <= best + 1e-6
    assert best <= found.bound + 1e-6
    assert found.gap <= 1e-4


def test_too_short_a_target_is_explained() -> None:
    found = optimise(three_models(slos=[SloTarget(metric="ttft", target_s=0.005)]))
    assert found.best is None
    assert found.gap == 0.0
    assert found.infeasible is not None
    assert found.infeasible.binding == "slo"
    (smallest,) = found.infeasible.smallest_target_s
    assert smallest is not None
    assert score(three_models(slos=[SloTarget(metric="ttft", target_s=smallest)])) > 0.0
    assert score(three_models(slos=[SloTarget(metric="ttft", target_s=0.998 * smallest)])) == -math.inf
    assert "smallest feasible target" in str(found.infeasible)


def test_the_binding_one_of_two_targets_is_named() -> None:
    slos = [SloTarget(metric="ttft", target_s=0.005), SloTarget(metric="e2e", target_s=100.0)]
    found = optimise(three_models(slos=slos)).infeasible
    assert found is not None
    assert found.smallest_target_s[0] is not None
    assert found.smallest_target_s[1] is None
    both = [SloTarget(metric="ttft", target_s=0.005), SloTarget(metric="e2e", target_s=0.1)]
    together = optimise(three_models(slos=both)).infeasible
    assert together is not None
    assert together.smallest_target_s == (None, None)
    assert together.factor == pytest.approx(found.smallest_target_s[0] / 0.005, rel=3e-3)


def test_too_much_load_is_explained() -> None:
    found = optimise(three_models(rate_per_s=1000.0)).infeasible
    assert found is not None
    assert found.binding == "load"
    patient = [SloTarget(metric="ttft", target_s=3600.0)]
    assert score(three_models(rate_per_s=1000.0 * found.load_factor, slos=patient)) > 0.0
    assert score(three_models(rate_per_s=1002.0 * found.load_factor, slos=patient)) == -math.inf


def test_models_that_do_not_fit_together_are_explained() -> None:
    options = [[option_of(1, 1.0, 0.1, 10.0, memory=0.9)] for _ in range(3)]
    problem = problem_of(options, np.full((4, 3), 0.5), gpus=2)
    found = optimise(problem)
    assert found.infeasible is not None
    assert found.infeasible.binding == "placement"
    assert optimise(dataclasses.replace(problem, gpus=3, loads=(LoadCase(rate_per_s=3.0),))).best is not None


def test_curves_that_carry_nothing_at_all_are_explained() -> None:
    curve = queue_curve(0.1, 10.0)
    lone = dataclasses.replace(curve, rates_per_s=(0.0,), statistics={k: v[:1] for k, v in curve.statistics.items()})
    problem = problem_of([[Option(tp=1, memory_share=0.5, curve=lone)]], np.full((2, 1), 0.5), rate_per_s=1.0)
    found = optimise(problem).infeasible
    assert found is not None
    assert found.binding == "load"
    assert found.load_factor == 0.0
    assert optimise(dataclasses.replace(problem, loads=(LoadCase(rate_per_s=0.0),))).score == pytest.approx(0.5)


def test_zero_load_and_tied_scores() -> None:
    found = optimise(three_models(rate_per_s=0.0))
    assert found.score == pytest.approx(three_models().table.predicted.max(axis=1).mean(), abs=GAP)
    tied = dataclasses.replace(three_models(prompts=20), table=table_of(np.zeros((20, 3))))
    assert optimise(tied).score == 0.0


def test_compute_that_is_no_multiple_of_a_step_is_not_overspent() -> None:
    shares = (0.337, 0.663, 0.671)
    problem = problem_of(
        [[option_of(1, share, 0.1, 20.0, memory=0.1) for share in shares] for _ in range(2)],
        np.random.default_rng(0).random((30, 2)),
        gpus=1,
        rate_per_s=6.0,
        slos=[SloTarget(metric="ttft", target_s=0.3)],
        packing="memory",
    )
    found = optimise(problem)
    check(problem, found)
    spent = sum(m.options[k].compute for m, k in zip(problem.models, found.best.setup, strict=True))
    assert spent == pytest.approx(1.0)
    assert found.score == pytest.approx(brute_force(problem), abs=2 * GAP)


def test_the_time_limit_leaves_an_honest_bound() -> None:
    problem = three_models(slos=[SloTarget(metric="ttft", target_s=0.06)])
    stopped = optimise(problem, time_limit_s=0.0)
    assert stopped.best is None
    assert stopped.gap == math.inf
    assert stopped.bound >= score(problem) - 1e-9
    assert stopped.infeasible is None


def packed(optional: bool) -> Problem:
    """Six models that fill two GPUs in one way only, which is not the first that is tried."""
    shares = (0.6, 0.5, 0.3, 0.2, 0.2, 0.2)
    options = [[option_of(1, share, 0.1, 20.0, memory=0.01)] for share in shares]
    scores = np.random.default_rng(1).random((30, 6))
    slos = [SloTarget(metric="ttft", target_s=0.6)]
    return problem_of(options, scores, gpus=2, rate_per_s=5.0, slos=slos, optional=optional)


def test_undecided_placements_leave_an_honest_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = optimise(packed(optional=True))
    assert whole.gap <= GAP
    assert whole.undecided == 0
    monkeypatch.setattr("optimizer.placement._MOST_STATES", 4)
    found = optimise(packed(optional=True))
    assert found.undecided > 0
    assert found.score < whole.score
    assert found.bound >= whole.score - 1e-9
    assert found.considered == found.pruned + found.solved + found.unplaceable + found.undecided
    nothing = optimise(packed(optional=False))
    assert nothing.best is None
    assert nothing.gap == math.inf
    assert nothing.infeasible is None
    assert nothing.undecided > 0


def test_the_time_limit_covers_the_work_before_the_first_setup(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = itertools.count()
    monkeypatch.setattr("optimizer.setups.setup_search.time.monotonic", lambda: float(next(clock)))
    rounds = []
    solve = DualCuts.solve
    monkeypatch.setattr(DualCuts, "solve", lambda self: rounds.append(1) or solve(self))
    problem = three_models(slos=[SloTarget(metric="ttft", target_s=0.06)])
    stopped = optimise(problem, time_limit_s=3.0)
    assert len(rounds) <= 3
    assert stopped.best is None
    monkeypatch.undo()
    assert stopped.bound >= score(problem) - 1e-9


def test_the_time_limit_covers_the_explanation(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = three_models(slos=[SloTarget(metric="ttft", target_s=0.005)])
    assert optimise(problem).infeasible is not None
    clock = itertools.count()
    monkeypatch.setattr("optimizer.setups.setup_search.time.monotonic", lambda: float(next(clock)))
    stopped = optimise(problem, time_limit_s=30.0)
    assert stopped.bound < 0.0
    assert stopped.infeasible is None


def test_progress_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("optimizer.setups.setup_search._PROGRESS_S", 0.0)
    told: list[Progress] = []
    found = optimise(three_models(slos=[SloTarget(metric="ttft", target_s=0.06)]), progress=told.append)
    assert told
    assert all(step.best <= found.score + 1e-9 and step.bound >= found.score - 1e-9 for step in told)
    bounds = [step.bound for step in told]
    assert bounds == sorted(bounds, reverse=True)
