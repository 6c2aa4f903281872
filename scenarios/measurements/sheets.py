"""Tables of text that measurements come in: rows by value, columns as numbers, errors that name the line."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latency_models.errors import InputError, invalid, unknown_name
from scenarios.measurements.schema import Cell
from scenarios.traces.sources import csv_tables
from sim.results import Floats, Ints

Rows = NDArray[np.bool_]
Where = Mapping[str, Cell | tuple[Cell, ...]]

_SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
_UNIT_SUFFIX = re.compile(r"_(s|ms|us|ns)$")
_ROWS_AT_ONCE = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """Rows of a file as text, with the number of each row's line."""

    path: Path
    lines: Sequence[int]
    cells: Mapping[str, Sequence[Any]]
    unit: str

    @classmethod
    def read(cls, path: str, where: Where, unit: str) -> Sheet:
        """Rows of a CSV file that have the wanted values; it must have some."""
        file = Path(path)
        lines: list[int] = []
        cells: dict[str, list[str]] = {}
        for table in csv_tables(file, _ROWS_AT_ONCE):
            lines += table.lines
            for name, column in table.columns.items():
                cells.setdefault(name, []).extend(column)
        if not lines:
            raise InputError(f"{file} has no rows; allowed: CSV with a header line and at least one row")
        sheet = cls(path=file, lines=lines, cells=cells, unit=unit)
        if not where:
            return sheet
        chosen = np.flatnonzero(matching(cells, where, len(lines), str(file))).tolist()
        if not chosen:
            raise invalid(f"{file}: where", dict(where), "values that some row has")
        return sheet.at(chosen)

    def at(self, rows: Sequence[int]) -> Sheet:
        """Some of the rows."""
        return Sheet(
            path=self.path,
            lines=[self.lines[row] for row in rows],
            cells={name: [column[row] for row in rows] for name, column in self.cells.items()},
            unit=self.unit,
        )

    def column(self, name: str) -> Sequence[Any]:
        """Cells of a column; an unknown name suggests the nearest."""
        if name not in self.cells:
            raise unknown_name(f"column of {self.path}", name, self.cells)
        return self.cells[name]

    def seconds(self, name: str, minimum: float = -np.inf) -> Floats:
        """Times; an empty cell is NaN."""
        suffix = _UNIT_SUFFIX.search(name)
        return (
            self._numbers(name, minimum, "a finite number", empty=True) * _SECONDS[suffix[1] if suffix else self.unit]
        )

    def counts(self, name: str, minimum: int = 1) -> Ints:
        """Numbers of at least ``minimum``, rounded; some tables hold means."""
        least = minimum - 0.5 if minimum else 0.0
        numbers = self._numbers(name, least, f"a number of at least {minimum}", empty=False)
        return np.rint(numbers).astype(np.int64)

    def _numbers(self, name: str, minimum: float, allowed: str, *, empty: bool) -> Floats:
        column = self.column(name)
        values = np.empty(len(column))
        for row, text in enumerate(column):
            try:
                value = np.nan if empty and text in ("", None) else float(text)
                good = np.isnan(value) if empty and text in ("", None) else np.isfinite(value) and value >= minimum
            except (TypeError, ValueError):
                value, good = np.nan, False
            if not good:
                least = " >= 0" if empty and minimum == 0.0 else ""
                raise invalid(f"{self.path} line {self.lines[row]}, {name}", text, allowed + least)
            values[row] = value
        return values


def matching(cells: Mapping[str, Sequence[Any]], where: Where, rows: int, place: str) -> Rows:
    """Rows whose columns have the wanted values."""
    chosen = np.ones(rows, dtype=np.bool_)
    for name, wanted in where.items():
        if name not in cells:
            raise unknown_name(f"column in the where of {place}", name, cells)
        options = wanted if isinstance(wanted, tuple) else (wanted,)
        chosen &= np.fromiter(
            (any(_equals(cell, option) for option in options) for cell in cells[name]), np.bool_, rows
        )
    return chosen


def _equals(cell: Any, wanted: Cell) -> bool:
    if wanted is None:
        return cell in ("", None)
    if isinstance(wanted, str):
        return bool(str(cell) == wanted)
    try:
        return float(cell) == wanted
    except (TypeError, ValueError):
        return False
