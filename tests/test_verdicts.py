"""Planned looks, precision and verdicts: by hand, at their edges, and by how often they err."""

import doctest
import math
from pathlib import Path

import numpy as np
import pytest

from analysis.looks import Looks, further_replications, relative_precision
from analysis.statistics import mean_interval, proportion_interval, student_t_quantile
from analysis.verdicts import Outcome, mean_verdict, overall_outcome, share_verdict
from latency_models.errors import InputError


def test_looks_double_and_spend_no_more_than_they_may():
    looks = Looks(first=5, most=5 * 2**12)
    assert looks.counts[:4] == (5, 10, 20, 40)
    spent = [1 - looks.confidence_at(count) for count in looks.counts]
    assert spent[:3] == pytest.approx([0.05 / 2, 0.05 / 6, 0.05 / 12])
    assert 0.045 < sum(spent) < 0.05


@pytest.mark.parametrize(("first", "most", "counts"), [(5, 5, (5,)), (5, 9, (5,)), (3, 24, (3, 6, 12, 24))])
def test_no_look_beyond_the_most(first, most, counts):
    assert Looks(first=first, most=most).counts == counts


def test_looks_do_not_depend_on_the_most():
    few, many = Looks(first=4, most=16), Looks(first=4, most=4000)
    assert [few.confidence_at(count) for count in few.counts] == [many.confidence_at(count) for count in few.counts]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"first": 1}, "first"),
        ({"first": 2.5}, "first"),
        ({"first": 10, "most": 9}, "most replications"),
        ({"confidence": 95}, "confidence"),
    ],
)
def test_looks_refuse(settings, message):
    with pytest.raises(InputError, match=message):
        Looks(**settings)


def test_unplanned_looks_are_refused():
    with pytest.raises(InputError, match="one of 5, 10, 20, 40"):
        Looks().confidence_at(15)


def test_further_replications_is_the_smallest_number():
    for needed in (6, 7, 8, 11, 100, 12345):
        assert further_replications(5, lambda count, needed=needed: count >= needed) == needed - 5
    assert further_replications(5, lambda count: False) is None


def test_relative_precision_by_hand():
    values = [9.0, 10.0, 11.0, 10.0]
    found = relative_precision(values, 0.05)
    assert found.interval == mean_interval(values)
    assert found.relative == pytest.approx(found.interval.half_width / 10)
    assert not found.reached
    enough = 4 + found.further
    last, first = (student_t_quantile(0.975, n - 1) * math.sqrt(2 / 3 / n) for n in (enough - 1, enough))
    assert first <= 10 * 0.05 / 1.05 < last
    # An error of at most the target, relative to the true mean, which may be the smaller.
    edge = found.relative / (1 - found.relative)
    assert not relative_precision(values, 0.999 * edge).reached
    assert relative_precision(values, 1.001 * edge).reached
    assert relative_precision(values, 1.0).reached
    assert relative_precision(values, 1.0).further is None


def test_relative_precision_of_nothing():
    same = relative_precision([2.0, 2.0], 0.01)
    assert same.reached
    assert same.relative == 0
    zero = relative_precision([0.0, 0.0], 0.01)
    assert zero.reached
    around = relative_precision([-1.0, 1.0], 0.1)
    assert (around.reached, around.relative, around.further) == (False, math.inf, None)
    for target in (0.0, -0.1, math.nan, math.inf):
        with pytest.raises(InputError, match="target"):
            relative_precision([1.0, 2.0], target)


def test_estimated_replications_reach_the_precision():
    rng = np.random.default_rng(51)
    values = rng.normal(10, 3, 4000)
    found = relative_precision(values[:50], 0.02)
    grown = relative_precision(values[: 50 + found.further], 0.02)
    assert grown.relative == pytest.approx(0.02, rel=0.3)


def test_precision_asked_for_is_precision_got():
    rng = np.random.default_rng(52)
    looks = Looks(first=10, most=2560)
    kept = 0
    for _ in range(200):
        values = rng.normal(10, 2, 2560)
        for count in looks.counts:
            found = relative_precision(values[:count], 0.05, confidence=looks.confidence_at(count))
            if found.reached:
                break
        assert found.reached
        kept += abs(found.interval.estimate - 10) <= 0.5
    assert kept / 200 >= 0.95


@pytest.mark.parametrize(
    ("values", "limit", "outcome"),
    [
        ([1.0, 1.1, 0.9, 1.0], 2.0, Outcome.HOLDS),
        ([1.0, 1.1, 0.9, 1.0], 0.5, Outcome.BROKEN),
        ([1.0, 1.1, 0.9, 1.0], 1.05, Outcome.UNDECIDED),
        ([1.0, 1.1, 0.9, math.nan], 2.0, Outcome.BROKEN),
        ([1.0, 1.1, math.inf, 1.0], 2.0, Outcome.BROKEN),
        ([0.1, 0.1, 0.1], 0.1, Outcome.HOLDS),
        ([0.1, 0.1, 0.1], 0.0999, Outcome.BROKEN),
        ([-0.6, -0.61, -0.59], -0.5, Outcome.HOLDS),
    ],
)
def test_verdict_on_a_mean(values, limit, outcome):
    found = mean_verdict(values, limit)
    assert found.outcome == outcome
    assert found.limit == limit
    assert (found.further is None) == (outcome is not Outcome.UNDECIDED)
    assert found.interval.count == len(values)


def test_an_unserved_replication_makes_the_mean_infinite():
    found = mean_verdict([1.0, math.nan], 2.0)
    assert found.interval.estimate == found.interval.low == math.inf


def test_an_interval_that_touches_the_limit():
    values = [1.0, 2.0, 3.0]
    assert mean_verdict(values, mean_interval(values).high).outcome is Outcome.HOLDS
    assert mean_verdict(values, mean_interval(values).low).outcome is Outcome.UNDECIDED


def test_a_mean_on_its_limit_is_never_told():
    found = mean_verdict([1.0, 2.0, 3.0], 2.0)
    assert found.outcome is Outcome.UNDECIDED
    assert found.further is None


@pytest.mark.parametrize(
    ("values", "limit", "message"),
    [
        ([1.0], 2.0, "number of values"),
        ([math.nan], 2.0, "number of values"),
        ([], 2.0, "number of values"),
        ([1.0, -math.inf], 2.0, "values is -inf"),
        ([1.0, 2.0], math.nan, "limit"),
        ([1.0, math.inf], math.inf, "limit"),
    ],
)
def test_mean_verdict_refuses(values, limit, message):
    with pytest.raises(InputError, match=message):
        mean_verdict(values, limit)


def test_the_estimated_replications_decide():
    rng = np.random.default_rng(53)
    values = rng.normal(0.8, 1, 2000)
    values[:10] += 0.8 - values[:10].mean()  # so that the first ten estimate the truth
    values[:10] = 0.8 + (values[:10] - 0.8) / values[:10].std(ddof=1)
    found = mean_verdict(values[:10], 0.4)
    assert found.outcome is Outcome.UNDECIDED
    assert 10 < found.further < 40
    assert mean_verdict(values[: 10 + 2 * found.further], 0.4).outcome is Outcome.BROKEN


def test_more_replications_are_needed_closer_to_the_limit_and_at_more_confidence():
    values = np.random.default_rng(54).normal(0, 1, 10)
    limits = values.mean() + np.array([0.5, 0.3, 0.1])
    further = [mean_verdict(values, float(limit)).further for limit in limits]
    assert further == sorted(further)
    assert mean_verdict(values, float(limits[0]), confidence=0.99).further > further[0]


def looked_at(values, limit, looks):
    for count in looks.counts:
        found = mean_verdict(values[:count], limit, confidence=looks.confidence_at(count))
        if found.outcome is not Outcome.UNDECIDED:
            break
    return found.outcome, count


def test_looking_repeatedly_errs_no_more_often_than_it_says():
    rng = np.random.default_rng(55)
    looks = Looks(first=5, most=160)
    planned = naive = 0
    for _ in range(400):
        values = rng.normal(0, 1, 160)  # exactly on the limit: every decision may be called an error
        planned += looked_at(values, 0.0, looks)[0] is not Outcome.UNDECIDED
        naive += any(mean_verdict(values[:count], 0.0).outcome is not Outcome.UNDECIDED for count in looks.counts)
    assert planned / 400 <= 0.06
    assert naive / 400 > 0.12


def test_clear_cases_are_decided_at_once():
    rng = np.random.default_rng(56)
    found = [looked_at(rng.normal(-4, 1, 160), 0.0, Looks(first=5, most=160)) for _ in range(100)]
    assert {outcome for outcome, _ in found} == {Outcome.HOLDS}
    assert np.mean([count for _, count in found]) < 5.5


@pytest.mark.parametrize(
    ("misses", "outcome"),
    [
        ([1.0, 3.0, 2.0, 0.0, 2.0], Outcome.HOLDS),
        ([150.0, 130.0, 170.0, 160.0, 140.0], Outcome.BROKEN),
        ([0.0, 90.0, 10.0, 60.0, 50.0], Outcome.UNDECIDED),
        ([0.0] * 5, Outcome.HOLDS),
        ([1000.0] * 5, Outcome.BROKEN),
    ],
)
def test_verdict_on_a_share(misses, outcome):
    found = share_verdict(misses, [1000.0] * 5, 0.05)
    assert found.outcome == outcome
    assert (found.further is None) == (outcome is not Outcome.UNDECIDED)
    assert found.interval.estimate == pytest.approx(sum(misses) / 5000)


def test_replications_that_differ_need_more_than_their_requests_would():
    misses = [0.0, 90.0, 10.0, 60.0, 50.0]
    assert proportion_interval(210, 5000).high < 0.05
    assert share_verdict(misses, [1000.0] * 5, 0.05).further > 30


def test_few_requests_without_a_miss_decide_nothing():
    found = share_verdict([0.0, 0.0], [10.0, 10.0], 0.05)
    assert found.outcome is Outcome.UNDECIDED
    runs = 2 + found.further
    assert proportion_interval(0, 10 * runs).high <= 0.05 < proportion_interval(0, 10 * (runs - 1)).high


def test_a_percentile_keeps_its_limit_just_when_the_share_beyond_does():
    rng = np.random.default_rng(57)
    for limit in (0.5, 3.0, 3.2, 6.0):
        runs = [rng.exponential(size=2000) for _ in range(10)]
        found = share_verdict([float((run > limit).sum()) for run in runs], [2000.0] * 10, 0.05)
        # P95 of the exponential distribution is 2.996.
        assert found.outcome in {0.5: {"broken"}, 6.0: {"holds"}}.get(limit, {"holds", "undecided"})


@pytest.mark.parametrize("limit_share", [0.0, 1.0, 5, -0.1, math.nan])
def test_share_verdict_refuses(limit_share):
    with pytest.raises(InputError, match="limit_share"):
        share_verdict([1.0, 2.0], [10.0, 10.0], limit_share)
    with pytest.raises(InputError, match="misses"):
        share_verdict([1.0, 20.0], [10.0, 10.0], 0.05)


@pytest.mark.parametrize(
    ("outcomes", "overall"),
    [
        (["holds", "holds"], Outcome.HOLDS),
        (["holds", "undecided"], Outcome.UNDECIDED),
        (["undecided", "broken", "holds"], Outcome.BROKEN),
    ],
)
def test_all_slos_must_hold(outcomes, overall):
    assert overall_outcome(Outcome(name) for name in outcomes) is overall


def test_no_slo_is_no_outcome():
    with pytest.raises(InputError, match="no SLO"):
        overall_outcome([])


def test_the_examples_of_the_statistics_page_run():
    page = Path(__file__).resolve().parents[1] / "docs" / "statistics.md"
    found = doctest.testfile(str(page), module_relative=False)
    assert found.attempted > 10
    assert found.failed == 0
