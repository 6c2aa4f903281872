"""``routerwise run``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Literal

import click

from latency_models.errors import InputError
from optimizer.plan import read_plan
from scenarios.commands.shared_options import seed_option
from scenarios.live_display import Extent, live_display
from scenarios.plans.deployment import check_overrides, deployed
from scenarios.plans.promise_table import print_promises
from scenarios.plans.promises import promised_figures
from scenarios.runner import RunOptions, run_scenario
from scenarios.scenario_files import load_scenario
from scenarios.summary_table import print_summary


@click.command()
@click.argument("scenario")
@click.option("--out", type=click.Path(path_type=Path), help="Run directory; default: runs/NAME.")
@click.option("--overwrite", is_flag=True, help="Replace an existing run directory.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change a key, e.g. --set run.until_s=60.")
@seed_option
@click.option(
    "--replications", type=click.IntRange(1, 10_000), help="Independent repetitions, for confidence intervals."
)
@click.option("--warmup", metavar="auto|SECONDS", help="What to leave out of the summary.")
@click.option("--slo", metavar="LIMITS", help='Limits in ms as vllm bench spells them: "ttft:500 tpot:50 e2el:10000".')
@click.option(
    "--engine-mode", type=click.Choice(["macro", "reference"]), help="One event per run of steps, or per step."
)
@click.option(
    "--requests-format",
    type=click.Choice(["csv", "parquet"]),
    default="csv",
    show_default=True,
    help="Format of the table of requests; parquet needs pyarrow.",
)
@click.option(
    "--vllm-bench-json",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Also write the first replication, warm-up included, as vllm bench serve's JSON.",
)
@click.option(
    "--plan",
    "plan_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Deploy and route as this plan says, and show what it promised next to the outcome.",
)
@click.option("--rate", "rate_per_s", type=float, help="With --plan: which of its loads, where it has several.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON instead of a table.")
def run(
    scenario: str,
    out: Path | None,
    overwrite: bool,
    overrides: tuple[str, ...],
    seed: int | None,
    replications: int | None,
    warmup: str | None,
    slo: str | None,
    engine_mode: str | None,
    requests_format: Literal["csv", "parquet"],
    vllm_bench_json: Path | None,
    plan_file: Path | None,
    rate_per_s: float | None,
    as_json: bool,
) -> None:
    """Simulate SCENARIO (a YAML file, or a name from `routerwise scenarios`) and write its run directory."""
    shortcuts = {
        "seed": seed,
        "run.replications": replications,
        "run.warmup": warmup,
        "slo": slo,
        "run.engine_mode": engine_mode,
    }
    assignments = [f"{key}={_yaml_text(value)}" for key, value in shortcuts.items() if value is not None]
    if plan_file is not None:
        check_overrides(overrides)
    resolved = load_scenario(scenario, [*overrides, *assignments])
    plan = None if plan_file is None else read_plan(plan_file)
    if plan is not None:
        resolved = deployed(resolved, plan, rate_per_s=rate_per_s)
    elif rate_per_s is not None:
        raise InputError("--rate names a load of a plan; give --plan too")
    folder = Path("runs") / resolved.name if out is None else out
    options = RunOptions(
        out=folder,
        overwrite=overwrite,
        requests_format=requests_format,
        vllm_bench_json=vllm_bench_json,
        plan=plan,
        rate_per_s=rate_per_s,
    )
    with live_display(Extent.of(resolved)) as progress:
        summary = run_scenario(resolved, options, progress, lambda text: click.echo(f"Note: {text}", err=True))
    figures = [] if plan is None else promised_figures(plan, summary, rate_per_s=rate_per_s)
    if as_json:
        import json

        promise = {"promise": [asdict(figure) for figure in figures]} if figures else {}
        click.echo(json.dumps(summary | promise, indent=2, allow_nan=False))
    else:
        print_summary(resolved.name, summary)
        print_promises(figures)
        click.echo(f"Results: {folder}")


def _yaml_text(value: object) -> str:
    text = str(value)
    return f'"{text}"' if ":" in text else text
