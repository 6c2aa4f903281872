"""Servers whose speed depends on how many they serve, as an engine's does that batches.

References
----------
J. W. Cohen, "The multiple phase service network with generalized processor sharing", Acta Informatica 12 (1979).
[Gross] D. Gross, C. M. Harris, "Fundamentals of Queueing Theory", 3rd edition, Wiley 1998, chapter 2.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from analysis.queueing.queue import Queue, positive
from latency_models.errors import InputError, check_count, check_finite, invalid

_MOST_STATES = 200_000
_TAIL = 1e-14


def state_dependent(rate_per_s: float, completions_per_s: Callable[[int], float], *, seats: int | None = None) -> Queue:
    """Poisson arrivals to a server that completes ``completions_per_s(n)`` requests per second when it serves n.

    The probabilities of n are p(n) = p(0) times the product over k <= n of rate / completions(min(k, seats)).

    Without a limit on the seats this is *generalised processor sharing*, which is insensitive: only the mean of the
    work matters [Cohen, theorem 1].  With one, those beyond it wait, first come first served, and work must be
    exponential (answers of geometric length) for the result to be exact [Gross].

    Parameters
    ----------
    rate_per_s : float
        Arrival rate.
    completions_per_s : callable
        Of the number in service, from 1 on.  An engine whose step with n sequences takes t(n), and whose answers have g
        tokens on average, completes n / (g t(n)).
    seats : int, optional
        Most requests in service at once; ``None`` for no limit.

    Returns
    -------
    Queue
        ``utilisation`` is the share of time with at least one request; ``mean_wait_s`` the wait for a seat.

    Raises
    ------
    InputError
        If a completion rate is not positive, or arrivals come faster than the server ever completes (unstable).
    """
    positive("rate_per_s", rate_per_s)
    if seats is not None:
        check_count("seats", seats)
    # Logarithms, since a product over thousands of states overflows.
    log_weight, top = 0.0, 0.0
    logs = [0.0]
    while True:
        number = len(logs)
        served = number if seats is None else min(number, seats)
        speed = check_finite(f"completions_per_s({served})", completions_per_s(served), exclusive=True)
        if seats is not None and number > seats:
            break
        if number > _MOST_STATES:
            raise InputError(_unstable(rate_per_s, speed))
        log_weight += math.log(rate_per_s / speed)
        logs.append(log_weight)
        top = max(top, log_weight)
        if seats is None and rate_per_s < speed and log_weight < top + math.log(_TAIL * (1 - rate_per_s / speed)):
            break
    weights = [math.exp(value - top) for value in logs]
    beyond = waiting = 0.0
    if seats is not None:
        # Beyond the seats the probabilities fall geometrically.
        ratio = rate_per_s / completions_per_s(seats)
        if ratio >= 1:
            raise InputError(_unstable(rate_per_s, completions_per_s(seats)))
        beyond = weights[-1] * ratio / (1 - ratio)
        waiting = weights[-1] * ratio / (1 - ratio) ** 2
    total = math.fsum(weights) + beyond
    served_mean = math.fsum(number * weight for number, weight in enumerate(weights)) / total
    served_mean += (0 if seats is None else seats) * beyond / total
    wait = waiting / total / rate_per_s
    return Queue(
        rate_per_s=rate_per_s,
        utilisation=1 - weights[0] / total,
        mean_wait_s=wait,
        mean_sojourn_s=wait + served_mean / rate_per_s,
    )


def batching_engine(rate_per_s: float, tokens: float, base_s: float, per_sequence_s: float) -> Queue:
    """An engine that batches without a limit, whose step with n sequences takes ``base_s + n * per_sequence_s``.

    :func:`state_dependent` in closed form.  With a = base_s, b = per_sequence_s, g = tokens and load r = rate g b, the
    number of sequences is negative binomial: p(n) is proportional to r**n times the product over k <= n of
    1 + a / (b k).  Hence the mean number is (1 + a / b) r / (1 - r), the mean time g (a + b) / (1 - r), and nobody is
    there with probability (1 - r) ** (1 + a / b).

    Parameters
    ----------
    rate_per_s : float
        Poisson arrivals per second.
    tokens : float
        Mean number of tokens of an answer, of any distribution; each takes a step.
    base_s, per_sequence_s : float
        Duration of a step: what it takes at all, and what each sequence adds.

    Returns
    -------
    Queue
        ``utilisation`` is the share of time with at least one sequence, not the load; nobody waits for a seat.
    """
    positive("rate_per_s", rate_per_s)
    added = positive("tokens", tokens) * positive("per_sequence_s", per_sequence_s)
    check_finite("base_s", base_s)
    load = rate_per_s * added
    if load >= 1:
        raise InputError(_unstable(rate_per_s, 1 / added))
    return Queue(
        rate_per_s=rate_per_s,
        utilisation=-math.expm1((1 + base_s / per_sequence_s) * math.log1p(-load)),
        mean_wait_s=0.0,
        mean_sojourn_s=tokens * (base_s + per_sequence_s) / (1 - load),
    )


def _unstable(rate_per_s: float, speed: float) -> str:
    return str(
        invalid(
            "rate_per_s",
            rate_per_s,
            f"less than the {speed:g} requests/s that a full batch completes",
            "The queue would grow without end: lower the rate, or allow more seats",
        )
    )
