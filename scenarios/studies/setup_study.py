"""What every retained setup can reach, case by case, next to baselines and to the certified optimum."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from optimizer.comparisons.baselines import Baseline, Baselines
from optimizer.comparisons.enumeration import Enumeration, enumerate_setups
from optimizer.comparisons.least_latency import least_delay_split
from optimizer.delays.delay import DelayTable
from optimizer.delays.delay_curves import delay_tables
from optimizer.placement import Placer
from optimizer.problem import Metric, Packing, Problem, Setup
from optimizer.published.retained import SetupCounts, count_setups
from optimizer.published.setup_space import PlacedSetup
from optimizer.search import Optimum, optimise
from optimizer.setups.setup_search import Progress, SetupSolution
from scenarios.studies.cases import Case


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseStudy:
    """One case.

    Parameters
    ----------
    case : Case
    problem : Problem
        As published: every model runs, once, and uses all compute with the others.
    enumeration : Enumeration
        Every retained setup of it.
    baselines : tuple of Baseline
    least_latency_s : mapping of Setup to float or None
        Least mean latency of any routing, for each setup above and for the optimum; ``None`` if the setup cannot carry
        the load.
    deployable : frozenset of Setup
        Retained setups that can be placed with compute shares of at most 1 on every GPU.
    exact : Optimum
        The optimum without the publication's restrictions: replicas, models left out and idle compute are allowed; but
        compute shares sum to at most 1 on every GPU.
    """

    case: Case
    problem: Problem
    enumeration: Enumeration
    baselines: tuple[Baseline, ...]
    least_latency_s: Mapping[Setup, float | None]
    deployable: frozenset[Setup]
    exact: Optimum

    @property
    def ratio(self) -> float | None:
        """Best score over worst score of the setups that keep the target; ``None`` if none does."""
        best, worst = self.enumeration.best, self.enumeration.worst
        if best is None or worst is None or worst.routing.score <= 0.0:
            return None
        return best.routing.score / worst.routing.score

    @property
    def best_deployable(self) -> SetupSolution | None:
        """The best retained setup that can be placed with compute packed."""
        able = [solution for solution in self.enumeration.solved if solution.setup in self.deployable]
        return max(able, key=lambda solution: solution.routing.score, default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class CountsAt:
    """How many setups are retained for the first models of a problem on so many GPUs."""

    models: int
    gpus: int
    counts: SetupCounts


def study_case(
    problem: Problem,
    case: Case,
    *,
    metric: Metric = "ttft",
    packing: Packing = "memory",
    progress: Callable[[Progress], None] | None = None,
) -> CaseStudy:
    """Solve every retained setup of a case.

    Parameters
    ----------
    problem : Problem
        Models and prompts; its GPUs, loads and SLOs are replaced.
    case : Case
    metric : {"ttft", "tpot", "e2e"}
        Whose mean is limited.
    packing : {"memory", "compute"}
        Which setups have a place: those that fit by memory, as published, or by compute too.
    progress : callable, optional
        Called after each setup.
    """
    own = case.of(problem, metric, packing)
    enumeration = enumerate_setups(own, as_published=True, progress=progress)
    retained = [
        *(PlacedSetup(setup=solution.setup, gpus=solution.gpus) for solution in enumeration.solved),
        *enumeration.infeasible,
    ]
    free = tuple(replace(model, optional=True) for model in own.models)
    packed = replace(own, models=free, packing="compute")
    placer = Placer(packed)
    baselines = Baselines(own, retained).all()
    exact = optimise(packed)
    found = [exact.best, *(baseline.solution for baseline in baselines)]
    setups = [placed.setup for placed in retained] + [solution.setup for solution in found if solution is not None]
    tables = delay_tables(own, own.loads[0])
    return CaseStudy(
        case=case,
        problem=own,
        enumeration=enumeration,
        baselines=baselines,
        least_latency_s={setup: _least_latency_s(tables, setup, case) for setup in dict.fromkeys(setups)},
        deployable=frozenset(placed.setup for placed in retained if placer.place(placed.setup) is not None),
        exact=exact,
    )


def _least_latency_s(tables: Sequence[DelayTable], setup: Setup, case: Case) -> float | None:
    fastest = least_delay_split(tables, setup)
    return None if fastest is None else fastest[0] * case.target_s


def retained_counts(problem: Problem, most_gpus: int) -> list[CountsAt]:
    """Counts for 2 (or, of a single model, 1) to M models, in the order of the problem, on 1 to ``most_gpus`` GPUs."""
    options = [[option for option in model.options if option.replicas == 1] for model in problem.models]
    return [
        CountsAt(models=many, gpus=gpus, counts=count_setups(options[:many], gpus))
        for many in range(min(2, len(options)), len(options) + 1)
        for gpus in range(1, most_gpus + 1)
    ]


def described(problem: Problem, setup: Sequence[int]) -> str:
    """A setup in words: ``7b: tp 1 at 50%; 13b: left out``."""
    parts = [
        f"{model.name}: {model.options[k] if k >= 0 else 'left out'}"
        for model, k in zip(problem.models, setup, strict=True)
    ]
    return "; ".join(parts)
