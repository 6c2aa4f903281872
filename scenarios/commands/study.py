"""``routerwise study``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

import click

from latency_models.errors import InputError
from optimizer.problem import Metric
from scenarios.commands.shared_options import overrides_option
from scenarios.optimisation.problem_file import load_problem
from scenarios.replicated import replicating
from scenarios.run_directory import run_directory
from scenarios.scenario_files import load_scenario
from scenarios.studies.cases import PUBLISHED_CASES, parse_case
from scenarios.studies.live_files import live_rows, plot_live, printed_live
from scenarios.studies.live_study import live_study
from scenarios.studies.manifest import write_manifest
from scenarios.studies.setup_plots import plot_counts, plot_setups
from scenarios.studies.setup_study import retained_counts, study_case
from scenarios.studies.setup_tables import (
    baseline_rows,
    count_rows,
    printed,
    setup_rows,
    summary_row,
    write_csv,
)
from scenarios.studies.study_progress import of_search, study_progress

_MOST_COUNTED_GPUS = 8
_LIVE_GPUS = 4


@click.group()
def study() -> None:
    """Studies over many setups."""


@study.command()
@click.argument("problem", default="demo")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder for the files.")
@click.option("--overwrite", is_flag=True, help="Replace an earlier study.")
@click.option(
    "--case",
    "texts",
    multiple=True,
    metavar="GPUS:RATE:TARGET_MS",
    help="GPUs, requests/s, and target on the mean; may be repeated. Default: the eight cases of the RouterWise paper.",
)
@click.option(
    "--metric",
    type=click.Choice(["ttft", "tpot", "e2e"]),
    default="ttft",
    show_default=True,
    help="Whose mean is limited.",
)
@click.option(
    "--packing",
    type=click.Choice(["memory", "compute"]),
    default="memory",
    show_default=True,
    help="Which setups have a place: those that fit by memory, as published, or by compute shares too.",
)
@click.option(
    "--format", "ending", type=click.Choice(["png", "svg"]), default="png", show_default=True, help="Of the pictures."
)
@click.option("--strict", is_flag=True, help="Refuse curves in which a latency falls with load.")
def setups(
    problem: str,
    out: Path,
    overwrite: bool,
    texts: tuple[str, ...],
    metric: Metric,
    packing: Literal["memory", "compute"],
    ending: str,
    strict: bool,
) -> None:
    """Solve the routing of every retained setup of PROBLEM (a YAML file, or `demo`), case by case.

    As published, every model runs, once, and together they use all compute. The cases replace the GPUs, the loads and
    the SLOs of the file. Writes setups.csv, baselines.csv, summary.csv, retained.csv and three pictures; see
    docs/paper.md.
    """
    cases = tuple(parse_case(text) for text in dict.fromkeys(texts)) or PUBLISHED_CASES
    read = load_problem(problem, strict=strict)
    for note in read.notes:
        click.echo(f"note: {note}")
    for case in cases:
        case.of(read.problem, metric, packing)  # what cannot be a problem is said before hours of work
    counts = retained_counts(read.problem, max(_MOST_COUNTED_GPUS, *(case.gpus for case in cases)))
    with run_directory(out, overwrite=overwrite) as folder:
        assert folder is not None
        with study_progress("Setups") as show:
            studies = [
                study_case(
                    read.problem,
                    case,
                    metric=metric,
                    packing=packing,
                    progress=of_search(show, f"{case} ({number} of {len(cases)})"),
                )
                for number, case in enumerate(cases, start=1)
            ]
        rows = [row for one in studies for row in setup_rows(one)]
        if not rows:
            raise InputError(
                f"no setup of {', '.join(map(str, cases))} is retained: none runs every model once, uses all compute "
                "and fits; give --case with fewer GPUs, or curves of more tp and compute shares"
            )
        write_csv(folder / "setups.csv", rows)
        write_csv(folder / "baselines.csv", [row for one in studies for row in baseline_rows(one)])
        write_csv(folder / "summary.csv", [summary_row(one) for one in studies])
        write_csv(folder / "retained.csv", count_rows(counts))
        plot_setups(studies, folder / f"setups.{ending}")
        plot_setups(studies, folder / f"fastest.{ending}", fastest=True)
        plot_counts(counts, folder / f"retained.{ending}")
        settings = {"cases": [str(case) for case in cases], "metric": metric, "packing": packing}
        write_manifest(folder, "study setups", read, settings)
    click.echo(printed(studies))
    click.echo(f"Study: {out}")


@study.command()
@click.argument("problem", default="demo")
@click.argument("scenario", default="plan-demo")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder for the files.")
@click.option("--overwrite", is_flag=True, help="Replace an earlier study.")
@click.option(
    "--case",
    "texts",
    multiple=True,
    metavar="GPUS:RATE:TARGET_MS",
    help="GPUs, requests/s, and target on mean TTFT; may be repeated. Default: the publication's cases on four GPUs.",
)
@overrides_option
@click.option("--replications", type=click.IntRange(min=2), default=5, show_default=True, help="Of each simulation.")
@click.option(
    "--format", "ending", type=click.Choice(["png", "svg"]), default="png", show_default=True, help="Of the picture."
)
@click.option("--jobs", type=click.IntRange(min=1), help="Processes; default: one per core.")
def live(
    problem: str,
    scenario: str,
    out: Path,
    overwrite: bool,
    texts: tuple[str, ...],
    overrides: tuple[str, ...],
    replications: int,
    ending: str,
    jobs: int | None,
) -> None:
    """Simulate plans of PROBLEM under the traffic of SCENARIO, next to routers on GPUs that nobody shares.

    The publication's live study: RouterWise as published and the certified optimum against a threshold router
    (RouteLLM) and a cascade (FrugalGPT) on isolated deployments, at the same quality of the answers. The traffic of
    SCENARIO is that of PROBLEM's first load, and is sped up for each case. Writes live.csv and a picture; see
    docs/paper.md.
    """
    cases = tuple(parse_case(text) for text in dict.fromkeys(texts)) or tuple(
        case for case in PUBLISHED_CASES if case.gpus == _LIVE_GPUS
    )
    read = load_problem(problem)
    traffic = load_scenario(scenario, overrides)
    with run_directory(out, overwrite=overwrite) as folder:
        assert folder is not None
        with replicating(jobs or os.cpu_count() or 1) as replicator, study_progress("Cases") as show:
            rows = live_study(read, traffic, cases, replicator, replications=replications, report=show)
        write_csv(folder / "live.csv", live_rows(rows))
        plot_live(rows, folder / f"live.{ending}")
        settings = {"cases": [str(case) for case in cases], "scenario": traffic.name, "replications": replications}
        write_manifest(folder, "study live", read, settings)
    click.echo(printed_live(rows))
    click.echo(f"Study: {out}")
