"""``routerwise profile``."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from analysis.pictures import check_picture_path
from analysis.result_files import replacing
from latency_models.curves.load_latency import LoadLatencyCurve
from latency_models.curves.load_latency_files import curves_to_csv, curves_to_json
from latency_models.errors import InputError
from scenarios.commands.shared_options import jobs_option
from scenarios.profiles.cache import default_cache_dir
from scenarios.profiles.plot import plot_curves
from scenarios.profiles.runner import ProfileOptions, Progress, run_profile
from scenarios.profiles.schema import load_profile


@click.command()
@click.argument("spec")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    required=True,
    help="Folder for curves.json and curves.csv, or a file whose name ends in .json.",
)
@click.option("--overwrite", is_flag=True, help="Replace earlier curves.")
@click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change a key, e.g. --set profile.tp=[1,2]."
)
@jobs_option
@click.option(
    "--cache",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where runs are remembered; default: the user's cache.",
)
@click.option("--no-cache", is_flag=True, help="Simulate every run, and remember none.")
@click.option(
    "--plot", type=click.Path(path_type=Path, dir_okay=False), help="Also draw the curves: .png, .svg or .pdf."
)
def profile(
    spec: str,
    out: Path,
    overwrite: bool,
    overrides: tuple[str, ...],
    jobs: int | None,
    cache: Path | None,
    no_cache: bool,
    plot: Path | None,
) -> None:
    """Simulate SPEC's models over load and write load-latency curves.

    SPEC is a YAML file: a scenario with a `profile` section; or a scenario, or a name from `routerwise scenarios`.
    After Ctrl-C the same command goes on where it was. See docs/profile.md.
    """
    if no_cache and cache is not None:
        raise InputError("--cache has no effect with --no-cache; give one of them")
    resolved = load_profile(spec, overrides)
    files = _outputs(out)
    for file in files:
        if file.exists() and not overwrite:
            raise InputError(f"--out {file} exists already; choose another place, or give --overwrite to replace it")
    if plot is not None:
        check_picture_path("--plot", plot)
        _check_writable("--plot", plot, plot.parent)
    _check_writable("--out", out, files[0].parent)
    cache_dir = None if no_cache else cache or default_cache_dir()
    if cache_dir is not None:
        _check_writable("--cache" if cache else "--cache (the default)", cache_dir, cache_dir)
    options = ProfileOptions(jobs=jobs or os.cpu_count() or 1, cache_dir=cache_dir)
    with _progress() as report:
        try:
            curves = run_profile(resolved, options, report)
        except (KeyboardInterrupt, SystemExit) as ended:
            _say_how_to_go_on(ended, remembered=cache_dir is not None)
            raise
    files[0].parent.mkdir(parents=True, exist_ok=True)
    for file in files:
        with replacing(file) as stream:
            stream.write(curves_to_json(curves) if file.suffix == ".json" else curves_to_csv(curves))
    if plot is not None:
        plot_curves(curves, plot)
    for curve in curves:
        _print_curve(curve)
    click.echo(f"Curves: {out}")


def _check_writable(option: str, given: Path, folder: Path) -> None:
    """Refuse a folder in which no file can be made, before any work is done; it need not exist yet."""
    nearest = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    try:
        with tempfile.NamedTemporaryFile(dir=nearest, prefix=".routerwise."):
            pass
    except OSError as error:
        raise InputError(
            f"{option} {given}: no file can be written in {nearest} ({error.strerror}); choose another place"
        ) from None


def _say_how_to_go_on(ended: BaseException, *, remembered: bool) -> None:
    """Say what becomes of the work when the command is asked to end; SIGTERM, unlike Ctrl-C, has no other message."""
    if isinstance(ended, SystemExit):
        click.echo("Error: asked to end (SIGTERM); no curves were written", err=True)
    if remembered:
        click.echo("Runs that have ended are remembered; the same command goes on from there.", err=True)


def _outputs(out: Path) -> list[Path]:
    if out.suffix == ".json":
        if not out.parent.is_dir():
            raise InputError(f"--out {out}: the folder {out.parent} does not exist; create it first")
        return [out]
    if out.exists() and not out.is_dir():
        raise InputError(f"--out {out} is a file; allowed: a folder, or a file whose name ends in .json")
    return [out / "curves.json", out / "curves.csv"]


def _print_curve(curve: LoadLatencyCurve) -> None:
    click.echo(str(curve.configuration))
    assert curve.stability_per_s is not None
    low, high = curve.stability_per_s
    if curve.provenance["limit_wide"]:
        click.echo(
            f"  WARNING: the stability limit is only known to lie between {low:.4g} and {high:.4g} requests/s, and no "
            f"load above {low:.4g} was measured; raise profile.requests, which is {curve.provenance['requests']}, to "
            f"about {curve.provenance['limit_requests_needed']}"
        )
    else:
        click.echo(f"  stable up to {low:.4g} requests/s, backlog grows from {high:.4g} on")
    click.echo(f"  {len(curve.rates_per_s)} loads, 0 to {curve.rates_per_s[-1]:.4g} requests/s")
    for note in curve.provenance["notes"]:
        click.echo(f"  note: {note}")
    left_out = curve.provenance["rates_beyond_limit_per_s"]
    if left_out:
        click.echo(f"  left out, not known to be stable: {', '.join(f'{rate:g}' for rate in left_out)} requests/s")
    for name in ("ttft_mean_s", "tpot_mean_s", "e2e_mean_s"):
        if name in curve.statistics:
            values = curve.statistics[name]
            click.echo(
                f"  {name:12} {values[0]:.4g} alone, {values[-1]:.4g} at the highest load; {_convexity(curve, name)}"
            )


def _convexity(curve: LoadLatencyCurve, statistic: str) -> str:
    found = curve.convexity(statistic)
    if found.convex:
        return "load x latency is convex"
    where = f"{found.at_rate_per_s:.4g} requests/s, by {found.worst_violation:.1%}"
    return f"load x latency is not convex at {where} ({'more than noise' if found.significant else 'within noise'})"


@contextmanager
def _progress() -> Iterator[Callable[[Progress], None] | None]:
    """Show progress on a terminal; stay silent in a pipe."""
    if not sys.stderr.isatty():
        yield None
        return
    import rich.progress as rich
    from rich.console import Console

    columns = (
        rich.TextColumn("{task.description}"),
        rich.BarColumn(),
        rich.MofNCompleteColumn(),
        rich.TimeElapsedColumn(),
    )
    with rich.Progress(*columns, console=Console(stderr=True)) as display:
        task = display.add_task("Profiling", total=None)

        def show(state: Progress) -> None:
            text = f"Profiling: curve {min(state.curves_done + 1, state.curves)} of {state.curves}"
            if state.runs_from_cache:
                text += f", {state.runs_from_cache} runs from the cache"
            display.update(task, description=text, completed=state.runs_done, total=state.runs_wanted)

        yield show
