"""GuideLLM's report: its definitions on small examples, and the same figures as the summary's.

The layout was checked with GuideLLM 0.8.1 itself: its models read these files, and its code computes the same metrics
from the requests in them.
"""

import json

import numpy as np
import pytest
from synthetic_results import make_result
from test_library import SHORT

from analysis.exports import guidellm_metrics
from analysis.exports.guidellm import write_guidellm
from analysis.exports.guidellm_distributions import STATUSES, by_status, of_concurrency, of_rates, of_values
from analysis.exports.guidellm_requests import GuideRequests
from analysis.metrics import RequestLatencies
from analysis.slo import Slo
from analysis.summary import summarise
from latency_models.errors import InputError
from scenarios.replicated import PreparedScenario, simulate_replication
from scenarios.scenario_files import load_scenario
from sim.results import SimulationResult, Status

EPOCH_S = 1.7e9


def simulated(name: str, *overrides: str) -> SimulationResult:
    return simulate_replication(PreparedScenario.of(load_scenario(name, [*SHORT[name], *overrides])), 0)


def report(tmp_path, result, **options) -> dict:
    path = tmp_path / "report.json"
    write_guidellm(path, result, name="run", epoch_s=EPOCH_S, **options)
    return json.loads(path.read_text())


def test_a_distribution_of_values():
    found = of_values(np.array([1.0, 3.0, 3.0, 9.0]))
    assert (found["mean"], found["count"], found["total_sum"]) == (4.0, 4, 16.0)
    assert (found["min"], found["max"], found["mode"]) == (1.0, 9.0, 3.0)
    assert found["variance"] == pytest.approx(9.0)
    assert found["percentiles"]["p25"] == 1.0
    assert (found["median"], found["percentiles"]["p95"]) == (3.0, 9.0)
    weighted = of_values(np.array([2.0, 5.0, 7.0]), np.array([1.0, 3.0, 0.0]))
    assert (weighted["mean"], weighted["count"], weighted["max"]) == (4.25, 4, 5.0)
    for nothing in (of_values(np.empty(0)), of_values(np.array([2.0]), np.array([0.0]))):
        assert (nothing["mean"], nothing["count"], nothing["percentiles"]["p99"]) == (0.0, 0, 0.0)


def test_a_distribution_of_rates():
    """Events at 1 and 3 in a window of 4 seconds stand for 1.5 seconds each, the window's ends for half a second."""
    found = of_rates(np.array([1.0, 3.0]), np.array([3.0, 6.0]), (0.0, 4.0))
    assert found["count"] == 9
    assert found["mean"] == pytest.approx(9 / 4)
    assert found["max"] == pytest.approx(6 / 1.5)
    assert found["percentiles"]["p25"] == 0.0
    merged = of_rates(np.array([1.0, 1.00005, 3.0]), np.array([1.0, 2.0, 6.0]), (0.0, 4.0))
    assert merged["max"] == pytest.approx(found["max"])
    assert of_rates(np.array([5.0]), np.array([1.0]))["count"] == 0


def test_a_distribution_of_concurrency():
    begin_s, end_s = np.array([0.0, 1.0, 9.0]), np.array([2.0, 3.0, 9.5])
    found = of_concurrency(begin_s, end_s, window_s=(0.5, 4.0))
    assert found["count"] == 2
    assert found["mean"] == pytest.approx((0.5 * 1 + 1 * 2 + 1 * 1 + 1 * 0) / 3.5)
    assert (found["min"], found["max"]) == (0.0, 2.0)
    assert of_concurrency(np.empty(0), np.empty(0))["count"] == 0


def test_statuses_are_told_apart_and_summed():
    found = by_status(
        lambda rows: of_values(rows.astype(np.float64)),
        {"successful": np.array([1, 2]), "errored": np.array([6]), "incomplete": np.array([], dtype=np.int64)},
    )
    assert [found[name]["count"] for name in (*STATUSES, "total")] == [2, 1, 0, 3]
    assert found["total"]["mean"] == 3.0


def test_a_report_says_what_the_summary_says(tmp_path):
    result = simulated("kv-pressure")
    summary = summarise(result)["overall"]
    (benchmark,) = report(tmp_path, result)["benchmarks"]
    metrics = benchmark["metrics"]
    assert metrics["request_totals"] == {"successful": 107, "errored": 0, "incomplete": 0, "total": 107}
    for ours, theirs, unit in (("ttft_s", "time_to_first_token_ms", 1e3), ("e2e_s", "request_latency", 1)):
        assert metrics[theirs]["successful"]["mean"] == pytest.approx(unit * summary[ours]["mean"], rel=1e-6)
        assert metrics[theirs]["successful"]["max"] == pytest.approx(unit * summary[ours]["max"], rel=1e-6)
    # By token, as GuideLLM weighs it, the mean of the requests' means is the mean of all latencies between tokens.
    assert metrics["inter_token_latency_ms"]["total"]["mean"] == pytest.approx(1e3 * summary["itl_s"]["mean"])
    tokens = result.requests.generated_tokens.sum()
    assert metrics["output_token_count"]["total"]["total_sum"] == pytest.approx(tokens)
    assert metrics["output_tokens_per_second"]["total"]["mean"] == pytest.approx(
        tokens / benchmark["duration"], rel=1e-3
    )
    first = benchmark["requests"]["successful"][0]
    assert first["request_start_time"] == pytest.approx(EPOCH_S + result.requests.arrival_s[0])
    assert first["time_to_first_token_ms"] == pytest.approx(
        1e3 * (result.requests.first_token_s[0] - result.requests.arrival_s[0]), abs=1e-2
    )
    assert first["output_metrics"]["text_tokens"] == result.requests.generated_tokens[0]


def test_everybody_has_a_status(tmp_path):
    """Requests in all ways to end, which GuideLLM knows as three."""
    result = simulated("overload-drain-limits", "run.until_s=30")
    (benchmark,) = report(tmp_path, result)["benchmarks"]
    counts = {name: len(benchmark["requests"][name]) for name in STATUSES}
    by_status_code = np.bincount(result.requests.status, minlength=len(Status))
    assert by_status_code[[Status.UNFINISHED, Status.TIMED_OUT, Status.REJECTED]].min() > 0
    assert counts["successful"] == by_status_code[Status.FINISHED]
    assert counts["incomplete"] == by_status_code[[Status.UNFINISHED, Status.ABORTED]].sum()
    assert counts["errored"] == by_status_code[[Status.TIMED_OUT, Status.REJECTED, Status.FAILED]].sum()
    assert benchmark["scheduler_metrics"]["requests_made"] == {**counts, "total": len(result.requests)}
    states = {entry["info"]["status"] for name in STATUSES for entry in benchmark["requests"][name]}
    assert states == {"completed", "cancelled", "errored"}
    refused = next(entry for entry in benchmark["requests"]["errored"] if entry["info"]["error"] == "rejected")
    assert refused["time_to_first_token_ms"] is None
    assert "first_token_iteration" not in refused["info"]["timings"]


def test_limits_become_goodput(tmp_path):
    result = simulated("overload-drain-limits")
    slo = Slo.parse("ttft:2000 e2el:20000")
    loaded = report(tmp_path, result, slo=slo)
    metrics = loaded["benchmarks"][0]["metrics"]
    given_up = int((result.requests.status != Status.FINISHED).sum())
    met = int(slo.met(RequestLatencies.of(result.requests)).sum())
    assert metrics["slo_determined_requests"] == len(result.requests)
    assert given_up > 0
    assert metrics["slo_attainment"] == pytest.approx(met / len(result.requests))
    assert metrics["request_goodput"]["successful"]["count"] == met
    limits = {"ttft_ms": 2000.0, "tpot_ms": None, "e2el_ms": 20000.0}
    assert loaded["benchmarks"][0]["config"]["slo"] == limits
    assert loaded["config"]["spec"]["metrics"]["slo"] == limits


def test_the_measurement_begins_after_the_warm_up(tmp_path):
    result = simulated("kv-pressure")
    (benchmark,) = report(tmp_path, result, warmup_s=30.0)["benchmarks"]
    assert benchmark["start_time"] == EPOCH_S + 30
    assert benchmark["warmup_duration"] == pytest.approx(30 - result.requests.arrival_s[0])
    here = result.requests.finish_s >= 30
    assert benchmark["metrics"]["request_totals"]["total"] == here.sum() < len(here)
    assert len(benchmark["requests"]["successful"]) == len(here)


def test_very_many_token_times_are_merged(monkeypatch):
    requests = GuideRequests.of(simulated("kv-pressure"), EPOCH_S)
    rows = requests.groups["successful"]
    every, ones = guidellm_metrics._token_times(requests, rows)
    monkeypatch.setattr(guidellm_metrics, "MOST_TOKEN_TIMES", len(every) // 5)
    some, weights = guidellm_metrics._token_times(requests, rows)
    assert len(every) == ones.sum() == requests.output_tokens.sum()
    assert len(some) < len(every) / 4
    assert weights.sum() == pytest.approx(ones.sum())
    assert some.max() == pytest.approx(every.max())


def test_bad_input(tmp_path):
    result = simulated("mm1")
    with pytest.raises(InputError, match="warmup_s is nan"):
        report(tmp_path, result, warmup_s=float("nan"))
    with pytest.raises(InputError, match="number of requests is 0"):
        report(tmp_path, make_result([]))
    assert not list(tmp_path.iterdir())
