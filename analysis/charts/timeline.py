"""What happened when: arrivals, queues, batches, KV use and latency over the time of one replication."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Literal

import numpy as np

from analysis.charts.bands import Band, banded, counted, quantile_by_window, window_edges
from analysis.charts.chart import Chart, NoData, Panel, Table
from analysis.charts.disturbances import Disturbance, disturbances
from analysis.charts.style import INK, MUTED, duration_unit, legend_below, legend_in
from analysis.charts.subjects import Subject, subjects, titled
from analysis.stored.results import Results
from analysis.stored.run import StoredRun
from analysis.wording import DURATION, NUMBER, SECONDS, SHARE, Unit, brief, setting

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_WINDOWS = 120
_LEAST_IN_WINDOW = 25
"""Requests in a window on average, so that its 95th percentile means something."""
_FEWEST_WINDOWS = 12
_HATCHES = {"down": "////", "slowed": "....", "warm-up": ""}
_WORDS = {"down": "a replica is down", "slowed": "a replica is slowed down", "warm-up": "warm-up"}


@dataclass(frozen=True, slots=True, kw_only=True)
class _History:
    """What one panel shows: something over time, a line for each subject."""

    title: str
    label: str
    lines: tuple[tuple[Subject, Band], ...]
    unit: Unit
    """Of the axis."""
    top: float | None = None
    """End of the axis, where there is a natural one."""
    limit_s: float | None = None

    @property
    def highest(self) -> float:
        """Of all lines and bands; NaN if they have nothing to show."""
        tops = [np.max(part[np.isfinite(part)], initial=-np.inf) for _, band in self.lines for part in band.parts()]
        return float(max(tops)) if np.isfinite(tops).any() else float("nan")


def timeline_chart(results: Results) -> Chart:
    """Arrivals, waiting and running requests, KV use, and the P95 of TTFT over time, in the first replication.

    Raises
    ------
    NoData
        No run is among the results, or nobody asked anything.
    """
    runs, lines = results.runs, subjects(results.runs)
    if not lines:
        raise NoData("timeline needs a run directory with requests")
    end_s = max(_end_s(run) for run in runs)
    disturbed = disturbances(runs[0]) if len(runs) == 1 else []
    histories = [
        _arrivals(lines, end_s),
        _sampled(lines, end_s, "waiting", "Waiting requests", "requests"),
        _sampled(lines, end_s, "running", "Running requests", "requests"),
        _kv_use(lines, end_s),
        _utilisation(lines, end_s),
        _latency(lines, end_s),
    ]
    return Chart(
        kind="timeline",
        title=titled("What happened when", runs),
        caption=_caption(runs, histories),
        panels=tuple(
            Panel(
                title=history.title,
                draw=partial(_draw, history=history, end_s=end_s, disturbed=disturbed),
                size_in=(4.8, 2.6 + legend_in([line.short for line in lines])),
            )
            for history in histories
            if np.isfinite(history.highest)
        ),
        table=_table(histories, disturbed),
    )


def _caption(runs: Sequence[StoredRun], histories: Sequence[_History]) -> str:
    # Windows are those of the longest run, so all lines of a panel have the same.
    widths = [_width_text(history.lines[0][1].width_s) for history in histories]
    text = "First replication. " if any(run.replications > 1 for run in runs) else ""
    text += f"Arrivals are means over {widths[0]}, P95s over the requests of {widths[-1]}."
    if any(_has_hole(band) for _, band in histories[-1].lines):
        text += " A P95 is missing where nobody asked, or more than 5\N{NO-BREAK SPACE}% got no first token."
    if any(not band.points for _, band in histories[1].lines):
        text += f" Bands: the least and the most of the samples in each {widths[1]}; the line is their mean."
    elif any(band.low is not None for _, band in histories[3].lines):
        text += " Bands: the emptiest and the fullest replica; the line is their mean."
    return text


def _has_hole(band: Band) -> bool:
    """Whether something is missing between two points."""
    known = np.flatnonzero(np.isfinite(band.middle))
    return len(known) > 0 and bool(known[-1] - known[0] + 1 > len(known))


def _width_text(width_s: float) -> str:
    return f"{width_s:.3g} s" if width_s < 120.0 else f"{width_s / 60.0:.3g} min"


def _end_s(run: StoredRun) -> float:
    samples = run.timeseries()["time_s"]
    arrivals = run.requests_of(0)["arrival_s"]
    return max(float(column.max()) if len(column) else 0.0 for column in (samples, arrivals))


def _arrivals(lines: Sequence[Subject], end_s: float) -> _History:
    edges_s = window_edges(end_s, _WINDOWS)
    return _History(
        title="Arrivals",
        label="requests/s",
        lines=tuple(
            (line, counted(line.of(line.run.requests_of(0))["arrival_s"].to_numpy(), edges_s, end_s)) for line in lines
        ),
        unit=NUMBER,
    )


def _sampled(lines: Sequence[Subject], end_s: float, column: str, title: str, label: str) -> _History:
    """Sum over the replicas of each subject."""
    found = []
    for line in lines:
        by_time = line.of(line.run.timeseries()).groupby("time_s", sort=True)[column].sum()
        found.append((line, banded(by_time.index.to_numpy(), by_time.to_numpy(np.float64), end_s, _WINDOWS)))
    return _History(title=title, label=label, lines=tuple(found), unit=NUMBER)


def _kv_use(lines: Sequence[Subject], end_s: float) -> _History:
    """Mean over the replicas of each subject; its bands reach from the emptiest replica to the fullest."""
    found = []
    for line in lines:
        samples = line.of(line.run.timeseries())
        band = banded(samples["time_s"].to_numpy(), samples["kv_used_frac"].to_numpy(), end_s, _WINDOWS)
        found.append((line, band))
    return _History(title="KV cache", label="blocks in use (%)", lines=tuple(found), unit=SHARE, top=1.0)


def _utilisation(lines: Sequence[Subject], end_s: float) -> _History:
    """Mean over the replicas of each subject, without bands: over so short a time a replica computes or does not."""
    found = []
    for line in lines:
        # A sample is about the interval before it; the first has none.
        by_time = line.of(line.run.timeseries()).groupby("time_s", sort=True)["busy"].mean().iloc[1:]
        band = banded(by_time.index.to_numpy(), by_time.to_numpy(np.float64), end_s, _WINDOWS)
        found.append((line, replace(band, low=None, high=None)))
    return _History(
        title="Utilisation",
        label="time computing (%)",
        lines=tuple(found),
        unit=SHARE,
        top=1.0,
    )


def _latency(lines: Sequence[Subject], end_s: float) -> _History:
    fewest = min(len(line.of(line.run.requests_of(0))) for line in lines)
    windows = int(np.clip(fewest // _LEAST_IN_WINDOW, _FEWEST_WINDOWS, _WINDOWS // 2))
    edges_s = window_edges(end_s, windows)
    found = []
    for line in lines:
        requests = line.of(line.run.requests_of(0))
        ttft_s = requests["ttft_s"].to_numpy()
        found.append(
            (
                line,
                quantile_by_window(
                    requests["arrival_s"].to_numpy(), np.where(np.isnan(ttft_s), np.inf, ttft_s), edges_s, 0.95
                ),
            )
        )
    limits = {None if line.run.slo is None else line.run.slo.ttft_s for line in lines}
    history = _History(
        title="TTFT by time of arrival",
        label="P95 of TTFT",
        lines=tuple(found),
        unit=DURATION,
        limit_s=limits.pop() if len(limits) == 1 else None,
    )
    unit = duration_unit(max(history.highest, history.limit_s or 0.0))
    return replace(history, label=f"{history.label} ({unit.name})", unit=unit)


def _draw(axes: Axes, *, history: _History, end_s: float, disturbed: Sequence[Disturbance]) -> None:
    scale, unit = (1.0, "s") if end_s < 1200.0 else (60.0, "min") if end_s < 4 * 3600.0 else (3600.0, "h")
    for subject, band in history.lines:
        times, middle = band.time_s / scale, band.middle * history.unit.factor
        axes.plot(
            times, middle, color=subject.colour, linestyle=subject.dash, linewidth=1.4,
            drawstyle="default" if band.points else "steps-mid", label=subject.short,
        )  # fmt: skip
        if band.low is not None and band.high is not None:
            low, high = band.low * history.unit.factor, band.high * history.unit.factor
            step: Literal["mid"] | None = None if band.points else "mid"
            axes.fill_between(times, low, high, color=subject.colour, alpha=0.2, linewidth=0, step=step)
    for kind in dict.fromkeys(found.kind for found in disturbed):
        for place, span in enumerate(found for found in disturbed if found.kind == kind):
            # In an SVG a hatch on a face of its own colour cannot be seen: a span has one or the other.
            face, alpha = ("none", 0.8) if _HATCHES[kind] else (MUTED, 0.16)
            axes.axvspan(
                span.from_s / scale, span.to_s / scale, facecolor=face, alpha=alpha, edgecolor=MUTED, linewidth=0,
                hatch=_HATCHES[kind], zorder=0, label="" if place else _WORDS[kind],
            )  # fmt: skip
    if history.limit_s is not None:
        limit = history.limit_s * history.unit.factor
        axes.axhline(limit, color=INK, linewidth=1.2, label=f"limit, {setting(history.limit_s, DURATION)}")
    axes.set_xlim(0.0, end_s / scale)
    top = 1.04 * history.top if history.top else 1.08 * max(history.highest, history.limit_s or 0.0) or 1.0
    axes.set_ylim(0.0, top * history.unit.factor)
    axes.set(xlabel=f"time ({unit})", ylabel=history.label)
    legend_below(axes)


def _table(histories: Sequence[_History], disturbed: Sequence[Disturbance]) -> Table:
    rows = []
    for history in histories:
        for subject, band in history.lines:
            peaks = band.middle if band.high is None else band.high
            if not np.isfinite(peaks).any():
                continue
            at = int(np.nanargmax(peaks))
            rows.append(
                (
                    history.title,
                    subject.label,
                    brief(float(np.nanmean(band.middle)), history.unit),
                    brief(float(peaks[at]), history.unit),
                    brief(float(band.time_s[at]), SECONDS),
                )
            )
    rows += [
        (_WORDS[span.kind], span.replica, "", "", f"{brief(span.from_s, SECONDS)} to {brief(span.to_s, SECONDS)}")
        for span in disturbed
    ]
    return Table(columns=("what", "of", "mean", "highest", "when"), rows=tuple(rows))
