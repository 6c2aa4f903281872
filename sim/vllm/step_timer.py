"""How long the steps of one replica take: the model's time on the GPU, its noise, and the engine's CPU beside it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

from latency_models.errors import check_finite
from latency_models.step_time import StepTimeModel


class StepNoise(Protocol):
    """Factors on the step times of one replica: a function of the step's number, so that every engine mode agrees."""

    def factor(self, step: int) -> tuple[float, int]:
        """Factor on the duration of ``step``, and for how many steps from it on (at least 1) it holds.

        Steps are numbered from 0; calls never go back.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOverhead:
    """CPU time of the engine around a step: scheduling, preparing inputs, sampling bookkeeping, detokenise hand-over.

    Synchronous scheduling adds it to every step; asynchronous scheduling hides it behind the GPU, so that a step takes
    the longer of the two.
    """

    step_s: float = 0.0
    """Seconds of every step."""
    per_sequence_s: float = 0.0
    """Seconds for each scheduled sequence."""

    def __post_init__(self) -> None:
        check_finite("cpu_overhead_s", self.step_s)
        check_finite("cpu_per_sequence_s", self.per_sequence_s)

    def of(self, sequences: int) -> float:
        """CPU seconds of a step of so many sequences."""
        return self.step_s + self.per_sequence_s * sequences


class StepTimer:
    """Durations of one replica's steps.

    Parameters
    ----------
    model : StepTimeModel
        Time on the GPU.
    overhead : EngineOverhead
        Time on the CPU.
    asynchronous : bool
        Whether the CPU works while the GPU does.
    noise : StepNoise, optional
        Factors on the time on the GPU.
    """

    def __init__(
        self,
        model: StepTimeModel,
        *,
        overhead: EngineOverhead | None = None,
        asynchronous: bool = False,
        noise: StepNoise | None = None,
    ) -> None:
        self._model = model
        self._overhead = overhead or EngineOverhead()
        self._asynchronous = asynchronous
        self._noise = noise
        self.uses_longest_context: bool = getattr(model, "uses_longest_context", False)

    def decode_law(self, number: int, seqs: int, context: int, longest: int) -> tuple[float, float, int]:
        """First duration, growth per step and length of a run of decode steps that begins with step ``number``."""
        if self.uses_longest_context:
            first_s, growth_s, limit = self._model.decode_run(seqs, context, longest)
        else:
            first_s, growth_s, limit = self._model.decode_run(seqs, context)
        if self._noise is not None:
            factor, holds = self._noise.factor(number)
            first_s *= factor
            growth_s *= factor
            limit = min(limit, holds)
        overhead_s = self._overhead.of(seqs)
        if not self._asynchronous:
            first_s += overhead_s
        elif first_s < overhead_s:
            if growth_s > 0:
                # The GPU's steps grow until the CPU is hidden again.
                limit = min(limit, math.ceil((overhead_s - first_s) / growth_s))
            first_s, growth_s = overhead_s, 0.0
        elif growth_s < 0 and overhead_s:
            # The GPU's steps shrink until the CPU is the slower one; the last of them may just equal it.
            limit = min(limit, int((overhead_s - first_s) / growth_s) + 1)
        return first_s, growth_s, limit

    def mixed_s(
        self,
        number: int,
        tokens: int,
        prefill_seqs: int,
        prefill_context: int,
        prefill_work: float,
        decode_seqs: int,
        decode_context: int,
        sampled: int,
        longest: int,
    ) -> float:
        """Duration of step ``number``, which has prefill in it; see :meth:`StepTimeModel.step_s` for its contents."""
        batch = (tokens, prefill_seqs, prefill_context, prefill_work, decode_seqs, decode_context, sampled)
        duration_s = self._model.step_s(*batch, longest) if self.uses_longest_context else self._model.step_s(*batch)
        if self._noise is not None:
            duration_s *= self._noise.factor(number)[0]
        overhead_s = self._overhead.of(prefill_seqs + decode_seqs)
        return max(duration_s, overhead_s) if self._asynchronous else duration_s + overhead_s
