"""``routerwise optimize`` and ``routerwise scores fit`` as a user runs them."""

import itertools
import os
import re

import pytest
from small_problem import write_problem

from optimizer.plan import read_plan
from scenarios.optimisation.problem_file import load_problem
from scenarios.optimisation.shipped_curves import join_curves
from scenarios.prompt_tables.layouts import read_score_file


def slo(target_ms, **more):
    def change(values):
        values["slos"] = [{"metric": "ttft", "target_ms": target_ms, **more}]

    return change


def test_a_plan_is_printed_and_written(routerwise, tmp_path):
    path, out = write_problem(tmp_path, slo(60)), tmp_path / "plan.json"
    status, printed, err = routerwise("optimize", path, "--out", out)
    assert (status, err) == (0, "")
    plan = read_plan(out)
    assert plan.name == "problem"
    assert plan.gpus.usable_memory_gib == pytest.approx(72)
    assert plan.provenance["method"] == "exact"
    assert plan.provenance.keys() > {"problem_sha256", "curves_sha256 curves.csv", "prompts_sha256", "routerwise"}
    promised = plan.promise.loads[0]
    assert promised.slos[0].value <= 0.060 * (1 + 1e-9)
    assert promised.outcome is not None
    assert plan.promise.gap <= 1e-6
    assert f"Score {plan.promise.score:.6f}; no plan has more than {plan.promise.bound:.6f}" in printed
    assert re.search(r"mean TTFT <= 60 ms: (59|60)\.\d ms; one more ms is worth [\d.e-]+ of score \(beta", printed)
    for name, fraction in plan.routing[0].fractions.items():
        assert re.search(rf"{name} .*{fraction:.4f}", printed)
    assert re.search(r"Setups: \d+ considered, \d+ pruned, \d+ solved, \d+ without a placement; ", printed)


def test_the_same_problem_gives_the_same_bytes(routerwise, tmp_path):
    path = write_problem(tmp_path, slo(60))
    for name in ("one.json", "two.json"):
        assert routerwise("optimize", path, "--out", tmp_path / name)[0] == 0
    assert (tmp_path / "one.json").read_bytes() == (tmp_path / "two.json").read_bytes()


def test_worth_of_a_millisecond_is_what_a_looser_target_gains(routerwise, tmp_path):
    scores = []
    for number, target in enumerate((60, 60.5)):
        out = tmp_path / f"{number}.json"
        assert routerwise("optimize", write_problem(tmp_path, slo(target)), "--out", out)[0] == 0
        scores.append(read_plan(out).promise)
    # The score is concave in the target of a setup, so its slope at either end bounds the gain.
    gain = scores[1].score - scores[0].score
    slopes = [promise.loads[0].slos[0].score_per_s * 0.5e-3 for promise in scores]
    assert gain > 0
    if slopes[1] > 0:
        assert slopes[1] - 2e-6 <= gain
    assert gain <= slopes[0] * 1.01 + 2e-6


def test_methods_agree_where_they_can(routerwise, tmp_path):
    path, score = write_problem(tmp_path, slo(60)), {}
    for method, packing in itertools.product(("exact", "enumerate", "paper"), ("memory",)):
        out = tmp_path / f"{method}.json"
        status, printed, err = routerwise("optimize", path, "--method", method, "--packing", packing, "--out", out)
        assert status == 0, err
        assert ("no plan has more" in printed) == (method == "exact")
        score[method] = read_plan(out).promise.score
    assert score["exact"] >= score["enumerate"] - 1e-6
    assert score["enumerate"] >= score["paper"] - 1e-6
    assert read_plan(tmp_path / "exact.json").packing == "memory"


def test_several_loads_and_targets_are_printed_one_by_one(routerwise, tmp_path):
    def several(values):
        values["loads"] = [{"rate_per_s": 10}, {"rate_per_s": 25}]
        values["slos"] = [{"metric": "ttft", "target_ms": 60}, {"metric": "ttft", "statistic": "p95", "target_ms": 200}]

    status, printed, err = routerwise("optimize", write_problem(tmp_path, several))
    assert (status, err) == (0, "")
    assert "Routing at 10 requests/s, weight 0.5" in printed
    assert "Routing at 25 requests/s, weight 0.5" in printed
    assert printed.count("mean TTFT <= 60 ms: ") == 2
    assert printed.count("P95 TTFT <= 200 ms: ") == 2


def test_an_infeasible_target_has_a_status_of_its_own_and_says_what_is_feasible(routerwise, tmp_path):
    out = tmp_path / "plan.json"
    status, _, err = routerwise("optimize", write_problem(tmp_path, slo(5)), "--out", out)
    assert status == 4
    assert err.count("\n") == 1
    smallest = float(re.search(r"mean TTFT <= 5 ms: smallest feasible target ([\d.]+) ms", err)[1])
    assert not out.exists()
    assert routerwise("optimize", write_problem(tmp_path, slo(smallest * 1.001)))[0] == 0
    assert routerwise("optimize", write_problem(tmp_path, slo(smallest * 0.99)))[0] == 4


def test_a_load_that_no_setup_carries_is_infeasible_too(routerwise, tmp_path):
    def heavy(values):
        values["loads"] = 1000

    status, _, err = routerwise("optimize", write_problem(tmp_path, heavy))
    assert status == 4
    part = float(re.search(r"no setup carries the load; the most that one carries is ([\d.]+)% of it", err)[1])

    def lighter(values):
        values["loads"] = 1000 * part * 0.99 / 100
        values["slos"][0]["target_ms"] = 100_000

    assert routerwise("optimize", write_problem(tmp_path, lighter))[0] == 0
    status, _, err = routerwise("optimize", write_problem(tmp_path, heavy), "--method", "enumerate")
    assert status == 4
    assert "--method exact looks at all" in err


def test_the_demo_is_solved_from_the_package(routerwise):
    status, printed, err = routerwise("optimize", "demo")
    assert (status, err) == (0, "")
    assert "one more ms is worth" in printed


def test_a_time_limit_leaves_a_bound(routerwise, tmp_path):
    path = write_problem(tmp_path, slo(60))
    assert routerwise("optimize", path, "--time-limit", "100")[0] == 0
    status, _, err = routerwise("optimize", path, "--time-limit", "1e-9")
    assert status == 4
    assert re.search(r"no plan was found, and one with a score up to 0\.\d+ is not ruled out\n$", err)


def test_bad_input_is_one_line_with_status_2(routerwise, tmp_path):
    path = write_problem(tmp_path)
    for arguments, message in (
        (("none.yaml",), "problem is 'none.yaml'"),
        ((path, "--gap", "0"), "--gap is 0"),
        ((path, "--gap", "nan"), "--gap is nan"),
        ((path, "--time-limit", "0"), "--time-limit is 0"),
        ((path, "--time-limit", "nan"), "--time-limit is nan"),
        ((path, "--time-limit", "5", "--method", "enumerate"), "--time-limit has no effect with --method enumerate"),
        ((path, "--gap", "1e-3", "--method", "paper"), "--gap has no effect with --method paper"),
        ((path, "--out", tmp_path / "no" / "plan.json"), "does not exist"),
        ((path, "--out", path), "exists already"),
        ((path, "--method", "magic"), "magic"),
    ):
        status, out, err = routerwise("optimize", *arguments)
        assert status == 2, err
        assert message in err
        assert "Traceback" not in err
        assert out == ""
    assert path.read_text().startswith("gpus")


def test_scores_are_learned_reported_and_used(routerwise, tmp_path):
    pytest.importorskip("sklearn")
    rows = [
        f"s{i},{'hard proof' if i % 2 else 'easy capital'} {i % 7},mmlu,{i % 2 ^ 1},{int(i % 5 > 0)}"
        for i in range(200)
    ]
    source = tmp_path / "routerbench.csv"
    source.write_text("\n".join(["sample_id,prompt,eval_name,small,large", *rows]) + "\n")
    status, printed, err = routerwise("scores", "fit", source, "--out", tmp_path / "prompts.csv", "--folds", 3)
    assert (status, err) == (0, "")
    assert "layout routerbench, 200 prompts, 2 models" in printed
    assert re.search(r"small +1\.000 +0\.0", printed)
    assert "Best single model, large: mean outcome 0.8000" in printed
    assert "Best model by outcome, which no router knows: mean outcome 0.9000" in printed
    assert read_score_file(tmp_path / "prompts.csv").table().prompts == 200
    text = (tmp_path / "prompts.csv").read_text()
    path = write_problem(tmp_path, prompts=text)
    assert load_problem(str(path)).problem.table.prompts == 200
    status, _, err = routerwise("scores", "fit", source, "--out", tmp_path / "prompts.csv")
    assert (status, "exists already" in err) == (2, True)


def test_scores_fit_refuses(routerwise, tmp_path):
    source = tmp_path / "wide.csv"
    source.write_text("prompt_id,m\np,1\nq,0\n")
    os.mkfifo(tmp_path / "device.csv")
    (tmp_path / "link.csv").symlink_to("elsewhere.csv")
    for arguments, message in (
        (("--out", tmp_path / "t.txt"), "ends in .csv or .parquet"),
        (("--out", tmp_path / "no" / "t.csv"), "does not exist"),
        (("--out", source, "--overwrite"), "allowed: another file; this one is a source"),
        (("--out", tmp_path / "device.csv", "--overwrite"), "is no ordinary file"),
        (("--out", tmp_path / "link.csv", "--overwrite"), "is no ordinary file"),
        (("--out", tmp_path / "t.csv"), "no column `prompt`; name a file with the texts"),
        (("--out", tmp_path / "t.csv", "--model", "n"), "unknown model in wide.csv 'n'"),
        (("--out", tmp_path / "t.csv", "--texts", source), "has no texts"),
    ):
        status, _, err = routerwise("scores", "fit", source, *arguments)
        assert status == 2
        assert message in err


def test_shipped_curves_are_joined_and_rounded(tmp_path):
    path = write_problem(tmp_path)
    (tmp_path / "joined.json").write_text(join_curves([path.parent / "curves.csv"]))

    def joined(values):
        values["curves"]["path"] = "joined.json"

    before, after = (load_problem(str(write_problem(tmp_path, change))).problem for change in (None, joined))
    for old, new in zip(before.models, after.models, strict=True):
        for one, other in zip(old.options, new.options, strict=True):
            assert other.curve.rates_per_s == pytest.approx(one.curve.rates_per_s, rel=1e-4)
            assert other.curve.statistics.keys() == one.curve.statistics.keys()
            for name, values in one.curve.statistics.items():
                assert other.curve.statistics[name] == pytest.approx(values, rel=1e-4)
