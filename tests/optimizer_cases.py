"""Small problems for the tests of the optimizer."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence

import numpy as np

from latency_models.curves.load_latency import Configuration, LoadLatencyCurve
from optimizer.problem import LEFT_OUT, LoadCase, ModelOptions, Option, Problem, Setup, SloTarget
from sim.prompt_table import PromptTable

PERCENTILES = {"p50": 0.7, "p90": 2.3, "p95": 3.0, "p99": 4.6}
"""Of the mean, as in an exponential distribution."""


def curve_of(rates: Sequence[float], mean_s: Sequence[float], **configuration) -> LoadLatencyCurve:
    """TTFT as given, percentiles in proportion, end-to-end times twenty times as long."""
    statistics = {}
    for metric, factor in (("ttft", 1.0), ("e2e", 20.0)):
        statistics[f"{metric}_mean_s"] = tuple(factor * value for value in mean_s)
        for name, ratio in PERCENTILES.items():
            statistics[f"{metric}_{name}_s"] = tuple(factor * ratio * value for value in mean_s)
    settings = {"model": "m", **configuration}
    return LoadLatencyCurve(configuration=Configuration(**settings), rates_per_s=tuple(rates), statistics=statistics)


def queue_curve(base_s: float, capacity_per_s: float, points: int = 7, **configuration) -> LoadLatencyCurve:
    """The mean of an M/M/1 queue, up to 95 % of its capacity."""
    rates = np.linspace(0.0, 0.95 * capacity_per_s, points)
    return curve_of(rates.tolist(), (base_s / (1.0 - rates / capacity_per_s)).tolist(), **configuration)


def option_of(
    tp: int, share: float, base_s: float, capacity_per_s: float, *, replicas: int = 1, memory: float = 0.3
) -> Option:
    """An option whose speed grows with its compute."""
    speed = tp**0.8 * (0.2 + 0.8 * share)
    curve = queue_curve(
        base_s / speed, capacity_per_s * speed * replicas, tp=tp, compute_share=share, replicas=replicas
    )
    memory_share = min(1.0, memory / tp + 0.03)
    return Option(tp=tp, compute_share=share, replicas=replicas, memory_share=memory_share, curve=curve)


def table_of(scores: np.ndarray) -> PromptTable:
    return PromptTable(models=tuple(f"m{i}" for i in range(scores.shape[1])), predicted=scores)


def problem_of(
    options: Sequence[Sequence[Option]],
    scores: np.ndarray,
    *,
    gpus: int = 4,
    rate_per_s: float | Sequence[tuple[float, float]] = 20.0,
    slos: Sequence[SloTarget] = (SloTarget(metric="ttft", target_s=0.2),),
    packing: str = "compute",
    optional: bool = False,
) -> Problem:
    loads = [(rate_per_s, 1.0)] if isinstance(rate_per_s, (int, float)) else rate_per_s
    return Problem(
        gpus=gpus,
        models=tuple(
            ModelOptions(name=f"m{i}", options=tuple(each), optional=optional) for i, each in enumerate(options)
        ),
        table=table_of(scores),
        loads=tuple(LoadCase(rate_per_s=rate, weight=weight) for rate, weight in loads),
        slos=tuple(slos),
        packing=packing,
    )


def three_models(prompts: int = 400, shares: Iterable[float] = (0.3, 0.6, 1.0), seed: int = 0, **settings) -> Problem:
    """A small, a medium and a large model whose scores rise with size."""
    rng = np.random.default_rng(seed)
    scores = np.clip(rng.beta(2, 2, (prompts, 3)) * np.array([0.6, 0.8, 1.0]), 0, 1)
    options = [
        [option_of(tp, share, base, capacity, memory=memory) for tp in (1, 2) for share in shares]
        for base, capacity, memory in ((0.03, 60.0, 0.2), (0.06, 30.0, 0.35), (0.15, 14.0, 0.8))
    ]
    return problem_of(options, scores, **settings)


def all_setups(problem: Problem) -> list[Setup]:
    choices = [[*range(len(m.options)), *([LEFT_OUT] if m.optional else [])] for m in problem.models]
    return [tuple(setup) for setup in itertools.product(*choices)]


def score_of_counts(scores: np.ndarray, counts: np.ndarray) -> float:
    """Best mean score with these counts of prompts, by an assignment solver."""
    from scipy.optimize import linear_sum_assignment

    columns = np.repeat(np.arange(scores.shape[1]), counts)
    rows, chosen = linear_sum_assignment(-scores[:, columns])
    return float(scores[:, columns][rows, chosen].mean())


def true_cost(problem: Problem, setup: Setup, fractions: Sequence[float], load: int = 0, slo: int = 0) -> float:
    """Mean latency over the target, straight from the curves; infinite beyond their last load."""
    rate, target = problem.loads[load].rate_per_s, problem.slos[slo]
    total = 0.0
    for model, (k, share) in enumerate(zip(setup, fractions, strict=True)):
        if share > 0.0:
            if k == LEFT_OUT:
                return math.inf
            curve = problem.models[model].options[k].curve
            latency = curve.at_or_infinity(
                max(rate * share * (1 - 1e-12), curve.rates_per_s[0]), target.curve_statistic
            )
            total += share * latency
    return total / target.target_s
