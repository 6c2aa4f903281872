"""The ``memory:`` section of a served model: where the KV blocks come from when they are not given."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator, model_validator

from latency_models.catalogue.architectures import Architecture
from latency_models.catalogue.engines import EngineDefaults, find_engine, version_note
from latency_models.catalogue.gpus import GpuSpec
from latency_models.catalogue.model_work import ModelWork
from latency_models.errors import InputError
from latency_models.memory.kv_capacity import kv_blocks_on
from latency_models.memory.kv_memory import GIB, KvShape, num_kv_blocks
from latency_models.sections.base import Count, Factor, Number, Section, Share, refuse_in_pydantic
from latency_models.sections.catalogue import CatalogueEntry, architecture_named, gpu_of
from sim.settings import EngineSettings

_NonNegative = Annotated[Number, Field(ge=0)]

_UTILISATION = 0.92
_BY_SIZES = ("weights_gib", "kv", "activation_reserve_gib")
_BY_NAMES = ("model", "gpu", "weights", "kv_cache", "vllm")


class KvSection(Section):
    """Keys and values of one token: twice ``layers`` x ``kv_heads`` x ``head_dim`` numbers of ``dtype_bytes``."""

    layers: Count
    kv_heads: Count
    head_dim: Count
    dtype_bytes: Factor = 2.0


class MemorySection(Section):
    """Either sizes (``weights_gib``, ``kv``, with ``gpus.memory_gib``) or names (``model``, ``gpu``)."""

    weights_gib: Factor | None = Field(default=None, description="Weights of the whole model.")
    kv: KvSection | None = None
    activation_reserve_gib: _NonNegative | None = Field(
        default=None, description="Activations, CUDA graphs and library buffers of a shard; default 0."
    )
    model: str | CatalogueEntry | None = Field(default=None, description="Architecture, or {path: config.json}.")
    gpu: str | CatalogueEntry | None = Field(default=None, description="GPU of each shard.")
    weights: str | None = Field(default=None, description="Format of the weights; default: the checkpoint's.")
    kv_cache: str | None = Field(default=None, description="Type of the KV cache; default: auto, 16 bits.")
    vllm: str | None = Field(default=None, description="Version of vLLM, in quotes; default: the newest known.")
    utilisation: Share | None = Field(
        default=None, description="gpu_memory_utilization; default: 0.92, or that of the version."
    )

    @field_validator("vllm", mode="before")
    @classmethod
    def _version_is_quoted(cls, value: object) -> object:
        # To YAML, an unquoted 0.10 is the number 0.1.
        if isinstance(value, int | float):
            raise ValueError(f"memory.vllm is {value}; allowed: a version in quotes, such as '0.11'")
        return value

    @model_validator(mode="after")
    def _is_one_form(self) -> MemorySection:
        sizes = [key for key in _BY_SIZES if getattr(self, key) is not None]
        names = [key for key in _BY_NAMES if getattr(self, key) is not None]
        if sizes and names:
            raise ValueError(
                f"{sizes[0]} contradicts {names[0]}; give either weights_gib and kv, or model and gpu. Keys of an "
                f"extended file are inherited, and null removes one: {sizes[0]}: null"
            )
        needed = ("model", "gpu") if names else ("weights_gib", "kv")
        missing = [key for key in needed if getattr(self, key) is None]
        if missing:
            raise ValueError(f"{missing[0]} is missing; give either weights_gib and kv, or model and gpu")
        if names:
            refuse_in_pydantic(self._named)
        return self

    def blocks(self, settings: EngineSettings, *, tp: int, memory_share: float, memory_gib: float | None) -> int:
        """KV blocks of a replica with these settings, whose own number of blocks is ignored.

        Raises
        ------
        InputError
            The model does not fit, or ``gpus.memory_gib`` is missing, or given beside a named GPU.
        """
        if self.model is not None:
            if memory_gib is not None:
                raise InputError(
                    f"gpus.memory_gib is {memory_gib:g}; allowed: nothing beside memory.gpu, whose memory is known. "
                    "Leave one of them out"
                )
            gpu, architecture, engine = self._named()
            return kv_blocks_on(
                gpu,
                architecture,
                tp=tp,
                weights=self.weights or "auto",
                kv_dtype=self.kv_cache or "auto",
                engine=engine,
                utilisation=self.utilisation,
                memory_share=memory_share,
                max_num_batched_tokens=settings.max_num_batched_tokens,
                max_num_seqs=settings.max_num_seqs,
                block_size=settings.block_size,
                max_model_len=settings.max_model_len,
            )
        if memory_gib is None:
            raise InputError("gpus.memory_gib is missing; the memory section needs it to derive the KV blocks")
        assert self.kv is not None
        assert self.weights_gib is not None
        return num_kv_blocks(
            KvShape(**self.kv.model_dump()),
            weight_bytes=self.weights_gib * GIB,
            gpu_memory_bytes=memory_gib * GIB,
            tp=tp,
            utilisation=_UTILISATION if self.utilisation is None else self.utilisation,
            memory_share=memory_share,
            activation_reserve_bytes=(self.activation_reserve_gib or 0.0) * GIB,
            block_size=settings.block_size,
            max_model_len=settings.max_model_len,
        )

    def notes(self) -> tuple[str, ...]:
        """What a user should know of the defaults that are taken."""
        note = None if self.vllm is None else version_note(self.vllm)
        return () if note is None else (note,)

    def _named(self) -> tuple[GpuSpec, Architecture, EngineDefaults]:
        """What the names stand for; an unknown one is an InputError."""
        assert self.model is not None
        assert self.gpu is not None
        architecture = architecture_named(self.model)
        ModelWork.of(architecture, weights=self.weights or "auto", kv_dtype=self.kv_cache or "auto")
        return gpu_of(self.gpu), architecture, find_engine(self.vllm)
