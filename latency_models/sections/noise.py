"""``noise: {kind: lognormal, ...}`` and ``noise: {kind: recorded, ...}``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from latency_models.laws.noise import LognormalNoise, RecordedNoise
from latency_models.laws.recorded_steps import RecordedSteps
from latency_models.sections.base import Count, Section, refuse_in_pydantic


class LognormalNoiseConfig(Section):
    """Lognormal factors; see :class:`latency_models.laws.noise.LognormalNoise`."""

    kind: Literal["lognormal"]
    sigma: Annotated[float, Field(ge=0.0, le=1.0)] = Field(
        description="Standard deviation of the logarithm of a step's time; 0.1 is about 10 %."
    )
    correlation_steps: Count = Field(default=16, description="Steps that share a factor.")
    persistence: Annotated[float, Field(ge=0.0, lt=1.0)] = Field(
        default=0.8, description="Correlation of neighbouring factors' logarithms."
    )

    def build(self) -> LognormalNoise:
        """The noise model."""
        return LognormalNoise(**self.model_dump(exclude={"kind"}))


class RecordedNoiseConfig(Section):
    """Factors drawn from a recorded step log; see :class:`latency_models.laws.noise.RecordedNoise`.

    The log's own level is taken out: the factors have mean 1.
    """

    kind: Literal["recorded"]
    path: Path = Field(description="CSV with one recorded step per row.")
    block_steps: Count = Field(default=256, description="Consecutive steps that are drawn together.")

    @model_validator(mode="after")
    def _log_is_usable(self) -> RecordedNoiseConfig:
        refuse_in_pydantic(self.build)
        return self

    def build(self) -> RecordedNoise:
        """The noise model; reads the log."""
        return RecordedNoise(factors=RecordedSteps.read(self.path).centred_factors(), block_steps=self.block_steps)


NoiseConfig = Annotated[LognormalNoiseConfig | RecordedNoiseConfig, Field(discriminator="kind")]
"""Type of the ``noise:`` section, for use as a field of a pydantic model."""
