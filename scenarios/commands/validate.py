"""``routerwise validate``."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import click

from analysis.charts.chart import NoData
from analysis.charts.gap import gap_chart
from analysis.charts.rendering import write_chart
from analysis.pictures import check_picture_path
from analysis.result_files import replacing
from analysis.stored.json_files import RESULT_SCHEMA_VERSION
from analysis.stored.results import Results, StoredDocument
from latency_models.errors import InputError, invalid
from scenarios.commands.judged_plan import judged_plan
from scenarios.commands.shared_options import (
    jobs_option,
    overrides_option,
    rate_option,
    seed_option,
    targets_option,
    unanswered_option,
    window_option,
)
from scenarios.output_places import check_output
from scenarios.plans.promise_table import print_promises
from scenarios.plans.promises import promised_figures
from scenarios.replicated import replicating
from scenarios.studies.study_progress import study_progress
from scenarios.validation.gap import explain_gap
from scenarios.validation.gap_report import gaps_json, print_gaps
from scenarios.validation.report import print_validation, validation_json, verdict_line
from scenarios.validation.validate import EXIT_STATUS, ValidationOptions
from scenarios.validation.validate import validate as run_validation

_FIRST, _FIRST_WITH_GAP = 5, 10


@click.command()
@click.argument("plan_file", metavar="PLAN", type=click.Path(path_type=Path, dir_okay=False))
@click.argument("scenario")
@overrides_option
@seed_option
@rate_option
@targets_option
@click.option("--confidence", type=float, default=0.95, show_default=True, help="Of the verdicts.")
@click.option(
    "--first",
    type=click.IntRange(min=2),
    help="Replications before the first look (at most so many with --window); default: 5, or 10 with --gap.",
)
@click.option("--most", type=click.IntRange(min=2), default=40, show_default=True, help="Replications at most.")
@window_option
@unanswered_option
@click.option("--gap", is_flag=True, help="Attribute what differs from the promise to causes, by further runs.")
@click.option(
    "--plot", type=click.Path(path_type=Path, dir_okay=False), help="With --gap: draw it, to a .png, .svg or .pdf."
)
@jobs_option
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Also write everything here, as JSON, for `routerwise report`.",
)
@click.option("--overwrite", is_flag=True, help="Replace an existing file of --out.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON instead of tables.")
def validate(
    plan_file: Path,
    scenario: str,
    overrides: tuple[str, ...],
    seed: int | None,
    rate_per_s: float | None,
    slos: tuple[str, ...],
    confidence: float,
    first: int | None,
    most: int,
    window_s: float | None,
    unanswered: float,
    gap: bool,
    plot: Path | None,
    jobs: int | None,
    out: Path | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Find out whether PLAN keeps its SLOs in SCENARIO (a YAML file, or a name from `routerwise scenarios`).

    Replications are added until that is clear. Exit status 0 if it holds, 3 if it is broken, 5 if it is undecided. See
    docs/validate.md.
    """
    if plot is not None:
        if not gap:
            raise InputError("--plot draws the gap report; give --gap too")
        check_picture_path("--plot", plot)
    if out is not None:
        check_output("--out", out, overwrite=overwrite)
    if first is not None and first > most:
        raise invalid("--first", first, f"at most --most, {most}")
    # A verdict can be clear before the effects of the causes are.
    first = min(first or (_FIRST_WITH_GAP if gap else _FIRST), most)
    options = ValidationOptions(confidence=confidence, first=first, most=most, tolerance=unanswered, window_s=window_s)
    judged = judged_plan(
        plan_file, scenario, overrides=overrides, seed=seed, rate_per_s=rate_per_s, slos=slos, window_s=window_s
    )
    plan, planned, targets = judged.plan, judged.scenario, judged.targets
    with replicating(jobs or os.cpu_count() or 1) as replicator:
        with study_progress("Replications until the next look") as show:
            report = None if show is None else lambda done, total: show("Replications until the next look", done, total)
            found = run_validation(planned, targets, replicator, options, report)
        explained = None
        if gap:
            with study_progress("Runs without causes") as show:
                report = None if show is None else lambda done, total: show("Runs without causes", done, total)
                explained = explain_gap(
                    plan, planned, targets, found, replicator, rate_per_s=rate_per_s, window_s=window_s, report=report
                )
    figures = promised_figures(plan, found.summary, rate_per_s=rate_per_s)
    values = validation_json(found, figures) | ({} if explained is None else {"gap": gaps_json(explained)})
    heading = {"schema_version": RESULT_SCHEMA_VERSION, "command": "validate"}
    values = heading | {"plan": plan.name, "scenario": planned.name} | values
    text = json.dumps(values, indent=2, allow_nan=False)
    if plot is not None and not _draw(plot, values):
        plot = None
    if out is not None:
        with replacing(out) as stream:
            stream.write(text + "\n")
    if as_json:
        click.echo(text)
    else:
        print_validation(f"plan {plan.name} on {planned.name}", found)
        click.echo()
        print_promises(figures)
        if explained is not None:
            print_gaps(explained)
        click.echo(f"\n{verdict_line(found)}")
        if plot is not None:
            click.echo(f"Picture: {plot}")
        if out is not None:
            click.echo(f"Results: {out}")
    sys.exit(EXIT_STATUS[found.outcome])


def _draw(path: Path, validation: dict[str, Any]) -> bool:
    """Draw the gap report, if there is anything to draw."""
    document = StoredDocument(path=path, name=validation["plan"], content=validation)
    try:
        chart = gap_chart(Results(validations=(document,)))
    except NoData as nothing:
        click.echo(f"Note: {nothing}", err=True)
        return False
    write_chart(chart, path)
    return True
