"""Where the time of a request goes: the mean latency, and that of the slowest requests, part by part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from analysis.charts.chart import Chart, NoData, Panel, Table
from analysis.charts.style import INK, MUTED, SMALL, shortened
from analysis.charts.subjects import titled
from analysis.estimates import Estimate
from analysis.stored.results import Results
from analysis.stored.run import StoredRun
from analysis.time_parts import SLOWEST_SHARE, part_name
from analysis.wording import DURATION, brief, percent, worded

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_OWN = ("prefill", "decode")
"""What a request would take alone; everything else is the price of company."""
_WHICH = {"mean": "all requests", "slowest": f"the slowest {percent(SLOWEST_SHARE)}"}

_LEAST_SHARE = 1e-3
"""Of the whole; smaller parts are in the table only."""

_Parts = Mapping[str, Estimate]


def time_parts_chart(results: Results) -> Chart:
    """Waterfalls of TTFT and E2E, of all requests and of the slowest.

    Raises
    ------
    NoData
        No run is among the results whose summary has the parts.
    """
    runs = [run for run in results.runs if _parts(run, ("overall",), "ttft", "mean")]
    if not runs:
        raise NoData("time-parts needs a run directory whose summary says where the time goes, with answered requests")
    panels = [
        Panel(
            title=(f"{shortened(run.name)}: " if len(runs) > 1 else "") + f"{latency.upper()}, {words}",
            draw=partial(_draw, parts=parts, latency=latency),
            size_in=(4.8, 1.1 + 0.28 * (len(parts) + 1)),
            group=f"{run.name}, {latency}",
        )
        for run in runs
        for latency in ("ttft", "e2e")
        for which, words in _WHICH.items()
        if (parts := _shown(_parts(run, ("overall",), latency, which)))
    ]
    caption = (
        "Mean time of each part of a latency, one after the other. Filled: what the request itself takes, alone on its "
        "replica. Hatched: what others, and the state of the cluster, add. Parts below 0.1 % are left out."
    )
    if any(run.replications > 1 for run in runs):
        caption += " Whiskers: 95\N{NO-BREAK SPACE}% confidence of each part, from the replications."
    return Chart(
        kind="time-parts",
        title=titled("Where the time goes", runs),
        caption=caption,
        panels=tuple(panels),
        table=_table(runs),
    )


def _parts(run: StoredRun, group: Sequence[str], latency: str, which: str) -> _Parts:
    return run.estimates(*group, f"{latency}_parts_s", which)


def _shown(parts: _Parts, least: float = _LEAST_SHARE) -> _Parts:
    """Without parts that are not more than a share of the whole."""
    total = sum(part.value for part in parts.values())
    return {name: part for name, part in parts.items() if part.value > least * total}


def _draw(axes: Axes, *, parts: _Parts, latency: str) -> None:
    total_s = sum(part.value for part in parts.values())
    scale, unit = (1e3, "ms") if total_s < 1.0 else (1.0, "s")
    level, furthest = 0.0, total_s
    for place, (name, part) in enumerate(parts.items()):
        own = name in _OWN
        axes.barh(
            place, part.value * scale, left=level * scale, height=0.62, edgecolor=INK if own else MUTED, linewidth=0.6,
            facecolor="#0072b2" if own else "none", hatch="" if own else "////",
        )  # fmt: skip
        right = level + part.value
        if part.low is not None and part.high is not None:
            ends = [max(0.0, level + max(bound, 0.0)) * scale for bound in (part.low, part.high)]
            axes.plot(ends, [place, place], color=INK, linewidth=1.4)
            right = max(right, level + part.high)
        _write(axes, right * scale, place, f"{brief(part, DURATION)}, {_share(part.value, total_s)}")
        axes.plot([(level + part.value) * scale] * 2, [place - 0.31, place + 1.31], color=MUTED, linewidth=0.7)
        level += part.value
        furthest = max(furthest, right)
    last = len(parts)
    axes.barh(last, total_s * scale, height=0.62, facecolor=MUTED, edgecolor=INK, linewidth=0.6)
    _write(axes, total_s * scale, last, brief(total_s, DURATION))
    axes.set_yticks(range(last + 1), [*(part_name(name) for name in parts), "sum"])
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(last + 0.5, -0.5)
    axes.set_xlim(0.0, 1.42 * furthest * scale)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel(f"mean {latency.upper()} ({unit})")


def _share(part: float, whole: float) -> str:
    percent = 100.0 * part / whole
    return f"{percent:.0f} %" if percent >= 1.0 else "<1 %"


def _write(axes: Axes, right: float, height: float, text: str) -> None:
    axes.annotate(
        text, (right, height), xytext=(5, 0), textcoords="offset points", va="center", fontsize=SMALL, color=INK
    )


def _table(runs: Sequence[StoredRun]) -> Table:
    rows = []
    for run in runs:
        groups = [("all", ("overall",)), *((model, ("by_model", model)) for model in run.used_models)]
        for name, group in groups:
            for latency in ("ttft", "e2e"):
                means, slowest = (_parts(run, group, latency, which) for which in _WHICH)
                rows += [
                    (
                        run.name,
                        name,
                        latency.upper(),
                        part_name(part),
                        worded(means[part], DURATION),
                        worded(slowest.get(part), DURATION),
                    )
                    for part in _shown(means, 0.0)
                ]
    return Table(columns=("run", "model", "latency", "part", *_WHICH.values()), rows=tuple(rows))
