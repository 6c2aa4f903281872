"""``latency: {kind: linear, ...}``."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from latency_models.laws.linear import LinearStepTime
from latency_models.laws.recorded_steps import PLAUSIBLE_STEP_S
from latency_models.sections.base import Count, LatencySection, Seconds, refuse_in_pydantic
from latency_models.step_time import StepTimeModel


class LinearLatency(LatencySection):
    """Coefficients of the linear law, in seconds; see :class:`latency_models.laws.linear.LinearStepTime`."""

    kind: Literal["linear"]
    base_s: Seconds = Field(default=0.0, description="Seconds of every step.")
    per_token_s: Seconds = Field(default=0.0, description="Seconds per token computed, prefill or decode.")
    per_sequence_s: Seconds = Field(default=0.0, description="Seconds per scheduled sequence.")
    per_context_token_s: Seconds = Field(
        default=0.0, description="Seconds per token of context after the step, over all scheduled sequences."
    )
    per_prefill_pair_s: Seconds = Field(default=0.0, description="Seconds per query-key pair of the prefill chunks.")
    per_sample_s: Seconds = Field(default=0.0, description="Seconds per sequence that emits a token.")
    per_longest_token_s: Seconds = Field(
        default=0.0,
        description="Seconds per token of the longest context among the decodes; the least their context takes.",
    )
    unsplit_seqs: Count = Field(default=1, description="Decodes from which on the longest context counts.")

    @model_validator(mode="after")
    def _takes_time(self) -> LinearLatency:
        refuse_in_pydantic(self.build)
        return self

    def notes(self) -> tuple[str, ...]:
        """That times look like another unit."""
        shortest_s = self.build().decode_run(1, 1, 1)[0]
        if shortest_s <= PLAUSIBLE_STEP_S[1]:
            return ()
        return (
            f"the shortest step takes {shortest_s:g} s (latency kind linear); are these milliseconds? Coefficients are "
            "in seconds",
        )

    def build(self) -> StepTimeModel:
        """The step-time model."""
        return LinearStepTime(**self.model_dump(exclude={"kind"}))
