"""`routerwise calibrate` end to end: what a simulation wrote gives its law back."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from click.testing import CliRunner

from latency_models.config import parse_latency
from latency_models.laws.linear import LinearStepTime
from scenarios.calibration.bench_steps import BenchTokens, read_bench_tokens, recover_steps
from scenarios.calibration.iteration_log import read_iteration_log
from scenarios.calibration.request_columns import server_of
from scenarios.cli import cli
from scenarios.measurements.logs import read_log
from scenarios.measurements.measurement_files import with_values
from scenarios.measurements.replay import replay

EXAMPLES = Path(__file__).resolve().parents[1] / "docs" / "examples"
TRUTH = {
    "base_s": 0.012,
    "per_token_s": 7e-5,
    "per_sequence_s": 2e-5,
    "per_context_token_s": 3e-7,
    "per_prefill_pair_s": 3e-9,
}
ENGINE = {"max_num_seqs": 128, "max_num_batched_tokens": 2048, "max_model_len": 8192, "num_gpu_blocks": 20000}
SCENARIO = {
    "name": "server",
    "seed": 3,
    "gpus": {"count": 1, "memory_gib": 80},
    "models": {"m": {"latency": {"kind": "linear", **TRUTH}, "engine": ENGINE, "replicas": [{"gpus": [0]}]}},
    "workload": {
        "kind": "synthetic",
        "arrivals": {"kind": "poisson", "rate_per_s": 6},
        "lengths": {
            "prompt": {"kind": "lognormal", "mean": 600, "cv": 1.5, "maximum": 6000},
            "output": {"kind": "lognormal", "mean": 100, "cv": 1.0, "maximum": 1000},
        },
        "duration_s": 60,
    },
    "run": {"warmup": 0},
}


def run(*arguments):
    result = CliRunner().invoke(cli, [str(each) for each in arguments])
    return result.exit_code, result.output, result.exception


def calibrate(*arguments):
    status, output, error = run("calibrate", *arguments)
    assert status == 0, (output, error)
    return output


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    """Files of `routerwise run` on the scenario above."""
    folder = tmp_path_factory.mktemp("simulated")
    (folder / "server.yaml").write_text(yaml.safe_dump(SCENARIO))
    status, output, error = run(
        "run", folder / "server.yaml", "--out", folder / "run", "--vllm-bench-json", folder / "bench.json"
    )
    assert status == 0, (output, error)
    return folder


def settings():
    return [part for name, value in ENGINE.items() for part in ("--set", f"engine.{name}={value}")]


def assert_holds_the_truth(model, truth=TRUTH):
    values = yaml.safe_load(model.read_text())
    for name, true in truth.items():
        low, high = values["intervals"][name]
        assert low <= true <= high, (name, low, values["latency"][name], high)
    return values


def test_benchmark_json_of_a_simulation_gives_its_law_back(simulated, tmp_path):
    output = calibrate(simulated / "bench.json", "--out", tmp_path / "model.yaml")
    values = assert_holds_the_truth(tmp_path / "model.yaml")
    assert {name: values["latency"][name] for name in TRUTH} == pytest.approx(TRUTH, rel=1e-6)
    # Every step's composition is found, chunks of long prompts included.
    assert values["errors"]["mixed"]["p90"] < 1e-6
    assert abs(values["errors"]["all"]["bias"]) < 1e-6
    assert "cross-validated error" in output


def test_requests_of_a_simulation_give_its_law_back(simulated, tmp_path):
    calibrate(simulated / "run" / "requests.csv", *settings(), "--out", tmp_path / "model.yaml")
    values = assert_holds_the_truth(tmp_path / "model.yaml")
    assert values["latency"]["base_s"] == pytest.approx(TRUTH["base_s"], rel=0.02)
    assert values["latency"]["per_token_s"] == pytest.approx(TRUTH["per_token_s"], rel=0.03)
    assert values["errors"]["e2e"]["median"] < 0.02


@pytest.mark.parametrize("noise", [0.0, 0.05])
def test_step_log_of_a_simulated_engine_gives_its_law_back(tmp_path, noise):
    rng = np.random.default_rng(4)
    workload = [
        {
            "id": f"r{number}",
            "arrival": 0.15 * number,
            "prompt_len": int(rng.integers(10, 3000)),
            "output_len": int(rng.integers(5, 120)),
        }
        for number in range(150)
    ]
    (tmp_path / "workload.jsonl").write_text("\n".join(map(json.dumps, workload)))
    truth = {"base_s": 0.012, "per_token_s": 7e-5, "per_sequence_s": 2e-4, "per_context_token_s": 3e-7}
    law = dict(zip("abcd", truth.values(), strict=True))
    (tmp_path / "settings.json").write_text(json.dumps({"engine": {"num_gpu_blocks": 50000}, "step_time": law}))
    status, output, error = run(
        "engine", tmp_path / "workload.jsonl", tmp_path / "settings.json", "--out", tmp_path / "run"
    )
    assert status == 0, (output, error)
    log = tmp_path / "run" / "steps.csv"
    if noise:
        header, *rows = log.read_text().splitlines()
        start, end = (header.split(",").index(name) for name in ("t_start", "t_end"))
        with log.open("w") as stream:
            stream.write(header + "\n")
            for row in rows:
                cells = row.split(",")
                spent = float(cells[end]) - float(cells[start])
                cells[end] = repr(float(cells[start]) + spent * rng.lognormal(0.0, noise))
                stream.write(",".join(cells) + "\n")
    calibrate(log, "--out", tmp_path / "model.yaml")
    values = assert_holds_the_truth(tmp_path / "model.yaml", truth)
    if noise:
        assert values["errors"]["all"]["median"] == pytest.approx(0.6745 * noise, rel=0.15)


def sweep_rows(tmp_path, load, levels):
    """A sweep as the simulator answers it under a known law."""
    path = tmp_path / f"{load}.csv"

    def write(latencies):
        lines = [f"{level},300,24,{ttft:.6f},{tpot:.6f}" for level, (ttft, tpot) in zip(levels, latencies, strict=True)]
        path.write_text(f"{load},isl,osl,mean_ttft_ms,mean_tpot_ms\n" + "\n".join(lines))

    write([(1.0, 1.0)] * len(levels))
    columns = {"concurrency": load, "prompt_tokens": "isl", "output_tokens": "osl"}
    columns |= {"ttft": "mean_ttft_ms", "tpot": "mean_tpot_ms"}
    server = server_of({"kind": "closed-loop", "path": str(path), "columns": columns}, {})
    law = {"latency.base_s": 0.012, "latency.per_token_s": 7e-5, "latency.per_context_token_s": 3e-6}
    predicted = replay(with_values(server, law), read_log(server.log)).predicted
    write(list(zip(1e3 * predicted["ttft"], 1e3 * predicted["tpot"], strict=True)))
    return path


def test_concurrency_sweep_gives_its_law_back(tmp_path):
    path = sweep_rows(tmp_path, "concurrency", (1, 2, 4, 8, 16))
    calibrate(path, "--out", tmp_path / "model.yaml")
    assert_holds_the_truth(tmp_path / "model.yaml", {"base_s": 0.012, "per_token_s": 7e-5, "per_context_token_s": 3e-6})


def test_the_model_file_is_a_latency_section(simulated, tmp_path):
    calibrate(simulated / "bench.json", "--out", tmp_path / "model.yaml")
    model = parse_latency({"kind": "file", "path": str(tmp_path / "model.yaml")}).build()
    assert isinstance(model, LinearStepTime)
    assert model.base_s == pytest.approx(0.012, rel=1e-4)


def test_recovered_steps_are_those_that_the_server_logged():
    """The same run seen by the client and, in real recordings, by the server."""
    tokens = read_bench_tokens(EXAMPLES / "vllm-cpu.bench.json.gz")
    steps = recover_steps(tokens, token_budget=2048)
    assert steps.decode_seqs.sum() == 11951
    assert steps.prefill_seqs.sum() == 240
    assert len(steps.end_s) == pytest.approx(5410, rel=0.003)


def test_recovered_steps_match_the_server_s_log_one_by_one(data_root):
    folder = data_root / "vllm_engine" / "api_server"
    logged = read_iteration_log(folder / "iterations_rate6.log.gz").table
    recovered = recover_steps(read_bench_tokens(folder / "bench_rate6.json"), token_budget=2048)
    counts = {}
    for seqs in logged.decode_seqs.astype(int).tolist():
        counts[seqs] = counts.get(seqs, 0) + 1
    wrong = sum(
        abs(counts.get(seqs, 0) - int(found)) for seqs, found in enumerate(np.bincount(recovered.decode_seqs).tolist())
    )
    assert wrong / len(logged) < 0.005


def test_example_step_log_separates_cpu_time_and_noise_and_draws_residuals(tmp_path):
    output = calibrate(
        EXAMPLES / "vllm-cpu.steps.csv.gz", "--separate-overhead", "--noise", "--plot", tmp_path / "residuals.png",
        "--out", tmp_path / "model.yaml",
    )  # fmt: skip
    assert "beside the law" in output
    assert (tmp_path / "residuals.png").read_bytes().startswith(b"\x89PNG")
    values = yaml.safe_load((tmp_path / "model.yaml").read_text())
    # The engine's own clock: about 0.1 ms for scheduling and updating one sequence, of 3 ms for the step.
    assert 0.5e-4 < values["engine_overhead"]["cpu_overhead_s"] < 2e-4
    assert 0.002 < values["latency"]["base_s"] < 0.004
    assert values["noise"]["kind"] == "lognormal"
    assert 0.02 < values["noise"]["sigma"] < 0.2
    assert values["provenance"]["rows_used"] == 3000
    assert len(values["provenance"]["files"][0]["sha256"]) == 64


def test_grid_of_a_real_gpu(data_root, tmp_path):
    path = data_root / "data" / "muxserve_a100_steptime" / "steptime_llama_a100.csv"
    output = calibrate(path, "--where", "model=llama-7b", "--where", "tp=1", "--out", tmp_path / "model.yaml")
    assert "per_prefill_pair_s (the time per query-key pair of prefill attention) is badly known" in output
    values = yaml.safe_load((tmp_path / "model.yaml").read_text())
    assert values["latency"]["base_s"] == pytest.approx(0.0108, rel=0.03)
    assert values["valid_range"]["context_per_sequence"] == [32.0, 512.0]


def test_requests_of_the_real_engine_give_the_law_of_its_steps(data_root, tmp_path):
    folder = data_root / "vllm_engine"
    (tmp_path / "engine.json").write_text(
        json.dumps(json.loads((folder / "toyS_moderate.settings.json").read_text()) | {"async_scheduling": False})
    )
    calibrate(folder / "toyS_moderate.steps.csv.gz", "--out", tmp_path / "steps.yaml")
    calibrate(
        folder / "toyS_moderate.requests.csv.gz",
        "--engine",
        tmp_path / "engine.json",
        "--out",
        tmp_path / "requests.yaml",
    )
    by_step = yaml.safe_load((tmp_path / "steps.yaml").read_text())["latency"]
    values = yaml.safe_load((tmp_path / "requests.yaml").read_text())
    for name in ("base_s", "per_token_s", "per_sequence_s", "per_context_token_s"):
        low, high = values["intervals"][name]
        assert low <= by_step[name] <= high, name


def test_iteration_log_takes_contexts_from_the_cache_usage_when_its_size_is_given(tmp_path):
    line = (
        "INFO 11-21 21:18:48 Engine 000: Iteration({}): {} context requests, {} context tokens, {} generation "
        "requests, {} generation tokens, iteration elapsed time: {} ms, GPU KV cache usage: {}%\n"
    )
    rows = [(0, 1, 100, 0, 0, 20.0, 1.0), (1, 0, 0, 1, 1, 10.0, 1.5), (2, 1, 50, 1, 1, 15.0, 2.0)]
    rows += [(3, 0, 0, 2, 2, 11.0, 2.0), (4, 0, 0, 1, 1, 10.0, 1.0)]
    path = tmp_path / "server.log"
    path.write_text("something else\n" + "".join(line.format(*row) for row in rows))
    reckoned = read_iteration_log(path).table
    assert reckoned.decode_context.tolist() == [0.0, 101.0, 102.0, 154.0, 78.0]
    assert reckoned.prefill_work.tolist() == [5000.0, 0.0, 1250.0, 0.0, 0.0]
    given = read_iteration_log(path, kv_tokens=10_000)
    assert given.table.decode_context.tolist() == [100.0, 150.0, 200.0, 200.0, 100.0]
    assert given.recorded == "11-21 21:18:48"


def test_bench_prompts_longer_than_the_budget_are_traced_back():
    """One request decodes; another's 5000 tokens take three steps beside it."""
    times = [np.array([0.1 * step for step in range(1, 9)]), np.array([0.4, 0.5])]
    stacked = np.concatenate(times)
    order = np.argsort(stacked, kind="stable")
    tokens = BenchTokens(
        time_s=stacked[order],
        request=np.repeat([0, 1], [8, 2])[order],
        position=np.concatenate([np.arange(8), np.arange(2)])[order],
        start_s=np.array([0.0, 0.095]),
        prompt_tokens=np.array([10, 5000]),
        output_tokens=np.array([8, 2]),
        dropped={},
        recorded=None,
    )
    steps = recover_steps(tokens, token_budget=2048)
    assert steps.decode_seqs.tolist() == [0, 1, 1, 1, 2, 1, 1, 1]
    assert steps.prefill_tokens.tolist() == [10, 2047, 2047, 906, 0, 0, 0, 0]
    assert steps.prefill_context.tolist() == [10, 2047, 4094, 5000, 0, 0, 0, 0]
    assert steps.ended_prefills.tolist() == [1, 0, 0, 1, 0, 0, 0, 0]
    assert steps.busy.tolist() == [False, *[True] * 7]
    assert steps.whole.all()


def test_log_files_may_be_compressed_and_several(simulated, tmp_path):
    packed = tmp_path / "bench.json.gz"
    packed.write_bytes(gzip.compress((simulated / "bench.json").read_bytes()))
    calibrate(packed, simulated / "bench.json", "--out", tmp_path / "model.yaml")
    values = yaml.safe_load((tmp_path / "model.yaml").read_text())
    assert [file["name"] for file in values["provenance"]["files"]] == ["bench.json.gz", "bench.json"]
    assert values["provenance"]["rows_read"] % 2 == 0


def test_errors_of_requests_and_of_levels_are_drawn(simulated, tmp_path):
    for source in (simulated / "run" / "requests.csv", sweep_rows(tmp_path, "concurrency", (1, 2, 4, 8, 16))):
        picture = tmp_path / f"{source.stem}.png"
        calibrate(source, "--out", tmp_path / f"{source.stem}.yaml", "--plot", picture)
        assert picture.read_bytes().startswith(b"\x89PNG")
    assert not [path for path in tmp_path.iterdir() if "partial" in path.name]
