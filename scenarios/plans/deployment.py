"""A scenario with a plan in place of its own deployment: the same models and traffic, where and as the plan says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from latency_models.errors import InputError, invalid, unknown_name
from optimizer.plan import Plan, PlannedModel, PlannedRouting
from scenarios.deployed_latency import at_share, latency_at_tp, own_tp
from scenarios.model_section import ModelSection, PolicySection
from scenarios.prompt_tables.sections import prompt_table
from scenarios.schema import Scenario

_TIE = 1e-6
"""Net scores that are nearer than prices are known."""
_AGREEMENT = 0.05
"""Most by which a fraction may differ from what the prices give: the prompts may be another sample of the same kind."""


def deployed(scenario: Scenario, plan: Plan, *, rate_per_s: float | None = None) -> Scenario:
    """Put a plan into a scenario.

    The plan says which models run, on which GPUs, with which shares and engine settings, and how requests are routed;
    what one step takes, the traffic and everything else is the scenario's.

    Parameters
    ----------
    scenario : Scenario
        Models with their latency sections, traffic and prompts.
    plan : Plan
        What is deployed.
    rate_per_s : float, optional
        Which of the plan's routings, by its load; may be left out if there is one.

    Raises
    ------
    InputError
        The plan is for other models or more GPUs, for a tp or share that a latency section cannot tell, or its prices
        and fractions disagree on the scenario's prompts.
    """
    for name in plan.models:
        if name not in scenario.models:
            raise unknown_name(f"model of plan {plan.name}", name, scenario.models)
    if scenario.gpus.count is not None and scenario.gpus.count < plan.gpus.count:
        raise invalid("gpus.count", scenario.gpus.count, f"at least the {plan.gpus.count} GPUs of plan {plan.name}")
    routing = routing_at(plan, rate_per_s)
    changes: dict[str, Any] = {
        "gpus": scenario.gpus.model_copy(update={"count": plan.gpus.count}),
        "models": {
            name: _deployed_model(name, section, plan.models[name])
            for name, section in scenario.models.items()
            if name in plan.models
        },
        # One model answers everything, with scores or without.
        "routing": None if len(plan.models) == 1 else _by_price(routing),
    }
    if scenario.prompts is not None:
        bias = {name: value for name, value in scenario.prompts.score_bias.items() if name in plan.models}
        changes["prompts"] = scenario.prompts.model_copy(update={"score_bias": bias})
    elif len(plan.models) > 1:
        raise InputError(
            f"plan {plan.name} routes by predicted scores, but scenario {scenario.name} has no prompts section; "
            "add one, such as prompts: builtin"
        )
    planned = scenario.model_copy(update=changes)
    _check_routing(plan, routing, planned)
    return planned


def _by_price(routing: PlannedRouting) -> PolicySection:
    return PolicySection.model_validate(
        {"kind": routing.policy, "prices": routing.prices, "fractions": routing.fractions}
    )


def _check_routing(plan: Plan, routing: PlannedRouting, planned: Scenario) -> None:
    """Refuse prices that send the prompts elsewhere than the fractions say."""
    if planned.prompts is None:
        return
    columns = {name: planned.models[name].scores or name for name in planned.models}
    table, _ = prompt_table(planned.prompts.table, columns)
    net = table.predicted - np.array([routing.prices[name] for name in columns])
    best = net >= net.max(axis=1, keepdims=True) - _TIE
    alone = (best & (best.sum(axis=1, keepdims=True) == 1)).mean(axis=0)
    for name, least, most in zip(columns, alone, best.mean(axis=0), strict=True):
        fraction = routing.fractions[name]
        if not least - _AGREEMENT <= fraction <= most + _AGREEMENT:
            found = f"{least:.3f}" if most - least < 1e-3 else f"{least:.3f} to {most:.3f}"
            raise invalid(
                f"fraction of {name} in plan {plan.name}",
                fraction,
                f"what its prices give on the prompts of {planned.name}: {found}",
                "Make the plan for these prompts, or use its own; in one by hand, change prices or fractions.",
            )


def check_overrides(overrides: Sequence[str]) -> None:
    """Refuse changes of a scenario that the plan which is put into it replaces.

    Parameters
    ----------
    overrides : sequence of str
        ``a.b=value`` assignments.

    Raises
    ------
    InputError
        One of them is of the routing.
    """
    for override in overrides:
        key = override.partition("=")[0].strip()
        if key.partition(".")[0] == "routing":
            raise InputError(f"--set {key} has no effect with a plan, which says how to route; leave it out")


def routing_at(plan: Plan, rate_per_s: float | None = None) -> PlannedRouting:
    """The plan's routing at one of its loads.

    Raises
    ------
    InputError
        It has several and none is named, or none at this load.
    """
    loads = [routing.rate_per_s for routing in plan.routing]
    if rate_per_s is None:
        if len(loads) > 1:
            raise InputError(f"plan {plan.name} has routings for the loads {loads} requests/s; say which one (--rate)")
        return plan.routing[0]
    if rate_per_s not in loads:
        raise invalid("load", rate_per_s, f"one of the loads of plan {plan.name}: {loads} requests/s")
    return plan.routing[loads.index(rate_per_s)]


def _deployed_model(name: str, section: ModelSection, planned: PlannedModel) -> ModelSection:
    try:
        whole = latency_at_tp(section, planned.tp)
        if whole is None:
            raise invalid(
                "latency",
                f"that of tp {own_tp(section)}",
                f"one that can tell tp {planned.tp}, which the plan has",
                "Use a kind that can (steps, operators, roofline), or file with models called ...-tpN.",
            )
        engine = {**section.engine.model_dump(exclude_none=True), **(planned.engine or {})}
        changes: dict[str, Any] = {
            "latency": at_share(whole, planned.compute_share),
            "tp": None,
            "replicas": [{"gpus": gpus, "memory_share": planned.memory_share} for gpus in planned.replicas],
            "engine": engine,
        }
        if "num_gpu_blocks" in engine:
            changes["memory"] = None
        return ModelSection.model_validate({**dict(section), **changes})
    except InputError as error:
        raise InputError(f"models.{name}: {error}") from None
