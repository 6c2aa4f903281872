"""The scenario file: its schema, as pydantic models, and the cluster that it describes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, create_model, model_validator

from latency_models.config import LatencyConfig, build_step_time
from latency_models.errors import InputError, invalid, unknown_name
from latency_models.sections.base import refuse_in_pydantic
from latency_models.sections.noise import NoiseConfig
from latency_models.sections.replay import ReplayLatency
from scenarios.latency_notes import check_same_server
from scenarios.memory_section import MemorySection
from scenarios.workloads.config import WorkloadConfig, clients_of
from sim.cluster_spec import (
    AdmissionLimit,
    ClusterSpec,
    ModelSpec,
    NoiseModel,
    PolicySpec,
    ReplicaSpec,
    RunSpec,
    SpeedChange,
)
from sim.settings import EngineSettings
from sim.stage import StageSpec
from sim.step_timer import EngineOverhead

NonNegative = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Index = Annotated[int, Field(ge=0, strict=True)]
Count = Annotated[int, Field(ge=1, strict=True)]
ReplicaCount = Annotated[int, Field(ge=1, le=10_000, strict=True)]


_ROUTERS_WITHOUT_NAMES = ("fractions", "round-robin")
_BALANCERS_WITHOUT_LOADS = ("round-robin", "random")


class _Section(BaseModel):
    """Base of the schema: unknown keys and infinite numbers are errors, and nothing changes after validation."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)


def _engine_section() -> type[BaseModel]:
    """The ``engine:`` section: every field of :class:`sim.settings.EngineSettings`, all optional."""
    types = get_type_hints(EngineSettings)
    strict = {bool: StrictBool, int: StrictInt}
    optional: dict[str, Any] = {
        entry.name: (strict.get(types[entry.name], types[entry.name]) | None, None) for entry in fields(EngineSettings)
    }
    section: type[BaseModel] = create_model("EngineSection", __base__=_Section, **optional)
    section.__doc__ = (
        "Engine settings, named as vLLM names them.  What is left out has the default of vLLM's server on an A100: "
        "asynchronous scheduling on, everything else as in the scheduler."
    )
    return section


if TYPE_CHECKING:
    EngineSection = BaseModel
else:
    EngineSection = _engine_section()


class PolicySection(BaseModel):
    """A policy by name; its other keys are its options."""

    model_config = ConfigDict(extra="allow", frozen=True)

    kind: str

    def spec(self) -> PolicySpec:
        """The policy with its options."""
        return PolicySpec(kind=self.kind, options=dict(self.model_extra or {}))


class BalancerSection(PolicySection):
    """A replica balancer."""

    staleness_s: NonNegative = 0.0

    def spec(self) -> PolicySpec:
        """The policy with its options."""
        return PolicySpec(kind=self.kind, options=dict(self.model_extra or {}))

    @model_validator(mode="after")
    def _staleness_has_an_effect(self) -> BalancerSection:
        if self.staleness_s and self.kind in _BALANCERS_WITHOUT_LOADS:
            raise ValueError(f"staleness_s has no effect on {self.kind}, which looks at no load; leave it out")
        return self


class StageSection(_Section):
    """A stage before or after the engine."""

    workers: Count = 1
    per_request_s: NonNegative = 0.0
    per_token_s: NonNegative = 0.0

    def spec(self) -> StageSpec:
        """The stage."""
        return StageSpec(workers=self.workers, per_request_s=self.per_request_s, per_token_s=self.per_token_s)


class AdmissionSection(_Section):
    """When a replica turns requests away."""

    max_queue_requests: Count | None = None
    max_queue_tokens: Count | None = None


class ReplicaSection(_Section):
    """One replica: a shard on each of its GPUs."""

    gpus: Annotated[tuple[Index, ...], Field(min_length=1)]
    memory_share: Annotated[float, Field(gt=0, le=1)] = 1.0
    slowdown: Positive = 1.0


class ModelSection(_Section):
    """One served model."""

    latency: LatencyConfig
    engine: EngineSection = EngineSection()
    memory: MemorySection | None = None
    replicas: (
        Annotated[int, Field(ge=1, le=10_000, strict=True)] | Annotated[tuple[ReplicaSection, ...], Field(min_length=1)]
    ) = 1
    """A list of replicas, or how many to put on the next free GPUs, ``tp`` GPUs each."""
    tp: Count | None = None
    balancer: str | BalancerSection = "least-requests"
    cpu_overhead_s: NonNegative = 0.0
    """CPU time of each step: added to it, or hidden behind it with asynchronous scheduling."""
    cpu_per_sequence_s: NonNegative = 0.0
    """More CPU time of a step for each sequence in it."""
    noise: NoiseConfig | None = None
    """Noise of the step times; default: none, or with latency kind replay the recorded one."""
    api_server: StageSection = StageSection()
    detokenise: StageSection = StageSection()
    admission: AdmissionSection = AdmissionSection()

    @model_validator(mode="after")
    def _tp_goes_with_a_count(self) -> ModelSection:
        if self.tp is not None and not isinstance(self.replicas, int):
            raise ValueError("tp goes with a number of replicas; a listed replica has one shard per GPU that it names")
        return self

    @model_validator(mode="after")
    def _latency_and_memory_are_of_one_server(self) -> ModelSection:
        if self.memory is not None:
            refuse_in_pydantic(partial(check_same_server, self.latency, self.memory))
        return self


class GpuSection(_Section):
    """The cluster's GPUs, all alike."""

    count: Count | None = None
    """Default: as many as the replicas use."""
    memory_gib: Positive | None = None


class SpeedSection(_Section):
    """A change of a replica's speed."""

    at_s: NonNegative
    model: str
    replica: Index = 0
    slowdown: Positive


class RunSection(_Section):
    """How long to run and how often."""

    until_s: Positive | None = None
    replications: Annotated[int, Field(ge=1, le=10_000, strict=True)] = 1
    warmup: Literal["auto"] | NonNegative = 0.0
    """Seconds left out of the summary, or ``auto`` (MSER-5)."""
    sample_interval_s: Positive = 1.0
    engine_mode: Literal["macro", "reference"] = "macro"
    oversized: Literal["error", "reject"] = "error"
    """What to do with a request that no replica could ever finish."""


class Scenario(_Section):
    """A scenario: cluster, routing, workload and what to measure."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    description: str = ""
    seed: Index = 0
    gpus: GpuSection = GpuSection()
    models: Annotated[dict[str, ModelSection], Field(min_length=1)]
    routing: str | PolicySection | None = None
    """Model router; may be left out when there is one model."""
    workload: WorkloadConfig
    slo: str | None = None
    """As ``vllm bench serve --goodput`` spells it, milliseconds: ``ttft:500 tpot:50 e2el:10000``."""
    speed_changes: tuple[SpeedSection, ...] = ()
    run: RunSection = RunSection()

    @model_validator(mode="after")
    def _routing_is_given(self) -> Scenario:
        if self.routing is None and len(self.models) > 1:
            raise ValueError("routing is missing; with several models name a router, e.g. routing: pinned")
        return self

    @model_validator(mode="after")
    def _workload_settings_have_an_effect(self) -> Scenario:
        router = self.routing if isinstance(self.routing, str | None) else self.routing.kind
        clients = clients_of(self.workload)
        if len(self.models) > 1 and router in _ROUTERS_WITHOUT_NAMES and any(client.model for client in clients):
            raise ValueError(
                f"workload.model has no effect with routing {router}; leave it out, or set routing: pinned"
            )
        by_priority = any(
            getattr(model.engine, "scheduling_policy", None) == "priority" for model in self.models.values()
        )
        if not by_priority and any(getattr(client, "priority", 0) for client in clients):
            raise ValueError("workload.priority has no effect without engine.scheduling_policy: priority")
        return self

    def cluster(self) -> ClusterSpec:
        """The cluster that the scenario describes.

        Raises
        ------
        InputError
            If settings contradict each other, or a model does not fit its GPUs.
        """
        names = list(self.models)
        next_gpu = 0
        specs: list[ModelSpec] = []
        for name, model in self.models.items():
            placed, next_gpu = _placed(model, next_gpu)
            specs.append(_model_spec(name, model, placed, self.gpus.memory_gib))
        used = 1 + max(gpu for spec in specs for replica in spec.replicas for gpu in replica.gpus)
        return ClusterSpec(
            gpus=used if self.gpus.count is None else self.gpus.count,
            models=tuple(specs),
            router=_policy("round-robin" if self.routing is None else self.routing),
            speed_changes=tuple(self._speed_change(change, names) for change in self.speed_changes),
            oversized=self.run.oversized,
        )

    def _speed_change(self, change: SpeedSection, names: list[str]) -> SpeedChange:
        if change.model not in names:
            raise unknown_name("model in speed_changes", change.model, names)
        section = self.models[change.model].replicas
        replicas = section if isinstance(section, int) else len(section)
        if change.replica >= replicas:
            raise invalid("speed_changes.replica", change.replica, f"0 to {replicas - 1}, a replica of {change.model}")
        return SpeedChange(
            at_s=change.at_s, model=names.index(change.model), replica=change.replica, slowdown=change.slowdown
        )

    def run_spec(self, replication: int, *, shared_content: bool) -> RunSpec:
        """How to run one replication."""
        return RunSpec(
            seed=self.seed,
            replication=replication,
            mode=self.run.engine_mode,
            until_s=float("inf") if self.run.until_s is None else self.run.until_s,
            sample_interval_s=self.run.sample_interval_s,
            shared_content=shared_content,
        )


def cluster_of(name: str, model: ModelSection, memory_gib: float | None = None) -> ClusterSpec:
    """A cluster that serves one model and nothing else.

    Raises
    ------
    InputError
        If settings contradict each other, or the model does not fit its GPUs.
    """
    placed, gpus = _placed(model, 0)
    spec = _model_spec(name, model, placed, memory_gib)
    return ClusterSpec(gpus=gpus, models=(spec,), router=PolicySpec(kind="round-robin"))


def _policy(section: str | PolicySection) -> PolicySpec:
    return PolicySpec(kind=section) if isinstance(section, str) else section.spec()


def _placed(model: ModelSection, next_gpu: int) -> tuple[tuple[ReplicaSection, ...], int]:
    """The replicas with their GPUs, and the first GPU that is still free."""
    if not isinstance(model.replicas, int):
        highest = max(gpu for replica in model.replicas for gpu in replica.gpus)
        return model.replicas, max(next_gpu, highest + 1)
    tp = model.tp or 1
    placed = tuple(
        ReplicaSection(gpus=tuple(range(next_gpu + number * tp, next_gpu + (number + 1) * tp)))
        for number in range(model.replicas)
    )
    return placed, next_gpu + model.replicas * tp


def _model_spec(
    name: str, model: ModelSection, replicas: tuple[ReplicaSection, ...], memory_gib: float | None
) -> ModelSpec:
    try:
        _check_shards(model.latency, replicas)
        balancer = model.balancer
        return ModelSpec(
            name=name,
            step_time=build_step_time(model.latency),
            replicas=tuple(
                ReplicaSpec(
                    gpus=replica.gpus,
                    settings=_settings(model, replica, memory_gib),
                    memory_share=replica.memory_share,
                    slowdown=replica.slowdown,
                )
                for replica in replicas
            ),
            balancer=_policy(balancer),
            staleness_s=0.0 if isinstance(balancer, str) else balancer.staleness_s,
            noise=_noise(model),
            overhead=EngineOverhead(step_s=model.cpu_overhead_s, per_sequence_s=model.cpu_per_sequence_s),
            api_server=model.api_server.spec(),
            detokenise=model.detokenise.spec(),
            admission=AdmissionLimit(**model.admission.model_dump()),
        )
    except InputError as error:
        raise InputError(f"models.{name}: {error}") from None


def _noise(model: ModelSection) -> NoiseModel | None:
    """Noise that is asked for, or that comes with a recorded latency model, also inside another one."""
    if model.noise is not None:
        return model.noise.build()
    latency: object = model.latency
    while latency is not None:
        if isinstance(latency, ReplayLatency):
            return latency.build_noise()
        latency = getattr(latency, "base", None)
    return None


def _check_shards(latency: object, replicas: tuple[ReplicaSection, ...]) -> None:
    """A latency model that was made for a number of shards serves replicas of that many GPUs."""
    while latency is not None:
        tp = getattr(latency, "tp", None)
        for replica in replicas:
            if isinstance(tp, int) and len(replica.gpus) != tp:
                raise invalid(
                    "latency.tp", tp, f"the number of GPUs of every replica, here {len(replica.gpus)}", "Set tp to it"
                )
        latency = getattr(latency, "base", None)


def _settings(model: ModelSection, replica: ReplicaSection, memory_gib: float | None) -> EngineSettings:
    section: BaseModel = model.engine
    values = section.model_dump(exclude_none=True)
    values = _server_defaults(values) | values
    if "num_gpu_blocks" in values:
        if model.memory is not None:
            raise invalid("memory", "given", "nothing beside engine.num_gpu_blocks, which already says the KV capacity")
        return EngineSettings(**values)
    if model.memory is None:
        raise InputError(
            "the KV capacity is missing; allowed: engine.num_gpu_blocks, or a memory section: model and gpu, "
            "or weights_gib and kv together with gpus.memory_gib"
        )
    blocks = model.memory.blocks(
        EngineSettings(**values), tp=len(replica.gpus), memory_share=replica.memory_share, memory_gib=memory_gib
    )
    return EngineSettings(num_gpu_blocks=blocks, **values)


def _server_defaults(values: Mapping[str, Any]) -> dict[str, Any]:
    """Defaults of vLLM's server where they differ from the scheduler's."""
    if values.get("scheduler") == "vllm-v0":
        longest = values.get("max_model_len", EngineSettings().max_model_len)
        return {
            "enable_chunked_prefill": False,
            "enable_prefix_caching": False,
            "watermark": 0.01,
            "max_num_batched_tokens": max(longest, 2048),
        }
    return {"async_scheduling": True}
