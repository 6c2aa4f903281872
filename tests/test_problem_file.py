"""Problem files: what they become, how curves are repaired, and what is refused."""

import math
import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from small_problem import curve_rows, write_problem

from latency_models.catalogue.architectures import find_architecture
from latency_models.catalogue.gpus import find_gpu
from latency_models.catalogue.model_work import ModelWork
from latency_models.curves.load_latency import Configuration, LoadLatencyCurve
from latency_models.errors import InputError
from optimizer.delays.monotone_curves import monotone
from optimizer.problem import LoadCase, ModelOptions, Option, Problem, SloTarget
from scenarios.optimisation.problem_file import PROBLEMS, load_problem, problem_names
from scenarios.optimisation.problem_schema import ProblemFile
from scenarios.profiles.configurations import configurations_of
from scenarios.profiles.schema import load_profile
from sim.prompt_table import PromptTable


def loaded(tmp_path, change=None, rows=None, prompts=None, **options):
    return load_problem(str(write_problem(tmp_path, change, rows, prompts)), **options)


def test_a_problem_file_becomes_a_problem(tmp_path):
    read = loaded(tmp_path)
    problem = read.problem
    assert read.name == "problem"
    assert [model.name for model in problem.models] == ["small", "large"]
    assert [model.optional for model in problem.models] == [False, True]
    assert [(o.tp, o.compute_share, o.replicas) for o in problem.models[0].options] == [
        (1, 0.5, 1),
        (1, 1.0, 1),
        (2, 0.5, 1),
        (2, 1.0, 1),
    ]
    # Weights over tp, KV, and the reserve of 3 GiB, of 90 % of 80 GiB.
    shares = {o.tp: o.memory_share for o in problem.models[0].options}
    assert shares == {1: pytest.approx(22 / 72), 2: pytest.approx(15 / 72)}
    assert {o.tp: o.memory_share for o in problem.models[1].options} == {1: pytest.approx(70 / 72), 2: 37 / 72}
    assert problem.loads == (LoadCase(rate_per_s=20.0),)
    assert problem.slos == (SloTarget(metric="ttft", statistic="mean", target_s=0.1),)
    assert problem.packing == "compute"
    assert problem.table.models == ("small", "large")
    assert problem.models[0].options[0].curve.at(0.0, "ttft_mean_s") == pytest.approx(0.020 / 0.6)
    assert read.notes == ()


def test_memory_follows_the_catalogue(tmp_path):
    def named(values):
        values["gpus"] = {"count": 2, "type": "a100-80gb"}
        values["models"]["small"]["memory"] = {"model": "llama-7b", "kv_gib": 8, "reserve_gib": 2}

    read = loaded(tmp_path, named)
    usable = 0.92 * find_gpu("a100-80gb").memory_bytes
    for option in read.problem.models[0].options:
        weights = ModelWork.of(find_architecture("llama-7b"), tp=option.tp).weight_bytes
        assert option.memory_share * usable == pytest.approx(weights + 10 * 2**30)


def test_lists_choose_among_the_curves(tmp_path):
    def listed(values):
        values["models"]["small"].update(tp=[2], compute_shares=[1.0, 0.5])

    options = loaded(tmp_path, listed).problem.models[0].options
    assert [(option.tp, option.compute_share) for option in options] == [(2, 1.0), (2, 0.5)]

    rows = [row for row in curve_rows("small", 20, 30) if row[1:3] != [2, 0.5]] + curve_rows("large", 60, 10)

    def both(values):
        values["models"]["small"].update(tp=[1, 2], compute_shares=[0.5, 1.0])

    read = loaded(tmp_path, both, rows)
    assert len(read.problem.models[0].options) == 3
    assert read.notes == ("small: 1 combinations of tp, compute share and replicas have no curve and are no option",)


def test_names_in_curves_and_scores_may_differ(tmp_path):
    def renamed(values):
        values["models"] = {
            "chat": {**values["models"]["small"], "curves": "small", "scores": "small"},
            "chat-2": {**values["models"]["small"], "curves": "small", "scores": "small"},
        }

    table = loaded(tmp_path, renamed).problem.table
    assert table.models == ("chat", "chat-2")
    assert np.array_equal(table.predicted[:, 0], table.predicted[:, 1])


def test_several_loads_and_targets(tmp_path):
    def several(values):
        values["loads"] = [{"rate_per_s": 10, "weight": 3}, {"rate_per_s": 20}]
        values["slos"].append({"metric": "ttft", "statistic": "p95", "target_ms": 400, "model": "large"})
        values["packing"] = "memory"

    problem = loaded(tmp_path, several).problem
    assert [(load.rate_per_s, load.weight) for load in problem.loads] == [(10.0, 0.75), (20.0, 0.25)]
    assert problem.slos[1] == SloTarget(metric="ttft", statistic="p95", target_s=0.4, model="large")
    assert problem.packing == "memory"
    assert loaded(tmp_path, several, packing="compute").problem.packing == "compute"


def test_options_that_no_gpu_holds_are_left_out_and_said(tmp_path):
    def big(values):
        values["models"]["large"]["memory"] = {"per_shard_gib": {1: 100, 2: 50}}

    read = loaded(tmp_path, big)
    assert {option.tp for option in read.problem.models[1].options} == {2}
    assert read.notes == ("large: 2 options left out, a shard exceeds 72.0 GiB",)


def test_the_built_in_table_and_an_oracle_are_said_to_be_that(tmp_path):
    def builtin(values):
        values["prompts"] = {"builtin": 50, "seed": 3}
        values["models"]["small"]["scores"] = "Yi-6b-Chat"
        values["models"]["large"]["scores"] = "Qwen1.5-72B-Chat"

    read = loaded(tmp_path, builtin)
    assert read.problem.table.prompts == 50
    assert "not yours" in read.notes[0]

    def oracle(values):
        values["prompts"]["predicted"] = "outcomes"

    read = loaded(tmp_path, oracle)
    assert np.array_equal(read.problem.table.predicted, read.problem.table.outcomes)
    assert "upper limit" in read.notes[0]


def test_engine_settings_go_with_the_memory(tmp_path):
    def engine(values):
        values["models"]["small"]["memory"] = {"model": "llama-7b", "kv_gib": 8}
        values["models"]["small"]["engine"] = {"max_num_seqs": 64, "block_size": 32}
        values["models"]["large"]["engine"] = {"max_num_seqs": 32, "num_gpu_blocks": 100}

    # Half a MiB of keys and values a token, half of it on each of two shards.
    assert loaded(tmp_path, engine).engines == {
        "small": {
            1: {"max_num_seqs": 64, "block_size": 32, "num_gpu_blocks": 512},
            2: {"max_num_seqs": 64, "block_size": 32, "num_gpu_blocks": 1024},
        },
        "large": {tp: {"max_num_seqs": 32, "num_gpu_blocks": 100} for tp in (1, 2)},
    }
    assert loaded(tmp_path).engines == {}


def test_the_demo_has_the_engines_that_its_curves_were_made_with():
    read = load_problem("demo")
    for page in ("demo-one-replica", "demo-two-replicas"):
        profile = load_profile(str(PROBLEMS / "profiles" / f"{page}.yaml"))
        for entry in configurations_of(profile):
            name, tp = entry.configuration.model, entry.configuration.tp
            given = entry.scenario.models[name].engine.model_dump(exclude_none=True)
            assert read.engines[name][tp] == given


def test_provenance_follows_the_content(tmp_path):
    first = loaded(tmp_path).sources
    assert set(first) == {"problem_sha256", "curves_sha256 curves.csv", "prompts_sha256"}
    assert loaded(tmp_path).sources == first

    def tighter(values):
        values["slos"][0]["target_ms"] = 99

    changed = loaded(tmp_path, tighter).sources
    assert {key for key in first if first[key] != changed[key]} == {"problem_sha256"}
    rows = curve_rows("small", 21, 30) + curve_rows("large", 60, 10)
    changed = loaded(tmp_path, rows=rows).sources
    assert {key for key in first if first[key] != changed[key]} == {"curves_sha256 curves.csv"}


def test_the_shipped_problems_load():
    assert "demo" in problem_names()
    for name in problem_names():
        problem = load_problem(name).problem
        assert all(len(model.options) > 1 for model in problem.models)
    with pytest.raises(InputError, match="problem 'demoo'; did you mean 'demo'"):
        load_problem("demoo")
    with pytest.raises(InputError, match=r"problem is 'none/x.yaml'; allowed: an existing YAML file, or one of: demo"):
        load_problem("none/x.yaml")


def test_the_problem_on_the_page_follows_the_schema():
    page = (Path(__file__).parents[1] / "docs" / "optimizer.md").read_text()
    (example,) = re.findall(r"```yaml\n(.*?)```", page, flags=re.DOTALL)
    file = ProblemFile.model_validate(yaml.safe_load(example))
    assert file.models["codellama-34b"].optional
    assert file.loads == 50


def curve(values, rates=(0.0, 1.0, 2.0, 3.0), **statistics):
    return LoadLatencyCurve(
        configuration=Configuration(model="m"), rates_per_s=rates, statistics={"ttft_mean_s": values, **statistics}
    )


def test_latencies_are_raised_to_the_highest_before_and_nothing_else_changes():
    before = curve((1.0, 0.9, 2.0, 1.6), utilisation=(0.9, 0.8, 0.7, 0.6), requests_per_s=(4.0, 3.0, 2.0, 1.0))
    after, changes = monotone(before, {"ttft"})
    assert after.statistics["ttft_mean_s"] == (1.0, 1.0, 2.0, 2.0)
    assert after.statistics["utilisation"] == before.statistics["utilisation"]
    assert after.statistics["requests_per_s"] == before.statistics["requests_per_s"]
    assert changes == {"ttft_mean_s": pytest.approx(0.25)}
    rising = curve((1.0, 1.0, 2.0, 3.0))
    assert monotone(rising, {"ttft"}, strict=True) == (rising, {})


def test_large_falls_are_errors_where_a_target_depends_on_them():
    fallen = curve((1.0, 2.0, 1.4, 3.0))
    with pytest.raises(InputError, match=r"ttft_mean_s falls by 30.00% at 2 requests/s; allowed: up to 25%"):
        monotone(fallen, {"ttft"})
    assert monotone(fallen, {"e2e"})[1] == {"ttft_mean_s": pytest.approx(3 / 7)}
    with pytest.raises(InputError, match="allowed: none with --strict"):
        monotone(curve((1.0, 2.0, 1.99, 3.0)), {"ttft"}, strict=True)


def test_repaired_curves_are_reported_and_strict_refuses_them(tmp_path):
    rows = curve_rows("small", 20, 30) + curve_rows("large", 60, 10)
    rows[2][4] = rows[1][4] * 0.98
    read = loaded(tmp_path, rows=rows)
    assert read.notes == (
        "1 curves were made monotone in load: latencies raised by up to 2.0% (small tp 1, share 0.5, replicas 1, "
        "ttft_mean_s); --strict refuses them",
    )
    with pytest.raises(InputError, match="ttft_mean_s falls by 2"):
        loaded(tmp_path, rows=rows, strict=True)


def put(*keys, value):
    def change(values):
        place = values
        for key in keys[:-1]:
            place = place[key]
        if value is None:
            del place[keys[-1]]
        else:
            place[keys[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (put("gpus", "count", value=0), r"gpus.count is 0; allowed: greater than or equal to 1"),
        (put("gpus", "memory_gib", value=math.nan), "gpus.memory_gib is nan"),
        (put("gpus", "memory_gib", value=None), "either type, a name of the catalogue, or memory_gib"),
        (put("gpus", "type", value="a100-80gb"), "either type, a name of the catalogue, or memory_gib"),
        (put("gpus", value={"count": 1, "type": "a1000"}), "unknown GPU 'a1000'"),
        (put("gpus", "memory_gib", value=15), "models.small: no option fits|models.large: no option fits"),
        (put("gpu", value=1), r"unknown key 'gpu' \(did you mean 'gpus'\?\)"),
        (put("models", value={}), "models is empty"),
        (put("models", "small", "tp", value=[]), "models.small.tp is empty"),
        (put("models", "small", "tp", value=[1, 1]), "each value once"),
        (put("models", "small", "tp", value=[4]), r"models.small.tp is 4; allowed: \[1, 2\], which its curves have"),
        (put("models", "small", "compute_shares", value=[50]), "models.small.compute_shares.0 is 50"),
        (put("models", "small", "compute_shares", value=[0.3]), r"compute_shares is 0.3; allowed: \[0.5, 1.0\]"),
        (put("models", "small", "curves", value="smal"), "'smal'; did you mean 'small'"),
        (put("models", "small", "scores", value="smal"), "'smal'; did you mean 'small'"),
        (put("models", "small", "memory", value={"kv_gib": 5}), "one of model, weights_gib, per_shard_gib"),
        (put("models", "small", "memory", "kv_gib", value=-1), "models.small.memory.kv_gib is -1"),
        (put("models", "small", "memory", value={"per_shard_gib": {1: 20}}), "no tp 2"),
        (put("models", "small", "memory", value={"per_shard_gib": {1: 20, 2: 9}, "kv_gib": 1}), "leave kv_gib"),
        (
            put("models", "small", "memory", value={"weights_gib": 9, "weights": "fp8"}),
            "no effect without memory.model",
        ),
        (put("models", "small", "memory", value={"model": "gpt-5000"}), "models.small.memory: unknown .* 'gpt-5000'"),
        (put("models", "small", "engine", value={"max_seqs": 4}), "models.small: .*'max_seqs'; did you mean"),
        (put("models", "small", "engine", value={"max_num_seqs": 0}), "models.small: engine.max_num_seqs is 0"),
        (put("curves", "path", value="none.csv"), "cannot read curves .*none.csv"),
        (put("prompts", "path", value="none.csv"), "cannot read prompt table .*none.csv"),
        (put("prompts", value="prompts.csv"), "prompts is 'prompts.csv'"),
        (put("gpus", "count", value=10**30), "gpus is 10+; allowed: 1 to 10000"),
        (put("prompts", value={"builtin": 0}), r"problem.yaml: prompts.builtin is 0; allowed: [\w ]+ 1$"),
        (put("prompts", value={"pth": "x.csv"}), r"unknown key 'prompts.pth'"),
        (put("prompts", value="builtin"), "unknown model of the built-in prompt table 'small'"),
        (put("loads", value=0), "loads is 0; allowed: greater than 0"),
        (put("loads", value=[]), "loads is empty"),
        (put("loads", value=[{"rate_per_s": 5, "weight": 0}]), "problem.yaml: loads.0.weight is 0"),
        (put("loads", value=True), "loads is True"),
        (put("loads", value=[{"rate_per_s": 5}, {"rate_per_s": 5}]), "each rate once"),
        (put("slos", value=[]), "slos is empty"),
        (put("slos", 0, "target_ms", value=0), "slos.0.target_ms is 0; allowed: greater than 0"),
        (put("slos", 0, "target_ms", value=-5), "slos.0.target_ms is -5"),
        (put("slos", 0, "target_ms", value=1e8), "The unit looks wrong"),
        (put("slos", 0, "target_ms", value=1e-20), "The unit looks wrong"),
        (put("slos", 0, "metric", value="tft"), r"slos.0.metric is 'tft'.*did you mean 'ttft'"),
        (put("slos", 0, "statistic", value="p99"), "'ttft_p99_s'; did you mean 'ttft_p95_s'"),
        (put("slos", 0, "model", value="big"), "unknown model of an SLO 'big'"),
    ],
)
def test_problem_files_that_are_refused(tmp_path, change, message):
    with pytest.raises(InputError, match=message):
        loaded(tmp_path, change)


def test_tp_must_divide_the_heads(tmp_path):
    rows = curve_rows("small", 20, 30, tps=(1, 3)) + curve_rows("large", 60, 10)
    with pytest.raises(
        InputError, match=r"models.small.memory: tp is 3; allowed: a divisor of the 32 heads of llama-7b"
    ):
        loaded(tmp_path, put("models", "small", "memory", value={"model": "llama-7b"}), rows)


@pytest.mark.parametrize(
    ("cell", "message"), [("", "line 3"), ("nan", "line 3, ttft_mean_ms"), (-4, "-4"), (0, "The unit looks wrong")]
)
def test_curves_with_gaps_or_nonsense_name_the_line(tmp_path, cell, message):
    rows = curve_rows("small", 20, 30) + curve_rows("large", 60, 10)
    rows[1][4] = cell
    with pytest.raises(InputError, match=message):
        loaded(tmp_path, rows=rows)


def test_a_configuration_has_one_curve_over_all_files(tmp_path):
    def twice(values):
        values["curves"] = [{"path": "curves.csv"}, {"path": "curves.csv"}]

    with pytest.raises(InputError, match="one per configuration"):
        loaded(tmp_path, twice)


def test_a_cluster_too_small_for_a_model(tmp_path):
    rows = curve_rows("small", 20, 30, tps=(4,)) + curve_rows("large", 60, 10)
    with pytest.raises(InputError, match="gpus is 2; allowed: at least 4, the fewest GPUs of small"):
        loaded(tmp_path, rows=rows)


def option(**changes):
    values = {"tp": 1, "memory_share": 0.5, "curve": curve((1.0, 2.0, 3.0, 4.0))}
    return Option(**{**values, **changes})


def problem(**changes):
    values = {
        "gpus": 2,
        "models": (ModelOptions(name="m", options=(option(),)),),
        "table": PromptTable(models=("m",), predicted=[[0.5]]),
        "loads": (LoadCase(rate_per_s=1.0),),
        "slos": (SloTarget(metric="ttft", target_s=2.0),),
    }
    return Problem(**{**values, **changes})


def test_what_an_option_takes():
    found = option(tp=2, compute_share=0.4, replicas=3)
    assert (found.compute, found.shards) == (pytest.approx(2.4), 6)
    assert str(found) == "tp 2 at 40% x 3"


def test_an_slo_names_its_statistic_and_share():
    slo = SloTarget(metric="e2e", statistic="p95", target_s=2.0, model="m")
    assert (slo.curve_statistic, slo.late_share, str(slo)) == ("e2e_p95_s", 0.05, "P95 E2E of m <= 2000 ms")
    assert SloTarget(metric="ttft", target_s=1.0).late_share is None


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: option(tp=0), "tp is 0"),
        (lambda: option(tp=True), "tp is True"),
        (lambda: option(replicas=1.5), "replicas is 1.5"),
        (lambda: option(compute_share=0.0), "compute_share is 0.0"),
        (lambda: option(compute_share=50), "not per cent"),
        (lambda: option(memory_share=math.nan), "memory_share is nan"),
        (lambda: option(memory_share=1.1), "not per cent"),
        (lambda: ModelOptions(name="", options=(option(),)), "a name"),
        (lambda: ModelOptions(name="m", options=()), "no options"),
        (lambda: ModelOptions(name="m", options=(option(), option())), "once"),
        (lambda: LoadCase(rate_per_s=-1), "rate_per_s is -1"),
        (lambda: LoadCase(rate_per_s=1, weight=0), "weight is 0"),
        (lambda: SloTarget(metric="ttft", target_s=0), "target_s is 0"),
        (lambda: SloTarget(metric="itl", target_s=1), "metric of an SLO 'itl'"),
        (lambda: SloTarget(metric="ttft", statistic="p50", target_s=1), "statistic of an SLO 'p50'"),
        (lambda: SloTarget(metric="ttft", target_s=500_000), "The unit looks wrong"),
        (lambda: problem(gpus=0), "gpus is 0"),
        (lambda: problem(models=()), "no models"),
        (lambda: problem(loads=()), "no loads"),
        (lambda: problem(slos=()), "no SLOs"),
        (lambda: problem(slos=(SloTarget(metric="e2e", target_s=1),)), "unknown statistic in the curve of m"),
        (lambda: problem(slos=(SloTarget(metric="ttft", target_s=1),) * 2), "two targets"),
        (lambda: problem(loads=(LoadCase(rate_per_s=1, weight=0.5),)), "sum of the weights of the loads is 0.5"),
        (lambda: problem(table=PromptTable(models=("x",), predicted=[[0.5]])), "in this order"),
        (lambda: problem(packing="both"), "unknown packing 'both'"),
        (lambda: problem(models=(ModelOptions(name="m", options=(option(tp=4),), optional=True),)), "at least one"),
    ],
)
def test_domain_objects_refuse(make, message):
    with pytest.raises(InputError, match=message):
        make()
