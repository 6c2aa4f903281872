"""``routerwise show``."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("results", metavar="RUN...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print verdicts and figures as JSON instead of text.")
def show(results: tuple[Path, ...], as_json: bool) -> None:
    """Show results in the terminal: verdict, cluster, latencies, time series, cost.

    RUN is a run directory, a plan, a file of `validate --out`, a folder of `compare`, `stress` or `frontier`, or a
    folder with some of these in it; there may be several. See docs/show.md.
    """
    from analysis.stored.results import read_results

    found = read_results(results)
    if as_json:
        import json

        from analysis.terminal.show import results_json

        click.echo(json.dumps(results_json(found), indent=2, allow_nan=False))
        return
    from analysis.terminal.show import show_results
    from scenarios.summary_table import results_console

    show_results(found, results_console())
