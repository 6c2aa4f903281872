"""``latency: {kind: share, share: 0.5, base: {...}}``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, model_validator

from latency_models.laws.compute_share import at_share, share_notes
from latency_models.sections.base import LatencySection, refuse_in_pydantic
from latency_models.step_time import StepTimeModel

if TYPE_CHECKING:
    from latency_models.config import LatencyConfig


class ShareLatency(LatencySection):
    """Another model when MPS gives each shard a share of its GPU; see :mod:`latency_models.laws.compute_share`."""

    kind: Literal["share"]
    share: Annotated[float, Field(gt=0.0, le=1.0, allow_inf_nan=False)] = Field(
        description="Share of the GPU's multiprocessors; laws were measured from 0.3 on."
    )
    base: LatencyConfig = Field(description="The latency section of the whole GPU.")

    @model_validator(mode="after")
    def _base_knows_shares(self) -> ShareLatency:
        refuse_in_pydantic(self.build)
        return self

    def notes(self) -> tuple[str, ...]:
        """What is extrapolated."""
        return (*share_notes(self.share), *super().notes())

    def build(self) -> StepTimeModel:
        """The step-time model."""
        return at_share(self.base.build(), self.share)
