"""How many servers: the square-root rule, and the exact number by Erlang C.

How exact the rule is: for offered loads from 0.3 to 1,000 it gives the exact number or one server fewer where at
least 5 % may wait, or the mean wait may be 0.02 services or more.  For stricter targets, down to 1 % or 0.001 services,
it gives up to two fewer.

References
----------
S. Halfin, W. Whitt, "Heavy-traffic limits for queues with many exponential servers", Operations Research 29 (1981).
S. Borst, A. Mandelbaum, M. I. Reiman, "Dimensioning large call centers", Operations Research 52 (2004).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

from analysis.queueing.many_servers import erlang_c, mmc
from analysis.queueing.queue import positive
from latency_models.errors import check_finite, invalid

_MOST_SERVERS = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Staffing:
    """Servers for a load, by the rule and exactly."""

    offered_load: float
    """Arrival rate times mean service time: servers that would be busy all the time."""
    headroom: float
    """beta: servers beyond the offered load, in square roots of it, by the rule."""
    square_root_servers: int
    """offered load + beta * sqrt(offered load), rounded up."""
    exact_servers: int
    """The least number that keeps the target by Erlang C; the rule gives none, one, or for strict
    targets two fewer."""
    wait_probability: float
    """With the exact number."""
    mean_wait_s: float
    """Likewise."""
    utilisation: float
    """Likewise."""


def halfin_whitt_probability(headroom: float) -> float:
    """Share of arrivals that wait with many servers, offered load R and R + headroom * sqrt(R) servers.

    [1 + beta Phi(beta) / phi(beta)]^-1 [Halfin and Whitt, proposition 1], the limit of Erlang C for large R.
    """
    check_finite("headroom", headroom)
    normal = NormalDist()
    density = normal.pdf(headroom)
    return 0.0 if density == 0 else 1 / (1 + headroom * normal.cdf(headroom) / density)


def staffing_for_wait_probability(rate_per_s: float, service_s: float, target: float) -> Staffing:
    """Servers with which at most the share ``target`` of arrivals wait (M/M/c)."""
    if not 0 < target < 1:
        raise invalid("target (share that may wait)", target, "a share between 0 and 1, exclusive")
    offered = _offered(rate_per_s, service_s)
    headroom = _least(lambda beta: halfin_whitt_probability(beta) <= target)
    return _staffing(
        rate_per_s, service_s, headroom, _fewest(offered, lambda servers: erlang_c(offered, servers) <= target)
    )


def staffing_for_mean_wait(rate_per_s: float, service_s: float, target_s: float) -> Staffing:
    """Servers with which the mean wait is at most ``target_s`` (M/M/c)."""
    positive("target_s (mean wait)", target_s)
    offered = _offered(rate_per_s, service_s)
    # With s servers the mean wait is P(wait) * service / (s - offered), and s - offered = beta sqrt(offered).
    headroom = _least(
        lambda beta: beta > 0 and halfin_whitt_probability(beta) * service_s / (beta * math.sqrt(offered)) <= target_s
    )
    return _staffing(
        rate_per_s,
        service_s,
        headroom,
        _fewest(offered, lambda servers: mmc(rate_per_s, service_s, servers).mean_wait_s <= target_s),
    )


def _offered(rate_per_s: float, service_s: float) -> float:
    offered = positive("rate_per_s", rate_per_s) * positive("service_s", service_s)
    if offered > _MOST_SERVERS / 2:
        raise invalid("rate_per_s * service_s", offered, f"at most {_MOST_SERVERS // 2} servers' worth of load")
    return offered


def _staffing(rate_per_s: float, service_s: float, headroom: float, servers: int) -> Staffing:
    offered = rate_per_s * service_s
    queue = mmc(rate_per_s, service_s, servers)
    return Staffing(
        offered_load=offered,
        headroom=headroom,
        square_root_servers=math.ceil(offered + headroom * math.sqrt(offered)),
        exact_servers=servers,
        wait_probability=erlang_c(offered, servers),
        mean_wait_s=queue.mean_wait_s,
        utilisation=queue.utilisation,
    )


def _least(keeps: Callable[[float], bool]) -> float:
    """The least headroom that keeps a target, which more headroom keeps too."""
    low, high = 0.0, 1.0
    while not keeps(high):
        low, high = high, 2 * high
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if keeps(middle) else (middle, high)
    return high


def _fewest(offered: float, keeps: Callable[[int], bool]) -> int:
    """The least stable number of servers that keeps a target, which more servers keep too."""
    low = math.floor(offered)  # unstable
    high = low + 1
    while not keeps(high):
        low, high = high, high + (high - math.floor(offered)) + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if keeps(middle) else (middle, high)
    return high
