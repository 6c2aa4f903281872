"""``latency: {kind: steps, ...}``."""

from __future__ import annotations

from dataclasses import asdict
from typing import Literal, Self

from pydantic import Field, model_validator

from latency_models.errors import unknown_name
from latency_models.laws.share_residuals import FactorTable, ShareResiduals
from latency_models.laws.steps import FITTED_GPU, FITTED_MODELS, StepsCoefficients, StepsStepTime
from latency_models.sections.base import Count, LatencySection, Section, refuse_in_pydantic
from latency_models.sections.catalogue import CatalogueEntry, architecture_named, gpu_of


class FactorTableConfig(Section):
    """Measured over predicted time; see :class:`latency_models.laws.share_residuals.FactorTable`."""

    shares: tuple[float, ...] = Field(description="Shares of the multiprocessors, ascending.")
    tokens: tuple[int, ...] = Field(description="Tokens of the step, ascending.")
    factors: tuple[tuple[float, ...], ...] = Field(description="For each share, the factor of each number of tokens.")

    def build(self) -> FactorTable:
        """The table."""
        return FactorTable(shares=self.shares, tokens=self.tokens, factors=self.factors)


class ResidualsConfig(Section):
    """Factors of steps with prefill (``prefill``) and of steps without (``decode``)."""

    prefill: FactorTableConfig
    decode: FactorTableConfig


class StepsLatency(LatencySection):
    """The fitted law of a step's terms; see :class:`latency_models.laws.steps.StepsStepTime`."""

    kind: Literal["steps"]
    model: str | CatalogueEntry = Field(description="Architecture: a name of the catalogue, or {path: config.json}.")
    gpu: str | CatalogueEntry = Field(description="GPU of each shard: a name of the catalogue.")
    tp: Count = Field(default=1, description="Tensor-parallel shards.")
    weights: str = Field(default="auto", description="Format of the weights; auto: the checkpoint's.")
    kv_cache: str = Field(default="auto", description="Type of the KV cache; auto: 16 bits.")
    coefficients: dict[str, float] = Field(
        default_factory=dict, description="Coefficients that differ from the default fit (LLaMA on A100-80GB)."
    )
    residuals: ResidualsConfig | None = Field(
        default=None, description="Factors measured for this model and tp, over share and tokens."
    )
    fitted_models: tuple[str, ...] = Field(default=FITTED_MODELS, description="Models behind the coefficients.")
    fitted_gpu: str = Field(default=FITTED_GPU, description="GPU behind the coefficients.")

    @model_validator(mode="after")
    def _is_known_and_fits_together(self) -> StepsLatency:
        refuse_in_pydantic(self.build)
        return self

    def notes(self) -> tuple[str, ...]:
        """For what else than the fitted models the law is used."""
        return self.build().notes

    def at_tp(self, tp: int) -> Self:
        """The section for another number of shards."""
        return self.model_validate({**self.model_dump(), "tp": tp})

    def build(self) -> StepsStepTime:
        """The step-time model, on the whole GPU."""
        known = asdict(StepsCoefficients())
        for name in self.coefficients:
            if name not in known:
                raise unknown_name("coefficient of the steps law", name, known)
        residuals = None
        if self.residuals is not None:
            residuals = ShareResiduals(prefill=self.residuals.prefill.build(), decode=self.residuals.decode.build())
        return StepsStepTime(
            architecture=architecture_named(self.model),
            gpu=gpu_of(self.gpu),
            tp=self.tp,
            weights=self.weights,
            kv_dtype=self.kv_cache,
            coefficients=StepsCoefficients(**self.coefficients),
            residuals=residuals,
            fitted_models=self.fitted_models,
            fitted_gpu=self.fitted_gpu,
        )
