"""``routerwise step``."""

from __future__ import annotations

import sys

import click

from scenarios.commands.shared_options import overrides_option, seed_option
from scenarios.scenario_files import load_scenario
from scenarios.schema import Scenario
from scenarios.stepping.step_view import StepView
from scenarios.stepping.walk import walk_steps

_STEPS = 10
"""How many to print where nobody can be asked."""


@click.command()
@click.argument("scenario")
@click.option("--replica", metavar="MODEL/NUMBER", help="Whose steps, e.g. small-7b/0; default: the first replica's.")
@click.option(
    "--steps",
    type=click.IntRange(min=1),
    help=f"End after so many steps; default: {_STEPS}, or when you quit on a terminal.",
)
@click.option(
    "--from", "from_s", type=float, default=0.0, metavar="SECONDS", help="Begin with the first step from this time on."
)
@overrides_option
@seed_option
@click.option("--json", "as_json", is_flag=True, help="Print the steps as JSON.")
def step(
    scenario: str,
    replica: str | None,
    steps: int | None,
    from_s: float,
    overrides: tuple[str, ...],
    seed: int | None,
    as_json: bool,
) -> None:
    """Walk through the steps of one engine in SCENARIO (a YAML file, or a name from `routerwise scenarios`).

    Shows what each step computes and for whom, its token budget, KV blocks and seats, and who waits and why. On a
    terminal it stops after each step: Enter for the next, n for several, f for the next admission, finish or
    preemption, q to quit.
    """
    seeded = [] if seed is None else [f"seed={seed}"]
    resolved = load_scenario(scenario, [*overrides, *seeded])
    if as_json:
        _print_json(resolved, replica, steps or _STEPS, from_s)
    elif sys.stdin.isatty() and sys.stdout.isatty():
        _walk_by_key(resolved, replica, steps, from_s)
    else:
        _print_steps(resolved, replica, steps or _STEPS, from_s)


def _print_json(scenario: Scenario, replica: str | None, steps: int, from_s: float) -> None:
    import json

    found: list[StepView] = []
    _first(scenario, replica, steps, from_s, found)
    values = {"scenario": scenario.name, "replica": found[0].replica, "steps": [view.as_json() for view in found]}
    click.echo(json.dumps(values, indent=2, allow_nan=False))


def _first(scenario: Scenario, replica: str | None, steps: int, from_s: float, found: list[StepView]) -> None:
    def see(view: StepView) -> bool:
        found.append(view)
        return len(found) < steps

    walk_steps(scenario, see, replica=replica, from_s=from_s)


def _print_steps(scenario: Scenario, replica: str | None, steps: int, from_s: float) -> None:
    from scenarios.stepping.drawing import draw_step
    from scenarios.summary_table import results_console

    console = results_console()
    found: list[StepView] = []
    _first(scenario, replica, steps, from_s, found)
    for view in found:
        draw_step(console, view)


def _walk_by_key(scenario: Scenario, replica: str | None, steps: int | None, from_s: float) -> None:
    from rich.console import Console

    from scenarios.stepping.drawing import draw_skipped, draw_step
    from scenarios.stepping.pace import HELP, Pace

    console = Console(highlight=False)
    pace = Pace(_ask_key, _ask_steps)
    passed: list[StepView] = []
    seen = 0

    def see(view: StepView) -> bool:
        nonlocal seen
        seen += 1
        last = seen == steps
        if not pace.shows(view) and not last:
            passed.append(view)
            return True
        draw_skipped(console, passed)
        passed.clear()
        draw_step(console, view)
        if last:
            return False
        console.print(HELP, style="dim", end="\r")
        goes_on = pace.goes_on()
        console.print(" " * len(HELP), end="\r")
        return goes_on

    shown = walk_steps(scenario, see, replica=replica, from_s=from_s)
    draw_skipped(console, passed)
    console.print(f"{shown:,} step{'s' if shown > 1 else ''}", style="dim")


def _ask_key() -> str:
    try:
        return click.getchar()
    except EOFError:
        return ""


def _ask_steps() -> int | None:
    try:
        steps = int(click.prompt("\nsteps", default="10", show_default=True))
    except ValueError:
        steps = 0
    if steps < 1:
        click.echo("allowed: a whole number, at least 1")
        return None
    return steps
