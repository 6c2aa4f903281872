"""How latencies are distributed, by model or run, next to their limits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from analysis.charts.chart import Chart, NoData, Panel, Table
from analysis.charts.style import INK, MUTED, SMALL, duration_unit, legend_below, legend_in
from analysis.charts.subjects import Subject, subjects, titled
from analysis.estimates import Estimate
from analysis.pictures import logarithmic
from analysis.slo import ROUNDING_S, Slo
from analysis.statistics import student_t_quantile
from analysis.stored.results import Results
from analysis.stored.run import StoredRun
from analysis.wording import COUNT, DURATION, SHARE, brief, setting, worded
from sim.results import Floats

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

LATENCIES = {"ttft": "Time to first token", "tpot": "Time per output token", "e2e": "End-to-end time"}
"""Latencies by their column without ``_s``, in words."""

_POINTS = 300
_LEVELS = {0.5: "P50", 0.05: "P95", 0.01: "P99"}
_BEFORE = 1e-6
"""Of the shortest latency: left of every axis."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tail:
    """Share of the requests that took longer than each latency."""

    subject: Subject
    latency_s: Floats
    share: Floats
    low: Floats | None
    high: Floats | None
    least: float
    """The smallest share that is shown."""
    missed: Estimate | None
    """Share of requests over the limit."""
    unanswered: float


def latency_chart(results: Results) -> Chart:
    """Share of the requests that took longer than a latency: the tail on a scale that shows it.

    Raises
    ------
    NoData
        No run is among the results, or nobody asked anything.
    """
    lines = subjects(results.runs)
    if not lines:
        raise NoData("latency needs a run directory with requests")
    tails = {latency: [_tail(line, latency) for line in lines] for latency in LATENCIES}
    shown = {latency: [tail for tail in found if len(tail.share)] for latency, found in tails.items()}
    if not any(shown.values()):
        raise NoData("latency has nothing to show: no request was answered")
    slos = {run.summary["slo"]: run.slo for run in results.runs}
    common = next(iter(slos.values())) if len(slos) == 1 else None
    limits = {latency: _limit_s(common, latency) for latency in LATENCIES}
    return Chart(
        kind="latency",
        title=titled("Latency", results.runs),
        caption=_caption(results.runs, tails["ttft"]),
        panels=tuple(
            Panel(
                title=LATENCIES[latency],
                draw=partial(_draw, tails=found, latency=latency, limit_s=limits[latency]),
                size_in=(4.8, 2.9 + legend_in([*map(_label, found), *_limit_label(limits[latency])])),
            )
            for latency, found in shown.items()
            if found
        ),
        table=_table(tails),
    )


def _caption(runs: Sequence[StoredRun], tails: Sequence[_Tail]) -> str:
    text = (
        "Share of the requests that took longer than the time below: P95 is where a line crosses 5\N{NO-BREAK SPACE}%."
    )
    slos = {run.summary["slo"] for run in runs}
    if len(slos) > 1:
        text += " The runs have limits of their own, which are in the table."
    elif None not in slos:
        text += " Where it crosses the limit, it shows the share that missed it."
    if any(tail.unanswered > 0 for tail in tails):
        text += " Requests without an answer count as slower than any limit."
    if any(run.replications > 1 for run in runs):
        text += " Bands: 95\N{NO-BREAK SPACE}% confidence, from the replications."
    return text


def _limit_s(slo: Slo | None, latency: str) -> float | None:
    return None if slo is None else slo.limits_s.get(latency)


def _tail(subject: Subject, latency: str) -> _Tail:
    table = subject.of(subject.run.requests)
    everyone = [_samples(part, latency) for _, part in table.groupby("replication", sort=True)]
    samples = [values[values > -np.inf] for values in everyone]
    samples = [values for values in samples if len(values)]
    answered = np.concatenate([values[np.isfinite(values)] for values in samples]) if samples else np.empty(0)
    limit_s = _limit_s(subject.run.slo, latency)
    if not len(answered):
        empty = np.empty(0)
        return _Tail(
            subject=subject, latency_s=empty, share=empty, low=None, high=None, least=1.0, missed=None,
            unanswered=1.0 if samples else 0.0,
        )  # fmt: skip
    total = sum(len(values) for values in samples)
    least = _least_share(total)
    # Even steps of the logarithm of the share; of few requests, that is every one.
    shares = np.concatenate([np.geomspace(1.0, least / 2, _POINTS), [0.0]])
    latency_s = np.unique(np.quantile(answered, 1.0 - shares, method="inverted_cdf"))
    # The line begins before the fastest request, where all are slower.
    latency_s = np.insert(latency_s, 0, _BEFORE * latency_s[0])
    slower, low, high = _slower(samples, latency_s)
    return _Tail(
        subject=subject, latency_s=latency_s, share=slower, low=low, high=high,
        least=max(least, 0.1 * 10.0 ** np.floor(np.log10(max(slower[-1], least)))),
        missed=None if limit_s is None else _missed(everyone, limit_s), unanswered=1.0 - len(answered) / total,
    )  # fmt: skip


def _missed(samples: Sequence[Floats], limit_s: float) -> Estimate:
    share, low, high = _slower(samples, np.array([limit_s + ROUNDING_S]))
    if low is None or high is None:
        return Estimate(value=float(share[0]))
    return Estimate(value=float(share[0]), low=float(low[0]), high=float(high[0]))


def _samples(table: pd.DataFrame, latency: str) -> Floats:
    """Sorted latencies; infinite for requests that were not answered, below all for answers that have none."""
    values: Floats = table[f"{latency}_s"].to_numpy(np.float64).copy()
    finished = (table["status"] == "finished").to_numpy()
    missing = np.isnan(values)
    # An answer of one token has no time per output token and keeps that limit.
    values[missing] = np.where(finished[missing], -np.inf, np.inf)
    values.sort()
    return values


def _slower(samples: Sequence[Floats], latency_s: Floats) -> tuple[Floats, Floats | None, Floats | None]:
    """Share of requests slower than each latency: mean over replications, and its interval."""
    shares = np.array([1.0 - np.searchsorted(values, latency_s, side="right") / len(values) for values in samples])
    mean = shares.mean(axis=0)
    if len(shares) < 2:
        return mean, None, None
    half = student_t_quantile(0.975, len(shares) - 1) * shares.std(axis=0, ddof=1) / np.sqrt(len(shares))
    return mean, np.clip(mean - half, 0.0, 1.0), np.clip(mean + half, 0.0, 1.0)


def _least_share(requests: int) -> float:
    """The smallest share that is shown: a power of ten that some requests are behind."""
    return float(10.0 ** -np.clip(np.floor(np.log10(max(requests, 1) / 2)), 2, 4))


def _draw(axes: Axes, *, tails: Sequence[_Tail], latency: str, limit_s: float | None) -> None:
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    least = min(tail.least for tail in tails)
    longest_s = max(float(tail.latency_s[-1]) for tail in tails)
    unit = duration_unit(longest_s)
    scale = unit.factor
    for tail in tails:
        line = tail.subject
        x = np.maximum(tail.latency_s, 1e-9) * scale
        axes.plot(
            x,
            tail.share,
            color=line.colour,
            linestyle=line.dash,
            label=_label(tail),
            linewidth=1.9,
            drawstyle="steps-post",
        )
        if tail.low is not None and tail.high is not None:
            axes.fill_between(
                x, np.maximum(tail.low, least / 10), tail.high, color=line.colour, alpha=0.16, linewidth=0, step="post"
            )
    shortest_s = min(float(np.quantile(tail.latency_s[1:], 0.02)) for tail in tails)
    ends = [max(shortest_s, longest_s / 1e4), longest_s] + ([limit_s] if limit_s is not None else [])
    axes.set_xlim(0.85 * min(ends) * scale, 1.15 * max(ends) * scale)
    axes.set_ylim(least, 1.25)
    logarithmic(axes, x=True, y=True)
    powers = [10.0**-place for place in range(5) if 10.0**-place >= least]
    axes.yaxis.set_major_locator(FixedLocator(powers))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g} %"))
    for level, name in _LEVELS.items():
        axes.axhline(level, color=MUTED, linewidth=0.6, linestyle=(0, (2, 3)))
        axes.annotate(
            name, (1.0, level), xycoords=axes.get_yaxis_transform(), xytext=(3, 0), textcoords="offset points",
            va="center", fontsize=SMALL, color=MUTED, annotation_clip=False,
        )  # fmt: skip
    if limit_s is not None:
        axes.axvline(limit_s * scale, color=INK, linewidth=1.2, label=_limit_label(limit_s)[0])
    axes.set(xlabel=f"{latency.upper()} ({unit.name})", ylabel="share of requests slower")
    legend_below(axes)


def _limit_label(limit_s: float | None) -> list[str]:
    return [] if limit_s is None else [f"limit, {setting(limit_s, DURATION)}"]


def _label(tail: _Tail) -> str:
    name = tail.subject.short
    return name if tail.missed is None else f"{name}, {brief(tail.missed, SHARE)} missed"


def _table(tails: dict[str, list[_Tail]]) -> Table:
    rows = []
    for latency, found in tails.items():
        for tail in found:
            run, group = tail.subject.run, tail.subject.group
            figures = [run.estimate(*group, f"{latency}_s", name) for name in ("mean", "p50", "p95", "p99")]
            limit_s = _limit_s(run.slo, latency)
            rows.append(
                (
                    tail.subject.label,
                    latency.upper(),
                    worded(run.estimate(*group, f"{latency}_s", "count"), COUNT),
                    *(worded(figure, DURATION) for figure in figures),
                    "none" if limit_s is None else setting(limit_s, DURATION),
                    worded(tail.missed, SHARE),
                )
            )
    columns = ("of", "latency", "requests", "mean", "P50", "P95", "P99", "limit", "missed")
    return Table(columns=columns, rows=tuple(rows))
