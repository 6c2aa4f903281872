"""Charts of validations, frontiers, stress tests and comparisons, made of what the commands store."""

from pathlib import Path

import pytest
from chart_cases import plain

from analysis.charts.chart import NoData
from analysis.charts.comparison import comparison_chart
from analysis.charts.frontier import frontier_chart
from analysis.charts.gap import gap_chart
from analysis.charts.rendering import panel_svg
from analysis.charts.stress import stress_chart, stress_map_chart
from analysis.stored.results import Results, StoredDocument


def document(content):
    return (StoredDocument(path=Path("x"), name="plan", content=content),)


def point(value, outcome, strain):
    return {"value": value, "outcome": outcome, "strain": strain}


LOAD = {
    "axis": "load", "target": None, "unit": "x", "low": 1.0, "high": 2.0, "verdict": "holds to 1.5x the load",
    "points": [point(1.0, "holds", 0.5), point(1.5, "undecided", 1.0), point(2.0, "broken", None)],
}  # fmt: skip
MAP = {
    "x": {"axis": "load", "target": None, "unit": "x", "values": [1.0, 2.0]},
    "y": {"axis": "bursts", "target": None, "unit": "x", "values": [1.0, 3.0]},
    "outcomes": [["holds", "undecided"], ["broken", "broken"]],
    "strain": [[0.5, 1.1], [2.0, None]],
}


def figure(mean, half=0.01):
    return {"mean": mean, "low": mean - half, "high": mean + half}


def comparison(*, slo="ttft:400"):
    metrics = [{"name": "predicted", "title": "score, predicted", "unit": "score"}]
    if slo:
        metrics.append({"name": "attainment", "title": "SLO attainment", "unit": "share"})
    policies = {
        "price": {"oracle": False, "figures": {"predicted": figure(0.5), "attainment": figure(0.9)}},
        "worse": {"oracle": False, "figures": {"predicted": figure(0.4), "attainment": figure(0.8)}},
        "knows-all": {"oracle": True, "figures": {"predicted": figure(0.9), "attainment": figure(0.99)}},
    }
    return {"scenario": "some", "replications": 3, "slo": slo, "metrics": metrics, "policies": policies}


def gap(name="mean TTFT", unit="s", steps=((0.05, 0.04, 0.06), (-0.01, -0.02, 0.0))):
    def interval(estimate, low, high):
        return {"estimate": estimate, "low": low, "high": high}

    causes = zip(("left over (curves)", "bursts"), steps, strict=False)
    return {
        "name": name, "unit": unit, "promised": 0.1, "simulated": interval(0.14, 0.13, 0.15),
        "steps": [{"name": cause, "effect": interval(*values)} for cause, values in causes],
    }  # fmt: skip


FRONTIER = {
    "manifest": {"settings": {"slo": "mean TTFT <= 150 ms"}},
    "points": [
        {"sweep": "target", "target_ms": "100", "rate_per_s": "5", "feasible": "True", "score": "0.41", "setup": "a",
         "fraction one": "0.25", "fraction two": "0.75"},
        {"sweep": "target", "target_ms": "50", "rate_per_s": "5", "feasible": "False", "score": "", "setup": "",
         "fraction one": "", "fraction two": ""},
    ],
}  # fmt: skip


def test_the_gap_adds_up_from_promise_to_outcome():
    chart = gap_chart(Results(validations=document({"confidence": 0.95, "gap": {"gaps": [gap()]}})))
    assert [plain(row[2]).partition(" [")[0] for row in chart.table.rows] == ["100 ms", "+50 ms", "-10 ms", "140 ms"]
    assert plain(chart.table.rows[-1][2]) == "140 ms [130, 150]"
    svg = panel_svg(chart.panels[0], "gap")
    assert "bursts" in svg
    assert "mean TTFT (ms)" in svg


def test_gaps_need_a_report_with_causes():
    with pytest.raises(NoData, match="--gap"):
        gap_chart(Results(validations=document({"outcome": "holds"})))
    with pytest.raises(NoData, match="nothing to plot"):
        gap_chart(Results(validations=document({"confidence": 0.95, "gap": {"gaps": [gap(steps=())]}})))


def test_the_frontier_tells_what_cannot_be_had():
    chart = frontier_chart(Results(frontiers=document(FRONTIER)))
    assert [panel.title for panel in chart.panels] == ["best score over target", "shares over target"]
    assert [row[4] for row in chart.table.rows] == ["0.4100", "none"]
    assert "no setup keeps the SLOs" in panel_svg(chart.panels[0], "a")
    assert "two" in panel_svg(chart.panels[1], "b")


def test_a_frontier_without_any_plan_has_no_shares():
    content = {**FRONTIER, "points": FRONTIER["points"][1:]}
    chart = frontier_chart(Results(frontiers=document(content)))
    assert len(chart.panels) == 1
    assert "no setup" in panel_svg(chart.panels[0], "a")


def test_stress_says_verdicts_in_words_too():
    chart = stress_chart(Results(stresses=document({"scenario": "s", "axes": [LOAD], "map": None})))
    assert chart.table.rows == (("plan", "load (x)", "holds to 1.5x the load"),)
    svg = panel_svg(chart.panels[0], "a")
    assert all(word in svg for word in ("holds", "undecided", "broken", "load (x)"))


def test_the_map_can_be_read_without_colour():
    chart = stress_map_chart(Results(stresses=document({"scenario": "s", "axes": [], "map": MAP})))
    svg = panel_svg(chart.panels[0], "a")
    assert all(text in svg for text in ("50%", "110% ?", "200% ✕", "&gt;10x ✕", "bursts (x)"))
    assert [row[2] for row in chart.table.rows] == ["holds", "undecided", "broken", "broken"]
    with pytest.raises(NoData, match="--map"):
        stress_map_chart(Results(stresses=document({"scenario": "s", "axes": [LOAD], "map": None})))


def test_policies_are_compared_and_oracles_are_not_on_the_line():
    chart = comparison_chart(Results(comparisons=document(comparison())))
    assert chart.table.columns == ("policy", "score, predicted", "SLO attainment")
    assert tuple(map(plain, chart.table.rows[0])) == ("price", "0.5000 [0.4900, 0.5100]", "90.0 % [89.0, 91.0]")

    import matplotlib.pyplot as plt

    figure_, axes = plt.subplots()
    chart.panels[0].draw(axes)
    front = next(line for line in axes.lines if line.get_linestyle() == ":")
    assert front.get_xdata().tolist() == [90.0]
    plt.close(figure_)


def test_a_comparison_without_an_slo_has_no_picture():
    with pytest.raises(NoData, match="both a score and an SLO"):
        comparison_chart(Results(comparisons=document(comparison(slo=None))))


@pytest.mark.parametrize("make", [gap_chart, frontier_chart, stress_chart, stress_map_chart, comparison_chart])
def test_no_results_no_chart(make):
    with pytest.raises(NoData, match="needs"):
        make(Results())
