"""Every fenced block of every page runs, loads or parses, in the order of the page."""

import pytest
from documented_blocks import ROOT, blocks_of, pages
from page_runner import PageRunner

from latency_models.step_time import STEP_TIME_MODELS
from sim.routing.policies import BALANCERS, MODEL_ROUTERS

MOST_SKIPS = 12
PAGES = [page for page in pages() if "```" in page.read_text(encoding="utf-8")]


@pytest.fixture
def registries(monkeypatch):
    """Plug-ins that a page registers are gone after it."""
    for registry in (STEP_TIME_MODELS, MODEL_ROUTERS, BALANCERS):
        monkeypatch.setattr(registry, "_built_in", dict(registry._built_in))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
@pytest.mark.usefixtures("registries")
def test_blocks(page, tmp_path, monkeypatch):
    PageRunner(tmp_path, monkeypatch).run(blocks_of(page))


def test_few_blocks_are_not_tried_and_each_says_why():
    skipped = {
        block.place: block.settings["skip"] for page in PAGES for block in blocks_of(page) if "skip" in block.settings
    }
    assert [place for place, reason in skipped.items() if len(reason.split()) < 3] == []
    assert len(skipped) <= MOST_SKIPS, "\n".join(f"{place}: {reason}" for place, reason in skipped.items())
