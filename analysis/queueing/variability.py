"""Arrivals and services of any variability: Kingman and Allen-Cunneen, which approximate, and G/M/1, exact."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from analysis.queueing.many_servers import mmc
from analysis.queueing.queue import Queue, positive, stable_load
from latency_models.errors import check_finite


def allen_cunneen(
    rate_per_s: float, service_s: float, servers: int, *, arrival_cv2: float, service_cv2: float
) -> Queue:
    """G/G/c, approximately: the wait of M/M/c scaled by the mean of both squared coefficients of variation.

    With one server it is Kingman's heavy-traffic formula; with Poisson arrivals and one server it is exact.  At light
    load bursts can make the true wait twice as long (see :func:`gamma_m_1`), since two moments do not tell how arrivals
    clump.

    Parameters
    ----------
    rate_per_s, service_s : float
        Arrival rate and mean service time.
    servers : int
        Number of servers c.
    arrival_cv2, service_cv2 : float
        Squared coefficients of variation of the times between arrivals and of the service times.

    References
    ----------
    J. F. C. Kingman, "The single server queue in heavy traffic", Proc. Cambridge Phil. Soc. 57 (1961);
    A. O. Allen, "Probability, Statistics, and Queueing Theory", 2nd edition, Academic Press 1990.
    """
    poisson = mmc(rate_per_s, service_s, servers)
    factor = (check_finite("arrival_cv2", arrival_cv2) + check_finite("service_cv2", service_cv2)) / 2
    wait = poisson.mean_wait_s * factor
    return replace(poisson, mean_wait_s=wait, mean_sojourn_s=wait + service_s)


def kingman(rate_per_s: float, service_s: float, *, arrival_cv2: float, service_cv2: float) -> Queue:
    """G/G/1, approximately: :func:`allen_cunneen` with one server."""
    return allen_cunneen(rate_per_s, service_s, 1, arrival_cv2=arrival_cv2, service_cv2=service_cv2)


def gamma_m_1(rate_per_s: float, service_s: float, *, arrival_cv2: float) -> Queue:
    """G/M/1 with independent gamma gaps between arrivals, exactly [Kleinrock, chapter 6].

    The share s of arrivals that must wait solves s = A((1 - s) / service), with A the Laplace transform of the gaps:
    A(u) = (1 + u cv2 / rate) ** (-1 / cv2).  The mean wait is service * s / (1 - s).
    """
    load = stable_load(rate_per_s, service_s)
    cv2 = positive("arrival_cv2", arrival_cv2)
    waiting = _smallest_root(lambda share: (1 + (1 - share) * cv2 / load) ** (-1 / cv2))
    wait = service_s * waiting / (1 - waiting)
    return Queue(rate_per_s=rate_per_s, utilisation=load, mean_wait_s=wait, mean_sojourn_s=wait + service_s)


def _smallest_root(transform: Callable[[float], float]) -> float:
    """The root of x = transform(x) below 1 of a convex function with transform(1) = 1."""
    low, high = 0.0, 1.0
    for _ in range(100):
        middle = (low + high) / 2
        # Convex: above the diagonal before the root, below it from there to 1.
        if transform(middle) > middle:
            low = middle
        else:
            high = middle
    return low
