"""Many servers, each with a queue of its own: what choosing among d of them, or the shortest of all, is worth.

References
----------
M. Mitzenmacher, "The power of two choices in randomized load balancing", PhD thesis, Berkeley 1996, and IEEE
Transactions on Parallel and Distributed Systems 12 (2001).
N. D. Vvedenskaya, R. L. Dobrushin, F. I. Karpelevich, "Queueing system with selection of the shortest of two queues",
Problems of Information Transmission 32 (1996).
"""

from __future__ import annotations

from dataclasses import dataclass

from analysis.queueing.many_servers import mmc
from analysis.queueing.queue import Queue, stable_load
from analysis.queueing.single_server import mm1
from latency_models.errors import check_count

_TAIL = 1e-15


def at_least_in_queue(rate_per_s: float, service_s: float, choices: int, number: int) -> float:
    """Share of the servers with at least ``number`` requests, d random choices, infinitely many servers.

    load ** ((d**n - 1) / (d - 1)) [Mitzenmacher, theorem 1]; load ** n for d = 1.  ``rate_per_s`` is that of one
    server; arrivals are Poisson, service exponential.
    """
    load = stable_load(rate_per_s, service_s)
    check_count("choices", choices)
    check_count("number", number, minimum=0)
    # Beyond a few doublings the power is too large for a float and the share is 0.
    power = number if choices == 1 else sum(choices**k for k in range(min(number, 64)))
    return float(load ** min(power, 1e300))


def power_of_choices(rate_per_s: float, service_s: float, choices: int) -> Queue:
    """Shortest of d randomly chosen queues, the limit of infinitely many servers (exact there; see module).

    Parameters
    ----------
    rate_per_s : float
        Arrivals per server.
    service_s : float
        Mean service time, exponential.
    choices : int
        d; 1 sends each request to a random server (M/M/1).
    """
    load = stable_load(rate_per_s, service_s)
    if check_count("choices", choices) == 1:
        return mm1(rate_per_s, service_s)
    present, number = 0.0, 1
    while (share := at_least_in_queue(rate_per_s, service_s, choices, number)) > _TAIL:
        present += share
        number += 1
    sojourn = present / rate_per_s
    return Queue(rate_per_s=rate_per_s, utilisation=load, mean_wait_s=sojourn - service_s, mean_sojourn_s=sojourn)


@dataclass(frozen=True, slots=True, kw_only=True)
class SojournBounds:
    """Between what a mean sojourn must lie."""

    low_s: float
    high_s: float


def shortest_queue_bounds(rate_per_s: float, service_s: float, servers: int) -> SojournBounds:
    """Bounds of the mean sojourn when each request joins the shortest of all queues.

    Below: one queue for all servers (M/M/c), where no server idles while somebody waits.  Above: a random server
    (M/M/1).  ``rate_per_s`` is that of all servers together; service is exponential.

    References
    ----------
    W. Winston, "Optimality of the shortest line discipline", Journal of Applied Probability 14 (1977); M.
    Harchol-Balter, "Performance Modeling and Design of Computer Systems", Cambridge 2013, chapter 24.
    """
    stable_load(rate_per_s, service_s, servers)
    return SojournBounds(
        low_s=mmc(rate_per_s, service_s, servers).mean_sojourn_s,
        high_s=mm1(rate_per_s / servers, service_s).mean_sojourn_s,
    )
