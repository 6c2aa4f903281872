"""The search for a plan that holds, with a made-up truth in place of simulations."""

from __future__ import annotations

import numpy as np
import pytest
from optimizer_cases import three_models

from analysis.verdicts import Outcome, overall_outcome
from latency_models.errors import InputError
from optimizer.delays.delay_curves import late_share_at, statistic_at
from optimizer.problem import SloTarget
from scenarios.correction.corrections import Corrections
from scenarios.correction.search import Fate, SearchRules, corrected_plan
from scenarios.correction.shifted_curves import Shift, Sighting
from scenarios.correction.simulated_plans import ProofRules, SimulatedPlan
from scenarios.correction.tightening import tightened_plan
from scenarios.optimisation.problem_file import ReadProblem
from scenarios.validation.measure import RunFigures, SloFigures, SpanFigures
from scenarios.validation.slo_verdicts import slo_verdict
from scenarios.validation.validate import Validation

REQUESTS = 10_000


class MadeUp:
    """Plays the simulator: curves as they really are, plus noise by replication."""

    def __init__(self, problem, truth, *, noise=0.02, rules=None, arrivals=10_000):
        self.problem, self.truth, self.noise = problem, truth, noise
        self.rules = rules or ProofRules()
        self.arrivals = arrivals
        self.fresh = self.rules.trial
        self.attempts = 0
        self.tried, self.proven_on = [], []

    @property
    def can_prove(self):
        return self.fresh + self.rules.first <= self.arrivals

    def true_option(self, plan, name):
        model = plan.models[name]
        options = next(entry.options for entry in self.truth.models if entry.name == name)
        key = (model.tp, model.compute_share, len(model.replicas))
        return next(entry for entry in options if (entry.tp, entry.compute_share, entry.replicas) == key)

    def value(self, plan, target):
        """The mean latency, or the share of late requests, of a model or of all."""
        routing = plan.routing[0]
        names = [name for name in plan.models if target.model in (None, name) and routing.fractions[name] > 0]
        weights = np.array([routing.fractions[name] for name in names])
        values = []
        for name in names:
            curve, rate = self.true_option(plan, name).curve, routing.rate_per_s * routing.fractions[name]
            values.append(
                statistic_at(curve, rate, target.curve_statistic)
                if target.late_share is None
                else late_share_at(curve, rate, target)
            )
        return float(np.average(values, weights=weights)) if names else 0.0

    def run(self, plan, targets, number):
        factor = 1.0 + self.noise * np.random.default_rng(number).normal()
        slos = []
        for target in targets:
            value = factor * self.value(plan, target)
            late = value if target.late_share is not None else 0.0
            slos.append(
                SloFigures(
                    requests=REQUESTS,
                    missed=min(REQUESTS, round(late * REQUESTS)),
                    unanswered=0,
                    timed=REQUESTS,
                    latency_sum_s=value * REQUESTS,
                    latencies_s=np.full(10, target.target_s),
                )
            )
        span = SpanFigures(slos=tuple(slos), score=None)
        return RunFigures(whole=span, settled=span, arrivals=REQUESTS, arriving_s=1.0, summary={})

    def nothing_of(self, plan):
        targets = self.problem.slos
        probes = tuple(
            SloTarget(metric=slo.metric, statistic=slo.statistic, target_s=slo.target_s, model=name)
            for slo in targets
            for name in plan.models
        )
        return SimulatedPlan(plan=plan, targets=targets, probes=probes, runs=())

    def trial(self, plan):
        self.tried.append(plan)
        simulated = self.nothing_of(plan)
        numbers = range(self.rules.trial)
        return simulated.with_runs([self.run(plan, (*simulated.targets, *simulated.probes), n) for n in numbers])

    def prove(self, plan):
        self.attempts += 1
        simulated = self.nothing_of(plan)
        numbers = range(self.fresh, self.fresh + self.rules.most)
        self.fresh = numbers.stop
        self.proven_on.append(numbers)
        runs = tuple(self.run(plan, (*simulated.targets, *simulated.probes), n) for n in numbers)
        confidence = self.rules.confidence_of(self.attempts)
        verdicts = tuple(
            slo_verdict(target, [run.whole.slos[k] for run in runs], confidence=confidence, tolerance=0.01)
            for k, target in enumerate(simulated.targets)
        )
        return Validation(
            outcome=overall_outcome(verdict.outcome for verdict in verdicts),
            slos=verdicts,
            runs=runs,
            replications=numbers,
            summary={},
            confidence=confidence,
            confidence_at_look=confidence,
        )


def read(problem):
    return ReadProblem(name="made-up", problem=problem, gpu_memory_gib=72.0, notes=(), engines={}, sources={})


def truth_of(problem, shifts):
    """The problem with the curves of each model shifted: what the simulator plays."""
    sightings = []
    for model, shift in enumerate(shifts):
        for option, entry in enumerate(problem.models[model].options):
            curve = entry.curve
            for slo, target in enumerate(problem.slos):
                rates = np.array(curve.rates_per_s[:-1])
                factors = shift.factor(curve, target.curve_statistic, rates)
                sightings += [
                    ((model, option, slo), Sighting(rate_per_s=rate, factor=factor))
                    for rate, factor in zip(rates.tolist(), factors.tolist(), strict=True)
                ]
    return Corrections(problem=problem).seeing(sightings).corrected()


PROBLEM = three_models(slos=(SloTarget(metric="ttft", target_s=0.08),), rate_per_s=30.0)
BURSTS = (Shift(slower=1.05, heavier=1.2), Shift(heavier=1.1), Shift(slower=1.3))


@pytest.fixture(scope="module")
def found():
    simulator = MadeUp(PROBLEM, truth_of(PROBLEM, BURSTS))
    return corrected_plan(read(PROBLEM), simulator, SearchRules()), simulator


def test_the_promised_plan_is_broken_and_the_one_found_keeps_the_true_target(found):
    correction, simulator = found
    assert correction.steps[0].fate is Fate.TOO_SLOW
    best = correction.best
    assert best is not None
    assert best.fate is Fate.HOLDS
    assert simulator.value(best.plan, PROBLEM.slos[0]) <= PROBLEM.slos[0].target_s
    assert simulator.value(correction.steps[0].plan, PROBLEM.slos[0]) > PROBLEM.slos[0].target_s
    assert best.score < correction.steps[0].score


def test_it_comes_near_to_the_best_plan_under_the_truth(found):
    from optimizer.search import optimise

    correction, simulator = found
    assert correction.best.score > optimise(simulator.truth).score - 0.02


def test_no_plan_is_simulated_twice(found):
    correction, _ = found
    for number, step in enumerate(correction.steps):
        for earlier in correction.steps[:number]:
            fractions = [entry.plan.routing[0].fractions for entry in (step, earlier)]
            assert step.setup != earlier.setup or any(
                abs(fractions[0][name] - fractions[1][name]) > 1e-4 for name in fractions[0]
            )


def test_proofs_are_on_arrivals_that_nothing_was_learned_from(found):
    _, simulator = found
    seen = list(range(simulator.rules.trial))
    for numbers in simulator.proven_on:
        assert not set(numbers) & set(seen)
        seen += numbers


def test_after_a_proof_only_higher_scores_are_tried(found):
    correction, _ = found
    proven = -1.0
    for step in correction.steps:
        assert step.score >= proven + SearchRules().gain or proven < 0.0
        if step.fate is Fate.HOLDS:
            proven = step.score


def test_a_promise_that_is_true_is_proven_at_once():
    problem = three_models(slos=(SloTarget(metric="ttft", target_s=5.0),))
    simulator = MadeUp(problem, problem)
    correction = corrected_plan(read(problem), simulator, SearchRules())
    assert [step.fate for step in correction.steps] == [Fate.HOLDS]
    assert correction.best is correction.steps[0]


def test_percentiles_are_corrected_to_hold():
    problem = three_models(slos=(SloTarget(metric="ttft", statistic="p95", target_s=0.35),), rate_per_s=30.0)
    simulator = MadeUp(problem, truth_of(problem, BURSTS), noise=0.01)
    correction = corrected_plan(read(problem), simulator, SearchRules())
    assert correction.steps[0].fate is Fate.TOO_SLOW
    assert correction.best is not None
    assert simulator.value(correction.best.plan, problem.slos[0]) <= 0.05


def test_nothing_holds_if_every_option_is_too_slow():
    simulator = MadeUp(PROBLEM, truth_of(PROBLEM, (Shift(slower=9.0),) * 3))
    correction = corrected_plan(read(PROBLEM), simulator, SearchRules())
    assert correction.best is None
    assert correction.infeasible is not None
    assert correction.infeasible.binding == "slo"
    assert correction.ended == "no plan is left"


def test_the_number_of_plans_is_limited():
    simulator = MadeUp(PROBLEM, truth_of(PROBLEM, BURSTS))
    correction = corrected_plan(read(PROBLEM), simulator, SearchRules(plans=1))
    assert len(correction.steps) == 1
    assert correction.best is None
    assert correction.ended == "as many plans were simulated as allowed, 1"


def test_it_ends_when_all_arrivals_were_seen():
    simulator = MadeUp(PROBLEM, truth_of(PROBLEM, BURSTS), arrivals=10)
    correction = corrected_plan(read(PROBLEM), simulator, SearchRules())
    assert correction.steps == ()
    assert "arrivals" in correction.ended


def test_a_plan_that_a_proof_did_not_confirm_is_not_chosen_again():
    class Doubtful(MadeUp):
        """The same arrivals look fine in a trial and never prove anything."""

        def prove(self, plan):
            found = super().prove(plan)
            return Validation(**{f: getattr(found, f) for f in found.__slots__} | {"outcome": Outcome.UNDECIDED})

    problem = three_models(slos=(SloTarget(metric="ttft", target_s=0.08),), rate_per_s=30.0)
    correction = corrected_plan(read(problem), Doubtful(problem, problem, noise=1e-6), SearchRules(plans=4))
    assert correction.best is None
    scores = [step.score for step in correction.steps]
    assert len(set(scores)) == len(scores) == 4
    assert max(scores[1:]) < scores[0]


def test_tightening_ends_in_the_loosest_targets_whose_plan_holds(found):
    correction, _ = found
    simulator = MadeUp(PROBLEM, truth_of(PROBLEM, BURSTS))
    tightened = tightened_plan(read(PROBLEM), simulator, 12)
    best = tightened.best
    assert best is not None
    assert 0.1 < best.tightened < 1.0
    assert simulator.value(best.plan, PROBLEM.slos[0]) <= PROBLEM.slos[0].target_s
    looser = [step for step in tightened.steps if step.tightened > best.tightened]
    assert looser
    assert all(step.fate is not Fate.HOLDS for step in looser)
    # One factor for all models costs more than to know which of them are slower.
    assert correction.best.score > best.score


def test_tightening_leaves_targets_alone_that_hold():
    problem = three_models(slos=(SloTarget(metric="ttft", target_s=5.0),))
    tightened = tightened_plan(read(problem), MadeUp(problem, problem), 12)
    assert [step.tightened for step in tightened.steps] == [1.0]
    assert tightened.best is tightened.steps[0]


def test_attempts_spend_the_permitted_error():
    rules = ProofRules(confidence=0.9)
    spent = sum(1.0 - rules.confidence_of(attempt) for attempt in range(1, 1000))
    assert spent == pytest.approx(0.1, abs=1e-3)
    assert spent < 0.1


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"confidence": 1.5}, "confidence"),
        ({"confidence": float("nan")}, "confidence"),
        ({"trial": 2}, "trial replications"),
        ({"most": 5}, "most replications"),
        ({"tolerance": 0.0}, "tolerance"),
    ],
)
def test_wrong_rules_are_refused(settings, says):
    with pytest.raises(InputError, match=says):
        ProofRules(**settings)


@pytest.mark.parametrize("settings", [{"plans": 0}, {"gain": 0.0}, {"gain": float("nan")}])
def test_wrong_limits_are_refused(settings):
    with pytest.raises(InputError, match=next(iter(settings))):
        SearchRules(**settings)
