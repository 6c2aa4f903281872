"""Results read back from disk, and what is said of those that cannot be."""

import json
import shutil

import pytest

from analysis.stored.json_files import RESULT_SCHEMA_VERSION
from analysis.stored.results import read_results
from analysis.stored.run import StoredRun
from latency_models.errors import InputError
from scenarios.cli import main
from scenarios.runner import RunOptions, run_scenario
from scenarios.scenario_files import load_scenario

SHORT = ("workload.duration_s=40", "slo='ttft:300 tpot:60'", "run.warmup=5")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("stored")
    run_scenario(load_scenario("plan-demo", [*SHORT, "run.replications=2"]), RunOptions(out=place / "two"))
    run_scenario(load_scenario("plan-demo", SHORT), RunOptions(out=place / "one"))
    return place


@pytest.fixture
def copied(folder, tmp_path):
    shutil.copytree(folder / "one", tmp_path / "run")
    return tmp_path / "run"


def test_a_run_of_one_replication(folder):
    run = StoredRun(folder / "one")
    assert (run.name, run.replications, run.warmup_s) == ("plan-demo", 1, (5.0,))
    assert run.models == run.used_models == ["llama-7b", "llama-13b", "codellama-34b"]
    assert len(run.requests) == run.number("overall", "requests", "total") > 1000
    assert run.requests["arrival_s"].min() >= 5.0
    ttft = run.estimate("overall", "ttft_s", "mean")
    assert ttft.value == pytest.approx(run.requests["ttft_s"].mean(), rel=1e-6)
    assert ttft.low is None
    assert list(run.timeseries()["replica"].unique()) == [f"{name}/0" for name in run.models]


def test_a_run_of_two_replications_has_intervals_and_all_requests(folder):
    run = StoredRun(folder / "two")
    ttft = run.estimate("overall", "ttft_s", "mean")
    assert ttft.low < ttft.value < ttft.high
    assert len(run.requests) == 2 * run.number("overall", "requests", "total")
    assert set(run.requests["replication"]) == {0, 1}
    assert len(run.timeseries(1)) > 0
    with pytest.raises(InputError, match="0 to 1"):
        run.timeseries(2)


def test_figures_that_are_not_there(folder):
    run = StoredRun(folder / "one")
    assert run.estimate("overall", "nothing", "p95") is None
    with pytest.raises(InputError, match=r"overall\.nothing"):
        run.number("overall", "nothing")


def test_the_cluster_says_what_ran_where(folder):
    cluster = StoredRun(folder / "one").cluster
    assert cluster["gpus"]["count"] == 4
    assert [(replica["name"], replica["gpus"]) for replica in cluster["replicas"]] == [
        ("llama-7b/0", [0]),
        ("llama-13b/0", [1]),
        ("codellama-34b/0", [2]),
    ]


def test_parquet_reads_as_csv_does(folder, tmp_path):
    pytest.importorskip("pyarrow")
    options = RunOptions(out=tmp_path / "run", requests_format="parquet")
    run_scenario(load_scenario("plan-demo", SHORT), options)
    one, other = StoredRun(folder / "one").requests, StoredRun(tmp_path / "run").requests
    assert set(one.columns) == set(other.columns)
    assert one["ttft_s"].to_numpy() == pytest.approx(other["ttft_s"].to_numpy(), abs=1e-8, nan_ok=True)


def test_a_folder_of_results_and_runs_of_one_name(folder):
    found = read_results([folder])
    assert [run.name for run in found.runs] == ["plan-demo (one)", "plan-demo (two)"]


def test_runs_of_one_name_in_folders_of_one_name(copied, tmp_path):
    for place in ("a", "b"):
        shutil.copytree(copied, tmp_path / place / "run")
    runs = read_results([tmp_path / "a" / "run", tmp_path / "b" / "run", copied]).runs
    assert [str(tmp_path / place / "run") in run.name for place, run in zip("ab", runs, strict=False)] == [True, True]
    assert len({run.name for run in runs}) == 3


def test_a_run_keeps_its_plan_and_what_it_promised(tmp_path, capsys):
    main(["optimize", "demo", "--out", str(tmp_path / "plan.json")])
    plan, out = str(tmp_path / "plan.json"), str(tmp_path / "run")
    main(["run", "plan-demo", "--plan", plan, "--set", "workload.duration_s=40", "--out", out])
    capsys.readouterr()
    run = StoredRun(tmp_path / "run")
    assert run.plan == json.loads((tmp_path / "plan.json").read_text())
    assert {"score, predicted", "load"} <= {figure["name"] for figure in run.promise}


def test_everything_of_a_folder_is_found(tmp_path, capsys):
    main(["optimize", "demo", "--out", str(tmp_path / "plan.json")])
    short = ["--set", "workload.duration_s=40"]
    arguments = ["validate", str(tmp_path / "plan.json"), "plan-demo", "--first", "2", "--most", "2", *short]
    with pytest.raises(SystemExit):
        main([*arguments, "--out", str(tmp_path / "held.json")])
    main(["frontier", "demo", "--targets", "150", "--rates", "50", "--out", str(tmp_path / "frontier")])
    (tmp_path / "notes.json").write_text("[1, 2]")
    capsys.readouterr()
    found = read_results([tmp_path])
    assert [len(kind) for kind in (found.runs, found.plans, found.validations, found.frontiers)] == [0, 1, 1, 1]
    assert found.validations[0].name == "demo on plan-demo"


@pytest.mark.parametrize(
    ("command", "name", "text", "words"),
    [
        ("compare", "comparison.json", '{"scenario": "a"}', "comparison.json lacks the key 'slo'"),
        ("stress", "stress.json", '{"plan": "a"}', "stress.json lacks the key 'scenario'"),
        ("frontier", "frontier.csv", "sweep,score\n", "frontier.csv lacks the column 'target_ms'"),
        ("frontier", "frontier.csv", "", "frontier.csv lacks the column 'sweep'"),
    ],
)
def test_an_incomplete_study_is_named(tmp_path, command, name, text, words):
    manifest = {"schema_version": RESULT_SCHEMA_VERSION, "command": command, "problem": "demo"}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=words):
        read_results([tmp_path])


def test_an_incomplete_validation_is_named(tmp_path):
    content = {"schema_version": RESULT_SCHEMA_VERSION, "command": "validate", "plan": "a", "scenario": "b"}
    (tmp_path / "held.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"held.json lacks the key 'slos'"):
        read_results([tmp_path / "held.json"])


def test_validate_refuses_to_replace_a_file_unasked(tmp_path, capsys):
    main(["optimize", "demo", "--out", str(tmp_path / "plan.json")])
    (tmp_path / "held.json").write_text("{}")
    with pytest.raises(SystemExit) as ended:
        main(["validate", str(tmp_path / "plan.json"), "plan-demo", "--out", str(tmp_path / "held.json")])
    assert ended.value.code == 2
    assert "exists already" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["summary.json", "cluster.json", "scenario.yaml"])
def test_a_part_that_is_missing(copied, name):
    (copied / name).unlink()
    with pytest.raises(InputError, match=f"not a complete run directory: {name} is missing"):
        StoredRun(copied)


@pytest.mark.parametrize("name", ["requests.csv", "timeseries.csv"])
def test_a_table_that_is_missing(copied, name):
    (copied / name).unlink()
    run = StoredRun(copied)
    with pytest.raises(InputError, match=f"{name}.*is missing"):
        run.requests if name.startswith("requests") else run.timeseries()


@pytest.mark.parametrize(("version", "words"), [(1, "layout version 1"), (None, "does not say")])
def test_the_layout_of_another_version(copied, version, words):
    manifest = json.loads((copied / "manifest.json").read_text())
    manifest["schema_version"] = version
    (copied / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(InputError, match=words):
        read_results([copied])


def test_a_folder_that_is_no_run_directory(tmp_path):
    for path in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(InputError, match=r"is no run directory: it has no manifest\.json"):
            StoredRun(path)


def test_places_without_results(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        read_results([tmp_path / "nothing"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="is empty"):
        read_results([tmp_path / "empty"])
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("hello")
    with pytest.raises(InputError, match=r"no manifest\.json"):
        read_results([tmp_path / "other"])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "is not JSON.*; wanted: a run directory"),
        ("[1]", "holds list.*; wanted: a run"),
        ('{"a": 1}', "is no result of routerwise"),
    ],
)
def test_files_that_are_no_results(tmp_path, text, words):
    (tmp_path / "some.json").write_text(text)
    with pytest.raises(InputError, match=words):
        read_results([tmp_path / "some.json"])


def test_folders_of_commands_without_a_report(tmp_path):
    (tmp_path / "manifest.json").write_text(json.dumps({"schema_version": 2, "command": "study setups"}))
    with pytest.raises(InputError, match="study setups"):
        read_results([tmp_path])


@pytest.mark.parametrize(
    ("key", "value"),
    [("replications", "x"), ("replications", 0), ("warmup_s", "x"), ("warmup_s", []), ("warmup_s", [None])],
)
def test_a_manifest_with_something_else(copied, key, value):
    path = copied / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    with pytest.raises(InputError, match=f"{key} in .*manifest.json is .*allowed: .*Simulate the scenario again"):
        getattr(StoredRun(copied), key)


def test_a_scenario_that_is_no_yaml(copied):
    (copied / "scenario.yaml").write_text("a: [")
    with pytest.raises(InputError, match="not valid YAML"):
        read_results([copied])
