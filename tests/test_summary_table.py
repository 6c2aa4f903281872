"""The table that `routerwise run` prints: complete on any terminal."""

import io
import os
import subprocess
import sys

import pytest
import yaml
from rich.console import Console

from scenarios.runner import RunOptions, run_scenario
from scenarios.scenario_files import load_scenario
from scenarios.summary_table import print_summary

MODEL = {
    "latency": {"kind": "linear", "base_s": 0.006, "per_token_s": 2e-5},
    "engine": {"num_gpu_blocks": 2000, "max_num_seqs": 16},
}
LENGTHS = {"prompt": {"kind": "constant", "tokens": 100}, "output": {"kind": "constant", "tokens": 10}}


def scenario_file(folder, models):
    clients = [
        {"kind": "synthetic", "model": name, "arrivals": {"kind": "poisson", "rate_per_s": 5}, "requests": 10}
        | {"lengths": LENGTHS}
        for name in models
    ]
    content = {"name": "many", "models": dict.fromkeys(models, MODEL), "routing": "pinned"}
    content["workload"] = {"kind": "mixture", "clients": clients}
    path = folder / "many.yaml"
    path.write_text(yaml.safe_dump(content | {"run": {"replications": 2}}, sort_keys=False), encoding="utf-8")
    return path


@pytest.mark.parametrize("width", [60, 80, 1000])
def test_no_figure_and_no_name_is_cut_off(tmp_path, width):
    models = [f"org/long-model-name-{number}" for number in range(30)]
    summary = run_scenario(load_scenario(str(scenario_file(tmp_path, models))), RunOptions())
    stream = io.StringIO()
    print_summary("many", summary, Console(file=stream, width=width, highlight=False, markup=False, emoji=False))
    lines = stream.getvalue().splitlines()
    assert "…" not in stream.getvalue()
    assert max(map(len, lines)) <= width
    finished = " ".join(line.removeprefix("  finished") for line in lines if line.startswith("  finished"))
    assert finished.split() == ["10", "±", "0"] * len(models) + ["300", "±", "0"]
    for name in (*models, "all"):
        assert any(name in line.split() for line in lines)


def test_a_terminal_without_its_signs_gets_plain_ones(tmp_path):
    path = scenario_file(tmp_path, ["plain", "模型"])
    environment = os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": ""}
    command = [sys.executable, "-c", "from scenarios.cli import main; main()", "run", str(path)]
    done = subprocess.run(
        [*command, "--out", str(tmp_path / "run")], env=environment, capture_output=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    text = done.stdout.decode("ascii")
    assert "10 +- 0" in text
    assert "??" in text
