"""Traces for Perfetto: valid, complete, cut to the window, and the same steps and requests as the simulation's."""

import json
from collections import Counter, defaultdict
from dataclasses import replace

import numpy as np
import pytest
from cluster_cases import GROWING, TICK_S, cases, cluster_of, one_replica, traffic
from hypothesis import given, settings
from invariants import run_log, step_ends
from test_library import SHORT

from analysis.exports.lives import Lives, LoadSteps
from analysis.exports.perfetto import write_perfetto
from analysis.exports.window import Window
from latency_models.errors import InputError
from scenarios.replicated import PreparedScenario, simulate_replication
from scenarios.scenario_files import load_scenario
from sim.cluster import simulate
from sim.cluster_spec import PolicySpec, RunSpec
from sim.fault_spec import Crash, FaultSpec
from sim.prompt_table import PromptTable
from sim.prompts import PromptSpec
from sim.results import SimulationResult
from sim.settings import EngineSettings
from sim.stage import StageSpec
from sim.vllm.engine_trace import replay
from sim.workload import RequestSpec

NS = 1e-3
"""A nanosecond, in the format's microseconds."""


def traced(tmp_path, result: SimulationResult, **options) -> list[dict]:
    path = tmp_path / "trace.json"
    write_perfetto(path, result, **options)
    content = json.loads(path.read_text())
    check_format(content)
    return content["traceEvents"]


def check_format(content: dict) -> None:
    """What Google's "Trace Event Format" asks for, and that slices nest."""
    assert content["displayTimeUnit"] == "ms"
    events = content["traceEvents"]
    named = {event["pid"] for event in events if event["name"] == "process_name"}
    open_slices = defaultdict(list)
    last_end = defaultdict(float)
    for event in events:
        kind = event["ph"]
        assert event["pid"] in named
        assert isinstance(event["tid"], int)
        if kind == "M":
            assert event["name"] in ("process_name", "process_sort_index", "thread_name")
            continue
        assert np.isfinite(event["ts"])
        assert event["ts"] >= 0
        if kind == "X":
            track = (event["pid"], event["tid"])
            assert event["dur"] >= 0
            assert event["ts"] >= last_end[track] - NS / 2, "slices of a thread overlap"
            last_end[track] = event["ts"] + event["dur"]
        elif kind == "C":
            assert all(isinstance(value, int) and value >= 0 for value in event["args"].values())
        else:
            assert kind in "be"
            slices = open_slices[event["pid"], event["cat"], event["id2"]["local"]]
            if kind == "b":
                assert not slices or event["ts"] >= slices[-1]["ts"]
                slices.append(event)
            else:
                begun = slices.pop()
                assert begun["name"] == event["name"]
                assert event["ts"] >= begun["ts"]
    assert not any(open_slices.values()), "a slice has no end"


def steps_of(events: list[dict], process: int = 1) -> list[dict]:
    return [event for event in events if event["ph"] == "X" and event["pid"] == process]


def slices_of(events: list[dict], identity: str) -> list[tuple[str, float, float]]:
    """Name, begin and end (seconds) of the slices of one request, in order of their begin."""
    found, open_slices = [], []
    for event in events:
        if event.get("id2", {}).get("local") == identity:
            if event["ph"] == "b":
                open_slices.append([event["name"], event["ts"] / 1e6, None])
                found.append(open_slices[-1])
            else:
                open_slices.pop()[2] = event["ts"] / 1e6
    return [tuple(entry) for entry in found]


def run(*requests: RequestSpec, model=None, **options) -> SimulationResult:
    cluster = cluster_of(model or one_replica(), **options)
    return simulate(cluster, traffic(requests), RunSpec())


@settings(max_examples=40)
@given(case=cases())
def test_traces_of_generated_clusters_are_valid(case, tmp_path_factory):
    result = simulate(case.cluster, case.traffic(), case.run)
    if not result.end_s:
        return
    events = traced(tmp_path_factory.mktemp("traces"), result)
    for replica in range(len(result.replicas)):
        log = run_log(result, replica)
        steps = steps_of(events, replica + 1)
        assert len(steps) == log[:, 3].sum(), "every step is there"
        np.testing.assert_allclose(
            [step["ts"] + step["dur"] for step in steps], 1e6 * step_ends(log), rtol=0, atol=2 * NS
        )
        assert sum(step["args"]["tokens"] for step in steps) == (log[:, 3] * log[:, 5]).sum()
    begun = Counter(event["name"] for event in events if event["ph"] == "b")
    assert begun["request"] == len(result.requests)
    assert begun["answer not passed on"] == len(result.rejected_answers)
    # A token of its own ends a pause at once, if it was on the way.
    assert begun["preempted"] <= len(result.preemptions)


@pytest.mark.parametrize("name", ["kv-pressure", "older-engine", "overload-drain-limits", "replica-crash", "plan-demo"])
def test_traces_of_library_scenarios_are_valid_and_smaller_than_foretold(name, tmp_path):
    prepared = PreparedScenario.of(load_scenario(name, SHORT[name]))
    result = simulate_replication(prepared, 0)
    size = write_perfetto(tmp_path / "trace.json", result).bytes
    check_format(json.loads((tmp_path / "trace.json").read_text()))
    assert write_perfetto(tmp_path / "again.json", result, max_bytes=2 * size + 1e4).bytes == size
    with pytest.raises(InputError, match="a trace of the window 0:"):
        write_perfetto(tmp_path / "large.json", result, max_bytes=size - 1)
    assert not (tmp_path / "large.json").exists()


def test_a_window_that_is_said_to_fit_does(tmp_path):
    result = simulate_replication(PreparedScenario.of(load_scenario("kv-pressure", SHORT["kv-pressure"])), 0)
    with pytest.raises(InputError) as refused:
        write_perfetto(tmp_path / "trace.json", result, window=Window(from_s=20.0, to_s=90.0), max_bytes=3e5)
    message = str(refused.value)
    assert "more than 0.3 MB" in message
    fits = Window.parse(message.split("; ")[1].split(" fits")[0])
    assert fits.from_s == 20
    assert fits.to_s > 25
    assert write_perfetto(tmp_path / "trace.json", result, window=fits, max_bytes=3e5).bytes <= 3e5


def random_requests(count: int = 40) -> list[RequestSpec]:
    rng = np.random.default_rng(3)
    return [
        RequestSpec(float(arrival_s), int(rng.integers(2, 50)), int(rng.integers(1, 40)), f"r{row}")
        for row, arrival_s in enumerate(np.sort(rng.uniform(0, 3, count)))
    ]


TIGHT = EngineSettings(num_gpu_blocks=41, block_size=4, max_num_seqs=8, max_num_batched_tokens=32, max_model_len=96)
OLDER = EngineSettings(
    scheduler="vllm-v0",
    num_gpu_blocks=41,
    block_size=4,
    max_num_seqs=8,
    max_num_batched_tokens=96,
    max_model_len=96,
    enable_chunked_prefill=False,
    enable_prefix_caching=False,
)


@pytest.mark.parametrize("chosen", [TIGHT, replace(TIGHT, async_scheduling=True), OLDER])
def test_steps_are_those_of_the_engine_trace(chosen, tmp_path):
    """The engine's own record of who computes what, step by step, under preemptions."""
    requests = random_requests()
    recorded = replay(requests, chosen, GROWING, mode="reference").steps
    result = simulate(cluster_of(one_replica(chosen, GROWING)), traffic(requests), RunSpec())
    assert result.requests.preemptions.sum() > 5
    steps = steps_of(traced(tmp_path, result))
    assert len(steps) == len(recorded)
    same = 0
    for step, row in zip(steps, recorded, strict=True):
        assert (step["args"]["batch"], step["args"]["tokens"]) == (row["n_seqs"], row["n_tokens"])
        kind = (
            "mixed" if row["n_prefill_seqs"] and row["n_decode"] else "prefill" if row["n_prefill_seqs"] else "decode"
        )
        same += (step["name"], step["args"]["prefilling"]) == (kind, row["n_prefill_seqs"])
    # What one token of a longer prefill is, or of a recomputed one, cannot be told from the log.
    assert same >= 0.97 * len(steps)
    firsts = [name for step in steps for name in step["args"].get("first_token_of", ())]
    lasts = [name for step in steps for name in step["args"].get("last_token_of", ())]
    assert sorted(firsts) == sorted(lasts) == sorted(request.request_id for request in requests)


@settings(max_examples=60)
@given(case=cases())
def test_counts_of_requests_are_those_of_the_samples(case):
    """Without crashes, whose victims' earlier starts are not kept, and without asynchronous scheduling, under which a
    preemption takes effect one step after its decision."""
    if case.cluster.faults is not None or any(
        replica.settings.async_scheduling for model in case.cluster.models for replica in model.replicas
    ):
        return
    result = simulate(case.cluster, case.traffic(), case.run)
    lives = Lives.of(result)
    moments = np.concatenate(
        [
            *(getattr(lives, name) for name in ("queued_s", "scheduled_s", "left_engine_s")),
            result.requests.finish_s,
            *result.preemptions[:, 2:].T,
        ]
    )
    for replica in range(len(result.replicas)):
        load = LoadSteps.of(lives.at(replica), result.preemptions[result.preemptions[:, 0] == replica])
        for time_s, _, running, waiting, *_ in result.samples[result.samples[:, 1] == replica].tolist():
            # Samples are taken in the midst of an instant at which something happens, and the engine lets go of a
            # cancelled request only at the next step's end.
            if not (np.abs(moments - time_s) < 0.1).any():
                assert load.at(time_s) == (running, waiting)


def test_stages_of_a_request_are_its_slices(tmp_path):
    model = one_replica(
        EngineSettings(max_num_seqs=1),
        api_server=StageSpec(per_request_s=0.004, workers=2),
        detokenise=StageSpec(per_request_s=0.002),
    )
    events = traced(tmp_path, run(RequestSpec(0.0, 10, 4, "first"), RequestSpec(0.0, 10, 4, "second"), model=model))
    names, begins, ends = zip(*slices_of(events, "1"), strict=True)
    assert names == ("request", "router and API", "waiting", "prefill", "decode", "detokenise")
    durations = np.subtract(ends, begins)
    np.testing.assert_allclose(durations[1:], [0.004, 4 * TICK_S, TICK_S, 3 * TICK_S, 0.002], atol=1e-8)
    assert durations[0] == pytest.approx(durations[1:].sum())
    (begun,) = (event for event in events if event["ph"] == "b" and event.get("args", {}).get("id") == "second")
    assert begun["args"]["status"] == "finished"
    assert begun["args"]["e2e_ms"] == pytest.approx(1e3 * durations[0])


def test_a_preempted_request_shows_its_wait_inside_its_decode(tmp_path):
    chosen = EngineSettings(num_gpu_blocks=41, block_size=1, enable_prefix_caching=False)
    result = run(RequestSpec(0.0, 10, 20, "stays"), RequestSpec(0.0, 10, 20, "goes"), model=one_replica(chosen))
    slices = slices_of(traced(tmp_path, result), "1")
    assert [name for name, _, _ in slices] == ["request", "prefill", "decode", "preempted"]
    assert slices[3][1:] == pytest.approx(tuple(result.preemptions[0, 2:]))
    assert slices[2][1] < slices[3][1] < slices[3][2] < slices[2][2]


def test_answers_that_were_not_passed_on_are_slices_of_their_model(tmp_path):
    table = PromptTable(
        models=("a", "b"),
        predicted=np.array([[0.1, 0.9]]),
        outcomes=np.array([[0.0, 1.0]]),
        output_tokens=np.array([[4.0, 2.0]]),
    )
    cluster = cluster_of(
        one_replica(name="a"),
        one_replica(name="b"),
        router=PolicySpec(kind="cascade", options={"threshold": 0.5, "informed": 1.0}),
        prompts=PromptSpec(table=table, lengths="table"),
    )
    events = traced(tmp_path, simulate(cluster, traffic([RequestSpec(0.0, 10, 4, "asked")]), RunSpec()))
    names = {event["pid"]: event["args"]["name"] for event in events if event["name"] == "process_name"}
    where = {event["id2"]["local"]: names[event["pid"]] for event in events if event["ph"] == "b"}
    assert where == {"0": "b: requests", "0.1": "a: requests"}
    assert [name for name, _, _ in slices_of(events, "0")] == ["request", "earlier models", "prefill", "decode"]
    assert [name for name, _, _ in slices_of(events, "0.1")] == ["answer not passed on", "prefill", "decode"]


def test_only_a_whole_answer_has_a_last_token(tmp_path):
    requests = (
        RequestSpec(0.0, 10, 5, "whole"),
        RequestSpec(0.0, 10, 500, "cancelled", cancel_after_s=3.5 * TICK_S),
        RequestSpec(0.0, 10, 500, "cut"),
    )
    cluster = cluster_of(one_replica(EngineSettings(max_num_seqs=3)))
    events = traced(tmp_path, simulate(cluster, traffic(requests), RunSpec(until_s=10.5 * TICK_S)))
    steps = [step["args"] for step in steps_of(events)]
    assert [name for step in steps for name in step.get("first_token_of", ())] == ["whole", "cancelled", "cut"]
    assert [name for step in steps for name in step.get("last_token_of", ())] == ["whole"]


def test_who_is_cancelled_decodes_until_it_leaves(tmp_path):
    """A step computes a token of one that was cancelled during it, beside the prompt of another."""
    requests = (
        RequestSpec(0.0, 10, 500, "cancelled", cancel_after_s=5.5 * TICK_S),
        RequestSpec(4.5 * TICK_S, 10, 3, "new"),
    )
    events = traced(tmp_path, run(*requests, model=one_replica(EngineSettings(max_num_seqs=3))))
    (mixed,) = (step["args"] for step in steps_of(events)[1:] if step["args"]["tokens"] > step["args"]["batch"])
    assert (mixed["prefilling"], mixed["decoding"]) == (1, 1)


def test_before_a_crash_only_what_is_known_is_said(tmp_path):
    """The victim's first start is void: nobody knows that it was decoding beside the other one's prompt."""
    faults = FaultSpec(load_s=(0.0,), crashes=(Crash(at_s=7.5 * TICK_S, model=0),))
    requests = (RequestSpec(0.0, 10, 9, "victim"), RequestSpec(3.5 * TICK_S, 10, 3, "served"))
    events = traced(tmp_path, run(*requests, faults=faults))
    begun = [(step["name"], step["args"]) for step in steps_of(events)]
    assert ("mixed", {"batch": 2, "tokens": 11, "kv_blocks": 2, "first_token_of": ["served"]}) in begun
    (cut,) = (args for name, args in begun if name == "cut off")
    assert (cut["batch"], cut["tokens"]) == (1, 0)
    assert "decoding" not in cut


def test_only_what_lies_in_the_window_is_shown(tmp_path):
    requests = (RequestSpec(0.0, 10, 64, "long"), RequestSpec(0.2, 10, 4, "before"), RequestSpec(2.0, 10, 4, "after"))
    window = Window(from_s=0.505, to_s=0.75)
    events = traced(tmp_path, run(*requests), window=window)
    times_s = [event["ts"] / 1e6 for event in events if "ts" in event]
    assert min(times_s) == pytest.approx(0.505)
    assert max(times_s) <= 0.75
    assert slices_of(events, "0") == [("request", 0.505, 0.75), ("decode", 0.505, 0.75)]
    assert not slices_of(events, "1")
    assert not slices_of(events, "2")
    (begun,) = (event for event in events if event["ph"] == "b" and event["name"] == "request")
    assert begun["args"]["cut_by_window"]
    assert begun["args"]["e2e_ms"] == pytest.approx(1e3 * TICK_S * 64)
    steps = steps_of(events)
    assert len(steps) == 16
    assert steps[0]["ts"] == pytest.approx(0.505e6)
    first = [event for event in events if event["ph"] == "C"][:3]
    assert [event["args"] for event in first] == [{"running": 1, "waiting": 0}, {"sequences": 1}, {"used": 2}]


def test_an_idle_replica_counts_nothing(tmp_path):
    events = traced(tmp_path, run(RequestSpec(0.0, 10, 4), RequestSpec(1.0, 10, 4)))
    batch = [(event["ts"] / 1e6, event["args"]["sequences"]) for event in events if event["name"] == "batch"]
    assert (4 * TICK_S, 0) in batch
    used = [event["args"]["used"] for event in events if event["name"] == "KV blocks"]
    assert 0 in used


def test_kv_blocks_are_counted_within_long_runs_of_steps(tmp_path):
    """One run of 199 steps, in which the samples tell how many blocks there are."""
    events = traced(tmp_path, run(RequestSpec(0.0, 10, 200)))
    used = {event["ts"] / 1e6: event["args"]["used"] for event in events if event["name"] == "KV blocks"}
    assert len(steps_of(events)) == 200
    assert used[1.0] == -(-(10 + 64) // 16)
    assert used[3.0] == -(-(10 + 192) // 16)


@pytest.mark.parametrize(
    "text", ["", "60", "60:60", "70:60", "-1:60", "nan:60", "0:nan", "0:inf", "inf:", "a:b", "1:2:3"]
)
def test_a_window_is_two_times(text):
    with pytest.raises(InputError, match=r"--window is .*; allowed: FROM:TO in seconds"):
        Window.parse(text)


def test_windows_may_be_open_and_end_with_the_run():
    assert Window.parse(":60") == Window(from_s=0.0, to_s=60.0)
    assert Window.parse("60:").within(100.0) == Window(from_s=60.0, to_s=100.0)
    with pytest.raises(InputError, match="window is '100:200'; allowed: a beginning before 100 s, when the run ended"):
        Window.parse("100:200").within(100.0)
    for bad in (-1.0, float("nan")):
        with pytest.raises(InputError, match="window"):
            Window(from_s=bad)
