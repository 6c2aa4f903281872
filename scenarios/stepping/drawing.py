"""A step as lines on a terminal: aligned, coloured where there is colour, complete without it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from scenarios.stepping.step_view import BatchEntry, StepView, Waiting

_MOST_ROWS = 10
"""Requests listed of a batch or a queue; the rest is counted."""

_BAR = 24


def draw_step(console: Console, view: StepView) -> None:
    """Print one step.

    Parameters
    ----------
    console : rich.console.Console
        Where to.
    view : StepView
        The step.
    """
    console.print(_heading(view))
    console.print(_resources(view, unicode=_draws_unicode(console)))
    console.print(_batch(view))
    for label, style, text in _events(view):
        console.print(Text.assemble("  ", (f"{label:<10}", f"bold {style}"), text), soft_wrap=True)
    if view.waiting:
        console.print(_queue(view))
    console.print()


def draw_skipped(console: Console, views: Sequence[StepView]) -> None:
    """Print in one line what happened in steps that are not shown."""
    if views:
        admitted = sum(len(view.admitted) for view in views)
        finished = sum(len(view.finished) for view in views)
        preempted = sum(len(view.preempted) for view in views)
        steps = f"{len(views):,} step{'s' if len(views) > 1 else ''} passed"
        text = f"... {steps}: {admitted:,} admitted, {finished:,} finished, {preempted:,} preempted\n"
        console.print(text, style="dim")


def _draws_unicode(console: Console) -> bool:
    return console.encoding.lower().startswith("utf")


def _heading(view: StepView) -> Text:
    decided = ""
    if view.scheduled_s < view.start_s:
        decided = f", decided at {view.scheduled_s:.4f} s"
    return Text.assemble(
        (f"{view.replica}  step {view.number:,}", "bold reverse"),
        f"  {view.start_s:.4f} s to {view.end_s:.4f} s, ",
        (f"{view.duration_s * 1000:.2f} ms", "bold"),
        decided,
    )


def _resources(view: StepView, *, unicode: bool) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(min_width=8)
    table.add_column()
    table.add_column(justify="right")
    table.add_column()
    for label, used, total, rest in (
        ("tokens", view.tokens, view.token_budget, "left of the budget"),
        ("blocks", view.blocks_used, view.blocks_total, "KV blocks free"),
        ("seats", view.running, view.seats, "free"),
    ):
        style = "red" if used >= total else "yellow" if used > 0.9 * total else "green"
        free = max(0, total - used)
        filled = Text(bar(used, total, unicode=unicode), style)
        table.add_row(label, filled, f"{used:,} of {total:,}", f"{free:,} {rest}")
    return _indented(table)


def bar(used: int, total: int, *, unicode: bool) -> str:
    """``used`` of ``total`` as a bar; more than nothing and less than all always show."""
    filled = 0 if not used else min(max(1, round(_BAR * used / total)), _BAR if used >= total else _BAR - 1)
    full, empty = ("█", "░") if unicode else ("#", ".")
    return full * filled + empty * (_BAR - filled)


def _batch(view: StepView) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(min_width=8)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column()
    shown = _shown(view.batch)
    for number, entry in enumerate(shown):
        style = "cyan" if entry.kind == "prefill" else ""
        table.add_row("batch" if not number else "", entry.request, Text(entry.kind, style), *_progress(entry))
    hidden = len(view.batch) - len(shown)
    if hidden:
        table.add_row("", f"and {hidden:,} more", Text("decode"), f"{hidden:,} tokens", "")
    for number, left_out in enumerate(view.left_out[:_MOST_ROWS]):
        table.add_row("left out" if not number else "", left_out.request, "", "", left_out.why)
    if len(view.left_out) > _MOST_ROWS:
        table.add_row("", f"and {len(view.left_out) - _MOST_ROWS:,} more", "", "", "")
    return _indented(table)


def _shown(batch: Sequence[BatchEntry]) -> list[BatchEntry]:
    """All prefills, and decodes as far as there is room, in the order of the batch."""
    room = max(0, _MOST_ROWS - sum(entry.kind == "prefill" for entry in batch))
    if sum(entry.kind == "decode" for entry in batch) == room + 1:
        room += 1
    decodes = [entry for entry in batch if entry.kind == "decode"][:room]
    listed = {entry.request for entry in decodes}
    return [entry for entry in batch if entry.kind == "prefill" or entry.request in listed]


def _progress(entry: BatchEntry) -> tuple[str, str]:
    tokens = f"{entry.tokens:,} token{'s' if entry.tokens > 1 else ''}"
    if entry.kind == "decode":
        return tokens, f"output {entry.output:,} of {entry.outputs:,}, context {entry.before + 1:,}"
    after = entry.before + entry.tokens
    found = f", {entry.cached_tokens:,} of them from the prefix cache" if entry.cached_tokens else ""
    text = f"{after:,} of {entry.target:,} computed{found}"
    return tokens, f"{text}, output {entry.output:,}" if entry.output else text


def _events(view: StepView) -> Iterator[tuple[str, str, str]]:
    for verb, style in (("admitted", "green"), ("resumed", "green")):
        names = [entry.request for entry in view.batch if entry.entered == verb]
        if names:
            yield verb, style, _names(names)
    for preemption in view.preempted:
        again = f"; {preemption.lost_tokens:,} tokens to compute again"
        yield "preempted", "red", f"{preemption.request}: {preemption.why}{again}"
    if view.finished:
        yield "finished", "magenta", _names(view.finished)
    if view.cancelled:
        yield "cancelled", "red", _names(view.cancelled)


def _names(names: Sequence[str]) -> str:
    more = len(names) - _MOST_ROWS
    return ", ".join(names[:_MOST_ROWS]) + (f" and {more:,} more" if more > 0 else "")


def _queue(view: StepView) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(min_width=8)
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column()
    most = _MOST_ROWS + (len(view.waiting) == _MOST_ROWS + 1)
    for number, waiting in enumerate(view.waiting[:most]):
        label = Text("waiting" if not number else "", "bold yellow")
        table.add_row(label, waiting.request, f"{waiting.tokens:,} tokens", f"{waiting.waited_s:.3f} s", _why(waiting))
    if len(view.waiting) > most:
        table.add_row("", f"and {len(view.waiting) - most:,} more", "", "", "")
    return _indented(table)


def _why(waiting: Waiting) -> str:
    return f"preempted; {waiting.why}" if waiting.preempted else waiting.why


def _indented(table: Table) -> Table:
    outer = Table.grid()
    outer.add_column(width=2)
    outer.add_column()
    outer.add_row("", table)
    return outer
