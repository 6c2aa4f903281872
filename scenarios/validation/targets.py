"""What a plan is held to: the SLOs that it promised, or others in the spelling of a problem file."""

from __future__ import annotations

from collections.abc import Sequence

import yaml
from pydantic import ValidationError

from latency_models.errors import InputError, invalid, unknown_name
from optimizer.plan import Plan
from optimizer.problem import SloTarget
from scenarios.optimisation.problem_schema import SloSection
from scenarios.plans.promises import promised_load
from scenarios.schema_errors import describe


def promised_targets(plan: Plan, rate_per_s: float | None = None) -> tuple[SloTarget, ...]:
    """The SLOs that a plan promised at one of its loads.

    Raises
    ------
    InputError
        The plan has no promise, or none at this load.
    """
    return tuple(
        SloTarget(metric=slo.metric, statistic=slo.statistic, target_s=slo.target_s, model=slo.model)
        for slo in promised_load(plan, rate_per_s).slos
    )


def parse_target(text: str) -> SloTarget:
    """Read an SLO that is spelled as in a problem file, on one line.

    Parameters
    ----------
    text : str
        ``metric: ttft, statistic: p95, target_ms: 300, model: llama-7b``; the last one may be left out, and without a
        statistic it is the mean.

    Raises
    ------
    InputError
        It is spelled in another way, or a value is not allowed.
    """
    inner = text.strip().removeprefix("{").removesuffix("}")
    try:
        values = yaml.safe_load("{" + inner + "}")
    except yaml.YAMLError:
        values = None
    if not isinstance(values, dict) or None in values.values():
        raise invalid(
            "--slo", text, "an SLO as in a problem file, such as 'metric: ttft, statistic: p95, target_ms: 300'"
        )
    try:
        section = SloSection.model_validate(values)
    except ValidationError as error:
        raise InputError(describe(error, SloSection, values, f"--slo {text!r}")) from None
    return SloTarget(
        metric=section.metric, statistic=section.statistic, target_s=section.target_ms / 1e3, model=section.model
    )


def check_targets(targets: Sequence[SloTarget], models: Sequence[str]) -> None:
    """Raise :class:`InputError` if there is no target, one of a model that does not run, or the same one twice."""
    if not targets:
        raise InputError("there is no SLO to hold the plan to; give one with --slo")
    seen = set()
    for target in targets:
        if target.model is not None and target.model not in models:
            raise unknown_name("model of an SLO", target.model, models)
        key = (target.metric, target.statistic, target.model)
        if key in seen:
            raise InputError(f"there are two SLOs like {target}; allowed: one for each metric, statistic and model")
        seen.add(key)
