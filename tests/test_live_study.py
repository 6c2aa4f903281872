"""The live study: routers matched in quality without a simulation, and what its command writes."""

import csv

import numpy as np
import pytest

from latency_models.errors import InputError
from scenarios.cli import main
from scenarios.optimisation.problem_file import PROBLEMS, load_problem
from scenarios.studies.cases import Case
from scenarios.studies.live_study import isolated_plan
from scenarios.studies.offline_routing import matched, route_offline
from sim.prompt_table import PromptTable


def table(prompts=2000, seed=3):
    rng = np.random.default_rng(seed)
    predicted = np.clip(np.stack([rng.normal(0.3, 0.15, prompts), rng.normal(0.6, 0.15, prompts)], axis=1), 0, 1)
    outcomes = (rng.random((prompts, 2)) < predicted).astype(float)
    return PromptTable(models=("small", "large"), predicted=predicted, outcomes=outcomes)


def test_a_router_is_asked_each_prompt_once_and_its_answers_are_scored():
    given = table()
    only = route_offline("best-single", {"model": "small"}, given)
    assert only.calls == (1.0, 0.0)
    assert only.achieved == pytest.approx(given.outcomes[:, 0].mean())
    half = route_offline("threshold", {"budget": 0.5}, given)
    assert half.calls[1] == pytest.approx(0.5, abs=1 / given.prompts)
    gain = given.predicted[:, 1] - given.predicted[:, 0]
    best = gain >= np.sort(gain)[-given.prompts // 2]
    assert half.achieved == pytest.approx(np.where(best, given.outcomes[:, 1], given.outcomes[:, 0]).mean(), abs=2e-3)


def test_a_cascade_pays_for_answers_that_it_rejects():
    found = route_offline("cascade", {"threshold": 1.0, "informed": 0.0}, table())
    assert found.calls == (1.0, 1.0)
    informed = route_offline("cascade", {"threshold": 0.5, "informed": 1.0}, table())
    outcomes = table().outcomes
    assert informed.achieved == outcomes.max(axis=1).mean()
    assert informed.calls[1] == 1.0 - outcomes[:, 0].mean()


@pytest.mark.parametrize(("kind", "parameter"), [("threshold", "budget"), ("cascade", "threshold")])
def test_quality_is_matched(kind, parameter):
    given = table()
    options = {"informed": 0.1} if kind == "cascade" else {}
    found = matched(kind, parameter, options, given, 0.5)
    assert route_offline(kind, found, given).achieved == pytest.approx(0.5, abs=0.005)
    assert found.keys() == {parameter, *options}


def test_quality_cannot_be_matched_without_outcomes_or_beyond_a_score():
    without = PromptTable(models=("a", "b"), predicted=np.full((3, 2), 0.5))
    with pytest.raises(InputError, match="no outcomes"):
        route_offline("best-single", {}, without)
    with pytest.raises(InputError, match="achieved"):
        matched("threshold", "budget", {}, table(), 1.5)


def test_the_isolated_deployment_shares_no_gpu_and_favours_the_largest_model():
    read = load_problem("demo")
    plan = isolated_plan(Case(gpus=4, rate_per_s=20, target_s=0.5).of(read.problem, "ttft", "compute"), read)
    gpus = [gpu for model in plan.models.values() for replica in model.replicas for gpu in replica]
    assert sorted(gpus) == [0, 1, 2, 3]
    assert plan.models["codellama-34b"].tp == 2
    with pytest.raises(InputError, match="do not fit on 2 whole GPUs"):
        isolated_plan(Case(gpus=2, rate_per_s=20, target_s=0.5).of(read.problem, "ttft", "memory"), read)


def small_problem(folder):
    path = folder / "problem.yaml"
    memory = "memory: {model: %s, kv_gib: 8, reserve_gib: 2}, scores: %s"
    small = memory % ("llama-7b", "Mistral-7B-Instruct-v0.2")
    large = memory % ("llama-13b", "Mixtral-8x7B-Instruct-v0.1")
    path.write_text(
        f"""
        gpus: {{count: 2, type: a100-80gb}}
        models:
          llama-7b: {{{small}, tp: [1, 2], compute_shares: [0.5, 1.0], replicas: [1]}}
          llama-13b: {{{large}, tp: [1, 2], compute_shares: [0.5, 1.0], replicas: [1]}}
        curves: {{path: {PROBLEMS / "demo-curves.json"}}}
        prompts: {{builtin: 300}}
        loads: 50
        slos: [{{metric: ttft, target_ms: 300}}]
        """
    )
    return path


def test_a_scenario_of_other_models_is_refused_before_any_work(tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["study", "live", "demo", "mm1", "--case", "4:50:150", "--out", str(tmp_path / "live")])
    assert ended.value.code == 2
    assert "model of problem demo, among those of scenario mm1, 'llama-7b'" in capsys.readouterr().err


def test_the_command_writes_rows_and_a_picture(tmp_path, capsys):
    out = tmp_path / "live"
    problem = small_problem(tmp_path)
    short = ["--set", "workload.duration_s=20", "--set", "run.warmup=2", "--set", "prompts.table={builtin: 300}"]
    few = ["--case", "2:14:400", "--replications", "2", "--jobs", "1"]
    main(["study", "live", str(problem), *few, "--out", str(out), *short])
    rows = list(csv.DictReader((out / "live.csv").open()))
    systems = [row["system"] for row in rows]
    assert systems == [
        "RouterWise as published",
        "certified optimum",
        "corrected plan",
        "threshold, isolated GPUs",
        "cascade, isolated GPUs",
    ]
    simulated = [row for row in rows if row["ttft_mean_ms"]]
    assert len(simulated) >= 4
    assert all(0.3 < float(row["achieved"]) < 0.8 for row in simulated)
    # The plans promise no more than the target.
    assert all(float(row["promised_ms"]) <= 400.001 for row in rows if row["promised_ms"])
    assert (out / "live.png").stat().st_size > 10_000
    assert "certified optimum" in capsys.readouterr().out
