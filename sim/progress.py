"""A simulation that is running, seen from outside: a few figures, worked out when somebody looks."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from sim.results import Floats

if TYPE_CHECKING:
    from sim.cluster import Cluster


class RunProgress:
    """How far a simulation is; looking changes nothing.

    Parameters
    ----------
    cluster : Cluster
        The simulation.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    @property
    def now_s(self) -> float:
        """Simulated seconds."""
        return self._cluster.clock.now_s

    @property
    def arrived(self) -> int:
        """Requests that have arrived."""
        return self._cluster.arrivals

    @property
    def ended(self) -> int:
        """Requests that have left, answered or not."""
        return self._cluster.recorder.ended()

    @property
    def running(self) -> int:
        """Requests that replicas have admitted."""
        return sum(replica.engine.running_requests() for replica in self._cluster.replicas)

    @property
    def waiting(self) -> int:
        """Requests that wait for a replica to admit them."""
        return sum(replica.engine.waiting_requests() for replica in self._cluster.replicas)

    def recent_ttft_s(self, last: int = 1000) -> Floats:
        """Times to first token of the requests that left last; those that never got a token are left out.

        Parameters
        ----------
        last : int
            How many of them.
        """
        found = self._cluster.recorder.last_ttft_s(last)
        return found[~np.isnan(found)]


WatchRun = Callable[[RunProgress], None]
"""Called now and then while a simulation runs."""
