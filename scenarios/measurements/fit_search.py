"""Least squares for simulations, whose latencies jump: a request that arrives a little later waits for another step.

A difference between two simulations is no slope then.  So the search first spreads points over the whole bounds, and
then fits straight lines to the residuals of a cloud of points around the best ones, over which the jumps average out,
and steps to where these lines have their minimum (regression instead of the differences of Gauss and Newton).  All
points come from fixed seeds.  Parameters are scaled to be about one; residuals are about relative errors.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from latency_models.errors import InputError
from sim.results import Floats

_EXPLORED_PER_PARAMETER = 8
_DESCENTS = 2
"""Explored points, the best ones, from which a search starts."""
_DECADES = 4.0
"""Exploration of a parameter without a lower bound goes this far below its upper one."""
_RADII = ((0.15, 1.0, 5), (0.05, 0.1, 6), (0.02, 0.1, 6))
"""Size of a cloud by the change of the residuals; residuals from which the loss grows linearly; most steps."""
_FIRST_WIDTH = 0.1
_NARROWEST = 0.04
"""Least width of a cloud in units of its largest one: in a narrow cloud a jump is a slope."""
_TRUSTED = 3.0
"""Straight lines are followed up to this many widths of their cloud."""
_CLEARLY = 0.8
_COMPASS = (2.0, 1.0, 1.0, 0.5, 0.5, 0.25)
_ARRIVED = 0.25
"""A step of fewer widths ends a search."""
_RIDGE = 1e-6
_REWEIGHTINGS = 15


@dataclass(frozen=True, slots=True, kw_only=True)
class Cloud:
    """Residuals around a point as straight lines, and how far they are from being straight.

    Attributes
    ----------
    centre : ndarray, shape (p,)
        Scaled parameters.
    widths : ndarray, shape (p,)
        Half sides of the box that the points fill.
    at_centre : ndarray, shape (n,)
        Values of the lines at the centre.
    slopes : ndarray, shape (n, p)
        Changes of the residuals with each scaled parameter.
    scatter : ndarray, shape (k, n)
        What the lines leave of the residuals of each point.
    trust : ndarray, shape (n,)
        Weight of each residual, less where it jumps by more than residuals are large.
    outlier : float
        Residual from which the loss grows linearly.
    """

    centre: Floats
    widths: Floats
    at_centre: Floats
    slopes: Floats
    scatter: Floats
    trust: Floats
    outlier: float

    def loss(self, residuals: Floats) -> float:
        """Charbonnier's loss of residuals, shape (n,)."""
        root = np.sqrt(1.0 + (residuals / self.outlier) ** 2)
        return float((self.trust * self.outlier**2 * (root - 1.0)).sum())

    def weights(self, residuals: Floats) -> Floats:
        """Weight of each residual in the least squares that have the same slope as the loss here."""
        return self.trust / np.sqrt(1.0 + (residuals / self.outlier) ** 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """What is searched.

    Attributes
    ----------
    residuals : callable
        Residuals, shape (n,), of scaled parameters, shape (p,).
    weights : ndarray, shape (n,)
        Weight of each residual.
    start, lower, upper : ndarray, shape (p,)
        Where to begin, and the bounds.
    """

    residuals: Callable[[Floats], Floats]
    weights: Floats
    start: Floats
    lower: Floats
    upper: Floats

    def best(self) -> Cloud:
        """Search from the start and from points spread over the bounds.

        Returns
        -------
        Cloud
            Around the parameters with the smallest loss.

        Raises
        ------
        InputError
            If the simulator cannot take the start.
        """
        radius, outlier, steps = _RADII[0]
        explored = sorted(self._explored(outlier), key=lambda found: found[0])
        begin = [point for _, point in explored[:_DESCENTS]]
        clouds = [self._descended(point, self._first_widths(point), radius, outlier, steps) for point in begin]
        found = min(clouds, key=self._loss_within)
        if self._loss(self.start, outlier) < self._loss_within(found):
            own = self._descended(self.start, self._first_widths(self.start), radius, outlier, steps)
            # Which start was given shall not matter if the spread points lead as far.
            if self._loss_within(own) < _CLEARLY * self._loss_within(found):
                found = own
        centres = []
        for radius, outlier, steps in _RADII[1:]:
            found = self._descended(found.centre, found.widths, radius, outlier, steps)
            centres.append(found.centre)
        point = min(centres, key=lambda centre: self._loss(centre, found.outlier))
        point = self._polished(point, found.widths, found.outlier)
        return self._cloud(point, found.widths, found.outlier, pairs=4 * (len(self.start) + 1))

    def nearest(self) -> Cloud:
        """Search from the start alone, which is known to be close."""
        radius, outlier, steps = _RADII[-1]
        return self._descended(self.start, self._first_widths(self.start), radius, outlier, steps)

    def _polished(self, point: Floats, widths: Floats, outlier: float) -> Floats:
        """Compass search: the loss itself, which the lines only come close to."""
        best, loss = point, self._loss(point, outlier)
        for scale in _COMPASS:
            for direction in np.concatenate((np.eye(len(point)), -np.eye(len(point)))):
                candidate = np.clip(best + scale * widths * direction, self.lower, self.upper)
                found = self._loss(candidate, outlier)
                if found < loss:
                    best, loss = candidate, found
        return best

    def _loss(self, point: Floats, outlier: float) -> float:
        root = np.sqrt(1.0 + (self.residuals(point) / outlier) ** 2)
        return float((self.weights * outlier**2 * (root - 1.0)).sum())

    def _explored(self, outlier: float) -> list[tuple[float, Floats]]:
        from scipy.stats import qmc

        count = len(self.start)
        shares = qmc.LatinHypercube(count, seed=0).random(_EXPLORED_PER_PARAMETER * count)
        floor = np.maximum(self.lower, self.upper * 10.0**-_DECADES)
        points = [floor * (self.upper / floor) ** share for share in shares]
        self.residuals(self.start)
        found: list[tuple[float, Floats]] = []
        for point in points:
            # Bounds may be wider than what the simulator can take; the start may not.
            with suppress(InputError):
                found.append((self._loss(point, outlier), point))
        return found

    def _first_widths(self, point: Floats) -> Floats:
        return self._limited(_FIRST_WIDTH * np.maximum(point, 0.1))

    def _limited(self, widths: Floats) -> Floats:
        return np.minimum(widths, (self.upper - self.lower) / 2.0)

    def _descended(self, centre: Floats, widths: Floats, radius: float, outlier: float, steps: int) -> Cloud:
        """Step from cloud to cloud until a step is short; the cloud with the least loss of its points."""
        pairs = len(centre) + 1
        clouds: list[Cloud] = []
        for _ in range(steps):
            cloud = self._cloud(centre, widths, outlier, pairs=pairs)
            clouds.append(cloud)
            sensitivity = (cloud.trust[:, None] * np.abs(cloud.slopes)).sum(axis=0) / cloud.trust.sum()
            fitting = np.divide(radius, sensitivity, out=np.full(len(centre), np.inf), where=sensitivity > 0.0)
            cap = np.maximum(0.5 * centre, 0.2)
            resized = self._limited(np.clip(np.minimum(fitting, cap), _NARROWEST * cap, 10.0 * widths))
            step = self.step_from(cloud)
            centre = np.clip(centre + step, self.lower, self.upper)
            arrived = bool((np.abs(step) <= _ARRIVED * widths).all() and (resized >= 0.5 * widths).all())
            if arrived and bool((resized <= 2.0 * widths).all()):
                break
            widths = resized
        clouds.append(self._cloud(centre, widths, outlier, pairs=pairs))
        return min(clouds[-2:], key=self._loss_within)

    def _loss_within(self, cloud: Cloud) -> float:
        """Mean loss of a cloud's points with the weights of the measurement alone."""
        lines = cloud.at_centre[None, :] + cloud.scatter
        root = np.sqrt(1.0 + (lines / cloud.outlier) ** 2)
        return float((self.weights * cloud.outlier**2 * (root - 1.0)).sum() / len(lines))

    def _cloud(self, centre: Floats, widths: Floats, outlier: float, *, pairs: int) -> Cloud:
        from scipy.stats import qmc

        half = 2.0 * qmc.LatinHypercube(len(centre), seed=1).random(pairs) - 1.0
        # A point and its mirror image: what is curved does not tilt the lines.
        points = np.clip(centre + widths * np.concatenate((half, -half)), self.lower, self.upper)
        values = np.stack([self.residuals(point) for point in points])
        design = np.column_stack((np.ones(len(points)), (points - centre) / widths))
        lines, *_ = np.linalg.lstsq(design, values, rcond=None)
        scatter = values - design @ lines
        jumps = np.sqrt((scatter**2).sum(axis=0) / max(len(points) - design.shape[1], 1))
        usual = max(float(np.sqrt(np.average(lines[0] ** 2, weights=self.weights))), 0.01)
        return Cloud(
            centre=centre,
            widths=widths,
            at_centre=lines[0],
            slopes=(lines[1:] / widths[:, None]).T,
            scatter=scatter,
            trust=self.weights / (1.0 + (jumps / usual) ** 2),
            outlier=outlier,
        )

    def step_from(self, cloud: Cloud) -> Floats:
        """Step to where the loss of a cloud's lines is smallest within the bounds and what is trusted."""
        from scipy.optimize import lsq_linear

        slopes = cloud.slopes * cloud.widths
        low = np.maximum((self.lower - cloud.centre) / cloud.widths, -_TRUSTED)
        high = np.minimum((self.upper - cloud.centre) / cloud.widths, _TRUSTED)
        step = np.zeros(len(cloud.centre))
        for _ in range(_REWEIGHTINGS):
            roots = np.sqrt(cloud.weights(cloud.at_centre + slopes @ step))
            matrix = slopes * roots[:, None]
            # Where the data tell nothing, parameters stay.
            ridge = np.sqrt(_RIDGE * max(float((matrix**2).sum()), 1e-12)) * np.eye(len(step))
            target = np.concatenate((-cloud.at_centre * roots, np.zeros(len(step))))
            step = lsq_linear(np.vstack((matrix, ridge)), target, bounds=(low - 1e-12, high + 1e-12)).x
        return np.asarray(step * cloud.widths, dtype=np.float64)
