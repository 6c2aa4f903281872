"""What a cluster is made of: models, their replicas, and the GPUs that the replicas' shards sit on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np

from latency_models.errors import check_count, check_finite, invalid, unknown_name
from latency_models.laws.compute_share import check_share
from latency_models.step_time import StepTimeModel
from sim.fault_spec import FaultSpec
from sim.prompts import PromptSpec
from sim.settings import EngineSettings
from sim.sharing.contention import ContentionModel
from sim.stage import StageSpec
from sim.vllm.step_timer import EngineOverhead, StepNoise


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicySpec:
    """A policy by name, with its options."""

    kind: str
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class AdmissionLimit:
    """When a replica turns requests away; ``None`` is no limit."""

    max_queue_requests: int | None = None
    """Most requests waiting at the chosen replica."""
    max_queue_tokens: int | None = None
    """Most prompt tokens waiting there."""
    by_class: Mapping[str, AdmissionLimit] = field(default_factory=dict)
    """Limits on what waits there of one request class, beside those on everything."""

    def __post_init__(self) -> None:
        for name, limit in self.by_class.items():
            if limit.by_class:
                raise invalid(f"admission.by_class.{name}.by_class", "given", "limits of requests and tokens only")
        if self.max_queue_requests is not None:
            check_count("admission.max_queue_requests", self.max_queue_requests)
        if self.max_queue_tokens is not None:
            check_count("admission.max_queue_tokens", self.max_queue_tokens)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaSpec:
    """One engine with its shards: as many as it names GPUs (tensor parallel)."""

    gpus: tuple[int, ...]
    settings: EngineSettings
    memory_share: float = 1.0
    """Share of each GPU's memory that its shard takes."""
    compute_share: float = 1.0
    """MPS cap of each shard, at which the step times were taken."""
    slowdown: float = 1.0
    """Constant factor on all step times."""

    def __post_init__(self) -> None:
        if not self.gpus:
            raise invalid("replica.gpus", list(self.gpus), "at least one GPU number")
        if len(set(self.gpus)) < len(self.gpus):
            raise invalid("replica.gpus", list(self.gpus), "different GPUs, one shard on each")
        check_finite("replica.slowdown", self.slowdown, exclusive=True)
        if not 0 < self.memory_share <= 1:
            raise invalid("replica.memory_share", self.memory_share, "a share of the GPU's memory, 0 < share <= 1")
        check_share("replica.compute_share", self.compute_share)


class NoiseModel(Protocol):
    """Makes the noise of each replica's step times."""

    def stream(self, seed: np.random.SeedSequence) -> StepNoise:
        """Factors of one replica, in one replication; the same for the same seed."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """One served model."""

    name: str
    step_time: StepTimeModel
    replicas: tuple[ReplicaSpec, ...]
    balancer: PolicySpec = field(default_factory=lambda: PolicySpec(kind="least-requests"))
    staleness_s: float = 0.0
    """Age that the balancer's view of the loads may reach before it is refreshed."""
    overhead: EngineOverhead = field(default_factory=EngineOverhead)
    """CPU time of each engine step."""
    noise: NoiseModel | None = None
    """Noise of the step times; each replica has a stream of its own."""
    api_server: StageSpec = field(default_factory=StageSpec)
    detokenise: StageSpec = field(default_factory=StageSpec)
    admission: AdmissionLimit = field(default_factory=AdmissionLimit)

    def __post_init__(self) -> None:
        if not self.replicas:
            raise invalid(f"models.{self.name}.replicas", [], "at least one replica")
        check_finite(f"models.{self.name}.staleness_s", self.staleness_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeedChange:
    """From ``at_s`` on a replica takes ``slowdown`` times as long as its model says (co-tenants, faults)."""

    at_s: float
    model: int
    replica: int
    slowdown: float

    def __post_init__(self) -> None:
        check_finite("speed_changes.at_s", self.at_s)
        check_count("speed_changes.model", self.model, minimum=0)
        check_count("speed_changes.replica", self.replica, minimum=0)
        check_finite("speed_changes.slowdown", self.slowdown, exclusive=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterSpec:
    """A cluster.

    Raises
    ------
    InputError
        A replica names a GPU that does not exist, two shards of one model share a GPU, or memory is given out twice.
    """

    gpus: int
    models: tuple[ModelSpec, ...]
    router: PolicySpec
    router_stage: StageSpec = field(default_factory=StageSpec)
    """What the model router itself takes before each decision, tokens being those of the prompt."""
    router_staleness_s: float = 0.0
    """Age that the model router's view of the loads may reach before it is refreshed."""
    ttft_limit_s: float | None = None
    """What users expect, for routers that go by it."""
    speed_changes: tuple[SpeedChange, ...] = ()
    oversized: Literal["error", "reject"] = "error"
    """What to do with a request that no replica could ever finish."""
    contention: ContentionModel | None = None
    """How replicas on one GPU slow each other down; ``None``: not at all."""
    faults: FaultSpec | None = None
    """What crashes, and when; ``None``: nothing ever does."""
    prompts: PromptSpec | None = None
    """What the requests ask, with scores by model; ``None``: requests have lengths only."""

    def __post_init__(self) -> None:
        check_count("gpus.count", self.gpus)
        check_finite("router.staleness_s", self.router_staleness_s)
        if self.ttft_limit_s is not None:
            check_finite("ttft_limit_s", self.ttft_limit_s, exclusive=True)
        if not self.models:
            raise invalid("models", [], "at least one model")
        if self.oversized not in ("error", "reject"):
            raise unknown_name("oversized", self.oversized, ("error", "reject"))
        names = [model.name for model in self.models]
        for name in names:
            if names.count(name) > 1:
                raise invalid("models", names, "models with different names")
        if self.prompts is not None and list(self.prompts.table.models) != names:
            raise invalid("models of the prompt table", list(self.prompts.table.models), f"{names}, in this order")
        if self.faults is not None:
            self.faults.check(tuple(len(model.replicas) for model in self.models), self.gpus)
        for change in self.speed_changes:
            if change.model >= len(self.models):
                raise invalid("speed_changes.model", change.model, f"0 to {len(self.models) - 1}, a model's index")
            replicas = len(self.models[change.model].replicas)
            if change.replica >= replicas:
                raise invalid("speed_changes.replica", change.replica, f"0 to {replicas - 1}, a replica of the model")
        memory = [0.0] * self.gpus
        for model in self.models:
            taken: set[int] = set()
            for number, replica in enumerate(model.replicas):
                where = f"models.{model.name}.replicas[{number}].gpus"
                for gpu in replica.gpus:
                    if not 0 <= gpu < self.gpus:
                        raise invalid(where, gpu, f"GPU numbers 0 to {self.gpus - 1} (gpus.count is {self.gpus})")
                    if gpu in taken:
                        raise invalid(where, gpu, "a GPU without another shard of the same model")
                    taken.add(gpu)
                    memory[gpu] += replica.memory_share
        for gpu, share in enumerate(memory):
            if share > 1 + 1e-9:
                raise invalid(
                    f"sum of memory_share on GPU {gpu}",
                    round(share, 6),
                    "at most 1",
                    "Lower the replicas' memory_share, or move one of them to another GPU.",
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSpec:
    """How to run a cluster once."""

    seed: int = 0
    replication: int = 0
    mode: Literal["macro", "reference"] = "macro"
    until_s: float = math.inf
    """Stop the clock here; what is still in the system counts as unfinished."""
    sample_interval_s: float = 1.0
    """Time between samples of the live state; doubled whenever a run gets more than ``max_samples`` of them."""
    max_samples: int = 1000
    shared_content: bool = True
    """Whether requests may share prompt content.  False makes blocks plain numbers, which is faster."""

    def __post_init__(self) -> None:
        check_count("seed", self.seed, minimum=0)
        check_count("replication", self.replication, minimum=0)
        check_count("max_samples", self.max_samples, minimum=2)
        if self.mode not in ("macro", "reference"):
            raise unknown_name("engine mode", self.mode, ("macro", "reference"))
        check_finite("sample_interval_s", self.sample_interval_s, exclusive=True)
        if not self.until_s > 0:
            raise invalid("until_s", self.until_s, "a time > 0")
