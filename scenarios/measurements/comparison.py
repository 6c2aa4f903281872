"""How far the simulator's predictions are from what was measured."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from analysis.inter_token import PERCENTILES, LatencyDistribution, inter_token_latencies
from latency_models.errors import InputError
from scenarios.measurements.logs import Log, RequestTable, RunTable, rows_of
from scenarios.measurements.replay import Replay
from scenarios.measurements.schema import ClosedLoopLog, Measurement
from scenarios.measurements.sheets import Rows
from sim.results import Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One number, predicted and measured; seconds, or tokens per second for the throughput."""

    name: str
    """``ttft_mean``, ``itl_p99``, ``throughput``."""
    measured: float
    predicted: float

    @property
    def error(self) -> float:
        """(predicted - measured) / measured; NaN if nothing was measured."""
        return math.nan if self.measured == 0.0 else (self.predicted - self.measured) / self.measured


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A measurement and what the simulator made of it.

    Attributes
    ----------
    rows : int
        Rows that were judged, of ``rows_in_log``.
    unfinished : int
        Judged rows whose prediction has no end: requests that were rejected or never finished.
    figures : tuple of Figure
        Distributions of a log of requests; of a log of runs the means over its runs.
    row_errors : mapping of str to float
        ``ttft_median_error``, ``ttft_p90_error``, ``ttft_mean_error``...: absolute relative errors of single rows.
    saturation_steps : int, optional
        Largest distance, in levels of the sweep, between the measured and the predicted start of saturation.
    saturated_rows : int
        Rows beyond the measured saturation, which the errors of ``ttft`` leave out.
    """

    rows: int
    rows_in_log: int
    unfinished: int
    figures: tuple[Figure, ...]
    row_errors: Mapping[str, float]
    saturation_steps: int | None = None
    saturated_rows: int = 0

    def values(self) -> dict[str, float]:
        """Every figure's absolute relative error by name, as ``expect`` of a measurement file names them."""
        found = {figure.name: abs(figure.error) for figure in self.figures} | dict(self.row_errors)
        if self.saturation_steps is not None:
            found["saturation_steps"] = float(self.saturation_steps)
        return found

    def missed(self, expect: Mapping[str, float]) -> dict[str, tuple[float, float]]:
        """Figures that are worse than expected: name to (error, allowed).

        Raises
        ------
        InputError
            If a figure is expected that this measurement does not have.
        """
        found = self.values()
        absent = [name for name in expect if name not in found]
        if absent:
            raise InputError(f"expect names {', '.join(absent)}; this measurement has: {', '.join(found)}")
        return {name: (found[name], allowed) for name, allowed in expect.items() if not found[name] <= allowed}


def compare(measurement: Measurement, log: Log, replayed: Replay, judged: Rows) -> Comparison:
    """Compare a replay with its log.

    Parameters
    ----------
    measurement : Measurement
        For the form of its log.
    log : RequestTable or RunTable
        What was measured.
    replayed : Replay
        What was predicted.
    judged : ndarray of bool, shape (n,)
        Rows to compare.

    Raises
    ------
    InputError
        If nothing that was measured has a prediction.
    """
    if isinstance(log, RequestTable):
        return _compare_requests(log, replayed, judged)
    return _compare_runs(measurement, log, replayed, judged)


def judged_rows(measurement: Measurement, log: Log) -> Rows:
    """Rows of a log that are judged: those that the file names, without those that it fits on."""
    rows = rows_of(log, measurement.judge)
    fit = measurement.fit
    if fit is None or fit.files:
        return rows
    rows = rows & ~rows_of(log, fit.part)
    if not rows.any():
        raise InputError(
            f"{measurement.name}: nothing is left to judge, every row is fitted on; allowed: rows outside fit.part. "
            "Fit on fewer rows, or on another file (fit.files)"
        )
    return rows


def _compare_requests(log: RequestTable, replayed: Replay, judged: Rows) -> Comparison:
    figures: list[Figure] = []
    errors: dict[str, float] = {}
    unfinished = int(np.isnan(replayed.predicted["e2e"][judged]).sum())
    for metric, values in log.measured.items():
        both = judged & ~np.isnan(values) & ~np.isnan(replayed.predicted[metric])
        if both.any():
            measured, predicted = values[both], replayed.predicted[metric][both]
            figures += _distribution(metric, LatencyDistribution.of(measured), LatencyDistribution.of(predicted))
            errors |= _row_errors(metric, measured, predicted)
    if not figures:
        raise InputError("no judged request has a prediction; does the server reject them all?")
    figures += _inter_token(log, replayed, judged)
    figures += _throughput(log, replayed, judged)
    return Comparison(
        rows=int(judged.sum()), rows_in_log=len(log), unfinished=unfinished, figures=tuple(figures), row_errors=errors
    )


def _distribution(name: str, measured: LatencyDistribution, predicted: LatencyDistribution) -> list[Figure]:
    figures = [Figure(name=f"{name}_mean", measured=measured.mean_s, predicted=predicted.mean_s)]
    for percentile in PERCENTILES:
        figures.append(
            Figure(
                name=f"{name}_p{percentile:g}",
                measured=measured.percentiles_s[percentile],
                predicted=predicted.percentiles_s[percentile],
            )
        )
    return figures


def _row_errors(metric: str, measured: Floats, predicted: Floats) -> dict[str, float]:
    positive = measured > 0.0
    if not positive.any():
        return {}
    errors = np.abs(predicted[positive] / measured[positive] - 1.0)
    return {
        f"{metric}_mean_error": float(errors.mean()),
        f"{metric}_median_error": float(np.median(errors)),
        f"{metric}_p90_error": float(np.percentile(errors, 90.0)),
    }


def _inter_token(log: RequestTable, replayed: Replay, judged: Rows) -> list[Figure]:
    if log.itl_s is None or log.itl_row is None or replayed.result is None or replayed.log_row is None:
        return []
    measured = LatencyDistribution.of(log.itl_s[judged[log.itl_row]])
    predicted = inter_token_latencies(replayed.result, selected=judged[replayed.log_row]).overall
    return _distribution("itl", measured, predicted) if measured.count and predicted.count else []


def _throughput(log: RequestTable, replayed: Replay, judged: Rows) -> list[Figure]:
    """Output tokens per second from the first judged arrival to the last judged end."""
    if "e2e" not in log.measured or replayed.result is None or replayed.log_row is None:
        return []
    measured_s, predicted_s = log.measured["e2e"], replayed.predicted["e2e"]
    both = judged & ~np.isnan(measured_s) & ~np.isnan(predicted_s)
    if not both.any():
        return []
    # In a closed loop the simulated arrivals are other ones.
    arrival_s = np.empty(len(log))
    arrival_s[replayed.log_row] = replayed.result.requests.arrival_s
    tokens = float(log.output_tokens[both].sum())
    return [
        Figure(
            name="throughput",
            measured=tokens / _span_s(log.arrival_s[both], measured_s[both]),
            predicted=tokens / _span_s(arrival_s[both], predicted_s[both]),
        )
    ]


def _span_s(arrival_s: Floats, e2e_s: Floats) -> float:
    return float((arrival_s + e2e_s).max() - arrival_s.min())


def _compare_runs(measurement: Measurement, log: RunTable, replayed: Replay, judged: Rows) -> Comparison:
    saturated = np.zeros(len(log), dtype=np.bool_)
    steps = None
    section = measurement.log
    # A batch given at once waits for its turn by its nature.
    if isinstance(section, ClosedLoopLog) and section.statistic != "longest" and "ttft" in log.measured:
        steps, saturated = _saturation(measurement, section, log, replayed, judged)
    figures: list[Figure] = []
    errors: dict[str, float] = {}
    for metric, values in log.measured.items():
        both = judged & ~np.isnan(values) & ~np.isnan(replayed.predicted[metric])
        if metric == "ttft":
            # Where the cache is full, the time in the queue says how long the run was, not how fast the server is.
            both &= ~saturated
        if both.any():
            measured, predicted = values[both], replayed.predicted[metric][both]
            means = {"measured": float(measured.mean()), "predicted": float(predicted.mean())}
            figures.append(Figure(name=f"{metric}_mean", **means))
            errors |= _row_errors(metric, measured, predicted)
    if not figures:
        raise InputError(f"{measurement.name}: no judged run has a prediction; does the server reject all requests?")
    return Comparison(
        rows=int(judged.sum()),
        rows_in_log=len(log),
        unfinished=int(np.isnan(replayed.predicted["e2e"][judged]).sum()) if "e2e" in replayed.predicted else 0,
        figures=tuple(figures),
        row_errors=errors,
        saturation_steps=steps,
        saturated_rows=int((saturated & judged).sum()),
    )


def _saturation(
    measurement: Measurement, section: ClosedLoopLog, log: RunTable, replayed: Replay, judged: Rows
) -> tuple[int, Rows]:
    """Largest distance in levels between measured and predicted saturation, and which rows are saturated as measured.

    Levels belong to one sweep if their lengths and settings are equal.
    """
    assert log.concurrency is not None
    assert log.prompt_tokens is not None
    assert log.output_tokens is not None
    concurrency, level = log.concurrency.tolist(), section.columns["concurrency"]
    sweeps: dict[tuple[Any, ...], list[int]] = {}
    for row in np.flatnonzero(judged).tolist():
        # The concurrency may change the server too, but it is what the levels of a sweep differ in.
        changed = tuple(log.cells[column][row] for column in section.settings.values() if column != level)
        sweeps.setdefault((log.prompt_tokens[row], log.output_tokens[row], *changed), []).append(row)
    saturated = np.zeros(len(log), dtype=np.bool_)
    farthest = 0
    for rows in sweeps.values():
        rows.sort(key=concurrency.__getitem__)
        measured = first_saturated(log.measured["ttft"][rows], measurement.saturated_above)
        predicted = first_saturated(replayed.predicted["ttft"][rows], measurement.saturated_above)
        farthest = max(farthest, abs(measured - predicted))
        saturated[rows[measured:]] = True
    return farthest, saturated


def first_saturated(ttft_s: Sequence[float] | Floats, ratio: float) -> int:
    """Index of the first level whose TTFT is at least ``ratio`` times the one before; the number of levels if none."""
    for level in range(1, len(ttft_s)):
        if ttft_s[level] >= ratio * ttft_s[level - 1]:
            return level
    return len(ttft_s)
