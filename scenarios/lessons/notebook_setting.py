"""What a lesson's notebook asks of where it runs: how many replications, and what becomes of a picture."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from latency_models.errors import check_count, invalid

if TYPE_CHECKING:
    from matplotlib.figure import Figure

REPLICATIONS_VARIABLE = "ROUTERWISE_LESSON_REPLICATIONS"
"""Environment variable with the number of replications of all notebooks: fewer for a quick look, more to be sure."""

FEWEST_REPLICATIONS = 4
"""With fewer, intervals are too wide to tell a wrong theory from a right one."""


def replications(default: int) -> int:
    """How many replications a notebook simulates: ``default``, or what :data:`REPLICATIONS_VARIABLE` says."""
    text = os.environ.get(REPLICATIONS_VARIABLE)
    if text is None:
        return default
    if not text.strip().isdigit():
        raise invalid(REPLICATIONS_VARIABLE, text, f"an integer >= {FEWEST_REPLICATIONS}")
    return check_count(REPLICATIONS_VARIABLE, int(text), minimum=FEWEST_REPLICATIONS)


def show_picture(figure: Figure, name: str) -> None:
    """Show a figure in the notebook, or write it as ``name.png`` to the working folder if there is no notebook."""
    import matplotlib as mpl
    import matplotlib.pyplot as plt

    figure.tight_layout()
    if "inline" in mpl.get_backend().lower():
        plt.show()
    else:
        figure.savefig(f"{name}.png", dpi=110)
        print(f"picture: {name}.png")
    plt.close(figure)
