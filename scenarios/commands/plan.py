"""``routerwise plan``."""

from __future__ import annotations

import os
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import click

from analysis.result_files import replacing
from scenarios.commands.shared_options import jobs_option, overrides_option, window_option
from scenarios.correction.planning import plan_to_hold
from scenarios.correction.proven_plan import proven_plan
from scenarios.correction.report import exit_status, planning_json, print_planning
from scenarios.correction.search import SearchRules
from scenarios.correction.simulated_plans import ProofRules
from scenarios.optimisation.problem_file import load_problem
from scenarios.output_places import check_output
from scenarios.plans.deployment import check_overrides
from scenarios.replicated import replicating
from scenarios.scenario_files import load_scenario
from scenarios.studies.study_progress import study_progress


@click.command()
@click.argument("problem")
@click.argument("scenario")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Write the plan here, as JSON.")
@click.option("--overwrite", is_flag=True, help="Replace an earlier plan.")
@click.option(
    "--packing",
    type=click.Choice(["compute", "memory"]),
    help="What the shards on a GPU may not exceed: memory and compute shares, or memory alone; default: the file's.",
)
@overrides_option
@click.option("--seed", type=click.IntRange(min=0), help="Seed of all random streams of the scenario.")
@click.option("--confidence", type=float, default=0.95, show_default=True, help="That the plan holds.")
@click.option(
    "--trial",
    type=click.IntRange(min=4),
    default=8,
    show_default=True,
    help="Replications to learn from, of each plan.",
)
@click.option("--most", type=click.IntRange(min=10), default=40, show_default=True, help="Replications of a proof.")
@click.option("--plans", type=click.IntRange(min=1), default=12, show_default=True, help="Plans to simulate at most.")
@click.option(
    "--gain",
    type=float,
    default=1e-3,
    show_default=True,
    help="Go on after a plan was proven as long as another may have a score that is higher by this; 1: stop there.",
)
@window_option
@click.option(
    "--against-tightening", is_flag=True, help="Also find the plan that tightened targets lead to, and compare."
)
@jobs_option
@click.option("--json", "as_json", is_flag=True, help="Print plan and log as JSON instead of tables.")
def plan(
    problem: str,
    scenario: str,
    out: Path | None,
    overwrite: bool,
    packing: Literal["compute", "memory"] | None,
    overrides: tuple[str, ...],
    seed: int | None,
    confidence: float,
    trial: int,
    most: int,
    plans: int,
    gain: float,
    window_s: float | None,
    against_tightening: bool,
    jobs: int | None,
    as_json: bool,
) -> None:
    """Find the plan of PROBLEM that keeps its SLOs in SCENARIO, by simulation.

    PROBLEM is as for `routerwise optimize`, SCENARIO as for `routerwise run`. Exit status 3 if none was proven to hold,
    4 if none is left that could. See docs/plan.md.
    """
    if out is not None:
        check_output("--out", out, overwrite=overwrite)
    proof = ProofRules(confidence=confidence, trial=trial, most=most)
    search = SearchRules(plans=plans, gain=gain)
    read = load_problem(problem, packing=packing)
    check_overrides(overrides)
    given = load_scenario(scenario, [*overrides, *([] if seed is None else [f"seed={seed}"])])
    for note in read.notes:
        click.echo(f"Note: {note}", err=True)
    with replicating(jobs or os.cpu_count() or 1) as replicator, study_progress("Planning") as show:
        found = plan_to_hold(
            read,
            given,
            replicator,
            proof=proof,
            search=search,
            window_s=window_s,
            against_tightening=against_tightening,
            show=show,
        )
    for note in found.notes:
        click.echo(f"Note: {note}", err=True)
    best = found.corrected.best
    provenance = {"method": "corrected by simulation", "routerwise": version("routerwise")}
    proven = None if best is None else proven_plan(best, given, provenance)
    if as_json:
        import json

        click.echo(json.dumps(planning_json(found, proven), indent=2, allow_nan=False))
    else:
        print_planning(f"{read.name} on {given.name}", found, proven)
    if proven is not None and out is not None:
        with replacing(out) as stream:
            stream.write(proven.to_json())
        if not as_json:
            click.echo(f"Plan: {out}")
    sys.exit(exit_status(found))
