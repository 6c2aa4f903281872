"""The problem file of ``routerwise optimize``: its schema, as pydantic models."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StrictBool, model_validator

from latency_models.sections.base import Count
from latency_models.sections.catalogue import CatalogueEntry
from optimizer.problem import Metric, Packing, Statistic
from scenarios.prompt_tables.sections import AnyPrompts, PathSection
from scenarios.section import Section

_Positive = Annotated[float, Field(gt=0)]
_NonNegative = Annotated[float, Field(ge=0)]
_Share = Annotated[float, Field(gt=0, le=1)]
_NonEmpty = Field(min_length=1)


class ProblemGpus(Section):
    """The GPUs, all alike."""

    count: Count
    """How many."""
    type: str | CatalogueEntry | None = None
    """Name of the catalogue, such as a100-80gb; says the memory."""
    memory_gib: _Positive | None = None
    """Memory of each, where no type is given."""
    usable: _Share = 0.92
    """Share of the memory that engines may take together, vLLM's gpu_memory_utilization."""

    @model_validator(mode="after")
    def _memory_is_known_once(self) -> ProblemGpus:
        if (self.type is None) == (self.memory_gib is None):
            raise ValueError("gpus needs either type, a name of the catalogue, or memory_gib; give one of them")
        return self


class ShardMemory(Section):
    """What one shard takes of its GPU: its part of the weights, KV blocks, and a reserve for all else."""

    model: str | CatalogueEntry | None = None
    """Architecture in the catalogue, or {path: config.json}; says the weights and which tp divides the heads."""
    weights: str = "auto"
    """Format of the weights of that architecture."""
    weights_gib: _Positive | None = None
    """Weights of the whole model, where no architecture is named."""
    kv_gib: _NonNegative = 0.0
    """KV blocks of each shard.  The curves must be of this much."""
    reserve_gib: _NonNegative = 3.0
    """Activations, CUDA graphs and library buffers of each shard."""
    per_shard_gib: Annotated[dict[Count, _Positive], _NonEmpty] | None = None
    """Or everything together, by tp."""

    @model_validator(mode="after")
    def _is_one_form(self) -> ShardMemory:
        given = [name for name in ("model", "weights_gib", "per_shard_gib") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"memory has {given or 'no weights'}; allowed: one of model, weights_gib, per_shard_gib")
        if self.per_shard_gib is not None and {"kv_gib", "reserve_gib"} & self.model_fields_set:
            raise ValueError("memory.per_shard_gib is everything together; leave kv_gib and reserve_gib out")
        if self.model is None and "weights" in self.model_fields_set:
            raise ValueError("memory.weights has no effect without memory.model; leave it out")
        return self


class ProblemModel(Section):
    """A model, and the ways to run it: those of its curves, or of them the ones with the listed values."""

    tp: Annotated[tuple[Count, ...], _NonEmpty] | None = None
    """Tensor-parallel degrees to choose from; default: those of its curves."""
    compute_shares: Annotated[tuple[_Share, ...], _NonEmpty] | None = None
    """MPS shares of each GPU to choose from; default: those of its curves."""
    replicas: Annotated[tuple[Count, ...], _NonEmpty] | None = None
    """Numbers of replicas to choose from; default: those of its curves."""
    optional: StrictBool = False
    """Whether it may be left out."""
    memory: ShardMemory
    """What one shard takes of its GPU."""
    engine: dict[str, bool | int | float | str] | None = None
    """Settings of the engine that the curves are of, named as vLLM names them; the plan passes them on."""
    curves: str | None = None
    """Its name in the curves; default: the same."""
    scores: str | None = None
    """Its column in the prompt table; default: the same."""

    @model_validator(mode="after")
    def _lists_hold_each_value_once(self) -> ProblemModel:
        for name in ("tp", "compute_shares", "replicas"):
            values = getattr(self, name)
            if values is not None and len(set(values)) < len(values):
                raise ValueError(f"{name} is {list(values)}; allowed: each value once")
        return self


class LoadSection(Section):
    """One of several loads."""

    rate_per_s: _Positive
    """Requests per second of all models together."""
    weight: _Positive = 1.0
    """How much it counts; weights are divided by their sum."""


class SloSection(Section):
    """A target."""

    metric: Metric
    """Which latency."""
    statistic: Statistic = "mean"
    """Mean or percentile of it."""
    target_ms: _Positive
    """Its limit."""
    model: str | None = None
    """Whose requests; default: those of all models together."""


class ProblemFile(Section):
    """The whole file."""

    name: str | None = None
    """Of the plan; default: the file's name."""
    description: str = ""
    """What is asked."""
    gpus: ProblemGpus
    """The GPUs."""
    models: Annotated[dict[str, ProblemModel], _NonEmpty]
    """The models to choose among, by name."""
    curves: PathSection | Annotated[tuple[PathSection, ...], _NonEmpty]
    """Files of ``routerwise profile``, or of measured curves."""
    prompts: AnyPrompts
    """The prompt table: ``builtin``, or a file."""
    loads: _Positive | Annotated[tuple[LoadSection, ...], _NonEmpty]
    """Requests/s of all models together, or several loads that one setup must carry."""
    slos: Annotated[tuple[SloSection, ...], _NonEmpty]
    """The targets; all must hold at every load."""
    packing: Packing = "compute"
    """What the shards on a GPU may not exceed: memory and compute shares, or memory alone."""
