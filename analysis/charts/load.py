"""How busy the replicas are: utilisation, batch, KV cache, and who waits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from analysis.charts.chart import Chart, NoData, Panel, Table
from analysis.charts.dots import Row, Scale, dot_panel, run_series
from analysis.charts.style import INK, MUTED, SMALL, colours, markers, told_apart
from analysis.charts.subjects import interval_words, titled
from analysis.stored.results import Results
from analysis.stored.run import StoredRun
from analysis.wording import NUMBER, SHARE, brief, worded

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST_ROWS = 12
"""Replicas with a row of their own; more are shown as distributions, a row for each model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Figure:
    title: str
    scale: Scale


_FIGURES = {
    "utilisation": _Figure(
        title="Utilisation",
        scale=Scale(label="time spent computing (%)", unit=SHARE, high=1.0, bounds=(0.0, 1.0)),
    ),
    "mean_batch_size": _Figure(
        title="Batch", scale=Scale(label="requests per step, mean", unit=NUMBER, bounds=(0.0, float("inf")))
    ),
    "mean_kv_used_frac": _Figure(
        title="KV cache",
        scale=Scale(label="blocks in use, mean (%)", unit=SHARE, high=1.0, bounds=(0.0, 1.0)),
    ),
    "mean_waiting": _Figure(
        title="Waiting", scale=Scale(label="requests waiting, mean", unit=NUMBER, bounds=(0.0, float("inf")))
    ),
}


def load_chart(results: Results) -> Chart:
    """Utilisation, batch size, KV use and queue of each replica; of many, how they are distributed.

    Raises
    ------
    NoData
        No run is among the results.
    """
    runs = results.runs
    if not runs:
        raise NoData("load needs a run directory")
    replicas = list(dict.fromkeys(name for run in runs for name in run.entry("replicas")))
    many = len(replicas) > _MOST_ROWS
    make = _distribution if many else _rows
    panels = [panel for key, figure in _FIGURES.items() if (panel := make(runs, replicas, key, figure)) is not None]
    caption = "Averages over the measured time, replica by replica."
    if many:
        caption = "Averages over the measured time: each mark is a replica, the tall bar their median."
    else:
        caption += interval_words(runs)
    return Chart(
        kind="load",
        title=titled("Load of the replicas", runs),
        caption=caption,
        panels=tuple(panels),
        table=_table(runs),
    )


def _rows(runs: Sequence[StoredRun], replicas: Sequence[str], key: str, figure: _Figure) -> Panel | None:
    rows = [Row(label=name, dots=tuple(run.estimate("replicas", name, key) for run in runs)) for name in replicas]
    if all(dot is None for row in rows for dot in row.dots):
        return None
    return dot_panel(figure.title, rows, run_series(runs), figure.scale)


def _distribution(runs: Sequence[StoredRun], replicas: Sequence[str], key: str, figure: _Figure) -> Panel | None:
    lines: list[tuple[str, str, str, np.ndarray]] = []
    models = list(dict.fromkeys(name for run in runs for name in run.models))
    names = [run.name for run in runs] if len(runs) > 1 else models
    palette, marks = colours(names), markers(names)
    for model in models:
        for run in runs:
            estimates = [
                run.estimate("replicas", name, key)
                for name, entry in run.entry("replicas").items()
                if entry["model"] == model
            ]
            values = np.array([estimate.value for estimate in estimates if estimate is not None])
            label = model if len(runs) == 1 else f"{model}, {run.name}" if len(models) > 1 else run.name
            own = run.name if len(runs) > 1 else model
            if len(values):
                lines.append((label, palette[own], marks[own], values))
    if not lines:
        return None
    return Panel(
        title=figure.title,
        draw=partial(_draw_distribution, lines=lines, figure=figure),
        size_in=(4.8, 0.85 + 0.62 * len(lines)),
    )


def _draw_distribution(axes: Axes, *, lines: Sequence[tuple[str, str, str, np.ndarray]], figure: _Figure) -> None:
    scale = figure.scale
    for place, (_, colour, mark, values) in enumerate(lines):
        shown = scale.factor * np.sort(values)
        # Spread like beads along a slope: equal values stay apart, and their order can be seen.
        heights = place + 0.22 - 0.44 * (np.arange(len(shown)) + 0.5) / len(shown)
        axes.plot(shown, heights, linestyle="", marker=mark, markersize=4.5, color=colour, alpha=0.75)
        median = float(np.median(shown))
        axes.plot([median, median], [place - 0.36, place + 0.36], color=INK, linewidth=1.6)
        axes.annotate(
            f"{len(values)} replicas, median {brief(median / scale.factor, scale.unit)}",
            (0.0, place - 0.36), xycoords=axes.get_yaxis_transform(), xytext=(2, 0), textcoords="offset points",
            va="bottom", fontsize=SMALL, color=MUTED,
        )  # fmt: skip
    highest = max(float(values.max()) for _, _, _, values in lines)
    axes.set_xlim(0.0, scale.factor * max(scale.high or 0.0, 1.06 * highest) or 1.0)
    axes.set_ylim(len(lines) - 0.5, -0.75)
    names = told_apart(label for label, *_ in lines)
    axes.set_yticks(range(len(lines)), [names[label] for label, *_ in lines])
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel(scale.label)


def _table(runs: Sequence[StoredRun]) -> Table:
    rows = [
        (
            run.name,
            name,
            *(worded(run.estimate("replicas", name, key), figure.scale.unit) for key, figure in _FIGURES.items()),
        )
        for run in runs
        for name in run.entry("replicas")
    ]
    return Table(columns=("run", "replica", *(figure.title.lower() for figure in _FIGURES.values())), rows=tuple(rows))
