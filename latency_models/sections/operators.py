"""``latency: {kind: operators, ...}``."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from latency_models.sections.base import Count, Factor, LatencySection, refuse_in_pydantic
from latency_models.sections.catalogue import CatalogueEntry, architecture_named
from latency_models.step_time import StepTimeModel
from latency_models.tables.operator_composition import SUSTAINED, OperatorSetup, compose_operators
from latency_models.tables.operator_tables import CsvTables, OperatorTables, PackageTables


class OperatorLatency(LatencySection):
    """Measured operators; see :mod:`latency_models.tables.operators`."""

    kind: Literal["operators"]
    path: Path | None = Field(
        default=None, description="First part of the names of the tables: <path>_gemm.csv.gz, <path>_allreduce.csv ..."
    )
    system: str | None = Field(
        default=None, description="Instead of path: a GPU of the Python package aiconfigurator-core, e.g. h200_sxm."
    )
    version: str | None = Field(
        default=None, description="With system: highest vLLM version of the tables; default the newest."
    )
    model: str | CatalogueEntry = Field(description="Architecture: a name of the catalogue, or {path: config.json}.")
    tp: Count = Field(description="Tensor-parallel shards.")
    gemm: str = Field(default="bf16", description="Format of the dense weights: bf16, fp8, fp8_block or nvfp4.")
    kv_cache: str = Field(default="bf16", description="Format of the KV cache: bf16 or fp8.")
    experts: str | None = Field(default=None, description="Format of the experts' weights; default as gemm.")
    ep: Count = Field(default=1, description="Over how many of the shards the experts are distributed.")
    expert_choice: str | None = Field(
        default=None,
        description="How unevenly tokens choose experts, as the tables name it; default the least even: power_law_1.2.",
    )
    sustained: Factor = Field(
        default=SUSTAINED, description="Most that products reach for long, as a share of the tables' best bf16 product."
    )

    @model_validator(mode="after")
    def _composes(self) -> OperatorLatency:
        if (self.path is None) == (self.system is None):
            raise ValueError("give either path or system: where the operator tables are")
        if self.version is not None and self.system is None:
            raise ValueError("version has no effect with path; leave it out, or give system")
        refuse_in_pydantic(self.build)
        return self

    def at_tp(self, tp: int) -> Self:
        """The section for another number of shards."""
        return self.model_validate({**self.model_dump(), "tp": tp})

    def build(self) -> StepTimeModel:
        """The step-time model."""
        tables: OperatorTables
        if self.path is not None:
            tables = CsvTables(prefix=self.path)
        else:
            tables = PackageTables(system=str(self.system), version=self.version)
        setup = OperatorSetup(
            tp=self.tp,
            gemm=self.gemm,
            kv_cache=self.kv_cache,
            experts=self.experts,
            ep=self.ep,
            expert_choice=self.expert_choice,
            sustained=self.sustained,
        )
        return compose_operators(tables, architecture_named(self.model), setup)
