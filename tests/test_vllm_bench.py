"""The vLLM benchmark JSON: same keys and same numbers as vLLM's own file for the same tokens."""

import json

import numpy as np
import pytest
from synthetic_results import StepLog, make_result

from analysis.slo import Slo
from analysis.vllm_bench import BenchLabels, write_vllm_bench
from latency_models.errors import InputError
from sim.results import ReplicaInfo, SimulationResult, Status

LIST_KEYS = (
    "input_lens",
    "output_lens",
    "ttfts",
    "itls",
    "latencies",
    "start_times",
    "queue_times",
    "generated_texts",
    "errors",
)


def two_requests(**last):
    log = StepLog()
    log.add_run(0.5, 0.0, 1)
    log.add_run(0.1, 0.01, 5)
    rows = [
        {
            "arrival_s": 0.0,
            "scheduled_s": 0.0,
            "first_token_s": log.ends_s[0],
            "last_token_s": log.ends_s[5],
            "finish_s": log.ends_s[5],
            "generated_tokens": 6,
            "output_tokens": 6,
        },
        {"arrival_s": 0.2, "generated_tokens": 0, "status": Status.REJECTED, "finish_s": 0.2, **last},
    ]
    return make_result(rows, runs=[log.rows, []], end_s=2.0)


def replay(recorded) -> SimulationResult:
    """The recorded tokens as a simulation: each request alone on a replica whose steps are its tokens."""
    origin = min(recorded["start_times"])
    rows, runs = [], []
    for index, start in enumerate(recorded["start_times"]):
        arrival = start - origin
        log = [[arrival, recorded["ttfts"][index], 0, 1, 1, 1, 0]]
        for itl in recorded["itls"][index]:
            log.append([log[-1][0] + log[-1][1], itl, 0, 1, 1, 1, 0])
        runs.append(log)
        rows.append(
            {
                "arrival_s": arrival,
                "replica": index,
                "scheduled_s": arrival,
                "first_token_s": log[0][0] + log[0][1],
                "last_token_s": log[-1][0] + log[-1][1],
                "finish_s": log[-1][0] + log[-1][1],
                "prompt_tokens": recorded["input_lens"][index],
                "output_tokens": recorded["output_lens"][index],
                "generated_tokens": recorded["output_lens"][index],
            }
        )
    return make_result(
        rows,
        runs=runs,
        models=("models/toyS",),
        replica_models=(0,) * len(rows),
        end_s=recorded["duration"],
    )


def test_a_replay_of_a_real_benchmark_has_the_same_numbers(data_root, tmp_path):
    recorded = json.loads((data_root / "vllm_engine" / "api_server" / "bench_rate6.json").read_text())
    path = tmp_path / "bench.json"
    write_vllm_bench(path, replay(recorded), labels=BenchLabels(date="20260101-000000", request_rate=6.0))
    written = json.loads(path.read_text())
    assert set(recorded) <= set(written)
    described = {"date", "endpoint_type", "backend", "start_times", "queue_times"}
    for key in set(recorded) - described - {"itls"}:
        if isinstance(recorded[key], (float, list)) and key not in ("generated_texts", "errors"):
            assert written[key] == pytest.approx(recorded[key], rel=1e-9, abs=1e-9), key
        else:
            assert written[key] == recorded[key], key
    assert [len(itls) for itls in written["itls"]] == [len(itls) for itls in recorded["itls"]]
    assert np.concatenate(written["itls"]) == pytest.approx(np.concatenate(recorded["itls"]), abs=1e-12)


def test_units_failures_and_goodput(tmp_path):
    path = tmp_path / "bench.json"
    write_vllm_bench(path, two_requests(), slo=Slo.parse("ttft:500"))
    found = json.loads(path.read_text())
    assert found["completed"] == 1
    assert found["failed"] == 1
    assert found["errors"] == ["", "rejected"]
    assert found["generated_texts"] == ["", ""]
    assert found["output_lens"] == [6, 0]
    assert found["itls"][0] == pytest.approx([0.1, 0.11, 0.12, 0.13, 0.14])
    assert found["itls"][1] == []
    assert found["ttfts"] == [0.5, 0.0]
    assert found["mean_ttft_ms"] == pytest.approx(500.0)
    assert found["mean_tpot_ms"] == pytest.approx(120.0)
    assert found["median_itl_ms"] == pytest.approx(120.0)
    assert found["p99_e2el_ms"] == pytest.approx(1100.0)
    assert found["request_goodput"] == pytest.approx(0.5)
    assert found["request_throughput"] == pytest.approx(0.5)
    assert found["total_token_throughput"] == pytest.approx(8.0)
    assert found["request_rate"] == "inf"
    assert all(len(found[key]) == 2 for key in LIST_KEYS)


@pytest.mark.parametrize("status", [status for status in Status if status is not Status.FINISHED])
def test_every_other_end_is_a_failure_with_its_name(tmp_path, status):
    path = tmp_path / "bench.json"
    write_vllm_bench(path, two_requests(status=status))
    assert json.loads(path.read_text())["errors"][1] == status.name.lower().replace("_", " ")


def test_nothing_finished(tmp_path):
    path = tmp_path / "bench.json"
    write_vllm_bench(path, make_result([{"arrival_s": 0.0, "status": Status.REJECTED}], end_s=0.0))
    found = json.loads(path.read_text())
    assert found["mean_ttft_ms"] == 0.0
    assert found["max_concurrent_requests"] == 0
    assert found["request_throughput"] == 0.0


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "bench.json"
    path.write_text("old")
    broken = two_requests()
    object.__setattr__(broken, "runs", (None, None))
    with pytest.raises(AttributeError):
        write_vllm_bench(path, broken)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_refuses_an_empty_run(tmp_path):
    with pytest.raises(InputError, match="requests"):
        write_vllm_bench(tmp_path / "bench.json", make_result([]))
    with pytest.raises(FileNotFoundError):
        write_vllm_bench(tmp_path / "missing" / "bench.json", two_requests())


def test_several_models_are_named_together(tmp_path):
    path = tmp_path / "bench.json"
    result = two_requests()
    assert isinstance(result.replicas[0], ReplicaInfo)
    write_vllm_bench(path, result, labels=BenchLabels(label="demo", burstiness=0.5, max_concurrency=4))
    found = json.loads(path.read_text())
    assert (found["model_id"], found["label"], found["burstiness"]) == ("small,large", "demo", 0.5)
    assert found["max_concurrency"] == 4
