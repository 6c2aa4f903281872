"""Steady state of a queue, and what the formulas ask of their input.

Everywhere in this package, arrivals come at ``rate_per_s``, are served first come first served unless said otherwise,
and need ``service_s`` seconds of one server on average.  Kendall's notation names the formulas.  Results are exact
unless a docstring says that they approximate or bound.

References
----------
[Kleinrock] L. Kleinrock, "Queueing Systems, Volume I: Theory", Wiley 1975.
[Gross] D. Gross, C. M. Harris, "Fundamentals of Queueing Theory", 3rd edition, Wiley 1998.
[Harchol] M. Harchol-Balter, "Performance Modeling and Design of Computer Systems", Cambridge 2013.
"""

from __future__ import annotations

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


def positive(field: str, value: float) -> float:
    """Return ``value`` if it is finite and above 0; raise :class:`InputError` otherwise."""
    return check_finite(field, value, exclusive=True)


def stable_load(rate_per_s: float, service_s: float, servers: int = 1) -> float:
    """Load of each server; :class:`InputError` if the queue would grow without end."""
    check_count("servers", servers)
    return below_one(positive("rate_per_s", rate_per_s) * positive("service_s", service_s) / servers)


def below_one(load: float) -> float:
    """Return a load if it is below 1; raise :class:`InputError` otherwise."""
    if load >= 1:
        raise invalid(
            "load (rate_per_s * service_s / servers)",
            round(load, 6),
            "less than 1",
            "The queue would grow without end: lower the rate, shorten the service or add servers",
        )
    return load


def check_quantile(quantile: float) -> None:
    """Raise :class:`InputError` unless ``quantile`` is from 0 to below 1."""
    if not 0 <= quantile < 1:
        raise invalid("quantile", quantile, "a number from 0 to below 1")
