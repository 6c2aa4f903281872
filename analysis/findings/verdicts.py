"""What all results together say, verdicts on plans first."""

from __future__ import annotations

from analysis.findings.deployments import run_verdict
from analysis.findings.finding import Verdict
from analysis.findings.studies import comparison_verdict, frontier_verdict, plan_verdict, stress_verdict
from analysis.findings.validations import validation_verdict
from analysis.stored.results import Results


def verdicts(results: Results) -> tuple[Verdict, ...]:
    """A verdict for each result; a plan that one of the runs deploys speaks through that run."""
    deployed = [run.plan for run in results.runs if run.plan is not None]
    untested = [plan for plan in results.plans if plan.content not in deployed]
    return (
        *map(validation_verdict, results.validations),
        *map(run_verdict, results.runs),
        *map(stress_verdict, results.stresses),
        *map(plan_verdict, untested),
        *map(comparison_verdict, results.comparisons),
        *map(frontier_verdict, results.frontiers),
    )
