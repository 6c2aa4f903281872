"""How far a plan holds: along each axis, and over the plane of two."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from latency_models.errors import InputError, check_count, check_finite, invalid
from optimizer.problem import SloTarget
from scenarios.replicated import Replicator
from scenarios.schema import Scenario
from scenarios.stress.axes import AXES, find_axis, targets_of
from scenarios.stress.axis import Axis
from scenarios.stress.point import Point
from scenarios.stress.search import Bracket, SearchOptions, find_bracket
from scenarios.validation.validate import ValidationOptions, validate

Report = Callable[[str], None]
"""Told what is being tried."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StressOptions:
    """What to try, and how much evidence is wanted."""

    evidence: ValidationOptions = field(default_factory=lambda: ValidationOptions(most=10))
    search: SearchOptions = field(default_factory=SearchOptions)
    up_to: Mapping[str, float] = field(default_factory=dict)
    """By name of an axis: the largest value to try, in place of the axis's own."""
    map_points: int = 7
    """Values of each axis of a map."""

    def __post_init__(self) -> None:
        check_count("map_points", self.map_points, minimum=2)
        for name, value in self.up_to.items():
            axis, _ = find_axis(name)
            check_finite(f"largest value of {name}", value)
            if not axis.neutral < value <= axis.limit:
                allowed = (
                    f"above {axis.neutral:g}{axis.unit}, where nothing changes, and up to {axis.limit:g}{axis.unit}"
                )
                raise invalid(f"largest value of {name}", value, allowed)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StressedAxis:
    """How far a plan holds along one axis."""

    axis: Axis
    target: str
    """What it happened to; empty if it is the whole deployment."""
    worst_of: int
    """Targets of which this one strained the plan most."""
    furthest: float
    """Largest value that was to be tried."""
    bracket: Bracket


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StressMap:
    """A plan over the plane of two axes."""

    x: StressedAxis
    y: StressedAxis
    x_values: tuple[float, ...]
    y_values: tuple[float, ...]
    points: tuple[tuple[Point, ...], ...]
    """By y, then by x; the value of a point is that of x."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Stress:
    """What came out."""

    baseline: Point
    """The plan as it is."""
    axes: tuple[StressedAxis, ...]
    left_out: tuple[tuple[str, str], ...]
    """Axes that have no effect in this scenario, with the reason."""
    map: StressMap | None


def stress(
    deployed: Scenario,
    targets: Sequence[SloTarget],
    replicator: Replicator,
    *,
    axes: Sequence[str] = (),
    map_axes: tuple[str, str] | None = None,
    options: StressOptions | None = None,
    report: Report | None = None,
) -> Stress:
    """Search how far a plan holds.

    Parameters
    ----------
    deployed : Scenario
        With the plan deployed (:func:`scenarios.plans.deployment.deployed`).
    targets : sequence of SloTarget
        The SLOs.
    replicator : Replicator
        Where replications are run.
    axes : sequence of str
        Axes, as the user spells them; default: all that have an effect in the scenario.
    map_axes : tuple of two str, optional
        Axes of a map.
    options : StressOptions, optional
        How much evidence is wanted.
    report : callable, optional
        See :data:`Report`.

    Raises
    ------
    InputError
        An axis is unknown, is named twice, or has no effect in the scenario though it is named.
    """
    options = options or StressOptions()
    named = [find_axis(text) for text in dict.fromkeys((*axes, *(map_axes or ())))]
    names = [axis.name for axis, _ in named]
    for name in names:
        if names.count(name) > 1:
            raise invalid("axes", [*axes, *(map_axes or ())], f"each axis once, {name} too")
    if map_axes is not None and len(set(map_axes)) < 2:
        raise invalid("axes of the map", list(map_axes), "two different axes")
    for name in options.up_to:
        if axes and find_axis(name)[0].name not in names:
            raise invalid("largest value (--up-to) of", name, f"axes that are searched: {', '.join(names)}")
    chosen = named if axes else [*named, *((axis, "") for axis in AXES.values() if axis.name not in names)]
    usable, left_out = _with_effect(deployed, chosen, {axis.name for axis, _ in named}, options)
    run = _Run(deployed, tuple(targets), replicator, options, report)
    baseline = run.judge(deployed, 1.0, 0.0, options.evidence)
    stressed = []
    for axis, target in usable:
        try:
            stressed.append(run.search(axis, target, baseline))
        except InputError as error:
            if axis in (named_axis for named_axis, _ in named):
                raise
            left_out += ((axis.name, str(error)),)
    found_map = None
    if map_axes is not None:
        x, y = (next(entry for entry in stressed if entry.axis.name == find_axis(text)[0].name) for text in map_axes)
        found_map = run.map(x, y)
    order = list(AXES)
    return Stress(
        baseline=baseline,
        axes=tuple(sorted(stressed, key=lambda entry: order.index(entry.axis.name))),
        left_out=left_out,
        map=found_map,
    )


def _with_effect(
    deployed: Scenario, chosen: Sequence[tuple[Axis, str]], named: set[str], options: StressOptions
) -> tuple[list[tuple[Axis, str]], tuple[tuple[str, str], ...]]:
    """Axes that can be applied; a fault of one that the user named is raised before anything is simulated."""
    usable, left_out = [], []
    for axis, target in chosen:
        furthest = options.up_to.get(axis.name, axis.furthest)
        try:
            axis.at(deployed, furthest, targets_of(axis, target, deployed)[0]).cluster()
        except InputError as error:
            if axis.name in named:
                raise
            left_out.append((axis.name, str(error)))
        else:
            usable.append((axis, target))
    return usable, tuple(left_out)


class _Run:
    """Validations of one plan under stress."""

    def __init__(
        self,
        deployed: Scenario,
        targets: tuple[SloTarget, ...],
        replicator: Replicator,
        options: StressOptions,
        report: Report | None,
    ) -> None:
        self._deployed = deployed
        self._targets = targets
        self._replicator = replicator
        self._options = options
        self._report = report

    def judge(self, scenario: Scenario, time_factor: float, value: float, evidence: ValidationOptions) -> Point:
        """Validate a scenario; windows of a trace are shorter by ``time_factor`` and hold the same requests."""
        if evidence.window_s is not None and time_factor != 1.0:
            evidence = replace(evidence, window_s=evidence.window_s / time_factor)
        return Point(value=value, validation=validate(scenario, self._targets, self._replicator, evidence))

    def at(self, axis: Axis, target: str, value: float, evidence: ValidationOptions) -> Point:
        """Validate the plan at a value of an axis."""
        self._tell(f"{axis.name}{':' if target else ''}{target} at {axis.text(value)}")
        scenario = axis.at(self._deployed, value, target)
        try:
            return self.judge(scenario, value if axis.compresses_time else 1.0, value, evidence)
        except InputError as error:
            raise InputError(f"{axis.name} at {axis.text(value)}: {error} Or search less far: --up-to") from None

    def search(self, axis: Axis, target: str, baseline: Point) -> StressedAxis:
        """How far the plan holds along an axis, at the target that strains it most."""
        options = self._options
        furthest = options.up_to.get(axis.name, axis.furthest)
        choices = targets_of(axis, target, self._deployed)
        quick = replace(options.evidence, most=options.evidence.first)
        if len(choices) > 1:
            worst = max(choices, key=lambda choice: _severity(self.at(axis, choice, furthest, quick)))
        else:
            worst = choices[0]
        bracket = find_bracket(
            axis,
            Point(value=axis.neutral, validation=baseline.validation),
            lambda value: self.at(axis, worst, value, options.evidence),
            furthest=furthest,
            options=options.search,
        )
        return StressedAxis(axis=axis, target=worst, worst_of=len(choices), furthest=furthest, bracket=bracket)

    def map(self, x: StressedAxis, y: StressedAxis) -> StressMap:
        """The outcome at every pair of values, from where the plan holds to beyond where each axis breaks it."""
        x_values, y_values = (_map_values(entry, self._options.map_points) for entry in (x, y))
        rows = []
        for y_value in y_values:
            row = []
            for x_value in x_values:
                self._tell(f"map: {x.axis.name} at {x.axis.text(x_value)}, {y.axis.name} at {y.axis.text(y_value)}")
                both = y.axis.at(x.axis.at(self._deployed, x_value, x.target), y_value, y.target)
                factor = x_value if x.axis.compresses_time else y_value if y.axis.compresses_time else 1.0
                row.append(self.judge(both, factor, x_value, self._options.evidence))
            rows.append(tuple(row))
        return StressMap(x=x, y=y, x_values=x_values, y_values=y_values, points=tuple(rows))

    def _tell(self, text: str) -> None:
        if self._report is not None:
            self._report(text)


def _severity(point: Point) -> tuple[float, float]:
    return point.strain, max(slo.missed.estimate for slo in point.validation.slos)


def _map_values(entry: StressedAxis, count: int) -> tuple[float, ...]:
    """Values from the neutral one, or the last that holds below it, to a quarter beyond what breaks the plan."""
    bracket, neutral = entry.bracket, entry.axis.neutral
    low = neutral if bracket.holds is None else min(neutral, bracket.holds.value)
    high = entry.furthest
    if bracket.breaks is not None:
        high = min(high, max(low + 1.25 * (bracket.breaks.value - low), neutral))
    if high <= low:
        high = entry.furthest
    return tuple(float(value) for value in np.linspace(low, high, count))
