"""Several servers: Erlang B and C, M/M/c, M/M/c/K, M/G/infinity; references in :mod:`analysis.queueing.queue`."""

from __future__ import annotations

import math
from dataclasses import dataclass

from analysis.queueing.queue import Queue, below_one, check_quantile, positive, stable_load
from latency_models.errors import check_count, check_finite


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
    load = below_one(check_finite("offered_load", offered_load) / servers)
    blocked = erlang_b(offered_load, servers)
    return blocked / (1 - load * (1 - blocked))


def mmc(rate_per_s: float, service_s: float, servers: int) -> Queue:
    """M/M/c: Poisson arrivals, exponential service, c servers (Erlang C) [Gross, section 2.3]."""
    load = stable_load(rate_per_s, service_s, servers)
    wait = erlang_c(rate_per_s * service_s, servers) * service_s / (servers * (1 - load))
    return Queue(rate_per_s=rate_per_s, utilisation=load, mean_wait_s=wait, mean_sojourn_s=wait + service_s)


def mmc_wait_quantile_s(rate_per_s: float, service_s: float, servers: int, quantile: float) -> float:
    """Quantile of the wait in M/M/c: zero for who need not wait, exponential for the rest [Gross, section 2.3]."""
    load = stable_load(rate_per_s, service_s, servers)
    check_quantile(quantile)
    waiting = erlang_c(rate_per_s * service_s, servers)
    if 1 - quantile >= waiting:
        return 0.0
    return math.log(waiting / (1 - quantile)) * service_s / (servers * (1 - load))


def mmc_sojourn_beyond(rate_per_s: float, service_s: float, servers: int, time_s: float) -> float:
    """P(sojourn > time_s) in M/M/c [Gross, section 2.3].

    An exponential service of rate m = 1 / service, after no wait, or with the probability of Erlang C after an
    exponential one of rate t = c m - rate.
    """
    stable_load(rate_per_s, service_s, servers)
    check_finite("time_s", time_s)
    waiting = erlang_c(rate_per_s * service_s, servers)
    served, drained = 1 / service_s, servers / service_s - rate_per_s
    alone = math.exp(-served * time_s)
    if math.isclose(served, drained, rel_tol=1e-6):
        both = (1 + served * time_s) * alone
    else:
        both = (drained * alone - served * math.exp(-drained * time_s)) / (drained - served)
    return (1 - waiting) * alone + waiting * both


def mmc_sojourn_quantile_s(rate_per_s: float, service_s: float, servers: int, quantile: float) -> float:
    """Quantile of the sojourn time in M/M/c, by bisection of :func:`mmc_sojourn_beyond`."""
    check_quantile(quantile)
    low, high = 0.0, mmc(rate_per_s, service_s, servers).mean_sojourn_s
    while mmc_sojourn_beyond(rate_per_s, service_s, servers, high) > 1 - quantile:
        high *= 2
    for _ in range(80):
        middle = (low + high) / 2
        if mmc_sojourn_beyond(rate_per_s, service_s, servers, middle) > 1 - quantile:
            low = middle
        else:
            high = middle
    return high


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
    offered = positive("rate_per_s", rate_per_s) * positive("service_s", service_s)
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
    offered = positive("rate_per_s", rate_per_s) * positive("service_s", service_s)
    return Queue(rate_per_s=rate_per_s, utilisation=offered, mean_wait_s=0.0, mean_sojourn_s=service_s)
