"""The queue that an LLM engine is when a step's duration does not depend on its batch: service in bulk.

Poisson arrivals; a server that takes up to ``batch_limit`` of those waiting at once, for a constant time, and never
waits for more to come (N. T. J. Bailey, "On queueing processes with bulk service", J. Royal Statistical Society B 16,
1954, with the rule of M. F. Neuts, "A general class of bulk queues with Poisson input", Annals of Mathematical
Statistics 38, 1967, for a minimum batch of one).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from analysis.queueing.queue import Queue
from latency_models.errors import InputError, check_count, check_finite, invalid

_MAX_STATES = 3000
_TAIL = 1e-13


def batch_service(rate_per_s: float, service_s: float, batch_limit: int | None) -> Queue:
    """M/D/1 with service in batches of 1 to ``batch_limit``.

    Let N be how many wait when a batch ends.  If N > 0, the next batch takes min(N, limit) at once; if N = 0, it takes
    the next arrival.  Either way a Poisson number arrives during the batch, so N is a Markov chain.  Its stationary
    distribution p gives the mean number waiting over a cycle (Markov renewal reward):

        Lq = (service * E[max(N - limit, 0)] + rate * service**2 / 2) / (service + p(0) / rate)

    and Little's law the mean wait.  Without a limit N is Poisson and the result is closed; with one, p is solved on so
    many states that those left out have a probability below 1e-13.

    Parameters
    ----------
    rate_per_s : float
        Arrival rate.
    service_s : float
        Duration of a batch of any size.
    batch_limit : int or None
        Most requests in a batch; ``None`` for no limit.

    Returns
    -------
    Queue
        ``utilisation`` is the share of time that the server is busy, with however few.

    Raises
    ------
    InputError
        If the arrivals of one batch time reach the limit (unstable), or come so near to it that the chain is too large.
    """
    mean = check_finite("rate_per_s", rate_per_s, exclusive=True) * check_finite("service_s", service_s, exclusive=True)
    if batch_limit is None:
        nobody, left_behind = float(np.exp(-mean)), 0.0
    else:
        check_count("batch_limit", batch_limit)
        if mean >= batch_limit:
            raise invalid(
                "rate_per_s * service_s", mean, f"less than the batch limit {batch_limit}", "The queue would never end"
            )
        waiting = _stationary(mean, batch_limit)
        nobody = float(waiting[0])
        left_behind = float(waiting @ np.maximum(np.arange(len(waiting)) - batch_limit, 0))
    cycle_s = service_s + nobody / rate_per_s
    mean_waiting = (service_s * left_behind + mean * service_s / 2) / cycle_s
    wait_s = mean_waiting / rate_per_s
    return Queue(
        rate_per_s=rate_per_s,
        utilisation=service_s / cycle_s,
        mean_wait_s=wait_s,
        mean_sojourn_s=wait_s + service_s,
    )


def _stationary(mean: float, limit: int) -> NDArray[np.float64]:
    """Distribution of the number waiting at the end of a batch."""
    states = 64 + limit + int(mean + 12 * np.sqrt(mean))
    while states <= _MAX_STATES:
        arrivals = _poisson(mean, 2 * states)
        at_least = np.cumsum(arrivals[::-1])[::-1]
        chain = np.zeros((states, states))
        for number in range(states):
            kept = max(number - limit, 0)
            chain[number, kept:-1] = arrivals[: states - kept - 1]
            # What would leave the kept states stays in the last one.
            chain[number, -1] = at_least[states - kept - 1]
        equations = chain.T - np.eye(states)
        # One balance follows from the others; without that of state 0 rounding does not end up in the tail.
        equations[0] = 1.0
        constants = np.zeros(states)
        constants[0] = 1.0
        solution = np.linalg.solve(equations, constants)
        if abs(solution[-1]) < _TAIL:
            waiting: NDArray[np.float64] = np.maximum(solution, 0.0)
            return waiting
        states *= 2
    raise InputError(
        f"rate_per_s * service_s is {mean:g}, too near to the batch limit {limit} to solve; lower the rate, "
        "or use no limit if it is large"
    )


def _poisson(mean: float, states: int) -> NDArray[np.float64]:
    numbers = np.arange(1, states)
    logs = np.concatenate([[0.0], np.cumsum(np.log(mean) - np.log(numbers))]) - mean
    probabilities: NDArray[np.float64] = np.exp(logs)
    return probabilities
