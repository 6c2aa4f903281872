"""The gap between a plan's promise and its simulation, attributed to causes by paired runs.

Every replication of the validation is run again with one cause taken away, and with all of them, on common random
numbers.  Two causes need no run of their own: what the empty start does is seen where it is over, in the last three
quarters of the same run; and what errors of prediction do to the score is seen by counting answers as if they were as
good as predicted.  (A router that knew the outcomes would route otherwise: that is another plan, not this one less a
cause.)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial, reduce

import numpy as np

from analysis.causes import CauseEffects, cause_effects
from analysis.statistics import Interval, mean_interval
from latency_models.errors import InputError
from optimizer.plan import Plan, PromisedSlo
from optimizer.problem import SloTarget
from scenarios.plans.promises import is_late_share, promised_load
from scenarios.replicated import Replicator, Report
from scenarios.schema import Scenario
from scenarios.validation.causes import causes_in
from scenarios.validation.measure import RunFigures, RunMeasure, SpanFigures
from scenarios.validation.validate import Validation

START = "empty start"
PREDICTION = "prediction error"

_Outcome = Callable[[SpanFigures], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """One promised figure and what came between it and the simulated one."""

    name: str
    unit: str
    """``s``, ``share`` (of requests, late or not answered) or ``score``."""
    promised: float
    simulated: Interval | None
    """Mean over the replications; ``None`` where a replication has no such figure."""
    effects: CauseEffects | None
    """What each cause adds; ``None`` where a run has no such figure, since nothing was answered."""
    left_over: Interval | None
    """What is between the promise and the simulation without any of the causes: resolution of the curves, their
    interpolation and steps between their loads, other lengths or engine settings than they were measured with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GapReport:
    """Gaps of all promised SLOs, and of the score."""

    gaps: tuple[Gap, ...]
    explanations: dict[str, str]
    """What was done to take each cause away."""
    replications: int

    @property
    def attributed(self) -> tuple[Gap, ...]:
        """The gaps whose causes are known."""
        return tuple(gap for gap in self.gaps if gap.effects is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Variants:
    """Figures by replication."""

    base: Sequence[RunFigures]
    without: dict[str, list[RunFigures]]
    without_all: list[RunFigures]


def explain_gap(
    plan: Plan,
    scenario: Scenario,
    targets: Sequence[SloTarget],
    validation: Validation,
    replicator: Replicator,
    *,
    rate_per_s: float | None = None,
    window_s: float | None = None,
    report: Report | None = None,
) -> GapReport:
    """Attribute the gaps between promise and simulation.

    Parameters
    ----------
    plan : Plan
        With a promise.
    scenario : Scenario
        With the plan deployed.
    targets : sequence of SloTarget
        Those of the validation; gaps are of the ones among them that the plan promised.
    validation : Validation
        Of this scenario; its replications are the ones that are run again.
    replicator : Replicator
        Where replications are run.
    rate_per_s : float, optional
        Which of the plan's loads; may be left out if there is one.
    window_s : float, optional
        As in the validation.
    report : callable, optional
        Told how many replications are done, and of how many.

    Raises
    ------
    InputError
        The plan promised nothing that was validated.
    """
    load = promised_load(plan, rate_per_s)
    has_scores = all(run.whole.score is not None for run in validation.runs)
    judged = [(index, slo) for index, target in enumerate(targets) for slo in load.slos if _promises(slo, target)]
    if not judged and not has_scores:
        raise InputError(
            f"plan {plan.name} promises none of the SLOs that were validated, so there is no gap to explain"
        )
    offered_per_s = sum(run.arrivals for run in validation.runs) / sum(run.arriving_s for run in validation.runs)
    causes = causes_in(scenario, offered_per_s=offered_per_s, promised_per_s=load.rate_per_s)
    changed = [(cause.remove(scenario), cause.speed_up) for cause in causes]
    everything = reduce(lambda given, cause: cause.remove(given), causes, scenario)
    # One cause removed is all of them removed.
    if len(causes) != 1:
        changed.append((everything, math.prod(cause.speed_up for cause in causes)))
    runs: list[list[RunFigures]] = []
    count = len(validation.replications)
    for variant, speed_up in changed if causes else ():
        runs += replicator.run(
            [variant],
            validation.replications,
            RunMeasure(targets=tuple(targets)),
            window_s=None if window_s is None else window_s / speed_up,
            report=None if report is None else partial(_shifted, report, len(runs) * count, len(changed) * count),
        )
    variants = _Variants(
        base=validation.runs,
        without={cause.name: found for cause, found in zip(causes, runs, strict=False)},
        without_all=runs[-1] if runs else list(validation.runs),
    )
    explanations = {cause.name: cause.explanation for cause in causes}
    explanations[START] = "only the last three quarters of the time after the warm-up"
    gaps = [_slo_gap(slo, index, variants, validation.confidence) for index, slo in judged]
    if has_scores:
        gaps.append(_score_gap(load.score, variants, validation.confidence))
        explanations[PREDICTION] = "every answer is as good as predicted"
    return GapReport(gaps=tuple(gaps), explanations=explanations, replications=count)


def _promises(slo: PromisedSlo, target: SloTarget) -> bool:
    """Whether a promised figure is the one that a target limits; a share of late requests is of one target only."""
    same = (slo.metric, slo.statistic, slo.model) == (target.metric, target.statistic, target.model)
    return same and (not is_late_share(slo) or slo.target_s == target.target_s)


def _shifted(report: Report, before: int, total: int, done: int, _: int) -> None:
    report(before + done, total)


def _slo_gap(slo: PromisedSlo, index: int, variants: _Variants, confidence: float) -> Gap:
    target = SloTarget(metric=slo.metric, statistic=slo.statistic, target_s=slo.target_s, model=slo.model)
    is_share = is_late_share(slo)
    limited = str(target).split(" <= ")[0]

    def outcome(span: SpanFigures) -> float:
        figures = span.slos[index]
        if is_share:
            return figures.missed / figures.requests if figures.requests else math.nan
        if target.late_share is None:
            return figures.latency_sum_s / figures.timed if figures.timed else math.nan
        if not figures.requests:
            return math.nan
        return float(np.quantile(figures.latencies_s, 1.0 - target.late_share, method="inverted_cdf"))

    return _gap(
        name=f"share of requests that miss {target}" if is_share else limited,
        unit="share" if is_share else "s",
        promised=slo.value,
        outcomes=_outcomes(variants, outcome, outcome, {}),
        confidence=confidence,
    )


def _score_gap(promised: float, variants: _Variants, confidence: float) -> Gap:
    def achieved(span: SpanFigures) -> float:
        return math.nan if span.score is None else span.score.achieved

    def if_right(span: SpanFigures) -> float:
        return math.nan if span.score is None else span.score.achieved_if_right

    right = [if_right(run.whole) for run in variants.base]
    # A table without outcomes has predictions only, in which there is no error to see.
    known = not all(math.isnan(achieved(run.whole)) for run in variants.base)
    outcomes = (
        _outcomes(variants, achieved, if_right, {PREDICTION: right})
        if known
        else _outcomes(variants, if_right, if_right, {})
    )
    return _gap(name="score", unit="score", promised=promised, outcomes=outcomes, confidence=confidence)


def _outcomes(
    variants: _Variants, outcome: _Outcome, with_all_removed: _Outcome, more: dict[str, list[float]]
) -> tuple[list[float], dict[str, list[float]], list[float]]:
    """Outcome of each replication: as it is, without each cause, and without all."""
    without = {name: [outcome(run.whole) for run in runs] for name, runs in variants.without.items()}
    without[START] = [outcome(run.settled) for run in variants.base]
    return (
        [outcome(run.whole) for run in variants.base],
        without | more,
        [with_all_removed(run.settled) for run in variants.without_all],
    )


def _gap(
    *,
    name: str,
    unit: str,
    promised: float,
    outcomes: tuple[list[float], dict[str, list[float]], list[float]],
    confidence: float,
) -> Gap:
    base, without, without_all = outcomes
    known = bool(np.isfinite(base).all())
    explained = known and all(np.isfinite(values).all() for values in (*without.values(), without_all))
    return Gap(
        name=name,
        unit=unit,
        promised=promised,
        simulated=mean_interval(base, confidence=confidence) if known else None,
        effects=cause_effects(base, without, without_all, confidence=confidence) if explained else None,
        left_over=mean_interval(np.asarray(without_all) - promised, confidence=confidence) if explained else None,
    )
