"""Drawing without a screen, imported when a picture is wanted."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def pictures() -> tuple[Any, Any]:
    """``matplotlib.pyplot`` and seaborn."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    import seaborn as sns

    return plt, sns


def save(plt: Any, figure: Any, path: Path) -> None:
    """Write a figure and forget it."""
    figure.savefig(path, dpi=150)
    plt.close(figure)
