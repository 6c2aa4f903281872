"""What a simulation leaves behind: columns of NumPy, nothing else.

Requests are rows in order of arrival.  Steps are stored as *runs* (start, first duration, growth, count), from which
every inter-token latency follows exactly; the few tokens that do not follow from runs are *gaps*.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sim.prompt_table import PromptTable

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class Status(IntEnum):
    """How a request ended."""

    FINISHED = 0
    REJECTED = 1
    """Never admitted: the admission limit was reached or it can never fit."""
    TIMED_OUT = 2
    """Its deadline passed first."""
    ABORTED = 3
    """The client cancelled it."""
    UNFINISHED = 4
    """Still in the system when the simulation ended."""
    FAILED = 5
    """Its replica crashed, or none was up, and nobody else answered it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestColumns:
    """One row per request, in order of arrival.  Times in seconds on the simulation clock; NaN: it never happened."""

    arrival_s: Floats
    model: Ints
    """Index into :attr:`SimulationResult.models`; -1 if never routed."""
    replica: Ints
    """Index into :attr:`SimulationResult.replicas`; -1 if never routed."""
    request_class: Ints
    """Index into :attr:`SimulationResult.classes`."""
    session: tuple[str | None, ...] | None
    request_id: tuple[str, ...] | None
    """Names given by the workload; ``None`` if it gave none (row number then serves)."""
    prompt_tokens: Ints
    output_tokens: Ints
    """What was asked for."""
    generated_tokens: Ints
    """What came out: equal to ``output_tokens`` if finished (unless cut at max_model_len)."""
    queued_s: Floats
    """When the scheduler received it (after the API server stage)."""
    scheduled_s: Floats
    """Start of its first step."""
    first_token_s: Floats
    last_token_s: Floats
    finish_s: Floats
    """When it left, finished or not (after the detokenise stage if finished)."""
    preemptions: Ints
    cached_tokens: Ints
    """Prompt tokens found in the prefix cache at first admission."""
    status: Ints
    """:class:`Status` codes."""
    prompt: Ints
    """Row of :attr:`SimulationResult.prompts`; -1 if requests have no prompts."""
    retries: Ints
    """How often it was started again because its replica crashed.  Times and tokens are those of the last start."""

    asked_s: Floats
    """When the router last decided to ask another model (a cascade); its arrival if it never did."""
    started_s: Floats
    """When its last start began: as ``asked_s``, or later if it lost a replica or waited for one that was down."""
    stages: Ints
    """Models that were asked for an answer: more than one if the router rejected some (a cascade), 0 if none was."""

    def __len__(self) -> int:
        return len(self.arrival_s)


class RunSource(Protocol):
    """Step log of one replica, read in chunks so that it may be larger than memory."""

    def chunks(self) -> Iterator[Floats]:
        """Arrays of shape (n, 7), rows by time with columns :data:`RUN_COLUMNS`."""
        ...


RUN_COLUMNS = ("start_s", "first_s", "growth_s", "steps", "sequences", "tokens", "blocks_used")
"""Columns of the step log.  Step k (0-based) of a run lasts ``first_s + k * growth_s``; consecutive runs may have a gap
of idleness between them.  ``sequences`` is how many are scheduled in each step, ``tokens`` how many each computes,
``blocks_used`` the KV blocks in use after the first step was scheduled."""

GAP_COLUMNS = ("replica", "request", "from_s", "to_s")
"""Columns of the gaps: two consecutive tokens of one request (row number) that are not the ends of consecutive steps,
because it was preempted or skipped between them."""

PREEMPTION_COLUMNS = ("replica", "request", "from_s", "to_s")
"""Columns of the preemptions: when a request (row number) waited again to be admitted; ``to_s`` is NaN if it never was.
What a request lived through before it was started again (after a crash, or by another model) is left out."""

SAMPLE_COLUMNS = ("time_s", "replica", "running", "waiting", "kv_used_blocks", "kv_total_blocks", "busy")
"""Columns of the periodic samples; ``busy`` is the share of the interval before the sample spent computing."""

ANSWER_COLUMNS = (
    "request", "model", "replica", "queued_s", "scheduled_s", "first_token_s", "last_token_s", "tokens",
)  # fmt: skip
"""Columns of the answers that a router did not pass on, by when they came; ``request`` is the row of the request, which
itself has the times and tokens of the answer that was passed on."""

OUTAGE_COLUMNS = ("replica", "from_s", "to_s")
"""Columns of the outages: when a replica was down, up to the end of the simulation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaInfo:
    """What a replica was."""

    name: str
    model: int
    gpus: tuple[int, ...]
    total_blocks: int
    """Usable KV blocks (one less than vLLM's num_gpu_blocks: the null block)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulationResult:
    """Everything that one simulation produced."""

    models: tuple[str, ...]
    classes: tuple[str, ...]
    replicas: tuple[ReplicaInfo, ...]
    requests: RequestColumns
    runs: tuple[RunSource, ...]
    """One step log per replica."""
    gaps: Floats
    """Shape (n, 4), columns :data:`GAP_COLUMNS`."""
    samples: Floats
    """Shape (n, 7), columns :data:`SAMPLE_COLUMNS`."""
    busy_s: Floats
    """Seconds that each replica spent computing."""
    preemptions: Floats = field(default_factory=lambda: np.empty((0, len(PREEMPTION_COLUMNS))))
    """Shape (n, 4), columns :data:`PREEMPTION_COLUMNS`."""
    rejected_answers: Floats = field(default_factory=lambda: np.empty((0, len(ANSWER_COLUMNS))))
    """Shape (n, 8), columns :data:`ANSWER_COLUMNS`."""
    outages: Floats = field(default_factory=lambda: np.empty((0, len(OUTAGE_COLUMNS))))
    """Shape (n, 3), columns :data:`OUTAGE_COLUMNS`, by start."""
    end_s: float
    """When the simulation ended."""
    events: int
    """Events that the clock processed."""
    prompts: PromptTable | None = None
    """Scores of the prompts, columns in the order of ``models``, if requests have prompts."""
