"""Axes of the prompts: harder ones, longer answers, and a router that believes too much of a model."""

from __future__ import annotations

from latency_models.errors import InputError, invalid, unknown_name
from scenarios.prompts_section import DriftSection, ScenarioPrompts
from scenarios.schema import Scenario


def with_harder_prompts(scenario: Scenario, strength: float, target: str) -> Scenario:
    """Hard prompts come more often; see :class:`scenarios.prompts_section.DriftSection`."""
    return _drifted(scenario, "hard-prompts", DriftSection(towards="hard", strength=strength))


def with_longer_prompts(scenario: Scenario, strength: float, target: str) -> Scenario:
    """Prompts with long answers come more often."""
    if _prompts(scenario, "long-prompts").lengths == "workload":
        raise InputError(
            "axis long-prompts has no effect with prompts.lengths: workload, where prompts say nothing of answers; "
            "set prompts.lengths to table, or use outputs"
        )
    return _drifted(scenario, "long-prompts", DriftSection(towards="long", strength=strength))


def with_score_bias(scenario: Scenario, bias: float, target: str) -> Scenario:
    """The router believes the scores of one model to be higher by ``bias``."""
    prompts = _prompts(scenario, "score-bias")
    if target not in scenario.models:
        raise unknown_name("model of axis score-bias", target, scenario.models)
    total = prompts.score_bias.get(target, 0.0) + bias
    if total > 1.0:
        raise invalid(f"bias of {target}", total, "at most 1, together with prompts.score_bias")
    changed = prompts.model_copy(update={"score_bias": {**prompts.score_bias, target: total}})
    return scenario.model_copy(update={"prompts": changed})


def biased_models(scenario: Scenario) -> list[str]:
    """The models that a router may overrate."""
    if len(scenario.models) < 2:
        raise InputError("axis score-bias has no effect with one model; leave it out")
    return list(scenario.models)


def _drifted(scenario: Scenario, axis: str, drift: DriftSection) -> Scenario:
    prompts = _prompts(scenario, axis)
    if prompts.drift is not None:
        raise InputError(f"axis {axis}: the scenario has a prompts.drift already; leave one of them out")
    return scenario.model_copy(update={"prompts": prompts.model_copy(update={"drift": drift})})


def _prompts(scenario: Scenario, axis: str) -> ScenarioPrompts:
    if scenario.prompts is None:
        raise InputError(f"axis {axis} has no effect without a prompts section; add one, or leave {axis} out")
    return scenario.prompts
