"""The scenario file: its schema, as pydantic models, and the cluster that it describes."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from latency_models.errors import invalid, unknown_name
from latency_models.sections.base import refuse_in_pydantic
from latency_models.sections.catalogue import CatalogueEntry, gpu_of
from scenarios.contention_section import ContentionSection
from scenarios.faults_section import FaultsSection
from scenarios.model_section import ModelSection, PolicySection, model_spec, placed_replicas, policy_spec
from scenarios.prompts_section import ScenarioPrompts
from scenarios.router_section import WITHOUT_NAMES, RouterSection, ttft_limit_s
from scenarios.section import Count, Index, NonNegative, Positive, Section
from scenarios.workloads.config import WorkloadConfig, clients_of
from sim.cluster_spec import ClusterSpec, ModelSpec, RunSpec, SpeedChange


class GpuSection(Section):
    """The cluster's GPUs, all alike."""

    count: Count | None = None
    """Default: as many as the replicas use."""
    memory_gib: Positive | None = None
    """Memory of each, for models whose ``memory`` section gives sizes."""
    type: str | CatalogueEntry | None = None
    """Name of the catalogue, such as a100-80gb, for costs and energy; default: the GPU that the latency or memory
    sections of all models name."""
    price_per_hour_usd: Positive | None = None
    """What one GPU costs for an hour; default: the catalogue's list price."""
    power_w: Positive | None = None
    """Most that one GPU draws; default: the catalogue's board power."""

    @model_validator(mode="after")
    def _type_is_known(self) -> GpuSection:
        if self.type is not None:
            named = self.type
            refuse_in_pydantic(lambda: gpu_of(named))
        return self


class SpeedSection(Section):
    """A change of a replica's speed."""

    at_s: NonNegative
    """When, seconds from the start."""
    model: str
    """Whose replica."""
    replica: Index = 0
    """Which of its replicas, from 0."""
    slowdown: Positive
    """From then on everything there takes so many times as long; 1 ends it."""


class RunSection(Section):
    """How long to run and how often."""

    until_s: Positive | None = None
    """Stop the clock here; what is left counts as unfinished.  Default: run until everything has ended."""
    replications: Annotated[int, Field(ge=1, le=10_000, strict=True)] = 1
    """Independent repetitions, for confidence intervals."""
    warmup: Literal["auto"] | NonNegative = 0.0
    """Seconds left out of the summary, or ``auto`` (MSER-5)."""
    sample_interval_s: Positive = 1.0
    """Seconds between the samples of the time series."""
    engine_mode: Literal["macro", "reference"] = "macro"
    """One event per run of steps, or one per step; the results are the same."""
    oversized: Literal["error", "reject"] = "error"
    """What to do with a request that no replica could ever finish."""


class Scenario(Section):
    """A scenario: cluster, routing, workload and what to measure."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    """Default: the file's name."""
    description: str = ""
    """What it shows."""
    seed: Index = 0
    """Of all random streams."""
    gpus: GpuSection = GpuSection()
    """The cluster's GPUs."""
    models: Annotated[dict[str, ModelSection], Field(min_length=1)]
    """The served models by name."""
    routing: str | PolicySection | None = None
    """Model router; may be left out when there is one model."""
    router: RouterSection = RouterSection()
    """What the model router itself takes, and how old the loads are that it sees."""
    workload: WorkloadConfig
    """Who sends what when."""
    prompts: ScenarioPrompts | None = None
    """What requests ask; routers that go by scores need it, and with it results have the quality of the answers."""
    contention: ContentionSection = ContentionSection()
    """How replicas on one GPU slow each other down: isolated (default), capped or bandwidth."""
    slo: str | None = None
    """As ``vllm bench serve --goodput`` spells it, milliseconds: ``ttft:500 tpot:50 e2el:10000``."""
    speed_changes: tuple[SpeedSection, ...] = ()
    """Replicas that become slower or faster on the way."""
    faults: FaultsSection | None = None
    """What crashes, and what becomes of the requests; default: nothing ever does."""
    run: RunSection = RunSection()
    """How long to run, and how often."""

    @model_validator(mode="after")
    def _routing_is_given(self) -> Scenario:
        if self.routing is None and len(self.models) > 1:
            raise ValueError("routing is missing; with several models name a router, e.g. routing: pinned")
        return self

    @model_validator(mode="after")
    def _router_settings_have_an_effect(self) -> Scenario:
        self.router.check("round-robin" if self.routing is None else policy_spec(self.routing).kind)
        return self

    @model_validator(mode="after")
    def _scores_have_a_table(self) -> Scenario:
        named = [name for name, model in self.models.items() if model.scores is not None]
        if named and self.prompts is None:
            raise ValueError(f"models.{named[0]}.scores has no effect without a prompts section; leave it out")
        return self

    @model_validator(mode="after")
    def _workload_settings_have_an_effect(self) -> Scenario:
        router = self.routing if isinstance(self.routing, str | None) else self.routing.kind
        clients = clients_of(self.workload)
        if len(self.models) > 1 and router in WITHOUT_NAMES and any(client.model for client in clients):
            raise ValueError(
                f"workload.model has no effect with routing {router}; leave it out, or set routing: pinned"
            )
        if not any(client.kind == "trace" for client in clients):
            # The default is what requests without a class are called.
            sent = {client.request_class or "default" for client in clients}
            for name, model in self.models.items():
                for limited in model.admission.by_class:
                    if limited not in sent:
                        raise ValueError(
                            f"models.{name}.admission.by_class: no client sends requests of class {limited!r}; "
                            f"allowed: {', '.join(sorted(sent))}"
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
            placed, next_gpu = placed_replicas(model, next_gpu)
            specs.append(model_spec(name, model, placed, self.gpus.memory_gib))
        used = 1 + max(gpu for spec in specs for replica in spec.replicas for gpu in replica.gpus)
        return ClusterSpec(
            gpus=used if self.gpus.count is None else self.gpus.count,
            models=tuple(specs),
            router=policy_spec("round-robin" if self.routing is None else self.routing),
            router_stage=self.router.spec(),
            router_staleness_s=self.router.staleness_s,
            ttft_limit_s=ttft_limit_s(self.slo),
            speed_changes=tuple(self._speed_change(change, names) for change in self.speed_changes),
            oversized=self.run.oversized,
            contention=self.contention.build(),
            faults=None if self.faults is None else self.faults.build(names),
            prompts=None
            if self.prompts is None
            else self.prompts.spec({name: model.scores or name for name, model in self.models.items()}),
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
