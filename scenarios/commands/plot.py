"""``routerwise plot``."""

from __future__ import annotations

from pathlib import Path

import click

from analysis.pictures import check_picture_path
from latency_models.errors import InputError, unknown_name
from scenarios.output_places import check_output


@click.command()
@click.argument("kind", required=False)
@click.argument("results", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--out", type=click.Path(path_type=Path), help="Picture to write; its ending says the format: .svg, .png or .pdf."
)
@click.option("--overwrite", is_flag=True, help="Replace an existing picture.")
@click.option("--list", "as_list", is_flag=True, help="List the kinds of pictures.")
def plot(kind: str | None, results: tuple[Path, ...], out: Path | None, overwrite: bool, as_list: bool) -> None:
    """Draw one KIND of picture of RESULTS: run directories, plans, and what other commands wrote.

    Without arguments: the kinds. Several runs are drawn side by side.
    """
    from analysis.charts.catalogue import CHARTS
    from analysis.charts.rendering import write_chart
    from analysis.stored.results import read_results

    if as_list or kind is None:
        for name, chart_kind in CHARTS.items():
            click.echo(f"{name:17}{chart_kind.summary}")
        return
    if kind not in CHARTS:
        raise unknown_name("kind of picture", kind, CHARTS)
    if not results:
        raise InputError(f"plot {kind} needs results to draw, for example a run directory: runs/demo")
    if out is None:
        raise InputError(f"--out is missing; give the picture a name, for example --out {kind}.svg")
    check_picture_path("--out", out)
    check_output("--out", out, overwrite=overwrite)
    write_chart(CHARTS[kind].make(read_results(results)), out)
    click.echo(f"Picture: {out}")
