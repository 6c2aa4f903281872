"""What the answers cost, run by run."""

from __future__ import annotations

from collections.abc import Sequence

from analysis.charts.chart import Chart, NoData, Table
from analysis.charts.dots import Row, Scale, dot_panel, run_series
from analysis.charts.subjects import interval_words, titled
from analysis.estimates import Estimate
from analysis.stored.results import Results
from analysis.stored.run import StoredRun
from analysis.wording import DOLLARS, NUMBER, Unit, brief, worded

_ANSWERS = {
    "per_1000_answers_usd": "answers",
    "per_1000_in_time_usd": "in time",
    "per_1000_correct_usd": "correct",
    "per_1000_good_usd": "good",
}
_TOKENS = {"per_million_tokens_usd": "all tokens", "per_million_output_tokens_usd": "output tokens"}
_ENERGY = {"kwh_per_million_tokens": "all tokens", "kwh_per_million_output_tokens": "output tokens"}
_PANELS: tuple[tuple[str, str, dict[str, str], Unit], ...] = (
    ("1,000 answers", "$ per 1,000 answers", _ANSWERS, DOLLARS),
    ("A million tokens", "$ per million tokens", _TOKENS, DOLLARS),
    ("Energy", "kWh per million tokens", _ENERGY, NUMBER),
)


def cost_chart(results: Results) -> Chart:
    """Dollars per 1,000 answers and per million tokens, and energy, of each run.

    Raises
    ------
    NoData
        No run is among the results whose GPUs have a price or a power.
    """
    runs = [run for run in results.runs if _known(run)]
    if not runs:
        raise NoData("cost needs a run directory of a scenario whose GPUs have a known price or power")
    series, panels = run_series(runs), []
    for title, label, figures, unit in _PANELS:
        rows = [Row(label=words, dots=tuple(_figure(run, key) for run in runs)) for key, words in figures.items()]
        if any(dot is not None for row in rows for dot in row.dots):
            scale = Scale(label=label, unit=unit, bounds=(0.0, float("inf")))
            panels.append(dot_panel(title, rows, series, scale))
    return Chart(
        kind="cost",
        title=titled("Cost", runs),
        caption=_caption(runs),
        panels=tuple(panels),
        table=_table(runs),
    )


def _figure(run: StoredRun, key: str) -> Estimate | None:
    """A cost; none for good answers where these are just the ones in time, or the correct ones."""
    parts = ("per_1000_in_time_usd", "per_1000_correct_usd")
    if key == "per_1000_good_usd" and any(run.estimate("cost", part) is None for part in parts):
        return None
    return run.estimate("cost", key)


def _known(run: StoredRun) -> bool:
    return any(_figure(run, key) is not None for _, _, figures, _ in _PANELS for key in figures)


def _caption(runs: Sequence[StoredRun]) -> str:
    text = "All GPUs are paid for, busy or not."
    prices = {
        f"{brief(price, DOLLARS)} per GPU hour ({str(run.entry('cost')['gpu'] or 'GPU').upper()})": None
        for run in runs
        if (price := run.estimate("cost", "price_per_gpu_hour_usd")) is not None
    }
    if prices:
        text += f" At {', '.join(prices)}."
    if any(_figure(run, "per_1000_good_usd") is not None for run in runs):
        text += " A good answer is in time and correct; in time is within the SLO."
    elif any(_figure(run, "per_1000_in_time_usd") is not None for run in runs):
        text += " In time is within the SLO."
    return text + interval_words(runs)


def _table(runs: Sequence[StoredRun]) -> Table:
    rows = [
        (run.name, f"{label}: {words}", worded(found, unit))
        for run in runs
        for _, label, figures, unit in _PANELS
        for key, words in figures.items()
        if (found := _figure(run, key)) is not None
    ]
    return Table(columns=("run", "figure", "cost"), rows=tuple(rows))
