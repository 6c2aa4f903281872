"""The methods of ``routerwise optimize``, under one signature, and what is said when none of them finds a plan."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from latency_models.errors import RouterwiseError, unknown_name
from optimizer.problem import Problem
from optimizer.search import Optimum, optimise
from optimizer.setups.setup_search import Progress

Report = Callable[[Progress], None] | None


class Infeasible(RouterwiseError):
    """The question is well put, and the answer is that no plan keeps the SLOs."""

    exit_status = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """A way to solve a problem.

    Parameters
    ----------
    solve : callable
        From problem, gap and progress report to the optimum.
    bound_is_proof : bool
        Whether the bound holds for every setup of the problem.
    says : str
        What it does.
    on_failure : str
        What to say if it finds nothing, and not why.
    """

    solve: Callable[[Problem, float, Report], Optimum]
    bound_is_proof: bool
    says: str
    on_failure: str = "this method looks at some setups only; --method exact looks at all, and says what binds"


def _exact(problem: Problem, gap: float, report: Report) -> Optimum:
    return optimise(problem, gap=gap, progress=report)


def _paper(problem: Problem, gap: float, report: Report) -> Optimum:
    from optimizer.published.paper import optimise_as_published

    return optimise_as_published(problem, progress=report)


def _enumerate(problem: Problem, gap: float, report: Report) -> Optimum:
    from optimizer.comparisons.enumeration import enumerate_setups

    return enumerate_setups(problem, gap=gap, progress=report).optimum()


METHODS = {
    "exact": Method(solve=_exact, bound_is_proof=True, says="the best plan, with a proof", on_failure="none was found"),
    "paper": Method(solve=_paper, bound_is_proof=False, says="RouterWise as published"),
    "enumerate": Method(
        solve=_enumerate, bound_is_proof=False, says="every setup that the publication retains, each solved exactly"
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
