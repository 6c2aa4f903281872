"""Pictures of an evaluation: measured against predicted, errors over load, load over time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from analysis.pictures import logarithmic, picture
from latency_models.fits.steps_fit import HeldOut
from scenarios.measurements.comparison import judged_rows
from scenarios.measurements.evaluation import Evaluation
from scenarios.measurements.held_out_steps import StepsEvaluation
from scenarios.measurements.logs import RequestTable, RunTable, read_time_series
from scenarios.measurements.schema import METRICS, ClosedLoopLog, Metric, RequestsLog
from sim.results import Floats, Ints

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Panel = Callable[["Axes"], None]

_MEASURED, _PREDICTED = "tab:blue", "tab:orange"
_UNITS: dict[Metric, tuple[str, float]] = {"ttft": ("ms", 1e3), "tpot": ("ms", 1e3), "e2e": ("s", 1.0)}


def plot_evaluation(evaluation: Evaluation | StepsEvaluation, path: Path) -> None:
    """Draw an evaluation into a PNG file.

    A log of requests gives the distribution of each latency, errors over the load at arrival, and, where the load over
    time was measured, that beside the predicted one.  A log of runs gives each latency run by run; single steps give
    their errors over the tokens of the step.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    panels = _step_panels(evaluation) if isinstance(evaluation, StepsEvaluation) else _panels(evaluation)
    columns = min(2, len(panels))
    with picture(path, -(-len(panels) // columns), columns, size=(6.0, 3.8)) as (figure, rows):
        axes = [axis for row in rows for axis in row]
        for axis, panel in zip(axes, panels, strict=False):
            panel(axis)
        for axis in axes[len(panels) :]:
            axis.set_visible(False)
        measurement = evaluation.measurement
        figure.suptitle(f"{measurement.name}: {measurement.model} on {measurement.gpu}, {measurement.engine_version}")


def _panels(evaluation: Evaluation) -> list[Panel]:
    log = evaluation.log
    panels: list[Panel] = []
    for metric in METRICS:
        if metric not in log.measured:
            continue
        if isinstance(log, RequestTable):
            panels.append(_distribution_panel(evaluation, metric))
        else:
            panels.append(_runs_panel(evaluation, log, metric))
    if isinstance(log, RequestTable):
        if "e2e" in log.measured:
            panels.append(_residual_panel(evaluation, log))
        section = evaluation.measurement.log
        if isinstance(section, RequestsLog) and section.timeseries is not None:
            panels += [_series_panel(evaluation, name) for name in ("running", "waiting")]
    return panels


def _step_panels(evaluation: StepsEvaluation) -> list[Panel]:
    def panel(name: str, *, decode: bool) -> Panel:
        def draw(axis: Axes) -> None:
            groups = {(entry.group.model, entry.group.tp) for entry in evaluation.held_out}
            for colour, (model, tp) in enumerate(sorted(groups)):
                parts = [entry for entry in evaluation.held_out if (entry.group.model, entry.group.tp) == (model, tp)]
                tokens, errors = (np.concatenate(columns) for columns in zip(*map(chosen, parts), strict=True))
                axis.plot(tokens, 100.0 * errors, ".", color=f"C{colour}", label=f"{model} tp {tp}", alpha=0.4)
            axis.axhline(0.0, color="black", linewidth=0.8)
            logarithmic(axis, x=True)
            axis.set(xlabel=f"tokens of a {name} step", ylabel="predicted - measured (% of measured)")
            axis.legend(fontsize="small")

        def chosen(entry: HeldOut) -> tuple[Floats, Floats]:
            table = entry.group.table
            rows = (table.prefill_seqs == 0) == decode
            return table.tokens[rows], entry.relative_errors[rows]

        return draw

    return [panel("prefill", decode=False), panel("decode", decode=True)]


def _distribution_panel(evaluation: Evaluation, metric: Metric) -> Panel:
    judged = judged_rows(evaluation.measurement, evaluation.log)
    unit, scale = _UNITS[metric]

    def draw(axis: Axes) -> None:
        for name, columns, colour in (
            ("measured", evaluation.log.measured, _MEASURED),
            ("predicted", evaluation.replayed.predicted, _PREDICTED),
        ):
            known = columns[metric][judged] * scale
            known = np.sort(known[~np.isnan(known)])
            axis.step(known, np.arange(1, len(known) + 1) / len(known), where="post", label=name, color=colour)
        logarithmic(axis, x=True)
        axis.set(xlabel=f"{metric.upper()} ({unit})", ylabel="share of requests")
        axis.legend()

    return draw


def _residual_panel(evaluation: Evaluation, log: RequestTable) -> Panel:
    judged = judged_rows(evaluation.measurement, log)
    load = requests_in_system(log.arrival_s, log.measured["e2e"])

    def draw(axis: Axes) -> None:
        for metric, colour in zip(METRICS, ("tab:green", "tab:purple", "tab:red"), strict=True):
            if metric in log.measured:
                measured, predicted = log.measured[metric][judged], evaluation.replayed.predicted[metric][judged]
                usable = measured > 0.0
                error = predicted[usable] / measured[usable] - 1.0
                label = metric.upper()
                axis.plot(load[judged][usable], 100.0 * error, ".", markersize=4, alpha=0.5, color=colour, label=label)
        axis.axhline(0.0, color="black", linewidth=0.8)
        axis.set(xlabel="requests in the system at arrival, as measured", ylabel="error of a request (%)")
        axis.legend()

    return draw


def _runs_panel(evaluation: Evaluation, log: RunTable, metric: Metric) -> Panel:
    section = evaluation.measurement.log
    unit, scale = _UNITS[metric]

    def draw(axis: Axes) -> None:
        measured, predicted = log.measured[metric] * scale, evaluation.replayed.predicted[metric] * scale
        if isinstance(section, ClosedLoopLog) and log.concurrency is not None:
            place: Floats | Ints = log.concurrency
            axis.set(xlabel="requests kept in flight")
        else:
            place = np.arange(len(log))
            axis.set(xlabel="run")
        axis.plot(place, measured, "o", color=_MEASURED, label="measured", markersize=6, fillstyle="none")
        axis.plot(place, predicted, "x", color=_PREDICTED, label="predicted", markersize=5)
        axis.set(ylabel=f"{metric.upper()} ({unit})")
        levels = np.unique(place).tolist() if log.concurrency is not None else []
        logarithmic(axis, x=bool(levels), y=True, x_ticks=levels)
        axis.legend()

    return draw


def _series_panel(evaluation: Evaluation, name: str) -> Panel:
    section = evaluation.measurement.log
    assert isinstance(section, RequestsLog)
    assert section.timeseries is not None
    measured = read_time_series(section.timeseries)
    assert evaluation.replayed.result is not None
    samples = evaluation.replayed.result.samples
    column = {"running": 2, "waiting": 3}[name]

    def draw(axis: Axes) -> None:
        axis.plot(measured["time"], measured[name], color=_MEASURED, label="measured")
        axis.plot(samples[:, 0], samples[:, column], color=_PREDICTED, label="predicted")
        axis.set(xlabel="time (s)", ylabel=f"{name} requests")
        axis.legend()

    return draw


def requests_in_system(arrival_s: Floats, e2e_s: Floats) -> Ints:
    """How many requests each one finds in the system when it arrives, itself included."""
    ends = np.sort(arrival_s + np.nan_to_num(e2e_s))
    arrived = np.searchsorted(np.sort(arrival_s), arrival_s, side="right")
    return np.asarray(arrived - np.searchsorted(ends, arrival_s, side="right"), dtype=np.int64)
