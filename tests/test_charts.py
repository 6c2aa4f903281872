"""Charts of runs: what they show is what was stored, and it can be read."""

import itertools
import shutil
from pathlib import Path

import numpy as np
import pytest
from chart_cases import SHARED_GPUS, Drawn, edited, plain, simulated

from analysis.charts.catalogue import CHARTS
from analysis.charts.chart import Chart, NoData, Panel
from analysis.charts.dots import Row, Scale, Series, dot_panel
from analysis.charts.rendering import panel_svg, write_chart
from analysis.charts.style import colours, dashes, markers, shortened, told_apart
from analysis.estimates import Estimate
from analysis.stored.results import read_results
from analysis.wording import SHARE, brief

UNITS = ("(s)", "(ms)", "(min)", "(%)", "per ", "requests", "score", "$")
OF_RUNS = ("cluster", "attainment", "latency", "timeline", "time-parts", "quality", "load", "cost")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("charts")
    simulated(place / "two", "plan-demo", *SHARED_GPUS, "run.replications=3")
    simulated(place / "one", "plan-demo", *SHARED_GPUS)
    simulated(place / "crash", "replica-crash", "workload.duration_s=420")
    return place


@pytest.fixture
def make(folder):
    """Make a chart of run directories by their names."""

    def chart(kind, *names):
        return CHARTS[kind].make(read_results([folder / name for name in names]))

    return chart


def panel_of(chart, title):
    return next(panel for panel in chart.panels if panel.title == title)


# ---------------------------------------------------------------------- every kind


@pytest.mark.parametrize("names", [("two",), ("one", "two")])
@pytest.mark.parametrize("kind", OF_RUNS)
def test_every_panel_has_something_in_it_with_its_unit_and_nothing_collides(make, kind, names):
    chart = make(kind, *names)
    assert chart.kind == kind
    assert chart.title
    assert chart.caption.endswith(".")
    assert chart.table.rows
    assert all(len(row) == len(chart.table.columns) for row in chart.table.rows)
    assert not any("nan" in cell for row in chart.table.rows for cell in row)
    for panel in chart.panels:
        drawn = Drawn(panel)
        assert drawn.overlaps() == 0, (panel.title, drawn.texts)
        assert not drawn.outside, panel.title
        assert drawn.axes.get_lines() or drawn.axes.patches
        assert not any(word in text for text in drawn.texts for word in ("nan", "None", "inf "))
        if drawn.legend_box is not None:
            assert drawn.legend_box.y1 < drawn.axes_box.y0, "the legend is over the data"
        label = f"{drawn.axes.get_xlabel()} {drawn.axes.get_ylabel()}"
        assert kind == "cluster" or any(unit in label for unit in UNITS), label


@pytest.mark.parametrize("kind", CHARTS)
def test_a_kind_without_its_data_says_in_one_line_what_it_needs(folder, kind):
    with pytest.raises(NoData, match=kind) as caught:
        CHARTS[kind].make(read_results([]))
    assert "\n" not in str(caught.value)


def test_a_run_without_slo_scores_parts_and_prices(folder, tmp_path):
    shutil.copytree(folder / "crash", tmp_path / "run")

    def bare(summary):
        summary["slo"] = summary["cost"] = None
        for group in (summary["overall"], *summary["by_model"].values()):
            group.pop("ttft_parts_s", None), group.pop("e2e_parts_s", None)

    edited(tmp_path / "run" / "summary.json", bare)
    results = read_results([tmp_path / "run"])
    for kind in ("attainment", "quality", "time-parts", "cost", "promise", "quality-latency"):
        with pytest.raises(NoData, match=kind):
            CHARTS[kind].make(results)
    assert CHARTS["latency"].make(results).panels


# ---------------------------------------------------------------------- one by one


def test_latency_lines_are_the_shares_of_slower_requests(make, folder):
    chart = make("latency", "one")
    run = read_results([folder / "one"]).runs[0]
    ttft_s = run.requests[run.requests["model"] == "codellama-34b"]["ttft_s"].to_numpy()
    drawn = Drawn(panel_of(chart, "Time to first token"))
    (label,) = (label for label in drawn.lines if label.startswith("codellama-34b"))
    x, share = drawn.values(label)
    unit_s = 1e-3 if "(ms)" in drawn.axes.get_xlabel() else 1.0
    for place in range(0, len(x), 37):
        assert share[place] == pytest.approx((ttft_s > x[place] * unit_s + 1e-12).mean(), abs=1.5 / len(ttft_s))
    missed = (ttft_s > 0.3).mean()
    assert label == f"codellama-34b, {brief(missed, SHARE)} missed"


def test_unanswered_requests_are_slower_than_any_limit(folder, tmp_path):
    shutil.copytree(folder / "crash", tmp_path / "run")
    path = tmp_path / "run" / "requests.csv"
    lines = path.read_text(encoding="utf-8").splitlines()
    heading = lines[0].split(",")
    for number in range(1, len(lines), 4):
        row = dict(zip(heading, lines[number].split(","), strict=True))
        row |= {"status": "rejected", "ttft_s": "", "tpot_s": "", "e2e_s": "", "queue_s": ""}
        lines[number] = ",".join(row.values())
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    chart = CHARTS["latency"].make(read_results([tmp_path / "run"]))
    assert "without an answer" in chart.caption
    drawn = Drawn(chart.panels[0])
    (label,) = (label for label in drawn.lines if label.startswith("llama-7b"))
    assert drawn.values(label)[1].min() >= 0.25
    missed = float(plain(label).split(", ")[1].split(" ")[0])
    assert 25.0 <= missed <= 27.0


def test_answers_of_one_token_keep_a_limit_on_the_time_per_token(folder, tmp_path):
    shutil.copytree(folder / "crash", tmp_path / "run")
    edited(tmp_path / "run" / "summary.json", lambda summary: summary.update(slo="tpot:0.001"))
    path = tmp_path / "run" / "requests.csv"
    lines = path.read_text(encoding="utf-8").splitlines()
    heading = lines[0].split(",")
    lines = [
        ",".join((dict(zip(heading, line.split(","), strict=True)) | {"status": "finished"}).values()) for line in lines
    ]
    lines[0] = ",".join(heading)
    for number in range(1, len(lines), 2):
        lines[number] = ",".join((dict(zip(heading, lines[number].split(","), strict=True)) | {"tpot_s": ""}).values())
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    chart = CHARTS["latency"].make(read_results([tmp_path / "run"]))
    (label,) = (label for label in Drawn(panel_of(chart, "Time per output token")).lines if label.startswith("llama"))
    assert 49.0 <= float(plain(label).split(", ")[1].split(" ")[0]) <= 50.0


def test_several_runs_are_one_line_each_and_have_no_limit_if_it_is_not_the_same(make):
    drawn = Drawn(make("latency", "one", "two").panels[0])
    assert sum(label.startswith("plan-demo") for label in drawn.lines) == 2
    assert any(label.startswith("limit") for label in drawn.lines)
    chart = make("latency", "one", "crash")
    assert not any(label.startswith("limit") for label in Drawn(chart.panels[0]).lines)
    assert "limits of their own" in chart.caption


def test_names_and_prices_are_no_formulas(folder, tmp_path):
    shutil.copytree(folder / "crash", tmp_path / "run")
    for name in ("summary.json", "cluster.json", "requests.csv", "timeseries.csv", "outages.csv", "scenario.yaml"):
        path = tmp_path / "run" / name
        path.write_text(path.read_text(encoding="utf-8").replace("llama-7b", "a$b_1$ <c>"), encoding="utf-8")
    for kind in ("cluster", "latency", "timeline"):
        chart = CHARTS[kind].make(read_results([tmp_path / "run"]))
        write_chart(chart, tmp_path / "x.svg")
        assert "a$b_1$ &lt;c&gt;" in (tmp_path / "x.svg").read_text(encoding="utf-8")


def test_the_timeline_shows_the_outage_and_the_warmup(make):
    crash = make("timeline", "crash")
    drawn = Drawn(panel_of(crash, "Waiting requests"))
    assert "a replica is down" in drawn.texts
    span = drawn.axes.patches[0].get_extents().transformed(drawn.axes.transData.inverted())
    assert (span.x0, span.x1) == (pytest.approx(300.0), pytest.approx(350.0))
    rows = [tuple(map(plain, row)) for row in crash.table.rows]
    assert ("a replica is down", "llama-7b/0", "", "", "300 s to 350 s") in rows
    assert "warm-up" in Drawn(make("timeline", "one").panels[0]).texts


def test_an_outage_and_the_warmup_look_different_on_a_page(make):
    """A hatch in the colour of its face cannot be seen."""
    hatched = panel_svg(panel_of(make("timeline", "crash"), "Waiting requests"), "x")
    assert '<pattern id="x-' in hatched
    assert 'fill="var(--muted)"' not in hatched
    assert 'fill="none"' in hatched
    assert "fill: var(--muted); opacity: 0.16" in panel_svg(make("timeline", "one").panels[0], "x")


def test_arrivals_over_time_add_up_to_the_requests(make, folder):
    run = read_results([folder / "one"]).runs[0]
    drawn = Drawn(panel_of(make("timeline", "one"), "Arrivals"))
    for model in run.models:
        times, rates = drawn.values(model)
        width_s = times[1] - times[0]
        known = np.isfinite(rates)
        expected = (run.requests_of(0)["model"] == model).sum()
        assert rates[known].sum() * width_s == pytest.approx(expected, rel=0.06)


def test_waterfalls_end_at_the_mean(make, folder):
    run = read_results([folder / "two"]).runs[0]
    drawn = Drawn(panel_of(make("time-parts", "two"), "TTFT, all requests"))
    parts, total = drawn.axes.patches[:-1], drawn.axes.patches[-1]
    scale = 1e3 if "(ms)" in drawn.axes.get_xlabel() else 1.0
    assert total.get_width() == pytest.approx(scale * run.number("overall", "ttft_s", "mean"), rel=2e-3)
    for one, following in itertools.pairwise(parts):
        assert following.get_x() == pytest.approx(one.get_x() + one.get_width())
    assert "prefill" in drawn.texts
    assert "sum" in drawn.texts


def test_attainment_of_classes_and_pairs_is_shown_where_there_are_several(folder, tmp_path):
    shutil.copytree(folder / "one", tmp_path / "run")

    def two_classes(summary):
        group = summary["overall"]
        summary["by_class"] = {"chat": group, "batch": group}
        summary["by_model_and_class"] = {name: {"chat": group, "batch": group} for name in summary["by_model"]}

    edited(tmp_path / "run" / "summary.json", two_classes)
    chart = CHARTS["attainment"].make(read_results([tmp_path / "run"]))
    assert [panel.title for panel in chart.panels] == ["All, and by model", "By class", "By model and class"]
    assert "llama-7b, batch" in Drawn(chart.panels[2]).texts


def test_intervals_are_drawn_with_replications_only(make):
    for kind in ("attainment", "quality"):
        with_intervals, without = (Drawn(make(kind, name).panels[0]) for name in ("two", "one"))
        assert len(with_intervals.axes.get_lines()) > len(without.axes.get_lines())


def test_quality_shows_predicted_and_achieved(make, folder):
    run = read_results([folder / "one"]).runs[0]
    drawn = Drawn(panel_of(make("quality", "one"), "Score"))
    for name in ("predicted", "achieved"):
        assert f"{run.number('overall', 'quality', name):.4f}" in drawn.texts
        assert name in drawn.texts
    shares = Drawn(panel_of(make("quality", "one"), "Traffic"))
    assert {"llama-7b", "llama-13b", "codellama-34b"} <= set(shares.texts)


def test_many_replicas_are_shown_as_distributions(folder, tmp_path):
    shutil.copytree(folder / "crash", tmp_path / "run")

    def many(summary):
        (entry, *_) = summary["replicas"].values()
        summary["replicas"] = {f"llama-7b/{k}": entry | {"utilisation": 0.3 + 0.01 * k} for k in range(40)}

    edited(tmp_path / "run" / "summary.json", many)
    chart = CHARTS["load"].make(read_results([tmp_path / "run"]))
    drawn = Drawn(chart.panels[0])
    assert len(chart.panels[0].size_in) == 2
    assert chart.panels[0].size_in[1] < 3.0
    assert "40 replicas, median 49.5 %" in drawn.texts
    assert len(chart.table.rows) == 40


def test_quality_and_latency_needs_two_runs(make):
    with pytest.raises(NoData, match="two or more"):
        make("quality-latency", "one")
    chart = make("quality-latency", "one", "two")
    assert [panel.title for panel in chart.panels] == ["P95 of TTFT", "Mean TTFT", "P95 of E2E", "SLO attainment"]
    assert len(chart.table.rows) == 2


def test_a_run_of_nobody(folder, tmp_path):
    shutil.copytree(folder / "crash", tmp_path / "run")
    path = tmp_path / "run" / "requests.csv"
    path.write_text(path.read_text(encoding="utf-8").splitlines()[0] + "\n", encoding="utf-8")

    def nobody(summary):
        for group in (summary["overall"], *summary["by_model"].values()):
            group["requests"]["total"] = 0
            group["slo_attainment"] = None

    edited(tmp_path / "run" / "summary.json", nobody)
    results = read_results([tmp_path / "run"])
    for kind in ("latency", "timeline", "attainment"):
        with pytest.raises(NoData, match="requests"):
            CHARTS[kind].make(results)
    assert CHARTS["cluster"].make(results).panels


# ---------------------------------------------------------------------- drawing


@pytest.mark.parametrize("ending", ["svg", "png", "pdf"])
def test_a_chart_is_written_in_every_format(make, tmp_path, ending):
    path = tmp_path / f"chart.{ending}"
    write_chart(make("attainment", "one", "two"), path)
    assert path.stat().st_size > 5000
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
    if ending == "svg":
        text = path.read_text(encoding="utf-8")
        assert "SLO attainment: 2 runs" in text
        assert "Share of all requests that kept the SLO" in text


def test_a_panel_for_a_page_has_the_colours_of_the_page_and_names_of_its_own(make):
    text = panel_svg(make("latency", "one").panels[0], "first")
    assert text.startswith("<svg")
    assert "var(--ink)" in text
    assert "var(--muted)" in text
    assert "TTFT" in text
    assert "<metadata>" not in text
    assert 'id="first-' in text
    assert 'id="figure' not in text


def test_panels_of_one_group_share_a_row():
    from analysis.charts.rendering import _rows

    def panels(*groups):
        return [Panel(title="", draw=lambda axes: None, group=group) for group in groups]

    assert [len(row) for row in _rows(panels("a", "a", "b", "b"))] == [2, 2]
    assert [len(row) for row in _rows(panels("a", "a", "a", "b", "b"))] == [3, 2]
    assert [len(row) for row in _rows(panels(*"a" * 4))] == [2, 2]
    assert [len(row) for row in _rows(panels(*"a" * 5))] == [3, 2]


def test_series_can_be_told_apart_without_colour_beyond_the_palette():
    names = [f"model {place}" for place in range(24)]
    for marks in (dashes(names), markers(names)):
        looks = {(colours(names)[name], str(marks[name])) for name in names}
        assert len(looks) == len(names)


def test_dots_stay_within_what_is_possible():
    row = Row(label="all", dots=(Estimate(value=0.97, low=0.9, high=1.04),), limit=0.95)
    scale = Scale(label="share (%)", unit=SHARE, low=None, bounds=(0.0, 1.0))
    series = [Series(label="run", colour="#0072b2")]
    drawn = Drawn(dot_panel("x", [row], series, scale))
    ends = [value for line in drawn.axes.get_lines() for value in line.get_xdata()]
    assert max(ends) == pytest.approx(100.0)
    assert min(ends) == pytest.approx(90.0)
    assert all(float(tick.get_text()) <= 100.0 for tick in drawn.axes.get_xticklabels())


def test_a_caption_is_part_of_the_picture_of_an_empty_panel(tmp_path):
    chart = Chart(kind="x", title="Title", caption="A caption.", panels=(Panel(title="a", draw=lambda axes: None),))
    write_chart(chart, tmp_path / "x.svg")
    assert "A caption." in Path(tmp_path / "x.svg").read_text(encoding="utf-8")


def test_long_names_keep_their_ends():
    assert shortened("a" * 30) == "a" * 13 + "…" + "a" * 8
    assert shortened("short") == "short"


def test_names_that_would_look_alike_begin_where_they_differ():
    names = [f"org/very-long-model-name-{number}-instruct" for number in (10, 12)]
    assert told_apart([*names, "short"]) == {
        names[0]: "…10-instruct",
        names[1]: "…12-instruct",
        "short": "short",
    }
    assert len(set(told_apart([f"{'a' * 40}{number}" for number in range(30)]).values())) == 30


def test_names_that_the_font_lacks_are_no_warnings(folder, tmp_path, recwarn):
    shutil.copytree(folder / "crash", tmp_path / "run")
    for name in ("summary.json", "cluster.json", "requests.csv", "timeseries.csv", "outages.csv", "scenario.yaml"):
        path = tmp_path / "run" / name
        path.write_text(path.read_text(encoding="utf-8").replace("llama-7b", "日本語"), encoding="utf-8")
    chart = CHARTS["latency"].make(read_results([tmp_path / "run"]))
    write_chart(chart, tmp_path / "x.png")
    assert "日本語" in panel_svg(chart.panels[0], "x")
    assert not [warning for warning in recwarn if "Glyph" in str(warning.message)]
