"""``routerwise report``."""

from __future__ import annotations

from pathlib import Path

import click

from analysis.reports.page import write_report
from analysis.stored.results import read_results
from scenarios.output_places import check_output
from scenarios.studies.study_progress import study_progress


@click.command()
@click.argument("results", nargs=-1, required=True, metavar="RESULT...", type=click.Path(path_type=Path))
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("report.html"),
    show_default=True,
    help="Where to write the page.",
)
@click.option("--overwrite", is_flag=True, help="Replace an existing file.")
@click.option("--title", help="Heading of the page; default: the name of the scenario.")
def report(results: tuple[Path, ...], out: Path, overwrite: bool, title: str | None) -> None:
    """Make one HTML page of results: verdict, charts, tables, and where they come from.

    RESULT is a run directory, a plan, a file of `validate --out`, a folder of `compare`, `stress` or `frontier`, or a
    folder that holds some of these. The page needs no network; several runs stand side by side. See docs/report.md.
    """
    check_output("--out", out, overwrite=overwrite)
    found = read_results(results)
    with study_progress("Drawing") as progress:
        write_report(found, out, title=title, progress=progress)
    click.echo(f"Report: {out} ({out.stat().st_size / 1e6:.1f} MB)")
