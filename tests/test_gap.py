"""The gap report: causes that apply, what each adds, and that it all adds up."""

import math
from pathlib import Path

import numpy as np
import pytest
from planned_cases import FRACTION, MD1_TTFT_S, pair, pair_plan, queue, queue_plan
from test_replicated import trace

from analysis.charts.gap import gap_chart
from analysis.charts.rendering import write_chart
from analysis.stored.results import Results, StoredDocument
from latency_models.errors import InputError
from scenarios.plans.deployment import deployed
from scenarios.replicated import replicating
from scenarios.validation.causes import causes_in
from scenarios.validation.gap import PREDICTION, START, explain_gap
from scenarios.validation.gap_report import LEFT_OVER, gaps_json, print_gaps, steps_of
from scenarios.validation.targets import parse_target, promised_targets
from scenarios.validation.validate import ValidationOptions, validate


def gaps(scenario, plan, *, window_s=None, count=5, targets=None):
    scenario = deployed(scenario, plan)
    targets = promised_targets(plan) if targets is None else targets
    options = ValidationOptions(first=count, most=count, window_s=window_s)
    with replicating(1) as replicator:
        validation = validate(scenario, targets, replicator, options)
        return explain_gap(plan, scenario, targets, validation, replicator, window_s=window_s)


def names(scenario, *, offered_per_s=5.0, promised_per_s=5.0):
    return [c.name for c in causes_in(scenario, offered_per_s=offered_per_s, promised_per_s=promised_per_s)]


def arriving(**arrivals):
    def change(values):
        values["workload"]["arrivals"] = arrivals

    return change


def test_a_queue_as_promised_has_nothing_to_explain(tmp_path):
    report = gaps(queue(tmp_path), queue_plan(), count=10)
    (gap,) = report.gaps
    assert gap.simulated.contains(MD1_TTFT_S)
    assert gap.left_over.contains(0.0)
    assert list(gap.effects.causes) == [START]


def test_bursts_are_what_bursts_add(tmp_path):
    report = gaps(queue(tmp_path, arriving(kind="gamma", rate_per_s=5, cv=2.5)), queue_plan(), count=10)
    (gap,) = report.gaps
    bursts = gap.effects.causes["bursts"]
    assert bursts.interval.low > 0.0
    assert gap.left_over.contains(0.0)
    assert bursts.share.estimate > 0.7
    assert abs(gap.effects.interaction.interval.estimate) < 0.2 * gap.effects.total.interval.estimate


def test_everything_adds_up(tmp_path):
    report = gaps(queue(tmp_path, arriving(kind="gamma", rate_per_s=6, cv=2)), queue_plan())
    (gap,) = report.gaps
    assert set(gap.effects.causes) == {"bursts", "load", START}
    steps = steps_of(gap)
    assert steps[0][0] == LEFT_OVER
    assert gap.promised + sum(interval.estimate for _, interval in steps) == pytest.approx(gap.simulated.estimate)


def test_another_load_than_promised_is_told_apart_from_bursts(tmp_path):
    report = gaps(queue(tmp_path, arriving(kind="poisson", rate_per_s=8)), queue_plan(), count=10)
    (gap,) = report.gaps
    # M/D/1 at 80 % load has a mean wait of 0.2 s.
    assert gap.effects.causes["load"].interval.contains(0.2 - 0.05)
    assert gap.left_over.contains(0.0)


def test_neighbours_are_a_cause_where_they_are_felt(tmp_path):
    def together(values):
        values["contention"] = "capped"
        values["gpus"] = {"count": 2}

    one = {"tp": 1, "compute_share": 1.0, "memory_share": 0.5, "replicas": [[0]]}

    def same_gpu(values):
        values["models"] = {"small": one, "large": one}
        values["packing"] = "memory"

    (latency, score) = gaps(pair(tmp_path, together), pair_plan(change=same_gpu)).gaps
    assert latency.effects.causes["co-location"].interval.low > 0.0
    assert score.effects.causes["co-location"].interval.estimate == 0.0
    assert "co-location" not in names(deployed(pair(tmp_path, together), pair_plan()))


def test_prediction_errors_are_of_the_score_alone(tmp_path):
    latency, score = gaps(pair(tmp_path), pair_plan()).gaps
    assert PREDICTION not in latency.effects.causes
    # Outcomes are half of the predictions.
    missing = score.effects.causes[PREDICTION].interval.estimate
    assert missing == pytest.approx(-score.simulated.estimate)
    assert abs(score.effects.causes["routing noise"].interval.estimate) < 0.02


def test_long_answers_where_the_large_model_is_better_are_a_cause(tmp_path):
    """Shuffled, both models' answers are 0.4 * 30 + 0.6 * 6 tokens long, instead of 30 and 6."""

    def slow(values):
        for name in ("small", "large"):
            values["models"][name]["latency"] = {"kind": "linear", "base_s": 0.02}
        values["workload"]["requests"] = 600

    def per_model(values):
        slos = [{"metric": "e2e", "statistic": "mean", "model": "large", "target_s": 1.0, "value": 0.3, "limit": 1.0}]
        values["promise"]["loads"][0]["slos"] = [{**slo, "beta": 0.0, "score_per_s": 0.0} for slo in slos]

    gap = gaps(pair(tmp_path, slow), pair_plan(change=per_model)).gaps[0]
    expected_s = 0.02 * (30 - (FRACTION * 30 + (1 - FRACTION) * 6))
    assert gap.effects.causes["correlated lengths"].interval.estimate == pytest.approx(expected_s, rel=0.15)


def test_causes_are_those_that_apply(tmp_path):
    assert names(queue(tmp_path)) == []
    assert names(queue(tmp_path), promised_per_s=10.0) == ["load"]
    assert names(trace(tmp_path)) == ["bursts"]
    assert names(deployed(pair(tmp_path), pair_plan())) == ["routing noise", "correlated lengths"]

    def closed(values):
        values["workload"] = {"kind": "closed-loop", "users": 3, "think_time_s": 1, "requests": 50} | {
            "lengths": values["workload"]["lengths"]
        }

    assert names(queue(tmp_path, closed), promised_per_s=10.0) == []

    def magnified(values):
        values["workload"]["transforms"] = [{"kind": "magnify-bursts", "factor": 2}]

    assert names(queue(tmp_path, magnified)) == ["bursts"]

    def disturbed(values):
        values["faults"] = {"load_s": 5, "crashes": [{"at_s": 20, "model": "small"}]}
        values["speed_changes"] = [{"at_s": 5, "model": "small", "slowdown": 2}]
        values["router"] = {"per_request_s": 0.01}
        values["prompts"] |= {"score_noise": 0.1, "draws": "in-turn", "lengths": "workload"}
        values["prompts"]["drift"] = {"towards": "hard", "strength": 0.5}

    found = names(deployed(pair(tmp_path, disturbed), pair_plan()))
    assert found == ["faults", "speed changes", "router", "noisy scores", "drift"]


def test_faults_and_slow_replicas_are_found(tmp_path):
    def disturbed(values):
        values["speed_changes"] = [{"at_s": 30, "model": "server", "slowdown": 1.5}]
        values["workload"]["requests"] = 600

    (gap,) = gaps(queue(tmp_path, disturbed), queue_plan()).gaps
    assert gap.effects.causes["speed changes"].interval.low > 0.0


def test_windows_of_a_trace_are_run_again_without_its_bursts_and_load(tmp_path):
    rng = np.random.default_rng(2)
    bursts = np.where(np.arange(3000) % 100 < 50, 0.11, 0.35) * rng.exponential(1.0, 3000)
    report = gaps(trace(tmp_path, bursts), queue_plan(), window_s=80.0, count=7)
    (gap,) = report.gaps
    assert gap.effects.causes["bursts"].interval.estimate > 0.0
    assert gap.effects.causes["load"].interval.estimate < 0.0
    assert abs(gap.left_over.estimate) < 0.05


def test_a_percentile_of_all_requests_is_explained_as_a_share(tmp_path):
    def both(values):
        slo = {"metric": "ttft", "statistic": "p95", "target_s": 0.02, "value": 0.02, "limit": 0.05}
        values["promise"]["loads"][0]["slos"] = [{**slo, "beta": 0.0, "score_per_s": 0.0}]

    gap = gaps(pair(tmp_path), pair_plan(change=both)).gaps[0]
    assert gap.unit == "share"
    assert gap.name == "share of requests that miss P95 TTFT <= 20 ms"
    assert 0.0 <= gap.simulated.estimate <= 1.0


def stored(report):
    content = {"confidence": 0.95, "gap": gaps_json(report)}
    return Results(validations=(StoredDocument(path=Path(), name="plan", content=content),))


def test_where_nothing_is_answered_there_is_nothing_to_attribute(tmp_path):
    def overloaded(values):
        values["workload"]["arrivals"]["rate_per_s"] = 30
        values["models"]["server"]["admission"] = {"max_queue_requests": 1}

    plan = queue_plan(0.2, statistic="p95").model_copy(update={})
    slo = plan.promise.loads[0].slos[0].model_copy(update={"model": "server", "limit": 0.2})
    load = plan.promise.loads[0].model_copy(update={"slos": (slo,)})
    plan = plan.model_copy(update={"promise": plan.promise.model_copy(update={"loads": (load,)})})
    report = gaps(queue(tmp_path, overloaded), plan)
    assert report.gaps[0].effects is None
    assert gaps_json(report)["gaps"][0]["simulated"] is None
    with pytest.raises(InputError, match="nothing to plot"):
        gap_chart(stored(report))


def test_slos_that_were_not_promised_have_no_gap(tmp_path):
    with pytest.raises(InputError, match="promises none of the SLOs"):
        gaps(queue(tmp_path), queue_plan(), targets=(parse_target("metric: e2e, target_ms: 500"),))


def test_a_promised_mean_is_explained_whatever_target_it_is_held_to(tmp_path):
    (gap,) = gaps(queue(tmp_path), queue_plan(0.2), targets=(parse_target("metric: ttft, target_ms: 500"),)).gaps
    assert gap.promised == MD1_TTFT_S


def test_the_report_is_drawn_and_printed(tmp_path, capsys):
    report = gaps(pair(tmp_path), pair_plan())
    write_chart(gap_chart(stored(report)), tmp_path / "gap.svg")
    assert "correlated lengths" in (tmp_path / "gap.svg").read_text()
    print_gaps(report)
    shown = capsys.readouterr().out
    assert "mean TTFT (ms)" in shown
    assert "without routing noise:" in shown
    for gap in gaps_json(report)["gaps"]:
        for effect in gap["effects"]["causes"].values():
            assert math.isfinite(effect["effect"]["estimate"])
