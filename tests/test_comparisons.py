"""Comparisons under common random numbers, and the effects of causes that are removed one at a time."""

import math

import numpy as np
import pytest
from scipy.stats import ttest_rel

from analysis.causes import cause_effects
from analysis.comparisons import compare_pairs, compare_with, holm, paired_difference
from analysis.statistics import mean_interval
from latency_models.errors import InputError


def test_paired_difference_uses_the_common_random_numbers():
    rng = np.random.default_rng(5)
    load = rng.normal(0, 10, 12)
    a, b = load + rng.normal(0, 0.1, 12), load + 1 + rng.normal(0, 0.1, 12)
    found = paired_difference(a, b)
    assert found.interval.contains(1.0)
    assert found.significant
    assert found.correlation > 0.99
    assert found.variance_ratio < 0.01
    assert not paired_difference(a, rng.permutation(a)).significant
    assert paired_difference([1.0, 2.0], [2.0, 1.0]).correlation == pytest.approx(-1.0)
    assert math.isnan(paired_difference([1.0, 1.0], [2.0, 2.0]).variance_ratio)


def test_paired_difference_needs_pairs():
    with pytest.raises(InputError, match="as many"):
        paired_difference([1.0, 2.0], [1.0, 2.0, 3.0])


def test_p_value_of_a_paired_difference():
    a, b = [1.0, 2.0, 3.0, 4.0], [1.5, 2.1, 3.9, 4.2]
    assert paired_difference(a, b).p_value == pytest.approx(ttest_rel(a, b).pvalue)
    assert paired_difference(a, a).p_value == 1.0
    assert paired_difference([1.0, 2.0], [2.0, 3.0]).p_value == 0.0


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_comparison_with_a_reference():
    rng = np.random.default_rng(61)
    load = rng.normal(0, 5, 12)
    values = {"base": load, "same": load + rng.normal(0, 0.5, 12), "better": load - 2 + rng.normal(0, 0.5, 12)}
    found = compare_with(values, "base")
    same, better = found.pairs
    assert [(pair.base, pair.other) for pair in found.pairs] == [("base", "same"), ("base", "better")]
    assert better.significant
    assert better.difference.interval.contains(-2.0)
    assert not same.significant
    assert same.difference.interval == mean_interval(values["same"] - load, confidence=0.975)
    assert better.adjusted_p_value == pytest.approx(2 * better.difference.p_value)
    assert found.confidence == 0.95


def test_comparison_of_all_pairs():
    values = {name: np.random.default_rng(k).normal(k, 1, 8) for k, name in enumerate("abcd")}
    found = compare_pairs(values)
    assert [pair.base + pair.other for pair in found.pairs] == ["ab", "ac", "ad", "bc", "bd", "cd"]
    assert {pair.difference.interval.confidence for pair in found.pairs} == {1 - 0.05 / 6}


def test_many_comparisons_of_equals_rarely_find_a_difference():
    rng = np.random.default_rng(66)
    wrong = naive = covered = 0
    for _ in range(500):
        load = rng.normal(size=10)
        found = compare_pairs({str(k): load + rng.normal(size=10) for k in range(5)}).pairs
        wrong += any(pair.significant for pair in found)
        naive += any(pair.difference.p_value < 0.05 for pair in found)
        covered += all(pair.difference.interval.contains(0.0) for pair in found)
    assert wrong / 500 <= 0.06
    assert covered / 500 >= 0.94
    assert naive / 500 > 0.2


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"a": [1.0, 2.0]}, "at least two systems"),
        ({"a": [1.0, 2.0], "b": [1.0, 2.0, 3.0]}, "values of b has 3"),
        ({"a": [1.0, 2.0], "b": [1.0, math.nan]}, "values of b"),
        ({"a": [1.0], "b": [1.0]}, "values of a"),
    ],
)
def test_comparisons_refuse(values, message):
    with pytest.raises(InputError, match=message):
        compare_with(values, "a")


def test_an_unknown_reference_is_named():
    with pytest.raises(InputError, match="did you mean 'price'"):
        compare_with({"price": [1.0, 2.0], "random": [1.0, 2.0]}, "prise")
    with pytest.raises(InputError, match="at least two systems"):
        compare_pairs({})


def replicated_causes(rng, count, effects, interaction, noise):
    load = rng.normal(100, 10, count)
    without_all = load + rng.normal(0, noise, count)
    baseline = without_all + sum(effects.values()) + interaction + rng.normal(0, noise, count)
    without = {name: baseline - effect + rng.normal(0, noise, count) for name, effect in effects.items()}
    return baseline, without, without_all


def test_effects_of_causes_add_up():
    rng = np.random.default_rng(63)
    effects = {"bursts": 6.0, "co-location": 3.0, "noise": -1.0}
    found = cause_effects(*replicated_causes(rng, 12, effects, 2.0, 0.3))
    assert found.total.interval.contains(10.0)
    for name, effect in effects.items():
        assert found.causes[name].interval.contains(effect)
        assert found.causes[name].share.contains(effect / 10)
    assert found.interaction.interval.contains(2.0)
    assert not found.interaction.interval.contains(0.0)
    parts = [*found.causes.values(), found.interaction]
    assert sum(part.interval.estimate for part in parts) == pytest.approx(found.total.interval.estimate)
    assert sum(part.share.estimate for part in parts) == pytest.approx(1.0)
    assert found.total.share.estimate == 1.0
    assert found.total.share.half_width == pytest.approx(0.0, abs=1e-12)


def test_causes_are_simultaneous():
    rng = np.random.default_rng(64)
    effects = {"a": 1.0, "b": 2.0}
    covered = 0
    for _ in range(300):
        found = cause_effects(*replicated_causes(rng, 8, effects, 0.5, 1.0), confidence=0.9)
        truth = {"a": 1.0, "b": 2.0}
        covered += (
            found.total.interval.contains(3.5)
            and found.interaction.interval.contains(0.5)
            and all(found.causes[name].interval.contains(value) for name, value in truth.items())
        )
    assert covered / 300 > 0.88


def test_a_gap_that_is_not_there_has_no_shares():
    rng = np.random.default_rng(65)
    found = cause_effects(*replicated_causes(rng, 6, {"a": 1.0, "b": -1.0}, 0.0, 2.0))
    assert found.total.interval.contains(0.0)
    assert found.total.share is found.causes["a"].share is found.interaction.share is None


@pytest.mark.parametrize(
    ("baseline", "without", "without_all", "message"),
    [
        ([1.0, 2.0], {}, [0.0, 0.0], "no cause"),
        ([1.0, 2.0], {"a": [1.0]}, [0.0, 0.0], "without a"),
        ([1.0, 2.0], {"a": [1.0, 2.0, 3.0]}, [0.0, 0.0], "as many"),
        ([1.0, 2.0], {"a": [1.0, math.inf]}, [0.0, 0.0], "without a"),
        ([1.0, math.nan], {"a": [1.0, 2.0]}, [0.0, 0.0], "baseline"),
        ([1.0, 2.0], {"a": [1.0, 2.0]}, [0.0, 0.0, 1.0], "without_all"),
    ],
)
def test_causes_refuse(baseline, without, without_all, message):
    with pytest.raises(InputError, match=message):
        cause_effects(baseline, without, without_all)
