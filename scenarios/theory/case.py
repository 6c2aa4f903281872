"""A model of the theory with its parameters, its figures, and the library scenario that is this queue."""

from __future__ import annotations

from dataclasses import dataclass, field

from latency_models.errors import InputError
from scenarios.theory.evidence import Row
from scenarios.theory.figures import Figure
from scenarios.theory.stationary import stationary_runs

MOST_REQUESTS = 40_000
"""Of a replication, unless told otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TheoryCase:
    """A queue to compute and perhaps to simulate."""

    title: str
    """Kendall's notation and what it means."""
    figures: tuple[Figure, ...]
    scenario: str | None = None
    """Name of a library scenario, an engine reduced to this queue; ``None`` if there is none."""
    overrides: tuple[str, ...] = ()
    """What makes that scenario this case, as ``--set`` takes it."""
    service_s: float = 1.0
    """Sets the time between samples."""
    load: float = 0.0
    """Of a server: the nearer to 1, the more requests it takes to see the steady state."""
    in_service: float = 1.0
    """Requests in service on average: as many come while one is served, so a large pool takes more of them, too."""
    notes: tuple[str, ...] = field(default=())
    """What the user should know, one line each."""

    @property
    def requests(self) -> int:
        """Requests of a replication: as many as load and pool ask for, up to :data:`MOST_REQUESTS`."""
        wanted = max(800.0 / (1 - min(self.load, 0.999)) ** 2, 60.0 * self.in_service, 4000.0)
        return round(min(wanted, MOST_REQUESTS))

    @property
    def settling_requests(self) -> int:
        """Requests after which a replication has forgotten that it began empty, to an order of magnitude.

        A queue forgets in a time of about service / (1 - load)**2 (J. Abate, W. Whitt, "Transient behavior of the M/M/1
        queue: starting at the origin", Queueing Systems 2, 1987); this is ten of them.  A pool that nobody waits for
        forgets in a service time; this is three of them.
        """
        return round(max(10.0 / (1 - min(self.load, 0.999)) ** 2, 3.0 * self.in_service))

    def rows(self, *, replications: int, requests: int | None = None, seed: int | None = None) -> list[Row]:
        """The figures, beside simulations if there are replications and a scenario.

        Parameters
        ----------
        replications : int
            0 for theory alone; otherwise at least two.
        requests : int, optional
            Of each replication; default: :attr:`requests`.
        seed : int, optional
            Instead of the scenario's.

        Raises
        ------
        InputError
            The requests come within so short a time that the system is never looked at meanwhile.
        """
        runs = []
        if replications and self.scenario is not None:
            length = self.requests if requests is None else requests
            settings = [
                *self.overrides,
                f"workload.requests={length}",
                f"run.sample_interval_s={0.7310585786 * self.service_s!r}",
                "run.warmup=0",
                *([] if seed is None else [f"seed={seed}"]),
            ]
            runs = stationary_runs(self.scenario, settings, replications=replications)
            if any(len(run.running) == 0 for run in runs):
                raise InputError(
                    f"all {length:,} requests come within a service time, too short to see a steady state; give more "
                    "--requests, or --no-simulation for theory alone"
                )
        return [figure.row(runs) for figure in self.figures]
