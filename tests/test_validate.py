"""Verdicts on plans: against a queue of known waiting times, with requests that are not answered, at looks."""

import math

import numpy as np
import pytest
from planned_cases import MD1_TTFT_S, pair, queue, queue_plan
from test_replicated import trace

from analysis.verdicts import Outcome
from latency_models.errors import InputError
from optimizer.problem import SloTarget
from scenarios.plans.deployment import deployed
from scenarios.replicated import replicating
from scenarios.validation.measure import SloFigures
from scenarios.validation.slo_verdicts import slo_verdict
from scenarios.validation.targets import parse_target, promised_targets
from scenarios.validation.validate import ValidationOptions, validate

P95_OF_MD1_S = 0.31
"""Of the time to first token of the queue: between the two limits below (checked by the test that uses it)."""


def found(scenario, *targets, **options):
    with replicating(1) as replicator:
        return validate(scenario, targets, replicator, ValidationOptions(**options))


def ttft(target_s, statistic="mean", model=None):
    return SloTarget(metric="ttft", statistic=statistic, target_s=target_s, model=model)


def figures(**values):
    defaults = {"requests": 100, "missed": 0, "unanswered": 0, "timed": 100, "latency_sum_s": 10.0}
    return SloFigures(**{**defaults, "latencies_s": np.zeros(0), **values})


def test_a_mean_is_decided_on_either_side_of_theory(tmp_path):
    result = found(queue(tmp_path), ttft(1.15 * MD1_TTFT_S), ttft(0.85 * MD1_TTFT_S, model="server"))
    assert [verdict.outcome for verdict in result.slos] == [Outcome.HOLDS, Outcome.BROKEN]
    assert result.outcome is Outcome.BROKEN
    assert result.further is None
    assert result.slos[0].statistic_s.contains(MD1_TTFT_S)
    assert result.slos[0].statistic_s.estimate == result.slos[1].statistic_s.estimate


def test_too_close_to_tell_is_undecided_and_says_how_many_more(tmp_path):
    near = found(queue(tmp_path), ttft(1.01 * MD1_TTFT_S), most=5)
    assert near.outcome is Outcome.UNDECIDED
    assert near.further > 10
    assert len(near.runs) == 5


def test_it_looks_again_until_it_is_clear(tmp_path):
    result = found(queue(tmp_path), ttft(1.09 * MD1_TTFT_S), first=2, most=64)
    assert result.outcome is Outcome.HOLDS
    assert len(result.runs) in (4, 8, 16, 32, 64)
    assert result.confidence_at_look > result.confidence


def test_a_percentile_is_a_share_of_late_requests(tmp_path):
    result = found(queue(tmp_path), ttft(0.28, "p95"), ttft(0.34, "p95", "server"))
    broken, holds = result.slos
    assert (broken.outcome, holds.outcome) == (Outcome.BROKEN, Outcome.HOLDS)
    assert broken.missed.low > 0.05 > holds.missed.high
    assert broken.statistic_s.contains(P95_OF_MD1_S)
    assert broken.tolerance is None


def test_other_replications_are_other_arrivals(tmp_path):
    one = found(queue(tmp_path), ttft(0.2), first=2, most=2)
    other = found(queue(tmp_path), ttft(0.2), first=2, most=2, from_replication=1)
    assert other.replications == range(1, 3)
    assert one.runs[1].summary == other.runs[0].summary
    assert one.runs[0].summary != other.runs[1].summary


def test_turning_requests_away_does_not_make_a_plan_hold(tmp_path):
    def overloaded(values):
        values["workload"]["arrivals"]["rate_per_s"] = 15
        values["models"]["server"]["admission"] = {"max_queue_requests": 1}

    result = found(queue(tmp_path, overloaded), ttft(0.5), ttft(0.5, "p95"))
    mean, percentile = result.slos
    assert mean.statistic_s.high < 0.5
    assert mean.unanswered.low > 0.3
    assert (mean.outcome, percentile.outcome) == (Outcome.BROKEN, Outcome.BROKEN)
    assert math.isinf(percentile.statistic_s.estimate)
    assert found(queue(tmp_path, overloaded), ttft(0.5), tolerance=0.9).outcome is Outcome.HOLDS


def test_a_request_that_waited_in_vain_counts_with_its_wait(tmp_path):
    def impatient(values):
        values["workload"]["arrivals"]["rate_per_s"] = 30
        values["workload"]["deadline_s"] = 2.0

    result = found(queue(tmp_path, impatient), ttft(1.0), tolerance=0.9, most=5)
    assert result.slos[0].unanswered.low > 0.5
    # Those that were answered waited for 2 s at most, those that gave up for exactly as long.
    assert 1.5 < result.slos[0].statistic_s.estimate < 2.1
    assert result.outcome is Outcome.BROKEN


def test_unfinished_requests_are_misses(tmp_path):
    def cut(values):
        values["workload"]["arrivals"]["rate_per_s"] = 30
        values["run"]["until_s"] = 20

    result = found(queue(tmp_path, cut), ttft(0.5, "p90"), SloTarget(metric="e2e", target_s=1.0))
    assert result.outcome is Outcome.BROKEN
    assert result.slos[1].unanswered.estimate > 0.4
    assert result.slos[1].statistic_s.low > 1.0


def test_busy_replications_weigh_more_in_a_mean():
    parts = [figures(timed=100, requests=100, latency_sum_s=10.0), figures(timed=900, requests=900, latency_sum_s=450)]
    verdict = slo_verdict(ttft(0.2), parts * 3, confidence=0.95, tolerance=0.01)
    assert verdict.statistic_s.estimate == pytest.approx(460 / 1000)


def test_nobody_answered_breaks_a_mean():
    nobody = figures(timed=0, unanswered=100, missed=100, latency_sum_s=0.0)
    verdict = slo_verdict(ttft(0.2), [nobody] * 5, confidence=0.95, tolerance=0.01)
    assert verdict.outcome is Outcome.BROKEN
    assert math.isinf(verdict.statistic_s.estimate)


def test_a_mean_waits_for_both_of_its_conditions():
    some = [figures(requests=100, timed=99, unanswered=unanswered) for unanswered in (0, 2, 0, 2, 1)]
    verdict = slo_verdict(ttft(0.2), some, confidence=0.95, tolerance=0.01)
    assert verdict.statistic_s.high < 0.2
    assert verdict.outcome is Outcome.UNDECIDED


def test_time_per_token_of_one_token_answers_cannot_be_judged(tmp_path):
    for statistic in ("mean", "p95"):
        with pytest.raises(InputError, match="no answer has more than one token"):
            found(queue(tmp_path), SloTarget(metric="tpot", statistic=statistic, target_s=0.1), most=2)


def test_a_model_that_gets_no_request_cannot_be_judged(tmp_path):
    def all_to_small(values):
        values["routing"] = {"kind": "fractions", "fractions": {"small": 1.0}}

    with pytest.raises(InputError, match="no request that it is about was sent"):
        found(pair(tmp_path, all_to_small), ttft(0.1, model="large"), most=2)


def test_a_workload_shorter_than_its_warm_up_is_refused(tmp_path):
    def long_warmup(values):
        values["run"]["warmup"] = 4000

    with pytest.raises(InputError, match=r"warm-up \(run.warmup\) is 4000.0; allowed: less than the .* s in which"):
        found(queue(tmp_path, long_warmup), ttft(0.2))


def test_windows_of_a_trace_are_the_replications(tmp_path):
    gaps = np.random.default_rng(1).exponential(0.25, 4000)
    scenario = trace(tmp_path, gaps)
    result = found(scenario, ttft(0.3), window_s=100.0)
    assert result.outcome is Outcome.HOLDS
    assert sum(run.arrivals for run in result.runs) <= 4000
    assert result.runs[0].summary != result.runs[1].summary


@pytest.mark.parametrize(
    ("options", "looked_after"), [({}, 3), ({"first": 2}, 4), ({"most": 4}, 4), ({"first": 99}, 7)]
)
def test_nearly_all_windows_can_be_used(tmp_path, options, looked_after):
    scenario = trace(tmp_path, [1.0] * 75)
    assert len(found(scenario, ttft(0.01), window_s=10.0, **options).runs) == looked_after


def test_windows_of_a_recorded_trace(tmp_path, data_root):
    def recorded(values):
        values["models"]["server"] = {
            "latency": {"kind": "linear", "base_s": 0.01, "per_token_s": 2e-5},
            "engine": {"num_gpu_blocks": 50_000, "max_num_seqs": 256, "max_model_len": 16384},
        }
        path = data_root / "data" / "azure_llm_2023" / "azure_2023_conv_first35min.csv"
        values["workload"] = {"kind": "trace", "path": str(path)}

    result = found(queue(tmp_path, recorded), ttft(0.5), ttft(0.01, "p95"), window_s=300.0)
    assert [verdict.outcome for verdict in result.slos] == [Outcome.HOLDS, Outcome.BROKEN]
    assert len(result.runs) in (3, 6)
    assert len({run.arrivals for run in result.runs}) == len(result.runs)


def test_a_single_request_before_the_end_of_the_warm_up_is_none(tmp_path):
    def one(values):
        values["workload"] |= {"arrivals": {"kind": "deterministic", "rate_per_s": 1}, "requests": 1}

    with pytest.raises(InputError, match="warm-up"):
        found(queue(tmp_path, one), ttft(0.2))


def test_windows_shorter_than_the_warm_up_are_refused(tmp_path):
    scenario = trace(tmp_path)
    late = scenario.model_copy(update={"run": scenario.run.model_copy(update={"warmup": 10.0})})
    with pytest.raises(InputError, match=r"window is 10.0; allowed: longer than the warm-up"):
        found(late, ttft(0.3), window_s=10.0)
    with pytest.raises(InputError, match="so that the trace has two windows left"):
        found(scenario, ttft(0.3), window_s=10.0, from_replication=3)


def test_promised_slos_are_the_targets():
    assert promised_targets(queue_plan(0.2, statistic="p95")) == (ttft(0.2, "p95"),)
    plan = queue_plan().model_copy(update={"promise": None})
    with pytest.raises(InputError, match=r"nothing at 5 requests/s; name the SLOs yourself \(--slo\)"):
        promised_targets(plan)


def test_slos_are_spelled_as_in_a_problem_file():
    text = "metric: e2e, statistic: p99, target_ms: 2500, model: large"
    wanted = SloTarget(metric="e2e", statistic="p99", target_s=2.5, model="large")
    assert parse_target(text) == parse_target("{" + text + "}") == wanted
    assert parse_target("metric: ttft, target_ms: 100") == ttft(0.1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ttft:500", "--slo is 'ttft:500'; allowed: an SLO as in a problem file"),
        ("", "--slo ''.*metric"),
        ("metric: [", "--slo is"),
        ("metric: latency, target_ms: 5", "metric is 'latency'"),
        ("metric: ttft, statistic: p50, target_ms: 5", "statistic is 'p50'"),
        ("metric: ttft, target_ms: 0", "target_ms is 0"),
        ("metric: ttft, target_ms: .inf", "target_ms is inf"),
        ("metric: ttft, target_s: 1", "target_s"),
        ("metric: ttft, target_ms: 9000000", "The unit looks wrong"),
    ],
)
def test_other_spellings_are_refused(text, message):
    with pytest.raises(InputError, match=message) as refused:
        parse_target(text)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        ((), "no SLO to hold the plan to"),
        ((ttft(0.1, model="sever"),), "did you mean 'server'"),
        ((ttft(0.1), ttft(0.2)), "two SLOs like mean TTFT"),
    ],
)
def test_targets_must_make_sense(tmp_path, targets, message):
    with pytest.raises(InputError, match=message):
        found(queue(tmp_path), *targets)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"confidence": 1.0}, "confidence is 1.0"),
        ({"tolerance": 0.0}, "unanswered requests is 0.0"),
        ({"most": 1}, "most replications is 1"),
        ({"first": 0}, "first look is 0"),
        ({"from_replication": -1}, "from_replication is -1"),
    ],
)
def test_options_must_make_sense(options, message):
    with pytest.raises(InputError, match=message):
        ValidationOptions(**options)


def test_the_figures_of_a_promise_have_intervals(tmp_path):
    plan = queue_plan()
    result = found(deployed(queue(tmp_path), plan), *promised_targets(plan))
    group = result.summary["by_model"]["server"]
    assert group["ttft_s"]["mean"]["low"] < MD1_TTFT_S < group["ttft_s"]["mean"]["high"]
    assert group["fraction"]["mean"] == 1.0
    assert result.summary["overall"]["offered_per_s"]["mean"] == pytest.approx(5.0, rel=0.05)
