"""Curves that are corrected by what simulations showed."""

from __future__ import annotations

import math

import numpy as np
import pytest
from optimizer_cases import curve_of, option_of, problem_of, queue_curve, three_models

from optimizer.delays.delay_curves import statistic_at
from optimizer.delays.lateness import known_percentiles, late_share
from optimizer.problem import SloTarget
from scenarios.correction.corrections import Corrections
from scenarios.correction.shifted_curves import Shift, Sighting, extended, fitted_shift, latency_factor

MEAN = "ttft_mean_s"
P95 = SloTarget(metric="ttft", statistic="p95", target_s=0.2)


def test_a_heavier_load_is_felt_near_the_limit_and_hardly_without_load():
    curve = queue_curve(0.02, 50.0, points=20)
    idle, half, busy = Shift(heavier=1.2).factor(curve, MEAN, np.array([0.0, 20.0, 39.0]))
    assert idle == 1.0
    assert 1.0 < half < 1.3
    assert busy > 2.0


def test_slower_is_the_same_at_every_load():
    curve = queue_curve(0.02, 50.0)
    assert Shift(slower=1.3).factor(curve, MEAN, np.array([0.0, 20.0, 40.0])) == pytest.approx([1.3, 1.3, 1.3])


def test_beyond_its_end_a_curve_rises_at_least_in_proportion_to_load():
    flat = curve_of([0.0, 10.0], [0.1, 0.1])
    assert extended(flat, MEAN, np.array([5.0, 10.0, 20.0])) == pytest.approx([0.1, 0.1, 0.2])
    alone = curve_of([0.0], [0.1])
    assert extended(alone, MEAN, np.array([7.0])) == pytest.approx([0.1])


@pytest.mark.parametrize("truth", [Shift(slower=1.3), Shift(heavier=1.25), Shift(slower=1.2, heavier=1.2)])
def test_a_shift_is_found_again_on_options_that_were_not_seen(truth):
    options = [option_of(1, share, 0.05, 20.0) for share in (0.3, 0.6, 1.0)]
    seen = []
    for option, part in zip(options[:2], (0.4, 0.85), strict=True):
        rate = part * option.curve.highest_rate_per_s
        factor = float(truth.factor(option.curve, MEAN, np.array([rate]))[0])
        seen.append((option.curve, MEAN, Sighting(rate_per_s=rate, factor=factor)))
    found = fitted_shift(seen)
    rates = options[2].curve.highest_rate_per_s * np.array([0.3, 0.6, 0.8])
    expected = truth.factor(options[2].curve, MEAN, rates)
    assert found.factor(options[2].curve, MEAN, rates) == pytest.approx(expected, rel=0.1)


def test_without_sightings_or_with_faster_ones_nothing_is_shifted():
    curve = queue_curve(0.02, 50.0)
    assert fitted_shift([]) == Shift()
    assert fitted_shift([(curve, MEAN, Sighting(rate_per_s=20.0, factor=math.inf))]) == Shift()
    assert fitted_shift([(curve, MEAN, Sighting(rate_per_s=20.0, factor=0.7))]) == Shift()


@pytest.mark.parametrize("late", [0.02, 0.05, 0.3, 0.9])
def test_the_factor_on_percentiles_gives_the_share_that_was_late(late):
    curve = queue_curve(0.02, 50.0)
    factor = latency_factor(curve, P95, 30.0, late)
    known = known_percentiles(curve, "ttft")
    values = [factor * statistic_at(curve, 30.0, name) for _, name in known]
    assert late_share(P95.target_s, [share for share, _ in known], values) == pytest.approx(late)


def test_the_factor_where_nearly_none_or_all_were_late():
    curve = queue_curve(0.02, 50.0)
    last = statistic_at(curve, 0.0, "ttft_p99_s")
    assert latency_factor(curve, P95, 0.0, 0.0) == min(1.0, P95.target_s / last)
    assert 1e3 < latency_factor(curve, P95, 0.0, 1.0) < 1e6
    assert latency_factor(curve, SloTarget(metric="ttft", target_s=1.0), 0.0, 0.06) == pytest.approx(0.06 / 0.02)


def seen_once(factor=1.5, rate=10.0, **settings):
    problem = three_models(**settings)
    corrections = Corrections(problem=problem).seeing([((0, 0, 0), Sighting(rate_per_s=rate, factor=factor))])
    return problem, corrections


def mean_at(problem, model, option, rate):
    return statistic_at(problem.models[model].options[option].curve, rate, MEAN)


def test_without_sightings_the_problem_stays_as_it_is():
    problem = three_models()
    assert Corrections(problem=problem).corrected() is problem


def test_what_was_seen_is_what_the_corrected_curve_says_there():
    problem, corrections = seen_once(rate=3.0)
    corrections = corrections.seeing([((0, 0, 0), Sighting(rate_per_s=4.0, factor=1.7))])
    corrected = corrections.corrected()
    assert mean_at(corrected, 0, 0, 3.0) == pytest.approx(1.5 * mean_at(problem, 0, 0, 3.0))
    assert mean_at(corrected, 0, 0, 4.0) == pytest.approx(1.7 * mean_at(problem, 0, 0, 4.0))


def test_what_an_option_shows_beyond_the_others_comes_from_its_load():
    problem = three_models()
    own, other = problem.models[0].options[:2]
    seen = [((0, 0, 0), Sighting(rate_per_s=10.0, factor=3.0)), ((0, 1, 0), Sighting(rate_per_s=10.0, factor=1.0))]
    corrections = Corrections(problem=problem).seeing(seen)
    slower = corrections.shift(0, 0).slower
    corrected = corrections.corrected()
    assert mean_at(corrected, 0, 0, 10.0) == pytest.approx(3.0 * mean_at(problem, 0, 0, 10.0))
    assert mean_at(corrected, 0, 0, 0.0) == pytest.approx(slower * mean_at(problem, 0, 0, 0.0))
    assert own is not other


def test_a_faster_sighting_counts_for_its_option_alone():
    problem, corrections = seen_once(factor=0.8, rate=3.0)
    corrected = corrections.corrected()
    assert mean_at(corrected, 0, 0, 3.0) == pytest.approx(0.8 * mean_at(problem, 0, 0, 3.0))
    assert mean_at(corrected, 0, 1, 3.0) == mean_at(problem, 0, 1, 3.0)


def test_options_and_models_that_were_not_seen_are_corrected_too():
    problem, corrections = seen_once(rate=3.0)
    corrected = corrections.corrected()
    for model, option in ((0, 1), (1, 0), (2, 2)):
        rate = 0.5 * problem.models[model].options[option].curve.highest_rate_per_s
        assert mean_at(corrected, model, option, rate) > 1.02 * mean_at(problem, model, option, rate)


def test_a_corrected_curve_never_falls_with_load():
    _, corrections = seen_once(factor=4.0, rate=2.0)
    corrections = corrections.seeing([((0, 0, 0), Sighting(rate_per_s=4.0, factor=1.0))])
    values = corrections.corrected().models[0].options[0].curve.statistics[MEAN]
    assert list(values) == sorted(values)


def test_an_option_that_did_not_carry_a_load_gets_less():
    problem, corrections = seen_once(factor=math.inf, rate=5.0)
    before, after = (entry.models[0].options[0].curve for entry in (problem, corrections.corrected()))
    assert before.highest_rate_per_s > 5.0
    assert after.highest_rate_per_s == pytest.approx(0.95 * 5.0)


def test_an_slo_on_one_model_leaves_the_others_alone():
    own = (SloTarget(metric="ttft", target_s=0.2, model="m0"),)
    problem, corrections = seen_once(rate=3.0, slos=own)
    assert corrections.corrected().models[1].options[0].curve.statistics == dict(
        problem.models[1].options[0].curve.statistics
    )


def test_an_slo_on_a_percentile_corrects_all_percentiles_of_its_metric():
    problem = problem_of([[option_of(1, 1.0, 0.05, 40.0)]], np.full((5, 1), 0.5), slos=(P95,))
    corrected = Corrections(problem=problem).seeing([((0, 0, 0), Sighting(rate_per_s=20.0, factor=2.0))]).corrected()
    before, after = (entry.models[0].options[0].curve for entry in (problem, corrected))
    for name in ("ttft_p50_s", "ttft_p90_s", "ttft_p99_s"):
        assert statistic_at(after, 20.0, name) == pytest.approx(2.0 * statistic_at(before, 20.0, name))
    assert statistic_at(after, 20.0, "ttft_mean_s") == statistic_at(before, 20.0, "ttft_mean_s")
    assert statistic_at(after, 20.0, "e2e_p95_s") == statistic_at(before, 20.0, "e2e_p95_s")


def test_growing_makes_what_was_seen_longer():
    problem, corrections = seen_once(rate=3.0)
    grown = corrections.growing([(0, 0, 0), (1, 0, 0)], 1.1).corrected()
    assert mean_at(grown, 0, 0, 3.0) == pytest.approx(1.1 * 1.5 * mean_at(problem, 0, 0, 3.0))


def test_a_sighting_at_as_good_as_the_same_load_takes_the_other_s_place():
    first = Corrections(problem=three_models()).seeing([((0, 0, 0), Sighting(rate_per_s=10.0, factor=1.2))])
    again = first.seeing([((0, 0, 0), Sighting(rate_per_s=math.nextafter(10.0, 11.0), factor=1.5))])
    assert list(again.sightings[0, 0, 0].values()) == [1.5]
    other = first.seeing([((0, 0, 0), Sighting(rate_per_s=11.0, factor=1.5))])
    assert len(other.sightings[0, 0, 0]) == 2
