"""Tables of a page: cells of a figure and what stands below it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from analysis.charts.chart import Table
from analysis.estimates import Estimate
from analysis.wording import Unit, bare

_NUMBER = re.compile(r"^[\[$+\N{MINUS SIGN}-]?\d")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One cell."""

    text: str
    below: tuple[str, ...] = ()
    """Small lines below it: an interval, a difference."""
    stands_out: bool = False

    @property
    def is_number(self) -> bool:
        """Whether it is set to the right, so that digits stand below each other."""
        return not self.text or _NUMBER.match(self.text) is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class PageTable:
    """A table; the first cell of a row is its heading."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    title: str = ""
    note: str = ""

    @property
    def numeric(self) -> tuple[bool, ...]:
        """Which columns hold numbers."""
        return tuple(all(cell.is_number for cell in column) for column in zip(*self.rows, strict=True))


def figure_cell(estimate: Estimate | None, unit: Unit) -> Cell:
    """A figure above its interval; a dash where there is none."""
    if estimate is None:
        return Cell(text="")
    figure, interval = bare(estimate, unit)
    return Cell(text=unit.before + figure, below=(interval,) if interval else ())


def heading(words: str, unit: Unit) -> str:
    """Heading of a column or row with the unit of its figures."""
    return f"{words} ({unit.name})" if unit.name.strip("/s") or unit.name == "s" else words


def chart_table(table: Table) -> PageTable:
    """The numbers behind a chart."""
    return PageTable(columns=table.columns, rows=tuple(tuple(Cell(text=text) for text in row) for row in table.rows))
