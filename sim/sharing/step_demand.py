"""What a step demands of its GPU, from the latency model where it can tell, otherwise from the kind of step."""

from __future__ import annotations

from latency_models.laws.compute_share import bandwidth_factor
from latency_models.step_time import StepTimeModel
from latency_models.step_work import StepWork, step_work_of
from sim.sharing.contention import Demand
from sim.vllm.step import Step

_LEVELS = 32
"""Shares are rounded to this part, so that neighbours are not bothered for nothing, and few sets of demands occur."""

DECODE_SHARES = (0.02, 0.85)
"""Shares of a decode step's time bound by compute and by memory, if its latency model cannot tell: medians of what the
``steps`` law says of LLaMA 7B to 65B on A100-80GB, 1 to 128 sequences of 128 to 1,024 tokens."""
PREFILL_SHARES = (0.62, 0.26)
"""Likewise of a step with prefill: prompts of 128 to 4,096 tokens."""
KERNEL_BANDWIDTH = 0.68
"""Share of the datasheet's bandwidth that steps bound by memory draw on the whole GPU (MuxServe's LLaMA, A100-80GB)."""


class StepDemands:
    """Demands of one replica's steps.

    Parameters
    ----------
    model : StepTimeModel
        Its step times.
    cap : float
        MPS cap of each of its shards, at which those times were taken.
    """

    def __init__(self, model: StepTimeModel, cap: float) -> None:
        self._model = model
        self._cap = cap
        bandwidth = KERNEL_BANDWIDTH * bandwidth_factor(cap)
        self._decode = _rounded(Demand(cap, *DECODE_SHARES, bandwidth))
        self._prefill = _rounded(Demand(cap, *PREFILL_SHARES, bandwidth))
        # Equal demands are one object, whose comparison is cheap.
        self._known: dict[Demand, Demand] = {}

    def of(self, step: Step) -> Demand:
        """What a step demands: the first of a run stands for all, as the run's context hardly grows."""
        prefill_seqs = prefill_context = ending = 0
        prefill_work = 0.0
        for _, tokens, before, emits in step.prefills or ():
            prefill_seqs += 1
            prefill_context += before + tokens
            prefill_work += tokens * (before + tokens / 2)
            ending += emits
        size = step.decode_size
        batch = (step.tokens, prefill_seqs, prefill_context, prefill_work, size, step.decode_context, size + ending)
        work = step_work_of(self._model, *batch)
        if work is None:
            return self._prefill if prefill_seqs else self._decode
        demand = _rounded(_shares(work, step.first_s))
        return self._known.setdefault(demand, demand)


def _shares(work: StepWork, whole_s: float) -> Demand:
    """Seconds as shares of the step; noise that shortens a step may leave less than they sum to."""
    whole_s = max(whole_s, work.compute_s + work.memory_s)
    return Demand(work.sms, work.compute_s / whole_s, work.memory_s / whole_s, work.bandwidth)


def _rounded(demand: Demand) -> Demand:
    return Demand(
        demand.sms,
        round(demand.compute * _LEVELS) / _LEVELS,
        round(demand.memory * _LEVELS) / _LEVELS,
        demand.bandwidth,
    )
