"""The certified optimum over the target of an SLO, and over the load."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from latency_models.errors import InputError, invalid
from optimizer.problem import LoadCase, Problem
from optimizer.search import Optimum, optimise

Sweep = Literal["target", "load"]

AXES: dict[Sweep, str] = {"target": "target, ms", "load": "load, requests/s"}
"""What a sweep varies, in the units of :attr:`FrontierPoint.shown`."""

_TARGET_FACTORS = (0.3, 0.4, 0.5, 0.65, 0.8, 1.0, 1.25, 1.6, 2.0, 3.0)
_LOAD_FACTORS = (0.4, 0.6, 0.8, 0.9, 1.0, 1.1, 1.2, 1.4, 1.6, 2.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontierPoint:
    """One point: what was varied, the problem that it makes, and its optimum."""

    sweep: Sweep
    value: float
    """Target in seconds, or load in requests/s."""
    problem: Problem
    optimum: Optimum

    @property
    def shown(self) -> float:
        """Target in milliseconds, or load in requests/s."""
        return 1e3 * self.value if self.sweep == "target" else self.value


def load_mean(loads: Sequence[LoadCase], values: Sequence[float]) -> float:
    """Mean over the loads of a problem, by their weights."""
    return sum(load.weight * value for load, value in zip(loads, values, strict=True))


def default_targets_s(problem: Problem, slo: int) -> tuple[float, ...]:
    """Targets from a third to three times that of an SLO, given by its number in the problem."""
    _check_slo(problem, slo)
    return tuple(factor * problem.slos[slo].target_s for factor in _TARGET_FACTORS)


def default_rates_per_s(problem: Problem) -> tuple[float, ...]:
    """Loads from 0.4 to 2 times that of the problem; none if it has several, or none to speak of."""
    if len(problem.loads) > 1 or problem.loads[0].rate_per_s == 0.0:
        return ()
    return tuple(factor * problem.loads[0].rate_per_s for factor in _LOAD_FACTORS)


def frontier(
    problem: Problem,
    *,
    targets_s: Sequence[float],
    rates_per_s: Sequence[float],
    slo: int = 0,
    gap: float = 1e-6,
    progress: Callable[[int, int], None] | None = None,
) -> list[FrontierPoint]:
    """Optimise at each target, with the problem's load, and at each load, with the problem's targets.

    Parameters
    ----------
    problem : Problem
    targets_s : sequence of float
        Targets of the SLO number ``slo``, in seconds.
    rates_per_s : sequence of float
        Loads; a problem with several loads takes none.
    slo : int
        Which SLO is varied, from 0.
    gap : float
        Gap of each optimum.
    progress : callable, optional
        Called with the points that are done, and their number.

    Raises
    ------
    InputError
        There is no such SLO, or there are loads for a problem that has several.
    """
    _check_slo(problem, slo)
    if rates_per_s and len(problem.loads) > 1:
        raise InputError(f"the problem has {len(problem.loads)} loads; a sweep over load needs one. Sweep targets only")
    wanted: list[tuple[Sweep, float, Problem]] = [
        ("target", target, _with_target(problem, slo, target)) for target in sorted(set(targets_s))
    ]
    wanted += [
        ("load", rate, replace(problem, loads=(LoadCase(rate_per_s=rate),))) for rate in sorted(set(rates_per_s))
    ]
    points = []
    for done, (sweep, value, varied) in enumerate(wanted):
        if progress is not None:
            progress(done, len(wanted))
        points.append(FrontierPoint(sweep=sweep, value=value, problem=varied, optimum=optimise(varied, gap=gap)))
    return points


def _check_slo(problem: Problem, slo: int) -> None:
    if not 0 <= slo < len(problem.slos):
        raise invalid("number of the SLO", slo + 1, f"1 to {len(problem.slos)}, in the order of the problem")


def _with_target(problem: Problem, slo: int, target_s: float) -> Problem:
    slos = list(problem.slos)
    slos[slo] = replace(slos[slo], target_s=target_s)
    return replace(problem, slos=tuple(slos))
