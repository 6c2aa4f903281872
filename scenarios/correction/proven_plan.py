"""A plan that holds, with what its proof showed in place of what curves promised."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from analysis.summary import Summary
from analysis.verdicts import Outcome
from latency_models.errors import InputError
from optimizer.plan import Plan, Promise, PromisedLoad, PromisedSlo
from scenarios.correction.search import Step
from scenarios.schema import Scenario
from scenarios.validation.slo_verdicts import SloVerdict
from scenarios.validation.validate import Validation


def proven_plan(step: Step, scenario: Scenario, provenance: Mapping[str, str]) -> Plan:
    """The plan of a step, promising what was simulated.

    Its latencies, scores and SLO values are those of the proof, and ``provenance`` says how sure they are.  Prices of
    the SLOs stay those of the corrected curves; a bound is not claimed.

    Parameters
    ----------
    step : Step
        Of a plan that holds.
    scenario : Scenario
        In which it was simulated.
    provenance : mapping of str to str
        What is added to that of the plan.

    Raises
    ------
    InputError
        The plan was not proven.
    """
    proof, promise = step.proof, step.plan.promise
    if proof is None or proof.outcome is not Outcome.HOLDS or promise is None:
        raise InputError("the plan was not proven to hold; only one that was has a proof to promise by")
    load = promise.loads[0]
    quality = proof.summary["overall"].get("quality", {})
    prices = {(slo.metric, slo.statistic, slo.model): slo for slo in load.slos}
    loads = (
        PromisedLoad(
            rate_per_s=load.rate_per_s,
            score=_mean(quality.get("predicted"), promise.score),
            outcome=_mean(quality.get("achieved"), load.outcome),
            latency_s={
                name: _latencies(proof.summary["by_model"][name], values) for name, values in load.latency_s.items()
            },
            slos=tuple(
                _promised(verdict, prices[verdict.target.metric, verdict.target.statistic, verdict.target.model])
                for verdict in proof.slos
            ),
        ),
    )
    return step.plan.model_copy(
        update={
            "promise": Promise(score=loads[0].score, bound=None, gap=None, loads=loads),
            "provenance": {
                **step.plan.provenance,
                **provenance,
                "proof": f"scenario {scenario.name}, seed {scenario.seed}, {proof_text(proof)}",
            },
        }
    )


def proof_text(proof: Validation) -> str:
    """What was shown, with its confidence, in one line."""
    numbers = f"replications {proof.replications.start} to {proof.replications.stop - 1}"
    shown = "; ".join(_verdict_text(verdict) for verdict in proof.slos)
    return f"{numbers}, {proof.confidence:.2%} confidence over all looks: {shown}"


def _verdict_text(verdict: SloVerdict) -> str:
    if verdict.target.late_share is None:
        low, high = 1e3 * verdict.statistic_s.low, 1e3 * verdict.statistic_s.high
        return (
            f"{verdict.target} {verdict.outcome}, {1e3 * verdict.statistic_s.estimate:.1f} [{low:.1f}, {high:.1f}] ms"
        )
    missed = verdict.missed
    return f"{verdict.target} {verdict.outcome}, later {missed.estimate:.2%} [{missed.low:.2%}, {missed.high:.2%}]"


def _promised(verdict: SloVerdict, price: PromisedSlo) -> PromisedSlo:
    target = verdict.target
    late = target.late_share is not None and target.model is None
    return PromisedSlo(
        metric=target.metric,
        statistic=target.statistic,
        model=target.model,
        target_s=target.target_s,
        value=verdict.missed.estimate if late else verdict.statistic_s.estimate,
        limit=target.late_share if late and target.late_share is not None else target.target_s,
        beta=price.beta,
        score_per_s=price.score_per_s,
    )


def _latencies(group: Summary, promised: Mapping[str, float]) -> dict[str, float]:
    """Simulated values of the promised statistics, such as ``ttft_p95_s``."""
    found: dict[str, float] = {}
    for name, before in promised.items():
        metric, statistic, _ = name.split("_")
        found[name] = _mean(group[f"{metric}_s"].get(statistic), before)
    return found


def _mean(simulated: Any, before: Any) -> Any:
    """Mean over the replications, or what was promised before where nothing was simulated."""
    return before if simulated is None else simulated["mean"]
