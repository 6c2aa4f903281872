"""``routerwise engine``."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import click

from scenarios.engine_files import read_engine_settings, read_engine_workload, write_engine_trace
from sim.vllm.engine import EngineMode
from sim.vllm.engine_trace import replay


@click.command()
@click.argument("workload", type=click.Path(path_type=Path))
@click.argument("settings", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder for steps.csv and requests.csv.")
@click.option(
    "--engine-mode",
    type=click.Choice(["macro", "reference"]),
    default="macro",
    show_default=True,
    help="One event per run of steps, or per step.",
)
@click.option("--overwrite", is_flag=True, help="Replace the files of an earlier replay.")
def engine(workload: Path, settings: Path, out: Path, engine_mode: str, overwrite: bool) -> None:
    """Replay WORKLOAD (JSONL) on one replica with SETTINGS (JSON) and write what every step scheduled.

    Both inputs and both outputs have the layout in which runs of vLLM's own scheduler were recorded, so that the two
    can be compared line by line. See docs/engine-traces.md.
    """
    config = read_engine_settings(settings)
    requests, step_arrivals = read_engine_workload(workload)
    trace = replay(
        requests,
        config.engine,
        config.step_time,
        mode=cast(EngineMode, engine_mode),
        idle_sleep_s=config.idle_sleep_s,
        step_arrivals=step_arrivals,
    )
    write_engine_trace(out, trace, overwrite=overwrite)
    click.echo(f"{len(trace.steps)} steps, {len(trace.requests)} requests: {out}/steps.csv, {out}/requests.csv")
