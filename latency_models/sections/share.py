"""``latency: {kind: share, share: 0.5, base: {...}}``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field, model_validator

from latency_models.errors import InputError
from latency_models.laws.compute_share import Shareable, at_share, share_notes
from latency_models.sections.base import LatencySection, Share, refuse_in_pydantic
from latency_models.sections.file import FileLatency
from latency_models.step_time import StepTimeModel

if TYPE_CHECKING:
    from latency_models.config import LatencyConfig


class ShareLatency(LatencySection):
    """Another model when MPS gives each shard a share of its GPU; see :mod:`latency_models.laws.compute_share`."""

    kind: Literal["share"]
    share: Share = Field(description="Share of the GPU's multiprocessors; laws were measured from 0.3 on.")
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
        whole = self.base.build()
        if self.share < 1.0 and not isinstance(whole, Shareable):
            inner = self.base.base if isinstance(self.base, FileLatency) else self.base
            raise InputError(
                f"share is {self.share:g}, but latency kind {inner.kind} cannot tell how it slows down; allowed: 1 "
                "with this kind. Use the kind steps, linear or roofline, or measure at that share and leave it out"
            )
        return at_share(whole, self.share)
