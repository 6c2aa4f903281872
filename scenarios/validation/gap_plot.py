"""A gap report as a picture: from the promise to the simulated figure, cause by cause."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from analysis.pictures import picture
from latency_models.errors import InputError
from scenarios.validation.gap import Gap, GapReport
from scenarios.validation.gap_report import LEFT_OVER, scaled, steps_of, title

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_PANEL_IN = (7.2, 3.6)
_WORSE, _BETTER, _LEVEL, _REST = "#c44e52", "#55a868", "#4c72b0", "#8c8c8c"


def plot_gaps(report: GapReport, path: Path) -> None:
    """Draw a waterfall for each gap that could be attributed.

    Bars lead from the promised to the simulated figure; whiskers are the confidence intervals of the effects.

    Raises
    ------
    InputError
        No gap could be attributed.
    """
    known = report.attributed
    if not known:
        raise InputError("there is nothing to plot: in some run no request has the figures that the plan promised")
    with picture(path, len(known), 1, size=_PANEL_IN) as (_, rows):
        for gap, (panel,) in zip(known, rows, strict=True):
            _draw(panel, gap)


def _draw(axes: Axes, gap: Gap) -> None:
    assert gap.simulated is not None
    steps = steps_of(gap)
    labels = ["promised", *(name for name, _ in steps), "simulated"]
    places = range(len(labels))
    level = scaled(gap.promised, gap.unit)
    axes.barh(0, level, color=_LEVEL)
    # A higher score is better, a longer latency or more late requests are worse.
    rising, falling = (_BETTER, _WORSE) if gap.unit == "score" else (_WORSE, _BETTER)
    edges = [level]
    for place, (name, interval) in enumerate(steps, 1):
        change = scaled(interval.estimate, gap.unit)
        color = _REST if name == LEFT_OVER else rising if change > 0 else falling
        axes.barh(place, change, left=level, color=color)
        axes.plot([level, level], [place - 1.4, place + 0.4], color=_REST, linewidth=0.8)
        level += change
        edges += [level + scaled(bound - interval.estimate, gap.unit) for bound in (interval.low, interval.high)]
        axes.plot(edges[-2:], [place, place], color="black", linewidth=1.0)
    last = scaled(gap.simulated.estimate, gap.unit)
    axes.barh(places[-1], last, color=_LEVEL)
    bounds = [scaled(bound, gap.unit) for bound in (gap.simulated.low, gap.simulated.high)]
    axes.plot(bounds, [places[-1]] * 2, color="black", linewidth=1.0)
    edges += [last, *bounds]
    margin = 0.1 * (max(edges) - min(edges) or abs(last) or 1.0)
    # Bars start at zero, far left of what changes.
    axes.set_xlim(min(edges) - 2 * margin, max(edges) + margin)
    axes.set_yticks(list(places), labels)
    axes.invert_yaxis()
    axes.set_xlabel(title(gap))
