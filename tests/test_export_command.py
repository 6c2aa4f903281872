"""``routerwise export``: the run simulated again, the files, and one line for every mistake."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from test_library import SHORT

from analysis.stored.run import StoredRun
from latency_models.errors import InputError
from scenarios.replicated import PreparedScenario, simulate_replication
from scenarios.resimulation import resimulate
from scenarios.runner import RunOptions, run_scenario
from scenarios.scenario_files import load_scenario

TRACE = "TIMESTAMP,ContextTokens,GeneratedTokens\n" + "".join(
    f"2023-11-16 18:00:{second:02d}.0000000,{100 + second},{20 + second}\n" for second in range(40)
)


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A run directory of two replications, which no test changes."""
    folder = tmp_path_factory.mktemp("runs") / "kv"
    options = RunOptions(out=folder, vllm_bench_json=folder.parent / "bench.json")
    run_scenario(load_scenario("kv-pressure", [*SHORT["kv-pressure"], "run.replications=2", "run.warmup=10"]), options)
    return folder


@pytest.fixture
def copy(kept, tmp_path):
    """A run directory to spoil."""
    return shutil.copytree(kept, tmp_path / "run")


@pytest.fixture
def traced_run(tmp_path):
    """A run of a trace, and the trace."""
    trace = tmp_path / "trace.csv"
    trace.write_text(TRACE)
    workload = f"workload={{kind: trace, path: {trace}}}"
    run_scenario(load_scenario("chat-steady", [workload, "run.warmup=0"]), RunOptions(out=tmp_path / "run"))
    return tmp_path / "run", trace


@pytest.fixture
def export(routerwise, tmp_path, monkeypatch):
    """Run the command in an empty folder."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return lambda *arguments: routerwise("export", *arguments)


def refused(result) -> str:
    status, out, err = result
    assert status == 2
    assert not out
    lines = [line for line in err.splitlines() if not line.startswith("Note: ")]
    assert len(lines) == 1
    return lines[0]


def test_a_simulation_comes_out_the_same_again(kept):
    scenario = load_scenario(str(kept / "scenario.yaml"))
    first = simulate_replication(PreparedScenario.of(scenario), 1)
    again = resimulate(StoredRun(kept), 1)
    np.testing.assert_array_equal(first.requests.last_token_s, again.requests.last_token_s)
    cut = resimulate(StoredRun(kept), 1, until_s=20.0)
    assert 20 < cut.end_s < first.end_s
    gone = cut.requests.finish_s <= cut.end_s
    np.testing.assert_array_equal(cut.requests.finish_s[gone], first.requests.finish_s[: len(gone)][gone])


def test_a_warm_up_that_ends_with_an_arrival_is_no_difference(tmp_path):
    run = load_scenario("chat-steady", ["workload.duration_s=400", "run.warmup=auto"])
    run_scenario(run, RunOptions(out=tmp_path / "run"))
    stored = StoredRun(tmp_path / "run")
    result = resimulate(stored)
    assert stored.warmup_s[0] in result.requests.arrival_s
    assert len(stored.requests) == stored.summary["overall"]["requests"]["total"]


def test_perfetto(export, kept, tmp_path):
    status, out, err = export("perfetto", kept, "--window", "50:60", "--replication", 1)
    assert (status, err) == (0, "")
    path = tmp_path / "here" / "kv-pressure.replication-1.perfetto.json"
    assert out.startswith(f"{path.name}: ")
    content = json.loads(path.read_text())
    assert f"{sum(event['ph'] == 'X' for event in content['traceEvents']):,} steps" in out
    about = content["otherData"]
    assert (about["window_s"], about["replication"], about["scenario"]) == ([50.0, 60.0], 1, "kv-pressure")
    assert "exists already" in refused(export("perfetto", kept, "--window", "50:60", "--replication", 1))
    assert export("perfetto", kept, "--window", "50:60", "--replication", 1, "--overwrite")[0] == 0


def test_vllm_bench_is_the_file_that_the_run_wrote(export, kept, tmp_path):
    status, out, err = export("vllm-bench", kept, "--out", tmp_path / "again.json")
    assert status == 0
    assert out.strip() == str(tmp_path / "again.json")
    assert err == "Note: replication 0 of 2; --replication chooses another\n"
    again, written = (json.loads(path.read_text()) for path in (tmp_path / "again.json", kept.parent / "bench.json"))
    assert again.pop("date")[:4] == written.pop("date")[:4]
    assert again == written


def test_guidellm(export, kept, tmp_path):
    status, _, _ = export("guidellm", kept, "--replication", 0)
    assert status == 0
    (benchmark,) = json.loads((tmp_path / "here" / "kv-pressure.replication-0.guidellm.json").read_text())["benchmarks"]
    started = json.loads((kept / "manifest.json").read_text())["started"]
    assert benchmark["start_time"] == np.datetime64(started.rstrip("Z")).astype("datetime64[s]").astype(int) + 10
    assert benchmark["metrics"]["slo_attainment"] > 0


def test_a_run_of_one_replication_needs_no_number(export, traced_run, tmp_path):
    status, _, err = export("perfetto", traced_run[0])
    assert (status, err) == (0, "")
    assert (tmp_path / "here" / "chat-steady.perfetto.json").is_file()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--window", "60:50"), "--window is '60:50'; allowed: FROM:TO in seconds on the simulation clock"),
        (("--window", "nan:50"), "--window is 'nan:50'; allowed"),
        (("--window", "-5:50"), "--window is '-5:50'; allowed"),
        (("--window", "9000:9001"), "window is '9000:9001'; allowed: a beginning before 1"),
        (("--replication", "2"), "--replication is 2; allowed: 0 to 1, those of "),
        (("--max-mb", "0"), "--max-mb is 0"),
        (("--max-mb", "nan"), "--max-mb is nan"),
        (("--max-mb", "0.5"), "MB, more than 0.5 MB; 0:"),
        (("--out", "nowhere/trace.json"), "--out: the folder "),
        (("--out", "/proc/trace.json"), "--out: nothing can be written to /proc"),
    ],
)
def test_mistakes_are_one_line(export, kept, tmp_path, arguments, says):
    assert says in refused(export("perfetto", kept, *arguments))
    assert not list((tmp_path / "here").iterdir())


def test_the_step_in_flight_at_the_window_s_end_is_there(export, kept):
    def steps(*options):
        fixed = ("--replication", "0", "--out", "t.json", "--overwrite")
        status, _, err = export("perfetto", str(kept), *fixed, *options)
        assert status == 0, err
        return [event for event in json.loads(Path("t.json").read_text())["traceEvents"] if event["ph"] == "X"]

    whole = steps()[100]
    middle_s = (whole["ts"] + whole["dur"] / 2) / 1e6
    last = steps("--window", f":{middle_s}")[-1]
    assert last["ts"] == whole["ts"]
    assert last["ts"] + last["dur"] == pytest.approx(1e6 * middle_s, abs=0.01)
    assert last["args"]["batch"] == whole["args"]["batch"]


def test_a_window_before_the_first_request_is_refused(export, kept):
    first_s = StoredRun(kept).requests_of(0)["arrival_s"][0]
    says = refused(export("perfetto", str(kept), "--window", f":{first_s / 2:g}"))
    assert f"has no request before {first_s / 2:g} s: the first one comes at {first_s:g} s" in says


def test_places_are_checked_before_anything_is_simulated(export, kept, monkeypatch):
    monkeypatch.setattr("scenarios.commands.export.resimulate", lambda *_, **__: pytest.fail("simulated"))
    for kind in ("perfetto", "vllm-bench", "guidellm"):
        assert "does not exist" in refused(export(kind, kept, "--out", "nowhere/file.json"))


def test_a_folder_that_is_no_run_is_refused(export, copy, tmp_path):
    (tmp_path / "empty").mkdir()
    assert "manifest.json" in refused(export("perfetto", tmp_path / "empty"))
    assert "none" in refused(export("perfetto", tmp_path / "none"))
    (copy / "scenario.yaml").unlink()
    assert "scenario.yaml is missing" in refused(export("perfetto", copy))


def test_another_version_is_refused(export, copy):
    manifest = json.loads((copy / "manifest.json").read_text())
    (copy / "manifest.json").write_text(json.dumps(manifest | {"schema_version": 1}))
    assert "version" in refused(export("vllm-bench", copy))
    (copy / "manifest.json").write_text(json.dumps(manifest | {"started": "yesterday"}))
    assert "started in" in refused(export("vllm-bench", copy, "--replication", 0))
    del manifest["scenario_sha256"]
    (copy / "manifest.json").write_text(json.dumps(manifest))
    assert "has no scenario_sha256" in refused(export("guidellm", copy, "--replication", 0))


def test_a_changed_scenario_is_refused(export, copy):
    scenario = yaml.safe_load((copy / "scenario.yaml").read_text())
    (copy / "scenario.yaml").write_text(yaml.safe_dump(scenario | {"seed": 9}))
    assert "scenario.yaml has changed since the run was simulated" in refused(export("guidellm", copy))


def test_a_changed_trace_is_refused(export, traced_run):
    run, trace = traced_run
    trace.write_text(TRACE.replace(",100,", ",101,"))
    assert f"{trace} has changed since the run of {run} read it" in refused(export("perfetto", run))
    trace.unlink()
    assert f"{trace}, which the run of {run} read, is gone" in refused(export("perfetto", run))


def test_a_simulation_that_comes_out_otherwise_is_refused(copy):
    table = copy / "replication-1" / "requests.csv"
    lines = table.read_text().splitlines()
    table.write_text("\n".join(lines[:-1]) + "\n")
    with pytest.raises(InputError, match="comes out otherwise: a file that the scenario names"):
        resimulate(StoredRun(copy), 1)
    ttft = lines[0].split(",").index("ttft_s")
    last = lines[-1].split(",")
    last[ttft] = str(float(last[ttft]) + 1e-6)
    table.write_text("\n".join([*lines[:-1], ",".join(last)]) + "\n")
    with pytest.raises(InputError, match="comes out otherwise"):
        resimulate(StoredRun(copy), 1)
    assert resimulate(StoredRun(copy), 0).end_s > 0
