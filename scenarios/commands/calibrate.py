"""``routerwise calibrate``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from latency_models.errors import InputError, invalid

if TYPE_CHECKING:
    from latency_models.catalogue.gpus import GpuSpec
    from scenarios.calibration.configured_steps import ModelNames
    from scenarios.calibration.request_fit import RequestCalibration
    from scenarios.calibration.step_fit import StepCalibration

_KINDS = ("steps", "iteration-log", "vllm-bench", "requests", "grid", "sweep")
_THROUGH_SIMULATOR = ("requests", "sweep")
_UNITS = ("s", "ms", "us", "ns")
_LAWS = ("linear", "steps")


@click.command()
@click.argument("sources", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--from",
    "kind",
    type=click.Choice(["auto", *_KINDS]),
    default="auto",
    show_default=True,
    help="What the files are; auto recognises them by their beginning.",
)
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="Model file (YAML) to write."
)
@click.option(
    "--plot", type=click.Path(path_type=Path, dir_okay=False), help="Residual plot (.png, .svg, .pdf) to write."
)
@click.option(
    "--law",
    type=click.Choice(_LAWS),
    default="linear",
    show_default=True,
    help="Linear, or in physical terms that scale to other models and GPUs (steps).",
)
@click.option(
    "--model",
    "models",
    multiple=True,
    metavar="[NAME_IN_FILE=]NAME",
    help="Law steps: the model, of the catalogue or a config.json; or what a name in a grid means.",
)
@click.option("--gpu", help="Law steps: the GPU, of the catalogue.")
@click.option("--tp", type=click.IntRange(min=1), help="Law steps: tensor-parallel GPUs.")
@click.option("--unit", type=click.Choice(_UNITS), help="Unit of times whose columns do not name one; default: s.")
@click.option(
    "--where", multiple=True, metavar="COLUMN=VALUE", help="Rows of a grid, of requests or of a sweep to take."
)
@click.option("--column", "columns", multiple=True, metavar="NAME=COLUMN", help="Column of requests or of a sweep.")
@click.option(
    "--engine",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Engine settings of the measurement (YAML or JSON).",
)
@click.option("--set", "assignments", multiple=True, metavar="engine.NAME=VALUE", help="One engine setting.")
@click.option("--separate-overhead", is_flag=True, help="Fit the engine's CPU time beside the law, not within it.")
@click.option("--noise", is_flag=True, help="Also write the spread of the steps around the law.")
@click.option("--overwrite", is_flag=True, help="Replace an existing model file or plot.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of the resampling.")
def calibrate(
    sources: tuple[Path, ...],
    kind: str,
    out: Path,
    plot: Path | None,
    law: str,
    models: tuple[str, ...],
    gpu: str | None,
    tp: int | None,
    unit: str | None,
    where: tuple[str, ...],
    columns: tuple[str, ...],
    engine: Path | None,
    assignments: tuple[str, ...],
    separate_overhead: bool,
    noise: bool,
    overwrite: bool,
    seed: int,
) -> None:
    """Fit a step-time model to the measurements SOURCES and write it as a model file.

    Step logs, vLLM's iteration logs, the JSON of `vllm bench serve --save-detailed`, grids of steps, request logs and
    sweeps over concurrency or rate; see docs/calibrate.md. Use the result as `latency: {kind: file, path: OUT}`.
    """
    from scenarios.calibration.engine_given import engine_given
    from scenarios.calibration.plot import residual_plot
    from scenarios.calibration.report import model_values, provenance, write_model
    from scenarios.calibration.sources import kind_of

    _check_outputs(sources, out, plot, overwrite=overwrite)
    named = _pairs("--column", columns)
    found = {path: kind_of(path, named) if kind == "auto" else kind for path in sources}
    if len(set(found.values())) > 1:
        each = ", ".join(f"{path.name} ({name})" for path, name in found.items())
        raise invalid("kinds of the sources", each, "one kind in a calibration", "Calibrate on each kind by itself.")
    kind = next(iter(found.values()))
    settings = engine_given(engine, assignments)
    if settings and kind in ("steps", "grid"):
        raise invalid("engine settings", settings, f"none with {kind}, which say themselves what each step computed")
    physical = _physical(law, models, gpu, tp)
    if kind in _THROUGH_SIMULATOR:
        for name, given in (("--separate-overhead", separate_overhead), ("--noise", noise)):
            if given:
                raise invalid(name, given, f"only where steps are measured; {kind} shows latencies of requests")
        if physical is not None:
            raise invalid("--law", law, f"linear with {kind}; the law steps is fitted where steps are measured")
        if len(sources) > 1:
            raise invalid(
                "number of sources", len(sources), f"one file with {kind}", "Give the same file with all rows."
            )
        calibration: StepCalibration | RequestCalibration = _on_requests(
            sources[0], kind, settings, unit, named, _pairs("--where", where), seed
        )
        values = model_values(calibration, provenance(kind, sources, calibration, None), noise=False)
    else:
        if columns:
            raise invalid("--column", list(columns), f"only with requests and sweeps; the columns of {kind} are fixed")
        steps, origin = _on_steps(
            sources, kind, settings, unit, _pairs("--where", where), separate_overhead, physical, seed
        )
        calibration = steps
        values = model_values(steps, origin, noise=noise)
    with nullcontext() if plot is None else residual_plot(plot, calibration):
        write_model(out, values)
    _print(calibration)
    click.echo(f"Model: {out}" + (f", residual plot: {plot}" if plot is not None else ""))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Physical:
    """What the law in physical terms needs beside the steps."""

    names: ModelNames
    gpu: GpuSpec
    tp: int | None


def _physical(law: str, models: Sequence[str], gpu: str | None, tp: int | None) -> _Physical | None:
    from latency_models.catalogue.gpus import find_gpu
    from scenarios.calibration.configured_steps import model_names

    if law == "linear":
        for name, given in (("--model", list(models) or None), ("--gpu", gpu), ("--tp", tp)):
            if given is not None:
                raise invalid(name, given, "only with --law steps; the linear law knows no model and no GPU")
        return None
    if gpu is None:
        raise InputError("--gpu is missing; allowed with --law steps: the GPU of the measurement, e.g. h100-80gb")
    return _Physical(names=model_names(models), gpu=find_gpu(gpu), tp=tp)


def _check_outputs(sources: Sequence[Path], out: Path, plot: Path | None, *, overwrite: bool) -> None:
    """Refuse places where nothing can be written, or something else would be lost, before any work is done."""
    from scenarios.calibration.plot import check_plot_path
    from scenarios.output_places import check_output

    taken = {path.resolve(): "a source" for path in sources}
    for name, path in (("--out", out), ("--plot", plot)):
        if path is None:
            continue
        if path.resolve() in taken:
            raise invalid(name, str(path), f"another file; this one is {taken[path.resolve()]}")
        check_output(name, path, overwrite=overwrite)
        taken[path.resolve()] = name
    if plot is not None:
        check_plot_path(plot)


def _on_steps(
    sources: Sequence[Path],
    kind: str,
    settings: Mapping[str, Any],
    unit: str | None,
    where: Mapping[str, str],
    separate_overhead: bool,
    physical: _Physical | None,
    seed: int,
) -> tuple[StepCalibration, dict[str, Any]]:
    from scenarios.calibration.configured_steps import read_configured_steps
    from scenarios.calibration.physical_fit import calibrate_steps_law
    from scenarios.calibration.report import provenance
    from scenarios.calibration.sources import Reading, read_steps
    from scenarios.calibration.step_fit import calibrate_on_steps
    from sim.settings import EngineSettings

    reading = Reading(
        engine=EngineSettings.from_mapping(dict(settings)), given=frozenset(settings), unit=unit, where=where
    )
    if physical is None:
        measured = read_steps(kind, sources, reading)
        calibration = calibrate_on_steps(measured, separate_overhead=separate_overhead, seed=seed)
    else:
        configured = read_configured_steps(kind, sources, reading, physical.names, physical.tp)
        measured = configured.measured
        calibration = calibrate_steps_law(configured, physical.gpu, separate_overhead=separate_overhead)
    click.echo(f"{kind}: {measured.rows_read} steps read, {calibration.rows} used")
    for reason, count in measured.dropped.items():
        click.echo(f"  left out: {count} {reason}")
    return calibration, provenance(kind, sources, calibration, measured)


def _on_requests(
    source: Path,
    kind: str,
    settings: Mapping[str, Any],
    unit: str | None,
    columns: Mapping[str, str],
    where: Mapping[str, str],
    seed: int,
) -> RequestCalibration:
    from scenarios.calibration.request_fit import calibrate_on_requests
    from scenarios.calibration.sweep_fit import calibrate_on_sweep

    with _progress() as progress:
        if kind == "sweep":
            return calibrate_on_sweep(
                source, engine=settings, unit=unit, columns=columns, where=where, progress=progress
            )
        return calibrate_on_requests(
            source, engine=settings, unit=unit, columns=columns, where=where, seed=seed, progress=progress
        )


def _pairs(option: str, texts: Sequence[str]) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for text in texts:
        name, separator, value = text.partition("=")
        if not separator or not name:
            raise InputError(f"{option} {text!r} is not of the form NAME=VALUE")
        pairs[name] = value
    return pairs


@contextmanager
def _progress() -> Iterator[Callable[[int], None] | None]:
    """Count simulations on a terminal; stay silent in a pipe."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console

    with Console(stderr=True).status("Fitting through the simulator") as status:
        done = 0

        def show(_: int) -> None:
            nonlocal done
            done += 1
            status.update(f"Fitting through the simulator: {done} simulations")

        yield show


def _print(calibration: StepCalibration | RequestCalibration) -> None:
    """What was found, on standard output; warnings on standard error."""
    from scenarios.calibration.report import coefficient_rows, error_rows, summary_lines

    value = "value (s)" if calibration.latency["kind"] == "linear" else "value (s, or a share)"
    _table(("coefficient", value, "95 % interval", "meaning"), coefficient_rows(calibration), left=(0, 3))
    _table(("cross-validated error", "rows", "median", "P90", "bias"), error_rows(calibration.errors), left=(0,))
    for line in summary_lines(calibration):
        click.echo(line)
    for note in calibration.notes:
        click.echo(f"Note: {note}", err=True)
    for warning in calibration.warnings:
        click.echo(f"Warning: {warning}", err=True)


def _table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]], *, left: tuple[int, ...]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for number, name in enumerate(header):
        table.add_column(name, justify="left" if number in left else "right")
    for row in rows:
        table.add_row(*row)
    console = Console()
    Console(width=None if console.is_terminal else 160).print(table)
