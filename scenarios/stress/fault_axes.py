"""Axes of the hardware: a slow GPU, one that is lost for a while, a replica that is, a cold start."""

from __future__ import annotations

from typing import Any

from latency_models.errors import InputError, invalid, unknown_name
from scenarios.faults_section import FaultsSection
from scenarios.model_section import ModelSection, ReplicaSection
from scenarios.schema import Scenario

SETTLED_S = 10.0
"""How long after the warm-up something is lost."""


def with_slower_gpu(scenario: Scenario, factor: float, target: str) -> Scenario:
    """Every replica with a shard on the GPU takes ``factor`` times as long: it waits for its slowest shard."""
    gpu = _gpu(scenario, "slower-gpu", target)

    def slowed(replica: ReplicaSection) -> ReplicaSection:
        if gpu not in replica.gpus:
            return replica
        return replica.model_copy(update={"slowdown": replica.slowdown * factor})

    models = {
        name: model.model_copy(update={"replicas": tuple(slowed(replica) for replica in _replicas(model))})
        for name, model in scenario.models.items()
    }
    return scenario.model_copy(update={"models": models})


def with_gpu_lost(scenario: Scenario, down_s: float, target: str) -> Scenario:
    """A GPU crashes once, shortly after the warm-up, and returns after ``down_s``."""
    return _with_crash(scenario, {"gpu": _gpu(scenario, "gpu-loss", target)}, down_s)


def with_replica_lost(scenario: Scenario, down_s: float, target: str) -> Scenario:
    """A replica crashes once, shortly after the warm-up, and returns after ``down_s``."""
    name, _, number = target.rpartition("/")
    if not name:
        raise invalid("replica of axis replica-loss", target, "MODEL/N", f"Such as {first_replicas(scenario)[0]}.")
    if name not in scenario.models:
        raise unknown_name("model of axis replica-loss", name, scenario.models)
    replicas = len(_replicas(scenario.models[name]))
    if not number.isdigit() or int(number) >= replicas:
        raise invalid("replica of axis replica-loss", target, f"{name}/0 to {name}/{replicas - 1}")
    return _with_crash(scenario, {"model": name, "replica": int(number)}, down_s)


def with_cold_start(scenario: Scenario, load_s: float, target: str) -> Scenario:
    """All replicas begin to load their models at time 0 and answer ``load_s`` later; nothing is left out as warm-up."""
    if load_s == 0.0:
        return scenario
    given = {} if scenario.faults is None else scenario.faults.model_dump(exclude_unset=True)
    faults = FaultsSection.model_validate({**given, "load_s": load_s, "cold_start": True})
    return scenario.model_copy(update={"faults": faults, "run": scenario.run.model_copy(update={"warmup": 0.0})})


def gpus_in_use(scenario: Scenario) -> list[str]:
    """Numbers of the GPUs with a shard."""
    used = {gpu for model in scenario.models.values() for replica in _replicas(model) for gpu in replica.gpus}
    return [str(gpu) for gpu in sorted(used)]


def first_replicas(scenario: Scenario) -> list[str]:
    """One replica of each model; those of a model are alike."""
    return [f"{name}/0" for name in scenario.models]


def _with_crash(scenario: Scenario, what: dict[str, Any], down_s: float) -> Scenario:
    if down_s == 0.0:
        return scenario
    warmup = scenario.run.warmup
    at_s = SETTLED_S + (0.0 if warmup == "auto" else warmup)
    given: dict[str, Any] = {"load_s": 0.0}
    if scenario.faults is not None:
        given = scenario.faults.model_dump(exclude_unset=True)
    crashes = [*given.get("crashes", ()), {**what, "at_s": at_s, "restart_s": down_s}]
    return scenario.model_copy(update={"faults": FaultsSection.model_validate({**given, "crashes": crashes})})


def _gpu(scenario: Scenario, axis: str, target: str) -> int:
    used = gpus_in_use(scenario)
    if target not in used:
        raise invalid(f"GPU of axis {axis}", target, f"one that the plan uses: {', '.join(used)}")
    return int(target)


def _replicas(model: ModelSection) -> tuple[ReplicaSection, ...]:
    if isinstance(model.replicas, int):
        raise InputError("stress is for deployed plans, whose replicas name their GPUs")
    return model.replicas
