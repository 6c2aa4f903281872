"""What ran where and who got which traffic, from a run or from a plan alone: what a picture of a cluster needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from analysis.stored.results import StoredDocument
from analysis.stored.run import StoredRun
from analysis.wording import NUMBER, setting


@dataclass(frozen=True, slots=True, kw_only=True)
class DeployedReplica:
    """One replica; shard number k is on the k-th of its GPUs."""

    model: str
    number: int
    """Among those of its model, from 0."""
    gpus: tuple[int, ...]
    compute_share: float
    memory_share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """How requests are divided, at one load."""

    title: str
    rate_per_s: float | None
    """Of all requests."""
    by_model: Mapping[str, float]
    """Share of all requests."""
    by_replica: Mapping[tuple[str, int], float]
    """The same for model and number of replicas; empty if it is not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """A cluster and what runs on it."""

    name: str
    gpus: int
    gpu_words: str
    """What is known of each GPU; may be empty."""
    models: tuple[str, ...]
    left_out: tuple[str, ...] = ()
    """Models that a plan does not run."""
    replicas: tuple[DeployedReplica, ...]
    traffics: tuple[Traffic, ...]

    def replicas_of(self, model: str) -> list[DeployedReplica]:
        """Replicas of one model, in order."""
        return [replica for replica in self.replicas if replica.model == model]

    def letter(self, model: str) -> str:
        """A short name for a model: A, B, ..., and numbers past Z."""
        place = self.models.index(model)
        return chr(ord("A") + place) if place < 26 else str(place + 1)

    def short_name(self, replica: DeployedReplica) -> str:
        """The model's letter, and a number if the model has several replicas."""
        letter = self.letter(replica.model)
        return f"{letter}{replica.number}" if len(self.replicas_of(replica.model)) > 1 else letter


def deployment_of_run(run: StoredRun) -> Deployment:
    """What a run simulated, with the traffic that came."""
    numbers: dict[str, int] = {}
    replicas = []
    by_name: dict[str, tuple[str, int]] = {}
    for entry in run.cluster["replicas"]:
        model = str(entry["model"])
        number = numbers.get(model, 0)
        numbers[model] = number + 1
        by_name[entry["name"]] = (model, number)
        replicas.append(_replica(model, number, entry["gpus"], entry["compute_share"], entry["memory_share"]))
    memory_gib = run.scenario["gpus"].get("memory_gib")
    words = [str(run.entry("cost").get("gpu") or "").upper(), "" if memory_gib is None else f"{memory_gib:g} GiB"]
    return Deployment(
        name=run.name,
        gpus=int(run.cluster["gpus"]["count"]),
        gpu_words=", ".join(word for word in words if word),
        models=tuple(run.models),
        replicas=tuple(replicas),
        traffics=(_simulated_traffic(run, by_name),),
    )


def _simulated_traffic(run: StoredRun, by_name: Mapping[str, tuple[str, int]]) -> Traffic:
    total = run.number("overall", "requests", "total")
    rate = run.estimate("overall", "offered_per_s")
    by_replica: dict[tuple[str, int], float] = {}
    if total and len(by_name) > len(run.models):
        counts = run.requests["replica"].value_counts(normalize=True)
        by_replica = {place: float(counts.get(name, 0.0)) for name, place in by_name.items()}
    return Traffic(
        title="Traffic, as simulated",
        rate_per_s=None if rate is None else rate.value,
        by_model={name: run.traffic_share(name) or 0.0 for name in run.models},
        by_replica=by_replica,
    )


def deployment_of_plan(plan: StoredDocument) -> Deployment:
    """What a plan deploys, with the traffic that it routes at each of its loads."""
    content = plan.content
    memory_gib = content["gpus"].get("usable_memory_gib")
    replicas = [
        _replica(name, number, gpus, model["compute_share"], model["memory_share"])
        for name, model in content["models"].items()
        for number, gpus in enumerate(model["replicas"])
    ]
    return Deployment(
        name=plan.name,
        gpus=int(content["gpus"]["count"]),
        gpu_words="" if memory_gib is None else f"{memory_gib:.3g} GiB usable",
        models=tuple(content["models"]),
        left_out=tuple(content.get("left_out", ())),
        replicas=tuple(replicas),
        traffics=tuple(
            Traffic(
                title=f"Planned traffic at {setting(routing['rate_per_s'], NUMBER)} requests/s",
                rate_per_s=float(routing["rate_per_s"]),
                by_model=dict(routing["fractions"]),
                by_replica={},
            )
            for routing in content["routing"]
        ),
    )


def _replica(model: str, number: int, gpus: Any, compute_share: float, memory_share: float) -> DeployedReplica:
    return DeployedReplica(
        model=model, number=number, gpus=tuple(gpus), compute_share=compute_share, memory_share=memory_share
    )
