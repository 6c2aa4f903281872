"""`routerwise plot`: pictures of results, and mistakes."""

import re

import pytest
from chart_cases import simulated

from analysis.charts.catalogue import CHARTS


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return simulated(tmp_path_factory.mktemp("plot") / "run", "mps-pair", "workload.duration_s=120")


@pytest.mark.parametrize("arguments", [(), ("--list",)])
def test_the_kinds_have_a_line_each(routerwise, arguments):
    status, out, _ = routerwise("plot", *arguments)
    assert status == 0
    assert [line.split(" ")[0] for line in out.splitlines()] == list(CHARTS)
    assert all(re.search(r"  +\S.*\.$", line) for line in out.splitlines())


def test_a_picture_is_written_and_not_replaced_unasked(routerwise, run, tmp_path):
    path = tmp_path / "latency.svg"
    status, out, _ = routerwise("plot", "latency", run, "--out", path)
    assert (status, out) == (0, f"Picture: {path}\n")
    before = path.read_bytes()
    status, _, err = routerwise("plot", "latency", run, "--out", path)
    assert status == 2
    assert "--overwrite" in err
    assert path.read_bytes() == before
    assert routerwise("plot", "cluster", run, "--out", path, "--overwrite")[0] == 0
    assert path.read_bytes() != before


def test_the_same_run_gives_the_same_bytes(routerwise, run, tmp_path):
    for name in ("a.svg", "b.svg"):
        assert routerwise("plot", "attainment", run, "--out", tmp_path / name)[0] == 0
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("latncy", "{run}", "--out", "{new}.svg"), "did you mean 'latency'"),
        (("latency", "--out", "{new}.svg"), "needs results"),
        (("latency", "{run}"), "--out is missing"),
        (("latency", "{run}", "--out", "{new}.bmp"), "ends in .pdf, .png, .svg"),
        (("latency", "{run}", "--out", "{new}/no/a.svg"), "does not exist"),
        (("latency", "{new}", "--out", "{new}.svg"), "does not exist"),
        (("quality", "{run}", "--out", "{new}.svg"), "quality needs"),
        (("gap", "{run}", "--out", "{new}.svg"), "gap needs"),
    ],
)
def test_mistakes_are_one_clear_line(routerwise, run, tmp_path, arguments, message):
    status, _, err = routerwise("plot", *(text.format(run=run, new=tmp_path / "new") for text in arguments))
    assert status == 2
    assert message in err
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_found_before_anything_is_read(routerwise, tmp_path):
    status, _, err = routerwise("plot", "latency", tmp_path / "missing", "--out", "/proc/latency.svg")
    assert status == 2
    assert "nothing can be written to /proc" in err
