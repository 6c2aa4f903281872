"""How far a plan holds: strain along each axis, and over two of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from analysis.charts.chart import Chart, NoData, Panel, Table
from analysis.charts.style import BROKEN, HOLDS, INK, MUTED, UNDECIDED, legend_below
from analysis.stored.results import Results, StoredDocument

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

_COLOURS = {"holds": HOLDS, "undecided": UNDECIDED, "broken": BROKEN}
_MARKERS = {"holds": "o", "undecided": "D", "broken": "X"}
_MAP_MARKS = {"holds": "", "undecided": " ?", "broken": " ✕"}
"""What tells the cells of a map apart without colour."""

_MOST_STRAIN = 3.0
"""Strains above are drawn here, as triangles."""

_Values = Mapping[str, Any]


def stress_chart(results: Results) -> Chart:
    """How much of its limit the weakest SLO uses along each axis, with the bracket in which the plan breaks.

    Raises
    ------
    NoData
        No stress test is among the results.
    """
    if not results.stresses:
        raise NoData("stress needs a folder of `routerwise stress`")
    panels = []
    for document in results.stresses:
        name = f"{document.name}: " if len(results.stresses) > 1 else ""
        panels += [
            Panel(title=name + _label(axis), draw=partial(_draw_axis, axis=axis)) for axis in document.content["axes"]
        ]
    return Chart(
        kind="stress",
        title="How far the plan holds",
        caption="Share of its limit that the SLO nearest to it uses, as one thing gets worse. Above the line it is "
        "broken. Shaded: from the last value at which the plan is known to hold to the first at which it is known "
        "not to.",
        panels=tuple(panels),
        table=_axis_table(results.stresses),
    )


def stress_map_chart(results: Results) -> Chart:
    """Outcome at each pair of values of two axes, with the strain of the weakest SLO.

    Raises
    ------
    NoData
        No stress test with a map is among the results.
    """
    documents = [document for document in results.stresses if document.content["map"] is not None]
    if not documents:
        raise NoData("stress-map needs a folder of `routerwise stress --map X,Y`")
    return Chart(
        kind="stress-map",
        title="How far the plan holds in two directions",
        caption="Share of its limit that the SLO nearest to it uses at each pair of values, and the verdict.",
        panels=tuple(
            Panel(
                title=f"{document.name} on {document.content['scenario']}",
                draw=partial(_draw_map, found=document.content["map"]),
                size_in=_map_size(document.content["map"]),
            )
            for document in documents
        ),
        table=_map_table(documents),
    )


def _draw_axis(axes: Axes, *, axis: _Values) -> None:
    points = axis["points"]
    values = [point["value"] for point in points]
    strains = [min(_strain(point), _MOST_STRAIN) for point in points]
    if axis["low"] is not None and axis["high"] is not None:
        axes.axvspan(axis["low"], axis["high"], color=UNDECIDED, alpha=0.25, linewidth=0)
    axes.axhline(1.0, color=INK, linewidth=1.0, linestyle="--")
    axes.plot(values, strains, color=MUTED, linewidth=1.2, zorder=2)
    for point, strain in zip(points, strains, strict=True):
        marker = "^" if _strain(point) > _MOST_STRAIN else _MARKERS[point["outcome"]]
        axes.scatter([point["value"]], [strain], color=_COLOURS[point["outcome"]], marker=marker, s=34, zorder=3)
    axes.set_ylim(0.0, max(1.25, *strains) * 1.06)
    axes.set(xlabel=_label(axis), ylabel="share of the SLO's limit")
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    handles = _legend_handles(point["outcome"] for point in points)
    legend_below(axes, handles)


def _draw_map(axes: Axes, *, found: _Values) -> None:
    from matplotlib.colors import ListedColormap

    order = list(_COLOURS)
    codes = [[order.index(outcome) for outcome in row] for row in found["outcomes"]]
    axes.imshow(codes, cmap=ListedColormap(list(_COLOURS.values())), vmin=0, vmax=2, origin="lower", aspect="auto")
    axes.grid(visible=False)
    for row, strains in enumerate(found["strain"]):
        for column, strain in enumerate(strains):
            text = _share(strain) + _MAP_MARKS[found["outcomes"][row][column]]
            axes.text(column, row, text, ha="center", va="center", color="white", fontsize=8)
    axes.set_xticks(range(len(found["x"]["values"])), [f"{value:.3g}" for value in found["x"]["values"]])
    axes.set_yticks(range(len(found["y"]["values"])), [f"{value:.3g}" for value in found["y"]["values"]])
    axes.set(xlabel=_label(found["x"]), ylabel=_label(found["y"]))
    handles = _legend_handles((outcome for row in found["outcomes"] for outcome in row), on_map=True)
    legend_below(axes, handles)


def _map_size(found: _Values) -> tuple[float, float]:
    return max(3.6, 1.1 + 0.55 * len(found["x"]["values"])), 1.5 + 0.36 * len(found["y"]["values"])


def _legend_handles(outcomes: Iterable[str], *, on_map: bool = False) -> list[Line2D]:
    from matplotlib.lines import Line2D

    present = set(outcomes)
    return [
        Line2D(
            [],
            [],
            marker="s" if on_map else _MARKERS[name],
            linestyle="",
            color=colour,
            label=name + (_MAP_MARKS[name] if on_map else ""),
        )
        for name, colour in _COLOURS.items()
        if name in present
    ]


def _label(axis: _Values) -> str:
    target = f":{axis['target']}" if axis["target"] else ""
    return f"{axis['axis']}{target}" + (f" ({axis['unit']})" if axis["unit"] else "")


def _strain(point: _Values) -> float:
    return float("inf") if point["strain"] is None else float(point["strain"])


def _share(strain: float | None) -> str:
    return f"{strain:.0%}" if strain is not None and strain < 10.0 else ">10x"


def _axis_table(documents: Sequence[StoredDocument]) -> Table:
    rows = [
        (document.name, _label(axis), axis["verdict"]) for document in documents for axis in document.content["axes"]
    ]
    return Table(columns=("plan", "axis", "verdict"), rows=tuple(rows))


def _map_table(documents: Sequence[StoredDocument]) -> Table:
    rows = []
    for found in (document.content["map"] for document in documents):
        for y, outcomes, strains in zip(found["y"]["values"], found["outcomes"], found["strain"], strict=True):
            for x, outcome, strain in zip(found["x"]["values"], outcomes, strains, strict=True):
                rows.append((f"{x:.3g}", f"{y:.3g}", outcome, _share(strain)))
    first = documents[0].content["map"]
    return Table(columns=(_label(first["x"]), _label(first["y"]), "verdict", "share of limit"), rows=tuple(rows))
