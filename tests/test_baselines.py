"""The baselines: which setup each takes, and that none beats the optimum."""

import numpy as np
import pytest
from setup_cases import option, setups_problem

from latency_models.errors import InputError
from optimizer.comparisons.baselines import Baselines
from optimizer.problem import LEFT_OUT, ModelOptions
from optimizer.published.setup_space import SetupSpace
from optimizer.search import optimise
from sim.prompt_table import PromptTable


def baselines_of(problem, **options):
    return Baselines(problem, list(SetupSpace(problem).retained()), **options)


@pytest.fixture(scope="module")
def problem():
    return setups_problem()


@pytest.fixture(scope="module")
def found(problem):
    return {baseline.name: baseline for baseline in baselines_of(problem).all(seed=1)}


def computes(problem, solution):
    return [
        0.0 if k == LEFT_OUT else model.options[k].compute
        for model, k in zip(problem.models, solution.setup, strict=True)
    ]


def test_all_are_there_and_none_beats_the_optimum(problem, found):
    assert list(found) == ["equal-split", "size-proportional", "isolated", "best single model", "random fractions"]
    best = optimise(problem).score
    for baseline in found.values():
        assert baseline.solution is not None, baseline.note
        assert baseline.solution.routing.score <= best + 1e-6
        for outcome in baseline.solution.routing.loads[0].slos:
            assert outcome.value <= outcome.limit * (1 + 1e-6)


@pytest.mark.parametrize(("name", "sizes"), [("equal-split", (1, 1, 1)), ("size-proportional", (17.5, 29.0, 71.8))])
def test_no_retained_setup_is_closer_to_what_is_wanted(problem, found, name, sizes):
    wanted = problem.gpus * np.array(sizes) / sum(sizes)
    distances = [
        np.linalg.norm(np.array([m.options[k].compute for m, k in zip(problem.models, p.setup, strict=True)]) - wanted)
        for p in SetupSpace(problem).retained()
    ]
    mine = np.linalg.norm(np.array(computes(problem, found[name].solution)) - wanted)
    assert mine == pytest.approx(min(distances))
    assert max(distances) > mine


def test_given_sizes_change_what_is_proportional(problem):
    large_first = baselines_of(problem, sizes={"m0": 68.8, "m1": 26, "m2": 14.5}).size_proportional()
    used = computes(problem, large_first.solution)
    assert used[0] > used[1] >= used[2]


def test_isolated_models_share_no_gpu(found):
    gpus = [gpu for of_model in found["isolated"].solution.gpus for gpu in of_model]
    assert len(set(gpus)) == len(gpus) == 4


def test_the_single_model_answers_everything(problem, found):
    solution = found["best single model"].solution
    (load,) = solution.routing.loads
    assert sorted(load.fractions) == [0.0, 0.0, 1.0]
    at = load.fractions.index(1.0)
    assert [k == LEFT_OUT for k in solution.setup] == [i != at for i in range(3)]
    assert load.score == pytest.approx(problem.table.predicted[:, at].mean())


def test_random_fractions_are_repeatable_worse_than_the_best_ones_and_on_the_same_setup(problem, found):
    random, equal = found["random fractions"].solution, found["equal-split"].solution
    assert random.setup == equal.setup
    assert random.routing.score < equal.routing.score
    again = baselines_of(problem).random_fractions(equal, seed=1).solution
    assert again.routing.loads[0].fractions == random.routing.loads[0].fractions
    other = baselines_of(problem).random_fractions(equal, seed=2).solution
    assert other.routing.loads[0].fractions != random.routing.loads[0].fractions


def test_a_baseline_that_does_not_exist_says_why():
    # With 70 % shares alone no setup uses all compute: nothing is retained.
    nothing = {b.name: b for b in baselines_of(setups_problem(shares=(0.7,), gpus=2, load=5.0)).all()}
    assert nothing["equal-split"].solution is None
    assert "no such setup is retained" in nothing["equal-split"].note
    assert "no setup to draw" in nothing["random fractions"].note
    assert nothing["best single model"].solution is not None
    late = {b.name: b for b in baselines_of(setups_problem(target_s=0.01, shares=(1.0,))).all()}
    assert "keeps the SLOs" in late["equal-split"].note


def test_equal_scores_go_to_the_setup_with_the_least_compute():
    tied = PromptTable(models=("m0", "m1", "m2"), predicted=np.full((10, 3), 0.5))
    problem = setups_problem(load=1.0, table=tied)
    single = baselines_of(problem).best_single_model().solution
    assert sum(computes(problem, single)) == pytest.approx(0.4)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"m0": 7, "m1": 13}, "one for each"),
        ({"m0": 7, "m1": 13, "m2": 34, "m9": 1}, "m9"),
        ({"m0": 0, "m1": 13, "m2": 34}, "size of m0"),
        ({"m0": 7, "m1": float("nan"), "m2": 34}, "size of m1"),
    ],
)
def test_sizes_that_make_no_sense_are_refused(problem, sizes, message):
    with pytest.raises(InputError, match=message):
        Baselines(problem, (), sizes=sizes)


def test_replicas_can_be_a_single_model_s_best_setup():
    models = tuple(
        ModelOptions(name=f"m{i}", options=(option(i, w, 1, 1.0), option(i, w, 1, 1.0, replicas=2)))
        for i, w in enumerate((14.5, 26.0, 60.0))
    )
    # 50/s are more than one replica of m2 (18.5/s) or two (37/s) carry, and m1 needs two.
    single = baselines_of(setups_problem(models=models, gpus=3)).best_single_model().solution
    assert single.setup == (LEFT_OUT, 1, LEFT_OUT)
