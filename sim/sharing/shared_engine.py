"""A replica on shared GPUs: its neighbours learn what it runs, and it runs as fast as they let it."""

from __future__ import annotations

from sim.clock import Clock, Occurrence
from sim.sharing.shared_gpus import Tenancy
from sim.vllm.engine import Engine, EngineMode
from sim.vllm.observers import Outcomes
from sim.vllm.scheduler_base import Scheduler
from sim.vllm.step import Step


class SharedEngine(Engine):
    """:class:`sim.vllm.engine.Engine` that takes its own slowdown (:meth:`change_speed`) times its neighbours' factor.

    Parameters
    ----------
    clock, scheduler, outcomes, index, mode
        As those of :class:`sim.vllm.engine.Engine`.
    tenancy : Tenancy
        Its place among its neighbours.
    """

    def __init__(
        self,
        clock: Clock,
        scheduler: Scheduler,
        outcomes: Outcomes,
        *,
        index: int,
        mode: EngineMode,
        tenancy: Tenancy,
    ) -> None:
        super().__init__(clock, scheduler, outcomes, index=index, mode=mode)
        self._own_slowdown = 1.0
        self._contention = 1.0
        self._tenancy = tenancy
        tenancy.attend(self._on_neighbours)

    def change_speed(self, slowdown: float) -> None:
        """From now on everything here takes ``slowdown`` times as long, beside what neighbours cost."""
        self._own_slowdown = slowdown
        super().change_speed(slowdown * self._contention)

    def crash(self, scheduler: Scheduler) -> None:
        """Lose everything now; the neighbours have the GPUs to themselves from this instant."""
        super().crash(scheduler)
        self._tenancy.idle()

    def _on_neighbours(self, factor: float) -> None:
        if factor != self._contention:
            self._contention = factor
            super().change_speed(self._own_slowdown * factor)

    def _start(self, step: Step, now_s: float) -> None:
        self._contention = self._tenancy.begin(step)
        self.slowdown = self._own_slowdown * self._contention
        super()._start(step, now_s)

    def _on_step_end(self, event: Occurrence) -> None:
        super()._on_step_end(event)
        if not self._queue or self._queue[0] is None:
            self._tenancy.idle()
