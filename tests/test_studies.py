"""``routerwise study setups`` and ``routerwise frontier``: their files, their figures, and what they refuse."""

import csv
import json
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from setup_cases import WEIGHTS_GB, setups_problem

from latency_models.curves.load_latency_files import curves_to_json
from latency_models.errors import InputError
from optimizer.comparisons.least_latency import least_delay_split
from optimizer.delays.delay_curves import delay_tables
from optimizer.plan import read_plan
from optimizer.problem import LoadCase, SloTarget
from optimizer.routing import solve_routing
from optimizer.search import optimise
from scenarios.studies.cases import PUBLISHED_CASES, Case, parse_case
from scenarios.studies.frontier import default_rates_per_s, default_targets_s, frontier
from scenarios.studies.setup_study import described, retained_counts, study_case

LIKE = ("Mistral-7B-Instruct-v0.2", "Mixtral-8x7B-Instruct-v0.1", "Meta-Llama-3_1-70B-Instruct")


@pytest.fixture(scope="module")
def problem_file(tmp_path_factory):
    """A problem file with curves of its own and built-in prompts."""
    folder = tmp_path_factory.mktemp("problem")
    problem = setups_problem()
    curves = [option.curve for model in problem.models for option in model.options]
    (folder / "curves.json").write_text(curves_to_json(curves), encoding="utf-8")
    content = {
        "gpus": {"count": 4, "memory_gib": 72, "usable": 1.0},
        "models": {
            f"m{number}": {"memory": {"weights_gib": weights, "reserve_gib": 3}, "scores": like}
            for number, (weights, like) in enumerate(zip(WEIGHTS_GB, LIKE, strict=True))
        },
        "curves": {"path": "curves.json"},
        "prompts": {"builtin": 300},
        "loads": 50,
        "slos": [{"metric": "ttft", "statistic": "mean", "target_ms": 300}],
    }
    (folder / "three.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    return folder / "three.yaml"


def rows_of(path):
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


# ---------------------------------------------------------------------- study setups


@pytest.fixture(scope="module")
def study():
    return study_case(setups_problem(), Case(gpus=4, rate_per_s=50.0, target_s=0.2))


def test_a_study_keeps_every_retained_setup_and_finds_the_best(study):
    counts = study.enumeration.counts
    assert counts.retained == len(study.enumeration.solved) + len(study.enumeration.infeasible)
    best, worst = study.enumeration.best.routing.score, study.enumeration.worst.routing.score
    assert study.ratio == pytest.approx(best / worst)
    assert study.ratio > 1.0
    # Packing compute forbids some of them, and frees from having to use all of it.
    assert 0 < len(study.deployable) < counts.retained
    assert study.best_deployable.routing.score <= study.exact.score + 1e-6
    assert study.exact.gap <= 1e-6
    single = next(baseline for baseline in study.baselines if baseline.name == "best single model")
    assert study.exact.score >= single.solution.routing.score - 1e-6


def test_no_routing_is_faster_than_the_least_latency(study):
    for solution in study.enumeration.solved:
        (load,) = solution.routing.loads
        assert study.least_latency_s[solution.setup] <= load.slos[0].value * (1 + 1e-6)
    for placed in study.enumeration.infeasible:
        least_s = study.least_latency_s[placed.setup]
        assert least_s is None or least_s > 0.2 * (1 - 1e-6)


def test_a_target_just_above_the_least_latency_is_feasible_and_one_below_is_not():
    problem = setups_problem()
    setup = optimise(problem).best.setup
    relative, fractions = least_delay_split(delay_tables(problem, problem.loads[0]), setup)
    assert fractions.sum() == pytest.approx(1.0)
    least_s = relative * problem.slos[0].target_s

    def feasible(target_s):
        slo = SloTarget(metric="ttft", target_s=target_s)
        return solve_routing(replace(problem, slos=(slo,)), setup) is not None

    assert feasible(least_s * 1.0001)
    assert not feasible(least_s * 0.9999)


def test_a_setup_that_cannot_carry_the_load_has_no_least_latency():
    problem = setups_problem(load=5000.0)
    assert least_delay_split(delay_tables(problem, problem.loads[0]), (8, 8, 8)) is None


def test_counts_follow_models_and_gpus():
    counts = retained_counts(setups_problem(shares=tuple(i / 10 for i in range(1, 11))), 8)
    assert [(entry.models, entry.gpus) for entry in counts] == [(m, g) for m in (2, 3) for g in range(1, 9)]
    assert [entry.counts.retained for entry in counts[8:]] == [0, 178, 305, 529, 576, 419, 177, 141]


def test_setups_are_described_in_words():
    assert described(setups_problem(), (0, 5, -1)) == "m0: tp 1 at 40%; m1: tp 2 at 100%; m2: left out"


def test_the_study_command_writes_all_files_and_prints_each_case(problem_file, tmp_path, routerwise):
    out = tmp_path / "study"
    arguments = ("study", "setups", problem_file, "--out", out, "--format", "svg")
    status, text, err = routerwise(*arguments, "--case", "4:50:300", "--case", "3:40:200")
    assert (status, err) == (0, "")
    assert "4 GPUs, 50/s, 300 ms" in text
    assert "3 GPUs, 40/s, 200 ms" in text
    setups, baselines, summary = (rows_of(out / f"{name}.csv") for name in ("setups", "baselines", "summary"))
    assert [int(row["retained"]) for row in summary] == [sum(r["gpus"] == g for r in setups) for g in ("4", "3")]
    assert len(baselines) == 2 * 6
    for row in summary:
        own = [r for r in setups if r["gpus"] == row["gpus"] and r["score"]]
        assert float(row["best"]) == pytest.approx(max(float(r["score"]) for r in own), abs=1e-6)
        assert float(row["optimum"]) >= float(row["best_deployable"]) - 2e-6
        assert all(float(r["latency_ms"]) <= float(row["target_ms"]) * (1 + 1e-6) for r in own)
    for row in setups:
        if row["score"]:
            assert sum(float(row[f"fraction m{i}"]) for i in range(3)) == pytest.approx(1.0, abs=1e-6)
    for name in ("setups", "fastest", "retained"):
        assert "<svg" in (out / f"{name}.svg").read_text(encoding="utf-8")
    manifest = json.loads((out / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["command"] == "study setups"
    assert manifest["settings"]["packing"] == "memory"
    # Earlier results are kept unless asked otherwise.
    status, _, err = routerwise(*arguments, "--case", "3:40:200")
    assert (status, "--overwrite" in err) == (2, True)


def test_a_case_that_nothing_can_do_is_reported_not_hidden(problem_file, tmp_path, routerwise):
    status, text, _ = routerwise("study", "setups", problem_file, "--out", tmp_path / "none", "--case", "3:40:1")
    assert status == 0
    assert next(line.split() for line in text.splitlines() if line.startswith("3 GPUs"))[-1] == "-"
    (row,) = rows_of(tmp_path / "none" / "summary.csv")
    assert (row["feasible"], row["best"], row["best_over_worst"], row["optimum"]) == ("0", "", "", "")
    assert (tmp_path / "none" / "setups.png").stat().st_size > 1000


def test_cases_without_any_setup_are_refused_and_leave_nothing(problem_file, tmp_path, routerwise):
    status, _, err = routerwise("study", "setups", problem_file, "--out", tmp_path / "none", "--case", "100:5:200")
    assert status == 2
    assert "no setup of 100 GPUs, 5/s, 200 ms is retained" in err
    assert list(tmp_path.iterdir()) == []


def test_the_published_cases_are_those_of_the_publication():
    four = [(case.rate_per_s, round(1e3 * case.target_s)) for case in PUBLISHED_CASES if case.gpus == 4]
    eight = [(case.rate_per_s, round(1e3 * case.target_s)) for case in PUBLISHED_CASES if case.gpus == 8]
    assert four == [(50, 800), (60, 500), (70, 500), (80, 500)]
    assert eight == [(50, 400), (60, 500), (70, 400), (80, 500)]


@pytest.mark.parametrize(
    "text", ["", "4:50", "4:50:x", "0:50:800", "4.5:50:800", "4:-1:800", "4:nan:800", "4:50:inf:1"]
)
def test_a_case_that_makes_no_sense_is_refused(text):
    with pytest.raises(InputError, match="case"):
        parse_case(text)


def test_a_case_with_too_few_gpus_is_refused_before_any_work(problem_file, tmp_path, routerwise):
    data = yaml.safe_load(problem_file.read_text(encoding="utf-8"))
    data["models"]["m2"]["tp"] = [4]
    data["curves"]["path"] = str(problem_file.parent / "curves.json")
    (tmp_path / "big.yaml").write_text(yaml.safe_dump(data), encoding="utf-8")
    out = tmp_path / "out"
    arguments = ("--case", "4:50:300", "--case", "2:50:300")
    status, _, err = routerwise("study", "setups", tmp_path / "big.yaml", "--out", out, *arguments)
    assert (status, "at least 4, the fewest GPUs of m2" in err) == (2, True)
    assert not out.exists()


# ---------------------------------------------------------------------- frontier


@pytest.fixture(scope="module")
def points():
    return frontier(setups_problem(), targets_s=(0.1, 0.3, 0.03, 1.0), rates_per_s=(80.0, 40.0, 600.0))


def test_scores_rise_with_the_target_and_fall_with_the_load(points):
    targets = [point for point in points if point.sweep == "target"]
    loads = [point for point in points if point.sweep == "load"]
    assert [point.value for point in targets] == [0.03, 0.1, 0.3, 1.0]
    assert [point.value for point in loads] == [40.0, 80.0, 600.0]
    rising = [point.optimum.score for point in targets]
    falling = [point.optimum.score for point in loads]
    assert rising == sorted(rising)
    assert rising[0] < rising[-1]
    assert falling == sorted(falling, reverse=True)
    assert loads[-1].optimum.best is None


def test_each_point_is_the_optimum_of_its_own_problem(points):
    point = next(point for point in points if point.sweep == "target" and point.value == 0.3)
    assert point.problem.slos[0].target_s == 0.3
    assert point.optimum.score == pytest.approx(optimise(setups_problem(target_s=0.3)).score, abs=2e-6)


def test_defaults_surround_the_problem():
    problem = setups_problem(target_s=0.3)
    assert min(default_targets_s(problem, 0)) < 0.3 < max(default_targets_s(problem, 0))
    assert 0.3 in default_targets_s(problem, 0)
    assert 50.0 in default_rates_per_s(problem)
    two = replace(problem, loads=(LoadCase(rate_per_s=20, weight=0.5), LoadCase(rate_per_s=50, weight=0.5)))
    assert default_rates_per_s(two) == ()
    with pytest.raises(InputError, match="2 loads"):
        frontier(two, targets_s=(), rates_per_s=(10.0,))
    with pytest.raises(InputError, match="number of the SLO is 2"):
        default_targets_s(problem, 1)


def test_the_frontier_command_writes_points_and_their_plans(problem_file, tmp_path, routerwise):
    out = tmp_path / "frontier"
    status, text, err = routerwise(
        "frontier", problem_file, "--out", out, "--targets", "1,100,300", "--rates", "40,80", "--format", "svg"
    )
    assert (status, err) == (0, "")
    assert "no setup keeps the SLOs: mean TTFT <= 1 ms: smallest feasible target" in text
    rows = rows_of(out / "frontier.csv")
    assert [row["feasible"] for row in rows] == ["False", "True", "True", "True", "True"]
    assert rows[0]["score"] == rows[0]["plan"] == ""
    for row in rows[1:]:
        plan = read_plan(out / row["plan"])
        assert plan.promise.score == pytest.approx(float(row["score"]), abs=1e-8)
        assert plan.routing[0].rate_per_s == float(row["rate_per_s"])
    assert "<svg" in (out / "frontier.svg").read_text(encoding="utf-8")
    assert json.loads((out / "manifest.json").read_text(encoding="utf-8"))["command"] == "frontier"


def test_near_targets_have_a_plan_each_with_its_engines_and_loads_that_are_too_high_are_drawn(
    problem_file, tmp_path, routerwise
):
    values = yaml.safe_load(Path(problem_file).read_text(encoding="utf-8"))
    for model in values["models"].values():
        model["engine"] = {"max_num_seqs": 7}
    engines = Path(problem_file).with_name("engines.yaml")
    engines.write_text(yaml.safe_dump(values), encoding="utf-8")
    targets = "300.0000001,300.0000002"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        status, _, err = routerwise(
            "frontier", engines, "--out", tmp_path / "near", "--targets", targets, "--rates", "1e6"
        )
    assert (status, err) == (0, "")
    rows = rows_of(tmp_path / "near" / "frontier.csv")
    assert ",".join(row["target_ms"] for row in rows[:2]) == targets
    plans = [read_plan(tmp_path / "near" / row["plan"]) for row in rows[:2]]
    promised_s = [plan.promise.loads[0].slos[0].target_s for plan in plans]
    assert promised_s == pytest.approx([0.3000000001, 0.3000000002], rel=1e-12)
    assert all(model.engine["max_num_seqs"] == 7 for plan in plans for model in plan.models.values())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--targets", "a,b"), "--targets"),
        (("--targets", "0"), "--targets"),
        (("--rates", "10,-1"), "--rates"),
        (("--rates", "nan"), "--rates"),
        (("--slo", "2"), "number of the SLO is 2"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(problem_file, tmp_path, routerwise, arguments, message):
    status, _, err = routerwise("frontier", problem_file, "--out", tmp_path / "out", *arguments)
    assert (status, err.count("\n")) == (2, 1)
    assert message in err
    assert not (tmp_path / "out").exists()
