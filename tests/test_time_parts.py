"""Why a latency is as long as it is: its parts sum to it, none is negative, and each is what it says."""

import math
from collections import Counter

import numpy as np
import pytest
from cluster_cases import EXACT, GROWING, LONGEST, PIECEWISE, TICK_S, cases, cluster_of, one_replica, traffic
from hypothesis import given, settings
from test_library import NEEDS_DATA, SHORT

from analysis.alone_times import AloneTimes
from analysis.metrics import RequestLatencies
from analysis.summary import summarise
from analysis.time_parts import E2E_PARTS, TTFT_PARTS, TimeParts, mean_parts
from latency_models.tables.piecewise import DecodeRow, PiecewiseStepTime, PrefillTable
from scenarios.replicated import PreparedScenario, simulate_replication
from scenarios.scenario_files import library_names, load_scenario
from sim.cluster import simulate
from sim.cluster_spec import ClusterSpec, PolicySpec, RunSpec, SpeedChange
from sim.fault_spec import Crash, FaultSpec
from sim.prompt_table import PromptTable
from sim.prompts import PromptSpec
from sim.results import SimulationResult
from sim.settings import EngineSettings
from sim.stage import StageSpec
from sim.vllm.step_timer import EngineOverhead
from sim.workload import RequestSpec

SAME_S = 1e-9


def check_parts(result: SimulationResult, cluster: ClusterSpec) -> TimeParts:
    """Whoever has a latency has parts that sum to it, none below zero; whoever has none has no parts."""
    parts = TimeParts.of(result, cluster)
    latencies = RequestLatencies.of(result.requests)
    for names, found, latency_s in (
        (TTFT_PARTS, parts.ttft_s, latencies.ttft_s),
        (E2E_PARTS, parts.e2e_s, latencies.e2e_s),
    ):
        assert tuple(found) == names
        np.testing.assert_allclose(sum(found.values()), latency_s, rtol=0, atol=SAME_S)
        for name, values in found.items():
            np.testing.assert_array_equal(np.isnan(values), np.isnan(latency_s), err_msg=name)
            assert np.nanmin(values, initial=0.0) > -SAME_S, f"{name}: {np.nanmin(values)}"
    return parts


def run(cluster: ClusterSpec, *requests: RequestSpec, **options) -> tuple[SimulationResult, TimeParts]:
    result = simulate(cluster, traffic(requests), RunSpec(**options))
    return result, check_parts(result, cluster)


def of_request(parts, row: int) -> dict[str, float]:
    """The parts of one request that are not zero."""
    return {name: float(values[row]) for name, values in parts.items() if abs(values[row]) > SAME_S}


def test_parts_of_generated_clusters():
    seen = Counter()

    @settings(max_examples=150)
    @given(cases())
    def check(case):
        result = simulate(case.cluster, case.traffic(), case.run)
        parts = check_parts(result, case.cluster)
        seen.update(name for name, values in parts.e2e_s.items() if np.nanmax(values, initial=0.0) > SAME_S)

    check()
    for name in E2E_PARTS:
        assert seen[name] >= 3, f"{name} in {seen[name]} runs only"


@pytest.mark.parametrize("name", [name for name in library_names() if name not in NEEDS_DATA])
def test_parts_of_library_scenarios(name):
    prepared = PreparedScenario.of(load_scenario(name, SHORT[name]))
    check_parts(simulate_replication(prepared, 0), prepared.cluster)


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("step_time", [EXACT, GROWING, LONGEST, PIECEWISE])
def test_alone_everything_is_prefill_and_decode(step_time, asynchronous):
    """In four chunks; the PIECEWISE tables have breakpoints between the contexts of its decode steps."""
    overhead = EngineOverhead(step_s=0.0071, per_sequence_s=0.0005)
    chosen = EngineSettings(max_num_batched_tokens=32, async_scheduling=asynchronous)
    model = one_replica(chosen, step_time, overhead=overhead)
    result, parts = run(cluster_of(model), RequestSpec(0.5, 100, 20, "alone"))
    ttft_s = float(result.requests.first_token_s[0]) - 0.5
    decode_s = float(result.requests.last_token_s[0]) - 0.5 - ttft_s
    assert of_request(parts.ttft_s, 0) == pytest.approx({"prefill": ttft_s})
    assert of_request(parts.e2e_s, 0) == pytest.approx({"prefill": ttft_s, "decode": decode_s})


def test_stages_and_waiting_are_told_apart():
    """A seat for one: the second waits until the first has gone."""
    cluster = cluster_of(
        one_replica(
            EngineSettings(max_num_seqs=1),
            api_server=StageSpec(per_request_s=0.004, workers=2),
            detokenise=StageSpec(per_token_s=0.001),
        ),
        router_stage=StageSpec(per_request_s=0.002, workers=2),
    )
    _, parts = run(cluster, RequestSpec(0.0, 10, 4, "first"), RequestSpec(0.0, 10, 4, "second"))
    own = {"router_and_api": 0.006, "prefill": TICK_S, "decode": 3 * TICK_S, "detokenise": 0.004}
    assert of_request(parts.e2e_s, 0) == pytest.approx(own)
    assert of_request(parts.e2e_s, 1) == pytest.approx({**own, "waiting": 4 * TICK_S})


def test_a_prompt_from_the_prefix_cache_is_no_prefill():
    shared = (("system", 64),)
    model = one_replica(EngineSettings(max_num_batched_tokens=16), EXACT)
    result, parts = run(
        cluster_of(model), RequestSpec(0.0, 72, 1, "a", content=shared), RequestSpec(1.0, 72, 1, "b", content=shared)
    )
    assert result.requests.cached_tokens.tolist() == [0, 64]
    assert of_request(parts.ttft_s, 0) == pytest.approx({"prefill": 5 * TICK_S})
    assert of_request(parts.ttft_s, 1) == pytest.approx({"prefill": TICK_S})


def test_others_and_slow_replicas_are_interference():
    change = SpeedChange(at_s=0.0, model=0, replica=0, slowdown=3.0)
    _, parts = run(cluster_of(one_replica(), speed_changes=(change,)), RequestSpec(0.5, 10, 5, "slow"))
    expected = {"prefill": TICK_S, "interference": 2 * TICK_S, "decode": 4 * TICK_S, "decode_interference": 8 * TICK_S}
    assert of_request(parts.e2e_s, 0) == pytest.approx(expected)

    both = (RequestSpec(0.0, 30, 8, "a"), RequestSpec(0.0, 50, 8, "b"))
    _, parts = run(cluster_of(one_replica(step_time=GROWING)), *both)
    alone = [run(cluster_of(one_replica(step_time=GROWING)), request)[1] for request in both]
    for row in (0, 1):
        found, by_itself = of_request(parts.e2e_s, row), of_request(alone[row].e2e_s, 0)
        assert (found["prefill"], found["decode"]) == pytest.approx((by_itself["prefill"], by_itself["decode"]))
        assert found["interference"] > 0
        assert found["decode_interference"] > 0


def test_a_faster_replica_leaves_no_interference():
    change = SpeedChange(at_s=0.0, model=0, replica=0, slowdown=0.5)
    _, parts = run(cluster_of(one_replica(), speed_changes=(change,)), RequestSpec(0.5, 10, 5, "fast"))
    assert of_request(parts.e2e_s, 0) == pytest.approx({"prefill": TICK_S / 2, "decode": 2 * TICK_S})


@pytest.mark.parametrize("asynchronous", [False, True])
def test_waiting_after_preemptions_is_told_apart_by_the_first_token(asynchronous):
    """Blocks of one token, 40 of them, and two requests that need 30 each: the later one has to go, and comes again."""
    settings_ = EngineSettings(
        num_gpu_blocks=41, block_size=1, async_scheduling=asynchronous, enable_prefix_caching=False
    )
    result, parts = run(
        cluster_of(one_replica(settings_)), RequestSpec(0.0, 10, 20, "stays"), RequestSpec(0.0, 10, 20, "goes")
    )
    assert result.requests.preemptions.tolist() == [0, 1]
    ((_, row, from_s, to_s),) = result.preemptions.tolist()
    assert row == 1
    # It comes back when the other has finished, and had got a token at the end of each step before.
    assert to_s == pytest.approx(float(result.requests.finish_s[0]), abs=TICK_S + SAME_S)
    found = of_request(parts.e2e_s, 1)
    assert found["preempted_later"] == pytest.approx(to_s - from_s)
    assert found["decode"] == pytest.approx(19 * TICK_S)

    slow = EngineSettings(
        num_gpu_blocks=31,
        block_size=1,
        max_num_batched_tokens=4,
        async_scheduling=asynchronous,
        scheduler_reserve_full_isl=False,
        enable_prefix_caching=False,
    )
    result, parts = run(
        cluster_of(one_replica(slow)), RequestSpec(0.0, 10, 19, "decodes"), RequestSpec(0.0, 25, 2, "prefills")
    )
    assert result.requests.preemptions[0] == 0
    assert len(result.preemptions) == result.requests.preemptions[1] > 1
    assert (result.preemptions[:, 2] < result.requests.first_token_s[1]).all()
    found = of_request(parts.ttft_s, 1)
    assert found["preempted"] == pytest.approx(float((result.preemptions[:, 3] - result.preemptions[:, 2]).sum()))
    assert found["prefill"] == pytest.approx(7 * TICK_S)
    assert found["interference"] > 0, "what was computed before the preemption is computed again"


def test_earlier_models_of_a_cascade_are_a_part():
    table = PromptTable(
        models=("a", "b"),
        predicted=np.array([[0.1, 0.9]]),
        outcomes=np.array([[0.0, 1.0]]),
        output_tokens=np.array([[4.0, 2.0]]),
    )
    cluster = cluster_of(
        one_replica(name="a", detokenise=StageSpec(per_request_s=0.01)),
        one_replica(name="b"),
        router=PolicySpec(kind="cascade", options={"threshold": 0.5, "informed": 1.0}),
        prompts=PromptSpec(table=table, lengths="table"),
    )
    result, parts = run(cluster, RequestSpec(0.0, 10, 4, "asked twice"))
    assert len(result.rejected_answers) == 1
    expected = {"earlier_models": 4 * TICK_S + 0.01, "prefill": TICK_S, "decode": TICK_S}
    assert of_request(parts.e2e_s, 0) == pytest.approx(expected)


def test_starts_that_a_crash_made_void_are_a_part():
    faults = FaultSpec(load_s=(0.25,), restart_s=0.0, crashes=(Crash(at_s=2.5 * TICK_S, model=0, replica=0),))
    result, parts = run(cluster_of(one_replica(), faults=faults), RequestSpec(0.0, 10, 5, "lost"))
    assert result.requests.retries.tolist() == [1]
    expected = {"outages": 2.5 * TICK_S + 0.25, "prefill": TICK_S, "decode": 4 * TICK_S}
    assert of_request(parts.e2e_s, 0) == pytest.approx(expected)


def test_times_that_the_model_refuses_are_unknown():
    """Measured up to a context of 90 tokens and from two sequences on."""
    table = PiecewiseStepTime(
        decode=(
            DecodeRow(batch=1, context_tokens=(50, 90), step_s=(0.006, 0.01)),
            DecodeRow(batch=4, context_tokens=(200, 360), step_s=(0.008, 0.02)),
        ),
        prefill=PrefillTable(tokens=(1, 64), step_s=(0.006, 0.03)),
    )
    alone = AloneTimes(cluster_of(one_replica(step_time=table)))
    replica = np.zeros(3, dtype=np.int64)
    prompts = np.array([60, 20, 60])
    decode_s = alone.decode_s(replica, prompts, np.array([3, 3, 50]))
    assert np.isnan(decode_s).tolist() == [False, True, True]
    assert decode_s[0] == pytest.approx(2 * 0.006 + 0.004 * (11 + 12) / 40)
    assert np.isnan(alone.prefill_s(replica, np.array([60, 20, 65]), 0 * prompts)).tolist() == [False, False, True]


def test_the_slowest_of_a_group_are_a_twentieth_of_it():
    latency_s = np.array([math.nan, *np.arange(1.0, 42.0)])
    parts = {"waiting": latency_s - 1, "prefill": np.ones(42)}
    everyone = mean_parts(parts, latency_s, np.arange(42))
    assert everyone["mean"] == {"waiting": 20.0, "prefill": 1.0}
    assert everyone["slowest"] == {"waiting": 39.0, "prefill": 1.0}, "three of 41"
    assert mean_parts(parts, latency_s, np.array([0, 5]))["slowest"] == {"waiting": 4.0, "prefill": 1.0}
    assert all(math.isnan(value) for value in mean_parts(parts, latency_s, np.array([0]))["slowest"].values())


def test_summaries_have_parts_where_the_cluster_is_known():
    prepared = PreparedScenario.of(load_scenario("kv-pressure", SHORT["kv-pressure"]))
    result = simulate_replication(prepared, 0)
    plain = summarise(result, warmup_s=20.0)
    summary = summarise(result, warmup_s=20.0, cluster=prepared.cluster)
    assert "ttft_parts_s" not in plain["overall"]
    for groups in (summary, *summary["by_model_and_class"].values()):
        for group in groups.values() if groups is not summary else (summary["overall"],):
            for names, metric in ((TTFT_PARTS, "ttft"), (E2E_PARTS, "e2e")):
                found = group[f"{metric}_parts_s"]
                assert list(found) == ["mean", "slowest"]
                assert tuple(found["mean"]) == names
                assert sum(found["mean"].values()) == pytest.approx(group[f"{metric}_s"]["mean"])
                assert group[f"{metric}_s"]["p95"] <= sum(found["slowest"].values()) + SAME_S
    assert summary["overall"]["ttft_parts_s"]["mean"]["preempted"] >= 0
    assert summary["overall"]["e2e_parts_s"]["mean"]["preempted_later"] > 0
