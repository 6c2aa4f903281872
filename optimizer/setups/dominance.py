"""Options that another option of the same model makes superfluous.

If an option takes no more GPUs, compute or memory than another, and is nowhere slower or weaker under any load, then
any solution with the other stays one with it, at no lower score; the other need not be looked at.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from optimizer.delays.delay import Delay
from optimizer.problem import ModelOptions

_ROUNDING = 1e-12


def dominated(model: ModelOptions, delays: Sequence[Sequence[Delay]]) -> NDArray[np.bool_]:
    """Which options of a model are superfluous, shape (options,); of equal ones, the first is kept.

    Parameters
    ----------
    model : ModelOptions
    delays : sequence over loads of sequences over options of Delay
    """
    costs = np.array([[o.shards, o.compute_share, o.memory_share, o.compute] for o in model.options])
    values = np.concatenate([_on_one_grid(options) for options in delays], axis=1)
    found = np.zeros(len(model.options), dtype=bool)
    for option in range(len(model.options)):
        as_good = (costs <= costs[option] + _ROUNDING).all(axis=1) & (values <= values[option]).all(axis=1) & ~found
        as_good[option] = False
        same = as_good & (costs >= costs[option] - _ROUNDING).all(axis=1) & (values == values[option]).all(axis=1)
        found[option] = bool((as_good & ~same).any() or same[:option].any())
    return found


def _on_one_grid(options: Sequence[Delay]) -> NDArray[np.float64]:
    """Delays of each SLO at every breakpoint of any option, infinite where an option carries nothing; and that alone.

    Between breakpoints all of them are linear, so what holds there holds everywhere.
    """
    grid = np.unique(np.concatenate([option.shares for option in options]))
    rows = []
    for option in options:
        beyond = np.where(grid > option.highest, np.inf, 0.0)
        rows.append(np.concatenate([beyond, *(np.interp(grid, option.shares, v) + beyond for v in option.relative)]))
    return np.array(rows)
