"""``routerwise scores fit``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from latency_models.errors import InputError, invalid
from scenarios.output_places import check_output
from scenarios.prompt_tables.layouts import read_score_file, read_texts
from scenarios.prompt_tables.score_fit import fit_scores
from scenarios.prompt_tables.score_quality import model_qualities, router_gain
from scenarios.prompt_tables.writing import check_table_path, write_table
from sim.prompt_table import PromptTable


@click.group()
def scores() -> None:
    """Learn predicted scores from the texts of prompts."""


@scores.command()
@click.argument("outcomes", type=click.Path(path_type=Path))
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    help="Write the prompt table here: .csv or .parquet.",
)
@click.option("--overwrite", is_flag=True, help="Replace an earlier table.")
@click.option(
    "--texts",
    type=click.Path(path_type=Path),
    help="File of the prompts' texts, by id; default: the `prompt` column of OUTCOMES.",
)
@click.option("--tokens", type=click.Path(path_type=Path), help="File of output tokens, if not in OUTCOMES.")
@click.option("--model", "models", multiple=True, help="Model to keep; repeat it; default: all.")
@click.option("--folds", type=click.IntRange(2, 100), default=5, show_default=True, help="Parts of the cross-fitting.")
@click.option("--seed", type=click.IntRange(min=0), default=1, show_default=True, help="Seed of the folds.")
def fit(
    outcomes: Path,
    out: Path,
    overwrite: bool,
    texts: Path | None,
    tokens: Path | None,
    models: tuple[str, ...],
    folds: int,
    seed: int,
) -> None:
    """Learn to predict OUTCOMES from the texts of the prompts, out of sample, and write a prompt table.

    OUTCOMES holds the scores of answers by prompt and model, in a layout of docs/optimizer.md. Needs scikit-learn
    (`routerwise[router]`).
    """
    check_table_path(out)
    if out.resolve() in {path.resolve() for path in (outcomes, texts, tokens) if path is not None}:
        raise invalid("--out", str(out), "another file; this one is a source")
    check_output("--out", out, overwrite=overwrite)
    source = read_score_file(outcomes, models or None, tokens=tokens)
    if texts is None and source.texts is None:
        raise InputError(f"{outcomes} has no column `prompt`; name a file with the texts: --texts FILE")
    words = source.texts if texts is None else read_texts(texts, source.prompt_ids)
    assert words is not None
    click.echo(
        f"{outcomes.name}: layout {source.layout}, {len(source.prompt_ids)} prompts, {len(source.models)} models"
    )
    if source.left_out:
        click.echo(f"  note: {source.left_out} prompts left out, on which some model was not evaluated")
    with _progress(folds * len(source.models)) as report:
        table = fit_scores(source, words, folds=folds, seed=seed, report=report)
    _print_quality(table)
    write_table(out, table)
    click.echo(f"Prompt table: {out}")


def _print_quality(table: PromptTable) -> None:
    qualities = model_qualities(table)
    width = max(len(name) for name in table.models)
    click.echo(
        f"\n{'model':{width}}    AUC   Brier  of the mean  mean outcome of each tenth by prediction (prediction)"
    )
    for name, quality in qualities.items():
        auc = "    -" if quality.auc is None else f"{quality.auc:.3f}"
        click.echo(f"{name:{width}}  {auc}  {quality.brier:.4f}       {quality.brier_of_mean:.4f}", nl=False)
        click.echo("  " + " ".join(f"{part.outcome:.2f} ({part.predicted:.2f})" for part in quality.calibration))
    gain = router_gain(table)
    change = f"{gain.routed - gain.best_single:+.4f} +- {1.96 * gain.routed_standard_error:.4f}"
    for what, value in (
        (f"\nBest single model, {gain.best_model}", f"{gain.best_single:.4f}"),
        ("Model of the highest prediction", f"{gain.routed:.4f} ({change})"),
        ("Best model by outcome, which no router knows", f"{gain.oracle:.4f}"),
        ("Equal shares of the prompts, by prediction", f"{gain.routed_equally:.4f}"),
        ("Equal shares of the prompts, at random", f"{gain.random_equally:.4f}"),
    ):
        click.echo(f"{what}: mean outcome {value}")


@contextmanager
def _progress(steps: int) -> Iterator[Callable[[], None] | None]:
    """Show progress on a terminal; stay silent in a pipe."""
    if not sys.stderr.isatty():
        yield None
        return
    import rich.progress as rich
    from rich.console import Console

    with rich.Progress(console=Console(stderr=True), transient=True) as display:
        task = display.add_task("Learning", total=steps)
        yield lambda: display.advance(task)
