"""``routerwise export``."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from functools import partial, wraps
from pathlib import Path
from typing import Any

import click

from analysis.exports.perfetto import MAX_BYTES, write_perfetto
from analysis.exports.window import Window
from analysis.slo import Slo
from analysis.stored.run import StoredRun
from latency_models.errors import check_finite, invalid
from scenarios.live_display import Extent, live_display
from scenarios.output_places import check_output
from scenarios.resimulation import resimulate
from sim.results import SimulationResult


@click.group()
def export() -> None:
    """Write a run in the formats of other tools.

    RUN is a run directory of `routerwise run`. It is simulated again for what it does not keep; that the simulation is
    the same one is checked.
    """


def _exporting(command: Callable[..., None]) -> Callable[..., None]:
    """The options that all formats have."""

    @click.argument("run", type=click.Path(path_type=Path))
    @click.option(
        "--replication",
        type=click.IntRange(min=0),
        help="Which replication, from 0; default: 0.",
    )
    @click.option(
        "--out",
        type=click.Path(path_type=Path, dir_okay=False),
        help="File to write; default: NAME.FORMAT.json in the current folder.",
    )
    @click.option("--overwrite", is_flag=True, help="Replace an earlier file.")
    @wraps(command)
    def wrapped(*args: Any, **options: Any) -> None:
        command(*args, **options)

    return wrapped


@export.command()
@_exporting
@click.option(
    "--window",
    metavar="FROM:TO",
    help="Seconds on the simulation clock, e.g. 60:120; one of the two may be left out; default: the whole run.",
)
@click.option(
    "--max-mb",
    type=float,
    default=MAX_BYTES / 1e6,
    show_default=True,
    help="Largest file; what would be larger is refused, with a window that fits.",
)
def perfetto(
    run: Path, replication: int | None, out: Path | None, overwrite: bool, window: str | None, max_mb: float
) -> None:
    """Write a stretch of RUN as a trace for https://ui.perfetto.dev.

    Every engine step, every request with its stages and preemptions, and counters of requests, batch and KV blocks.
    """
    check_finite("--max-mb", max_mb, exclusive=True)
    wanted = Window() if window is None else Window.parse(window)
    source = _Source(run, replication, out, overwrite, "perfetto")
    result = source.simulate(until_s=wanted.to_s)
    about = {"run": str(run), "replication": source.replication, **source.provenance()}
    written = write_perfetto(source.out, result, window=wanted, max_bytes=1e6 * max_mb, about=about)
    click.echo(
        f"{source.out}: {written.steps:,} steps and {written.requests:,} requests from {written.window.from_s:g} to "
        f"{written.window.to_s:g} s, {written.bytes / 1e6:,.1f} MB; open it at https://ui.perfetto.dev"
    )


@export.command("vllm-bench")
@_exporting
def vllm_bench(run: Path, replication: int | None, out: Path | None, overwrite: bool) -> None:
    """Write RUN as the JSON of `vllm bench serve --save-result --save-detailed`, warm-up included."""
    from analysis.vllm_bench import BenchLabels, write_vllm_bench

    source = _Source(run, replication, out, overwrite, "vllm-bench")
    labels = BenchLabels(date=f"{source.started():%Y%m%d-%H%M%S}", label=source.stored.name)
    write_vllm_bench(source.out, source.simulate(), slo=source.slo, labels=labels)
    click.echo(str(source.out))


@export.command()
@_exporting
def guidellm(run: Path, replication: int | None, out: Path | None, overwrite: bool) -> None:
    """Write RUN as a benchmark report of GuideLLM (JSON); the measurement begins after the warm-up."""
    from analysis.exports.guidellm import write_guidellm

    source = _Source(run, replication, out, overwrite, "guidellm")
    write_guidellm(
        source.out,
        source.simulate(),
        name=source.stored.name,
        slo=source.slo,
        warmup_s=source.stored.warmup_s[source.replication],
        epoch_s=source.started().timestamp(),
    )
    click.echo(str(source.out))


class _Source:
    """A run directory and the file to make of it, checked before any work is done."""

    def __init__(self, run: Path, replication: int | None, out: Path | None, overwrite: bool, kind: str) -> None:
        self.stored = StoredRun(run)
        self.replication = replication or 0
        several = self.stored.replications > 1
        if several and replication is None:
            click.echo(f"Note: replication 0 of {self.stored.replications}; --replication chooses another", err=True)
        number = f".replication-{self.replication}" if several else ""
        self.out = Path(f"{self.stored.name}{number}.{kind}.json") if out is None else out
        check_output("--out", self.out, overwrite=overwrite)

    @property
    def slo(self) -> Slo | None:
        """The limits that the run was held against."""
        return self.stored.slo

    def started(self) -> datetime:
        """When the run was simulated."""
        text = self.stored.manifest.get("started")
        try:
            return datetime.fromisoformat(str(text))
        except ValueError:
            path = self.stored.path / "manifest.json"
            raise invalid(f"started in {path}", text, "a date and time", "Simulate the scenario again.") from None

    def provenance(self) -> dict[str, Any]:
        """Where the run came from."""
        manifest = self.stored.manifest
        return {key: manifest[key] for key in ("scenario", "scenario_sha256", "seed", "versions") if key in manifest}

    def simulate(self, **options: float) -> SimulationResult:
        """Simulate the replication again, with progress on a terminal."""
        with live_display(Extent(replications=1, seconds=options.get("until_s"))) as display:
            watch = None if display is None else partial(display, 0)
            return resimulate(self.stored, self.replication, progress=watch, **options)
