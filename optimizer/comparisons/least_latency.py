"""How fast a setup can be: the split of one load with the least mean latency, whatever the answers are worth."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from optimizer.delays.delay import DelayTable
from optimizer.problem import LEFT_OUT, Setup

Floats = NDArray[np.float64]

_HALVINGS = 60


def least_delay_split(tables: Sequence[DelayTable], setup: Setup) -> tuple[float, Floats] | None:
    """Find fractions with the least ``sum_i h_i(w_i)`` of the first SLO.

    At a price ``p`` for traffic each model takes ``argmax_y p y - h(y)``, more of it at a higher price; bisection finds
    the price at which they take all of it together.  Exact where every ``h`` is convex, otherwise an upper bound.

    Parameters
    ----------
    tables : sequence of DelayTable, length M
        Of one load.
    setup : tuple of int, length M

    Returns
    -------
    (float, ndarray of shape (M,)) or None
        The sum, relative to the target, and the fractions; ``None`` if the setup cannot carry the load.
    """
    options = [None if k == LEFT_OUT else table.options[k] for table, k in zip(tables, setup, strict=True)]
    highest = np.array([0.0 if option is None else option.highest for option in options])
    if highest.sum() < 1.0:
        return None
    betas = np.zeros(tables[0].slos)
    betas[0] = 1.0

    def taken(price: float) -> Floats:
        return np.array(
            [0.0 if k == LEFT_OUT else table.reply(k, price, betas)[0] for table, k in zip(tables, setup, strict=True)]
        )

    low, high = 0.0, 1.0
    while taken(high).sum() < 1.0 and high < 1e12:
        low, high = high, 2.0 * high
    for _ in range(_HALVINGS):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if taken(middle).sum() < 1.0 else (low, middle)
    less, more = taken(low), taken(high)
    room = float(more.sum() - less.sum())
    share = 1.0 if room <= 0.0 else (1.0 - float(less.sum())) / room
    fractions = less + share * (more - less)
    fractions = fractions / fractions.sum()
    total = sum(
        float(option.at(fraction)[0])
        for option, fraction in zip(options, fractions.tolist(), strict=True)
        if option is not None
    )
    return total, fractions
