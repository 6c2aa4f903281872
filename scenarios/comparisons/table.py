"""A comparison of policies as tables on the terminal."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from analysis.statistics import Interval
from scenarios.comparisons.compare import PolicyComparison
from scenarios.comparisons.measure import Metric, Unit
from scenarios.summary_table import results_console


def print_comparison(found: PolicyComparison, console: Console | None = None) -> None:
    """Print a row per policy: figures, then shares of the models, then differences from the reference."""
    console = results_console() if console is None else console
    slo = "" if found.slo is None else f", SLO {found.slo}"
    console.print(
        f"{found.scenario}: {len(found.policies)} policies, {found.replications} replications, the same requests for "
        f"all{slo}"
    )
    metrics = [metric for metric in found.metrics if _tells(found, metric)]
    console.print()
    console.print(_figures(found, metrics))
    if len(found.models) > 1:
        console.print()
        console.print(_fractions(found))
    console.print()
    console.print(
        f"Difference from {found.reference} (a column's intervals hold together with {found.confidence:.0%}; "
        "* significant)"
    )
    console.print(_differences(found, metrics))


def _tells(found: PolicyComparison, metric: Metric) -> bool:
    """Whether a metric is worth a column: not if all is answered, by the first model asked."""
    if metric.name not in ("answered", "stages"):
        return True
    return any(policy.intervals[metric.name].estimate != 1.0 for policy in found.policies)


def _figures(found: PolicyComparison, metrics: list[Metric]) -> Table:
    table = _table("policy", [_heading(metric) for metric in metrics])
    for policy in found.policies:
        table.add_row(policy.label, *(_with_half_width(policy.intervals[m.name], m.unit) for m in metrics))
    return table


def _fractions(found: PolicyComparison) -> Table:
    table = _table("share of requests", list(found.models))
    for policy in found.policies:
        table.add_row(policy.label, *(f"{100 * fraction:.1f}%" for fraction in policy.fractions))
    return table


def _differences(found: PolicyComparison, metrics: list[Metric]) -> Table:
    table = _table("policy", [_heading(metric) for metric in metrics])
    for policy in found.policies:
        if policy.label != found.reference:
            cells = []
            for metric in metrics:
                pair = policy.differences[metric.name]
                mark = "*" if pair.significant else " "
                cells.append(_with_half_width(pair.difference.interval, metric.unit, sign="+") + mark)
            table.add_row(policy.label, *cells)
    return table


def _table(first: str, headings: list[str]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column(first)
    for heading in headings:
        table.add_column(heading, justify="right")
    return table


def _heading(metric: Metric) -> str:
    return f"{metric.title} (ms)" if metric.unit == "s" else metric.title


def _with_half_width(interval: Interval, unit: Unit, sign: str = "") -> str:
    return f"{_number(interval.estimate, unit, sign)} ± {_number(interval.half_width, unit, '')}"


def _number(value: float, unit: Unit, sign: str) -> str:
    if unit == "share":
        return f"{100 * value:{sign}.1f}%"
    scaled, digits = {"score": (value, 4), "s": (1e3 * value, 0), "rate": (value, 2), "number": (value, 2)}[unit]
    if unit == "s" and abs(scaled) < 10:
        digits = 1
    return f"{scaled:{sign},.{digits}f}"
