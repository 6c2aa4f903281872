"""``latency: {kind: replay, ...}``."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from latency_models.laws.noise import RecordedNoise
from latency_models.laws.recorded_steps import RecordedSteps
from latency_models.sections.base import Count, LatencySection, refuse_in_pydantic
from latency_models.step_time import StepTimeModel


class ReplayLatency(LatencySection):
    """A recorded step log: the linear law fitted to it, times factors drawn from it.

    The law is the step-time model; the factors are noise on it, which :meth:`build_noise` gives.
    """

    kind: Literal["replay"]
    path: Path = Field(description="CSV with one recorded step per row.")
    block_steps: Count = Field(default=256, description="Consecutive steps whose factors are drawn together.")

    @model_validator(mode="after")
    def _log_is_usable(self) -> ReplayLatency:
        refuse_in_pydantic(self.build_noise)
        return self

    def build(self) -> StepTimeModel:
        """The law of a typical step; reads the log."""
        return RecordedSteps.read(self.path).law

    def build_noise(self) -> RecordedNoise:
        """The recorded factors around the law; reads the log."""
        return RecordedNoise(factors=RecordedSteps.read(self.path).factors, block_steps=self.block_steps)
