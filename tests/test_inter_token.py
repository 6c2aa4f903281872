"""Inter-token latencies against an oracle that walks every step for every request."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from synthetic_results import StepLog, make_result

from analysis.inter_token import (
    LatencyDistribution,
    TokenClock,
    inter_token_latencies,
    request_itls,
    request_token_times,
)
from analysis.progressions import BINS, Histogram, Progressions, count_below, rising, value_bins
from latency_models.errors import InputError, RouterwiseError

PERCENTS = (0.0, 12.5, 50.0, 90.0, 99.0, 100.0)

# Step times of different scales, some equal (ties), some without growth, some falling.
first_steps = st.sampled_from([1e-3, 1.5e-3, 2e-3, 0.01, 0.3]) | st.floats(1e-4, 1.0)
growths = st.sampled_from([0.0, 1e-6, 1e-4]) | st.floats(-1e-6, 1e-3)


@st.composite
def clusters(draw):
    """Two replicas with random runs; requests whose tokens begin, stop and pause at step boundaries."""
    logs, rows, gaps, oracle = [], [], [], []
    for replica in range(2):
        log = StepLog()
        for _ in range(draw(st.integers(1, 6))):
            steps = draw(st.integers(1, 40))
            growth = draw(growths)
            first = draw(first_steps) + max(-growth, 0) * steps
            log.add_run(first, growth, steps)
        logs.append(log)
        boundaries = len(log.ends_s)
        for _ in range(draw(st.integers(0, 5))):
            picks = draw(st.lists(st.integers(0, boundaries - 1), min_size=1, max_size=4, unique=True).map(sorted))
            begin, end = picks[0], picks[-1]
            unfinished = draw(st.booleans())
            row = {
                "replica": replica,
                "model": replica,
                "request_class": draw(st.integers(0, 1)),
                "arrival_s": 0.0,
                "first_token_s": log.ends_s[begin],
                "last_token_s": math.nan if unfinished else log.ends_s[end],
            }
            end = boundaries - 1 if unfinished else end
            itls = []
            step = begin + 1
            pause = picks[1:3] if len(picks) >= 3 else None
            while step <= end:
                if pause and step == pause[0] + 1:
                    itls.append(log.ends_s[pause[1]] - log.ends_s[pause[0]])
                    gaps.append([replica, len(rows), log.ends_s[pause[0]], log.ends_s[pause[1]]])
                    step = pause[1] + 1
                else:
                    itls.append(log.durations_s[step])
                    step += 1
            rows.append(row)
            oracle.append(itls)
    chunk = draw(st.sampled_from([1, 2, 1000]))
    result = make_result(rows, runs=[log.rows for log in logs], gaps=gaps, chunk_rows=chunk, end_s=1e3)
    return result, oracle


def check(found: LatencyDistribution, samples: list[float]) -> None:
    assert found.count == len(samples)
    if samples:
        assert found.mean_s == pytest.approx(np.mean(samples), rel=1e-12)
        assert found.std_s == pytest.approx(np.std(samples), rel=1e-7, abs=1e-12)
        assert found.max_s == pytest.approx(max(samples), rel=1e-13)
        assert found.min_s == pytest.approx(min(samples), rel=1e-13)
        expected = np.percentile(samples, PERCENTS)
        assert list(found.percentiles_s.values()) == pytest.approx(list(expected), rel=1e-12)


@given(clusters())
def test_statistics_equal_the_expanded_samples(case):
    result, oracle = case
    found = inter_token_latencies(result, percentiles=PERCENTS)
    check(found.overall, [itl for itls in oracle for itl in itls])
    for model in range(2):
        of_model = result.requests.model == model
        if of_model.any():
            check(found.by_model[model], [x for itls, use in zip(oracle, of_model, strict=True) if use for x in itls])
        for class_ in range(2):
            used = of_model & (result.requests.request_class == class_)
            if used.any():
                samples = [x for itls, use in zip(oracle, used, strict=True) if use for x in itls]
                check(found.by_model_and_class[model, class_], samples)


@given(clusters(), st.data())
def test_only_selected_requests_count(case, data):
    result, oracle = case
    selected = np.array(data.draw(st.lists(st.booleans(), min_size=len(oracle), max_size=len(oracle))), dtype=bool)
    found = inter_token_latencies(result, percentiles=PERCENTS, selected=selected)
    check(found.overall, [x for itls, use in zip(oracle, selected, strict=True) if use for x in itls])


@given(clusters())
def test_single_requests_have_every_token(case):
    result, oracle = case
    clock = TokenClock(result)
    for row, itls in enumerate(oracle):
        tokens = clock.tokens(row)
        assert tokens.itls_s == pytest.approx(itls, rel=1e-12)
        assert np.diff(tokens.times_s) == pytest.approx(itls, rel=1e-9, abs=1e-12)
        assert tokens.times_s[0] == result.requests.first_token_s[row]
    if oracle:
        assert request_itls(result, 0) == pytest.approx(oracle[0])
        assert len(request_token_times(result, 0)) == len(oracle[0]) + 1


def test_idle_time_between_requests_is_nobodys_latency():
    log = StepLog()
    log.add_run(0.01, 0.0, 3)
    log.add_run(0.02, 0.0, 4, idle_s=5.0)
    rows = [
        {"arrival_s": 0.0, "first_token_s": log.ends_s[0], "last_token_s": log.ends_s[2]},
        {"arrival_s": 5.0, "first_token_s": log.ends_s[3], "last_token_s": log.ends_s[6]},
    ]
    overall = inter_token_latencies(make_result(rows, runs=[log.rows, []])).overall
    assert overall.count == 5
    assert overall.max_s == 0.02


def test_a_request_preempted_for_good_stops_counting():
    log = StepLog()
    log.add_run(0.01, 0.0, 10)
    rows = [{"arrival_s": 0.0, "first_token_s": log.ends_s[0], "last_token_s": math.nan}]
    gaps = [[0, 0, log.ends_s[4], math.nan]]
    result = make_result(rows, runs=[log.rows, []], gaps=gaps)
    assert inter_token_latencies(result).overall.count == 4
    assert len(request_itls(result, 0)) == 4
    rows[0]["last_token_s"] = log.ends_s[4]
    result = make_result(rows, runs=[log.rows, []], gaps=gaps)
    assert inter_token_latencies(result).overall.count == 4
    assert len(request_itls(result, 0)) == 4


def test_no_tokens_at_all():
    result = make_result([{"arrival_s": 0.0}])
    found = inter_token_latencies(result)
    assert found.overall.count == 0
    assert math.isnan(found.overall.percentiles_s[50.0])
    assert found.by_model == {}
    assert len(request_token_times(result, 0)) == 0
    assert len(request_itls(make_result([{"arrival_s": 0.0, "first_token_s": 1.0, "last_token_s": 1.0}]), 0)) == 0


def test_a_log_that_contradicts_its_requests_is_refused():
    log = StepLog()
    log.add_run(0.01, 0.0, 10)
    log.add_run(0.01, 0.0, 10)
    rows = [{"arrival_s": 0.0, "first_token_s": log.ends_s[15], "last_token_s": log.ends_s[2]}]
    with pytest.raises(RouterwiseError, match="contradict"):
        inter_token_latencies(make_result(rows, runs=[log.rows, []]))


@pytest.mark.parametrize("percent", [-1.0, 100.5, math.nan, math.inf])
def test_percentile_out_of_range(percent):
    with pytest.raises(InputError, match="percentiles"):
        inter_token_latencies(make_result([]), percentiles=(percent,))


@pytest.mark.parametrize("row", [-1, 1])
def test_row_out_of_range(row):
    with pytest.raises(InputError, match="row"):
        request_itls(make_result([{"arrival_s": 0.0}]), row)


@given(
    st.lists(
        st.tuples(
            st.floats(1e-6, 10.0),
            st.sampled_from([0.0, 1e-19, 3e-18, 1e-12, 1e-3]) | st.floats(0, 5.0),
            st.integers(1, 60),
            st.integers(0, 3),
        ),
        min_size=1,
        max_size=8,
    ),
    st.floats(1e-7, 300.0),
)
def test_histogram_and_counts_are_exact(rows, bound):
    first, growth, steps, weight = (np.array(column, dtype=float) for column in zip(*rows, strict=True))
    samples = np.concatenate([[f + k * g for k in range(int(n))] for f, g, n, _ in rows])
    repeated = np.repeat(weight, steps.astype(int))
    zeros = np.zeros(len(first))
    counted = count_below(first, growth, zeros, steps, np.full(len(first), bound))
    assert (counted * weight).sum() == repeated[samples < bound].sum()
    # A bound that is itself a sample is the hard case.
    counted = count_below(first, growth, zeros, steps, np.full(len(first), samples[-1]))
    assert (counted * weight).sum() == repeated[samples < samples[-1]].sum()
    histogram = Histogram(1)
    histogram.add(rising(first, growth, steps, weight[None, :]))
    expected = np.bincount(value_bins(samples), weights=repeated, minlength=BINS)
    assert (histogram.counts[0] == expected).all()


def test_many_equal_neighbours_are_counted_one_by_one():
    # 1e-19 is far below the spacing of floats near 0.01, so thousands of consecutive samples are the same float.
    first, growth, steps = np.array([0.01]), np.array([1e-19]), np.array([1e5])
    samples = first[0] + np.arange(100_000) * growth[0]
    for bound in np.unique(samples):
        counted = count_below(first, growth, np.zeros(1), steps, np.array([bound]))
        assert counted[0] == (samples < bound).sum()


def test_wide_runs_and_large_weights_beyond_expansion():
    rng = np.random.default_rng(5)
    log = StepLog()
    for _ in range(300):
        log.add_run(float(rng.uniform(0.004, 0.006)), float(rng.uniform(0, 2e-6)), int(rng.integers(200, 400)))
    rows, samples = [], []
    for _ in range(40):
        begin, end = sorted(int(i) for i in rng.integers(0, len(log.ends_s), 2))
        rows.append({"arrival_s": 0.0, "first_token_s": log.ends_s[begin], "last_token_s": log.ends_s[end]})
        samples.append(log.durations_s[begin + 1 : end + 1])
    found = inter_token_latencies(make_result(rows, runs=[log.rows, []], chunk_rows=37), percentiles=PERCENTS)
    check(found.overall, np.concatenate(samples).tolist())
    assert found.overall.count > 1_000_000


def test_progressions_keep_falling_runs():
    rows = rising(np.array([0.5, 0.5]), np.array([-0.1, -0.1]), np.array([3.0, 1.0]), np.ones((1, 2)))
    assert isinstance(rows, Progressions)
    assert rows.first.tolist() == pytest.approx([0.3, 0.5])
    assert rows.growth.tolist() == [0.1, 0.0]


def test_a_request_without_a_known_last_token_stops_when_it_leaves():
    log = StepLog()
    log.add_run(0.01, 0.0, 10)
    rows = [{"arrival_s": 0.0, "first_token_s": log.ends_s[1], "finish_s": log.ends_s[4]}]
    result = make_result(rows, runs=[log.rows, []])
    assert inter_token_latencies(result).overall.count == 3
    assert len(request_itls(result, 0)) == 3
