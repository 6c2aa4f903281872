"""``routerwise trace stats`` and ``routerwise trace fit``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import yaml

from analysis.result_files import replacing
from latency_models.errors import InputError
from scenarios.traces.fit import TraceFit, fit_trace
from scenarios.traces.formats import FORMATS
from scenarios.traces.readers import ReadOptions, ReadReport, read_trace
from scenarios.traces.statistics import TraceColumns, load_columns, trace_statistics
from sim.random_streams import named_generator


@click.group()
def trace() -> None:
    """Describe a request trace, or fit generators to it."""


def _reading(command: Any) -> Any:
    """Options of every command that reads a trace."""
    for option in (
        click.option(
            "--format",
            "layout",
            type=click.Choice(["auto", *FORMATS]),
            default="auto",
            show_default=True,
            help="Layout of the file; auto recognises it by its first line.",
        ),
        click.option("--where", multiple=True, metavar="COLUMN=VALUE", help="Keep rows with this value only."),
        click.option("--drop-empty", is_flag=True, help="Leave out rows without prompt or output."),
        click.option("--sort", is_flag=True, help="Sort by arrival (loads the whole trace)."),
        click.option("--spread-s", type=float, default=0.0, help="Spread arrivals that share a clock tick, seconds."),
        click.option(
            "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of everything that is drawn."
        ),
        click.argument("file", type=click.Path(path_type=Path)),
    ):
        command = option(command)
    return command


def _load(
    file: Path, layout: str, where: tuple[str, ...], drop_empty: bool, sort: bool, spread_s: float, seed: int
) -> tuple[TraceColumns, ReadReport]:
    import numpy as np

    conditions: dict[str, str] = {}
    for condition in where:
        column, separator, value = condition.partition("=")
        if not separator:
            raise InputError(f"--where {condition!r} is not of the form COLUMN=VALUE")
        conditions[column] = value
    options = ReadOptions(drop_empty=drop_empty, sort=sort, spread_s=spread_s, where=conditions)
    report = ReadReport()
    rng = named_generator(np.random.SeedSequence(seed), "spread arrivals")
    return load_columns(read_trace(file, layout, options=options, rng=rng, report=report)), report


@trace.command()
@_reading
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def stats(file: Path, as_json: bool, **reading: Any) -> None:
    """Rate, burstiness, lengths and shared prefixes of the trace FILE."""
    columns, report = _load(file, **reading)
    figures = trace_statistics(columns).as_dict()
    if as_json:
        click.echo(json.dumps({"format": report.format, **figures}, indent=2, allow_nan=False))
        return
    click.echo(f"{file.name}: format {report.format}, {report.rows} rows read")
    for count, what in ((report.failed, "of failed requests skipped"), (report.dropped_empty, "empty ones dropped")):
        if count:
            click.echo(f"  {count} rows {what}")
    if report.ignored_columns:
        click.echo(f"  columns not used: {', '.join(report.ignored_columns)}")
    for name, value in figures.items():
        if isinstance(value, dict):
            click.echo(f"{name:20} " + "  ".join(f"{key} {_figure(number)}" for key, number in value.items()))
        else:
            click.echo(f"{name:20} {_figure(value)}")


@trace.command()
@_reading
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), help="Write the YAML here instead of printing it."
)
@click.option(
    "--diurnal-points", type=click.IntRange(min=0), default=0, help="Also fit a rate profile of so many points."
)
def fit(file: Path, out: Path | None, diurnal_points: int, **reading: Any) -> None:
    """Fit arrival and length generators to the trace FILE.

    The YAML, a `workload:` section for scenarios, goes to standard output (or --out); how well every candidate fits
    goes to standard error.
    """
    import numpy as np

    columns, _ = _load(file, **reading)
    found = fit_trace(columns, np.random.SeedSequence(reading["seed"]), diurnal_points=diurnal_points)
    _print_goodness(found)
    text = yaml.safe_dump({"workload": found.workload()}, sort_keys=False, width=120, default_flow_style=None)
    text = f"# Fitted to {file.name}: {columns.arrival_s.size} requests.\n{text}"
    if out is None:
        click.echo(text, nl=False)
    else:
        with replacing(out) as stream:
            stream.write(text)


def _print_goodness(found: TraceFit) -> None:
    windows = list(found.measured_dispersion)
    click.echo("arrivals      score  gap KS  " + "  ".join(f"IDC {window:g} s" for window in windows), err=True)
    measured = "  ".join(f"{found.measured_dispersion[window]:8.2f}" for window in windows)
    click.echo(f"{'measured':12}                {measured}", err=True)
    for arrival in found.arrivals:
        fitted = "  ".join(f"{arrival.dispersion[window]:8.2f}" for window in windows)
        click.echo(f"{arrival.process.kind:12}{arrival.score:7.3f} {arrival.gap_distance:7.3f}  {fitted}", err=True)
    click.echo("lengths       prompt KS  output KS", err=True)
    for length in found.lengths:
        click.echo(f"{length.name:12} {length.prompt_distance:10.3f} {length.output_distance:10.3f}", err=True)


def _figure(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, int) or float(value).is_integer():
        return f"{int(value)}"
    return f"{value:.4g}"
