"""What comparing routing policies costs: six of them on the plan of the problem `demo`, with ten replications each."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence

from benchmarks.figures import Figure
from benchmarks.growth import growth_figures
from benchmarks.validation import REPLICATIONS, demo_plan
from optimizer.plan import Plan
from scenarios.comparisons.compare import compare
from scenarios.comparisons.policies import chosen_policies
from scenarios.plans.deployment import deployed
from scenarios.replicated import replicating
from scenarios.scenario_files import load_scenario

SECTION = "comparison"
POLICIES = "price,price-adaptive,slo-aware,fractions,threshold,cascade"
_REQUESTS = 100_000
_MOST_S = 30.0
"""For so many requests of each policy, on two cores."""


def comparison_figures(sizes: Sequence[int]) -> Iterator[Figure]:
    """Wall time of comparisons with so many requests for each policy, start of the processes included."""
    plan = demo_plan()
    return growth_figures(
        SECTION,
        sizes,
        lambda requests: _comparison_s(plan, requests),
        case=f"6 policies, {{requests}} requests each in {REPLICATIONS} replications",
        simulated=len(POLICIES.split(",")),
        largest=_REQUESTS,
        most_s=_MOST_S,
    )


def _comparison_s(plan: Plan, requests: int) -> float:
    each = max(requests // REPLICATIONS, 20)
    # Ended by their number, and all of it measured.
    changes = [f"workload.requests={each}", "workload.duration_s=null", "run.warmup=0", 'slo="ttft:400"']
    scenario = deployed(load_scenario("plan-demo", changes), plan)
    began = time.perf_counter()
    with replicating(os.cpu_count() or 1) as replicator:
        compare(chosen_policies(scenario, POLICIES, ()), replicator, replications=REPLICATIONS)
    return time.perf_counter() - began
