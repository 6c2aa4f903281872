"""``routerwise optimize``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import click

from analysis.result_files import replacing
from latency_models.errors import InputError, check_finite
from optimizer.plan import make_plan
from optimizer.setups.setup_search import Progress
from scenarios.optimisation.methods import METHODS, Infeasible, Limits, find_method, no_plan
from scenarios.optimisation.plan_table import plan_lines, problem_lines
from scenarios.optimisation.problem_file import load_problem
from scenarios.output_places import check_output


@click.command()
@click.argument("problem")
@click.option(
    "--method",
    type=click.Choice(list(METHODS)),
    default="exact",
    show_default=True,
    help="; ".join(f"{name}: {method.says}" for name, method in METHODS.items()) + ".",
)
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Write the plan here, as JSON.")
@click.option("--overwrite", is_flag=True, help="Replace an earlier plan.")
@click.option(
    "--packing",
    type=click.Choice(["compute", "memory"]),
    help="What the shards on a GPU may not exceed: memory and compute shares, or memory alone; default: the file's.",
)
@click.option("--strict", is_flag=True, help="Refuse curves in which a latency falls with load.")
@click.option("--gap", type=float, help="Score that a better plan may have at most; default: 1e-6.")
@click.option(
    "--time-limit",
    type=float,
    metavar="SECONDS",
    help="Stop after this time with the best plan so far and the bound on any other; default: when none can be better.",
)
def optimize(
    problem: str,
    method: str,
    out: Path | None,
    overwrite: bool,
    packing: Literal["compute", "memory"] | None,
    strict: bool,
    gap: float | None,
    time_limit: float | None,
) -> None:
    """Choose setup and routing of PROBLEM (a YAML file, or `demo`) for the highest score that keeps the SLOs.

    Exit status 4 if no plan keeps them; the smallest target that one does, and what binds, is said. See
    docs/optimizer.md.
    """
    chosen = find_method(method)
    chosen.check(method, {"gap": gap, "time_limit": time_limit})
    limits = _limits(gap, time_limit)
    if out is not None:
        check_output("--out", out, overwrite=overwrite)
    read = load_problem(problem, packing=packing, strict=strict)
    for line in problem_lines(read.name, read.problem):
        click.echo(line)
    for note in read.notes:
        click.echo(f"  note: {note}")
    with _progress() as report:
        optimum = chosen.solve(read.problem, limits, report)
    if optimum.best is None:
        raise Infeasible(no_plan(optimum, chosen))
    provenance = {**read.sources, "method": method, "routerwise": version("routerwise"), "numpy": version("numpy")}
    plan = make_plan(
        read.problem,
        optimum,
        name=read.name,
        usable_memory_gib=read.gpu_memory_gib,
        engines=read.engines,
        provenance=provenance,
    )
    for line in plan_lines(plan, read.problem, optimum, chosen):
        click.echo(line)
    if out is not None:
        with replacing(out) as stream:
            stream.write(plan.to_json())
        click.echo(f"Plan: {out}")


def _limits(gap: float | None, time_limit_s: float | None) -> Limits:
    limits = Limits()
    if gap is not None:
        if not 0.0 < gap < 1.0:
            raise InputError(f"--gap is {gap:g}; allowed: a score above 0 and below 1, such as 1e-6")
        limits = replace(limits, gap=gap)
    if time_limit_s is not None:
        check_finite("--time-limit", time_limit_s, exclusive=True)
        limits = replace(limits, time_limit_s=time_limit_s)
    return limits


@contextmanager
def _progress() -> Iterator[Callable[[Progress], None] | None]:
    """Show progress on a terminal; stay silent in a pipe."""
    if not sys.stderr.isatty():
        yield None
        return
    import rich.progress as rich
    from rich.console import Console

    columns = (rich.SpinnerColumn(), rich.TextColumn("{task.description}"), rich.TimeElapsedColumn())
    with rich.Progress(*columns, console=Console(stderr=True), transient=True) as display:
        task = display.add_task("Optimizing", total=None)

        def show(state: Progress) -> None:
            best = "none yet" if state.best < 0.0 else f"{state.best:.6f}"
            text = f"{state.solved} setups solved, {state.open} open; best {best}, bound {state.bound:.6f}"
            display.update(task, description=text)

        yield show
