"""Evaluations as text: a table for the terminal, Markdown for documentation, JSON for programs."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from scenarios.measurements.comparison import Figure
from scenarios.measurements.evaluation import Evaluation
from scenarios.measurements.fit import FittedParameter
from scenarios.measurements.held_out_steps import StepsEvaluation
from scenarios.measurements.schema import METRICS, Measurement

if TYPE_CHECKING:
    from rich.console import RenderableType

_FEWEST_DIGITS, _MOST_DIGITS = 4, 9
_NAME_WIDTH = 20
"""Characters of a measurement's name in a line of the terminal's summary."""

AnyEvaluation = Evaluation | StepsEvaluation

_FIGURES = ("TTFT", "TPOT", "E2E")
_HEADER = ("measurement", "judged", *_FIGURES, "fitted on")
EXPLANATION = (
    "Error of the mean, (predicted - measured) / measured; in brackets the absolute error of a single request or "
    "step (median), or of a single run of a sweep (mean)."
)


_INTRODUCTION = (
    "This page is written by `routerwise accuracy --format markdown`: predictions of the simulator beside what was "
    "measured on real servers. Nothing is judged on the data that it was fitted on. "
    "[Its limits](accuracy-limits.md) say what is missed, why, and how models were chosen; "
    "[Measurement files](measurements.md) how to hold it against your own server."
)


def summary_rows(evaluations: Iterable[AnyEvaluation]) -> list[tuple[str, ...]]:
    """One row of text for each measurement, under the header of the table."""
    rows: list[tuple[str, ...]] = []
    for evaluation in evaluations:
        found = evaluation.comparison
        errors = {figure.name: figure.error for figure in found.figures}
        statistic = "mean" if evaluation.unit == "run" else "median"
        latencies = [
            f"{_signed(errors[f'{metric}_mean'])} ({_percent(found.row_errors.get(f'{metric}_{statistic}_error'))})"
            if f"{metric}_mean" in errors
            else "-"
            for metric in METRICS
        ]
        if isinstance(evaluation, StepsEvaluation):
            of_steps = found.row_errors
            latencies[:2] = [
                f"{kind} steps ({_percent(of_steps.get(f'{kind}_median_error'))})" for kind in ("prefill", "decode")
            ]
        rows.append((evaluation.measurement.name, _judged(evaluation), *latencies, evaluation.fitted_on))
    return rows


def print_tables(evaluations: Sequence[AnyEvaluation], *, width: int | None = None) -> None:
    """Print the summary and the distributions of each measurement to standard output."""
    from rich.console import Console

    console = Console(width=width)
    for renderable in _renderables(evaluations):
        console.print(renderable)


def _renderables(evaluations: Sequence[AnyEvaluation]) -> Iterable[RenderableType]:
    from rich import box
    from rich.table import Table

    for evaluation in evaluations:
        details = Table(title=evaluation.measurement.name, title_justify="left", caption_justify="left")
        details.caption = "\n".join(_remarks(evaluation))
        for column in ("figure", "measured", "predicted", "error"):
            details.add_column(column, justify="left" if column == "figure" else "right")
        for cells in _detail_rows(evaluation):
            details.add_row(*cells)
        yield details
    summary = Table(title="Accuracy", title_justify="left", caption=EXPLANATION, caption_justify="left")
    summary.box, summary.pad_edge, summary.show_lines = box.SIMPLE_HEAD, False, False
    for column in _HEADER:
        whole = column in ("measurement", *_FIGURES)
        summary.add_column(column, no_wrap=whole, min_width=None if whole else len("requests"), overflow="fold")
    for name, judged, *figures, fitted_on in summary_rows(evaluations):
        in_lines = [figure.replace(" steps (", " (").replace(" (", "\n(") for figure in figures]
        summary.add_row(_folded(name), judged, *in_lines, fitted_on)
    yield summary


def _folded(name: str) -> str:
    """A name in lines that end at its hyphens."""
    lines = [""]
    for part in re.findall(r"[^-]*-|[^-]+", name):
        if lines[-1] and len(lines[-1]) + len(part) > _NAME_WIDTH:
            lines.append("")
        lines[-1] += part
    return "\n".join(lines)


def markdown(evaluations: Sequence[AnyEvaluation], pictures: str | None = None) -> str:
    """All evaluations as a page of Markdown: the summary first, then a section for each measurement.

    Parameters
    ----------
    evaluations : sequence
        What to show.
    pictures : str, optional
        Folder of the pictures, relative to the page; each is named after its measurement.
    """
    parts = ["# Accuracy", "", _INTRODUCTION, "", _markdown_table(_HEADER, summary_rows(evaluations)), ""]
    parts += [EXPLANATION, ""]
    for evaluation in evaluations:
        measurement = evaluation.measurement
        parts += [f"## {measurement.name}", ""]
        if measurement.description:
            parts += [" ".join(measurement.description.split()), ""]
        served = f"{measurement.model} on {measurement.gpu}, {measurement.engine_version}"
        parts += [f"- Served: {served}; latency model `{_latency(evaluation)}`."]
        parts += [f"- Source: {' '.join(measurement.source.split())}"]
        parts += [f"- {' '.join(remark.split())}" for remark in _remarks(evaluation)]
        parts += ["", _markdown_table(("figure", "measured", "predicted", "error"), _detail_rows(evaluation)), ""]
        if pictures is not None:
            parts += [f"![{measurement.name}]({pictures}/{measurement.name}.png)", ""]
    return "\n".join(parts)


def as_json(evaluations: Sequence[AnyEvaluation]) -> list[dict[str, Any]]:
    """All evaluations as plain values; what does not exist is ``None``."""
    return [_plain(evaluation) for evaluation in evaluations]


def _plain(evaluation: AnyEvaluation) -> dict[str, Any]:
    found, measurement = evaluation.comparison, evaluation.measurement
    fit = evaluation.fit if isinstance(evaluation, Evaluation) else None
    return {
        "name": measurement.name,
        "model": measurement.model,
        "gpu": measurement.gpu,
        "engine_version": measurement.engine_version,
        "latency_kind": _latency(evaluation),
        "log_kind": measurement.log.kind,
        "rows_in_log": found.rows_in_log,
        "rows_judged": found.rows,
        "unfinished": found.unfinished,
        "figures": {
            figure.name: {"measured": figure.measured, "predicted": figure.predicted, "error": _finite(figure.error)}
            for figure in found.figures
        },
        "row_errors": dict(found.row_errors),
        "saturation_steps": found.saturation_steps,
        "saturated_rows": found.saturated_rows,
        "fitted": measurement.fitted or None,
        "fit": None
        if fit is None
        else {
            "on": evaluation.fitted_on,
            "rows": fit.rows,
            "mean_error": fit.mean_error,
            "simulations": fit.simulations,
            "warnings": list(fit.warnings),
            "parameters": {
                parameter.key: {
                    "value": parameter.value,
                    "interval_95": [parameter.low, parameter.high],
                    "identifiable": parameter.identifiable,
                }
                for parameter in fit.parameters
            },
        },
        "assumptions": list(measurement.assumptions),
        "expected": dict(measurement.expect),
        "worse_than_expected": {name: error for name, (error, _) in evaluation.missed().items()},
    }


def _latency(evaluation: AnyEvaluation) -> str:
    measurement = evaluation.measurement
    return measurement.latency.kind if isinstance(measurement, Measurement) else "steps"


def _detail_rows(evaluation: AnyEvaluation) -> list[tuple[str, str, str, str]]:
    found = evaluation.comparison
    rows = [
        (
            _title(figure.name),
            _amount(figure, figure.measured),
            _amount(figure, figure.predicted),
            _signed(figure.error),
        )
        for figure in found.figures
    ]
    for name, error in found.row_errors.items():
        metric, statistic, _ = name.split("_")
        rows.append((f"{metric.upper()} of a {evaluation.unit}, {statistic} abs. error", "", "", _percent(error)))
    return rows


def _remarks(evaluation: AnyEvaluation) -> list[str]:
    found, measurement = evaluation.comparison, evaluation.measurement
    remarks = [f"Judged: {_judged(evaluation)}. Fitted on: {evaluation.fitted_on}."]
    if isinstance(evaluation, Evaluation) and evaluation.fit is not None:
        remarks += [_parameter(parameter) for parameter in evaluation.fit.parameters]
        remarks += [f"Warning: {warning}." for warning in evaluation.fit.warnings]
        remarks.append(f"Mean absolute error where it was fitted: {_percent(evaluation.fit.mean_error)}.")
    if measurement.fitted:
        remarks.append(f"Numbers in the file: {measurement.fitted}")
    remarks += [f"Assumed: {assumption}" for assumption in measurement.assumptions]
    if found.saturation_steps is not None:
        remarks.append(
            f"Saturation is predicted within {found.saturation_steps} levels of where it was measured; "
            f"{found.saturated_rows} saturated runs are left out of the errors of TTFT."
        )
    if found.unfinished:
        remarks.append(f"Without an end in the simulation: {found.unfinished}.")
    for name, (error, allowed) in evaluation.missed().items():
        remarks.append(f"Worse than expected: {name} is {error:.4g}, expected at most {allowed:g}.")
    return remarks


def _parameter(parameter: FittedParameter) -> str:
    doubt = "" if parameter.identifiable else "; the data do not tell it"
    low, high, value = parameter.low, parameter.high, parameter.value
    digits = _digits(low, high)
    return f"{parameter.key} = {value:.{digits}g} (95 %: {low:.{digits}g} to {high:.{digits}g}{doubt})"


def _digits(low: float, high: float) -> int:
    """Significant digits with which the ends of an interval differ in two places."""
    largest, width = max(abs(low), abs(high)), high - low
    if width <= 0.0 or not math.isfinite(largest):
        return _FEWEST_DIGITS
    return min(max(_FEWEST_DIGITS, math.ceil(math.log10(largest / width)) + 2), _MOST_DIGITS)


def _judged(evaluation: AnyEvaluation) -> str:
    found = evaluation.comparison
    return f"{found.rows} of {found.rows_in_log} {evaluation.unit}s"


def _title(name: str) -> str:
    metric, _, statistic = name.partition("_")
    return f"{metric.upper()} {statistic}" if statistic else "output tokens/s"


def _amount(figure: Figure, value: float) -> str:
    if figure.name == "throughput":
        return f"{value:,.1f}"
    return f"{value:,.2f} s" if value >= 1.0 else f"{1e3 * value:.4g} ms"


def _signed(value: float | None) -> str:
    return "-" if value is None or not math.isfinite(value) else f"{100 * value:+.1f} %"


def _percent(value: float | None) -> str:
    return "-" if value is None or not math.isfinite(value) else f"{100 * value:.1f} %"


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
