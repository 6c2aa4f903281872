"""One way to make a picture: file formats, style, plain numbers on logarithmic axes, and nothing half-written."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from latency_models.errors import InputError, invalid

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FORMATS = (".pdf", ".png", ".svg")
"""Endings of file names that say what kind of picture it is."""

_DOTS_PER_INCH = 110
_UNDATED: dict[str, dict[str, Any]] = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}
"""The same picture is the same file."""


def check_picture_path(option: str, path: Path) -> None:
    """Refuse a place where no picture can be written, before any work is done.

    Raises
    ------
    InputError
        The name ends in no picture format, or the folder does not exist.
    """
    if path.suffix.lower() not in FORMATS:
        raise invalid(option, str(path), f"a file name that ends in {', '.join(FORMATS)}")
    if not path.parent.is_dir():
        raise InputError(f"{option} {path}: the folder {path.parent} does not exist; create it first")


@contextmanager
def picture(
    path: Path, rows: int, columns: int, *, size: tuple[float, float], share_x: Literal["none", "col"] = "none"
) -> Iterator[tuple[Figure, list[list[Axes]]]]:
    """Draw a figure of ``rows`` x ``columns`` panels; the file takes its place when the block ends well.

    Parameters
    ----------
    path : Path
        Where to; its ending says the format.
    rows, columns : int
        Panels.
    size : tuple of float
        Width and height of one panel, in inches.
    share_x : {"none", "col"}
        Whether the panels of a column share their horizontal axis.

    Yields
    ------
    figure, axes
        The figure, and its panels row by row.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt
    import seaborn as sns

    with sns.axes_style("whitegrid"):
        figure, axes = plt.subplots(
            rows, columns, figsize=(size[0] * columns, size[1] * rows), squeeze=False, sharex=share_x
        )
        try:
            yield figure, [list(row) for row in axes]
            figure.tight_layout()
            save_figure(figure, path)
        finally:
            plt.close(figure)


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure beside ``path`` and put it in its place; the ending of the name says the format.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    beside = path.with_name(f".{path.stem}.partial{path.suffix}")
    try:
        figure.savefig(beside, dpi=_DOTS_PER_INCH, bbox_inches="tight", metadata=_UNDATED.get(path.suffix.lower()))
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def logarithmic(axes: Axes, *, x: bool = False, y: bool = False, x_ticks: Sequence[float] = ()) -> None:
    """Make axes with data on them logarithmic, labelled plainly, at ``x_ticks`` only if given."""
    from matplotlib.ticker import FuncFormatter, Locator, LogLocator, MaxNLocator, NullFormatter

    for wanted, axis in ((x, axes.xaxis), (y, axes.yaxis)):
        if not wanted:
            continue
        (axes.set_xscale if axis is axes.xaxis else axes.set_yscale)("log")
        low, high = sorted(axis.get_view_interval())
        # Below a decade the steps 1, 2, 5 would label one place or two; over several decades, too many.
        steps = (1.0, 2.0, 5.0) if high < 300.0 * low else (1.0,)
        locator: Locator = MaxNLocator(5) if high < 10.0 * low else LogLocator(subs=steps, numticks=8)
        axis.set_major_locator(locator)
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
        axis.set_minor_formatter(NullFormatter())
    if x and x_ticks:
        axes.set_xticks(list(x_ticks))
