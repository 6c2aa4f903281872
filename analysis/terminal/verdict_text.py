"""A verdict on the terminal: what holds, the figures behind it, and what to know about it."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from analysis.findings.finding import STANDING_WORDS, Verdict

_STYLES = {"holds": "bold green", "broken": "bold red", "undecided": "bold yellow"}


def verdict_text(verdict: Verdict) -> Iterator[RenderableType]:
    """The verdict, the most important first."""
    style = _STYLES.get(verdict.standing, "bold")
    yield Text.assemble((verdict.subject, "bold"), (f"  {verdict.source}", "dim"))
    yield Text.assemble((f"[{STANDING_WORDS[verdict.standing]}]", style), " ", verdict.headline)
    if verdict.figures:
        yield ""
        table = Table(box=None, pad_edge=False, show_header=False)
        table.add_column()
        table.add_column(justify="right", no_wrap=True)
        table.add_column(style="dim")
        for figure in verdict.figures:
            table.add_row(figure.label, Text(figure.value, style=_STYLES.get(figure.standing, "")), figure.detail)
        yield table
    for sentences in (verdict.reasons, verdict.caveats):
        if sentences:
            yield ""
            yield from (Text(f"- {sentence}") for sentence in sentences)


def heading(words: str) -> Text:
    """Heading of a part, after an empty line."""
    return Text.assemble("\n", (words, "bold underline"))


def plain_table(*columns: str) -> Table:
    """A table without lines, its first column to the left and the others to the right; nothing is wrapped."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left", no_wrap=True)
    return table


def wrap_last(table: Table) -> Table:
    """The same table with its last column as text, to the left and in several lines where it is long."""
    table.columns[-1].justify = "left"
    table.columns[-1].no_wrap = False
    return table
