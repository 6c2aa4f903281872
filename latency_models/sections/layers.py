"""``latency: {kind: layers, ...}``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from latency_models.sections.base import Count, LatencySection, Seconds, Section, refuse_in_pydantic
from latency_models.step_time import StepTimeModel
from latency_models.tables.layer_profile import LayerProfile
from latency_models.tables.layers import (
    LINK_BYTES_PER_S,
    LINK_LATENCY_S,
    LONGEST_SEQUENCES,
    UNSPLIT_SEQS,
    AllReduce,
    LayersStepTime,
)


class AllReduceConfig(Section):
    """Cost of an all-reduce; see :class:`latency_models.tables.layers.AllReduce`."""

    hidden_size: Count = Field(description="Elements per token, two bytes each.")
    latency_s: Seconds = Field(default=LINK_LATENCY_S, description="Start-up of one exchange, in seconds.")
    bytes_per_s: Annotated[float, Field(gt=0.0, allow_inf_nan=False)] = Field(
        default=LINK_BYTES_PER_S, description="Bandwidth of a GPU's link in one direction."
    )


class ExpertProfileConfig(Section):
    """A MoE profile measured at another tensor-parallel size."""

    path: Path = Field(description="What the name of the profile's _moe file begins with.")
    shards: Count = Field(description="GPUs that share its times evenly.")


class LayersLatency(LatencySection):
    """A layer profile; see :class:`latency_models.tables.layers.LayersStepTime`."""

    kind: Literal["layers"]
    path: Path = Field(description="What the names of the profile's files begin with.")
    layers: Count = Field(description="Transformer layers of the model.")
    tp: Count = Field(default=1, description="Tensor-parallel size that the profile was measured at.")
    all_reduce: AllReduceConfig | None = Field(default=None, description="Given if and only if tp is above 1.")
    experts: ExpertProfileConfig | None = Field(
        default=None, description="MoE profile to use; default: the one beside the other files, if any."
    )
    longest_sequences: Annotated[float, Field(ge=0.0, allow_inf_nan=False)] = Field(
        default=LONGEST_SEQUENCES,
        description="For how many sequences at the longest context attention takes longer; 0: contexts are equal.",
    )
    unsplit_seqs: Count = Field(
        default=UNSPLIT_SEQS, description="Decodes from which on this holds for steps without prefill."
    )
    extrapolate: bool = Field(default=False, description="Prolong the profile in proportion above its last points.")
    pad_tokens_to: tuple[Count, ...] = Field(
        default=(), description="Tokens that the dense kernels are padded up to (CUDA graphs), ascending."
    )

    @model_validator(mode="after")
    def _profile_is_usable(self) -> LayersLatency:
        refuse_in_pydantic(self.build)
        return self

    def build(self) -> StepTimeModel:
        """The step-time model; reads the profile."""
        experts = self.experts
        return LayersStepTime(
            profile=LayerProfile.read(self.path, experts_prefix=None if experts is None else experts.path),
            layers=self.layers,
            tp=self.tp,
            all_reduce=None if self.all_reduce is None else AllReduce(**self.all_reduce.model_dump()),
            expert_shards=1 if experts is None else experts.shards,
            longest_sequences=self.longest_sequences,
            unsplit_seqs=self.unsplit_seqs,
            extrapolate=self.extrapolate,
            pad_tokens_to=self.pad_tokens_to,
        )
