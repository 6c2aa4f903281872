"""The simulation clock: SimPy's environment, with events at absolute times and a total order.

SimPy schedules by delay; ``now + delay`` rounds, and two ways to reach the same instant would differ in the last bit.
The engine's two modes must agree bit for bit, so everything here is scheduled by absolute time.  Events at the same
instant are ordered by priority: first what comes from outside (arrivals, faults), then replicas by index, then
observers.  That order does not depend on when an event was created, so skipping events cannot change a result.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappush
from typing import Any

import simpy

ARRIVAL = 0
"""Priority of requests entering the system."""
CONTROL = 1
"""Priority of aborts, deadlines and changes of speed."""
OBSERVER = 1 << 40
"""Priority of samplers: they see an instant when everything else in it is over."""
REPLICA = 2
"""Priority of replica 0; replica i has ``REPLICA + i``."""

Callback = Callable[[simpy.Event], None]


class Clock(simpy.Environment):
    """A SimPy environment that also schedules callbacks at absolute times."""

    def at(self, time_s: float, priority: int, callback: Callback, value: Any = None) -> simpy.Event:
        """Call ``callback(event)`` at ``time_s``; ``event.value`` is ``value``.

        Parameters
        ----------
        time_s : float
            Absolute time; not before now.
        priority : int
            Order among events at the same time, lower first.
        """
        event = simpy.Event(self)
        event._ok = True
        event._value = value
        event.callbacks = [callback]
        heappush(self._queue, (time_s, priority, next(self._eid), event))  # type: ignore[arg-type]
        return event
