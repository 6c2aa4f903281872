"""What ``routerwise optimize`` prints: the plan, what it promises, and how sure that is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from optimizer.plan import Plan, PromisedLoad, PromisedSlo
from optimizer.problem import Problem, SloTarget
from optimizer.search import Optimum
from scenarios.optimisation.methods import Method

_SHOWN = (
    ("TTFT mean", "ttft_mean_s"),
    ("TTFT P95", "ttft_p95_s"),
    ("TPOT mean", "tpot_mean_s"),
    ("E2E mean", "e2e_mean_s"),
    ("E2E P95", "e2e_p95_s"),
)

_SLACK = 1e-3
"""A target that is undercut by more than this share does not bind; its price is rounding."""


def problem_lines(name: str, problem: Problem) -> Iterator[str]:
    """What is to be solved."""
    loads = " or ".join(f"{load.rate_per_s:g}" for load in problem.loads)
    packing = "memory and compute" if problem.packing == "compute" else "memory"
    yield f"{name}: {len(problem.models)} models on {problem.gpus} GPUs (packed by {packing}), {loads} requests/s"
    yield f"  SLO: {', '.join(str(slo) for slo in problem.slos)}; {problem.table.prompts} prompts"


def plan_lines(plan: Plan, problem: Problem, optimum: Optimum, method: Method) -> Iterator[str]:
    """The plan, load by load, and the proof."""
    yield from _setup(plan)
    assert plan.promise is not None
    for routing, promised in zip(plan.routing, plan.promise.loads, strict=True):
        weight = f", weight {routing.weight:g}" if len(plan.routing) > 1 else ""
        yield f"\nRouting at {routing.rate_per_s:g} requests/s{weight}: each prompt to the highest score - price"
        known = {name for latency in promised.latency_s.values() for name in latency}
        shown = [(title, name) for title, name in _SHOWN if name in known]
        rows = [["model", "fraction", "requests/s", "price", *(title for title, _ in shown)]]
        for model, fraction in routing.fractions.items():
            latency = promised.latency_s.get(model, {})
            rows.append(
                [
                    model,
                    f"{fraction:.4f}",
                    f"{fraction * routing.rate_per_s:.2f}",
                    f"{routing.prices[model]:+.4f}",
                    *(_milliseconds(latency.get(name)) for _, name in shown),
                ]
            )
        yield from _aligned(rows)
        achieved = "" if promised.outcome is None else f"; mean true outcome of these prompts {promised.outcome:.4f}"
        yield f"  mean predicted score {promised.score:.4f}{achieved}"
        for slo in promised.slos:
            yield f"  {_slo(slo, promised)}"
    yield ""
    yield from _proof(plan, optimum, method)


def _setup(plan: Plan) -> Iterator[str]:
    rows = [["model", "tp", "compute", "memory", "replicas", "GPUs"]]
    for name, model in plan.models.items():
        gpus = " | ".join(",".join(map(str, shards)) for shards in model.replicas)
        rows.append(
            [
                name,
                str(model.tp),
                f"{model.compute_share:.0%}",
                f"{model.memory_share:.0%}",
                str(len(model.replicas)),
                gpus,
            ]
        )
    yield "\nSetup: shares are of each GPU"
    yield from _aligned(rows)
    if plan.left_out:
        yield f"  left out: {', '.join(plan.left_out)}"


def _slo(slo: PromisedSlo, promised: PromisedLoad) -> str:
    target = str(SloTarget(metric=slo.metric, statistic=slo.statistic, target_s=slo.target_s, model=slo.model))
    shared_percentile = slo.limit != slo.target_s
    value = f"{slo.value:.2%} are later, {slo.limit:.0%} may be" if shared_percentile else _milliseconds(slo.value)
    if slo.value >= (1.0 - _SLACK) * slo.limit:
        worth = f"one more ms is worth {1e-3 * slo.score_per_s:.3g} of score (beta {slo.beta:.4g})"
    else:
        worth = "does not bind"
    return f"{target}: {value}; {worth}"


def _proof(plan: Plan, optimum: Optimum, method: Method) -> Iterator[str]:
    assert plan.promise is not None
    promise = plan.promise
    if method.bound_is_proof and promise.bound is not None:
        yield f"Score {promise.score:.6f}; no plan has more than {promise.bound:.6f} (gap {promise.gap:.1e})"
    else:
        yield f"Score {promise.score:.6f}; this method does not show that there is no better plan"
    undecided = f", {optimum.undecided:,} of which it is not known" if optimum.undecided else ""
    yield (
        f"Setups: {optimum.considered:,} considered, {optimum.pruned:,} pruned, {optimum.solved:,} solved, "
        f"{optimum.unplaceable:,} without a placement{undecided}; {optimum.wall_s:.2f} s"
    )


def _milliseconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{1e3 * seconds:.1f} ms"


def _aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        first, *others = (cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        yield "  " + "  ".join([first.strip().ljust(widths[0]), *others])
