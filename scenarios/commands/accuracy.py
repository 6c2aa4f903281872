"""``routerwise accuracy``."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from analysis.result_files import replacing
from latency_models.errors import InputError, RouterwiseError
from scenarios.measurements.evaluation import Progress, open_measurement
from scenarios.output_places import check_output, check_output_folder


@click.command()
@click.argument("measurements", nargs=-1, required=True, metavar="FILE...")
@click.option(
    "--format",
    "layout",
    type=click.Choice(["table", "json", "markdown"]),
    default="table",
    show_default=True,
    help="Layout of the result.",
)
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Write the result to a file instead.")
@click.option("--overwrite", is_flag=True, help="Replace an existing file of --out.")
@click.option("--plots", type=click.Path(path_type=Path, file_okay=False), help="Folder for a picture of each file.")
def accuracy(measurements: tuple[str, ...], layout: str, out: Path | None, overwrite: bool, plots: Path | None) -> None:
    """Predict what was measured on real servers, and print how far off the predictions are.

    FILE is a measurement file, or the name of one that comes with routerwise; `all` is all of those whose operator
    tables are installed. A file says what the server was, what it was sent and what was measured; whatever is fitted is
    fitted on other data than is judged.
    """
    from scenarios.measurements.measurement_files import usable_names
    from scenarios.measurements.report import as_json, markdown, print_tables

    names = [name for given in measurements for name in (usable_names() if given == "all" else [given])]
    if out is not None and layout == "table":
        raise InputError("--out goes with --format json or markdown; a table is for the terminal")
    if overwrite and out is None:
        raise InputError("--overwrite has no effect without --out; leave it out")
    if out is not None:
        check_output("--out", out, overwrite=overwrite)
    if plots is not None:
        check_output_folder("--plots", plots if plots.is_dir() else plots.parent)
    opened = [open_measurement(name) for name in names]
    with _progress() as progress:
        evaluations = [measurement.evaluate(progress) for measurement in opened]
        if plots is not None:
            from scenarios.measurements.plots import plot_evaluation

            plots.mkdir(exist_ok=True)
            for evaluation in evaluations:
                plot_evaluation(evaluation, plots / f"{evaluation.measurement.name}.png")
    if layout == "table":
        print_tables(evaluations)
    else:
        import json

        if layout == "markdown":
            text = markdown(evaluations, None if plots is None else _relative(plots, out))
        else:
            text = json.dumps(as_json(evaluations), indent=2, allow_nan=False) + "\n"
        if out is None:
            click.echo(text, nl=False)
        else:
            with replacing(out) as stream:
                stream.write(text)
    worse = [evaluation.measurement.name for evaluation in evaluations if evaluation.missed()]
    if worse:
        raise RouterwiseError(f"less accurate than their files expect: {', '.join(worse)}")


def _relative(plots: Path, out: Path | None) -> str:
    """The folder of pictures as seen from the page."""
    return Path(os.path.relpath(plots, None if out is None else out.parent)).as_posix()


@contextmanager
def _progress() -> Iterator[Progress | None]:
    """Show progress on a terminal; stay silent in a pipe."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console

    with Console(stderr=True).status("Reading") as status:
        yield status.update
