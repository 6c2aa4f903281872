"""``routerwise compare``."""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from pathlib import Path
from typing import Literal

import click

from analysis.charts.chart import NoData
from analysis.charts.comparison import comparison_chart
from analysis.charts.rendering import write_chart
from analysis.stored.results import read_results
from latency_models.errors import InputError
from optimizer.plan import read_plan
from scenarios.commands.shared_options import jobs_option, overrides_option, rate_option, seed_option, window_option
from scenarios.comparisons.compare import compare as run_comparison
from scenarios.comparisons.files import comparison_json, write_comparison
from scenarios.comparisons.policies import chosen_policies
from scenarios.comparisons.table import print_comparison
from scenarios.plans.deployment import deployed
from scenarios.replicated import is_trace, replicating, scenario_json
from scenarios.run_directory import run_directory
from scenarios.scenario_files import load_scenario
from scenarios.studies.study_progress import study_progress


@click.command()
@click.argument("scenario")
@click.option(
    "--policies",
    "names",
    metavar="NAME,NAME,...|FILE",
    help="Model routers by name, or a YAML file with a mapping `policies` of label to options.",
)
@click.option(
    "--policy",
    "single",
    multiple=True,
    metavar="YAML",
    help="One more, with options: 'threshold: {budget: 0.3}', or 'LABEL: {kind: threshold, budget: 0.3}'.",
)
@click.option("--reference", metavar="LABEL", help="The policy that others are compared with; default: the first.")
@click.option(
    "--plan",
    "plan_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Deploy this plan first; its prices are those of the policy price.",
)
@rate_option
@click.option("--slo", metavar="LIMITS", help='Limits in ms as vllm bench spells them: "ttft:500 tpot:50 e2el:10000".')
@overrides_option
@seed_option
@click.option(
    "--replications",
    type=click.IntRange(2, 10_000),
    default=5,
    show_default=True,
    help="Each with requests of its own, the same for all policies.",
)
@window_option
@jobs_option
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Folder for CSV, JSON and the picture.")
@click.option("--overwrite", is_flag=True, help="Replace an earlier comparison.")
@click.option(
    "--format",
    "ending",
    type=click.Choice(["png", "svg", "pdf"]),
    default="png",
    show_default=True,
    help="Of the picture.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the comparison as JSON instead of tables.")
def compare(
    scenario: str,
    names: str | None,
    single: tuple[str, ...],
    reference: str | None,
    plan_file: Path | None,
    rate_per_s: float | None,
    slo: str | None,
    overrides: tuple[str, ...],
    seed: int | None,
    replications: int,
    window_s: float | None,
    jobs: int | None,
    out: Path | None,
    overwrite: bool,
    ending: Literal["png", "svg", "pdf"],
    as_json: bool,
) -> None:
    """Compare routing policies on SCENARIO (a YAML file, or a name from `routerwise scenarios`).

    All policies get the same arrivals, prompts and random numbers. See docs/routing.md.
    """
    if rate_per_s is not None and plan_file is None:
        raise InputError("--rate names one of a plan's loads; give --plan too, or leave it out")
    settings = {"seed": seed, "slo": None if slo is None else f'"{slo}"'}
    assignments = [f"{key}={value}" for key, value in settings.items() if value is not None]
    base = load_scenario(scenario, [*overrides, *assignments])
    plan = None if plan_file is None else read_plan(plan_file)
    if plan is not None:
        base = deployed(base, plan, rate_per_s=rate_per_s)
    policies = chosen_policies(base, names, single)
    if is_trace(base.workload) and window_s is None:
        click.echo(
            "Note: replications of a trace have the same requests, so intervals say nothing about other traffic; "
            "--window cuts it into parts",
            err=True,
        )
    with run_directory(out, overwrite=overwrite) as folder:
        with replicating(jobs or os.cpu_count() or 1) as replicator, study_progress("Comparing policies") as show:
            found = run_comparison(
                policies,
                replicator,
                replications=replications,
                reference=reference,
                window_s=window_s,
                report=None if show is None else lambda done, total: show("Comparing policies", done, total),
            )
        if folder is not None:
            sources = {
                "scenario": base.name,
                "scenario_sha256": hashlib.sha256(scenario_json(base).encode()).hexdigest(),
                "seed": base.seed,
                "replications": replications,
                "plan": None if plan is None else plan.name,
            }
            write_comparison(folder, found, sources)
            # Without scores or an SLO there is nothing to draw.
            with suppress(NoData):
                write_chart(comparison_chart(read_results([folder])), folder / f"quality-attainment.{ending}")
    if as_json:
        import json

        click.echo(json.dumps(comparison_json(found), indent=2, allow_nan=False))
    else:
        print_comparison(found)
        if out is not None:
            click.echo(f"Comparison: {out}")
