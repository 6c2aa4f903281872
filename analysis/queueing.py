"""Queueing theory: what simple queues do in the steady state, to hold simulations against.

Arrivals come at ``rate_per_s``, are served first come first served unless said otherwise, and need ``service_s``
seconds of one server on average.  Kendall's notation names the formulas.  All results are exact except those of
:func:`allen_cunneen` and :func:`kingman`.

References
----------
[Kleinrock] L. Kleinrock, "Queueing Systems, Volume I: Theory", Wiley 1975.
[Gross] D. Gross, C. M. Harris, "Fundamentals of Queueing Theory", 3rd edition, Wiley 1998.
[Harchol] M. Harchol-Balter, "Performance Modeling and Design of Computer Systems", Cambridge 2013.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from latency_models.errors import check_count, check_finite, invalid


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """Steady state of a queue."""

    rate_per_s: float
    """Arrivals that enter."""
    utilisation: float
    """Share of time that a server is busy (of the capacity, with several); mean number in service if unlimited."""
    mean_wait_s: float
    """From arrival to start of service."""
    mean_sojourn_s: float
    """From arrival to end of service."""

    @property
    def mean_waiting(self) -> float:
        """Mean number that wait (Little's law)."""
        return self.rate_per_s * self.mean_wait_s

    @property
    def mean_in_system(self) -> float:
        """Mean number that wait or are served (Little's law)."""
        return self.rate_per_s * self.mean_sojourn_s


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
    load = _stable(rate_per_s, service_s)
    check_finite("service_cv2", service_cv2)
    wait = load * service_s * (1 + service_cv2) / (2 * (1 - load))
    return Queue(rate_per_s=rate_per_s, utilisation=load, mean_wait_s=wait, mean_sojourn_s=wait + service_s)


def mm1_sojourn_quantile_s(rate_per_s: float, service_s: float, quantile: float) -> float:
    """Quantile of the sojourn time in M/M/1, which is exponential [Kleinrock, chapter 5]."""
    queue = mm1(rate_per_s, service_s)
    _check_quantile(quantile)
    return -queue.mean_sojourn_s * math.log1p(-quantile)


def erlang_b(offered_load: float, servers: int) -> float:
    """Share of arrivals lost in M/G/c/c, where nobody waits [Gross, chapter 2], by the stable recursion on c.

    Parameters
    ----------
    offered_load : float
        Arrival rate times mean service time (erlangs).
    servers : int
        Number of servers c.
    """
    check_finite("offered_load", offered_load)
    blocked = 1.0
    for busy in range(1, check_count("servers", servers) + 1):
        blocked = offered_load * blocked / (busy + offered_load * blocked)
    return blocked


def erlang_c(offered_load: float, servers: int) -> float:
    """Share of arrivals that must wait in M/M/c [Gross, section 2.3], from Erlang B."""
    check_count("servers", servers)
    load = _below_one(check_finite("offered_load", offered_load) / servers)
    blocked = erlang_b(offered_load, servers)
    return blocked / (1 - load * (1 - blocked))


def mmc(rate_per_s: float, service_s: float, servers: int) -> Queue:
    """M/M/c: Poisson arrivals, exponential service, c servers (Erlang C) [Gross, section 2.3]."""
    load = _stable(rate_per_s, service_s, servers)
    wait = erlang_c(rate_per_s * service_s, servers) * service_s / (servers * (1 - load))
    return Queue(rate_per_s=rate_per_s, utilisation=load, mean_wait_s=wait, mean_sojourn_s=wait + service_s)


def mmc_wait_quantile_s(rate_per_s: float, service_s: float, servers: int, quantile: float) -> float:
    """Quantile of the wait in M/M/c: zero for who need not wait, exponential for the rest [Gross, section 2.3]."""
    load = _stable(rate_per_s, service_s, servers)
    _check_quantile(quantile)
    waiting = erlang_c(rate_per_s * service_s, servers)
    if 1 - quantile >= waiting:
        return 0.0
    return math.log(waiting / (1 - quantile)) * service_s / (servers * (1 - load))


@dataclass(frozen=True, slots=True, kw_only=True)
class LossyQueue:
    """Steady state of a queue that turns arrivals away."""

    served: Queue
    """Of the arrivals that are let in; its rate is theirs."""
    rejected_share: float
    """Share of all arrivals that find the system full."""


def mmck(rate_per_s: float, service_s: float, servers: int, capacity: int) -> LossyQueue:
    """M/M/c/K: at most ``capacity`` requests in the system, in service or waiting [Gross, section 2.4].

    Stable at any load.
    """
    offered = _positive("rate_per_s", rate_per_s) * _positive("service_s", service_s)
    check_count("servers", servers)
    check_count("capacity", capacity, minimum=servers)
    # Logarithms of unnormalised state probabilities: factorials and powers overflow.
    logs = [0.0]
    for number in range(1, capacity + 1):
        logs.append(logs[-1] + math.log(offered / min(number, servers)))
    top = max(logs)
    weights = [math.exp(value - top) for value in logs]
    total = math.fsum(weights)
    rejected = weights[-1] / total
    waiting = math.fsum((number - servers) * weights[number] for number in range(servers, capacity + 1)) / total
    entering = rate_per_s * (1 - rejected)
    wait = waiting / entering
    served = Queue(
        rate_per_s=entering,
        utilisation=entering * service_s / servers,
        mean_wait_s=wait,
        mean_sojourn_s=wait + service_s,
    )
    return LossyQueue(served=served, rejected_share=rejected)


def mg_infinity(rate_per_s: float, service_s: float) -> Queue:
    """M/G/infinity: nobody waits; the number in the system is Poisson with mean rate * service [Gross, chapter 5].

    ``utilisation`` is the mean number in service.
    """
    offered = _positive("rate_per_s", rate_per_s) * _positive("service_s", service_s)
    return Queue(rate_per_s=rate_per_s, utilisation=offered, mean_wait_s=0.0, mean_sojourn_s=service_s)


def mg1_processor_sharing(rate_per_s: float, service_s: float) -> Queue:
    """M/G/1-PS: the server's speed is shared equally by all present [Harchol, chapter 22].

    The mean sojourn depends on the service time's mean only.  ``mean_wait_s`` is what sharing adds to it.
    """
    load = _stable(rate_per_s, service_s)
    sojourn = service_s / (1 - load)
    return Queue(rate_per_s=rate_per_s, utilisation=load, mean_wait_s=sojourn - service_s, mean_sojourn_s=sojourn)


def mg1_processor_sharing_sojourn_s(rate_per_s: float, service_s: float, size_s: float) -> float:
    """Mean sojourn in M/G/1-PS of a request that needs ``size_s`` alone: size / (1 - load) [Harchol, chapter 22]."""
    return check_finite("size_s", size_s) / (1 - _stable(rate_per_s, service_s))


def allen_cunneen(
    rate_per_s: float, service_s: float, servers: int, *, arrival_cv2: float, service_cv2: float
) -> Queue:
    """G/G/c, approximately: the wait of M/M/c scaled by the mean of both squared coefficients of variation.

    With one server it is Kingman's heavy-traffic formula; with Poisson arrivals and one server it is exact.

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
    return Queue(
        rate_per_s=rate_per_s, utilisation=poisson.utilisation, mean_wait_s=wait, mean_sojourn_s=wait + service_s
    )


def kingman(rate_per_s: float, service_s: float, *, arrival_cv2: float, service_cv2: float) -> Queue:
    """G/G/1, approximately: :func:`allen_cunneen` with one server."""
    return allen_cunneen(rate_per_s, service_s, 1, arrival_cv2=arrival_cv2, service_cv2=service_cv2)


@dataclass(frozen=True, slots=True, kw_only=True)
class LittlesLaw:
    """The two sides of L = lambda W, measured independently."""

    mean_in_system: float
    """L: by watching the system."""
    rate_times_sojourn: float
    """lambda W: by watching the requests."""

    @property
    def relative_gap(self) -> float:
        """By how much the sides differ, relative to their mean; 0 if both are zero."""
        middle = (self.mean_in_system + self.rate_times_sojourn) / 2
        return abs(self.mean_in_system - self.rate_times_sojourn) / middle if middle > 0 else 0.0


def littles_law(*, mean_in_system: float, rate_per_s: float, mean_sojourn_s: float) -> LittlesLaw:
    """Hold a measured mean number against a measured rate and mean time [Little, Operations Research 9, 1961]."""
    return LittlesLaw(
        mean_in_system=check_finite("mean_in_system", mean_in_system),
        rate_times_sojourn=check_finite("rate_per_s", rate_per_s) * check_finite("mean_sojourn_s", mean_sojourn_s),
    )


def _positive(field: str, value: float) -> float:
    return check_finite(field, value, exclusive=True)


def _stable(rate_per_s: float, service_s: float, servers: int = 1) -> float:
    check_count("servers", servers)
    return _below_one(_positive("rate_per_s", rate_per_s) * _positive("service_s", service_s) / servers)


def _below_one(load: float) -> float:
    if load >= 1:
        raise invalid(
            "load (rate_per_s * service_s / servers)",
            load,
            "less than 1",
            "The queue would grow without end: lower the rate, shorten the service or add servers",
        )
    return load


def _check_quantile(quantile: float) -> None:
    if not 0 <= quantile < 1:
        raise invalid("quantile", quantile, "a number from 0 to below 1")
