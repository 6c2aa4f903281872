"""What a proven optimum costs: setup, routing and placement; and the published method beside it."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from benchmarks.figures import NO_TARGET, Figure, Target
from latency_models.curves.load_latency import Configuration, LoadLatencyCurve
from optimizer.delays.delay_curves import delay_tables
from optimizer.problem import LoadCase, ModelOptions, Option, Problem, SloTarget
from optimizer.published.routing import PublishedRules, optimise_beta
from optimizer.published.setup_space import SetupSpace
from optimizer.routing import solve_routing
from optimizer.search import Optimum, optimise
from optimizer.splits.assignment import ScoreTable
from sim.prompt_table import PromptTable

SECTION = "optimizer"
PROMPTS = 36_000
FEW_PROMPTS = 2000
_TIMED_SETUPS = 9
"""So many of the retained setups are routed as published; all of them would take minutes."""
_MEMORY = (14.5 / 72, 26.0 / 72, 68.8 / 72, 16.0 / 72, 30.0 / 72, 40.0 / 72)
"""Weights as a share of a GPU; the first four are those of the published study."""
_RESERVE = 3.0 / 72
_LOADS_AND_TARGETS = ((30.0, 0.05), (50.0, 0.1), (70.0, 0.2), (80.0, 0.3))
"""Requests/s on 4 GPUs and targets in seconds, from a short target to a high load."""


def optimizer_figures(scale: float, *, repeats: int) -> Iterator[Figure]:
    """Wall time of whole searches, of the published method, and what a larger prompt table costs."""
    prompts = int(PROMPTS * scale)
    optimise(_problem(3, 4, FEW_PROMPTS, 50.0, 0.1))  # imports and first calls
    for models, gpus, replicas, most_s in ((3, 4, (1,), 1.0), (4, 8, (1,), 10.0), (6, 16, (1, 2, 4), 120.0)):
        for load, target_s in _LOADS_AND_TARGETS:
            problem = _problem(models, gpus, prompts, load * gpus / 4, target_s, replicas)
            found = min((optimise(problem, time_limit_s=120.0) for _ in range(repeats)), key=lambda each: each.wall_s)
            case = f"{models} models, {gpus} GPUs, {load * gpus / 4:g}/s, {1e3 * target_s:g} ms"
            limit = Target(at_most=most_s)
            yield Figure(
                section=SECTION, case=case, quantity="s", value=found.wall_s, target=limit, detail=_detail(found)
            )
            if math.isfinite(found.gap):
                gap = Target(at_most=1.0)
                yield Figure(section=SECTION, case=case, quantity="gap, millionths", value=1e6 * found.gap, target=gap)
    yield from _published_figures(repeats)
    yield from _table_figures(repeats)


def _published_figures(repeats: int) -> Iterator[Figure]:
    """The published method and the certified optimum on one problem: 529 retained setups."""
    problem = replace(_problem(3, 4, FEW_PROMPTS, 50.0, 0.1), packing="memory")
    found = min((optimise(problem) for _ in range(repeats)), key=lambda each: each.wall_s)
    retained = list(SetupSpace(problem, as_published=True).retained())
    table, delays = ScoreTable(problem.table.predicted), delay_tables(problem, problem.loads[0])
    timed = retained[:: math.ceil(len(retained) / _TIMED_SETUPS)]
    began = time.perf_counter()
    for placed in timed:
        options = [delay.options[k] for delay, k in zip(delays, placed.setup, strict=True)]
        optimise_beta(table, options, PublishedRules())
    published_s = (time.perf_counter() - began) / len(timed) * len(retained)
    case = f"{len(retained)} retained setups, {FEW_PROMPTS:,} prompts"
    detail = f"from {len(timed)} of them"
    yield Figure(section=SECTION, case=case, quantity="published method, s", value=published_s, detail=detail)
    yield Figure(section=SECTION, case=case, quantity="with a proof, s", value=found.wall_s, detail=_detail(found))
    yield Figure(section=SECTION, case=case, quantity="times faster", value=published_s / found.wall_s)


def _table_figures(repeats: int) -> Iterator[Figure]:
    """What 18 times the prompts cost one routing and a whole search."""
    times_s: dict[str, list[float]] = {"one routing": [], "4 models, 8 GPUs": []}
    for size in (FEW_PROMPTS, PROMPTS):
        problem = _problem(4, 8, size, 60.0, 0.2)
        setup = tuple(len(model.options) - 1 for model in problem.models)
        times_s["one routing"].append(min(_timed(problem, setup) for _ in range(repeats)))
        times_s["4 models, 8 GPUs"].append(min(optimise(problem).wall_s for _ in range(repeats)))
        for case, seconds in times_s.items():
            text = f"{case}, {size:,} prompts"
            yield Figure(section=SECTION, case=text, quantity="s", value=seconds[-1], target=NO_TARGET)
    for case, (few_s, many_s) in times_s.items():
        text = f"{case}, {PROMPTS // FEW_PROMPTS} times the prompts"
        yield Figure(section=SECTION, case=text, quantity="times the time", value=many_s / few_s)


def _detail(found: Optimum) -> str:
    what = f"{found.considered:,} setups, {found.solved} solved"
    if found.infeasible is not None:
        return f"{what}; infeasible, the answer included"
    return what if found.best is not None else f"{what}; none found"


def _timed(problem: Problem, setup: Sequence[int]) -> float:
    began = time.perf_counter()
    solve_routing(problem, tuple(setup))
    return time.perf_counter() - began


def _problem(
    models: int, gpus: int, prompts: int, rate_per_s: float, target_s: float, replicas: Sequence[int] = (1,)
) -> Problem:
    """Models that double in latency and halve in capacity, and whose scores rise."""
    scores = np.random.default_rng(0).beta(2.0, 2.0, (prompts, models)) * np.linspace(0.6, 1.0, models)
    names = tuple(f"model-{number}" for number in range(models))
    return Problem(
        gpus=gpus,
        models=tuple(
            ModelOptions(name=name, options=tuple(_options(number, gpus, replicas)))
            for number, name in enumerate(names)
        ),
        table=PromptTable(models=names, predicted=scores),
        loads=(LoadCase(rate_per_s=rate_per_s),),
        slos=(SloTarget(metric="ttft", target_s=target_s),),
    )


def _options(number: int, gpus: int, replicas: Sequence[int]) -> Iterator[Option]:
    base_s, capacity_per_s = 0.033 * 2.0**number, 60.0 / 1.8**number
    for tp in (1, 2, 4):
        for tenths in range(1, 11):
            for copies in replicas:
                if tp * copies > gpus:
                    continue
                speed = tp**0.8 * (0.2 + 0.08 * tenths)
                rates = np.linspace(0.0, 0.97 * capacity_per_s * speed * copies, 12)
                mean_s = base_s / speed / (1.0 - rates / (capacity_per_s * speed * copies))
                curve = LoadLatencyCurve(
                    configuration=Configuration(
                        model=f"model-{number}", tp=tp, compute_share=tenths / 10, replicas=copies
                    ),
                    rates_per_s=tuple(rates.tolist()),
                    statistics={"ttft_mean_s": tuple(mean_s.tolist())},
                )
                yield Option(
                    tp=tp,
                    compute_share=tenths / 10,
                    replicas=copies,
                    memory_share=_MEMORY[number] / tp + _RESERVE,
                    curve=curve,
                )
