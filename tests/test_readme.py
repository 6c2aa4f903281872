"""The README's examples run as they stand."""

import re
from pathlib import Path

import pytest
import yaml

from latency_models.catalogue.gpus import find_gpu
from latency_models.config import BUILT_IN, parse_latency
from latency_models.contract import check_step_time_model
from scenarios.cli import main
from scenarios.runner import RunOptions, run_scenario
from scenarios.scenario_files import load_scenario

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language, page=README):
    return re.findall(rf"^```{language}\n(.*?)^```", page, flags=re.MULTILINE | re.DOTALL)


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


@pytest.mark.parametrize(
    "command", re.findall(r"^routerwise ((?:calibrate|accuracy) \S+[^#\n]*)", README, re.MULTILINE)
)
def test_commands_on_the_example_recordings(command, tmp_path, monkeypatch, capsys):
    arguments = [str(ROOT / word) if word.startswith("docs/") else word for word in command.split()]
    monkeypatch.chdir(tmp_path)
    main(arguments)
    assert "95 %" in capsys.readouterr().out


LATENCY_PAGE = (ROOT / "docs" / "latency-models.md").read_text(encoding="utf-8")


def test_every_kind_of_latency_is_explained():
    assert [kind for kind in BUILT_IN if f"kind: {kind}" not in LATENCY_PAGE] == []


GPU_EXAMPLE = next(text for text in blocks("yaml", LATENCY_PAGE) if text.startswith("gpus:"))


def test_the_example_of_a_gpu(tmp_path):
    (tmp_path / "mine.yaml").write_text(GPU_EXAMPLE, encoding="utf-8")
    assert find_gpu("my-card", tmp_path / "mine.yaml").sms == 142


@pytest.mark.parametrize("text", [text for text in blocks("yaml", LATENCY_PAGE) if text != GPU_EXAMPLE])
def test_latency_sections(text):
    check_step_time_model(
        parse_latency(yaml.safe_load(text)).build(), batches=(1, 2, 7), mean_contexts=(200, 999), chunks=(16, 999)
    )
