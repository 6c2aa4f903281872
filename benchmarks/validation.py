"""What validating a plan costs: the plan of the problem `demo` with ten replications, in as many processes as cores."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence

from benchmarks.figures import Figure
from benchmarks.growth import growth_figures
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


def validation_figures(sizes: Sequence[int]) -> Iterator[Figure]:
    """Wall time of validations with so many requests in all, start of the processes included, and how it grows."""
    plan = demo_plan()
    return growth_figures(
        SECTION,
        sizes,
        lambda requests: _validation_s(plan, requests),
        case=f"demo plan, {{requests}} requests in {REPLICATIONS} replications",
        largest=_REQUESTS,
        most_s=_MOST_S,
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
