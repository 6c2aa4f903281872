"""``latency: {kind: corrected, base: {...}}``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from latency_models.laws.corrected import CorrectedStepTime
from latency_models.sections.base import Factor, LatencySection, Seconds
from latency_models.step_time import StepTimeModel

if TYPE_CHECKING:
    from latency_models.config import LatencyConfig


class CorrectedLatency(LatencySection):
    """Another model, scaled and shifted; see :class:`latency_models.laws.corrected.CorrectedStepTime`."""

    kind: Literal["corrected"]
    base: LatencyConfig = Field(description="The latency section that is corrected.")
    factor: Factor = Field(default=1.0, description="Multiplies the base.")
    per_step_s: Seconds = Field(default=0.0, description="Seconds of every step.")
    per_sequence_s: Seconds = Field(default=0.0, description="Seconds per scheduled sequence.")
    prefill_factor: Factor | None = Field(
        default=None, description="Multiplies what the base takes for prefill beyond the decodes; default: factor."
    )
    per_prefill_step_s: Seconds = Field(default=0.0, description="Seconds of every step with prefill, on top.")
    prefill_floor_s: Seconds = Field(
        default=0.0,
        description="Seconds to launch the kernels of a step with prefill; hidden when they run for longer.",
    )

    def build(self) -> StepTimeModel:
        """The step-time model."""
        return CorrectedStepTime(
            base=self.base.build(),
            factor=self.factor,
            per_step_s=self.per_step_s,
            per_sequence_s=self.per_sequence_s,
            prefill_factor=self.prefill_factor,
            per_prefill_step_s=self.per_prefill_step_s,
            prefill_floor_s=self.prefill_floor_s,
        )
