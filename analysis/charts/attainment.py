"""Which share of the requests kept the SLO, by model and class."""

from __future__ import annotations

from collections.abc import Sequence

from analysis.charts.chart import Chart, NoData, Table
from analysis.charts.dots import Row, Scale, dot_panel, run_series
from analysis.charts.subjects import interval_words, titled
from analysis.estimates import Estimate
from analysis.stored.results import Results
from analysis.stored.run import StoredRun
from analysis.wording import COUNT, NUMBER, SHARE, worded

_SCALE = Scale(label="requests within the SLO (%)", unit=SHARE, low=0.95, high=1.0, bounds=(0.0, 1.0))

_Group = tuple[str, ...]


def attainment_chart(results: Results) -> Chart:
    """SLO attainment overall, by model, by class, and by both, with intervals.

    Raises
    ------
    NoData
        No run is among the results that was held against an SLO.
    """
    runs = [run for run in results.runs if run.slo is not None and _attained(run, ("overall",)) is not None]
    if not runs:
        raise NoData("attainment needs a run directory with an SLO, and requests: give `run` one with --slo")
    kinds = _groups(_names(runs, "models"), _names(runs, "classes"))
    series = run_series(runs)
    panels = [dot_panel(title, _rows(runs, groups), series, _SCALE) for title, groups in kinds.items()]
    limits = list(dict.fromkeys(str(run.slo) for run in runs))
    caption = (
        f"Share of all requests that kept the SLO ({', or '.join(limits)} ms); requests without an answer did not."
    )
    caption += interval_words(runs)
    return Chart(
        kind="attainment",
        title=titled("SLO attainment", runs),
        caption=caption,
        panels=tuple(panels),
        table=_table(runs, [group for groups in kinds.values() for group in groups]),
    )


def _groups(models: Sequence[str], classes: Sequence[str]) -> dict[str, list[_Group]]:
    """Groups of requests by title of their panel; nothing that would repeat another."""
    by_model: list[_Group] = [("by_model", name) for name in models] if len(models) > 1 else []
    found: dict[str, list[_Group]] = {"All, and by model" if by_model else "All": [("overall",), *by_model]}
    if len(classes) > 1:
        found["By class"] = [("by_class", name) for name in classes]
        if by_model:
            found["By model and class"] = [("by_model_and_class", model, name) for model in models for name in classes]
    return found


def _names(runs: Sequence[StoredRun], kind: str) -> list[str]:
    """Names of models with requests, or of classes, of all runs."""
    lists = [run.used_models if kind == "models" else run.classes for run in runs]
    return list(dict.fromkeys(name for names in lists for name in names))


def _attained(run: StoredRun, group: _Group) -> Estimate | None:
    return run.estimate(*group, "slo_attainment")


def _label(group: _Group) -> str:
    return "all" if group == ("overall",) else ", ".join(group[1:])


def _rows(runs: Sequence[StoredRun], groups: Sequence[_Group]) -> list[Row]:
    return [Row(label=_label(group), dots=tuple(_attained(run, group) for run in runs)) for group in groups]


def _table(runs: Sequence[StoredRun], groups: Sequence[_Group]) -> Table:
    rows = [
        (
            run.name,
            _label(group),
            worded(run.estimate(*group, "requests", "total"), COUNT),
            worded(found, SHARE),
            worded(run.estimate(*group, "goodput_per_s"), NUMBER),
        )
        for run in runs
        for group in groups
        if (found := _attained(run, group)) is not None
    ]
    return Table(columns=("run", "of", "requests", "within the SLO", "goodput (requests/s)"), rows=tuple(rows))
