"""What validating a plan costs: the plan of the problem `demo` with ten replications, in as many processes as cores."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Iterator, Sequence

from benchmarks.figures import NO_TARGET, Figure, Target
from optimizer.plan import Plan, make_plan
from optimizer.search import optimise
from scenarios.optimisation.problem_file import load_problem
from scenarios.plans.deployment import deployed
from scenarios.replicated import replicating
from scenarios.scenario_files import load_scenario
from scenarios.validation.targets import promised_targets
from scenarios.validation.validate import ValidationOptions, validate

SECTION = "validation"
REPLICATIONS = 10
_REQUESTS = 100_000
_MOST_S = 30.0
"""For so many requests in all, on two cores."""
_LINEAR = Target(at_most=1.3)


def validation_figures(sizes: Sequence[int]) -> Iterator[Figure]:
    """Wall time of validations with so many requests in all, start of the processes included, and how it grows."""
    plan = demo_plan()
    times_s = [_validation_s(plan, requests) for requests in sizes]
    for requests, seconds in zip(sizes, times_s, strict=True):
        yield Figure(
            section=SECTION,
            case=f"demo plan, {requests:,} requests in {REPLICATIONS} replications",
            quantity="s",
            value=seconds,
            target=Target(at_most=_MOST_S) if requests <= _REQUESTS else NO_TARGET,
            detail=f"wall time on {os.cpu_count()} cores; {requests / seconds:,.0f} requests/s",
        )
    for (fewer, fewer_s), (more, more_s) in itertools.pairwise(zip(sizes, times_s, strict=True)):
        yield Figure(
            section=SECTION,
            case=f"{more:,} requests over {fewer:,}",
            quantity="times the time per request",
            value=more_s / more / (fewer_s / fewer),
            target=_LINEAR,
        )


def demo_plan() -> Plan:
    """The plan of the problem `demo`."""
    read = load_problem("demo")
    return make_plan(read.problem, optimise(read.problem), name=read.name, engines=read.engines)


def _validation_s(plan: Plan, requests: int) -> float:
    each = max(requests // REPLICATIONS, 20)
    # Ended by their number, and all of it measured.
    changes = [f"workload.requests={each}", "workload.duration_s=null", "run.warmup=0"]
    scenario = deployed(load_scenario("plan-demo", changes), plan)
    options = ValidationOptions(first=REPLICATIONS, most=REPLICATIONS)
    began = time.perf_counter()
    with replicating(os.cpu_count() or 1) as replicator:
        validate(scenario, promised_targets(plan), replicator, options)
    return time.perf_counter() - began
