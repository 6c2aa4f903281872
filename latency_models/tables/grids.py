"""Tables of measured times, read between their points by linear interpolation, one axis after the other.

A table over several axes need not be complete: it is kept as nested curves, and each curve has its own points.  The
last axis is the one along which a run of decode steps moves, so a look-up also answers how fast the time grows there
and how far it is to the next point, where the slope changes.

Outside the points
------------------
- Below the first point of an axis a time is held level: little work is bound by the launch of the kernel.  This goes
  for each nested curve, so a curve that starts late belongs in a table of its own if its neighbours start earlier.
- Above the last point ``beyond`` decides: ``refuse`` raises, ``hold`` keeps the last time, and ``prolong`` lets the
  time grow in proportion to the coordinate, which is the limit of much work.
"""

from __future__ import annotations

import csv
import gzip
import math
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import IO, Literal

from latency_models.errors import InputError, invalid, unknown_name

Beyond = Literal["refuse", "hold", "prolong"]
"""What happens above the last point of an axis."""

Law = tuple[float, float, float]
"""Value at a point; its growth per unit of the last axis; distance along it for which this growth holds."""

Row = tuple[float, ...]
"""Coordinates of a measured point, then its value."""


class Curve:
    """Values over one axis, linear between the points.

    Parameters
    ----------
    axis : str
        What the points count, for messages.
    points : sequence of float, shape (n,), n >= 1
        Ascending, finite and not negative.
    values : sequence of float, shape (n,)
        Finite and positive.
    beyond : {"refuse", "hold", "prolong"}
        What happens above the last point.

    Raises
    ------
    InputError
        On bad points or values.
    """

    __slots__ = ("_last", "_points", "_slopes", "_values", "axis", "beyond")

    def __init__(self, axis: str, points: Sequence[float], values: Sequence[float], *, beyond: Beyond) -> None:
        _check_axis(axis, points, beyond)
        if len(values) != len(points):
            raise invalid(f"values over {axis}", f"{len(values)} values", f"one for each of {len(points)} points")
        for value in values:
            if not 0.0 < value < math.inf:
                raise invalid(f"value over {axis}", value, "a finite number > 0")
        self.axis = axis
        self.beyond = beyond
        self._points = [float(point) for point in points]
        self._values = [float(value) for value in values]
        self._slopes = [(v - u) / (q - p) for (p, u), (q, v) in pairwise(zip(points, values, strict=True))]
        self._last = len(self._points) - 1

    def law(self, at: float) -> Law:
        """Value, slope and distance to the next point; exactly on a point, of the part to its right."""
        points = self._points
        cell = bisect_right(points, at) - 1
        if cell < 0:
            return self._values[0], 0.0, points[0] - at
        if cell < self._last:
            slope = self._slopes[cell]
            return self._values[cell] + slope * (at - points[cell]), slope, points[cell + 1] - at
        value, end = self._values[-1], points[-1]
        if at == end and self.beyond == "refuse":
            return value, 0.0, 0.0
        if at > end and self.beyond == "refuse":
            raise _beyond(self.axis, at, end)
        if self.beyond == "hold" or end == 0.0:
            return value, 0.0, math.inf
        return value * at / end, value / end, math.inf


class Grid:
    """Values over two or more axes, linear along each: between the two nearest sub-tables of the first axis.

    Parameters
    ----------
    axis : str
        What the first axis counts, for messages.
    points : sequence of float, shape (n,), n >= 1
        Points of the first axis, ascending.
    tables : sequence of Curve or Grid, shape (n,)
        What was measured at each of them, over the other axes.
    beyond : {"refuse", "hold", "prolong"}
        What happens above the last point of the first axis.

    Raises
    ------
    InputError
        On bad points.
    """

    __slots__ = ("_points", "_tables", "axis", "beyond")

    def __init__(self, axis: str, points: Sequence[float], tables: Sequence[Table], *, beyond: Beyond) -> None:
        _check_axis(axis, points, beyond)
        if len(tables) != len(points):
            raise invalid(f"tables over {axis}", f"{len(tables)} tables", f"one for each of {len(points)} points")
        self.axis = axis
        self.beyond = beyond
        self._points = [float(point) for point in points]
        self._tables = list(tables)

    def law(self, at: float, *rest: float) -> Law:
        """Value at a point, and slope and distance to the next breakpoint along the last axis."""
        points = self._points
        right = bisect_right(points, at)
        if right == 0:
            return self._tables[0].law(*rest)
        low_point = points[right - 1]
        low = self._tables[right - 1].law(*rest)
        if at == low_point:
            return low
        if right < len(points):
            high = self._tables[right].law(*rest)
            share = (at - low_point) / (points[right] - low_point)
            return (
                low[0] + share * (high[0] - low[0]),
                low[1] + share * (high[1] - low[1]),
                low[2] if low[2] < high[2] else high[2],
            )
        if self.beyond == "refuse":
            raise _beyond(self.axis, at, low_point)
        if self.beyond == "hold" or low_point == 0.0:
            return low
        factor = at / low_point
        return low[0] * factor, low[1] * factor, low[2]


Table = Curve | Grid
"""Values over one or more axes; the methods take one coordinate per axis."""


def build_curve(axis: str, rows: Iterable[Row], *, beyond: Beyond) -> Curve:
    """Curve through measured points ``(coordinate, value)``; see :func:`build_grid`."""
    return _curve(axis, _by_first(axis, rows), beyond)


def build_grid(axes: Sequence[str], rows: Iterable[Row], *, beyond: Beyond) -> Grid:
    """Nest measured points into curves.

    Parameters
    ----------
    axes : sequence of str, shape (n,), n >= 2
        Names of the coordinates; the last one is the axis that laws look along.
    rows : iterable of tuple of float, each of shape (n + 1,)
        Coordinates and value of each point, in any order.  Points measured several times count with their median.
    beyond : {"refuse", "hold", "prolong"}
        What happens above the last point of each axis.

    Raises
    ------
    InputError
        If there is no row, or a coordinate or value is bad.
    """
    nested = _by_first(axes[0], rows)
    tables: list[Table] = []
    for point in sorted(nested):
        if len(axes) == 2:
            tables.append(_curve(axes[1], _by_first(axes[1], nested[point]), beyond))
        else:
            tables.append(build_grid(axes[1:], nested[point], beyond=beyond))
    return Grid(axes[0], sorted(nested), tables, beyond=beyond)


def _by_first(axis: str, rows: Iterable[Row]) -> dict[float, list[Row]]:
    """What is left of the rows at each point of their first coordinate."""
    nested: dict[float, list[Row]] = {}
    for first, *others in rows:
        nested.setdefault(first, []).append(tuple(others))
    if not nested:
        raise invalid(f"points of {axis}", [], "at least one measured point")
    return nested


def _curve(axis: str, values: dict[float, list[Row]], beyond: Beyond) -> Curve:
    points = sorted(values)
    return Curve(axis, points, [median(row[0] for row in values[point]) for point in points], beyond=beyond)


def read_rows(
    path: Path, columns: Sequence[str], *, label: Callable[[dict[str, str]], str | None] | None = None
) -> dict[str, list[Row]]:
    """Read numbers of a CSV file (also one compressed with gzip), grouped by what each row describes.

    Parameters
    ----------
    path : Path
        The file.
    columns : sequence of str
        Columns to read, coordinates first and the measured value last; others are ignored.
    label : callable, optional
        From the cells of a row to the group that it belongs to, or ``None`` to leave it out.  Without it all rows
        are in the group ``""``.

    Returns
    -------
    dict of str to list of tuple of float, each of shape (len(columns),)
        Rows in the order of the file.

    Raises
    ------
    InputError
        If the file cannot be read, lacks a column, or holds a coordinate that is negative or not finite or a value
        that is not positive and finite.
    """
    groups: dict[str, list[Row]] = {}
    try:
        with _open_text(path) as file:
            reader = csv.DictReader(file)
            header = list(reader.fieldnames or ())
            twice = [name for name in columns if header.count(name) > 1]
            if twice:
                raise invalid(f"header of {path}", header, f"each column once ({twice[0]} is there twice)")
            missing = [name for name in columns if name not in header]
            if missing:
                raise invalid(f"header of {path}", header, f"{', '.join(columns)} (no {', '.join(missing)})")
            for cells in reader:
                group = "" if label is None else label(cells)
                if group is None:
                    continue
                row = tuple(_number(path, reader.line_num, name, cells[name]) for name in columns)
                if row[-1] == 0.0:
                    raise invalid(f"{path} line {reader.line_num}, {columns[-1]}", 0, "a finite number > 0")
                groups.setdefault(group, []).append(row)
    except (OSError, UnicodeDecodeError, csv.Error, EOFError) as error:
        raise InputError(f"cannot read {path}: {error}") from error
    return groups


def _open_text(path: Path) -> IO[str]:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", newline="", encoding="utf-8")
    return path.open(newline="", encoding="utf-8")


def _number(path: Path, line: int, name: str, text: str | None) -> float:
    try:
        value = float(text or "")
    except ValueError:
        value = math.nan
    if not 0.0 <= value < math.inf:
        raise invalid(f"{path} line {line}, {name}", text, "a finite number >= 0")
    return value


def _check_axis(axis: str, points: Sequence[float], beyond: str) -> None:
    if beyond not in ("refuse", "hold", "prolong"):
        raise unknown_name("rule beyond the last point", beyond, ("refuse", "hold", "prolong"))
    if not points:
        raise invalid(f"points of {axis}", [], "at least one")
    for point in points:
        if not 0.0 <= point < math.inf:
            raise invalid(f"point of {axis}", point, "a finite number >= 0")
    if any(low >= high for low, high in pairwise(points)):
        raise invalid(f"points of {axis}", list(points), "ascending, each once")


def _beyond(axis: str, at: float, end: float) -> InputError:
    return invalid(axis, at, f"at most {end:g}, the last measured point", "Allow extrapolation, or measure further.")
