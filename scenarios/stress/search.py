"""How far a plan holds along one axis: the largest value that holds, and the smallest that is broken.

Both ends of the bracket are verdicts, so it is as sure as they are, one by one: 95 % unless asked otherwise.  In
between lies what so many replications cannot decide, and the resolution of the search.  All values share their random
numbers: the same requests, only earlier, longer or on slower GPUs.  So the outcome hardly ever holds, breaks and holds
again along an axis, though nothing guarantees that: a bracket is the first change from its lower end on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from analysis.verdicts import Outcome
from latency_models.errors import check_count, check_finite, invalid
from scenarios.stress.axis import Axis
from scenarios.stress.point import Point

_FIRST_STEP = 1 / 16
"""Of the way to the furthest value; each further step doubles what has been gone."""
_STEP_DOWN = 0.8


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchOptions:
    """How finely to search."""

    resolution: float = 0.05
    """Width of a bracket, relative to its upper end, beyond which it is divided."""
    most_points: int = 12
    """Values to try on one axis, besides the plan as it is."""

    def __post_init__(self) -> None:
        if check_finite("resolution", self.resolution, exclusive=True) >= 1:
            raise invalid("resolution", self.resolution, "a share of the value, above 0 and below 1")
        check_count("most_points", self.most_points)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Bracket:
    """Where a plan stops to hold."""

    points: tuple[Point, ...]
    """All values that were tried, in order."""
    holds: Point | None
    """The largest value up to which it holds; ``None``: not even the smallest that was tried."""
    breaks: Point | None
    """The smallest value above at which it is broken; ``None``: not even the largest that was tried."""

    @property
    def estimate(self) -> float | None:
        """Where the strain is 1 by interpolation, or the middle of the bracket; ``None`` if an end is missing."""
        if self.holds is None or self.breaks is None:
            return None
        inside = [point for point in self.points if self.holds.value <= point.value <= self.breaks.value]
        for low, high in pairwise(inside):
            if 0.0 < low.strain <= 1.0 < high.strain and math.isfinite(high.strain):
                # Near saturation strains differ by orders of magnitude, so their logarithms are interpolated.
                share = math.log(low.strain) / (math.log(low.strain) - math.log(high.strain))
                return low.value + share * (high.value - low.value)
        return (self.holds.value + self.breaks.value) / 2.0


def find_bracket(
    axis: Axis,
    baseline: Point,
    judge: Callable[[float], Point],
    *,
    furthest: float,
    options: SearchOptions,
) -> Bracket:
    """Search an axis from its neutral value on.

    Parameters
    ----------
    axis : Axis
        Where to search.
    baseline : Point
        The plan at the neutral value.
    judge : callable
        Validates the plan at a value.
    furthest : float
        Largest value to try.
    options : SearchOptions
        How finely.
    """
    points = [baseline]

    def add(value: float) -> Point:
        point = judge(value)
        points.append(point)
        points.sort(key=lambda entry: entry.value)
        return point

    step, last = _FIRST_STEP * (furthest - axis.neutral), baseline
    while last.outcome is not Outcome.BROKEN and last.value < furthest and len(points) <= options.most_points:
        last = add(min(furthest, axis.neutral + step))
        step *= 2.0
    last, factor = baseline, _STEP_DOWN
    while axis.least is not None and last.outcome is not Outcome.HOLDS and len(points) <= options.most_points:
        if last.value <= axis.least:
            break
        last = add(max(axis.least, axis.neutral * factor))
        factor *= factor
    while len(points) <= options.most_points:
        middle = _next_value(axis, points, furthest, options.resolution)
        if middle is None:
            break
        add(middle)
    holds, breaks = _ends(points)
    return Bracket(points=tuple(points), holds=holds, breaks=breaks)


def _ends(points: Sequence[Point]) -> tuple[Point | None, Point | None]:
    holds = None
    for point in points:
        if point.outcome is not Outcome.HOLDS:
            break
        holds = point
    broken = (point for point in points if point.outcome is Outcome.BROKEN)
    return holds, next(broken, None)


def _next_value(axis: Axis, points: Sequence[Point], furthest: float, resolution: float) -> float | None:
    """The middle of the wider of the two gaps that a verdict may move into; ``None`` if both are narrow."""
    holds, breaks = _ends(points)
    gaps = []
    if holds is not None:
        above = next((point for point in points if point.value > holds.value), None)
        gaps += [] if above is None else [(holds.value, above.value)]
    if breaks is not None:
        below = [point for point in points if point.value < breaks.value]
        gaps += [(below[-1].value, breaks.value)] if below else []
    wide = [(low, high) for low, high in gaps if high - low > resolution * max(high, _FIRST_STEP * furthest)]
    if not wide:
        return None
    low, high = max(wide, key=lambda gap: gap[1] - gap[0])
    return math.sqrt(low * high) if axis.unit == "x" else (low + high) / 2.0
