"""Theory beside simulation as a table on the terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from analysis.statistics import Interval
from scenarios.theory.evidence import Row

_VERDICTS = {
    ("agrees", True): "yes",
    ("agrees", False): "NO",
    ("differs", True): "no, rightly",
    ("differs", False): "yes, WRONGLY",
}


def print_rows(title: str, rows: Sequence[Row], console: Console | None = None) -> None:
    """Print one line for each row; the columns about simulations only if there are any, sources below.

    Parameters
    ----------
    title : str
        Above the table.
    rows : sequence of Row
        What to print.
    console : rich.console.Console, optional
        Where to; default: standard output.
    """
    console = console or Console()
    simulated = [row.simulated for row in rows if row.simulated is not None]
    judged = any(row.claim != "none" for row in rows)
    console.print(escape(title), style="bold")
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("")
    table.add_column("theory", justify="right")
    if simulated:
        table.add_column(f"simulated ({100 * simulated[0].confidence:g} %)", justify="right")
    table.add_column("unit")
    if judged:
        table.add_column("agree?", no_wrap=True)
    sources: dict[str, int] = {}
    for row in rows:
        mark = f" [dim]{sources.setdefault(row.source, len(sources) + 1)}[/dim]" if row.source else ""
        cells = [escape(row.quantity) + mark, "" if row.theory is None else number(row.theory)]
        if simulated:
            cells.append("" if row.simulated is None else interval(row.simulated))
        cells.append(escape(row.unit))
        if judged:
            cells.append(_VERDICTS.get((row.claim, row.holds), ""))
        table.add_row(*cells)
    console.print(table)
    for source, index in sources.items():
        console.print(f"  {index} {escape(source)}", highlight=False, style="dim")


def number(value: float) -> str:
    """Four significant digits, without an exponent where it can be read without; counts as they are."""
    if isinstance(value, int):
        return f"{value:,}"
    return _fixed(value, _decimals(value, 4)) if value == 0 or _plain(value) else f"{value:.3e}"


def interval(found: Interval) -> str:
    """Estimate and half width, both to two digits of the half width."""
    half = found.half_width
    if not math.isfinite(half) or half == 0 or not _plain(half) or not _plain(found.estimate):
        return f"{number(found.estimate)} ± {number(half)}"
    decimals = _decimals(half, 2)
    return f"{_fixed(found.estimate, decimals)} ± {_fixed(half, decimals)}"


def _plain(value: float) -> bool:
    return 1e-5 <= abs(value) < 1e7


def _decimals(value: float, digits: int) -> int:
    """Digits after the point that show so many significant ones."""
    return max(0, digits - 1 - math.floor(math.log10(abs(value)))) if value else 0


def _fixed(value: float, decimals: int) -> str:
    text = f"{value:,.{decimals}f}"
    return text.lstrip("-") if float(text.replace(",", "")) == 0 else text
