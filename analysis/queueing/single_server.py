"""One server: M/M/1, M/D/1, M/G/1 and processor sharing; references in :mod:`analysis.queueing.queue`."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from analysis.queueing.queue import Queue, check_quantile, positive, stable_load
from latency_models.errors import check_finite

_EXPONENTIAL_BEYOND = 40
"""Services after which the tail of M/D/1's wait is exponential to the last digit."""


def mm1(rate_per_s: float, service_s: float) -> Queue:
    """M/M/1: Poisson arrivals, exponential service [Kleinrock, section 3.2]."""
    return mg1(rate_per_s, service_s, service_cv2=1.0)


def md1(rate_per_s: float, service_s: float) -> Queue:
    """M/D/1: Poisson arrivals, constant service [Kleinrock, chapter 5]."""
    return mg1(rate_per_s, service_s, service_cv2=0.0)


def mg1(rate_per_s: float, service_s: float, *, service_cv2: float) -> Queue:
    """M/G/1: Poisson arrivals, any service; the Pollaczek-Khinchine formula [Kleinrock, chapter 5].

    Parameters
    ----------
    rate_per_s, service_s : float
        Arrival rate and mean service time.
    service_cv2 : float
        Squared coefficient of variation of the service time: variance / mean**2.
    """
    load = stable_load(rate_per_s, service_s)
    wait = load * residual_service_s(service_s, service_cv2=service_cv2) / (1 - load)
    return Queue(rate_per_s=rate_per_s, utilisation=load, mean_wait_s=wait, mean_sojourn_s=wait + service_s)


def residual_service_s(service_s: float, *, service_cv2: float) -> float:
    """What is left on average of the service that a random instant falls into [Kleinrock, section 5.2].

    A random instant falls into a long service rather than into a short one: the mean of the services that it falls into
    is service * (1 + cv2), the inspection paradox, and half of that is left.
    """
    return positive("service_s", service_s) * (1 + check_finite("service_cv2", service_cv2)) / 2


def mm1_sojourn_quantile_s(rate_per_s: float, service_s: float, quantile: float) -> float:
    """Quantile of the sojourn time in M/M/1, which is exponential [Kleinrock, chapter 5]."""
    queue = mm1(rate_per_s, service_s)
    check_quantile(quantile)
    return -queue.mean_sojourn_s * math.log1p(-quantile)


def md1_wait_probability(rate_per_s: float, service_s: float, wait_s: float) -> float:
    """P(wait <= wait_s) in M/D/1, by a sum of positive terms.

    With (k - 1) D <= x < k D, P(W <= x) = sum over j < k of Q(k - 1 - j) Poisson(j; rate (k D - x)), where Q(i) is the
    probability that at most i wait.

    References
    ----------
    G. J. Franx, "A simple solution for the M/D/c waiting time distribution", Operations Research Letters 29 (2001).
    """
    load = stable_load(rate_per_s, service_s)
    services = int(check_finite("wait_s", wait_s) / service_s) + 1
    at_most = np.cumsum(_md1_number(load, services + 1))[1:]  # of those that wait: all but the one in service
    mean = rate_per_s * (services * service_s - wait_s)
    terms = np.arange(services)
    logs = terms * math.log(mean) - mean - np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, services)))])
    return min(float(at_most[services - 1 - terms] @ np.exp(logs)), 1.0)


def md1_sojourn_quantile_s(rate_per_s: float, service_s: float, quantile: float) -> float:
    """Quantile of the sojourn time in M/D/1: that of the wait (:func:`md1_wait_probability`) and the service."""
    load = stable_load(rate_per_s, service_s)
    check_quantile(quantile)
    if md1_wait_probability(rate_per_s, service_s, 0.0) >= quantile:
        return service_s
    low, high = 0.0, _EXPONENTIAL_BEYOND * service_s
    beyond = 1 - md1_wait_probability(rate_per_s, service_s, high)
    if beyond > 1 - quantile:
        # The sum would have as many terms as services fit into the wait, very many near load 1.
        return high + service_s * (1 + math.log(beyond / (1 - quantile)) / _md1_decay(load))
    for _ in range(60):
        middle = (low + high) / 2
        if md1_wait_probability(rate_per_s, service_s, middle) < quantile:
            low = middle
        else:
            high = middle
    return high + service_s


def mg1_processor_sharing(rate_per_s: float, service_s: float) -> Queue:
    """M/G/1-PS: the server's speed is shared equally by all present [Harchol, chapter 22].

    The mean sojourn depends on the service time's mean only.  ``mean_wait_s`` is what sharing adds to it.
    """
    load = stable_load(rate_per_s, service_s)
    sojourn = service_s / (1 - load)
    return Queue(rate_per_s=rate_per_s, utilisation=load, mean_wait_s=sojourn - service_s, mean_sojourn_s=sojourn)


def mg1_processor_sharing_sojourn_s(rate_per_s: float, service_s: float, size_s: float) -> float:
    """Mean sojourn in M/G/1-PS of a request that needs ``size_s`` alone: size / (1 - load) [Harchol, chapter 30]."""
    return check_finite("size_s", size_s) / (1 - stable_load(rate_per_s, service_s))


def _md1_decay(load: float) -> float:
    """By which rate per service P(wait > x) of M/D/1 falls far out: the root above 0 of load (exp(r) - 1) = r.

    The other roots are complex with real parts above 2, so that after some twenty services nothing is left of theirs.
    """
    # At the least the line between them is crossed: the root lies beyond -log(load), where exp(r) = 1 / load.
    low, high = -math.log(load), 1.0
    while load * math.expm1(high) < high:
        high *= 2
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if load * math.expm1(middle) < middle else (low, middle)
    return high


def _md1_number(load: float, states: int) -> NDArray[np.float64]:
    """Probabilities of 0, 1, ... ``states`` - 1 in M/D/1.

    With a(i) the Poisson probability of i arrivals in a service and A(i) that of more than i,
    p(n) a(0) = p(0) A(n - 1) + sum over 1 <= k < n of p(k) A(n - k): no term is negative [Kleinrock, chapter 5].
    """
    arrivals = np.exp(
        -load
        + np.arange(states + 1) * math.log(load)
        - np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, states + 1)))])
    )
    more = np.append(np.cumsum(arrivals[::-1])[::-1][1:], 0.0)
    # Beyond the table there is a tail as well, too small to matter except when the table is short.
    more += max(1.0 - float(arrivals.sum()), 0.0)
    found = np.zeros(states)
    found[0] = 1 - load
    for number in range(1, states):
        found[number] = (
            found[0] * more[number - 1] + float(found[1:number] @ more[number - np.arange(1, number)])
        ) / arrivals[0]
    return found
