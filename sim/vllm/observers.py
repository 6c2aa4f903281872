"""Who an engine tells what happens in it."""

from __future__ import annotations

from typing import Protocol

from sim.request import Request
from sim.vllm.step import Step


class Outcomes(Protocol):
    """Who wants to know what happens to requests."""

    def on_finish(self, request: Request, now_s: float) -> None:
        """A request got its last token at ``now_s``."""
        ...

    def on_abort(self, request: Request, now_s: float) -> None:
        """A cancelled request has left the engine."""
        ...

    def on_gap(self, request: Request, from_s: float, to_s: float) -> None:
        """Two consecutive tokens of a request lie apart because it was preempted or passed over between them."""
        ...


class StepObserver(Protocol):
    """Who wants to see every single step (traces); its presence does not change a result."""

    def on_schedule(self, step: Step, index: int, now_s: float) -> None:
        """Step ``index`` of ``step`` was scheduled at ``now_s``."""
        ...

    def on_empty_schedule(self, now_s: float) -> None:
        """The scheduler found nothing to run."""
        ...

    def on_complete(self, step: Step, index: int, start_s: float, end_s: float) -> None:
        """It ran from ``start_s`` to ``end_s``."""
        ...
