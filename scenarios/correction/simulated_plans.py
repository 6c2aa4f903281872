"""What simulations say of a plan: first in a short trial, then in a proof on arrivals that nothing was learned from.

Every trial sees the same arrivals (replications 0, 1, ...), so that plans differ by what they do.  Every proof takes
replications that nobody has seen.  That one of several attempts at a proof succeeds by luck is accounted for: attempt k
spends (1 - confidence) / (k (k + 1)) of the permitted error, and within an attempt each look spends a part of that
(:mod:`analysis.looks`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from analysis.looks import Looks, expected_half_width
from latency_models.errors import InputError, check_count, invalid
from optimizer.plan import Plan
from optimizer.problem import LEFT_OUT, Problem, Setup, SloTarget
from scenarios.correction.corrections import Seen
from scenarios.correction.shifted_curves import Sighting, latency_factor
from scenarios.plans.deployment import deployed
from scenarios.replicated import Replicator, trace_windows
from scenarios.replicated import Report as ReplicationsDone
from scenarios.schema import Scenario
from scenarios.validation.measure import RunFigures, RunMeasure, SloFigures
from scenarios.validation.validate import TOLERATED_UNANSWERED, Validation, ValidationOptions, validate

Report = Callable[[str, int, int], None]
"""Told what is being done, how many replications of it are done, and of how many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProofRules:
    """How sure one has to be, and how much may be simulated for it.

    Raises
    ------
    InputError
        A number of replications is too small, or the confidence or the tolerance is not between 0 and 1.
    """

    confidence: float = 0.95
    """Probability that a plan that is said to hold does, over all attempts."""
    trial: int = 8
    """Replications of a trial."""
    first: int = 10
    """Replications of a proof before the first look."""
    most: int = 40
    """Replications of a proof at most."""
    tolerance: float = TOLERATED_UNANSWERED
    """Share of unanswered requests up to which a mean can hold."""

    def __post_init__(self) -> None:
        check_count("trial replications", self.trial, minimum=4)
        Looks(first=self.first, most=self.most, confidence=self.confidence)
        if not 0.0 < self.tolerance < 1.0:
            raise invalid("tolerance", self.tolerance, "a share between 0 and 1, such as 0.01")

    def confidence_of(self, attempt: int) -> float:
        """Confidence of the attempt of this number, from 1 on."""
        return 1.0 - (1.0 - self.confidence) / (attempt * (attempt + 1))

    @property
    def last_confidence(self) -> float:
        """Confidence of the last look of a first attempt."""
        looks = Looks(first=self.first, most=self.most, confidence=self.confidence_of(1))
        return looks.confidence_at(looks.counts[-1])


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedSlo:
    """One SLO in the simulations of a plan."""

    target: SloTarget
    value: float
    """The mean in seconds, or for a percentile the share of requests that were late or not answered."""
    chance: float
    """By how much the value has to stay below the limit if a proof is to succeed: half the width of its interval at the
    last look."""
    unanswered: float
    """Share of the requests."""

    @property
    def limit(self) -> float:
        """The most that the value may be."""
        return self.target.target_s if self.target.late_share is None else self.target.late_share

    @property
    def promising(self) -> bool:
        """Whether a proof on other arrivals may succeed."""
        return self.value + self.chance <= self.limit


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedPlan:
    """Replications of one plan.

    Parameters
    ----------
    plan : Plan
    targets : tuple of SloTarget
        SLOs of the problem that are about models of the plan.
    runs : tuple of RunFigures
        Their ``slos`` are those of ``targets`` and then those of ``probes``.
    probes : tuple of SloTarget
        The same SLOs for each model by itself.
    """

    plan: Plan
    targets: tuple[SloTarget, ...]
    probes: tuple[SloTarget, ...]
    runs: tuple[RunFigures, ...]

    def figures(self, target: SloTarget) -> list[SloFigures]:
        """Figures of one of the targets or probes, replication by replication."""
        index = (*self.targets, *self.probes).index(target)
        return [run.whole.slos[index] for run in self.runs]

    def slos(self, rules: ProofRules) -> list[SimulatedSlo]:
        """Each SLO over all replications."""
        return [simulated_slo(target, self.figures(target), rules) for target in self.targets]

    def promising(self, rules: ProofRules) -> bool:
        """Whether a proof is worth an attempt."""
        return all(slo.promising and slo.unanswered <= rules.tolerance for slo in self.slos(rules))

    def with_runs(self, runs: Sequence[RunFigures]) -> SimulatedPlan:
        """With more replications."""
        return replace(self, runs=(*self.runs, *runs))

    def sightings(self, problem: Problem, setup: Setup, rules: ProofRules) -> Iterator[tuple[Seen, Sighting]]:
        """What the options of the plan's setup showed, with what a proof allows for chance.

        Chance strikes one model more and another less, so that the allowance for all requests together is less than
        those of the models; it is divided among them.
        """
        fractions, rate = self.plan.routing[0].fractions, self.plan.routing[0].rate_per_s
        for number, slo in enumerate(problem.slos):
            by_model: dict[int, SimulatedSlo] = {}
            for model, option in enumerate(setup):
                name = problem.models[model].name
                if option == LEFT_OUT or slo.model not in (None, name) or not fractions[name] > 0.0:
                    continue
                figures = [entry for entry in self.figures(replace(slo, model=name)) if entry.requests]
                if len(figures) >= 2:
                    by_model[model] = simulated_slo(slo, figures, rules)
            part = 1.0
            if slo.model is None:
                apart = math.fsum(fractions[problem.models[m].name] * found.chance for m, found in by_model.items())
                together = simulated_slo(slo, self.figures(slo), rules).chance
                part = min(1.0, together / apart) if apart > 0.0 else 1.0
            for model, found in by_model.items():
                load = rate * fractions[problem.models[model].name]
                curve = problem.models[model].options[setup[model]].curve
                value = found.value + part * found.chance
                overloaded = slo.late_share is None and found.unanswered > rules.tolerance
                factor = math.inf if overloaded else latency_factor(curve, slo, load, value)
                yield (model, setup[model], number), Sighting(rate_per_s=load, factor=factor)


def simulated_slo(target: SloTarget, figures: Sequence[SloFigures], rules: ProofRules) -> SimulatedSlo:
    """One SLO from the figures of at least two replications."""
    value, spread = _ratio(target, figures)
    requests = sum(entry.requests for entry in figures)
    return SimulatedSlo(
        target=target,
        value=value,
        chance=expected_half_width(spread, rules.most, confidence=rules.last_confidence),
        unanswered=sum(entry.unanswered for entry in figures) / requests,
    )


def _ratio(target: SloTarget, figures: Sequence[SloFigures]) -> tuple[float, float]:
    """Mean latency or share of late requests over all replications, and how much one replication differs from it."""
    if target.late_share is None:
        parts = np.array([entry.latency_sum_s for entry in figures])
        wholes = np.array([float(entry.timed) for entry in figures])
    else:
        parts = np.array([float(entry.missed) for entry in figures])
        wholes = np.array([float(entry.requests) for entry in figures])
    if not wholes.any():
        return math.inf, 0.0
    ratio = float(parts.sum() / wholes.sum())
    return ratio, float((parts - ratio * wholes).std(ddof=1) / wholes.mean())


class PlanSimulator:
    """Tries and proves plans for a problem in a scenario.

    Parameters
    ----------
    problem : Problem
        With one load.
    scenario : Scenario
        Traffic, and every model of the problem.
    replicator : Replicator
    rules : ProofRules
    window_s : float, optional
        Length of the parts of a trace that stand for replications.
    report : callable, optional
        See :data:`Report`.

    Raises
    ------
    InputError
        A trace has too few windows for a trial and a proof.
    """

    def __init__(
        self,
        problem: Problem,
        scenario: Scenario,
        replicator: Replicator,
        rules: ProofRules,
        *,
        window_s: float | None = None,
        report: Report | None = None,
    ) -> None:
        self._problem, self._scenario, self._replicator = problem, scenario, replicator
        self.rules = rules
        self._window_s, self._report = window_s, report
        self._end = math.inf if window_s is None else trace_windows(scenario, window_s)
        self._fresh = rules.trial
        self.attempts = 0
        if not self.can_prove:
            raise InputError(
                f"the trace has {self._end:g} windows of {window_s:g} s; a trial and a proof take {rules.trial} + "
                f"{rules.first} at least. Use shorter windows or a longer trace"
            )

    @property
    def can_prove(self) -> bool:
        """Whether there are arrivals left that nobody has seen."""
        return self._fresh + self.rules.first <= self._end

    def trial(self, plan: Plan) -> SimulatedPlan:
        """Simulate a plan on the arrivals that are there to learn from; only on some of them, if it is hopeless."""
        simulated = self._nothing_of(plan)
        half = (self.rules.trial + 1) // 2
        for numbers in (range(half), range(half, self.rules.trial)):
            runs = self._replicator.run(
                [deployed(self._scenario, plan)],
                numbers,
                RunMeasure(targets=(*simulated.targets, *simulated.probes)),
                window_s=self._window_s,
                report=self._reporting("trial"),
            )[0]
            simulated = simulated.with_runs(runs)
            if any(slo.value - slo.chance > slo.limit for slo in simulated.slos(self.rules)):
                break
        return simulated

    def prove(self, plan: Plan) -> Validation:
        """Simulate a plan on fresh arrivals until every SLO is decided, or the replications are used up."""
        self.attempts += 1
        simulated = self._nothing_of(plan)
        found = validate(
            deployed(self._scenario, plan),
            simulated.targets,
            self._replicator,
            ValidationOptions(
                confidence=self.rules.confidence_of(self.attempts),
                first=self.rules.first,
                most=self.rules.most,
                tolerance=self.rules.tolerance,
                window_s=self._window_s,
                from_replication=self._fresh,
            ),
            self._reporting("proof"),
            probes=simulated.probes,
        )
        self._fresh = found.replications.stop
        return found

    def _nothing_of(self, plan: Plan) -> SimulatedPlan:
        used = [name for name, fraction in plan.routing[0].fractions.items() if fraction > 0.0]
        targets = tuple(slo for slo in self._problem.slos if slo.model is None or slo.model in used)
        probes = tuple(replace(slo, model=name) for slo in targets if slo.model is None for name in used)
        return SimulatedPlan(
            plan=plan, targets=targets, probes=tuple(probe for probe in probes if probe not in targets), runs=()
        )

    def _reporting(self, what: str) -> ReplicationsDone | None:
        return None if self._report is None else partial(self._report, what)
