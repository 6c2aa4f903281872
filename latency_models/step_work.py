"""What a step waits for on the GPU: how long its compute and its memory bound it.

Neighbours on a shared GPU compete for both, so a simulation of co-located replicas asks the laws that can tell.
"""

from __future__ import annotations

from typing import NamedTuple

from latency_models.step_time import StepTimeModel


class StepWork(NamedTuple):
    """What bounds a step that has the GPU to itself; the rest of its time waits for the host, or for links."""

    compute_s: float
    """Seconds in which the throughput of its multiprocessors is the limit."""
    memory_s: float
    """Seconds in which the memory bandwidth that they draw is the limit."""
    sms: float
    """Share of the GPU's multiprocessors that it may use: its MPS cap."""
    bandwidth: float
    """Share of the datasheet's bandwidth that it draws while memory is the limit."""


def step_work_of(
    model: StepTimeModel,
    tokens: int,
    prefill_seqs: int,
    prefill_context: int,
    prefill_work: float,
    decode_seqs: int,
    decode_context: int,
    sampled: int,
) -> StepWork | None:
    """What bounds a step, or ``None`` if the model cannot tell.

    A model can tell if it has a method ``step_work`` of these parameters, which are those of
    :meth:`latency_models.step_time.StepTimeModel.step_s`; the method may return ``None`` too.
    """
    tell = getattr(model, "step_work", None)
    if tell is None:
        return None
    work: StepWork | None = tell(
        tokens, prefill_seqs, prefill_context, prefill_work, decode_seqs, decode_context, sampled
    )
    return work
