"""How latencies are distributed, model by model, next to their limits."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from analysis.charts.chart import Chart, NoData, Panel, Table
from analysis.charts.style import INK, colours, dashes
from analysis.stored.results import Results
from analysis.stored.run import StoredRun

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LATENCIES = {"ttft": "TTFT", "tpot": "TPOT", "e2e": "E2E"}


def latency_chart(results: Results) -> Chart:
    """Share of requests over their latency, a line per model.

    Raises
    ------
    NoData
        No run is among the results.
    """
    if not results.runs:
        raise NoData("latency needs a run directory")
    run = results.runs[0]
    panels = tuple(
        Panel(title=f"{words}", draw=partial(_draw, run=run, latency=latency)) for latency, words in _LATENCIES.items()
    )
    return Chart(
        kind="latency",
        title=f"Latencies of {run.name}",
        caption="Share of the requests that were faster. Dashed: the SLO's limits.",
        panels=panels,
        table=Table(columns=("model", "P95"), rows=()),
    )


def _draw(axes: Axes, *, run: StoredRun, latency: str) -> None:
    palette, styles = colours(run.models), dashes(run.models)
    for name, group in run.requests.groupby("model", observed=True):
        model = str(name)
        values = np.sort(group[f"{latency}_s"].dropna().to_numpy()) * 1e3
        shares = np.linspace(0.0, 1.0, 401)
        axes.plot(np.quantile(values, shares), shares, color=palette[model], linestyle=styles[model], label=model)
    axes.axhline(0.95, color=INK, linewidth=0.6)
    axes.set(xlabel=f"{_LATENCIES[latency]} (ms)", ylabel="share of requests", xscale="log")
    axes.legend()
