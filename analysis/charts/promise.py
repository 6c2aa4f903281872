"""What a plan promised next to what its simulation showed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from analysis.charts.chart import Chart, NoData, Panel, Table
from analysis.charts.dots import Row, Scale, Series, dot_panel
from analysis.charts.style import MUTED, colours, duration_unit, shortened
from analysis.charts.subjects import interval_words, titled
from analysis.estimates import Estimate, simulated_estimate
from analysis.stored.results import Results
from analysis.stored.run import StoredRun
from analysis.wording import DURATION, SCORE, SHARE, UNITS, brief, setting, worded

_TITLES = {
    "TTFT": "Time to first token", "TPOT": "Time per output token", "E2E": "End-to-end time",
    "score": "Score", "share": "Fractions of the traffic",
}  # fmt: skip
_LATENCIES = ("TTFT", "TPOT", "E2E")

_Figure = Mapping[str, Any]


def promise_chart(results: Results) -> Chart:
    """Promised and simulated figures of each run that deployed a plan with a promise.

    Raises
    ------
    NoData
        No such run is among the results.
    """
    runs = [run for run in results.runs if run.promise]
    if not runs:
        raise NoData("promise needs a run directory of a plan that promises something: `routerwise run --plan PLAN`")
    caption = (
        "Hollow: what the plan promised. Filled: what its simulation showed. Bar: the limit that the plan was made for."
    )
    caption += interval_words(runs)
    return Chart(
        kind="promise",
        title=titled("Promised and simulated", runs),
        caption=caption,
        panels=tuple(panel for run in runs for panel in _panels(run, len(runs) > 1)),
        table=_table(runs),
    )


def _panels(run: StoredRun, named: bool) -> list[Panel]:
    by_kind: dict[str, list[_Figure]] = {}
    for figure in run.promise:
        by_kind.setdefault(_kind(figure), []).append(figure)
    colour = colours([run.name])[run.name]
    series = (
        Series(label="promised", colour=MUTED, marker="D", hollow=True),
        Series(label="simulated", colour=colour, marker="o"),
    )
    prefix = f"{shortened(run.name)}: " if named else ""
    return [
        dot_panel(
            prefix + title,
            [_row(figure) for figure in by_kind[kind]],
            series,
            _scale(kind, by_kind[kind]),
            group=f"{run.name}, {'latency' if kind in _LATENCIES else 'traffic'}",
        )
        for kind, title in _TITLES.items()
        if kind in by_kind
    ]


def _kind(figure: _Figure) -> str:
    """Panel of a figure: its latency, or its unit."""
    return next((name for name in _LATENCIES if f" {name} " in figure["name"]), str(figure["unit"]))


def _row(figure: _Figure) -> Row:
    label = str(figure["name"])
    for word in ("TTFT ", "TPOT ", "E2E ", "score, ", ": fraction"):
        label = label.replace(word, "")
    return Row(label=label, dots=(Estimate(value=figure["promised"]), _simulated(figure)), limit=figure["limit"])


def _simulated(figure: _Figure) -> Estimate | None:
    if figure["simulated"] is None:
        return None
    return simulated_estimate(figure)


def _scale(kind: str, figures: Sequence[_Figure]) -> Scale:
    if kind == "score":
        return Scale(label="mean score", unit=SCORE, low=None, bounds=(0.0, 1.0))
    if kind == "share":
        return Scale(label="share of the requests (%)", unit=SHARE, bounds=(0.0, 1.0))
    unit = duration_unit(max(figure["promised"] for figure in figures))
    return Scale(label=f"{kind} ({unit.name})", unit=unit, bounds=(0.0, float("inf")))


def _table(runs: Sequence[StoredRun]) -> Table:
    rows = []
    for run in runs:
        for figure in run.promise:
            unit = DURATION if figure["unit"] == "s" else UNITS[figure["unit"]]
            rows.append(
                (
                    run.name,
                    str(figure["name"]),
                    brief(figure["promised"], unit),
                    worded(_simulated(figure), unit),
                    "" if figure["limit"] is None else setting(figure["limit"], unit),
                )
            )
    return Table(columns=("run", "figure", "promised", "simulated", "target"), rows=tuple(rows))
