"""Plain text tables of figures."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from benchmarks.figures import Figure, change, verdict

HEADINGS = ("case", "quantity", "value", "at most", "aim", "", "detail")


def number(value: float | None) -> str:
    """Three or four significant digits, thousands grouped; nothing for no value."""
    if value is None:
        return ""
    if not math.isfinite(value):
        return str(value)
    size = abs(value)
    if size >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if size >= 10 else f"{value:.2f}"


def aligned(rows: Sequence[Sequence[str]], right: Iterable[int] = ()) -> list[str]:
    """Lines of a table; the columns numbered in ``right`` are flush right, and no line ends in blanks.

    Raises
    ------
    ValueError
        If the rows differ in length.
    """
    if not rows:
        return []
    flush_right = set(right)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if index in flush_right else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def figure_table(figures: Sequence[Figure], earlier: Mapping[tuple[str, str, str], float] | None = None) -> list[str]:
    """Lines of the table of figures; with ``earlier`` values, a column says how many times as much it is now."""
    headings = list(HEADINGS)
    if earlier is not None:
        headings.insert(3, "x earlier")
    rows = [headings]
    for figure in figures:
        target = figure.target
        bound = number(target.at_most) if target.at_least is None else f">= {number(target.at_least)}"
        row = [figure.case, figure.quantity, number(figure.value), bound, number(target.aim), verdict(figure)]
        row.append(figure.detail)
        if earlier is not None:
            before = earlier.get(figure.key, math.nan)
            ratio = change(figure.value, before)
            row.insert(3, "" if math.isnan(ratio) else f"{ratio:.2f}")
        rows.append(row)
    numeric = range(2, 5 if earlier is None else 6)
    return aligned(rows, numeric)
