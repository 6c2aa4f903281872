"""``latency: {kind: piecewise, ...}``."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from latency_models.sections.base import (
    Count,
    LatencySection,
    PositiveSeconds,
    Seconds,
    Section,
    Tokens,
    refuse_in_pydantic,
)
from latency_models.step_time import StepTimeModel
from latency_models.tables.piecewise import DecodeRow, PiecewiseStepTime, PrefillTable


class DecodeRowConfig(Section):
    """Decode steps measured at one batch size."""

    batch: Count = Field(description="Decoding sequences.")
    context_tokens: tuple[Tokens, ...] = Field(min_length=2, description="Total context of the batch, ascending.")
    step_s: tuple[PositiveSeconds, ...] = Field(min_length=2, description="Duration of the step at each point.")


class PrefillTableConfig(Section):
    """Steps measured with prefill only."""

    tokens: tuple[Tokens, ...] = Field(min_length=2, description="Prefill tokens of the step, ascending.")
    step_s: tuple[PositiveSeconds, ...] = Field(min_length=2, description="Duration of the step at each point.")


class PiecewiseLatency(LatencySection):
    """Tables of measured step times; see :class:`latency_models.tables.piecewise.PiecewiseStepTime`."""

    kind: Literal["piecewise"]
    decode: tuple[DecodeRowConfig, ...] = Field(min_length=1, description="One row per batch size, ascending.")
    prefill: PrefillTableConfig
    shared_s: Seconds | None = Field(
        default=None,
        description="Seconds that both tables contain and a mixed step pays once; default: the smallest decode time.",
    )
    extrapolate: bool = Field(default=False, description="Prolong the nearest cell outside the tables.")
    pad_batch_to: tuple[Count, ...] = Field(
        default=(), description="Sizes that a decode-only batch is padded up to (CUDA graphs), ascending."
    )

    @model_validator(mode="after")
    def _tables_agree(self) -> PiecewiseLatency:
        refuse_in_pydantic(self.build)
        return self

    def build(self) -> StepTimeModel:
        """The step-time model."""
        return PiecewiseStepTime(
            decode=tuple(
                DecodeRow(batch=row.batch, context_tokens=row.context_tokens, step_s=row.step_s) for row in self.decode
            ),
            prefill=PrefillTable(tokens=self.prefill.tokens, step_s=self.prefill.step_s),
            shared_s=self.shared_s,
            extrapolate=self.extrapolate,
            pad_batch_to=self.pad_batch_to,
        )
