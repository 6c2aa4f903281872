"""The publication's live study, simulated: what plans do under traffic, next to routers on GPUs that nobody shares.

RouterWise (arXiv:2604.10907, version 2) deploys its plans on four A100 and compares mean TTFT, at a quality that
differs by at most 0.01, with a threshold router (RouteLLM) and a cascade (FrugalGPT), each on isolated deployments.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from analysis.statistics import Interval, mean_interval
from analysis.verdicts import Outcome
from latency_models.errors import InputError
from optimizer.plan import Plan, PlannedGpus, PlannedModel, PlannedRouting, make_plan
from optimizer.problem import Option, Packing, Problem
from scenarios.correction.planning import check_models
from scenarios.correction.search import SearchRules, corrected_plan
from scenarios.correction.simulated_plans import PlanSimulator, ProofRules
from scenarios.model_section import PolicySection
from scenarios.optimisation.methods import Limits, find_method
from scenarios.optimisation.problem_file import ReadProblem
from scenarios.plans.deployment import deployed
from scenarios.replicated import Replicator
from scenarios.schema import Scenario
from scenarios.stress.traffic_axes import with_load
from scenarios.studies.cases import Case
from scenarios.studies.offline_routing import matched, route_offline
from scenarios.validation.measure import RunFigures, RunMeasure
from scenarios.validation.slo_verdicts import slo_verdict
from scenarios.validation.validate import TOLERATED_UNANSWERED

PLANS: tuple[tuple[str, str, Packing], ...] = (
    ("RouterWise as published", "paper", "memory"),
    ("certified optimum", "exact", "compute"),
)
"""Name, method and packing of the plans."""

MATCHED: tuple[tuple[str, str, str, Mapping[str, Any]], ...] = (
    ("threshold, isolated GPUs", "threshold", "budget", {}),
    ("cascade, isolated GPUs", "cascade", "threshold", {"informed": 0.1}),
)
"""Name, router, the option that sets its quality, and its other options.

The scorer of the cascade recognises the outcome of one answer in ten.  A better one achieves more than the plans do
even where it passes on all that it is not sure of, and could not be compared at the same quality.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveRow:
    """One system in one case.

    Parameters
    ----------
    case : Case
    system : str
    promised_s : float or None
        Mean TTFT that a plan promises.
    ttft_s : Interval or None
        Mean TTFT over the replications; ``None`` if there is no plan.
    achieved : Interval or None
        Mean true outcome, 0 for a request that was not answered.
    outcome : Outcome or None
        Verdict on the target.
    note : str
        Setup and routing, or why there is none.
    """

    case: Case
    system: str
    promised_s: float | None = None
    ttft_s: Interval | None = None
    achieved: Interval | None = None
    outcome: Outcome | None = None
    note: str


_FIRST = 10_000
"""Number of the first replication: arrivals on which no plan was corrected or proven."""

Report = Callable[[str, int, int], None] | None
"""Told what is being done, how many steps are done, and of how many."""


def live_study(
    read: ReadProblem,
    scenario: Scenario,
    cases: Sequence[Case],
    replicator: Replicator,
    *,
    replications: int = 5,
    report: Report = None,
) -> list[LiveRow]:
    """Plan, deploy and simulate every case.

    Parameters
    ----------
    read : ReadProblem
        Models, curves and prompts; cases replace GPUs, load and SLOs.
    scenario : Scenario
        Models and traffic, at the first load of the problem; the traffic is sped up to the load of each case.
    cases : sequence of Case
    replicator : Replicator
        Where replications are run.
    replications : int
        Of each simulation.
    report : callable, optional

    Raises
    ------
    InputError
        Problem and scenario do not go together.
    """
    check_models(read, scenario)
    rows: list[LiveRow] = []
    for number, case in enumerate(cases):
        if report is not None:
            report(str(case), number, len(cases))
        rows += _CaseStudy(read, scenario, case, replicator, replications).rows()
    return rows


class _CaseStudy:
    def __init__(
        self, read: ReadProblem, scenario: Scenario, case: Case, replicator: Replicator, replications: int
    ) -> None:
        self._read, self._case = read, case
        self._scenario = with_load(scenario, case.rate_per_s / read.problem.loads[0].rate_per_s, "")
        self._replicator, self._replications = replicator, replications

    def rows(self) -> list[LiveRow]:
        """The plans, and the routers on isolated GPUs at the quality of the last plan that there is."""
        rows = [*(self._plan_row(*entry) for entry in PLANS), self._corrected_row()]
        achieved = [row.achieved.estimate for row in rows if row.achieved is not None]
        return rows + [self._matched_row(*entry, achieved[-1]) for entry in MATCHED if achieved]

    def _plan_row(self, system: str, method: str, packing: Packing) -> LiveRow:
        problem = self._case.of(self._read.problem, "ttft", packing)
        optimum = find_method(method).solve(problem, Limits(), None)
        if optimum.best is None:
            return LiveRow(case=self._case, system=system, note="no setup keeps the target")
        plan = make_plan(problem, optimum, name=self._read.name, engines=self._read.engines)
        assert plan.promise is not None
        promised_s = plan.promise.loads[0].slos[0].value
        return self._simulated(system, deployed(self._scenario, plan), promised_s, _described(plan))

    def _corrected_row(self) -> LiveRow:
        system = "corrected plan"
        problem = self._case.of(self._read.problem, "ttft", "compute")
        simulator = PlanSimulator(problem, self._scenario, self._replicator, ProofRules())
        best = corrected_plan(replace(self._read, problem=problem), simulator, SearchRules()).best
        if best is None:
            return LiveRow(case=self._case, system=system, note="no plan holds in simulation")
        assert best.plan.promise is not None
        promised_s = best.plan.promise.loads[0].slos[0].value
        return self._simulated(system, deployed(self._scenario, best.plan), promised_s, _described(best.plan))

    def _matched_row(
        self, system: str, kind: str, parameter: str, options: Mapping[str, Any], achieved: float
    ) -> LiveRow:
        problem = self._case.of(self._read.problem, "ttft", "compute")
        plan = isolated_plan(problem, self._read)
        found = matched(kind, parameter, options, problem.table, achieved)
        calls = route_offline(kind, found, problem.table).calls
        scenario = deployed(self._scenario, plan).model_copy(
            update={"routing": PolicySection.model_validate({"kind": kind, **found})}
        )
        shares = ", ".join(f"{name} {share:.2f}" for name, share in zip(problem.table.models, calls, strict=True))
        return self._simulated(system, scenario, None, f"{parameter} {found[parameter]:.3f}; calls: {shares}")

    def _simulated(self, system: str, scenario: Scenario, promised_s: float | None, note: str) -> LiveRow:
        targets = self._case.of(self._read.problem, "ttft", "compute").slos
        runs: list[RunFigures] = self._replicator.run(
            [scenario], range(_FIRST, _FIRST + self._replications), RunMeasure(targets=targets)
        )[0]
        figures = [run.whole.slos[0] for run in runs]
        scores = [run.whole.score.achieved for run in runs if run.whole.score is not None]
        verdict = slo_verdict(targets[0], figures, confidence=0.95, tolerance=TOLERATED_UNANSWERED)
        return LiveRow(
            case=self._case,
            system=system,
            promised_s=promised_s,
            ttft_s=mean_interval([one.latency_sum_s / one.timed for one in figures]),
            achieved=mean_interval(scores),
            outcome=verdict.outcome,
            note=note,
        )


def isolated_plan(problem: Problem, read: ReadProblem) -> Plan:
    """Every model once, alone on its GPUs; of such setups the one with most GPUs for the models with most memory.

    Raises
    ------
    InputError
        There are not enough GPUs, or no options that use them whole.
    """
    whole = [
        [option for option in model.options if option.compute_share == 1.0 and option.replicas == 1]
        for model in problem.models
    ]
    fitting = [chosen for chosen in product(*whole) if sum(option.shards for option in chosen) <= problem.gpus]
    if not fitting:
        raise InputError(
            f"no isolated deployment: {len(problem.models)} models do not fit on {problem.gpus} whole GPUs"
        )
    chosen = max(fitting, key=_generosity)
    first = 0
    models = {}
    for model, option in zip(problem.models, chosen, strict=True):
        engine = read.engines.get(model.name, {}).get(option.tp)
        models[model.name] = PlannedModel(
            tp=option.tp,
            compute_share=1.0,
            memory_share=option.memory_share,
            replicas=(tuple(range(first, first + option.tp)),),
            engine=None if engine is None else dict(engine),
        )
        first += option.tp
    calls = route_offline("price", {}, problem.table).calls
    routing = PlannedRouting(
        rate_per_s=problem.loads[0].rate_per_s,
        prices=dict.fromkeys(models, 0.0),
        fractions=dict(zip(models, calls, strict=True)),
    )
    return Plan(name="isolated", gpus=PlannedGpus(count=problem.gpus), models=models, routing=(routing,))


def _generosity(chosen: Sequence[Option]) -> tuple[float, ...]:
    """GPUs in use, then how well they go to the models that need most memory."""
    return sum(option.shards for option in chosen), sum(option.tp**2 * option.memory_share for option in chosen)


def _described(plan: Plan) -> str:
    parts = []
    for name, model in plan.models.items():
        copies = f" x {len(model.replicas)}" if len(model.replicas) > 1 else ""
        parts.append(
            f"{name} tp {model.tp} at {model.compute_share:.0%}{copies}: {plan.routing[0].fractions[name]:.2f}"
        )
    return ", ".join(parts)
