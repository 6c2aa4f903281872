"""The methods of ``routerwise optimize``, under one signature, and what is said when none of them finds a plan."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from latency_models.errors import InputError, RouterwiseError, unknown_name
from optimizer.problem import Problem
from optimizer.search import Optimum, optimise
from optimizer.setups.setup_search import Progress

Report = Callable[[Progress], None] | None


class Infeasible(RouterwiseError):
    """The question is well put, and the answer is that no plan keeps the SLOs, or that none was found in time."""

    exit_status = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """When a method may stop."""

    gap: float = 1e-6
    """Score that a better plan may have at most."""
    time_limit_s: float = math.inf


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """A way to solve a problem.

    Parameters
    ----------
    solve : callable
        From problem, limits and progress report to the optimum.
    takes : frozenset of str
        Names of the limits that it knows.
    bound_is_proof : bool
        Whether the bound holds for every setup of the problem.
    says : str
        What it does.
    """

    solve: Callable[[Problem, Limits, Report], Optimum]
    takes: frozenset[str]
    bound_is_proof: bool
    says: str

    def check(self, name: str, given: Mapping[str, object | None]) -> None:
        """Refuse limits that this method would ignore.

        Raises
        ------
        InputError
            One that is not ``None`` is not among those that it takes.
        """
        for limit, value in given.items():
            if value is not None and limit not in self.takes:
                raise InputError(f"--{limit.replace('_', '-')} has no effect with --method {name}; leave it out")


def no_plan(optimum: Optimum, method: Method) -> str:
    """What is known when there is no plan."""
    if not method.bound_is_proof:
        return (
            "no plan keeps the SLOs: this method looks at some setups only; --method exact looks at all, and says what "
            "binds"
        )
    if optimum.infeasible is not None:
        return f"no plan keeps the SLOs: {optimum.infeasible}"
    if optimum.bound < 0.0:
        return "no plan keeps the SLOs; why was not found out in time"
    undecided = f"; {optimum.undecided:,} setups may have a placement or none" if optimum.undecided else ""
    return f"no plan was found, and one with a score up to {optimum.bound:.4f} is not ruled out{undecided}"


def _exact(problem: Problem, limits: Limits, report: Report) -> Optimum:
    return optimise(problem, gap=limits.gap, time_limit_s=limits.time_limit_s, progress=report)


def _paper(problem: Problem, _: Limits, report: Report) -> Optimum:
    from optimizer.published.paper import optimise_as_published

    return optimise_as_published(problem, progress=report)


def _enumerate(problem: Problem, limits: Limits, report: Report) -> Optimum:
    from optimizer.comparisons.enumeration import enumerate_setups

    return enumerate_setups(problem, gap=limits.gap, progress=report).optimum()


METHODS = {
    "exact": Method(
        solve=_exact,
        takes=frozenset({"gap", "time_limit"}),
        bound_is_proof=True,
        says="the best plan, with a proof",
    ),
    "paper": Method(solve=_paper, takes=frozenset(), bound_is_proof=False, says="RouterWise as published"),
    "enumerate": Method(
        solve=_enumerate,
        takes=frozenset({"gap"}),
        bound_is_proof=False,
        says="every setup that the publication retains, each solved exactly",
    ),
}
"""By name."""


def find_method(name: str) -> Method:
    """A method by its name.

    Raises
    ------
    InputError
        There is none of that name.
    """
    if name not in METHODS:
        raise unknown_name("method", name, METHODS)
    return METHODS[name]
