"""Small problems for the tests of the optimizer."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence

import numpy as np
import pytest

from latency_models.curves.load_latency import Configuration, LoadLatencyCurve
from optimizer.delays.delay_curves import delay_tables, shared_slos
from optimizer.problem import LEFT_OUT, LoadCase, ModelOptions, Option, Problem, Setup, SloTarget
from optimizer.routing import LoadRouting
from optimizer.splits.assignment import ScoreTable
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


def certify(problem: Problem, setup: Setup, found: LoadRouting, tolerance: float = 1e-6) -> None:
    """Feasibility, strong duality, and each of the optimality conditions."""
    shared = shared_slos(problem)
    tables = delay_tables(problem, found.load)
    fractions, prices = np.array(found.fractions), np.array(found.prices)
    betas = np.array([found.beta[number] * found.slos[number].limit for number in shared])
    options = [None if k == LEFT_OUT else table.options[k] for table, k in zip(tables, setup, strict=True)]

    assert fractions.min() >= 0.0
    assert fractions.sum() == pytest.approx(1.0, abs=1e-9)
    cost = np.zeros(len(shared))
    for option, share in zip(options, fractions, strict=True):
        if option is None:
            assert share == 0.0
            continue
        assert share <= option.highest + 1e-9
        cost += option.at(min(share, option.highest))
    assert (cost <= 1.0 + 1e-7).all()

    if any(option is not None and len(option.kinks()) for option in options):
        # The prices of a problem that is not convex hold around its solution only; the bound is another one.
        assert found.score <= found.bound <= found.score + 1e-4
        return

    # Strong duality, term by term: prompts, traffic, and complementary slackness of the SLOs.
    assert found.score <= found.bound <= found.score + tolerance
    phi = ScoreTable(problem.table.predicted).assign(prices).phi
    assert phi + prices @ fractions == pytest.approx(found.score, abs=tolerance)
    assert betas @ (1.0 - cost) == pytest.approx(0.0, abs=tolerance)
    for model, (table, k, option) in enumerate(zip(tables, setup, options, strict=True)):
        if option is None:
            continue
        share = float(fractions[model])
        earned = prices[model] * share - betas @ option.at(min(share, option.highest))
        reply = table.reply(k, float(prices[model]), betas)[1]
        assert earned == pytest.approx(reply, abs=tolerance)
        # alpha_i - sum_k beta_k h_ki'(w_i) = 0 between the bounds (nu is 0 in this form of the dual).
        step = 1e-4
        if step < share < option.highest - step:
            slopes = [(option.at(share + s) - option.at(share)) / s for s in (-step, step)]
            low, high = sorted(float(betas @ slope) for slope in slopes)
            assert low - 0.02 <= prices[model] <= high + 0.02
