"""The promise of a plan next to the outcome, as a table on the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from scenarios.plans.promises import PromisedFigure
from scenarios.summary_table import results_console


def print_promises(figures: Sequence[PromisedFigure], console: Console | None = None) -> None:
    """Print one line per figure; nothing if there are none; of latencies without a target mean and P95."""
    if not figures:
        return
    table = Table(box=None, pad_edge=False)
    table.add_column("")
    for heading in ("promised", "simulated", "difference", "target"):
        table.add_column(heading, justify="right")
    for figure in figures:
        if figure.limit is None and figure.name.endswith(("P90", "P99")):
            continue
        table.add_row(
            figure.name + {"s": " (ms)", "requests/s": " (requests/s)"}.get(figure.unit, ""),
            _number(figure.promised, figure.unit),
            _simulated(figure),
            _difference(figure),
            "" if figure.limit is None else _number(figure.limit, figure.unit),
        )
    (console or results_console()).print(table)


def _simulated(figure: PromisedFigure) -> str:
    if figure.simulated is None:
        return "-"
    text = _number(figure.simulated, figure.unit)
    if figure.low is None or figure.high is None:
        return text
    return f"{text} ± {_number((figure.high - figure.low) / 2, figure.unit)}"


def _difference(figure: PromisedFigure) -> str:
    if figure.simulated is None:
        return "-"
    if figure.unit in ("share", "score"):
        return f"{round(figure.simulated - figure.promised, 4) + 0.0:+.4f}"
    return f"{figure.simulated / figure.promised - 1.0:+.1%}" if figure.promised > 0.0 else "-"


def _number(value: float, unit: str) -> str:
    if unit == "s":
        return f"{1e3 * value:,.1f}"
    return f"{value:.4f}" if unit in ("share", "score") else f"{value:.2f}"
