"""What a plan that holds costs: `routerwise plan demo plan-demo-bursts`, in as many processes as cores."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

from benchmarks.figures import NO_TARGET, Figure, Target
from scenarios.correction.planning import plan_to_hold
from scenarios.correction.search import SearchRules
from scenarios.correction.simulated_plans import ProofRules
from scenarios.optimisation.problem_file import load_problem
from scenarios.replicated import replicating
from scenarios.scenario_files import load_scenario

SECTION = "planning"
_MOST_S = 180.0
"""On two cores."""


def planning_figures(*, quick: bool) -> Iterator[Figure]:
    """Wall time of the search for a plan that holds, start of the processes included, and its score."""
    changes = ["workload.duration_s=30", "run.warmup=3"] if quick else []
    read, scenario = load_problem("demo"), load_scenario("plan-demo-bursts", changes)
    began = time.perf_counter()
    with replicating(os.cpu_count() or 1) as replicator:
        found = plan_to_hold(read, scenario, replicator, proof=ProofRules(), search=SearchRules()).corrected
    seconds = time.perf_counter() - began
    replications = sum(len(step.trial.runs) + (len(step.proof.runs) if step.proof else 0) for step in found.steps)
    outcome = "none holds" if found.best is None else f"score {found.best.score:.4f}"
    yield Figure(
        section=SECTION,
        case="demo in bursts, replications of " + ("30 s" if quick else "300 s"),
        quantity="s",
        value=seconds,
        target=NO_TARGET if quick else Target(at_most=_MOST_S),
        detail=f"wall time on {os.cpu_count()} cores; {len(found.steps)} plans, {replications} replications; {outcome}",
    )
