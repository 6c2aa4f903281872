"""The simulation clock: SimPy's environment, with events at absolute times and a total order.

SimPy schedules by delay; ``now + delay`` rounds, and two ways to reach the same instant would differ in the last bit.
The engine's two modes must agree bit for bit, so everything here is scheduled by absolute time.  Events at the same
instant are ordered by priority: first what comes from outside (arrivals, faults), then replicas by index, then the
requests that follow upon what happened in that very instant, then observers.  That order does not depend on when an
event was created, so skipping events cannot change a result.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any, cast

import simpy
from simpy.events import EventPriority

ARRIVAL = EventPriority(0)
"""Priority of requests entering the system."""
CONTROL = EventPriority(1)
"""Priority of aborts, deadlines and changes of speed."""
REPLICA = EventPriority(2)
"""Priority of replica 0; replica i has ``REPLICA + i``."""
FOLLOW_UP = EventPriority(1 << 39)
"""Priority of requests that arrive in the instant in which the one before them ended."""
OBSERVER = EventPriority(1 << 40)
"""Priority of samplers: they see an instant when everything else in it is over."""

# How SimPy marks an event that is over.
_PROCESSED = cast(list[Callable[[Any], None]], None)


class Occurrence(simpy.Event):
    """Something that happens at a set time, with a payload for whoever is called."""

    def __init__(self, env: simpy.Environment, callback: Callback, payload: Any) -> None:
        self.env = env
        self.callbacks = [callback]
        self._ok = True
        self._value = payload
        self.payload = payload

    def cancel(self) -> None:
        """Let it happen without calling anybody."""
        self.callbacks = []


_AFTERWARDS = EventPriority(OBSERVER + 1)

Callback = Callable[[Occurrence], None]


class Clock(simpy.Environment):
    """A SimPy environment that also schedules callbacks at absolute times."""

    def __init__(self) -> None:
        super().__init__()
        self.events = 0
        """Events processed by :meth:`drive`."""
        self.now_s = 0.0
        """The present time, as ``now`` has it, without the call."""
        self.priority = ARRIVAL
        """Priority of the present event: what has a lower one and is due now has happened already."""
        self._stopped = False

    def at(self, time_s: float, priority: EventPriority, callback: Callback, payload: Any = None) -> Occurrence:
        """Call ``callback(occurrence)`` at ``time_s``.

        Parameters
        ----------
        time_s : float
            Absolute time; not before now.
        priority : int
            Order among events at the same time, lower first.
        callback : callable
            Takes the occurrence.
        payload : object
            Its ``payload``.
        """
        occurrence = Occurrence(self, callback, payload)
        heappush(self._queue, (time_s, priority, next(self._eid), occurrence))
        return occurrence

    def stop(self) -> None:
        """Let :meth:`drive` return after the present event."""
        self._stopped = True

    def drive(self, until_s: float = math.inf) -> None:
        """Process events until none is left, :meth:`stop` is called, or the next one lies after ``until_s``.

        The same as :meth:`simpy.Environment.run`, without an exception per run and a call per event.
        """
        queue = self._queue
        events = 0
        while queue and not self._stopped:
            if queue[0][0] > until_s:
                self._now = self.now_s = until_s
                break
            self.now_s, self.priority, _, event = heappop(queue)
            self._now = self.now_s
            events += 1
            callbacks, event.callbacks = event.callbacks, _PROCESSED
            for callback in callbacks:
                callback(event)
        self.events += events
        self.priority = _AFTERWARDS
