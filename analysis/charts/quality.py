"""How good the answers are: what the router predicted, what came out, and which model gave how many."""

from __future__ import annotations

from collections.abc import Sequence

from analysis.charts.chart import Chart, NoData, Table
from analysis.charts.dots import Row, Scale, Series, dot_panel, run_series
from analysis.charts.style import shortened
from analysis.charts.subjects import interval_words, titled
from analysis.estimates import Estimate, estimate_of
from analysis.stored.results import Results
from analysis.stored.run import StoredRun
from analysis.wording import SCORE, SHARE, brief, worded

_SCORE = Scale(label="mean score of the answers", unit=SCORE, low=None, bounds=(0.0, 1.0))
_SHARE = Scale(label="share of the requests (%)", unit=SHARE, bounds=(0.0, 1.0))


def quality_chart(results: Results) -> Chart:
    """Predicted and achieved scores, overall and by model, beside the shares of the models.

    Raises
    ------
    NoData
        No run is among the results whose requests have scores.
    """
    runs = [run for run in results.runs if run.estimate("overall", "quality", "predicted") is not None]
    if not runs:
        raise NoData("quality needs a run directory of a scenario with prompts that have scores")
    models = list(dict.fromkeys(name for run in runs for name in run.used_models))
    groups = [("overall",), *(("by_model", name) for name in models)] if len(models) > 1 else [("overall",)]
    achieved = any(run.estimate("overall", "quality", "achieved") is not None for run in runs)
    names = ("predicted", "achieved") if achieved else ("predicted",)
    scores = [
        Row(
            label=group[-1] if len(group) > 1 else "all",
            dots=tuple(run.estimate(*group, "quality", name) for run in runs for name in names),
        )
        for group in groups
    ]
    panels = [dot_panel("Score", scores, _series(runs, names), _SCORE)]
    if len(models) > 1:
        shares = [Row(label=name, dots=tuple(_share(run, name) for run in runs)) for name in models]
        panels.append(dot_panel("Traffic", shares, run_series(runs), _SHARE))
    caption = "Hollow: mean score that the router predicted."
    if achieved:
        caption += " Filled: mean true score of the answers; a request without an answer counts as 0."
    caption += interval_words(runs)
    return Chart(
        kind="quality",
        title=titled("Quality of the answers", runs),
        caption=caption,
        panels=tuple(panels),
        table=_table(runs, groups),
    )


def _share(run: StoredRun, model: str) -> Estimate | None:
    return estimate_of(run.traffic_share(model))


def _series(runs: Sequence[StoredRun], names: Sequence[str]) -> list[Series]:
    found = []
    for one in run_series(runs):
        for name in names:
            label = name if len(runs) == 1 else f"{shortened(one.label)}, {name}"
            found.append(Series(label=label, colour=one.colour, marker=one.marker, hollow=name == "predicted"))
    return found


def _table(runs: Sequence[StoredRun], groups: Sequence[tuple[str, ...]]) -> Table:
    rows = [
        (
            run.name,
            group[-1] if len(group) > 1 else "all",
            brief(1.0, SHARE) if len(group) == 1 else worded(_share(run, group[-1]), SHARE),
            worded(run.estimate(*group, "quality", "predicted"), SCORE),
            worded(run.estimate(*group, "quality", "achieved"), SCORE),
            worded(run.estimate(*group, "quality", "achieved_of_answered"), SCORE),
        )
        for run in runs
        for group in groups
    ]
    columns = ("run", "model", "share of requests", "predicted", "achieved", "achieved, answered only")
    return Table(columns=columns, rows=tuple(rows))
