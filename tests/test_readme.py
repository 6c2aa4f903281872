"""The README's scenarios do what they say; tests/test_docs_blocks.py runs every block of it."""

import pytest
from documented_blocks import ROOT, blocks_of

from latency_models.catalogue.gpus import find_gpu
from latency_models.config import BUILT_IN
from scenarios.runner import RunOptions, run_scenario
from scenarios.scenario_files import load_scenario

SCENARIOS = [block for block in blocks_of(ROOT / "README.md") if block.language == "yaml"]


@pytest.mark.parametrize("block", SCENARIOS, ids=lambda block: block.place)
def test_scenarios(tmp_path, block):
    path = tmp_path / "example.yaml"
    path.write_text(block.text, encoding="utf-8")
    summary = run_scenario(load_scenario(str(path), ["run.replications=1"]), RunOptions())
    finished = summary["overall"]["requests"]["finished"]
    assert finished == summary["overall"]["requests"]["total"] > 1000
    assert summary["overall"]["slo_attainment"] > 0.5


def test_there_are_examples():
    assert len(SCENARIOS) == 2


LATENCY_PAGE = ROOT / "docs" / "latency-models.md"


def test_every_kind_of_latency_is_explained():
    page = LATENCY_PAGE.read_text(encoding="utf-8")
    assert [kind for kind in BUILT_IN if f"kind: {kind}" not in page] == []


def test_the_example_of_a_gpu(tmp_path):
    (example,) = [block for block in blocks_of(LATENCY_PAGE) if block.text.startswith("gpus:")]
    (tmp_path / "mine.yaml").write_text(example.text, encoding="utf-8")
    assert find_gpu("my-card", tmp_path / "mine.yaml").sms == 142
