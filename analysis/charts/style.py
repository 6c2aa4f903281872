"""One style for all charts: colours that colour-blind people and grey printers can tell apart, and quiet axes.

Ink, grid and surface are stand-ins that a page may replace by its own colours, to suit light and dark.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from analysis.short_names import short_names
from analysis.wording import MILLISECONDS, SECONDS, Unit

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK, MUTED, GRID, SURFACE = "#1b1f24", "#5c6670", "#d8dde3", "#fefefe"
"""Text and lines that matter; text that does not; grid lines; behind everything."""

HOLDS, BROKEN, UNDECIDED = "#0b7285", "#c2410c", "#868e96"
"""Outcomes of verdicts.  Words or marks say the same wherever they are used."""

SMALL = 9.0
"""Points; the smallest text that a phone shows well."""

_SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#7a5195", "#8c6d31")
"""Okabe and Ito's palette without black and yellow, which vanish on dark and light, and two more."""

_DASHES: tuple[str | tuple[int, tuple[int, ...]], ...] = ("-", (0, (5, 2)), (0, (1, 1)), (0, (5, 1, 1, 1)))
_MARKERS = "osD^vP*X"

_IN_SECONDS_FROM_S = 5.0

_LEGEND_DROP_PT = 38.0
"""From the axes down past tick labels and the label of the axis."""
_LEGEND_ROW_IN = 0.2
_LINE_CHARACTERS = 49
"""What fits beside each other into a legend as wide as a panel, marks not counted."""


def shortened(name: str, most: int = 22) -> str:
    """A name that fits beside a chart; its end says more than its middle."""
    return name if len(name) <= most else f"{name[: most - 9]}…{name[-8:]}"


def told_apart(names: Iterable[str], most: int = 22) -> dict[str, str]:
    """Short forms of names that appear together, different for different names."""

    def start(name: str) -> str:
        return name if len(name) <= most else f"{name[: most - 1]}…"

    return short_names(names, partial(shortened, most=most), start, gap="…")


def duration_unit(longest_s: float) -> Unit:
    """The unit of an axis of times; whole charts have one."""
    return SECONDS if longest_s >= _IN_SECONDS_FROM_S else MILLISECONDS


def colours(names: Sequence[str]) -> dict[str, str]:
    """A colour for each name, by its place."""
    return {name: _SERIES[place % len(_SERIES)] for place, name in enumerate(names)}


def dashes(names: Sequence[str]) -> dict[str, str | tuple[int, tuple[int, ...]]]:
    """A line style for each name, so that lines can be told apart without colour, and where colours repeat."""
    return {name: _DASHES[(place + place // len(_SERIES)) % len(_DASHES)] for place, name in enumerate(names)}


def markers(names: Sequence[str]) -> dict[str, str]:
    """A marker for each name, so that points can be told apart without colour, and where colours repeat."""
    return {name: _MARKERS[(place + place // len(_SERIES)) % len(_MARKERS)] for place, name in enumerate(names)}


def legend_below(axes: Axes, handles: Sequence[Any] | None = None, *, least: int = 2) -> None:
    """Put the legend under the axes, where no data are, in as many columns as fit.

    Parameters
    ----------
    axes : Axes
        With their label.
    handles : sequence, optional
        What to explain; default: everything on the axes that has a label.
    least : int
        With fewer entries there is no legend.
    """
    from matplotlib.transforms import ScaledTranslation

    if handles is None:
        handles = axes.get_legend_handles_labels()[0]
    if len(handles) < least:
        return
    figure = axes.get_figure()
    assert figure is not None
    drop = ScaledTranslation(0.0, -_LEGEND_DROP_PT / 72.0, figure.dpi_scale_trans)
    axes.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=(0.0, 0.0),
        bbox_transform=axes.transAxes + drop,
        borderaxespad=0.0,
        ncols=_legend_columns([str(handle.get_label()) for handle in handles]),
        columnspacing=1.2,
        handlelength=2.4,
    )


def legend_in(labels: Sequence[str]) -> float:
    """Height of the legend with these labels, in inches."""
    return _LEGEND_ROW_IN * math.ceil(len(labels) / _legend_columns(labels))


def _legend_columns(labels: Sequence[str]) -> int:
    widest = max(map(len, labels), default=0) + 7
    return max(1, min(4, len(labels), _LINE_CHARACTERS // widest))


@contextmanager
def chart_style() -> Iterator[None]:
    """Draw what is drawn inside the block in this style."""
    import matplotlib as mpl

    mpl.use("Agg")
    import seaborn as sns
    from cycler import cycler

    settings = {
        **sns.axes_style("whitegrid"),
        **sns.plotting_context("notebook", font_scale=0.9),
        "axes.edgecolor": GRID,
        "axes.facecolor": "none",
        "axes.labelcolor": INK,
        "axes.linewidth": 0.8,
        "axes.prop_cycle": cycler(color=_SERIES),
        "axes.spines.right": False,
        "axes.spines.top": False,
        "axes.titlecolor": INK,
        "axes.titlelocation": "left",
        "axes.titlesize": 10.0,
        "axes.titleweight": "bold",
        "figure.facecolor": SURFACE,
        "font.family": ["DejaVu Sans", "sans-serif"],
        "grid.color": GRID,
        "grid.linewidth": 0.6,
        "hatch.linewidth": 0.6,
        "legend.fontsize": SMALL,
        "legend.frameon": False,
        "lines.linewidth": 1.6,
        "pdf.fonttype": 42,
        "savefig.facecolor": SURFACE,
        "svg.fonttype": "none",
        "svg.hashsalt": "routerwise",
        "text.color": INK,
        "text.parse_math": False,
        "xtick.color": MUTED,
        "xtick.labelcolor": INK,
        "ytick.color": MUTED,
        "ytick.labelcolor": INK,
    }
    with mpl.rc_context(settings), warnings.catch_warnings():
        # Names in scripts that the font lacks: pages and SVGs keep them as text, and the rest is boxes.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield
