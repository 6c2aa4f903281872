"""One engine step as people look at it: what was computed, for whom, and why not for the others."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchEntry:
    """A request that the step computes tokens of."""

    request: str
    kind: Literal["prefill", "decode"]
    tokens: int
    """Tokens computed in this step."""
    before: int
    """Tokens whose keys and values were there before, cached ones included."""
    target: int
    """Tokens to be computed before the next output token comes out."""
    cached_tokens: int
    """Of those before, what was found in the prefix cache when it was admitted in this step."""
    entered: Literal["", "admitted", "resumed"]
    """Whether it came from the queue in this step; ``resumed`` after a preemption."""
    output: int
    """Number of the output token that this step emits, from 1 on; 0 if it emits none."""
    outputs: int
    """Output tokens that the request will have in the end; no scheduler knows it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """A running request that gets no token in this step."""

    request: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Preemption:
    """A running request that lost its KV blocks in this step and is back in the queue."""

    request: str
    beneficiary: str
    """Who needed its blocks; the request itself if nobody else was left to give some up."""
    why: str
    lost_tokens: int
    """Tokens to be computed again, except what the prefix cache still has of them by then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A request in the queue after the step was decided."""

    request: str
    tokens: int
    """Tokens to be computed before its next output token; its prompt, unless it was preempted."""
    waited_s: float
    """Since it entered this engine's queue, or lost its KV blocks."""
    preempted: bool
    lack: str
    """What the scheduler refused the head of the queue for (:class:`sim.vllm.scheduler_base.Refusal`); ``queue`` for
    those behind it."""
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StepView:
    """One step of one replica."""

    replica: str
    number: int
    """From 0 on, in the order in which steps were scheduled."""
    scheduled_s: float
    start_s: float
    end_s: float
    token_budget: int
    tokens: int
    """Tokens computed, at most the budget."""
    blocks_total: int
    blocks_used: int
    """KV blocks in use after the decision."""
    seats: int
    """Most requests that may run at a time."""
    running: int
    batch: tuple[BatchEntry, ...]
    """In the order of the running list, which is that of admission."""
    left_out: tuple[LeftOut, ...]
    preempted: tuple[Preemption, ...]
    waiting: tuple[Waiting, ...]
    """In the order of the queue."""
    finished: tuple[str, ...]
    """Who got the last token at the end of the step."""
    cancelled: tuple[str, ...]
    """Who was given up by its client and left at the end of the step."""

    @property
    def duration_s(self) -> float:
        """Seconds on the GPU."""
        return self.end_s - self.start_s

    @property
    def admitted(self) -> tuple[BatchEntry, ...]:
        """Those that came from the queue in this step."""
        return tuple(entry for entry in self.batch if entry.entered)

    @property
    def is_eventful(self) -> bool:
        """Whether anybody was admitted, preempted, finished or cancelled."""
        return bool(self.admitted or self.preempted or self.finished or self.cancelled)

    def as_json(self) -> dict[str, Any]:
        """Plain values under the names of the fields."""
        return asdict(self)
