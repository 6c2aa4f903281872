"""The section of one served model: its schema, and the model that it describes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, create_model, model_validator

from latency_models.config import LatencyConfig, build_step_time
from latency_models.errors import InputError, invalid
from latency_models.sections.base import refuse_in_pydantic
from latency_models.sections.noise import NoiseConfig
from latency_models.sections.replay import ReplayLatency
from latency_models.sections.share import ShareLatency
from scenarios.latency_notes import check_same_server
from scenarios.memory_section import MemorySection
from scenarios.section import Count, Index, NonNegative, Positive, Section
from sim.cluster_spec import AdmissionLimit, ClusterSpec, ModelSpec, NoiseModel, PolicySpec, ReplicaSpec
from sim.settings import EngineSettings
from sim.stage import StageSpec
from sim.vllm.step_timer import EngineOverhead

_BALANCERS_WITHOUT_LOADS = ("round-robin", "random")


def _engine_section() -> type[BaseModel]:
    """The ``engine:`` section: every field of :class:`sim.settings.EngineSettings`, all optional."""
    types = get_type_hints(EngineSettings)
    strict = {bool: StrictBool, int: StrictInt}
    optional: dict[str, Any] = {
        entry.name: (strict.get(types[entry.name], types[entry.name]) | None, None) for entry in fields(EngineSettings)
    }
    section: type[BaseModel] = create_model("EngineSection", __base__=Section, **optional)
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

    model_config = ConfigDict(extra="allow", frozen=True, use_attribute_docstrings=True)

    kind: str
    """Its name."""

    def spec(self) -> PolicySpec:
        """The policy with its options."""
        return PolicySpec(kind=self.kind, options=dict(self.model_extra or {}))


class BalancerSection(PolicySection):
    """A replica balancer."""

    staleness_s: NonNegative = 0.0
    """Age that its view of the loads may reach before it is refreshed."""

    def spec(self) -> PolicySpec:
        """The policy with its options."""
        return PolicySpec(kind=self.kind, options=dict(self.model_extra or {}))

    @model_validator(mode="after")
    def _staleness_has_an_effect(self) -> BalancerSection:
        if self.staleness_s and self.kind in _BALANCERS_WITHOUT_LOADS:
            raise ValueError(f"staleness_s has no effect on {self.kind}, which looks at no load; leave it out")
        return self


class StageSection(Section):
    """A stage before or after the engine."""

    workers: Count = 1
    """How many requests it handles at once."""
    per_request_s: NonNegative = 0.0
    """Seconds that each takes there."""
    per_token_s: NonNegative = 0.0
    """More seconds for each token."""

    def spec(self) -> StageSpec:
        """The stage."""
        return StageSpec(workers=self.workers, per_request_s=self.per_request_s, per_token_s=self.per_token_s)


class QueueLimitSection(Section):
    """How much may wait at a replica."""

    max_queue_requests: Count | None = None
    """Requests that may wait at a replica."""
    max_queue_tokens: Count | None = None
    """Prompt tokens that may wait there."""

    def spec(self) -> AdmissionLimit:
        """The limit."""
        return AdmissionLimit(max_queue_requests=self.max_queue_requests, max_queue_tokens=self.max_queue_tokens)


class AdmissionSection(QueueLimitSection):
    """When a replica turns requests away."""

    by_class: dict[str, QueueLimitSection] = Field(default_factory=dict)
    """Limits on what waits of one request class, beside those on everything."""

    @model_validator(mode="after")
    def _limits_limit(self) -> AdmissionSection:
        for name, limit in self.by_class.items():
            if limit == QueueLimitSection():
                raise ValueError(f"by_class.{name} limits nothing; give max_queue_requests or max_queue_tokens")
        return self

    def spec(self) -> AdmissionLimit:
        """The limit."""
        by_class = {name: limit.spec() for name, limit in self.by_class.items()}
        return AdmissionLimit(
            max_queue_requests=self.max_queue_requests, max_queue_tokens=self.max_queue_tokens, by_class=by_class
        )


class ReplicaSection(Section):
    """One replica: a shard on each of its GPUs."""

    gpus: Annotated[tuple[Index, ...], Field(min_length=1)]
    """The GPUs, from 0; more than one is tensor parallel."""
    memory_share: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Share of each GPU's memory."""
    compute_share: Annotated[float, Field(gt=0, le=1)] | None = None
    """MPS cap of each shard, at which its step times were taken; default: that of the latency section, or 1."""
    slowdown: Positive = 1.0
    """Factor on its step times."""


class ModelSection(Section):
    """One served model."""

    latency: LatencyConfig
    """How long a step takes."""
    engine: EngineSection = EngineSection()
    """Engine settings."""
    memory: MemorySection | None = None
    """Where the KV blocks come from, if ``engine.num_gpu_blocks`` does not say."""
    replicas: (
        Annotated[int, Field(ge=1, le=10_000, strict=True)] | Annotated[tuple[ReplicaSection, ...], Field(min_length=1)]
    ) = 1
    """A list of replicas, or how many to put on the next free GPUs, ``tp`` GPUs each."""
    tp: Count | None = None
    """GPUs of each replica, where ``replicas`` is a number; default: 1."""
    balancer: str | BalancerSection = "least-requests"
    """Which of its replicas serves a request."""
    cpu_overhead_s: NonNegative = 0.0
    """CPU time of each step: added to it, or hidden behind it with asynchronous scheduling."""
    cpu_per_sequence_s: NonNegative = 0.0
    """More CPU time of a step for each sequence in it."""
    noise: NoiseConfig | None = None
    """Noise of the step times; default: none, or with latency kind replay the recorded one."""
    api_server: StageSection = StageSection()
    """The stage before the engine."""
    detokenise: StageSection = StageSection()
    """The stage behind the engine."""
    admission: AdmissionSection = AdmissionSection()
    """When a replica turns requests away."""
    scores: str | None = None
    """Its column in the prompt table; default: its name."""

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


def cluster_of(name: str, model: ModelSection, memory_gib: float | None = None) -> ClusterSpec:
    """A cluster that serves one model and nothing else.

    Raises
    ------
    InputError
        If settings contradict each other, or the model does not fit its GPUs.
    """
    placed, gpus = placed_replicas(model, 0)
    spec = model_spec(name, model, placed, memory_gib)
    return ClusterSpec(gpus=gpus, models=(spec,), router=PolicySpec(kind="round-robin"))


def policy_spec(section: str | PolicySection) -> PolicySpec:
    """The policy that a section names, which may be a name alone."""
    return PolicySpec(kind=section) if isinstance(section, str) else section.spec()


def placed_replicas(model: ModelSection, next_gpu: int) -> tuple[tuple[ReplicaSection, ...], int]:
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


def model_spec(
    name: str, model: ModelSection, replicas: tuple[ReplicaSection, ...], memory_gib: float | None
) -> ModelSpec:
    """The model that a section describes, with its replicas where they are placed.

    Raises
    ------
    InputError
        Naming the model: settings contradict each other, or it does not fit its GPUs.
    """
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
                    compute_share=_compute_share(model.latency, replica),
                    slowdown=replica.slowdown,
                )
                for replica in replicas
            ),
            balancer=policy_spec(balancer),
            staleness_s=0.0 if isinstance(balancer, str) else balancer.staleness_s,
            noise=_noise(model),
            overhead=EngineOverhead(step_s=model.cpu_overhead_s, per_sequence_s=model.cpu_per_sequence_s),
            api_server=model.api_server.spec(),
            detokenise=model.detokenise.spec(),
            admission=model.admission.spec(),
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


def _compute_share(latency: object, replica: ReplicaSection) -> float:
    """The cap that the step times were taken at: that of a latency of kind share, also inside another one."""
    while latency is not None:
        if isinstance(latency, ShareLatency):
            if replica.compute_share not in (None, latency.share):
                raise invalid(
                    "replicas.compute_share",
                    replica.compute_share,
                    f"nothing, or the share of the latency section, {latency.share:g}",
                )
            return latency.share
        latency = getattr(latency, "base", None)
    return 1.0 if replica.compute_share is None else replica.compute_share


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
