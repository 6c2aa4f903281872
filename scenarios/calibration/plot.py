"""Pictures of the cross-validated errors of a calibration: on steps, on requests, and on the levels of a sweep."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from latency_models.errors import invalid
from latency_models.fits.step_table import Floats
from scenarios.calibration.request_fit import HeldOutLatencies, RequestCalibration
from scenarios.calibration.step_fit import StepCalibration

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SUFFIXES = (".png", ".svg", ".pdf")
_MOST_POINTS = 20_000
_WORST_SHOWN = 99.0
"""Percentile of the absolute errors that the axis reaches; what is beyond sits on its edge."""
_MOST_TICKS = 12
_SIZE = (12.0, 4.8)
_ERROR = "predicted - measured (% of measured)"


def check_plot_path(path: Path) -> None:
    """Refuse a file name that says no picture format, before any work is done."""
    if path.suffix.lower() not in SUFFIXES:
        raise invalid("--plot", str(path), f"a file name that ends in {', '.join(SUFFIXES)}")


@contextmanager
def residual_plot(path: Path, calibration: StepCalibration | RequestCalibration) -> Iterator[None]:
    """Draw the cross-validated errors; the picture takes its place when the block ends well, and is gone otherwise.

    Steps: errors over the measured time, where a misfit of the law shows, and in the order of the log, where a machine
    that changed its speed shows.  Requests: errors over the load at arrival and over the prompt's length.  Sweeps:
    measured and predicted latencies, level by level.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt
    import seaborn as sns

    beside = path.with_name(f".{path.stem}.partial{path.suffix}")
    with sns.axes_style("whitegrid"):
        if isinstance(calibration, StepCalibration):
            figure = _of_steps(calibration)
        elif calibration.held_out.each == "request":
            figure = _of_requests(calibration.held_out)
        else:
            figure = _of_levels(calibration.held_out)
    try:
        figure.savefig(beside, dpi=130)
        yield
        beside.replace(path)
    finally:
        plt.close(figure)
        beside.unlink(missing_ok=True)


def _of_steps(calibration: StepCalibration) -> Figure:
    from matplotlib.ticker import LogFormatter

    every = _stride(len(calibration.table))
    kinds = [error.regime for error in calibration.errors if error.regime != "all"]
    number = np.arange(len(calibration.table))
    figure, axes = _two_panels("Cross-validated errors of the step-time law")
    _scatter(
        axes,
        (1e3 * calibration.table.duration_s[::every], number[::every].astype(np.float64)),
        100.0 * calibration.relative_errors[::every],
        calibration.labels[::every],
        kinds,
    )
    axes[0].set(xscale="log", xlabel="measured step (ms)", ylabel=_ERROR)
    axes[0].xaxis.set_major_formatter("{x:g}")
    axes[0].xaxis.set_minor_formatter(LogFormatter(minor_thresholds=(1.5, 0.5)))
    axes[1].set(xlabel="step of the log" if calibration.noise is not None else "step of the table")
    _legend_below(figure, axes[0])
    return figure


def _of_requests(held_out: HeldOutLatencies) -> Figure:
    parts = {metric: np.flatnonzero(np.isfinite(errors)) for metric, errors in held_out.relative_errors.items()}
    parts = {metric: rows[:: _stride(len(rows))] for metric, rows in parts.items()}
    rows = np.concatenate(list(parts.values()))
    errors = np.concatenate([held_out.relative_errors[metric][chosen] for metric, chosen in parts.items()])
    labels = np.concatenate([np.full(len(chosen), metric.upper()) for metric, chosen in parts.items()])
    figure, axes = _two_panels("Cross-validated errors of each request")
    _scatter(
        axes,
        (held_out.load[rows], held_out.prompt_tokens[rows]),
        100.0 * errors,
        labels,
        [metric.upper() for metric in parts],
    )
    axes[0].set(xlabel=held_out.load_in_words, ylabel=_ERROR)
    axes[1].set(xscale="log", xlabel="prompt tokens")
    _legend_below(figure, axes[0])
    return figure


def _of_levels(held_out: HeldOutLatencies) -> Figure:
    import matplotlib.pyplot as plt

    metrics = list(held_out.measured_s)
    figure, grid = plt.subplots(1, len(metrics), figsize=_SIZE, layout="constrained", squeeze=False)
    figure.suptitle("Means of each level, measured and predicted without it (cross-validated)")
    lengths = np.unique(held_out.prompt_tokens)
    colours = plt.get_cmap("viridis")(np.linspace(0.1, 0.8, len(lengths)))
    for axis, metric in zip(grid[0], metrics, strict=True):
        measured_s = held_out.measured_s[metric]
        predicted_s = measured_s * (1.0 + held_out.relative_errors[metric])
        for length, colour in zip(lengths, colours, strict=True):
            rows = np.flatnonzero(held_out.prompt_tokens == length)
            rows = rows[np.argsort(held_out.load[rows], kind="stable")]
            of = f", {length:g} prompt tokens" if len(lengths) > 1 else ""
            axis.plot(held_out.load[rows], 1e3 * measured_s[rows], "o", color=colour, label=f"measured{of}")
            axis.plot(held_out.load[rows], 1e3 * predicted_s[rows], "x--", color=colour, label=f"predicted{of}")
        axis.set(xscale="log", yscale="log", xlabel=held_out.load_in_words, ylabel=f"mean {metric.upper()} (ms)")
        for scale in (axis.xaxis, axis.yaxis):
            scale.set_major_formatter("{x:g}")
            scale.set_minor_formatter("{x:g}")
        levels = np.unique(held_out.load)
        if len(levels) <= _MOST_TICKS:
            axis.set_xticks(levels)
            axis.set_xticks([], minor=True)
    _legend_below(figure, grid[0][0], markers=1.0)
    return figure


def _two_panels(title: str) -> tuple[Figure, Any]:
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=_SIZE, sharey=True, layout="constrained")
    figure.suptitle(title)
    return figure, axes


def _scatter(axes: Any, across: tuple[Floats, Floats], errors_pct: Floats, labels: Any, kinds: list[str]) -> None:
    """The same errors over two quantities, one panel each."""
    import seaborn as sns

    edge = max(1.0, float(np.percentile(np.abs(errors_pct), _WORST_SHOWN)))
    shown = np.clip(errors_pct, -edge, edge)
    for axis, quantity in zip(axes, across, strict=True):
        sns.scatterplot(
            x=quantity, y=shown, hue=labels, hue_order=kinds, s=8, linewidth=0, alpha=0.5, ax=axis,
            legend=axis is axes[0], rasterized=True,
        )  # fmt: skip
        axis.axhline(0.0, color="black", linewidth=0.8)


def _legend_below(figure: Figure, axis: Axes, *, markers: float = 2.0) -> None:
    """One legend for all panels, where it covers no point."""
    handles, labels = axis.get_legend_handles_labels()
    own = axis.get_legend()
    if own is not None:
        own.remove()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, markerscale=markers, frameon=False)


def _stride(rows: int) -> int:
    return max(1, -(-rows // _MOST_POINTS))
