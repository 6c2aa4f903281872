"""``routerwise stress``."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click

from analysis.charts.rendering import write_chart
from analysis.charts.stress import stress_chart, stress_map_chart
from analysis.stored.json_files import RESULT_SCHEMA_VERSION
from analysis.stored.results import read_results
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
from scenarios.replicated import replicating
from scenarios.run_directory import run_directory
from scenarios.scenario_files import dump_scenario
from scenarios.stress.axes import AXES
from scenarios.stress.report import map_rows, point_rows, print_stress, stress_json
from scenarios.stress.search import SearchOptions
from scenarios.stress.stress import Report, Stress, StressOptions
from scenarios.stress.stress import stress as run_stress
from scenarios.studies.setup_tables import write_csv
from scenarios.validation.validate import EXIT_STATUS, ValidationOptions

_FIRST, _MAP_POINTS = 5, 7


@click.command()
@click.argument("plan_file", metavar="PLAN", type=click.Path(path_type=Path, dir_okay=False))
@click.argument("scenario")
@click.option(
    "--axis",
    "axes",
    multiple=True,
    metavar="AXIS[:TARGET]",
    help=f"What to vary, of: {', '.join(AXES)}; targets such as gpu-loss:2. Default: all that have an effect.",
)
@click.option("--map", "map_axes", metavar="AXIS,AXIS", help="Also try all pairs of values of two axes.")
@click.option(
    "--map-points", type=click.IntRange(2, 50), help=f"With --map: values of each of them; default: {_MAP_POINTS}."
)
@click.option("--up-to", multiple=True, metavar="AXIS=VALUE", help="Largest value to try, e.g. load=2 or gpu-loss=300.")
@click.option(
    "--resolution", type=float, default=0.05, show_default=True, help="Width of the brackets, relative to their value."
)
@click.option("--points", type=click.IntRange(min=1), default=12, show_default=True, help="Values per axis at most.")
@overrides_option
@seed_option
@rate_option
@targets_option
@click.option("--confidence", type=float, default=0.95, show_default=True, help="Of the verdict at each value.")
@click.option("--first", type=click.IntRange(min=2), help=f"Replications before a look; default: {_FIRST}.")
@click.option("--most", type=click.IntRange(min=2), default=10, show_default=True, help="Replications at most.")
@window_option
@unanswered_option
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for stress.json, the tables points.csv and map.csv, and pictures.",
)
@click.option("--overwrite", is_flag=True, help="Replace an earlier folder.")
@jobs_option
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON instead of tables.")
def stress(
    plan_file: Path,
    scenario: str,
    axes: tuple[str, ...],
    map_axes: str | None,
    map_points: int | None,
    up_to: tuple[str, ...],
    resolution: float,
    points: int,
    overrides: tuple[str, ...],
    seed: int | None,
    rate_per_s: float | None,
    slos: tuple[str, ...],
    confidence: float,
    first: int | None,
    most: int,
    window_s: float | None,
    unanswered: float,
    out: Path | None,
    overwrite: bool,
    jobs: int | None,
    as_json: bool,
) -> None:
    """Find how far PLAN holds under SCENARIO as things get worse: load, bursts, longer answers, losses, and more.

    Each end of a bracket is a verdict as of `routerwise validate`. Exit status: that of the plan as it is, 0 if it
    holds, 3 if it is broken, 5 if that is undecided. See docs/stress.md.
    """
    if first is not None and first > most:
        raise invalid("--first", first, f"at most --most, {most}")
    if map_points is not None and map_axes is None:
        raise InputError("--map-points is of the axes of a map; give --map too, or leave it out")
    options = StressOptions(
        evidence=ValidationOptions(
            confidence=confidence, first=min(first or _FIRST, most), most=most, tolerance=unanswered, window_s=window_s
        ),
        search=SearchOptions(resolution=resolution, most_points=points),
        up_to=_values(up_to),
        map_points=map_points or _MAP_POINTS,
    )
    judged = judged_plan(
        plan_file, scenario, overrides=overrides, seed=seed, rate_per_s=rate_per_s, slos=slos, window_s=window_s
    )
    plan, planned, targets = judged.plan, judged.scenario, judged.targets
    with run_directory(out, overwrite=overwrite) as folder:
        with replicating(jobs or os.cpu_count() or 1) as replicator, _status() as show:
            found = run_stress(
                planned,
                targets,
                replicator,
                axes=axes,
                map_axes=_pair(map_axes),
                options=options,
                report=show,
            )
        values = {"plan": plan.name, "scenario": planned.name, **stress_json(found)}
        if folder is not None:
            (folder / "scenario.yaml").write_text(dump_scenario(planned), encoding="utf-8")
            _write(folder, found, values)
    if as_json:
        click.echo(json.dumps(values, indent=2, allow_nan=False))
    else:
        print_stress(f"plan {plan.name} on {planned.name}", found)
        if out is not None:
            click.echo(f"\nResults: {out}")
    sys.exit(EXIT_STATUS[found.baseline.outcome])


def _write(folder: Path, found: Stress, values: Mapping[str, Any]) -> None:
    (folder / "stress.json").write_text(json.dumps(values, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    write_csv(folder / "points.csv", point_rows(found))
    if found.map is not None:
        write_csv(folder / "map.csv", map_rows(found.map))
    manifest = {"schema_version": RESULT_SCHEMA_VERSION, "command": "stress", "routerwise": version("routerwise")}
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    written = read_results([folder])
    write_chart(stress_chart(written), folder / "stress.png")
    if found.map is not None:
        write_chart(stress_map_chart(written), folder / "map.png")


def _pair(text: str | None) -> tuple[str, str] | None:
    if text is None:
        return None
    names = text.split(",")
    if len(names) != 2 or not all(names):
        raise invalid("--map", text, "two axes with a comma between them, such as load,bursts")
    return names[0], names[1]


def _values(texts: Sequence[str]) -> dict[str, float]:
    """Numbers of ``AXIS=VALUE``."""
    found = {}
    for text in texts:
        name, _, number = text.partition("=")
        try:
            found[name] = float(number)
        except ValueError:
            raise InputError(f"--up-to is {text!r}; allowed: an axis and a number, such as load=2") from None
    return found


@contextmanager
def _status() -> Iterator[Report | None]:
    """Say on a terminal what is being tried; stay silent in a pipe."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console

    with Console(stderr=True).status("The plan as it is") as status:
        yield lambda text: status.update(f"Trying {text}")
