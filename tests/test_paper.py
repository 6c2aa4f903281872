"""The published method as a whole, and the enumeration of all retained setups, against the exact optimum."""

import math

import numpy as np
import pytest
from setup_cases import option, setups_problem

from latency_models.errors import InputError
from optimizer.comparisons.enumeration import enumerate_setups
from optimizer.problem import LoadCase, ModelOptions, SloTarget
from optimizer.published.paper import optimise_as_published
from optimizer.published.routing import PublishedRules
from optimizer.published.setup_space import SetupSpace
from optimizer.routing import solve_routing
from optimizer.search import optimise
from optimizer.splits.assignment import ScoreTable
from optimizer.splits.split_score import score_of_split


@pytest.fixture(scope="module")
def enumerated():
    return enumerate_setups(setups_problem())


@pytest.fixture(scope="module")
def published():
    return optimise_as_published(setups_problem(), rules=PublishedRules(ascent_steps=25, bisections=10))


def test_the_published_method_comes_close_to_the_best_retained_setup(published, enumerated):
    assert enumerated.best.routing.score - 5e-3 < published.score <= enumerated.best.routing.score + 1e-6


def test_the_exact_optimum_is_at_least_as_good(published, enumerated):
    exact = optimise(setups_problem())
    assert exact.gap <= 1e-6
    assert exact.score >= enumerated.best.routing.score - 1e-6
    assert exact.score >= published.score - 1e-6


@pytest.mark.parametrize("packing", ["memory", "compute"])
@pytest.mark.parametrize(("gpus", "load", "target_s"), [(3, 20.0, 0.1), (4, 80.0, 0.2), (6, 30.0, 0.07)])
def test_no_method_beats_the_exact_one_anywhere(gpus, load, target_s, packing):
    problem = setups_problem(gpus=gpus, load=load, target_s=target_s, packing=packing, shares=(0.5, 1.0), prompts=100)
    exact = optimise(problem)
    # Its search is cut short: what it finds is worse, and still no better than the optimum.
    published = optimise_as_published(problem, rules=PublishedRules(ascent_steps=8, doublings=8, bisections=4))
    assert exact.gap <= 1e-6
    assert exact.score >= enumerate_setups(problem).optimum().score - 1e-6
    assert exact.score >= published.score - 1e-6


def test_what_the_published_method_promises_keeps_the_target_and_adds_up(published):
    problem = setups_problem()
    (load,) = published.best.routing.loads
    assert sum(load.fractions) == pytest.approx(1.0)
    (outcome,) = load.slos
    assert 0.0 < outcome.value <= outcome.limit
    again = math.fsum(
        fraction * model.options[k].curve.at(50.0 * fraction, "ttft_mean_s")
        for fraction, model, k in zip(load.fractions, problem.models, published.best.setup, strict=True)
    )
    assert outcome.value == pytest.approx(again)
    # Its score is that of real assignments: no routing of this setup is better than the certified one.
    assert load.score <= solve_routing(problem, published.best.setup).score + 1e-6
    assert published.bound == pytest.approx(problem.table.predicted.max(axis=1).mean())
    assert published.considered == published.pruned + published.solved + published.unplaceable == 9**3


def test_the_published_method_only_takes_setups_that_use_all_compute(published):
    problem = setups_problem()
    used = sum(model.options[k].compute for model, k in zip(problem.models, published.best.setup, strict=True))
    assert used == pytest.approx(problem.gpus)


def test_with_compute_packing_the_published_method_overbooks_no_gpu():
    problem = setups_problem(packing="compute")
    found = optimise_as_published(problem, rules=PublishedRules(ascent_steps=10))
    used = [0.0] * problem.gpus
    for gpus, model, k in zip(found.best.gpus, problem.models, found.best.setup, strict=True):
        for gpu in gpus:
            used[gpu] += model.options[k].compute_share
    assert max(used) <= 1.0 + 1e-9
    assert found.solved < enumerate_count("memory")


def enumerate_count(packing):
    return sum(1 for _ in SetupSpace(setups_problem(packing=packing)).retained())


def test_an_impossible_target_leaves_the_published_method_without_a_setup():
    found = optimise_as_published(setups_problem(target_s=0.001, shares=(1.0,)))
    assert found.best is None
    assert found.gap == math.inf  # it proves nothing


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loads": (LoadCase(rate_per_s=1, weight=0.5), LoadCase(rate_per_s=2, weight=0.5))}, "knows one"),
        ({"slos": (SloTarget(metric="ttft", target_s=1, model="m1"),)}, "M1|m1"),
        (
            {"slos": (SloTarget(metric="ttft", target_s=1), SloTarget(metric="ttft", target_s=2, model="m0"))},
            "one target",
        ),
    ],
)
def test_what_the_publication_does_not_know_is_refused(changes, message):
    with pytest.raises(InputError, match=message):
        optimise_as_published(setups_problem(**changes))


def test_the_published_method_skips_replicas_and_refuses_a_model_that_has_nothing_else():
    problem = setups_problem(shares=(1.0,), tps=(1,), gpus=3)
    twice = tuple(
        ModelOptions(name=model.name, options=(*model.options, option(i, 14.5, 1, 1.0, replicas=2)))
        for i, model in enumerate(problem.models)
    )
    both = setups_problem(shares=(1.0,), tps=(1,), gpus=3, models=twice)
    assert optimise_as_published(both).considered == 1
    assert SetupSpace(both).counts().product == 8
    only = (ModelOptions(name="m0", options=(option(0, 14.5, 1, 1.0, replicas=2),)), *problem.models[1:])
    with pytest.raises(InputError, match="m0 has no option with one replica"):
        optimise_as_published(setups_problem(gpus=4, models=only))


# ---------------------------------------------------------------------- enumeration


@pytest.mark.parametrize(("gpus", "deployable"), [(2, 54), (3, 38), (4, 93), (5, 42), (6, 59), (7, 6), (8, 30)])
def test_few_of_the_published_setups_fit_when_no_gpu_gives_more_than_all_of_its_compute(gpus, deployable):
    tenths = tuple(number / 10 for number in range(1, 11))
    space = SetupSpace(setups_problem(gpus=gpus, shares=tenths, packing="compute", prompts=1))
    setups = [placed.setup for placed in space.retained()]
    assert len(setups) == deployable
    by_memory = SetupSpace(setups_problem(gpus=gpus, shares=tenths, prompts=1)).retained()
    assert set(setups) <= {placed.setup for placed in by_memory}


def test_every_retained_setup_is_solved_or_found_infeasible_once(enumerated):
    setups = [solution.setup for solution in enumerated.solved] + [placed.setup for placed in enumerated.infeasible]
    assert len(set(setups)) == len(setups) == enumerated.counts.retained == enumerate_count("memory")
    assert enumerated.optimum().best is enumerated.best
    assert enumerated.worst.routing.score < enumerated.best.routing.score


def test_a_setup_solved_among_others_is_solved_as_well_as_alone(enumerated):
    problem = setups_problem()
    for solution in enumerated.solved[:: max(1, len(enumerated.solved) // 5)]:
        alone = solve_routing(problem, solution.setup)
        assert solution.routing.score == pytest.approx(alone.score, abs=2e-6)
        assert solution.routing.score <= solution.routing.bound <= solution.routing.score + 2e-6


def test_infeasible_setups_are_kept_apart():
    tight = enumerate_setups(setups_problem(target_s=0.1))
    assert tight.infeasible
    assert tight.solved
    for placed in tight.infeasible[:5]:
        assert solve_routing(setups_problem(target_s=0.1), placed.setup) is None


def test_an_optional_model_is_enumerated_without_it_too():
    problem = setups_problem(shares=(1.0,), gpus=3)
    small = ModelOptions(name="m0", options=problem.models[0].options, optional=True)
    found = enumerate_setups(setups_problem(shares=(1.0,), gpus=3, models=(small, *problem.models[1:])))
    assert any(solution.setup[0] == -1 and solution.gpus[0] == () for solution in found.solved)
    assert any(solution.setup[0] != -1 for solution in found.solved)


# ---------------------------------------------------------------------- score of given fractions


@pytest.mark.parametrize("counts", [(40, 40, 40), (120, 0, 0), (1, 100, 19)])
def test_the_score_of_a_split_is_that_of_the_best_assignment_with_its_counts(counts):
    from scipy.optimize import linear_sum_assignment

    values = np.round(np.random.default_rng(5).beta(2, 2, (120, 3)), 1)  # many ties
    columns = np.repeat(np.arange(3), counts)
    rows, chosen = linear_sum_assignment(-values[:, columns])
    found = score_of_split(ScoreTable(values), np.array(counts) / 120)
    assert found.score == pytest.approx(values[rows, columns[chosen]].mean(), abs=2e-7)
    assert found.score <= found.bound + 1e-9
    assert found.bound - found.score <= 1e-7
