from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optimizer_cases import option_of, problem_of, queue_curve

from optimizer.placement import Placer
from optimizer.problem import LEFT_OUT, Option, Problem, Setup


def sized(shards: int, compute: float, memory: float) -> Option:
    return Option(tp=shards, compute_share=compute, memory_share=memory, curve=queue_curve(0.1, 10.0))


def pack(gpus: int, items: list[Option], packing: str = "compute") -> Problem:
    return problem_of([[item] for item in items], np.full((1, len(items)), 0.5), gpus=gpus, packing=packing)


def check(problem: Problem, setup: Setup, gpus: tuple[tuple[int, ...], ...]) -> None:
    used = np.zeros((problem.gpus, 2))
    for model, k, mine in zip(problem.models, setup, gpus, strict=True):
        if k == LEFT_OUT:
            assert mine == ()
            continue
        option = model.options[k]
        assert len(mine) == len(set(mine)) == option.shards
        used[list(mine)] += (option.compute_share if problem.packing == "compute" else 0.0, option.memory_share)
    assert used.max() <= 1.0 + 1e-5


def possible(problem: Problem) -> bool:
    """Try every set of GPUs for every model."""
    options = [model.options[0] for model in problem.models]
    if sum(option.compute for option in options) > problem.gpus + 1e-9:
        return False
    ways = [itertools.combinations(range(problem.gpus), option.shards) for option in options]
    for sets in itertools.product(*[list(way) for way in ways]):
        used = np.zeros((problem.gpus, 2))
        for option, mine in zip(options, sets, strict=True):
            used[list(mine)] += (option.compute_share if problem.packing == "compute" else 0.0, option.memory_share)
        if used.max() <= 1.0 + 1e-9:
            return True
    return False


def test_shards_of_a_model_are_on_distinct_gpus() -> None:
    problem = pack(2, [sized(2, 0.5, 0.1), sized(1, 0.5, 0.1), sized(1, 0.5, 0.1)])
    gpus = Placer(problem).place((0, 0, 0))
    assert gpus is not None
    check(problem, (0, 0, 0), gpus)


def test_compute_and_memory_must_both_fit() -> None:
    by_compute = [sized(1, 0.6, 0.1)] * 3
    assert Placer(pack(2, by_compute)).place((0, 0, 0)) is None
    assert Placer(pack(2, by_compute, "memory")).place((0, 0, 0)) == ((0,), (0,), (0,))
    assert Placer(pack(1, by_compute, "memory")).place((0, 0, 0)) is None  # more compute than there is
    assert Placer(pack(1, [sized(1, 0.1, 0.6), sized(1, 0.1, 0.6)], "memory")).place((0, 0)) is None


def test_thirds_and_tenths_fill_a_gpu() -> None:
    assert Placer(pack(1, [sized(1, 1 / 3, 0.1)] * 3)).place((0, 0, 0)) is not None
    assert Placer(pack(1, [sized(1, 0.1, 0.1)] * 10)).place((0,) * 10) is not None


def test_best_fit_decreasing_fails_and_the_exact_search_does_not() -> None:
    # 0.5 0.3 0.2 | 0.5 0.25 0.25 by hand; putting 0.3 beside 0.25 first loses.
    items = [sized(1, share, 0.01) for share in (0.5, 0.5, 0.3, 0.25, 0.25, 0.2)]
    problem = pack(2, items)
    gpus = Placer(problem).place((0,) * 6)
    assert gpus is not None
    check(problem, (0,) * 6, gpus)


def test_a_search_that_takes_too_long_is_given_up_and_says_so() -> None:
    # Three shards to a GPU, all of them about a third of it, and hardly any room left: hard to place, hard to refute.
    sizes = np.random.default_rng(2).uniform(0.26, 0.42, 24)
    problem = pack(8, [sized(1, 0.01, float(size)) for size in sizes / sizes.sum() * 7.992])
    setup = (0,) * 24
    placer = Placer(problem)
    assert not placer.undecided(setup)
    assert placer.place(setup) is None
    assert placer.undecided(setup)
    # What cannot be, by its sums, is decided at once; and so is what is easy.
    assert placer.place((0,) * 3 + (LEFT_OUT,) * 21) is not None
    too_large = Placer(pack(1, [sized(1, 0.5, 0.6)] * 2))
    assert too_large.place((0, 0)) is None
    assert not too_large.undecided((0, 0))


def test_replicas_count_as_shards_and_models_left_out_take_nothing() -> None:
    options = [[option_of(2, 0.5, 0.1, 10.0, replicas=2)], [option_of(1, 1.0, 0.1, 10.0)]]
    problem = problem_of(options, np.full((1, 2), 0.5), gpus=4, optional=True)
    assert Placer(problem).place((0, LEFT_OUT)) == ((0, 1, 2, 3), ())
    assert Placer(problem).place((0, 0)) is None
    assert Placer(problem).place((LEFT_OUT, LEFT_OUT)) == ((), ())


@given(st.integers(0, 10_000), st.sampled_from(["compute", "memory"]))
@settings(max_examples=80, deadline=None)
def test_it_finds_a_placement_exactly_when_there_is_one(seed: int, packing: str) -> None:
    rng = np.random.default_rng(seed)
    gpus = int(rng.integers(1, 4))
    items = [
        sized(int(rng.integers(1, gpus + 1)), int(rng.integers(1, 9)) / 10, int(rng.integers(1, 9)) / 10)
        for _ in range(int(rng.integers(1, 5)))
    ]
    problem = pack(gpus, items, packing)
    setup = (0,) * len(items)
    found = Placer(problem).place(setup)
    assert (found is not None) == possible(problem)
    if found is not None:
        check(problem, setup, found)


@pytest.mark.parametrize("seed", range(20))
def test_what_fits_beside_is_what_a_placement_of_the_two_says(seed: int) -> None:
    rng = np.random.default_rng(seed)
    options = [
        [
            Option(
                tp=tp,
                compute_share=share,
                memory_share=float(rng.choice([0.2, 0.6, 0.9])),
                curve=queue_curve(0.1, 10.0),
            )
            for tp in (1, 2, 3)
            for share in (0.2, 0.5, 0.9)
        ]
        for _ in range(2)
    ]
    problem = problem_of(options, np.full((1, 2), 0.5), gpus=3)
    placer = Placer(problem)
    for first in range(9):
        told = placer.beside(0, first, 1).tolist()
        assert told == [placer.place((first, second)) is not None for second in range(9)]
