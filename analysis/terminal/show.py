"""Results on the terminal, whatever command wrote them; and the same as JSON."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any

from rich.console import Console, RenderableType
from rich.rule import Rule

from analysis.findings.verdicts import verdicts
from analysis.stored.results import Results, StoredDocument
from analysis.terminal.document_text import (
    comparison_text,
    frontier_text,
    plan_text,
    stress_text,
    validation_text,
)
from analysis.terminal.run_text import run_text
from analysis.terminal.text_graphics import Canvas
from analysis.terminal.verdict_text import verdict_text

_NARROWEST, _WIDEST = 60, 160
_IN_A_PIPE = 80


def results_canvas(console: Console) -> Canvas:
    """What a console can show: in a pipe or a file, pictures are as wide as a usual terminal."""
    width = console.width if console.is_terminal else _IN_A_PIPE
    return Canvas(width=max(_NARROWEST, min(width, _WIDEST)), blocks="utf" in console.encoding)


def show_results(results: Results, console: Console) -> None:
    """Print results: all verdicts, then each result in detail."""
    canvas = results_canvas(console)
    for number, verdict in enumerate(verdicts(results)):
        if number:
            console.print()
        for part in verdict_text(verdict):
            console.print(part)
    details = list(_details(results, canvas))
    for name, parts in details:
        if len(details) > 1:
            console.print()
            console.print(Rule(name, characters="=" if not canvas.blocks else "━"), width=canvas.width)
        for part in parts:
            console.print(part)


def _details(results: Results, canvas: Canvas) -> Iterator[tuple[str, Iterator[RenderableType]]]:
    kinds: tuple[tuple[str, tuple[StoredDocument, ...], Callable[..., Iterator[RenderableType]]], ...] = (
        ("validation", results.validations, validation_text),
        ("plan", results.plans, plan_text),
        ("stress test", results.stresses, stress_text),
        ("comparison", results.comparisons, comparison_text),
        ("frontier", results.frontiers, frontier_text),
    )
    for run in results.runs:
        yield f"run {run.name}", run_text(run, canvas)
    for kind, documents, text in kinds:
        for document in documents:
            yield f"{kind} {document.name}", text(document, canvas)


def results_json(results: Results) -> dict[str, Any]:
    """Results as plain values, ready for JSON: ``verdicts``, and what each result holds, by kind."""
    runs = [
        {
            "path": str(run.path),
            "name": run.name,
            "manifest": run.manifest,
            "cluster": run.cluster,
            "summary": run.summary,
            "promise": run.promise,
        }
        for run in results.runs
    ]
    kinds = ("plans", "validations", "comparisons", "stresses", "frontiers")
    return {
        "verdicts": [asdict(verdict) for verdict in verdicts(results)],
        "runs": runs,
        **{
            kind: [
                {"path": str(document.path), "name": document.name, "content": document.content}
                for document in getattr(results, kind)
            ]
            for kind in kinds
        },
    }
