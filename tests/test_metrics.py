"""Per-request latencies and the summary, on logs small enough to check by hand."""

import json
import math

import numpy as np
import pytest
from synthetic_results import StepLog, make_columns, make_result

from analysis.metrics import RequestLatencies
from analysis.replica_load import replica_load
from analysis.slo import Slo
from analysis.summary import summarise
from analysis.warmup import detect_warmup
from latency_models.errors import InputError
from sim.results import Status


def test_latencies_by_definition():
    rows = [
        {
            "arrival_s": 1.0,
            "queued_s": 1.125,
            "scheduled_s": 1.25,
            "first_token_s": 1.5,
            "last_token_s": 2.5,
            "finish_s": 2.75,
            "generated_tokens": 5,
        },
        {"arrival_s": 2.0, "scheduled_s": 2.0, "first_token_s": 3.0, "last_token_s": 3.0, "finish_s": 3.0},
        {"arrival_s": 3.0, "generated_tokens": 0, "finish_s": 3.0, "status": Status.REJECTED},
    ]
    found = RequestLatencies.of(make_columns(rows))
    nan = math.nan
    np.testing.assert_array_equal(found.ttft_s, [0.5, 1.0, nan])
    np.testing.assert_array_equal(found.tpot_s, [0.25, nan, nan])
    np.testing.assert_array_equal(found.e2e_s, [1.75, 1.0, nan])
    np.testing.assert_array_equal(found.queue_s, [0.25, 0.0, nan])
    np.testing.assert_array_equal(found.scheduler_queue_s, [0.125, 0.0, nan])
    assert found.finished.tolist() == [True, True, False]
    part = RequestLatencies.of(make_columns(rows), slice(1, 3))
    np.testing.assert_array_equal(part.ttft_s, [1.0, nan])


def small_run():
    """Replica 0 (small) serves two requests, replica 1 (large) one that does not finish; one is rejected."""
    log = StepLog()
    log.add_run(0.5, 0.0, 1, sequences=1, tokens=8, blocks=10)  # prefill of request 0: 0.0 - 0.5
    log.add_run(0.1, 0.0, 4, sequences=1, tokens=1, blocks=20)  # its decodes: 0.5 - 0.9
    log.add_run(0.6, 0.0, 1, sequences=2, tokens=5, blocks=50)  # prefill of request 1 beside: 0.9 - 1.5
    log.add_run(0.2, 0.0, 5, sequences=2, tokens=2, blocks=50)  # both: 1.5 - 2.5
    other = StepLog()
    other.add_run(1.0, 0.0, 1, sequences=1, tokens=30, blocks=100, idle_s=3.0)  # 3.0 - 4.0
    other.add_run(0.25, 0.0, 4, sequences=1, tokens=1, blocks=100)  # 4.0 - 5.0
    rows = [
        {
            "arrival_s": 0.0,
            "scheduled_s": 0.0,
            "first_token_s": log.ends_s[0],
            "last_token_s": log.ends_s[10],
            "finish_s": log.ends_s[10],
            "prompt_tokens": 8,
            "cached_tokens": 4,
            "output_tokens": 11,
            "generated_tokens": 11,
        },
        {
            "arrival_s": 0.75,
            "scheduled_s": 0.9,
            "first_token_s": log.ends_s[5],
            "last_token_s": log.ends_s[10],
            "finish_s": log.ends_s[10],
            "prompt_tokens": 4,
            "output_tokens": 6,
            "generated_tokens": 6,
            "request_class": 1,
            "preemptions": 2,
        },
        {
            "arrival_s": 3.0,
            "scheduled_s": 3.0,
            "first_token_s": other.ends_s[0],
            "model": 1,
            "replica": 1,
            "prompt_tokens": 30,
            "output_tokens": 100,
            "generated_tokens": 5,
            "status": Status.UNFINISHED,
        },
        {
            "arrival_s": 3.5,
            "model": -1,
            "replica": -1,
            "finish_s": 3.5,
            "generated_tokens": 0,
            "status": Status.REJECTED,
        },
    ]
    return make_result(rows, runs=[log.rows, other.rows], end_s=5.0)


def test_summary_by_hand():
    summary = summarise(small_run(), slo=Slo.parse("ttft:500"))
    overall = summary["overall"]
    assert overall["requests"] == {
        "total": 4,
        "finished": 2,
        "rejected": 1,
        "timed_out": 0,
        "aborted": 0,
        "unfinished": 1,
        "failed": 0,
    }
    assert overall["requests_per_s"] == pytest.approx(2 / 5)
    assert overall["prompt_tokens_per_s"] == pytest.approx(42 / 5)
    assert overall["output_tokens_per_s"] == pytest.approx(22 / 5)
    assert overall["goodput_per_s"] == pytest.approx(1 / 5)
    assert overall["slo_attainment"] == 1 / 4
    assert overall["preemptions"] == 2
    assert overall["preempted_requests"] == 1
    assert overall["prefix_cache_hit_ratio"] == pytest.approx(4 / 42)
    assert overall["ttft_s"]["count"] == 3
    assert overall["ttft_s"]["mean"] == pytest.approx((0.5 + 0.75 + 1.0) / 3)
    assert overall["ttft_s"]["p50"] == pytest.approx(0.75)
    assert overall["e2e_s"]["count"] == 2
    # Inter-token latencies: request 0 has 4 x 0.1, 0.6, 5 x 0.2; request 1 has 5 x 0.2; request 2 has 4 x 0.25.
    itls = [0.1] * 4 + [0.6] + [0.2] * 10 + [0.25] * 4
    assert overall["itl_s"]["count"] == len(itls)
    assert overall["itl_s"]["mean"] == pytest.approx(np.mean(itls))
    assert overall["itl_s"]["std"] == pytest.approx(np.std(itls))
    for q in (50, 90, 95, 99):
        assert overall["itl_s"][f"p{q}"] == pytest.approx(np.percentile(itls, q))


def test_summary_groups():
    summary = summarise(small_run(), slo=Slo.parse("ttft:500"))
    assert list(summary["by_model"]) == ["small", "large"]
    assert summary["by_model"]["small"]["requests"]["total"] == 2
    assert summary["by_model"]["small"]["slo_attainment"] == 0.5
    assert summary["by_model"]["large"]["itl_s"]["p50"] == 0.25
    assert summary["by_class"]["code"]["requests"]["total"] == 1
    assert summary["by_class"]["chat"]["requests"]["total"] == 3
    assert summary["by_model_and_class"]["small"]["code"]["itl_s"]["count"] == 5
    assert list(summary["by_model_and_class"]["large"]) == ["chat"]


def test_load_by_hand():
    summary = summarise(small_run())
    small = summary["replicas"]["small-0"]
    assert small["model"] == "small"
    assert small["busy_s"] == pytest.approx(2.5)
    assert small["utilisation"] == pytest.approx(0.5)
    assert small["steps"] == 11
    assert small["computed_tokens"] == 8 + 4 + 5 + 10
    assert small["mean_batch_size"] == pytest.approx((0.9 * 1 + 1.6 * 2) / 2.5)
    assert small["mean_batch_size_per_token"] == pytest.approx((12 * 1 + 15 * 2) / 27)
    assert small["mean_kv_used_frac"] == pytest.approx((0.5 * 0.1 + 0.4 * 0.2 + 1.6 * 0.5) / 5)
    assert small["mean_waiting"] == pytest.approx(0.15 / 5)
    assert small["max_waiting"] == 1
    assert summary["cluster"]["utilisation"] == pytest.approx((2.5 + 2.0) / 10)
    assert summary["cluster"]["computed_tokens"] == 27 + 34
    assert summary["overall"]["slo_attainment"] is None
    assert summary["slo"] is None


def test_waiting_and_running_come_from_the_requests_themselves():
    rows = [
        {"arrival_s": 0.0, "queued_s": 0.0, "scheduled_s": 1.0, "first_token_s": 2.0, "finish_s": 4.0},
        {"arrival_s": 0.5, "queued_s": 0.5, "scheduled_s": 2.0, "first_token_s": 3.0, "finish_s": 5.0},
        # Comes when the first leaves the queue, and is never admitted.
        {"arrival_s": 1.0, "queued_s": 1.0, "finish_s": 3.0, "status": Status.TIMED_OUT},
    ]
    result = make_result(rows, end_s=10.0)
    load = replica_load(result, 0)
    assert load.mean_waiting == pytest.approx((1.0 + 1.5 + 2.0) / 10)
    assert load.max_waiting == 2
    assert load.mean_running == pytest.approx((3.0 + 3.0) / 10)
    later = replica_load(result, 0, warmup_s=1.5)
    assert later.mean_waiting == pytest.approx((0.5 + 1.5) / 8.5)
    assert replica_load(result, 0, warmup_s=2.5).max_waiting == 1


def test_kv_use_comes_from_samples_if_there_are_some():
    result = make_result(
        [],
        samples=[[1, 0, 2, 0, 10, 100, 0.5], [1, 1, 0, 0, 0, 100, 0], [2, 0, 4, 3, 30, 100, 1.0]],
        end_s=2.0,
    )
    load = replica_load(result, 0)
    assert load.mean_kv_used_frac == pytest.approx(0.2)
    assert replica_load(result, 0, warmup_s=1.5).mean_kv_used_frac == pytest.approx(0.3)


def test_warm_up_leaves_out_early_requests_and_time():
    summary = summarise(small_run(), warmup_s=0.75)
    assert summary["overall"]["requests"]["total"] == 3
    assert summary["measured_s"] == 4.25
    # One of the two that finished had arrived before, but left after it.
    assert summary["overall"]["requests"]["finished"] == 1
    assert summary["overall"]["requests_per_s"] == pytest.approx(2 / 4.25)
    assert summary["overall"]["itl_s"]["count"] == 9
    # 0.75 cuts the decode run 0.5 - 0.9.
    assert summary["replicas"]["small-0"]["busy_s"] == pytest.approx(1.75)
    assert summary["replicas"]["small-0"]["steps"] == pytest.approx(1.5 + 1 + 5)


def test_summary_is_json_even_when_nothing_happened():
    for result in (make_result([], end_s=0.0), make_result([{"arrival_s": 0.0, "status": Status.REJECTED}], end_s=0.0)):
        summary = summarise(result, slo=Slo.parse("ttft:1"))
        text = json.dumps(summary, allow_nan=False)
        assert json.loads(text)["overall"]["ttft_s"]["p99"] is None
    assert summary["overall"]["slo_attainment"] == 0.0


@pytest.mark.parametrize("warmup_s", [-1.0, math.nan, math.inf, 5.0, 7.0])
def test_bad_warm_up(warmup_s):
    with pytest.raises(InputError, match="warmup"):
        summarise(small_run(), warmup_s=warmup_s)


def test_warm_up_detection_finds_the_transient():
    rng = np.random.default_rng(3)
    rows = []
    for index in range(2000):
        ttft_s = 0.1 + rng.exponential(0.02) + (2.0 * math.exp(-index / 60))
        rows.append({"arrival_s": float(index), "first_token_s": index + ttft_s})
    found = detect_warmup(make_result(rows, end_s=3000.0))
    assert found.found
    assert 150 <= found.warmup_s <= 450


def test_warm_up_detection_says_when_it_cannot_tell():
    drifting = [{"arrival_s": float(i), "first_token_s": i + 0.01 * i} for i in range(500)]
    assert detect_warmup(make_result(drifting, end_s=900.0)).found is False
    assert detect_warmup(make_result(drifting[:10], end_s=900.0)).found is False
    steady = [{"arrival_s": float(i), "first_token_s": i + 0.5} for i in range(500)]
    found = detect_warmup(make_result(steady, end_s=900.0))
    assert (found.warmup_s, found.found) == (0.0, True)


def test_steps_without_duration_count_where_they_start():
    log = [[0.5, 0.0, 0.0, 3, 1, 2, 0], [1.0, 0.0, 0.0, 4, 5, 1, 0], [1.0, 1.0, 0.0, 1, 1, 1, 0]]
    load = replica_load(make_result([], runs=[log, []], end_s=2.0), 0, warmup_s=0.75)
    assert load.steps == 5
    assert load.computed_tokens == 5
    assert load.mean_batch_size == 1.0
