"""Open Jackson networks: stations that pass requests on, as gateway, prefill and decode servers do.

References
----------
J. R. Jackson, "Networks of waiting lines", Operations Research 5 (1957).
[Harchol] M. Harchol-Balter, "Performance Modeling and Design of Computer Systems", Cambridge 2013, chapter 17.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from analysis.queueing.many_servers import mmc
from analysis.queueing.queue import Queue, positive
from latency_models.errors import InputError, check_count, check_finite, invalid


@dataclass(frozen=True, slots=True, kw_only=True)
class Station:
    """One node: so many exponential servers with one queue."""

    name: str
    service_s: float
    """Mean of a visit's service."""
    servers: int = 1
    arrivals_per_s: float = 0.0
    """Poisson arrivals from outside."""

    def __post_init__(self) -> None:
        positive(f"{self.name}: service_s", self.service_s)
        check_count(f"{self.name}: servers", self.servers)
        check_finite(f"{self.name}: arrivals_per_s", self.arrivals_per_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class JacksonNetwork:
    """Steady state of a network."""

    stations: tuple[str, ...]
    queues: tuple[Queue, ...]
    """Of each station, each as if it were M/M/c on its own, by Jackson's theorem; the rate is all visits."""
    visits: tuple[float, ...]
    """Mean visits of one request to each station."""
    rate_per_s: float
    """Arrivals from outside, all stations together; as many leave."""

    @property
    def mean_in_system(self) -> float:
        """Mean number of requests at all stations together."""
        return sum(queue.mean_in_system for queue in self.queues)

    @property
    def mean_sojourn_s(self) -> float:
        """From a request's arrival from outside until it leaves (Little's law)."""
        return self.mean_in_system / self.rate_per_s


def jackson(stations: Sequence[Station], routing: Sequence[Sequence[float]]) -> JacksonNetwork:
    """Open Jackson network: solve the traffic equations, then take each station as M/M/c.

    The rate through station j solves rate_j = arrivals_j + sum over i of rate_i routing[i][j].

    Parameters
    ----------
    stations : sequence of Station
        The nodes.
    routing : sequence of sequences of float, shape (stations, stations)
        ``routing[i][j]``: probability that a request leaving station i goes to j next; what a row lacks to 1 leaves.

    Raises
    ------
    InputError
        A probability is wrong, nothing arrives, requests cannot leave, or a station is overloaded (it is named).
    """
    names = tuple(station.name for station in stations)
    if not stations:
        raise InputError("the network has no station; give at least one")
    if len(set(names)) < len(names):
        raise invalid("station names", names, "names that differ")
    matrix = _routing_matrix(names, routing)
    arrivals = np.array([station.arrivals_per_s for station in stations])
    total = float(arrivals.sum())
    if total <= 0:
        raise invalid("arrivals_per_s of all stations", total, "more than 0 for at least one of them")
    _check_everybody_leaves(names, matrix)
    rates = np.linalg.solve(np.eye(len(names)) - matrix.T, arrivals)
    queues = []
    for station, rate in zip(stations, rates.tolist(), strict=True):
        load = rate * station.service_s / station.servers
        if load >= 1:
            raise invalid(
                f"load of station {station.name}",
                round(load, 6),
                "less than 1",
                f"{rate:g} visits/s are too many: lower the arrivals, shorten service_s or add servers",
            )
        if rate > 0:
            queues.append(mmc(rate, station.service_s, station.servers))
        else:
            queues.append(Queue(rate_per_s=0.0, utilisation=0.0, mean_wait_s=0.0, mean_sojourn_s=station.service_s))
    return JacksonNetwork(
        stations=names, queues=tuple(queues), visits=tuple((rates / total).tolist()), rate_per_s=total
    )


def _routing_matrix(
    names: Sequence[str], routing: Sequence[Sequence[float]]
) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    count = len(names)
    if len(routing) != count or any(len(row) != count for row in routing):
        raise InputError(f"routing needs {count} rows of {count} probabilities, one for each station")
    for name, row in zip(names, routing, strict=True):
        for value in row:
            if check_finite(f"routing from {name}", value) > 1:
                raise invalid(f"routing from {name}", value, "a probability from 0 to 1")
        if sum(row) > 1 + 1e-9:
            raise invalid(f"sum of routing from {name}", round(sum(row), 9), "at most 1; the rest leaves")
    return np.array([[float(value) for value in row] for row in routing], dtype=np.float64)


def _check_everybody_leaves(names: Sequence[str], matrix: np.ndarray[tuple[int, int], np.dtype[np.float64]]) -> None:
    leaving = matrix.sum(axis=1) < 1 - 1e-9
    for _ in names:
        leaving |= (matrix[:, leaving] > 0).any(axis=1)
    if not leaving.all():
        trapped = ", ".join(name for name, leaves in zip(names, leaving, strict=True) if not leaves)
        raise InputError(
            f"requests never leave the stations {trapped}; let the routing of one of them sum to less than 1"
        )
