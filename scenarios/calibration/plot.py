"""Residual plot of a calibration on steps."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from latency_models.errors import invalid
from scenarios.calibration.step_fit import StepCalibration

SUFFIXES = (".png", ".svg", ".pdf")
_MOST_POINTS = 20_000
_WORST_SHOWN = 99.0
"""Percentile of the absolute errors that the axis reaches; what is beyond sits on its edge."""


def check_plot_path(path: Path) -> None:
    """Refuse a file name that says no picture format, before any work is done."""
    if path.suffix.lower() not in SUFFIXES:
        raise invalid("--plot", str(path), f"a file name that ends in {', '.join(SUFFIXES)}")


def plot_residuals(path: Path, calibration: StepCalibration) -> None:
    """Draw the cross-validated relative error of every step against its measured time and against its number.

    The first picture shows where the law is wrong, the second whether the machine changed while it was measured.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt
    import seaborn as sns

    every = -(-len(calibration.table) // _MOST_POINTS)
    errors_pct = 100.0 * calibration.relative_errors[::every]
    edge = max(1.0, float(np.percentile(np.abs(errors_pct), _WORST_SHOWN)))
    shown = np.clip(errors_pct, -edge, edge)
    labels = calibration.labels[::every]
    kinds = [error.regime for error in calibration.errors if error.regime != "all"]
    with sns.axes_style("whitegrid"):
        figure, axes = plt.subplots(1, 2, figsize=(12, 4.5), sharey=True, layout="constrained")
        for axis, across in (
            (axes[0], 1e3 * calibration.table.duration_s[::every]),
            (axes[1], np.arange(0, len(calibration.table), every)),
        ):
            sns.scatterplot(
                x=across, y=shown, hue=labels, hue_order=kinds, s=8, linewidth=0, alpha=0.5, ax=axis,
                legend=axis is axes[0], rasterized=True,
            )  # fmt: skip
            axis.axhline(0.0, color="black", linewidth=0.8)
        axes[0].set(xscale="log", xlabel="measured step (ms)", ylabel="predicted - measured (% of measured)")
        axes[1].set(xlabel="step of the log")
        figure.suptitle("Cross-validated errors of the step-time law")
    beside = path.with_name(f".{path.stem}.partial{path.suffix}")
    try:
        figure.savefig(beside, dpi=130)
        beside.replace(path)
    finally:
        plt.close(figure)
        beside.unlink(missing_ok=True)
