"""From what a plan promised to what its simulation showed, cause by cause."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from analysis.charts.chart import Chart, NoData, Panel, Table
from analysis.charts.style import BROKEN, HOLDS, INK, MUTED
from analysis.estimates import Estimate, estimate_of
from analysis.stored.results import Results
from analysis.wording import SCORE, UNITS, percent, worded

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def gap_chart(results: Results) -> Chart:
    """A waterfall for each gap of the validations that could be attributed.

    Raises
    ------
    NoData
        No validation is among the results, none was made with ``--gap``, or no gap could be attributed.
    """
    documents = [document for document in results.validations if "gap" in document.content]
    if not documents:
        raise NoData("gap needs a validation with a gap report: `routerwise validate ... --gap --out FILE`")
    gaps = [gap for document in documents for gap in document.content["gap"]["gaps"] if gap["steps"]]
    if not gaps:
        raise NoData("there is nothing to plot: in some run no request has the figures that the plan promised")
    return Chart(
        kind="gap",
        title="From the promise to the outcome",
        caption="Each bar is what one cause adds when it alone comes back, in runs with and without it; the whiskers "
        f"are {percent(documents[0].content['confidence'])} intervals. Left over: what the curves did not foresee.",
        panels=tuple(
            Panel(title=gap["name"], draw=partial(_draw, gap=gap), size_in=(4.8, 1.1 + 0.32 * (len(gap["steps"]) + 2)))
            for gap in gaps
        ),
        table=_table(gaps),
    )


def _draw(axes: Axes, *, gap: Mapping[str, Any]) -> None:
    from matplotlib.ticker import MaxNLocator

    unit = UNITS[gap["unit"]]
    scale = unit.factor
    names = ["promised", *(step["name"] for step in gap["steps"]), "simulated"]
    level = scale * gap["promised"]
    axes.barh(0, level, color=MUTED, height=0.62)
    # A higher score is better, a longer latency or more late requests are worse.
    rising, falling = (HOLDS, BROKEN) if unit is SCORE else (BROKEN, HOLDS)
    edges = [level]
    for place, step in enumerate(gap["steps"], 1):
        effect = step["effect"]
        change = scale * effect["estimate"]
        axes.barh(place, change, left=level, color=rising if change > 0 else falling, height=0.62)
        axes.plot([level, level], [place - 1.31, place + 0.31], color=MUTED, linewidth=0.8)
        bounds = [level + scale * effect[bound] for bound in ("low", "high")]
        level += change
        axes.plot(bounds, [place, place], color=INK, linewidth=1.0)
        edges += [level, *bounds]
    simulated = gap["simulated"]
    last = len(names) - 1
    axes.barh(last, scale * simulated["estimate"], color=MUTED, height=0.62)
    bounds = [scale * simulated[bound] for bound in ("low", "high")]
    axes.plot(bounds, [last, last], color=INK, linewidth=1.0)
    edges += [scale * simulated["estimate"], *bounds]
    margin = 0.1 * (max(edges) - min(edges) or abs(level) or 1.0)
    # Bars start at zero, far left of what changes.
    axes.set_xlim(min(edges) - 2 * margin, max(edges) + margin)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.grid(visible=False, axis="y")
    axes.set_xlabel(f"{gap['name']} ({unit.name})" if unit.name else gap["name"])


def _table(gaps: Sequence[Mapping[str, Any]]) -> Table:
    rows = []
    for gap in gaps:
        unit = UNITS[gap["unit"]]
        rows.append((gap["name"], "promised", worded(Estimate(value=gap["promised"]), unit)))
        for step in gap["steps"]:
            rows.append((gap["name"], step["name"], worded(estimate_of(step["effect"]), unit, signed=True)))
        rows.append((gap["name"], "simulated", worded(estimate_of(gap["simulated"]), unit)))
    return Table(columns=("figure", "cause", "effect"), rows=tuple(rows))
