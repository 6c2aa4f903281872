"""A stress test in words, as a table on the terminal, as JSON and as rows of a CSV file."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from analysis.stored.json_files import RESULT_SCHEMA_VERSION
from analysis.verdicts import Outcome
from scenarios.stress.axis import Axis
from scenarios.stress.point import Point, is_unanswered, strain
from scenarios.stress.stress import Stress, StressedAxis, StressMap
from scenarios.summary_table import results_console
from scenarios.validation.report import interval_json
from scenarios.validation.slo_verdicts import SloVerdict
from scenarios.validation.validate import EXIT_STATUS


def verdict(entry: StressedAxis) -> str:
    """How far the plan holds along an axis, in one sentence."""
    axis, bracket = entry.axis, entry.bracket
    holds, breaks, estimate = bracket.holds, bracket.breaks, bracket.estimate
    of = " ".join(part for part in (axis.words, entry.target) if part)
    worst = f" (the worst of {entry.worst_of})" if entry.worst_of > 1 else ""
    first = "" if breaks is None else f"; breaks first on {weakness(breaks)}"
    if holds is not None and breaks is not None and estimate is not None:
        if axis.neutral == 0.0 == holds.value:
            return f"broken at {axis.text(breaks.value)} {of}{worst}, the least that was tried{first}"
        ends = f"[{_number(holds.value)}, {_number(breaks.value)}]"
        return f"holds to {axis.text(estimate)} {of} {ends}{worst}{first}"
    tried = bracket.points[-1].value
    if holds is not None:
        if holds.value == tried:
            return f"holds at {axis.text(tried)} {of}{worst}, the most that was tried"
        return f"holds to {axis.text(holds.value)} {of}{worst}; undecided from there to {axis.text(tried)}"
    lowest = bracket.points[0]
    return f"{lowest.outcome.value} at {axis.text(lowest.value)} {of} already{worst}{first}"


def weakness(point: Point) -> str:
    """What breaks first at a value, in words."""
    slo = point.weakest
    target = slo.target
    if is_unanswered(slo):
        whose = f" of {target.model}" if target.model else ""
        return f"unanswered requests{whose} ({slo.unanswered.estimate:.1%})"
    statistic = "mean" if target.statistic == "mean" else target.statistic.upper()
    model = point.slowest_model(target)
    where = "" if model is None else f" of {model}" if target.model else f", slowest at {model}"
    return f"{statistic} {target.metric.upper()}{where}"


def print_stress(names: str, found: Stress, console: Console | None = None) -> None:
    """Print the plan as it is, and a line for each axis."""
    console = console or results_console()
    baseline = found.baseline
    console.print(
        f"{names}, as it is: {baseline.outcome.value} ({len(baseline.validation.runs)} replications, "
        f"{baseline.validation.confidence:.0%} confidence); nearest to its limit: {weakness(baseline)}, "
        f"{_percent(baseline.strain)} of it\n"
    )
    table = Table(box=None, pad_edge=False)
    table.add_column("axis")
    table.add_column("")
    if baseline.score is not None:
        table.add_column("score there")
    for entry in found.axes:
        score = [] if baseline.score is None else [_score(entry, baseline.score)]
        table.add_row(entry.axis.name, verdict(entry), *score)
    console.print(table)
    if found.map is not None:
        console.print(f"\n{axis_label(found.map.y)} down, {axis_label(found.map.x)} across")
        console.print(_map_table(found.map))
    for name, reason in found.left_out:
        console.print(f"left out: {name} ({reason})")


def stress_json(found: Stress) -> dict[str, Any]:
    """A stress test as plain values; what is not finite or not known is ``None``."""
    return {
        "schema_version": RESULT_SCHEMA_VERSION,
        "outcome": found.baseline.outcome.value,
        "exit_status": EXIT_STATUS[found.baseline.outcome],
        "confidence": found.baseline.validation.confidence,
        "baseline": _point_json(found.baseline),
        "axes": [_axis_json(entry) for entry in found.axes],
        "left_out": dict(found.left_out),
        "map": None if found.map is None else _map_json(found.map),
    }


def point_rows(found: Stress) -> list[dict[str, Any]]:
    """One row for each SLO at each value that was tried."""
    return [
        {"axis": entry.axis.name, "target": entry.target, "value": point.value, **_slo_row(point, slo)}
        for entry in found.axes
        for point in entry.bracket.points
        for slo in point.validation.slos
    ]


def map_rows(found: StressMap) -> list[dict[str, Any]]:
    """One row for each SLO at each pair of values."""
    return [
        {found.x.axis.name: x, found.y.axis.name: y, **_slo_row(point, slo)}
        for y, row in zip(found.y_values, found.points, strict=True)
        for x, point in zip(found.x_values, row, strict=True)
        for slo in point.validation.slos
    ]


def axis_label(entry: StressedAxis) -> str:
    """Name of an axis with its target and unit."""
    return entry.axis.name + (f":{entry.target}" if entry.target else "") + _unit(entry.axis)


def _unit(axis: Axis) -> str:
    return f" ({axis.unit})" if axis.unit else ""


def _slo_row(point: Point, slo: SloVerdict) -> dict[str, Any]:
    return {
        "outcome": point.outcome.value,
        "replications": len(point.validation.runs),
        "achieved_score": point.score,
        "slo": str(slo.target),
        "slo_outcome": slo.outcome.value,
        "statistic_s": slo.statistic_s.estimate,
        "statistic_low_s": slo.statistic_s.low,
        "statistic_high_s": slo.statistic_s.high,
        "missed": slo.missed.estimate,
        "unanswered": slo.unanswered.estimate,
        "strain": strain(slo),
    }


def _axis_json(entry: StressedAxis) -> dict[str, Any]:
    bracket = entry.bracket
    return {
        "axis": entry.axis.name,
        "target": entry.target or None,
        "worst_of": entry.worst_of,
        "unit": entry.axis.unit or None,
        "neutral": entry.axis.neutral,
        "furthest": entry.furthest,
        "holds_to": bracket.estimate,
        "low": None if bracket.holds is None else bracket.holds.value,
        "high": None if bracket.breaks is None else bracket.breaks.value,
        "breaks_first": None if bracket.breaks is None else _weakness_json(bracket.breaks),
        "verdict": verdict(entry),
        "points": [_point_json(point) for point in bracket.points],
    }


def _map_json(found: StressMap) -> dict[str, Any]:
    return {
        "x": _map_axis_json(found.x, found.x_values),
        "y": _map_axis_json(found.y, found.y_values),
        "outcomes": [[point.outcome.value for point in row] for row in found.points],
        "strain": [[_finite(point.strain) for point in row] for row in found.points],
    }


def _map_axis_json(entry: StressedAxis, values: Sequence[float]) -> dict[str, Any]:
    axis = entry.axis
    return {"axis": axis.name, "target": entry.target or None, "unit": axis.unit or None, "values": list(values)}


def _weakness_json(point: Point) -> dict[str, Any]:
    slo = point.weakest
    return {
        "slo": str(slo.target),
        "metric": slo.target.metric,
        "statistic": slo.target.statistic,
        "model": point.slowest_model(slo.target),
        "words": weakness(point),
    }


def _point_json(point: Point) -> dict[str, Any]:
    return {
        "value": point.value,
        "outcome": point.outcome.value,
        "replications": len(point.validation.runs),
        "achieved_score": point.score,
        "strain": _finite(point.strain),
        "slos": [
            {
                "slo": str(slo.target),
                "outcome": slo.outcome.value,
                "statistic_s": interval_json(slo.statistic_s),
                "missed": interval_json(slo.missed),
                "unanswered": interval_json(slo.unanswered),
            }
            for slo in point.validation.slos
        ],
    }


def _map_table(found: StressMap) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("", justify="right")
    for value in found.x_values:
        table.add_column(_number(value), justify="right")
    marks = {Outcome.HOLDS: "holds", Outcome.BROKEN: "BROKEN", Outcome.UNDECIDED: "?"}
    for value, row in zip(found.y_values, found.points, strict=True):
        table.add_row(_number(value), *(marks[point.outcome] for point in row))
    return table


def _score(entry: StressedAxis, before: float) -> str:
    """What the answers are worth where the plan holds to, from where nothing has changed."""
    holds = entry.bracket.holds
    return "-" if holds is None or holds.score is None else f"{before:.3f} -> {holds.score:.3f}"


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _number(value: float) -> str:
    return f"{value:.3g}"


def _percent(share: float) -> str:
    return f"{share:.0%}" if math.isfinite(share) else "more than all"
