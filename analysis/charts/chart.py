"""What a chart is: panels that know how to draw themselves, with a sentence on how to read them and their numbers.

A panel is about as wide as a phone, so that the same panel serves a report on any screen and, beside others, a picture
of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from latency_models.errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class NoData(InputError):
    """The results have nothing for a chart to show."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """The numbers behind a chart, as they are shown: a heading per column, and rows of text."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One pair of axes."""

    title: str
    draw: Callable[[Axes], None]
    """Draws data, labels of the axes with units, and a legend if there is more than one thing."""
    size_in: tuple[float, float] = (4.8, 3.1)
    """Width and height, inches."""
    group: str = ""
    """Panels that follow each other and have the same are beside each other in a picture."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """One or several panels that answer one question."""

    kind: str
    """Name that users call it by."""
    title: str
    caption: str
    """What is shown and how to read it, in a sentence or two."""
    panels: tuple[Panel, ...]
    table: Table | None = None
