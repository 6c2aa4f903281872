"""``routerwise plan`` on the built-in problem, with short runs."""

from __future__ import annotations

import json

import numpy as np
import pytest
import yaml
from click.testing import CliRunner

from optimizer.plan import read_plan
from scenarios.cli import cli, main
from scenarios.optimisation.problem_file import PROBLEMS

SHORT = ["--set", "workload.duration_s=40", "--set", "run.warmup=5", "--jobs", "1", "--trial", "4", "--most", "10"]


def problem_file(folder, **changes):
    values = yaml.safe_load((PROBLEMS / "demo.yaml").read_text())
    values["curves"] = {"path": str(PROBLEMS / "demo-curves.json")}
    path = folder / "problem.yaml"
    path.write_text(yaml.safe_dump(values | changes, sort_keys=False))
    return str(path)


def slos(target_ms, **more):
    return [{"metric": "ttft", "target_ms": target_ms, **more}]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("corrected")


@pytest.fixture(scope="module")
def planned(folder):
    out = folder / "plan.json"
    problem = problem_file(folder, slos=slos(300))
    result = CliRunner().invoke(cli, ["plan", problem, "plan-demo", "--out", str(out), *SHORT, "--gain", "1"])
    return result, out


def test_a_plan_that_holds_is_written_with_what_was_simulated(planned):
    result, out = planned
    assert result.exit_code == 0, result.output
    plan = read_plan(out)
    promised = plan.promise.loads[0].slos[0]
    assert 0.05 < promised.value <= promised.limit == promised.target_s == 0.3
    assert plan.promise.bound is None
    assert "replications 4 to 13" in plan.provenance["proof"]
    assert "holds" in plan.provenance["proof"]
    assert f"{1e3 * promised.value:.1f} [" in plan.provenance["proof"]


def test_the_log_names_promise_and_outcome(planned):
    output = planned[0].output
    assert "mean TTFT <= 300 ms" in output
    assert "holds" in output
    assert f"Plan: {planned[1]}" in output


def test_after_the_first_proof_a_gain_of_1_asks_for_no_more(planned):
    assert "no higher score was asked for" in planned[0].output


def test_an_existing_plan_is_not_replaced_unasked(planned, folder, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["plan", "demo", "plan-demo", "--out", str(planned[1])])
    assert ended.value.code == 2
    assert "--overwrite" in capsys.readouterr().err


def test_a_plan_that_breaks_ends_with_3_and_the_log_as_json(folder):
    problem = problem_file(folder, slos=slos(150, statistic="p95"))
    arguments = ["plan", problem, "plan-demo-bursts", *SHORT, "--plans", "1", "--json"]
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 3, result.output
    log = json.loads(result.stdout)
    assert log["plan"] is None
    assert log["exit_status"] == 3
    (step,) = log["corrected"]["plans"]
    assert step["outcome"] == "too slow"
    assert step["slos"][0]["simulated"]["value"] > step["slos"][0]["simulated"]["limit"] == 0.05
    assert sum(model["fraction"] for model in step["models"].values()) == pytest.approx(1.0)


def test_targets_that_no_plan_keeps_end_with_4(folder):
    result = CliRunner().invoke(cli, ["plan", problem_file(folder, slos=slos(5)), "plan-demo", *SHORT])
    assert result.exit_code == 4, result.output
    assert "smallest feasible target" in result.output


@pytest.mark.parametrize(
    ("changes", "arguments", "says"),
    [
        ({"loads": [{"rate_per_s": 30}, {"rate_per_s": 50}]}, [], "2 loads"),
        ({}, ["--confidence", "1.5"], "confidence"),
        ({}, ["--confidence", "nan"], "confidence"),
        ({}, ["--gain", "0"], "gain"),
        ({}, ["--window", "10"], "trace"),
        ({}, ["--out", "/nowhere/plan.json"], "/nowhere"),
        ({}, ["--set", "prompts=null"], "prompts"),
    ],
)
def test_wrong_input_is_one_line_and_status_2(folder, capsys, changes, arguments, says):
    with pytest.raises(SystemExit) as ended:
        main(["plan", problem_file(folder, **changes), "plan-demo", *SHORT, *arguments])
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert ended.value.code == 2
    assert error.startswith("Error: ")
    assert says in error


def test_a_scenario_without_the_models_is_refused(folder, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["plan", problem_file(folder), "demo"])
    assert ended.value.code == 2
    assert "'llama-7b'" in capsys.readouterr().err


def test_windows_of_a_trace_are_for_trials_or_for_proofs(folder):
    trace = folder / "busy.csv"
    arrivals_s = np.cumsum(np.random.default_rng(5).exponential(1 / 50, 10_000))
    lines = [f"{second:.4f},200,10" for second in arrivals_s]
    trace.write_text("\n".join(["arrival_s,prompt_tokens,output_tokens", *lines]) + "\n")
    arguments = ["plan", problem_file(folder, slos=slos(400)), "plan-demo", "--jobs", "1", "--trial", "4", "--json"]
    changes = ["--set", f"workload={{kind: trace, path: {trace}}}", "--set", "run.warmup=2", "--window", "12"]
    result = CliRunner().invoke(cli, [*arguments, *changes, "--gain", "1"])
    assert result.exit_code == 0, result.output
    (step,) = json.loads(result.stdout)["corrected"]["plans"]
    assert step["trial_replications"] == step["proof"]["first_replication"] == 4
    assert 2 <= step["proof"]["replications"] <= 16 - 4


def test_a_trace_needs_windows(folder, capsys):
    trace = folder / "trace.csv"
    lines = [f"2024-01-01 00:00:{second:02d}.000000,100,10" for second in range(60)]
    trace.write_text("\n".join(["TIMESTAMP,ContextTokens,GeneratedTokens", *lines]) + "\n")
    workload = f"workload={{kind: trace, path: {trace}}}"
    base = ["plan", problem_file(folder), "plan-demo", "--set", workload]
    for more, says in (([], "--window"), (["--window", "10"], "windows")):
        with pytest.raises(SystemExit) as ended:
            main([*base, *more])
        assert ended.value.code == 2
        assert says in capsys.readouterr().err
