"""What a plan promised next to what its simulation showed, figure by figure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from analysis.summary import Summary
from latency_models.errors import InputError
from optimizer.plan import Plan, PromisedLoad, PromisedSlo
from scenarios.plans.deployment import routing_at


@dataclass(frozen=True, slots=True, kw_only=True)
class PromisedFigure:
    """One figure of a plan, and what became of it."""

    name: str
    unit: str
    """``s``, ``requests/s``, ``share`` or ``score``."""
    promised: float
    simulated: float | None
    """Mean over the replications."""
    low: float | None = None
    high: float | None = None
    """Confidence interval, where there are several replications."""
    limit: float | None = None
    """Target, where the figure has one."""


def promised_figures(plan: Plan, summary: Summary, *, rate_per_s: float | None = None) -> list[PromisedFigure]:
    """Compare a plan with the summary of a simulation of it.

    Parameters
    ----------
    plan : Plan
        With a promise; without one there is nothing to compare.
    summary : dict
        Of :func:`analysis.summary.summarise`, or of several replications; if its models have a ``fraction`` besides, it
        has an interval then.
    rate_per_s : float, optional
        Which of the plan's loads; may be left out if there is one.
    """
    if plan.promise is None:
        return []
    load = promised_load(plan, rate_per_s)
    routing = routing_at(plan, load.rate_per_s)
    overall = summary["overall"]
    found = [
        _figure("score, predicted", "score", load.score, overall.get("quality", {}).get("predicted")),
        *(
            [_figure("score, achieved", "score", load.outcome, overall.get("quality", {}).get("achieved"))]
            if load.outcome is not None
            else []
        ),
        _figure("load", "requests/s", load.rate_per_s, overall["offered_per_s"]),
    ]
    found += [_slo_figure(slo, load, summary) for slo in load.slos]
    for name, fraction in routing.fractions.items():
        group = summary["by_model"][name]
        share = group.get("fraction") or _ratio(group["requests"]["total"], overall["requests"]["total"])
        found.append(_figure(f"{name}: fraction", "share", fraction, share))
        found += [
            _figure(f"{name}: {_words(statistic)}", "s", value, _statistic(group, statistic))
            for statistic, value in load.latency_s.get(name, {}).items()
        ]
    return found


def promised_load(plan: Plan, rate_per_s: float | None = None) -> PromisedLoad:
    """What a plan promised at one of its loads.

    Raises
    ------
    InputError
        It promised nothing, or has no such load; or it has several and none is named.
    """
    rate_per_s = routing_at(plan, rate_per_s).rate_per_s
    for load in () if plan.promise is None else plan.promise.loads:
        if load.rate_per_s == rate_per_s:
            return load
    raise InputError(f"plan {plan.name} promises nothing at {rate_per_s:g} requests/s; name the SLOs yourself (--slo)")


def is_late_share(slo: PromisedSlo) -> bool:
    """Whether a promise is the share of all requests that are late, and not a latency."""
    return slo.statistic != "mean" and slo.model is None and slo.limit != slo.target_s


def _slo_figure(slo: PromisedSlo, load: PromisedLoad, summary: Summary) -> PromisedFigure:
    statistic = f"{slo.metric}_{slo.statistic}_s"
    group = summary["overall"] if slo.model is None else summary["by_model"][slo.model]
    whose = "all models" if slo.model is None else slo.model
    simulated = _statistic(group, statistic)
    # The promise for a percentile of all requests is a share of late ones; its latency is not known, only its limit.
    promised = slo.target_s if is_late_share(slo) else slo.value
    return _figure(f"{whose}: {_words(statistic)}", "s", promised, simulated, limit=slo.target_s)


def _figure(name: str, unit: str, promised: float, simulated: Any, limit: float | None = None) -> PromisedFigure:
    if isinstance(simulated, dict):
        return PromisedFigure(
            name=name, unit=unit, promised=promised, simulated=simulated["mean"], low=simulated["low"],
            high=simulated["high"], limit=limit,
        )  # fmt: skip
    return PromisedFigure(name=name, unit=unit, promised=promised, simulated=simulated, limit=limit)


def _statistic(group: Summary, statistic: str) -> Any:
    metric, which, _ = statistic.split("_")
    return group[f"{metric}_s"][which]


def _words(statistic: str) -> str:
    metric, which, _ = statistic.split("_")
    return f"{metric.upper()} {which if which == 'mean' else which.upper()}"


def _ratio(part: Any, whole: Any) -> float | None:
    numbers = [value["mean"] if isinstance(value, dict) else value for value in (part, whole)]
    return numbers[0] / numbers[1] if numbers[1] else None
