"""Options that several commands have, spelled and explained alike."""

from __future__ import annotations

import click

from scenarios.validation.validate import TOLERATED_UNANSWERED

overrides_option = click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change a key of the scenario."
)
seed_option = click.option("--seed", type=click.IntRange(min=0), help="Seed of all random streams.")
rate_option = click.option("--rate", "rate_per_s", type=float, help="Which of the plan's loads, where it has several.")
targets_option = click.option(
    "--slo",
    "slos",
    multiple=True,
    metavar="SLO",
    help="Instead of the promised SLOs, as in a problem file: 'metric: ttft, statistic: p95, target_ms: 300'.",
)
window_option = click.option(
    "--window", "window_s", type=float, metavar="SECONDS", help="Parts of a trace that stand for replications."
)
unanswered_option = click.option(
    "--unanswered",
    type=float,
    default=TOLERATED_UNANSWERED,
    show_default=True,
    help="Share of requests without an answer with which an SLO on a mean can still hold.",
)
jobs_option = click.option(
    "--jobs", type=click.IntRange(min=1), help="Processes; default: one per core. Results do not depend on it."
)
