"""Progress of many optimisations on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from optimizer.setups.setup_search import Progress

ShowSteps = Callable[[str, int, int], None]
"""Told what is being done, how many steps are done, and of how many."""


@contextmanager
def study_progress(what: str) -> Iterator[ShowSteps | None]:
    """Show a bar on a terminal; stay silent in a pipe."""
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
    with rich.Progress(*columns, console=Console(stderr=True), transient=True) as display:
        task = display.add_task(what, total=None)

        def show(text: str, done: int, total: int) -> None:
            display.update(task, description=text, completed=done, total=total)

        yield show


def of_search(show: ShowSteps | None, text: str) -> Callable[[Progress], None] | None:
    """A callback for searches, which counts setups."""
    if show is None:
        return None
    return lambda state: show(text, state.solved, state.solved + state.open)
