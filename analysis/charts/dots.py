"""Estimates with their intervals, as dots in rows: what most charts of figures are made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from analysis.charts.chart import Panel
from analysis.charts.style import INK, MUTED, SMALL, SURFACE, colours, legend_below, markers, shortened, told_apart
from analysis.estimates import Estimate
from analysis.stored.run import StoredRun
from analysis.wording import Unit, brief

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_ROW_IN, _NEXT_SERIES_IN, _FRAME_IN, _LEGEND_IN = 0.3, 0.15, 0.75, 0.2
_MOST_WRITTEN = 24
"""Dots whose values are written beside them; more would only be noise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One kind of dot."""

    label: str
    colour: str
    marker: str = "o"
    hollow: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of a dot panel: a dot for each series, or none where nothing is known."""

    label: str
    dots: tuple[Estimate | None, ...]
    limit: float | None = None
    """Drawn as a bar across the row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """The horizontal axis."""

    label: str
    """With its unit."""
    unit: Unit
    """Of the axis, and of the values that are written beside dots."""
    low: float | None = 0.0
    """Where the axis begins at the latest, in the unit of the data; ``None``: close to the data."""
    high: float | None = None
    """Where it ends at the earliest."""
    bounds: tuple[float, float] = (float("-inf"), float("inf"))
    """What is possible at all: the ends of intervals beyond are not drawn."""

    @property
    def factor(self) -> float:
        """From the unit of the data to the one of the axis."""
        return self.unit.factor


def run_series(runs: Sequence[StoredRun]) -> tuple[Series, ...]:
    """A series for each run."""
    names = [run.name for run in runs]
    palette, marks = colours(names), markers(names)
    return tuple(Series(label=name, colour=palette[name], marker=marks[name]) for name in names)


def dot_panel(title: str, rows: Sequence[Row], series: Sequence[Series], scale: Scale, *, group: str = "") -> Panel:
    """A panel with the rows from top to bottom, as high as they need.

    Parameters
    ----------
    title : str
        Of the panel.
    rows : sequence of Row
        Those without any dot are left out.
    series : sequence of Series
        In the order of the dots in each row; explained below the axes if there are several.
    scale : Scale
        The horizontal axis; where there are few dots, their values are beside them.
    group : str
        Of the panel.
    """
    rows = [row for row in rows if any(dot is not None for dot in row.dots)]
    per_row = _ROW_IN + _NEXT_SERIES_IN * (len(series) - 1)
    legend_in = _LEGEND_IN * len(series) if len(series) > 1 else 0.0
    return Panel(
        title=title,
        draw=partial(_draw, rows=rows, series=tuple(series), scale=scale),
        size_in=(4.8, _FRAME_IN + legend_in + max(2, len(rows)) * per_row),
        group=group,
    )


def _draw(axes: Axes, *, rows: Sequence[Row], series: Sequence[Series], scale: Scale) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.ticker import MaxNLocator

    count = len(series)
    offsets = [0.62 * ((place + 0.5) / count - 0.5) for place in range(count)]
    written = len(rows) * count <= _MOST_WRITTEN
    ends = _ends(rows, scale)
    axes.set_xlim(*_limits(ends, scale, room=0.2 if written else 0.04))
    axes.set_ylim(len(rows) - 0.45, -0.55)
    for height, row in enumerate(rows):
        if row.limit is not None:
            limit = row.limit * scale.factor
            axes.plot([limit, limit], [height - 0.42, height + 0.42], color=INK, linewidth=2.2, solid_capstyle="butt")
        for offset, one, dot in zip(offsets, series, row.dots, strict=True):
            if dot is not None:
                _draw_dot(axes, height + offset, one, dot, scale)
                if written:
                    _write(axes, height + offset, row, dot, scale)
    names = told_apart(row.label for row in rows)
    axes.set_yticks(range(len(rows)), [names[row.label] for row in rows])
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    axes.spines["left"].set_visible(False)
    axes.set_xlabel(scale.label)
    low, high = axes.get_xlim()
    highest = scale.bounds[1] * scale.factor * (1.0 + 1e-9)
    axes.set_xticks(
        [
            tick
            for tick in MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
            if low <= tick <= min(high, highest)
        ]
    )
    handles = [
        Line2D([], [], linestyle="", markersize=6, label=shortened(one.label, 40), **_look(one)) for one in series
    ]
    if any(row.limit is not None for row in rows):
        handles.append(
            Line2D([], [], linestyle="", marker="|", markersize=9, markeredgewidth=2.2, color=INK, label="limit")
        )
    legend_below(axes, handles)


def _draw_dot(axes: Axes, height: float, series: Series, dot: Estimate, scale: Scale) -> None:
    if dot.low is not None and dot.high is not None:
        low, high = (min(max(end, scale.bounds[0]), scale.bounds[1]) * scale.factor for end in (dot.low, dot.high))
        axes.plot([low, high], [height, height], color=series.colour, linewidth=1.8, solid_capstyle="butt")
    axes.plot(dot.value * scale.factor, height, markersize=6, linestyle="", zorder=3, **_look(series))


def _write(axes: Axes, height: float, row: Row, dot: Estimate, scale: Scale) -> None:
    """Write a value right of its dot and interval, and of the limit where it would be under the text."""
    low, high = axes.get_xlim()
    right = scale.factor * min(dot.value if dot.high is None else max(dot.value, dot.high), scale.bounds[1])
    if row.limit is not None and right <= row.limit * scale.factor <= right + 0.2 * (high - low):
        right = row.limit * scale.factor
    axes.annotate(
        brief(dot, scale.unit), (right, height), xytext=(7, 0), textcoords="offset points", va="center",
        fontsize=SMALL, color=MUTED,
    )  # fmt: skip


def _look(series: Series) -> dict[str, Any]:
    return {
        "marker": series.marker,
        "color": series.colour,
        "markerfacecolor": SURFACE if series.hollow else series.colour,
        "markeredgecolor": series.colour,
        "markeredgewidth": 1.4 if series.hollow else 0.0,
    }


def _ends(rows: Sequence[Row], scale: Scale) -> list[float]:
    found = [row.limit for row in rows if row.limit is not None]
    for row in rows:
        for dot in row.dots:
            if dot is not None:
                found += [end for end in (dot.value, dot.low, dot.high) if end is not None]
    return [min(max(end, scale.bounds[0]), scale.bounds[1]) for end in found]


def _limits(ends: Sequence[float], scale: Scale, room: float) -> tuple[float, float]:
    low, high = min(ends), max(ends)
    if scale.low is not None:
        low = min(low, scale.low)
    if scale.high is not None:
        high = max(high, scale.high)
    width = high - low or abs(high) or 1.0
    left = low if low == scale.low else max(low - 0.06 * width, scale.bounds[0] - 0.02 * width)
    return scale.factor * left, scale.factor * (high + room * width)
