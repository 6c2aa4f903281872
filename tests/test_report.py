"""``routerwise report``: what is on the page, escaping, several runs, other kinds of results, and bad input."""

import json
import re
import shutil
from html.parser import HTMLParser
from importlib.resources import files

import pytest

from analysis.charts.catalogue import CHARTS, ChartKind
from analysis.charts.chart import Chart, NoData, Panel, Table
from analysis.estimates import Estimate
from analysis.reports import chapters
from analysis.reports.page import report_page
from analysis.reports.run_tables import run_tables, side_by_side
from analysis.reports.tables import Cell, PageTable, figure_cell
from analysis.stored.results import read_results
from analysis.stored.run import StoredRun
from analysis.wording import DOLLARS, MILLISECONDS
from scenarios.cli import main
from scenarios.runner import RunOptions, run_scenario
from scenarios.scenario_files import load_scenario

SHORT = ["workload.duration_s=15", "slo='ttft:300 tpot:60'", "run.warmup=3"]
QUICK = ("--set", "workload.duration_s=10", "--set", "run.warmup=2", "--seed", "1")
VOID = {"meta", "link", "br", "img", "hr", "input"}
HOSTILE = "</pre></script><script>alert(1)</script><img src=x onerror='alert(2)'> \" & '"


def run(*arguments):
    """Run a command; whether a plan holds is its affair."""
    status = 0
    try:
        main([str(argument) for argument in arguments])
    except SystemExit as ended:
        status = ended.code or 0
    assert status in (0, 3, 5), arguments


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Runs of one and of several replications, and a plan with its validation, comparison and stress test."""
    place = tmp_path_factory.mktemp("report")
    plan = place / "all" / "plan.json"
    plan.parent.mkdir()
    run_scenario(load_scenario("plan-demo", SHORT), RunOptions(out=place / "one"))
    run_scenario(load_scenario("plan-demo", [*SHORT, "run.replications=2", "seed=2"]), RunOptions(out=place / "two"))
    few = ("--first", 2, "--most", 2, "--jobs", 1)
    run("optimize", "demo", "--out", plan)
    run("run", "plan-demo", *QUICK, "--plan", plan, "--replications", 2, "--out", plan.with_name("run"))
    run("validate", plan, "plan-demo", *QUICK, *few, "--gap", "--out", plan.with_name("validation.json"))
    run("stress", plan, "plan-demo", *QUICK, *few, "--points", 1, "--axis", "load", "--out", plan.with_name("stress"))
    policies = ("--policies", "price,random", "--slo", "ttft:400", "--replications", 2)
    run("compare", "plan-demo", *QUICK, *policies, "--out", plan.with_name("comparison"))
    return place


@pytest.fixture(autouse=True, scope="module")
def quick_drawings():
    """The drawings themselves are tested where they are made; here they only have to be there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chapters, "panel_svg", lambda panel, name: f'<svg width="9pt" id="{name}"><g/></svg>')
        yield


@pytest.fixture
def copied(folder, tmp_path):
    shutil.copytree(folder / "one", tmp_path / "run")
    return tmp_path / "run"


class Structure(HTMLParser):
    """Open and close tags in pairs; collects identifiers, headings, links, and the text of the page."""

    def __init__(self, text):
        super().__init__()
        self.open, self.ids, self.headings, self.links, self.text, self.scripts = [], [], [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        assert not any(name.startswith("on") for name in values), values
        self.ids += [values["id"]] if "id" in values else []
        self.links += [values[name] for name in ("href", "src") if name in values]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.ids += [value for name, value in attrs if name == "id"]

    def handle_endtag(self, tag):
        assert self.open
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            self.scripts.append(data)
        elif self.open and re.fullmatch(r"h[1-4]", self.open[-1]):
            self.headings.append((self.open[-1], " ".join(data.split())))
        self.text.append(data)


def page_of(*paths, **options):
    return report_page(read_results(paths), **options)


# ---------------------------------------------------------------------- what is there


def test_a_page_is_one_well_formed_file_with_everything_in_it(folder):
    text = page_of(folder / "one")
    page = Structure(text)
    assert text.startswith("<!DOCTYPE html>")
    assert '<html lang="en">' in text
    assert len(page.ids) == len(set(page.ids))
    anchors = [link for link in page.links if link.startswith("#")]
    assert {link[1:] for link in anchors} <= set(page.ids), "every link of the contents leads somewhere"
    assert [link for link in page.links if not link.startswith("#")] == ["data:,"]
    assert "http://" not in text.replace("http://www.w3.org", "")
    assert [level for level, _ in page.headings][:2] == ["h1", "h2"]
    assert len(page.scripts) == 1


def test_the_verdict_comes_first_and_provenance_last(folder):
    page = Structure(page_of(folder / "one"))
    chapters_found = [words for level, words in page.headings if level == "h2"]
    assert chapters_found[0] == "Verdict"
    assert chapters_found[-3:] == ["Figures", "Definitions", "Provenance"]
    assert ("h1", "plan-demo") in page.headings
    words = " ".join(page.text)
    manifest = json.loads((folder / "one" / "manifest.json").read_text())
    assert manifest["scenario_sha256"][:12] in words
    assert manifest["versions"]["numpy"] in words
    assert "kind: mmpp2" in words or "arrivals:" in words, "the scenario is there"


def test_every_chart_with_data_is_on_the_page(folder):
    text = page_of(folder / "all")
    page = Structure(text)
    expected = []
    for kind, entry in CHARTS.items():
        try:
            chart = entry.make(read_results([folder / "all"]))
        except NoData:
            continue
        expected.append(kind)
        assert f'aria-label="{chart.title}' in text
    assert {"cluster", "latency", "gap", "stress", "comparison", "promise"} <= set(expected)
    assert sorted(name for name in page.ids if name.startswith("chart-")) == sorted(
        f"chart-{kind}" for kind in expected
    )
    words = " ".join(page.text)
    assert "Plan demo on plan-demo" in words
    assert "Comparison of policies on plan-demo" in words
    assert "Stress test of plan demo on plan-demo" in words


def test_sections_appear_with_their_data(folder):
    alone = Structure(page_of(folder / "all" / "plan.json"))
    assert "figures" not in alone.ids
    assert "side-by-side" not in alone.ids
    assert "chart-latency" not in alone.ids
    assert "chart-cluster" in alone.ids
    several = Structure(page_of(folder / "one", folder / "two"))
    assert {"figures", "side-by-side", "chart-latency"} <= set(several.ids)


def test_a_chart_that_no_chapter_knows_has_a_place(folder, monkeypatch):
    def make(_):
        panels = (
            Panel(title="a", draw=lambda _: None, group="one"),
            Panel(title="b", draw=lambda _: None, size_in=(9.0, 3.0), group="one"),
            Panel(title="c", draw=lambda _: None, group="other"),
        )
        table = Table(columns=("x", "y"), rows=(("one", "1"),))
        return Chart(kind="new", title="Something <new>", caption="How & why", panels=panels, table=table)

    def none(_):
        raise NoData("nothing to show")

    kinds = {"new": ChartKind(summary="New.", make=make), "empty": ChartKind(summary="Empty.", make=none)}
    monkeypatch.setattr(chapters, "CHARTS", kinds)
    steps = []
    found = chapters.drawn_chapters(read_results([folder / "one"]), lambda *step: steps.append(step))
    assert [(chapter.title, [chart.name for chart in chapter.charts]) for chapter in found] == [("More", ["new"])]
    assert [panel.is_wide for panel in found[0].charts[0].panels] == [False, True, False]
    assert [panel.starts_row for panel in found[0].charts[0].panels] == [False, False, True]
    assert (
        found[0].charts[0].panels[0].svg.startswith('<svg id="new-0" role="img" aria-label="Something &lt;new&gt;: a">')
    )
    assert steps == [("Drawing", 3, 3)]
    assert "Something &lt;new&gt;" in page_of(folder / "one")


def test_names_of_users_stay_text(copied):
    for name in ("summary.json", "cluster.json", "manifest.json", "scenario.yaml"):
        path = copied / name
        path.write_text(path.read_text(encoding="utf-8").replace("plan-demo", "hostile"), encoding="utf-8")
    scenario = copied / "scenario.yaml"
    content = scenario.read_text(encoding="utf-8")
    scenario.write_text(re.sub(r"^name: .*$", f"name: {json.dumps(HOSTILE)}", content, flags=re.M), encoding="utf-8")
    text = page_of(copied)
    page = Structure(text)
    assert len(page.scripts) == 1
    assert HOSTILE not in text
    assert HOSTILE in " ".join(page.text)
    assert "<b>title</b>" not in page_of(copied, title="<b>title</b>")


def test_the_page_allows_itself_no_network_and_no_other_script(folder):
    text = page_of(folder / "one")
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)[1]
    assert "default-src 'none'" in policy
    assert "unsafe-inline" not in policy.split("script-src")[1]


def luminance(colour):
    channels = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_stands_out_from_what_is_behind_it(theme):
    """Contrast of at least 4.5 (WCAG 2.2, success criterion 1.4.3, level AA)."""
    style = files("analysis.reports").joinpath("templates", "report.css").read_text(encoding="utf-8")
    block = next(part for part in style.split("}") if f"color-scheme: {theme}" in part)
    colours = dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", block))
    for text in ("ink", "muted", "accent", "holds", "broken", "undecided", "measured"):
        for behind in ("surface", "page"):
            low, high = sorted(luminance(colours[name]) for name in (text, behind))
            assert (high + 0.05) / (low + 0.05) >= 4.5, f"{text} on {behind}"


# ---------------------------------------------------------------------- tables


def test_tables_by_model_class_and_replica(folder):
    run = StoredRun(folder / "two")
    tables = list(run_tables(run))
    assert [table.title for table in tables] == ["By model", "By replica"], "one class needs no table"
    by_model = tables[0]
    assert by_model.columns == ("", *run.models, "all")
    rows = {row[0].text: row for row in by_model.rows}
    found = run.estimate("overall", "ttft_s", "p95")
    assert rows["TTFT P95 (ms)"][-1] == figure_cell(found, MILLISECONDS)
    assert rows["TTFT P95 (ms)"][-1].below[0].startswith("[")
    assert by_model.numeric == (False, *[True] * (len(run.models) + 1))


def test_runs_side_by_side_say_what_was_shown(folder):
    one, two = StoredRun(folder / "one"), StoredRun(folder / "two")
    table = side_by_side([two, one])
    rows = {row[0].text: row for row in table.rows}
    difference = one.number("overall", "ttft_s", "mean") - two.number("overall", "ttft_s", "mean")
    cell = rows["TTFT mean (ms)"][2]
    (below,) = cell.below
    assert f"{1e3 * abs(difference):.0f}"[:2] in below
    assert "overlap" not in below
    assert "apart" not in below, "one replication has no interval"
    assert not cell.stands_out


def test_what_depends_on_limits_is_not_compared_where_they_differ(folder, tmp_path):
    shutil.copytree(folder / "two", tmp_path / "other")
    path = tmp_path / "other" / "summary.json"
    summary = json.loads(path.read_text())
    path.write_text(json.dumps(summary | {"slo": "ttft:9999"}))
    two, other = StoredRun(folder / "two"), StoredRun(tmp_path / "other")
    alike, table = side_by_side([two, two]), side_by_side([two, other])
    assert "limits of their own" in table.note
    assert "limits of their own" not in alike.note
    for name, more in (("kept limits (%)", 0), ("TTFT mean (ms)", 1)):
        compared = [next(row for row in found.rows if row[0].text == name) for found in (alike, table)]
        assert compared[1][1] == compared[0][1]
        assert len(compared[0][2].below) == len(compared[0][1].below) + 1
        assert len(compared[1][2].below) == len(compared[1][1].below) + more


def changed_mean(folder, tmp_path, name, low, high):
    shutil.copytree(folder / "two", tmp_path / name)
    path = tmp_path / name / "summary.json"
    summary = json.loads(path.read_text())
    summary["overall"]["ttft_s"]["mean"] = {"mean": (low + high) / 2, "low": low, "high": high}
    path.write_text(json.dumps(summary))
    return StoredRun(tmp_path / name)


@pytest.mark.parametrize(
    ("low", "high", "words", "stands_out"),
    [(0.30, 0.40, "+200, apart", True), (0.15, 0.25, "overlap", False), (0.10, 0.20, "the same", False)],
)
def test_whether_intervals_overlap(folder, tmp_path, low, high, words, stands_out):
    base = changed_mean(folder, tmp_path, "base", 0.10, 0.20)
    other = changed_mean(folder, tmp_path, "other", low, high)
    rows = {row[0].text: row for row in side_by_side([base, other]).rows}
    cell = rows["TTFT mean (ms)"][2]
    interval, difference = cell.below
    assert interval.startswith("[")
    assert words in difference
    assert ("apart" in difference) is cell.stands_out is stands_out


def test_cells():
    assert figure_cell(None, MILLISECONDS) == Cell(text="")
    assert figure_cell(Estimate(value=0.4), DOLLARS).text == "$0.400"
    assert [Cell(text=text).is_number for text in ("1,234", "", "\N{MINUS SIGN}3", "$0.4", "[1, 2]", "GPU 0", "-")] == [
        True, True, True, True, True, False, False,
    ]  # fmt: skip
    assert PageTable(columns=("a", "b"), rows=((Cell(text="x"), Cell(text="1")),)).numeric == (False, True)


# ---------------------------------------------------------------------- the command


def test_the_command_writes_one_file(folder, tmp_path, routerwise):
    out = tmp_path / "page.html"
    status, text, err = routerwise("report", folder / "one", "--out", out, "--title", "My page")
    assert (status, err) == (0, "")
    assert text.startswith(f"Report: {out} (")
    assert "<title>My page</title>" in out.read_text(encoding="utf-8")
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]
    status, _, err = routerwise("report", folder / "one", "--out", out)
    assert status == 2
    assert "--overwrite" in err
    assert routerwise("report", folder / "two", "--out", out, "--overwrite")[0] == 0
    assert "<title>plan-demo</title>" in out.read_text(encoding="utf-8")


def test_a_page_that_fails_leaves_the_old_one(folder, tmp_path, routerwise, monkeypatch):
    out = tmp_path / "page.html"
    out.write_text("old")

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(chapters, "panel_svg", fail)
    status, _, err = routerwise("report", folder / "one", "--out", out, "--overwrite")
    assert status == 2
    assert "free some space" in err
    assert out.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]


def incomplete(run):
    (run / "summary.json").unlink()


def other_version(run):
    manifest = json.loads((run / "manifest.json").read_text())
    (run / "manifest.json").write_text(json.dumps({**manifest, "schema_version": 1}))


def empty(run):
    shutil.rmtree(run)
    run.mkdir()


def without_requests(run):
    (run / "requests.csv").unlink()


def gone(run):
    shutil.rmtree(run)


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (incomplete, "summary.json is missing"),
        (other_version, "layout version 1"),
        (empty, "is empty"),
        (without_requests, "requests.csv or requests.parquet is missing"),
        (gone, "does not exist"),
    ],
)
def test_damaged_results_are_one_clear_line(copied, tmp_path, routerwise, damage, expected):
    damage(copied)
    out = tmp_path / "page.html"
    status, text, err = routerwise("report", copied, "--out", out)
    assert (status, text) == (2, "")
    assert expected in err
    assert err.count("\n") == 1
    assert not out.exists()


def test_unwritable_places_are_found_before_any_work(folder, tmp_path, routerwise, monkeypatch):
    monkeypatch.setattr("scenarios.commands.report.read_results", lambda _: pytest.fail("work was begun"))
    for out, expected in ((tmp_path / "no" / "page.html", "does not exist"), (tmp_path, "is a directory")):
        status, _, err = routerwise("report", folder / "one", "--out", out, "--overwrite")
        assert status == 2
        assert expected in err


def test_results_are_needed(routerwise):
    status, _, err = routerwise("report")
    assert status == 2
    assert "RESULT" in err
