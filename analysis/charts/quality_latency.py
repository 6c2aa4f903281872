"""Runs side by side: how good their answers are against how late."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from analysis.charts.chart import Chart, NoData, Panel, Table
from analysis.charts.dots import run_series
from analysis.charts.style import legend_below, shortened
from analysis.estimates import Estimate
from analysis.stored.results import Results
from analysis.stored.run import StoredRun
from analysis.wording import MILLISECONDS, SCORE, SECONDS, SHARE, Unit, worded

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True, slots=True, kw_only=True)
class _Figure:
    title: str
    label: str
    keys: tuple[str, ...]
    unit: Unit


_ACROSS = (
    _Figure(title="P95 of TTFT", label="P95 of TTFT (ms)", keys=("ttft_s", "p95"), unit=MILLISECONDS),
    _Figure(title="Mean TTFT", label="mean TTFT (ms)", keys=("ttft_s", "mean"), unit=MILLISECONDS),
    _Figure(title="P95 of E2E", label="P95 of E2E (s)", keys=("e2e_s", "p95"), unit=SECONDS),
    _Figure(title="SLO attainment", label="requests within the SLO (%)", keys=("slo_attainment",), unit=SHARE),
)


def quality_latency_chart(results: Results) -> Chart:
    """Score of the answers over latency and over SLO attainment, a point for each run.

    Raises
    ------
    NoData
        Fewer than two runs are among the results whose requests have scores.
    """
    runs = [run for run in results.runs if _score(run) is not None]
    if len(runs) < 2:
        raise NoData("quality-latency needs two or more run directories of scenarios with scored prompts")
    achieved = all(run.estimate("overall", "quality", "achieved") is not None for run in runs)
    score: Callable[[StoredRun], Estimate | None] = _score if achieved else _predicted
    words = "achieved score" if achieved else "predicted score"
    panels = [
        Panel(
            title=figure.title,
            draw=partial(_draw, runs=runs, figure=figure, score=score, words=words),
            size_in=(4.8, 2.9 + 0.2 * ((len(runs) + 1) // 2)),
        )
        for figure in _ACROSS
        if sum(run.estimate("overall", *figure.keys) is not None for run in runs) >= 2
    ]
    if not panels:
        raise NoData("quality-latency needs two or more runs with answers")
    caption = f"A point for each run: the mean {words}, where higher is better, against how late the answers are."
    if any(run.replications > 1 for run in runs):
        caption += " Lines: 95\N{NO-BREAK SPACE}% confidence intervals of either, from the replications."
    rows = [
        (
            run.name,
            worded(score(run), SCORE),
            *(worded(run.estimate("overall", *figure.keys), figure.unit) for figure in _ACROSS),
        )
        for run in runs
    ]
    return Chart(
        kind="quality-latency",
        title=f"Quality and latency of {len(runs)} runs",
        caption=caption,
        panels=tuple(panels),
        table=Table(columns=("run", words, *(figure.title for figure in _ACROSS)), rows=tuple(rows)),
    )


def _predicted(run: StoredRun) -> Estimate | None:
    return run.estimate("overall", "quality", "predicted")


def _score(run: StoredRun) -> Estimate | None:
    return run.estimate("overall", "quality", "achieved") or _predicted(run)


def _draw(
    axes: Axes,
    *,
    runs: Sequence[StoredRun],
    figure: _Figure,
    score: Callable[[StoredRun], Estimate | None],
    words: str,
) -> None:
    for run, look in zip(runs, run_series(runs), strict=True):
        across, up = run.estimate("overall", *figure.keys), score(run)
        if across is None or up is None:
            continue
        axes.errorbar(
            across.value * figure.unit.factor, up.value, xerr=_reach(across, figure.unit.factor), yerr=_reach(up, 1.0),
            color=look.colour, marker=look.marker, markersize=8, linestyle="", elinewidth=1.5,
            label=shortened(look.label, 34),
        )  # fmt: skip
    axes.margins(0.12)
    axes.set(xlabel=figure.label, ylabel=words)
    handles = axes.get_legend_handles_labels()[0]
    legend_below(axes, handles, least=1)


def _reach(estimate: Estimate, factor: float) -> list[list[float]] | None:
    """Lengths of the interval to both sides."""
    if estimate.low is None or estimate.high is None:
        return None
    return [[factor * (estimate.value - max(estimate.low, 0.0))], [factor * (estimate.high - estimate.value)]]
