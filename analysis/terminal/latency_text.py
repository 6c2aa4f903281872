"""Latencies of a run by model, each with a small histogram on a logarithmic axis."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from rich.cells import cell_len
from rich.console import RenderableType
from rich.text import Text

from analysis.estimates import value_of
from analysis.stored.run import StoredRun
from analysis.summary import Summary
from analysis.terminal.text_graphics import Canvas, LogAxis, in_columns
from analysis.terminal.verdict_text import heading
from analysis.wording import MILLISECONDS, NUMBER, in_column, setting
from sim.results import Floats

_STATISTICS = ("mean", "p50", "p95", "p99")
_FIGURE_WIDTH = 8
_MOST_MODELS = 12


def latency_text(run: StoredRun, canvas: Canvas) -> Iterator[RenderableType]:
    """One block for each of TTFT, TPOT and E2E: figures, and how the requests are spread; limits are marked."""
    limits = {} if run.slo is None else run.slo.limits_s
    blocks = [line for latency in ("ttft", "tpot", "e2e") for line in _block(run, latency, limits.get(latency), canvas)]
    if blocks:
        yield heading("Latencies (ms), and how many requests have them")
    yield from blocks


def _block(run: StoredRun, latency: str, limit_s: float | None, canvas: Canvas) -> Iterator[Text]:
    groups = _groups(run)
    label_width = min(16, max(cell_len(name) for name in (*groups, "TTFT")))
    axis_width = canvas.width - label_width - len(_STATISTICS) * _FIGURE_WIDTH - 2
    limit_ms = None if limit_s is None else limit_s * 1e3
    samples = {name: _samples_ms(run, name, latency) for name in groups}
    if not len(samples["all"]):
        return
    axis = LogAxis.over(samples["all"], axis_width, also=limit_ms)
    headings = "".join(name.upper().rjust(_FIGURE_WIDTH) if name != "mean" else "mean".rjust(8) for name in _STATISTICS)
    ticks = "" if axis is None else axis.labels()
    yield Text.assemble("\n", (latency.upper().ljust(label_width), "bold"), (f"{headings}  {ticks}".rstrip(), "dim"))
    labels = in_columns(groups, label_width)
    for name, group in groups.items():
        figures = "".join(_figure(group, latency, statistic) for statistic in _STATISTICS)
        line = Text(f"{labels[name]}{figures}  ")
        if axis is not None and len(samples[name]):
            drawn = canvas.sparkline(axis.counts(samples[name]))
            within = axis_width if limit_ms is None else axis.place(limit_ms) + 1
            line.append(drawn[:within], "cyan")
            line.append(drawn[within:], "red")
        line.rstrip()
        yield line
    if axis is not None and limit_ms is not None:
        indent = " " * (label_width + len(_STATISTICS) * _FIGURE_WIDTH + 2)
        yield Text(indent + axis.mark(limit_ms, f"SLO {setting(limit_ms, NUMBER)}"), "dim")


def _groups(run: StoredRun) -> dict[str, Summary]:
    """The busiest models, and all together where there are several."""
    models = sorted(run.used_models, key=lambda name: -run.number("by_model", name, "requests", "total"))
    kept = [name for name in run.models if name in models[:_MOST_MODELS]]
    groups = {name: run.summary["by_model"][name] for name in kept}
    if len(groups) == 1 and len(run.models) == 1:
        return {"all": run.summary["overall"]}
    return groups | {"all": run.summary["overall"]}


def _samples_ms(run: StoredRun, group: str, latency: str) -> Floats:
    table = run.requests
    column = table[f"{latency}_s"] if group == "all" else table.loc[table["model"] == group, f"{latency}_s"]
    found: Floats = column.to_numpy(dtype=np.float64) * 1e3
    return found[~np.isnan(found)]


def _figure(group: Summary, latency: str, statistic: str) -> str:
    return in_column(value_of(group[f"{latency}_s"][statistic]), MILLISECONDS).rjust(_FIGURE_WIDTH)
