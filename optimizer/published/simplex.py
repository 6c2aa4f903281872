"""Projection onto the simplex of routing fractions, with an upper bound on each fraction."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from latency_models.errors import invalid

Floats = NDArray[np.float64]

_ROUNDING = 1e-12


def project_on_simplex(point: Floats, upper: Floats | None = None) -> Floats:
    """Find the nearest ``w`` with ``sum(w) = 1`` and ``0 <= w <= upper``.

    The answer is ``clip(point - shift, 0, upper)``; its sum falls with the shift and is linear between the places where
    an entry meets one of its bounds, so sorting those gives the shift exactly.  Without upper bounds this is the
    projection of Duchi, Shalev-Shwartz, Singer and Chandra (2008, Figure 1).

    Parameters
    ----------
    point : ndarray, shape (M,)
    upper : ndarray, shape (M,), optional
        Upper bounds >= 0; default: 1 each, which binds nothing.

    Raises
    ------
    InputError
        The upper bounds sum to less than 1, or ``point`` is not finite.
    """
    if not np.isfinite(point).all():
        raise invalid("point to project", point.tolist(), "finite numbers")
    ceiling = np.ones_like(point) if upper is None else np.minimum(upper, 1.0)
    room = float(ceiling.sum())
    if room < 1.0 - _ROUNDING:
        raise invalid("sum of the upper bounds of the fractions", room, "at least 1")
    shifts = np.sort(np.concatenate([point, point - ceiling]))
    sums = np.clip(point - shifts[:, None], 0.0, ceiling).sum(axis=1)
    # Sums fall from `room` to 0 along the shifts: find the piece in which they pass 1.
    right = min(int(np.searchsorted(-sums, -1.0, side="left")), len(shifts) - 1)
    left = max(right - 1, 0)
    drop = sums[left] - sums[right]
    share = 0.0 if drop <= 0.0 else min(max((sums[left] - 1.0) / drop, 0.0), 1.0)
    shift = shifts[left] + share * (shifts[right] - shifts[left])
    nearest: Floats = np.clip(point - shift, 0.0, ceiling)
    return nearest
