"""Finding that a machine changed its speed during a measurement: what the law misses then differs from part to part."""

from __future__ import annotations

import numpy as np

from latency_models.fits.step_table import Floats

_BLOCK = 250
"""Consecutive steps whose mean is compared with that of others."""
_LEAST_DIFFERENCE = 0.05
_LEAST_STANDARD_ERRORS = 4.0
_LARGEST = 0.5
"""Relative errors beyond this are cut to it: single steps that hung say nothing of the machine's speed."""


def speed_change_note(relative_errors: Floats) -> str | None:
    """What to tell about errors that shift somewhere in a log.

    Parameters
    ----------
    relative_errors : ndarray, shape (n,)
        (Predicted - measured) / measured of consecutive steps, in the order of the log.

    Returns
    -------
    str or None
        A sentence, if the means of two blocks of 250 steps differ by more than 5 % and by more than 4 standard errors.
    """
    errors = np.clip(relative_errors, -_LARGEST, _LARGEST)
    blocks = len(errors) // _BLOCK
    if blocks < 2:
        return None
    parts = errors[: blocks * _BLOCK].reshape(blocks, _BLOCK)
    means = parts.mean(axis=1)
    low, high = int(means.argmin()), int(means.argmax())
    difference = float(means[high] - means[low])
    standard_error = float(np.sqrt((parts[low].var(ddof=1) + parts[high].var(ddof=1)) / _BLOCK))
    if difference <= max(_LEAST_DIFFERENCE, _LEAST_STANDARD_ERRORS * standard_error):
        return None
    step = _split(errors)
    before, after = float(errors[:step].mean()), float(errors[step:].mean())
    return (
        f"the law's errors shift in the course of the log, most near step {step:,} of {len(errors):,}: on average "
        f"{before:+.1%} before it and {after:+.1%} after it; the machine may have changed its speed (clocks, other "
        "work on it), or the load something that the law lacks. See --plot; measure again, or calibrate on one part"
    )


def _split(errors: Floats) -> int:
    """Where to cut a log in two so that the means of its parts explain most (least squares)."""
    steps = len(errors)
    first = np.arange(_BLOCK, steps - _BLOCK + 1)
    total = np.cumsum(errors)
    before = total[first - 1]
    explained = before**2 / first + (total[-1] - before) ** 2 / (steps - first)
    return int(first[explained.argmax()])
