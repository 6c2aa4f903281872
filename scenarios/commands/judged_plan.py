"""The plan that a command judges: read, deployed into the user's scenario, with the SLOs that it is held to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from optimizer.plan import Plan, read_plan
from optimizer.problem import SloTarget
from scenarios.plans.deployment import check_overrides, deployed
from scenarios.replicated import is_trace
from scenarios.scenario_files import load_scenario
from scenarios.schema import Scenario
from scenarios.validation.targets import parse_target, promised_targets


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedPlan:
    """A plan in a scenario."""

    plan: Plan
    scenario: Scenario
    """With the plan deployed."""
    targets: tuple[SloTarget, ...]
    """The SLOs that the user names, or else those that the plan promises."""


def judged_plan(
    plan_file: Path,
    scenario: str,
    *,
    overrides: Sequence[str],
    seed: int | None,
    rate_per_s: float | None,
    slos: Sequence[str],
    window_s: float | None,
) -> JudgedPlan:
    """Read what the arguments and options of a command name; a note says what a trace without windows cannot tell.

    Raises
    ------
    InputError
        A file cannot be read, an SLO or a change of the scenario is wrong, or the plan does not fit the scenario.
    """
    plan = read_plan(plan_file)
    targets = tuple(parse_target(text) for text in slos) or promised_targets(plan, rate_per_s)
    check_overrides(overrides)
    given = load_scenario(scenario, [*overrides, *([] if seed is None else [f"seed={seed}"])])
    planned = deployed(given, plan, rate_per_s=rate_per_s)
    if is_trace(planned.workload) and window_s is None:
        click.echo(
            "Note: replications of a trace have the same requests, so the verdict is about this trace alone; --window "
            "cuts it into parts, for a verdict about traffic like it",
            err=True,
        )
    return JudgedPlan(plan=plan, scenario=planned, targets=targets)
