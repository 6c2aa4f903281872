"""Routing policies next to each other: quality against SLO attainment, a point for each."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from analysis.charts.chart import Chart, NoData, Panel, Table
from analysis.charts.style import INK, MUTED, colours, legend_below, markers
from analysis.estimates import estimate_of
from analysis.stored.results import Results
from analysis.wording import UNITS, worded

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_Values = Mapping[str, Any]


def comparison_chart(results: Results) -> Chart:
    """Mean score of the answers over the share of requests that met the SLO, with intervals.

    The line joins the policies that no other one beats in both; oracles are none that anybody could use, and stay out.

    Raises
    ------
    NoData
        No comparison is among the results, or none has both quality and attainment.
    """
    if not results.comparisons:
        raise NoData("comparison needs a folder of `routerwise compare`")
    drawable = [document.content for document in results.comparisons if _can_be_drawn(document.content)]
    if not drawable:
        raise NoData("comparison needs policies with both a score and an SLO: a scenario with prompts, and --slo")
    return Chart(
        kind="comparison",
        title="Policies: quality against SLO attainment",
        caption="Each mark is a routing policy on the same requests, with confidence intervals; up and to the right is "
        "better. The dotted line joins the policies that no other beats in both.",
        panels=tuple(
            Panel(
                title=f"{content['scenario']}: {content['replications']} replications",
                draw=partial(_draw, content=content),
                size_in=(4.8, 3.1 + 0.2 * ((len(content["policies"]) + 1) // 2)),
            )
            for content in drawable
        ),
        table=_table(drawable[0]),
    )


def _can_be_drawn(content: _Values) -> bool:
    names = {metric["name"] for metric in content["metrics"]}
    return "attainment" in names and _quality(content) in names


def _quality(content: _Values) -> str:
    return "achieved" if any(metric["name"] == "achieved" for metric in content["metrics"]) else "predicted"


def _draw(axes: Axes, *, content: _Values) -> None:
    quality = _quality(content)
    labels = list(content["policies"])
    palette, marks = colours(labels), markers(labels)
    usable = []
    for label, policy in content["policies"].items():
        met, score = policy["figures"]["attainment"], policy["figures"][quality]
        if met["mean"] is None or score["mean"] is None:
            continue
        point = (100.0 * met["mean"], score["mean"])
        if not policy["oracle"]:
            usable.append(point)
        axes.errorbar(
            *point,
            xerr=_arms(met, 100.0),
            yerr=_arms(score, 1.0),
            marker=marks[label],
            markersize=7,
            linestyle="none",
            color=palette[label],
            ecolor=MUTED,
            elinewidth=1.0,
            label=label,
        )
    front = sorted(point for point in usable if not any(_beats(other, point) for other in usable))
    axes.plot(*zip(*front, strict=True), color=INK, linewidth=0.9, linestyle=":", zorder=0)
    axes.set(xlabel=f"requests that met the SLO, {content['slo']} (%)", ylabel=f"mean {quality} score")
    legend_below(axes)


def _arms(figure: _Values, scale: float) -> list[list[float]] | None:
    if figure["low"] is None or figure["high"] is None:
        return None
    return [[scale * (figure["mean"] - figure["low"])], [scale * (figure["high"] - figure["mean"])]]


def _beats(one: tuple[float, float], other: tuple[float, float]) -> bool:
    return one != other and one[0] >= other[0] and one[1] >= other[1]


def _table(content: _Values) -> Table:
    metrics = [metric for metric in content["metrics"] if metric["name"] != "stages"]
    rows = [
        (label, *(worded(estimate_of(policy["figures"][metric["name"]]), UNITS[metric["unit"]]) for metric in metrics))
        for label, policy in content["policies"].items()
    ]
    columns = ("policy", *(metric["title"] for metric in metrics))
    return Table(columns=columns, rows=tuple(rows))
