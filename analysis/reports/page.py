"""The report: one HTML file with everything in it."""

from __future__ import annotations

import base64
import hashlib
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path

from analysis.findings.finding import STANDING_WORDS
from analysis.findings.verdicts import verdicts
from analysis.reports.chapters import Progress, drawn_chapters
from analysis.reports.glossary import GLOSSARY
from analysis.reports.provenance import origins
from analysis.reports.run_tables import run_tables, side_by_side
from analysis.result_files import replacing
from analysis.stored.results import Results

_MARKS = {"holds": "✓", "broken": "✕", "undecided": "?", "measured": "•", "promised": "○"}
_MOST_OPEN = 8
"""Verdicts beyond so many have their reasons folded."""


def write_report(results: Results, path: Path, *, title: str | None = None, progress: Progress | None = None) -> None:
    """Write the report of results as one HTML file.

    Parameters
    ----------
    results : Results
        What to report on; sections appear when their data is there.
    path : Path
        Where to; an existing file is replaced when the new one is complete.
    title : str, optional
        Default: what the results are about.
    progress : callable, optional
        See :data:`analysis.reports.chapters.Progress`.

    Raises
    ------
    InputError
        A result is incomplete.
    OSError
        The file cannot be written.
    """
    text = report_page(results, title=title, progress=progress)
    with replacing(path) as stream:
        stream.write(text)


def report_page(results: Results, *, title: str | None = None, progress: Progress | None = None) -> str:
    """The report as HTML; see :func:`write_report`."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("analysis.reports", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    script = _template_text("report.js")
    page: str = environment.get_template("report.html.j2").render(
        title=_title(results) if title is None else title,
        contents=_contents(results),
        verdicts=verdicts(results),
        most_open=_MOST_OPEN,
        marks=_MARKS,
        standing_words=STANDING_WORDS,
        side_by_side=side_by_side(results.runs) if len(results.runs) > 1 else None,
        chapters=drawn_chapters(results, progress),
        runs=[(run.name, list(run_tables(run))) for run in results.runs],
        glossary=GLOSSARY,
        origins=origins(results),
        version=version("routerwise"),
        style=_template_text("report.css"),
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )
    return page


def _template_text(name: str) -> str:
    return files("analysis.reports").joinpath("templates", name).read_text(encoding="utf-8")


def _title(results: Results) -> str:
    """What the first kind of result among these is about."""
    kinds = (
        [str(run.scenario["name"]) for run in results.runs],
        [str(document.content["scenario"]) for document in results.validations],
        [document.name for document in results.plans],
        [str(document.content["scenario"]) for document in (*results.stresses, *results.comparisons)],
        [document.name for document in results.frontiers],
    )
    names = list(dict.fromkeys(next(names for names in kinds if names)))
    return " and ".join(names) if len(names) < 3 else f"{names[0]} and {len(names) - 1} others"


def _contents(results: Results) -> str:
    """What the report is on, such as ``2 runs, 1 plan``."""
    counts = {
        "run": len(results.runs),
        "validation": len(results.validations),
        "plan": len(results.plans),
        "stress test": len(results.stresses),
        "comparison": len(results.comparisons),
        "frontier": len(results.frontiers),
    }
    return ", ".join(f"{count} {word}{'s' if count > 1 else ''}" for word, count in counts.items() if count)
