"""The README's examples run as they stand."""

import re
from pathlib import Path

import pytest

from scenarios.runner import RunOptions, run_scenario
from scenarios.scenario_files import load_scenario

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("text", blocks("yaml"))
def test_scenarios(tmp_path, text):
    path = tmp_path / "example.yaml"
    path.write_text(text, encoding="utf-8")
    summary = run_scenario(load_scenario(str(path), ["run.replications=1"]), RunOptions())
    finished = summary["overall"]["requests"]["finished"]
    assert finished == summary["overall"]["requests"]["total"] > 1000
    assert summary["overall"]["slo_attainment"] > 0.5


@pytest.mark.parametrize("text", blocks("python"))
def test_python(text, capsys):
    exec(compile(text, "README.md", "exec"), {})
    assert float(capsys.readouterr().out) > 0


def test_there_are_examples():
    assert len(blocks("yaml")) == 2
    assert len(blocks("python")) == 1
