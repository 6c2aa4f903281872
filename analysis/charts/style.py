"""One style for all charts: colours that colour-blind people and grey printers can tell apart, and quiet axes.

Ink, grid and surface are stand-ins that a page may replace by its own colours, to suit light and dark.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

INK, MUTED, GRID, SURFACE = "#1b1f24", "#5c6670", "#d8dde3", "#fefefe"
"""Text and lines that matter; text that does not; grid lines; behind everything."""

HOLDS, BROKEN, UNDECIDED = "#0b7285", "#c2410c", "#868e96"
"""Outcomes of verdicts.  Words or marks say the same wherever they are used."""

_SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#7a5195", "#8c6d31")
"""Okabe and Ito's palette without black and yellow, which vanish on dark and light, and two more."""

_DASHES: tuple[str | tuple[int, tuple[int, ...]], ...] = ("-", (0, (5, 2)), (0, (1, 1)), (0, (5, 1, 1, 1)))
_MARKERS = "osD^vP*X"


def colours(names: Sequence[str]) -> dict[str, str]:
    """A colour for each name, by its place."""
    return {name: _SERIES[place % len(_SERIES)] for place, name in enumerate(names)}


def dashes(names: Sequence[str]) -> dict[str, str | tuple[int, tuple[int, ...]]]:
    """A line style for each name, so that lines can be told apart without colour."""
    return {name: _DASHES[place % len(_DASHES)] for place, name in enumerate(names)}


def markers(names: Sequence[str]) -> dict[str, str]:
    """A marker for each name, so that points can be told apart without colour."""
    return {name: _MARKERS[place % len(_MARKERS)] for place, name in enumerate(names)}


@contextmanager
def chart_style() -> Iterator[None]:
    """Draw what is drawn inside the block in this style."""
    import matplotlib as mpl

    mpl.use("Agg")
    import seaborn as sns
    from cycler import cycler

    settings = {
        **sns.axes_style("whitegrid"),
        **sns.plotting_context("notebook", font_scale=0.85),
        "axes.edgecolor": GRID,
        "axes.facecolor": "none",
        "axes.labelcolor": INK,
        "axes.linewidth": 0.8,
        "axes.prop_cycle": cycler(color=_SERIES),
        "axes.spines.right": False,
        "axes.spines.top": False,
        "axes.titlelocation": "left",
        "axes.titlesize": 10.0,
        "axes.titleweight": "bold",
        "figure.facecolor": SURFACE,
        "font.family": ["DejaVu Sans"],
        "grid.color": GRID,
        "grid.linewidth": 0.6,
        "legend.fontsize": 8.5,
        "legend.frameon": False,
        "lines.linewidth": 1.6,
        "savefig.facecolor": SURFACE,
        "svg.fonttype": "none",
        "text.color": INK,
        "xtick.color": MUTED,
        "xtick.labelcolor": INK,
        "ytick.color": MUTED,
        "ytick.labelcolor": INK,
    }
    with mpl.rc_context(settings):
        yield
