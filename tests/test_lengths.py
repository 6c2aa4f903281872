"""Length distributions: moments, bounds, dependence, bad settings."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from latency_models.errors import InputError
from scenarios.workloads.lengths import (
    ConditionalLengths,
    ConstantLength,
    EmpiricalLength,
    ExponentialLength,
    GeometricLength,
    IndependentLengths,
    JointPairs,
    LognormalLength,
    NormalLength,
    UniformLength,
)

N = 100_000


def draw(lengths, n=N, seed=1):
    return lengths.sample(np.random.default_rng(seed), n)


@pytest.mark.parametrize(
    ("lengths", "mean", "std"),
    [
        (ConstantLength(tokens=7), 7, 0),
        (LognormalLength(mean=500, cv=1.0), 500, 500),
        (LognormalLength(median=400, sigma=0.5), 400 * math.exp(0.125), 400 * math.exp(0.125) * 0.5329),
        (NormalLength(mean=512, std=50), 512, 50),
        (UniformLength(minimum=10, maximum=20), 15, math.sqrt(10)),
        (GeometricLength(mean=50), 50, math.sqrt(50 * 49)),
        # Rounding up moves the mean of an exponential to 1 / (1 - exp(-1 / mean)).
        (ExponentialLength(mean=50), 1 / -math.expm1(-1 / 50), 50),
        (EmpiricalLength(quantiles=((0, 100), (0.5, 200), (1, 1000))), 0.5 * 150 + 0.5 * 600, 280.1),
    ],
    ids=lambda value: getattr(value, "kind", ""),
)
def test_moments(lengths, mean, std):
    drawn = draw(lengths)
    assert drawn.dtype == np.int64
    assert drawn.shape == (N,)
    assert drawn.min() >= 1
    assert drawn.mean() == pytest.approx(mean, abs=5 * std / math.sqrt(N) + 0.02)
    assert drawn.std() == pytest.approx(std, rel=0.05, abs=1e-9)


def test_clipping():
    drawn = draw(LognormalLength(mean=100, cv=2, minimum=50, maximum=150))
    assert (drawn.min(), drawn.max()) == (50, 150)
    assert draw(NormalLength(mean=10, std=100)).min() == 1
    assert draw(LognormalLength(median=1e30, sigma=1)).max() == 2**31 - 1
    assert set(draw(UniformLength(minimum=3, maximum=4)).tolist()) == {3, 4}


def test_pairs_stay_together_and_follow_weights():
    pairs = ((10, 1), (20, 2), (30, 3))
    prompt, output = draw(JointPairs(pairs=pairs, weights=(1, 0, 3)))
    assert (prompt == 10 * output).all()
    share = (output == 3).mean()
    assert share == pytest.approx(0.75, abs=5 * math.sqrt(0.75 * 0.25 / N))
    assert not (output == 2).any()
    _, even = draw(JointPairs(pairs=pairs))
    assert np.bincount(even)[1:] / N == pytest.approx(np.full(3, 1 / 3), abs=0.01)


def test_conditional_output_follows_the_prompts_rank():
    lengths = ConditionalLengths(
        prompt=((0, 1), (1, 1001)), output_given_prompt=(((0, 10), (1, 20)), ((0, 500), (1, 600)))
    )
    prompt, output = draw(lengths)
    assert output[prompt < 500].max() <= 20
    assert output[prompt > 502].min() >= 500
    assert prompt.mean() == pytest.approx(501, abs=5 * 289 / math.sqrt(N))


def test_independent():
    prompt, output = draw(IndependentLengths(prompt=GeometricLength(mean=9), output=ConstantLength(tokens=4)))
    assert prompt.mean() == pytest.approx(9, abs=0.2)
    assert set(output.tolist()) == {4}


@given(
    st.lists(st.floats(1, 1e6), min_size=2, max_size=8).map(sorted),
    st.integers(0, 2**32),
)
def test_empirical_stays_within_its_table(tokens, seed):
    levels = np.linspace(0, 1, len(tokens)).tolist()
    drawn = draw(EmpiricalLength(quantiles=tuple(zip(levels, tokens, strict=True))), 100, seed)
    assert drawn.min() >= round(tokens[0])
    assert drawn.max() <= round(tokens[-1])


@pytest.mark.parametrize("value", [0, -1, math.nan, math.inf])
def test_bad_numbers(value):
    builds = [
        lambda: LognormalLength(mean=value, cv=1),
        lambda: LognormalLength(median=value, sigma=1),
        lambda: NormalLength(mean=value, std=1),
        lambda: GeometricLength(mean=value),
        lambda: ExponentialLength(mean=value),
        lambda: EmpiricalLength(quantiles=((0, 1), (1, value))),
        lambda: EmpiricalLength(quantiles=((0, 1), (value, 2))),
        lambda: JointPairs(pairs=((1, 1),), weights=(value,)),
    ]
    if value != 0:
        builds += [lambda: LognormalLength(mean=1, cv=value), lambda: NormalLength(mean=1, std=value)]
    if value in (0, -1):
        builds += [
            lambda: ConstantLength(tokens=value),
            lambda: UniformLength(minimum=value, maximum=5),
            lambda: NormalLength(mean=1, std=1, minimum=value),
            lambda: JointPairs(pairs=((1, value),)),
        ]
    for build in builds:
        with pytest.raises(InputError):
            build()


@pytest.mark.parametrize(
    "build",
    [
        lambda: LognormalLength(mean=1),
        lambda: LognormalLength(mean=1, cv=1, sigma=1),
        lambda: LognormalLength(),
        lambda: NormalLength(mean=1, std=1, minimum=5, maximum=4),
        lambda: UniformLength(minimum=5, maximum=4),
        lambda: EmpiricalLength(quantiles=((0, 1),)),
        lambda: EmpiricalLength(quantiles=((0, 1), (0.5, 2))),
        lambda: EmpiricalLength(quantiles=((0, 3), (1, 2))),
        lambda: JointPairs(pairs=()),
        lambda: JointPairs(pairs=((1, 1),), weights=(1, 2)),
        lambda: ConditionalLengths(prompt=((0, 1), (1, 2)), output_given_prompt=()),
        lambda: ConditionalLengths(prompt=((0, 1), (1, 2)), output_given_prompt=(((0, 1),),)),
    ],
)
def test_bad_settings(build):
    with pytest.raises(InputError):
        build()
