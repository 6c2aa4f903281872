"""What the lines of a chart are about: the models of one run, or whole runs side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from analysis.charts.style import colours, dashes, markers, told_apart
from analysis.stored.run import StoredRun

if TYPE_CHECKING:
    import pandas as pd

Dash = str | tuple[int, tuple[int, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """One model of a run, or a run with all its models."""

    label: str
    short: str
    """The label as it fits into a legend, different from those of the others."""
    run: StoredRun
    model: str | None
    """``None``: all."""
    colour: str
    dash: Dash
    marker: str

    @property
    def group(self) -> tuple[str, ...]:
        """Keys of its part of a summary."""
        return ("overall",) if self.model is None else ("by_model", self.model)

    def of(self, table: pd.DataFrame) -> pd.DataFrame:
        """Its rows of a table of the run's requests or samples."""
        return table if self.model is None else table[table["model"] == self.model]


def subjects(runs: Sequence[StoredRun]) -> tuple[Subject, ...]:
    """The models that got requests if there is one run; otherwise the runs.

    A model has its colour by its place in the scenario, so that it is the same in every chart.
    """
    entries: list[tuple[str, StoredRun, str | None]]
    if len(runs) == 1:
        (run,) = runs
        names = run.models
        entries = [(name, run, name) for name in run.used_models]
    else:
        names = [run.name for run in runs]
        entries = [(run.name, run, None) for run in runs]
    palette, styles, marks = colours(names), dashes(names), markers(names)
    short = told_apart(name for name, _, _ in entries)
    return tuple(
        Subject(
            label=name,
            short=short[name],
            run=run,
            model=model,
            colour=palette[name],
            dash=styles[name],
            marker=marks[name],
        )
        for name, run, model in entries
    )


def interval_words(runs: Sequence[StoredRun]) -> str:
    """What a caption says about the intervals of runs; empty if none has several replications."""
    several = any(run.replications > 1 for run in runs)
    return " Lines: 95\N{NO-BREAK SPACE}% confidence intervals, from the replications." if several else ""


def titled(words: str, runs: Sequence[StoredRun]) -> str:
    """A title that names the run, if there is one."""
    return f"{words}: {runs[0].name if len(runs) == 1 else f'{len(runs)} runs'}"
