"""Why a simulation differs from a plan's promise: what curves measured alone and at steady load leave out.

Each cause is something that the promise does not know of, and a change to the scenario that takes it away.  Changes can
be combined.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from latency_models.errors import check_finite
from scenarios.contention_section import ContentionSection
from scenarios.router_section import RouterSection
from scenarios.schema import Scenario
from scenarios.workloads.arrival_processes import Poisson
from scenarios.workloads.config import (
    Client,
    MixtureWorkload,
    SyntheticWorkload,
    TraceWorkload,
    WorkloadConfig,
    clients_of,
)
from scenarios.workloads.transforms import Cap, PoissonGaps, ScaleLengths, ScaleRate

_SAME_LOAD = 0.01
"""Relative difference between the offered and the promised load below which they are the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """One thing that a promise leaves out."""

    name: str
    explanation: str
    """What is done to take it away."""
    remove: Callable[[Scenario], Scenario]
    speed_up: float = 1.0
    """How many times as fast time passes without it; windows of a trace last as much shorter."""


def causes_in(scenario: Scenario, *, offered_per_s: float, promised_per_s: float) -> list[Cause]:
    """The causes that apply to a scenario.

    Parameters
    ----------
    scenario : Scenario
        With the plan deployed.
    offered_per_s : float
        Mean arrivals per second, as simulated.
    promised_per_s : float
        Load that the plan is for.
    """
    check_finite("offered_per_s", offered_per_s, exclusive=True)
    check_finite("promised_per_s", promised_per_s, exclusive=True)
    found = []
    if _is_bursty(scenario.workload):
        found.append(
            Cause(
                name="bursts",
                explanation=f"Poisson arrivals at the same mean rate, {offered_per_s:.4g}/s",
                remove=lambda given: _transformed(given, PoissonGaps(rate_per_s=offered_per_s)),
            )
        )
    if _is_open(scenario.workload) and abs(offered_per_s / promised_per_s - 1.0) > _SAME_LOAD:
        found.append(
            Cause(
                name="load",
                explanation=f"time scaled to the promised {promised_per_s:.4g}/s, from {offered_per_s:.4g}/s",
                remove=lambda given: _sped_up(given, promised_per_s / offered_per_s),
                speed_up=promised_per_s / offered_per_s,
            )
        )
    if scenario.contention.build() is not None and _shares_gpus(scenario):
        found.append(
            Cause(
                name="co-location",
                explanation="replicas on one GPU do not slow each other down (contention: isolated)",
                remove=lambda given: given.model_copy(update={"contention": ContentionSection()}),
            )
        )
    return found + _disturbances(scenario) + _causes_of_prompts(scenario)


def _disturbances(scenario: Scenario) -> list[Cause]:
    found = []
    if scenario.faults is not None:
        found.append(
            Cause(
                name="faults",
                explanation="nothing crashes, everything is up from the start",
                remove=lambda given: given.model_copy(update={"faults": None}),
            )
        )
    if scenario.speed_changes:
        found.append(
            Cause(
                name="speed changes",
                explanation="replicas keep the speed of their latency models",
                remove=lambda given: given.model_copy(update={"speed_changes": ()}),
            )
        )
    if scenario.router.per_request_s > 0.0 or scenario.router.per_token_s > 0.0:
        found.append(
            Cause(
                name="router",
                explanation="the model router takes no time",
                remove=lambda given: given.model_copy(update={"router": RouterSection()}),
            )
        )
    return found


def _causes_of_prompts(scenario: Scenario) -> list[Cause]:
    prompts = scenario.prompts
    if prompts is None or len(scenario.models) < 2:
        return []
    found = []
    if prompts.draws == "independent":
        found.append(
            Cause(
                name="routing noise",
                explanation="every prompt of the table comes equally often, so that the fractions are the table's",
                remove=lambda given: _with_prompts(given, {"draws": "in-turn"}),
            )
        )
    if prompts.score_noise > 0.0 or any(prompts.score_bias.values()):
        found.append(
            Cause(
                name="noisy scores",
                explanation="the router sees the predicted scores of the table, without score_noise and score_bias",
                remove=lambda given: _with_prompts(given, {"score_noise": 0.0, "score_bias": {}}),
            )
        )
    if prompts.drift is not None and prompts.drift.strength > 0.0:
        found.append(
            Cause(
                name="drift",
                explanation="the prompts of the table come as the plan assumed them, without drift",
                remove=lambda given: _with_prompts(given, {"drift": None}),
            )
        )
    if prompts.lengths == "table":
        found.append(
            Cause(
                name="correlated lengths",
                explanation="answers as long as that model's to any prompt (lengths: shuffled)",
                remove=lambda given: _with_prompts(given, {"lengths": "shuffled"}),
            )
        )
    return found


def _with_prompts(scenario: Scenario, changes: dict[str, object]) -> Scenario:
    assert scenario.prompts is not None
    return scenario.model_copy(update={"prompts": scenario.prompts.model_copy(update=changes)})


def _is_open(workload: WorkloadConfig) -> bool:
    """Whether arrivals do not depend on answers, so that their times can be changed."""
    return all(isinstance(client, TraceWorkload | SyntheticWorkload) for client in clients_of(workload))


def _is_bursty(workload: WorkloadConfig) -> bool:
    """Whether arrivals can be made Poisson, and are not."""
    # The sum of several clients' Poisson processes is one; each is changed alone, at its own share of the rate, which
    # is not known for a trace among others.
    if isinstance(workload, MixtureWorkload) or not _is_open(workload):
        return False
    if not (isinstance(workload, SyntheticWorkload) and isinstance(workload.arrivals, Poisson)):
        return True
    return not all(isinstance(step, ScaleRate | PoissonGaps | Cap | ScaleLengths) for step in workload.transforms)


def _sped_up(scenario: Scenario, factor: float) -> Scenario:
    """The same requests, ``factor`` times as fast, and the same of them left out."""
    run = scenario.run
    changes: dict[str, object] = {} if run.warmup == "auto" else {"warmup": run.warmup / factor}
    if run.until_s is not None:
        changes["until_s"] = run.until_s / factor
    faster = _transformed(scenario, ScaleRate(factor=factor))
    return faster.model_copy(update={"run": run.model_copy(update=changes)})


def _transformed(scenario: Scenario, step: PoissonGaps | ScaleRate) -> Scenario:
    workload = scenario.workload
    changed: list[Client] = [
        client.model_copy(update={"transforms": (*client.transforms, step)})
        for client in clients_of(workload)
        if isinstance(client, TraceWorkload | SyntheticWorkload)
    ]
    if isinstance(workload, MixtureWorkload):
        return scenario.model_copy(update={"workload": workload.model_copy(update={"clients": tuple(changed)})})
    return scenario.model_copy(update={"workload": changed[0]})


def _shares_gpus(scenario: Scenario) -> bool:
    cluster = scenario.cluster()
    on_gpu = [0] * cluster.gpus
    for model in cluster.models:
        for replica in model.replicas:
            for gpu in replica.gpus:
                on_gpu[gpu] += 1
    return max(on_gpu) > 1
