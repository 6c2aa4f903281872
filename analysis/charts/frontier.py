"""The best score that any plan can have, over the target of an SLO and over the load."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from analysis.charts.chart import Chart, NoData, Panel, Table
from analysis.charts.style import BROKEN, HOLDS, colours, legend_below
from analysis.pictures import logarithmic
from analysis.stored.results import Results, StoredDocument
from analysis.wording import SCORE, brief

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_FRACTION = "fraction "
_SWEEPS = {"target": ("target_ms", "target (ms)"), "load": ("rate_per_s", "load (requests/s)")}

_Row = dict[str, str]


def frontier_chart(results: Results) -> Chart:
    """Score and shares of the models over target and load, of every frontier.

    Raises
    ------
    NoData
        No frontier is among the results.
    """
    if not results.frontiers:
        raise NoData("frontier needs a folder of `routerwise frontier`")
    slo = results.frontiers[0].content["manifest"]["settings"]["slo"]
    return Chart(
        kind="frontier",
        title="Best score over target and load",
        caption="The highest score that any setup and routing reaches, with a proof, and how the requests are then "
        f"divided among the models. Targets vary at the problem's load, loads at its targets ({slo}). Crosses: "
        "no setup keeps the SLOs.",
        panels=tuple(panel for document in results.frontiers for panel in _panels(document, len(results.frontiers))),
        table=_table(results.frontiers),
    )


def _panels(document: StoredDocument, of: int) -> list[Panel]:
    rows: Sequence[_Row] = document.content["points"]
    models = [name.removeprefix(_FRACTION) for name in rows[0] if name.startswith(_FRACTION)] if rows else []
    name = f"{document.name}: " if of > 1 else ""
    found = []
    for sweep in _SWEEPS:
        own = [row for row in rows if row["sweep"] == sweep]
        if own:
            found.append(
                Panel(title=f"{name}best score over {sweep}", draw=partial(_draw_score, rows=own, sweep=sweep))
            )
        if any(_is_feasible(row) for row in own):
            draw = partial(_draw_shares, rows=own, sweep=sweep, models=models)
            found.append(Panel(title=f"{name}shares over {sweep}", draw=draw))
    return found


def _draw_score(axes: Axes, *, rows: Sequence[_Row], sweep: str) -> None:
    column, label = _SWEEPS[sweep]
    feasible = [row for row in rows if _is_feasible(row)]
    axes.plot(
        [float(row[column]) for row in feasible], [float(row["score"]) for row in feasible], marker="o", color=HOLDS
    )
    infeasible = [float(row[column]) for row in rows if not _is_feasible(row)]
    if infeasible:
        axes.plot(
            infeasible,
            [0.03] * len(infeasible),
            "x",
            color=BROKEN,
            transform=axes.get_xaxis_transform(),
            label="no setup keeps the SLOs",
        )
    axes.set(xlabel=label, ylabel="best score")
    axes.margins(y=0.15)
    if sweep == "target":
        logarithmic(axes, x=True)
    legend_below(axes, least=1)


def _draw_shares(axes: Axes, *, rows: Sequence[_Row], sweep: str, models: Sequence[str]) -> None:
    column, label = _SWEEPS[sweep]
    feasible = [row for row in rows if _is_feasible(row)]
    places = [float(row[column]) for row in feasible]
    palette = colours(models)
    below = [0.0] * len(places)
    for model in models:
        above = [low + float(row[_FRACTION + model]) for low, row in zip(below, feasible, strict=True)]
        axes.fill_between(places, below, above, color=palette[model], alpha=0.85, label=model, linewidth=0)
        axes.plot(places, above, color="white", linewidth=0.8)
        below = above
    axes.set(xlabel=label, ylabel="share of requests", ylim=(0.0, 1.0))
    axes.set_xlim(*_edges([float(row[column]) for row in rows]))
    if sweep == "target":
        logarithmic(axes, x=True)
    legend_below(axes)


def _edges(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    return (low, high) if low < high else (0.9 * low, 1.1 * high)


def _is_feasible(row: _Row) -> bool:
    return row["feasible"] == "True"


def _table(documents: Sequence[StoredDocument]) -> Table:
    rows = [
        (
            document.name,
            row["sweep"],
            f"{float(row['target_ms']):g}",
            f"{float(row['rate_per_s']):g}",
            brief(float(row["score"]), SCORE) if _is_feasible(row) else "none",
            row["setup"],
        )
        for document in documents
        for row in document.content["points"]
    ]
    return Table(
        columns=("problem", "sweep", "target (ms)", "load (requests/s)", "best score", "setup"), rows=tuple(rows)
    )
