"""The command line: every command, its exit status, its one-line errors, and what it leaves behind."""

import csv
import errno
import gzip
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import click
import numpy as np
import pytest
import yaml
from fixtures_vllm import FIXTURES, differences, read_recording

import scenarios.runner
from scenarios.cli import main
from scenarios.cli_reference import commands, reference
from scenarios.scenario_files import library_names, load_scenario

ROOT = Path(__file__).parents[1]
COMMANDS = dict(commands())
QUICK = ("mm1", "--set", "workload.requests=50", "--warmup", "0")


@pytest.fixture
def refused(routerwise):
    """Run a command that fails as a user's mistake does; returns its one line."""

    def run(*arguments):
        status, _, err = routerwise(*arguments)
        assert status == 2, err
        assert err.startswith("Error: ")
        assert err.count("\n") == 1
        return err

    return run


def started(*arguments, **options):
    """The command line in a process of its own; it heeds Ctrl-C even if the tests run in the background of a shell."""
    code = "from scenarios.cli import main; main()"
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=_heed_interrupts,
        **options,
    )


def _heed_interrupts():
    signal.signal(signal.SIGINT, signal.SIG_DFL)


# ---------------------------------------------------------------------- help and reference


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_command_and_option_has_help(path):
    command = COMMANDS[path]
    assert command.help
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"{' '.join(path)} {parameter.opts[0]}"
            assert parameter.help.endswith((".", '".')), parameter.help


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_help_is_printed(path, routerwise):
    status, out, err = routerwise(*path[1:], "--help")
    assert (status, err) == (0, "")
    assert out.startswith("Usage: ")


def test_the_group_lists_its_commands_with_their_own_words(routerwise):
    _, out, _ = routerwise("--help")
    for path in COMMANDS:
        if len(path) == 2:
            assert f"  {path[1]} " in out


def test_the_reference_page_is_current():
    page = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    assert page == reference(), "out of date; run: python -m scenarios.cli_reference > docs/cli.md"
    for path in COMMANDS:
        assert f"\n## {' '.join(path)}\n" in page


def test_version(routerwise):
    status, out, _ = routerwise("--version")
    assert status == 0
    assert out.startswith("routerwise, version ")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["rnu"], "No such command 'rnu'"),
        (["run"], "Missing argument 'SCENARIO'"),
        (["run", "demo", "--replications", "0"], "0 is not in the range"),
        (["run", "demo", "--seed", "-1"], "-1 is not in the range"),
        (["run", "demo", "--engine-mode", "fast"], "'fast' is not one of"),
        (["engine", "a", "b"], "Missing option '--out'"),
    ],
)
def test_wrong_usage(routerwise, arguments, expected):
    status, _, err = routerwise(*arguments)
    assert status == 2
    assert expected in err
    assert "Traceback" not in err


# ---------------------------------------------------------------------- imports


def imported_by(*arguments):
    code = (
        "import sys\nfrom scenarios.cli import main\n"
        "try:\n    main(sys.argv[1:])\nexcept SystemExit:\n    pass\n"
        "print('MODULES', *sorted({name.split('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, check=True, cwd=ROOT
    )
    return set(done.stdout.rpartition("MODULES")[2].split())


def test_help_imports_nothing_heavy():
    modules = imported_by("--help")
    assert "click" in modules
    assert not modules & {"numpy", "pydantic", "pandas", "scipy", "simpy", "yaml", "rich", "sim", "analysis"}


def test_run_imports_neither_pandas_nor_scipy_nor_pictures(tmp_path):
    modules = imported_by("run", *QUICK, "--out", tmp_path / "run")
    assert "numpy" in modules
    assert (tmp_path / "run" / "summary.json").exists()
    assert not modules & {"pandas", "scipy", "matplotlib", "seaborn", "pyarrow"}


# ---------------------------------------------------------------------- run


def test_run_prints_a_table_and_writes_the_directory(routerwise, tmp_path):
    out = tmp_path / "deep" / "run"
    status, text, err = routerwise("run", *QUICK, "--out", out)
    assert (status, err) == (0, "")
    for words in ("mm1: ", "TTFT P99", "utilisation", f"Results: {out}"):
        assert words in text
    assert len((out / "requests.csv").read_text().splitlines()) == 51
    assert [path.name for path in out.parent.iterdir()] == ["run"]


def test_run_writes_below_runs_by_default(routerwise, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert routerwise("run", *QUICK)[0] == 0
    assert (tmp_path / "runs" / "mm1" / "manifest.json").is_file()


def test_run_as_json_is_the_summary(routerwise, tmp_path):
    status, text, _ = routerwise("run", *QUICK, "--out", tmp_path / "run", "--json")
    assert status == 0
    assert json.loads(text) == json.loads((tmp_path / "run" / "summary.json").read_text())


def test_shortcuts_of_run_change_the_scenario(routerwise, tmp_path):
    options = ("--seed", 7, "--replications", 2, "--warmup", "3.5", "--slo", "ttft:500 e2el:9000")
    out = tmp_path / "run"
    status, text, _ = routerwise("run", *QUICK, *options, "--engine-mode", "reference", "--out", out)
    assert status == 0
    scenario = load_scenario(str(out / "scenario.yaml"))
    assert (scenario.seed, scenario.slo, scenario.run.warmup) == (7, "ttft:500 e2el:9000", 3.5)
    assert (scenario.run.replications, scenario.run.engine_mode) == (2, "reference")
    assert "SLO attainment" in text
    assert sorted(path.name for path in out.iterdir() if path.is_dir()) == ["replication-0", "replication-1"]
    first, second = ((out / f"replication-{number}" / "requests.csv").read_bytes() for number in (0, 1))
    assert first != second
    summary = json.loads((out / "summary.json").read_text())
    assert summary["replications"] == 2
    assert set(summary["overall"]["ttft_s"]["mean"]) == {"mean", "low", "high"}


def test_replications_do_not_depend_on_how_many_there_are(routerwise, tmp_path):
    routerwise("run", *QUICK, "--replications", 3, "--out", tmp_path / "three")
    routerwise("run", *QUICK, "--out", tmp_path / "one")
    one = (tmp_path / "one" / "requests.csv").read_bytes()
    assert (tmp_path / "three" / "replication-0" / "requests.csv").read_bytes() == one


def test_run_writes_vllm_bench_json_and_parquet(routerwise, tmp_path):
    pytest.importorskip("pyarrow")
    bench = tmp_path / "bench.json"
    options = ("--vllm-bench-json", bench, "--requests-format", "parquet")
    assert routerwise("run", *QUICK, *options, "--out", tmp_path / "run")[0] == 0
    assert json.loads(bench.read_text())["completed"] == 50
    assert (tmp_path / "run" / "requests.parquet").is_file()
    assert not (tmp_path / "run" / "requests.csv").exists()


def test_an_existing_directory_is_kept_unless_told_otherwise(routerwise, refused, tmp_path):
    out = tmp_path / "run"
    routerwise("run", *QUICK, "--out", out)
    before = (out / "requests.csv").read_bytes()
    err = refused("run", *QUICK, "--seed", 5, "--out", out)
    assert "exists already; choose another folder, or give --overwrite" in err
    assert (out / "requests.csv").read_bytes() == before
    (out / "stale.txt").write_text("from before")
    assert routerwise("run", *QUICK, "--seed", 5, "--out", out, "--overwrite")[0] == 0
    assert (out / "requests.csv").read_bytes() != before
    assert not (out / "stale.txt").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_overwrite_leaves_other_folders_alone(refused, routerwise, tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.tex").write_text("years of work")
    err = refused("run", *QUICK, "--out", tmp_path / "thesis", "--overwrite")
    assert "is not a run directory, so --overwrite leaves it alone" in err
    assert (tmp_path / "thesis" / "chapter1.tex").read_text() == "years of work"
    (tmp_path / "file").write_text("")
    assert "is a file; allowed: a folder" in refused("run", *QUICK, "--out", tmp_path / "file", "--overwrite")
    (tmp_path / "empty").mkdir()
    assert routerwise("run", *QUICK, "--out", tmp_path / "empty")[0] == 0


def test_the_working_directory_can_be_the_run_directory(routerwise, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert routerwise("run", *QUICK, "--out", ".")[0] == 0
    assert (tmp_path / "here" / "manifest.json").is_file()


def test_mistakes_leave_nothing_behind(refused, tmp_path):
    out = tmp_path / "run"
    for arguments in (
        ("demmo",),
        ("mm1", "--set", "seed"),
        ("mm1", "--set", "run.untl_s=1"),
        ("mm1", "--slo", "ttf:5"),
        ("mm1", "--warmup", "1e9"),
        ("mm1", "--set", "models.server.balancer=nobody"),
        ("mm1", "--set", "workload.lengths.prompt.mean=1e9"),
        ("mm1", "--set", "workload={kind: trace, path: no.csv}"),
    ):
        refused("run", *arguments, "--out", out)
        assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------------- what goes wrong in the middle


def failing(error):
    def fail(*arguments, **options):
        raise error

    return fail


WRITERS = ("write_requests_csv", "write_timeseries_csv", "write_summary")


@pytest.mark.parametrize("writer", WRITERS)
def test_a_full_disk(writer, refused, routerwise, tmp_path, monkeypatch):
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(tmp_path / "run"))
    with monkeypatch.context() as patch:
        patch.setattr(scenarios.runner, writer, failing(full))
        err = refused("run", *QUICK, "--out", tmp_path / "run")
    assert "No space left on device" in err
    assert "free some space" in err
    assert list(tmp_path.iterdir()) == []
    assert routerwise("run", *QUICK, "--out", tmp_path / "run")[0] == 0


def test_a_full_disk_keeps_the_earlier_results(refused, routerwise, tmp_path, monkeypatch):
    out = tmp_path / "run"
    routerwise("run", *QUICK, "--out", out)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    monkeypatch.setattr(scenarios.runner, "write_summary", failing(OSError(errno.ENOSPC, "No space left on device")))
    refused("run", *QUICK, "--seed", 3, "--out", out, "--overwrite")
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize("place", ["simulate_replication", *WRITERS])
def test_ctrl_c(place, routerwise, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(scenarios.runner, place, failing(KeyboardInterrupt()))
        status, _, err = routerwise("run", *QUICK, "--out", tmp_path / "run")
    assert status == 130
    assert err.splitlines()[-1] == "Error: interrupted; nothing half-written was left behind"
    assert list(tmp_path.iterdir()) == []
    assert routerwise("run", *QUICK, "--out", tmp_path / "run")[0] == 0


def test_ctrl_c_while_the_results_change_places(routerwise, tmp_path, monkeypatch):
    out = tmp_path / "run"
    routerwise("run", *QUICK, "--out", out)
    before = (out / "requests.csv").read_bytes()
    rename = Path.rename

    def interrupted(self, target):
        if self.name.endswith(".partial"):
            raise KeyboardInterrupt
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", interrupted)
    assert routerwise("run", *QUICK, "--seed", 3, "--out", out, "--overwrite")[0] == 130
    assert (out / "requests.csv").read_bytes() == before
    assert list(tmp_path.iterdir()) == [out]


def partials(folder):
    return list(folder.glob(".run.*.partial"))


def test_a_real_ctrl_c(tmp_path):
    process = started("run", "mm1", "--set", "workload.requests=100000000", "--out", tmp_path / "run")
    try:
        for _ in range(300):
            if partials(tmp_path) or process.poll() is not None:
                break
            time.sleep(0.05)
        assert partials(tmp_path), process.communicate()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


def test_remains_of_a_killed_run_do_not_block_the_next(routerwise, tmp_path):
    ended = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    remains = tmp_path / f".run.{int(ended.stdout)}.partial"
    remains.mkdir()
    (remains / "requests.csv").write_text("half")
    (tmp_path / ".run.partial").mkdir()
    assert routerwise("run", *QUICK, "--out", tmp_path / "run")[0] == 0
    # What is not ours by name stays.
    assert sorted(path.name for path in tmp_path.iterdir()) == [".run.partial", "run"]


def test_two_runs_into_one_folder_do_not_mix(tmp_path):
    both = [started("run", "mm1", "--seed", seed, "--out", tmp_path / "run") for seed in ("1", "2")]
    outcomes = [(process.communicate(timeout=60)[1], process.returncode) for process in both]
    assert sorted(status for _, status in outcomes) in ([0, 2], [0, 0])
    winner = json.loads((tmp_path / "run" / "manifest.json").read_text())["seed"]
    alone = started("run", "mm1", "--seed", str(winner), "--out", tmp_path / "alone")
    alone.communicate(timeout=60)
    assert (tmp_path / "run" / "requests.csv").read_bytes() == (tmp_path / "alone" / "requests.csv").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["alone", "run"]


def test_an_unwritable_place(refused, tmp_path):
    (tmp_path / "file").write_text("")
    err = refused("run", *QUICK, "--out", tmp_path / "file" / "run")
    assert "file" in err


def test_an_unexpected_error_is_one_line_without_debug(routerwise, tmp_path, monkeypatch):
    monkeypatch.setattr(scenarios.runner, "simulate_replication", failing(ZeroDivisionError("by zero")))
    status, _, err = routerwise("run", *QUICK, "--out", tmp_path / "run")
    assert status == 1
    assert (
        err
        == "Error: unexpected ZeroDivisionError: by zero. Run again with `routerwise --debug ...` for the traceback\n"
    )
    with pytest.raises(ZeroDivisionError):
        main(["--debug", "run", *QUICK, "--out", str(tmp_path / "run")])
    assert list(tmp_path.iterdir()) == []


def test_debug_shows_where_a_mistake_was_found(tmp_path):
    process = started("--debug", "run", "demmo")
    _, err = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "Traceback" in err
    assert "did you mean 'demo'?" in err


# ---------------------------------------------------------------------- scenarios and schema


def test_scenarios_lists_the_library_without_any_data(routerwise, monkeypatch):
    monkeypatch.delenv("ROUTERWISE_DATA", raising=False)
    status, out, _ = routerwise("scenarios")
    assert status == 0
    assert [line.split()[0] for line in out.splitlines()] == library_names()


def test_schema_is_json(routerwise):
    status, out, _ = routerwise("schema")
    assert status == 0
    assert {"models", "workload"} <= json.loads(out)["properties"].keys()


# ---------------------------------------------------------------------- engine


def number_or_text(cell):
    """Times as numbers, since both files round them."""
    whole, point, decimals = cell.partition(".")
    return float(cell) if point and whole.isdigit() and decimals.isdigit() else cell


@pytest.mark.parametrize("mode", ["macro", "reference"])
def test_engine_replays_a_recording(mode, routerwise, tmp_path):
    case = "micro_sameprefix"
    files = (FIXTURES / f"{case}.workload.jsonl.gz", FIXTURES / f"{case}.settings.json")
    status, out, _ = routerwise("engine", *files, "--out", tmp_path / "out", "--engine-mode", mode)
    assert status == 0
    assert "steps" in out
    recording = read_recording(FIXTURES, case)
    for name, recorded in (("steps", recording.step_rows), ("requests", recording.request_rows)):
        with (tmp_path / "out" / f"{name}.csv").open(newline="") as stream:
            rows = [{key: number_or_text(cell) for key, cell in row.items()} for row in csv.DictReader(stream)]
        assert differences(rows, recorded) == []


@pytest.fixture
def replay(tmp_path):
    """Small inputs of the engine command, to be spoilt."""
    settings = {"engine": {"max_num_seqs": 4, "num_gpu_blocks": 64}, "step_time": {"a": 0.01, "b": 1e-5}}
    (tmp_path / "s.json").write_text(json.dumps(settings))
    line = {"id": "a", "arrival": 0.0, "prompt_len": 10, "output_len": 3}
    (tmp_path / "w.jsonl").write_text(json.dumps(line) + "\n" + json.dumps(line | {"id": "b", "arrival": 1.0}) + "\n")
    return tmp_path, settings, line


def test_engine_keeps_earlier_files(replay, routerwise, refused):
    folder, _, _ = replay
    arguments = ("engine", folder / "w.jsonl", folder / "s.json", "--out", folder / "out")
    assert routerwise(*arguments)[0] == 0
    assert "has steps.csv and requests.csv already" in refused(*arguments)
    assert routerwise(*arguments, "--overwrite")[0] == 0
    (folder / "file").write_text("")
    assert "is a file" in refused("engine", folder / "w.jsonl", folder / "s.json", "--out", folder / "file")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"id": None}, "id"),
        ({"arrival": -1}, "line 1: arrival is -1"),
        ({"arrival": "soon"}, "line 1: arrival is 'soon'; allowed: a finite number"),
        ({"prompt_len": 0}, "line 1: prompt_len is 0; allowed: an integer >= 1"),
        ({"prompt_len": 1.5}, "line 1: prompt_len is 1.5; allowed: an integer >= 1"),
        ({"output_len": 0}, "line 1: output_len is 0; allowed: an integer >= 1"),
        ({"output": 5}, "'output'; did you mean 'output_len'?"),
        ({"arrival_step": 3}, "give either arrival (seconds) or arrival_step"),
        ({"prompt_len": 100_000}, "100000"),
        ({"segments": [["x", 3]]}, "tokens of all segments is 3; allowed: prompt_len (10)"),
        ({"arrival": 5.0}, "line 2: arrival is 1.0; allowed: at least 5.0"),
        ({"id": "b"}, "line 2: id is 'b'; allowed: an id that no earlier request has"),
    ],
)
def test_engine_refuses_bad_requests(replay, refused, change, expected):
    folder, _, line = replay
    first = {key: value for key, value in (line | change).items() if value is not None}
    second = line | {"id": "b", "arrival": 1.0}
    (folder / "w.jsonl").write_text(f"{json.dumps(first)}\n{json.dumps(second)}\n")
    assert expected in refused("engine", folder / "w.jsonl", folder / "s.json", "--out", folder / "out")
    assert not (folder / "out").exists()


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ("{", "is not valid JSON"),
        ("[]", "a JSON object with engine and step_time"),
        ('{"engine": {}}', "step_time is None; allowed: a JSON object"),
        ('{"engine": {"max_num_seq": 1}, "step_time": {"a": 1}}', "did you mean 'max_num_seqs'?"),
        ('{"engine": {"max_num_seqs": 0}, "step_time": {"a": 1}}', "engine.max_num_seqs is 0"),
        ('{"engine": {}, "step_time": {"a": -1}}', "step_time.a is -1"),
        ('{"engine": {}, "step_time": {"a": NaN}}', "step_time.a is nan"),
        ('{"engine": {}, "step_time": {"z": 1}}', "step_time key in"),
        ('{"engine": {}, "step_time": {"a": 1}, "idle_sleep_s": 0}', "idle_sleep_s is 0"),
        ('{"engine": {}, "step_time": {"a": 1}, "more": 0}', "'more'"),
    ],
)
def test_engine_refuses_bad_settings(replay, refused, settings, expected):
    folder, _, _ = replay
    (folder / "s.json").write_text(settings)
    assert expected in refused("engine", folder / "w.jsonl", folder / "s.json", "--out", folder / "out")


def test_engine_refuses_unreadable_files(replay, refused):
    folder, _, _ = replay
    settings, out = folder / "s.json", folder / "out"
    assert "does not exist; check the path" in refused("engine", folder / "none.jsonl", settings, "--out", out)
    (folder / "empty.jsonl").write_text("")
    assert "is empty" in refused("engine", folder / "empty.jsonl", settings, "--out", out)
    (folder / "cut.jsonl.gz").write_bytes(gzip.compress(b'{"id": 1}\n' * 1000)[:40])
    assert "cannot read" in refused("engine", folder / "cut.jsonl.gz", settings, "--out", out)
    (folder / "words.jsonl").write_text("hello\n")
    assert "line 1 is not valid JSON" in refused("engine", folder / "words.jsonl", settings, "--out", out)


# ---------------------------------------------------------------------- trace


@pytest.fixture
def trace_file(tmp_path):
    rng = np.random.default_rng(3)
    arrivals = np.cumsum(rng.exponential(0.5, 2000))
    rows = zip(arrivals, rng.integers(10, 1000, 2000), rng.integers(1, 300, 2000), strict=True)
    path = tmp_path / "trace.csv"
    lines = [f"{arrival:.6f},{prompt},{output}" for arrival, prompt, output in rows]
    path.write_text("\n".join(["arrival_s,prompt_tokens,output_tokens", *lines]) + "\n")
    return path


def test_trace_stats(trace_file, routerwise):
    status, out, _ = routerwise("trace", "stats", trace_file, "--json")
    assert status == 0
    figures = json.loads(out)
    assert figures["format"] == "csv"
    assert figures["requests"] == 2000
    assert figures["rate_per_s"] == pytest.approx(2.0, rel=0.1)
    assert figures["interarrival_cv"] == pytest.approx(1.0, abs=0.1)
    status, out, _ = routerwise("trace", "stats", trace_file)
    assert status == 0
    assert "2000 rows read" in out
    assert "interarrival_cv" in out


def test_trace_fit_writes_a_workload_that_runs(trace_file, routerwise, tmp_path):
    status, out, err = routerwise("trace", "fit", trace_file)
    assert status == 0
    assert "poisson" in err
    section = yaml.safe_load(out)["workload"]
    fitted = tmp_path / "fitted.yaml"
    assert routerwise("trace", "fit", trace_file, "--out", fitted)[0] == 0
    assert yaml.safe_load(fitted.read_text())["workload"] == section
    scenario = {"extends": "chat-steady", "workload": section}
    (tmp_path / "scenario.yaml").write_text(yaml.safe_dump(scenario))
    ran = routerwise(
        "run", tmp_path / "scenario.yaml", "--warmup", 0, "--set", "run.until_s=50", "--out", tmp_path / "run"
    )
    assert ran[0] == 0, ran[2]


def test_trace_refuses_bad_files(refused, tmp_path):
    assert "does not exist" in refused("trace", "stats", tmp_path / "none.csv")
    (tmp_path / "empty.csv").write_text("")
    assert "empty" in refused("trace", "stats", tmp_path / "empty.csv")
    (tmp_path / "odd.csv").write_text("a,b\n1,2\n")
    refused("trace", "stats", tmp_path / "odd.csv")
    (tmp_path / "minus.csv").write_text("arrival_s,prompt_tokens,output_tokens\n0,5,5\n1,-5,5\n")
    assert "-5" in refused("trace", "fit", tmp_path / "minus.csv")
    (tmp_path / "back.csv").write_text("arrival_s,prompt_tokens,output_tokens\n5,5,5\n1,5,5\n")
    assert "sort" in refused("trace", "stats", tmp_path / "back.csv")
    assert "COLUMN=VALUE" in refused("trace", "stats", tmp_path / "back.csv", "--where", "x")


def test_columns_that_mean_nothing_are_named(routerwise, tmp_path):
    trace = tmp_path / "trace.csv"
    trace.write_text("arrival_s,prompt_tokens,output_tokens,priorty\n0,10,2,1\n1,10,2,0\n")
    workload = f"workload={{kind: trace, path: {trace}}}"
    status, _, err = routerwise("run", "chat-steady", "--set", workload, "--out", tmp_path / "run")
    assert status == 0
    assert "columns not used: priorty" in err
