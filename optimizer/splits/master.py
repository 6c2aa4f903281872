"""The linear programme over what is known of one setup: mixtures of assignments and of shares of traffic.

::

    maximise    sum_a lambda_a score_a
    subject to  sum_a lambda_a = 1,   sum_y mu_iy = 1 for each model,
                sum_a lambda_a fraction_ai = sum_y mu_iy y   for each model   (its multiplier is the price p_i),
                sum_i sum_y mu_iy h_ki(y) <= 1               for each SLO     (its multiplier is beta_k).

Its value is a score that can be had, where h is convex; its multipliers are where to look for better assignments and
shares.  :func:`least_excess` is the same without scores: by which factor the limits must grow for there to be any
solution.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Columns:
    """What may be mixed, for the n models that can get traffic.

    Parameters
    ----------
    fractions : ndarray, shape (A, n)
        Splits of the assignments.
    scores : ndarray, shape (A,)
    owner : ndarray of int, shape (Y,)
        Model of each share.
    shares : ndarray, shape (Y,)
    delays : ndarray, shape (K, Y)
        ``h`` of each SLO at each share.
    """

    fractions: Floats
    scores: Floats
    owner: NDArray[np.intp]
    shares: Floats
    delays: Floats


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Mixture:
    """A solution of the programme.

    Parameters
    ----------
    value : float
        Score, or the excess.
    traffic : ndarray, shape (n,)
        Share of each model.
    prices : ndarray, shape (n,)
    betas : ndarray, shape (K,)
    hull : ndarray, shape (K, n)
        Mixed ``h`` of each SLO and model.
    """

    value: float
    traffic: Floats
    prices: Floats
    betas: Floats
    hull: Floats


def best_mixture(columns: Columns) -> Mixture | None:
    """Solve the programme; ``None`` if no solution was found, which :func:`least_excess` can explain."""
    many, models = columns.fractions.shape
    limits = len(columns.delays)
    shares = len(columns.shares)
    equal = np.zeros((1 + 2 * models, many + shares))
    equal[0, :many] = 1.0
    equal[1 + columns.owner, many + np.arange(shares)] = 1.0
    equal[1 + models :, :many] = columns.fractions.T
    equal[1 + models + columns.owner, many + np.arange(shares)] = -columns.shares
    to = np.concatenate([np.ones(1 + models), np.zeros(models)])
    cost = np.concatenate([-columns.scores, np.zeros(shares)])
    below = np.concatenate([np.zeros((limits, many)), columns.delays], axis=1)
    # A little room, so that there is a solution when the least excess is 0.
    solved = _solve(cost, equal, to, below, np.full(limits, 1.0 + _ROUNDING))
    if solved is None:
        return None
    weights, value, multipliers, betas = solved
    return Mixture(
        value=-value,
        traffic=_by_model(columns, weights[many:] * columns.shares),
        prices=-multipliers[1 + models :],
        betas=betas,
        hull=_hull(columns, weights[many:]),
    )


def least_excess(columns: Columns) -> Mixture:
    """Find the split of the traffic that keeps the limits best: ``sum h_k <= 1 + excess`` for every SLO.

    The value is the excess, negative if the limits could shrink.  The shares of all models must be able to sum to 1.
    """
    models = columns.fractions.shape[1]
    limits, shares = columns.delays.shape
    equal = np.zeros((1 + models, shares + 1))
    equal[0, :shares] = columns.shares
    equal[1 + columns.owner, np.arange(shares)] = 1.0
    below = np.concatenate([columns.delays, -np.ones((limits, 1))], axis=1)
    cost = np.append(np.zeros(shares), 1.0)
    solved = _solve(cost, equal, np.ones(1 + models), below, np.zeros(limits))
    if solved is None:
        raise ArithmeticError("the shares of the models do not reach 1")
    weights, value, multipliers, betas = solved
    return Mixture(
        value=value - 1.0,
        traffic=_by_model(columns, weights[:shares] * columns.shares),
        prices=np.full(models, float(multipliers[0])),
        betas=betas,
        hull=_hull(columns, weights[:shares]),
    )


def _by_model(columns: Columns, values: Floats) -> Floats:
    return np.bincount(columns.owner, values, minlength=columns.fractions.shape[1]).astype(np.float64)


def _hull(columns: Columns, weights: Floats) -> Floats:
    mixed = [_by_model(columns, weights * delays) for delays in columns.delays]
    return np.array(mixed).reshape(len(columns.delays), columns.fractions.shape[1])


def _solve(
    cost: Floats, equal: Floats, to: Floats, below: Floats, limits: Floats
) -> tuple[Floats, float, Floats, Floats] | None:
    """Minimise over variables >= 0; returns them, the cost, and the multipliers of equalities and of limits.

    ``None`` if no solution was found.
    """
    from scipy.optimize import linprog

    found = linprog(
        cost,
        A_ub=below if len(below) else None,
        b_ub=limits if len(below) else None,
        A_eq=equal,
        b_eq=to,
        method="highs",
        options={"primal_feasibility_tolerance": _ROUNDING, "dual_feasibility_tolerance": _ROUNDING},
    )
    # Programmes that hardly lack a solution may end as "unknown" instead of infeasible.
    if found.status != 0 or found.x is None:
        return None
    betas = np.maximum(-found.ineqlin.marginals, 0.0) if len(below) else np.zeros(0)
    return found.x, float(found.x @ cost), found.eqlin.marginals, betas
