"""``python -m benchmarks``: measure, print, never judge by the clock."""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import click

from benchmarks.figures import Figure, load, save
from benchmarks.tables import figure_table
from benchmarks.whole_command import command_figures, memory_figures
from latency_models.errors import RouterwiseError

Section = tuple[str, Callable[[], Iterator[Figure]]]

SECTIONS = (
    "command",
    "memory",
    "loads",
    "models",
    "size",
    "length",
    "modes",
    "sharing",
    "optimizer",
    "validation",
    "comparison",
    "planning",
    "reporting",
)


def _loads(repeats: int, requests: int | None) -> Iterator[Figure]:
    # Imported late: the process must still be small while the commands are measured.
    from benchmarks.speed import load_figures

    yield from load_figures(repeats=repeats, requests=requests)


def _models(calls: int, repeats: int) -> Iterator[Figure]:
    from benchmarks.latency_models import latency_model_figures

    yield from latency_model_figures(calls, repeats=repeats)


def _size(sizes: tuple[int, ...], repeats: int) -> Iterator[Figure]:
    from benchmarks.speed import size_figures

    yield from size_figures(sizes, repeats=repeats)


def _length(requests: int, repeats: int) -> Iterator[Figure]:
    from benchmarks.speed import length_figures

    yield from length_figures(requests, repeats=repeats)


def _modes(scale: float, repeats: int) -> Iterator[Figure]:
    from benchmarks.speed import mode_figures

    yield from mode_figures(scale, repeats=repeats)


def _sharing(requests: int, repeats: int) -> Iterator[Figure]:
    from benchmarks.sharing import sharing_figures

    yield from sharing_figures(requests, repeats=repeats)


def _optimizer(scale: float, repeats: int) -> Iterator[Figure]:
    from benchmarks.optimizer import optimizer_figures

    yield from optimizer_figures(scale, repeats=repeats)


def _validation(sizes: tuple[int, ...]) -> Iterator[Figure]:
    from benchmarks.validation import validation_figures

    yield from validation_figures(sizes)


def _comparison(sizes: tuple[int, ...]) -> Iterator[Figure]:
    from benchmarks.comparison import comparison_figures

    yield from comparison_figures(sizes)


def _planning(*, quick: bool) -> Iterator[Figure]:
    from benchmarks.planning import planning_figures

    yield from planning_figures(quick=quick)


def _reporting(requests: int) -> Iterator[Figure]:
    from benchmarks.reporting import reporting_figures

    yield from reporting_figures(requests)


def _sections(*, full: bool, quick: bool, repeats: int) -> list[Section]:
    scale = 0.1 if quick else 1.0
    sizes: tuple[int, ...] = (10_000, 100_000, 1_000_000) if full else (10_000, 30_000, 100_000)
    if quick:
        sizes = (1000, 2000)
    return [
        ("command", partial(command_figures, int(20_000 * scale), repeats=repeats)),
        ("memory", partial(memory_figures, 1_000_000 if full else int(200_000 * scale))),
        ("loads", partial(_loads, repeats, 2000 if quick else None)),
        ("models", partial(_models, int(20_000 * scale), repeats)),
        ("size", partial(_size, sizes, repeats)),
        ("length", partial(_length, int(5000 * scale), repeats)),
        ("modes", partial(_modes, scale, repeats)),
        ("sharing", partial(_sharing, int(10_000 * scale), repeats)),
        ("optimizer", partial(_optimizer, scale, repeats)),
        ("validation", partial(_validation, sizes[1:])),
        ("comparison", partial(_comparison, tuple(size for size in sizes[-2:] if size <= 100_000))),
        ("planning", partial(_planning, quick=quick)),
        ("reporting", partial(_reporting, int(100_000 * scale))),
    ]


def _machine() -> dict[str, str]:
    return {"python": platform.python_version(), "system": platform.platform(), "processor": platform.machine()}


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--full", is_flag=True, help="Up to 1,000,000 requests (minutes); without it, up to 200,000.")
@click.option("--quick", is_flag=True, help="A tenth of the work, to see that everything runs.")
@click.option("--repeats", type=click.IntRange(1, 100), default=3, show_default=True, help="Repeats of a measurement.")
@click.option("--only", type=click.Choice(SECTIONS), multiple=True, help="Measure this part; can be given repeatedly.")
@click.option("--json", "json_file", type=click.Path(path_type=Path, dir_okay=False), help="Write the figures here.")
@click.option(
    "--against",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Print ratios to the figures of an earlier --json.",
)
def bench(
    full: bool, quick: bool, repeats: int, only: tuple[str, ...], json_file: Path | None, against: Path | None
) -> None:
    """Measure the simulator against SimPy's bare timeout loop, which runs side by side in the same process."""
    if full and quick:
        raise click.UsageError("--full and --quick exclude each other")
    earlier = None if against is None else {figure.key: figure.value for figure in load(against)}
    click.echo("Costs are in SimPy timeouts, measured beside each run; CPU time in the process, wall time of commands.")
    if not full:
        click.echo("Up to 200,000 requests; --full goes to 1,000,000." if not quick else "A tenth of the usual work.")
    figures: list[Figure] = []
    for name, measure in _sections(full=full, quick=quick, repeats=repeats):
        if only and name not in only:
            continue
        measured = list(measure())
        figures += measured
        click.echo(f"\n{measured[0].section}")
        for line in figure_table(measured, earlier):
            click.echo(line)
    if json_file is not None:
        save(json_file, figures, _machine())


def main() -> None:
    """Run the command; a user's mistake is one line and exit status 2."""
    try:
        bench.main(standalone_mode=False)
    except click.exceptions.Exit as finished:
        sys.exit(finished.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.exceptions.Abort):
        click.echo("Error: interrupted", err=True)
        sys.exit(130)
    except RouterwiseError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(error.exit_status)
    except OSError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
