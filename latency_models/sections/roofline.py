"""``latency: {kind: roofline, ...}``."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from latency_models.catalogue.model_work import ModelWork
from latency_models.laws.roofline import COMPUTE_EFFICIENCY, KERNEL_S, MEMORY_EFFICIENCY, OVERHEAD_S, RooflineStepTime
from latency_models.sections.base import Count, LatencySection, Seconds, Share, refuse_in_pydantic
from latency_models.sections.catalogue import CatalogueEntry, architecture_named, gpu_of
from latency_models.step_time import StepTimeModel


class RooflineLatency(LatencySection):
    """Synthetic step times from a datasheet; see :class:`latency_models.laws.roofline.RooflineStepTime`."""

    kind: Literal["roofline"]
    gpu: str | CatalogueEntry = Field(description="GPU of each shard: a name of the catalogue.")
    model: str | CatalogueEntry = Field(description="Architecture: a name of the catalogue, or {path: config.json}.")
    tp: Count = Field(default=1, description="Tensor-parallel shards.")
    weights: str = Field(default="auto", description="Format of the weights; auto: the checkpoint's.")
    kv_cache: str = Field(default="auto", description="Type of the KV cache; auto: 16 bits.")
    compute_efficiency: Share = Field(default=COMPUTE_EFFICIENCY, description="Share of the throughput reached.")
    memory_efficiency: Share = Field(default=MEMORY_EFFICIENCY, description="Share of the bandwidth reached.")
    kernel_s: Seconds = Field(default=KERNEL_S, description="Seconds that a kernel takes at least.")
    overhead_s: Seconds = Field(default=OVERHEAD_S, description="Seconds of the engine between two steps.")
    compute_share: Share = Field(default=1.0, description="Share of the SMs that the shards get.")

    @model_validator(mode="after")
    def _is_known_and_fits_together(self) -> RooflineLatency:
        refuse_in_pydantic(self.build)
        return self

    def notes(self) -> tuple[str, ...]:
        """That nothing was measured."""
        return ("step times are synthetic (latency kind roofline), not measured",)

    def at_tp(self, tp: int) -> Self:
        """The section for another number of shards."""
        return self.model_validate({**self.model_dump(), "tp": tp})

    def build(self) -> StepTimeModel:
        """The step-time model."""
        options = self.model_dump(exclude={"kind", "gpu", "model", "weights", "kv_cache"})
        work = ModelWork.of(architecture_named(self.model), tp=self.tp, weights=self.weights, kv_dtype=self.kv_cache)
        return RooflineStepTime(gpu=gpu_of(self.gpu), work=work, **options)
