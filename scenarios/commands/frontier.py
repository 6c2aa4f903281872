"""``routerwise frontier``."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Literal

import click

from analysis.charts.frontier import frontier_chart
from analysis.charts.rendering import write_chart
from analysis.stored.results import read_results
from latency_models.errors import InputError
from scenarios.optimisation.problem_file import load_problem
from scenarios.run_directory import run_directory
from scenarios.studies.frontier import default_rates_per_s, default_targets_s, frontier
from scenarios.studies.frontier_files import frontier_rows, printed, write_plans
from scenarios.studies.manifest import write_manifest
from scenarios.studies.setup_tables import write_csv
from scenarios.studies.study_progress import study_progress


@click.command(name="frontier")
@click.argument("problem", default="demo")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder for the files.")
@click.option("--overwrite", is_flag=True, help="Replace an earlier frontier.")
@click.option("--targets", metavar="MS,MS,...", help="Targets in ms; default: 0.3 to 3 times that of the problem.")
@click.option("--rates", metavar="RATE,RATE,...", help="Loads in requests/s; default: 0.4 to 2 times the problem's.")
@click.option("--slo", type=click.IntRange(min=1), default=1, show_default=True, help="Which SLO has those targets.")
@click.option(
    "--packing",
    type=click.Choice(["compute", "memory"]),
    help="What the shards on a GPU may not exceed: memory and compute shares, or memory alone; default: the file's.",
)
@click.option(
    "--format", "ending", type=click.Choice(["png", "svg"]), default="png", show_default=True, help="Of the picture."
)
@click.option("--strict", is_flag=True, help="Refuse curves in which a latency falls with load.")
def frontier_command(
    problem: str,
    out: Path,
    overwrite: bool,
    targets: str | None,
    rates: str | None,
    slo: int,
    packing: Literal["compute", "memory"] | None,
    ending: str,
    strict: bool,
) -> None:
    """Optimise PROBLEM (a YAML file, or `demo`) over the target of an SLO, and over the load.

    Targets vary at the problem's load, loads at the problem's targets. Writes frontier.csv, a picture, and the plan of
    every point.
    """
    read = load_problem(problem, packing=packing, strict=strict)
    for note in read.notes:
        click.echo(f"note: {note}")
    chosen_s = default_targets_s(read.problem, slo - 1)
    if targets is not None:
        chosen_s = tuple(1e-3 * value for value in _numbers("--targets", targets))
    chosen_rates = default_rates_per_s(read.problem) if rates is None else _numbers("--rates", rates)
    with run_directory(out, overwrite=overwrite) as folder:
        assert folder is not None
        with study_progress("Frontier") as show:
            points = frontier(
                read.problem,
                targets_s=chosen_s,
                rates_per_s=chosen_rates,
                slo=slo - 1,
                progress=None if show is None else lambda done, total: show("Frontier", done, total),
            )
        write_csv(folder / "frontier.csv", frontier_rows(points, slo - 1))
        write_plans(folder / "plans", read, points, {**read.sources, "routerwise": version("routerwise")})
        settings = {
            "slo": str(read.problem.slos[slo - 1]),
            "targets_s": list(chosen_s),
            "rates_per_s": list(chosen_rates),
            "packing": read.problem.packing,
        }
        write_manifest(folder, "frontier", read, settings)
        write_chart(frontier_chart(read_results([folder])), folder / f"frontier.{ending}")
    click.echo(printed(points))
    click.echo(f"Frontier: {out}")


def _numbers(option: str, text: str) -> tuple[float, ...]:
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        values = ()
    if not values or not all(0.0 < value < float("inf") for value in values):
        raise InputError(f"{option} is {text!r}; allowed: positive numbers with commas between them, such as 100,200")
    return values
