"""``corrected``: another model, with what end-to-end measurements say that it lacks.

A model composed from kernels knows nothing of launches, of the engine's own work or of clocks that drop under load.
These show end to end as a factor on the kernels' time, a time of every step and a time of every sequence.

Engines record CUDA graphs of decode steps; a step with prefill has none, or only pieces.  The host then launches its
kernels one by one, which takes the same time for one new token as for a thousand: such a step has a floor, which only
longer kernels hide.
"""

from __future__ import annotations

from dataclasses import dataclass

from latency_models.errors import check_finite
from latency_models.step_time import STEP_TIME_MODELS, StepTimeModel
from latency_models.step_work import StepWork, step_work_of


@STEP_TIME_MODELS.register("corrected")
@dataclass(frozen=True, slots=True, kw_only=True)
class CorrectedStepTime:
    """Step time of another model, scaled and shifted.

    A decode step takes ``factor * base + per_step_s + per_sequence_s * sequences``.  In a step with prefill, what the
    base takes beyond the same step's decodes alone is scaled by ``prefill_factor`` instead, the scaled base counts as
    ``prefill_floor_s`` if it is shorter, and ``per_prefill_step_s`` is added.

    Parameters
    ----------
    base : StepTimeModel
        The model that is corrected.
    factor : float
        Multiplies the base, > 0.
    per_step_s : float
        Seconds of every step.
    per_sequence_s : float
        Seconds per scheduled sequence, prefill or decode.
    prefill_factor : float, optional
        Multiplies the prefill's part of the base, > 0; default: ``factor``.
    per_prefill_step_s : float
        Seconds of every step with prefill, on top: work of the engine that the GPU waits for.
    prefill_floor_s : float
        Seconds that the host needs to launch the kernels of a step with prefill, while the GPU runs those already
        launched; the longer of the two counts.

    Raises
    ------
    InputError
        If a factor is not positive, or a time is negative or not finite.
    """

    base: StepTimeModel
    factor: float = 1.0
    per_step_s: float = 0.0
    per_sequence_s: float = 0.0
    prefill_factor: float | None = None
    per_prefill_step_s: float = 0.0
    prefill_floor_s: float = 0.0

    @property
    def uses_longest_context(self) -> bool:
        """Whether the base does."""
        return getattr(self.base, "uses_longest_context", False)

    def __post_init__(self) -> None:
        check_finite("latency.factor", self.factor, exclusive=True)
        if self.prefill_factor is not None:
            check_finite("latency.prefill_factor", self.prefill_factor, exclusive=True)
        for name in ("per_step_s", "per_sequence_s", "per_prefill_step_s", "prefill_floor_s"):
            check_finite(f"latency.{name}", getattr(self, name))

    def step_s(
        self,
        tokens: int,
        prefill_seqs: int,
        prefill_context: int,
        prefill_work: float,
        decode_seqs: int,
        decode_context: int,
        sampled: int,
        longest: int = 0,
    ) -> float:
        """Duration of one step; see :meth:`latency_models.step_time.StepTimeModel.step_s`."""
        whole_s = self.base.step_s(
            tokens, prefill_seqs, prefill_context, prefill_work, decode_seqs, decode_context, sampled, longest
        )
        own_s = self.per_step_s + self.per_prefill_step_s + self.per_sequence_s * (prefill_seqs + decode_seqs)
        if self.prefill_factor is None:
            kernels_s = self.factor * whole_s
        else:
            # A base made of tables may give a mixed step less than its decodes alone; then nothing is the prefill's.
            decode_s = (
                min(whole_s, self.base.decode_run(decode_seqs, decode_context, longest)[0]) if decode_seqs else 0.0
            )
            kernels_s = self.factor * decode_s + self.prefill_factor * (whole_s - decode_s)
        return max(kernels_s, self.prefill_floor_s) + own_s

    def decode_run(self, seqs: int, context: int, longest: int = 0) -> tuple[float, float, int]:
        """Law of a run of decode-only steps, with the breakpoints of the base."""
        first_s, growth_s, steps = self.base.decode_run(seqs, context, longest)
        return self.factor * first_s + self.per_step_s + self.per_sequence_s * seqs, self.factor * growth_s, steps

    def step_work(
        self,
        tokens: int,
        prefill_seqs: int,
        prefill_context: int,
        prefill_work: float,
        decode_seqs: int,
        decode_context: int,
        sampled: int,
    ) -> StepWork | None:
        """What bounds a step, if the base can tell; see :func:`latency_models.step_work.step_work_of`."""
        batch = (tokens, prefill_seqs, prefill_context, prefill_work, decode_seqs, decode_context, sampled)
        work = step_work_of(self.base, *batch)
        if work is None:
            return None
        factor = self.factor if self.prefill_factor is None or not prefill_seqs else self.prefill_factor
        return work._replace(compute_s=factor * work.compute_s, memory_s=factor * work.memory_s)
