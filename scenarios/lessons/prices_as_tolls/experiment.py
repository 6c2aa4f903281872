"""Pigou's two routes, tolls, the optimizer's prices, and a route more that slows everybody down."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from analysis.queueing.single_server import mm1
from latency_models.curves.load_latency import Configuration, LoadLatencyCurve
from optimizer.problem import LoadCase, ModelOptions, Option, Problem, SloTarget
from optimizer.routing import LoadRouting
from optimizer.search import optimise
from scenarios.lessons.prices_as_tolls import selfish_users  # noqa: F401 (registers the router)
from scenarios.theory.evidence import Row, mean_over
from scenarios.theory.stationary import StationaryRun, stationary_runs
from sim.prompt_table import PromptTable

SCENARIO = Path(__file__).with_name("scenario.yaml")

RATE_PER_S, SERVICE_S, REMOTE_S = 5.0, 0.2, 1.0
STAGES_PER_S = 3.9
TARGET_S = 0.75
"""Mean latency that the optimizer is to keep."""

_ENGINE = (
    "engine: {max_num_seqs: 1, max_num_batched_tokens: 1000000, max_model_len: 1000000, num_gpu_blocks: 100000, "
    "enable_prefix_caching: false, async_scheduling: false}"
)
_REMOTE = (
    f"{{latency: {{kind: linear, per_token_s: 1.0e-12}}, {_ENGINE}, api_server: {{workers: 10000, per_request_s: 1}}}}"
)
STAGES = (
    "gpus.count=4",
    # The draft takes as long as the prompt, the check as long as the answer, so that the two are independent.
    f"models={{draft: {{latency: {{kind: linear, per_token_s: 2.0e-5}}, {_ENGINE}}}, remote-draft: {_REMOTE}, "
    f"check: {{latency: {{kind: linear, base_s: 0.002}}, {_ENGINE}}}, remote-check: {_REMOTE}}}",
    "workload.lengths={prompt: {kind: exponential, mean: 9900}, output: {kind: geometric, mean: 100}}",
    f"workload.arrivals.rate_per_s={STAGES_PER_S}",
)
"""Every answer is drafted and then checked; either step is done by a shared replica or by a remote service."""


def fixed(shared: float) -> str:
    """Routing that sends this share of the requests to the shared replica."""
    return f"routing={{kind: fractions, fractions: {{shared: {shared}, remote: {1 - shared}}}, variant: random}}"


def selfish(toll_s: float) -> str:
    """Users who choose for themselves between the shared replica, with a toll, and the remote service."""
    return (
        "routing={kind: selfish-users, routes: [[shared], [remote]], shares: [0.6, 0.4], "
        f"tolls_s: {{shared: {toll_s}}}, learning: 0.001}}"
    )


def staged(*shares: float) -> str:
    """Routing by shares of the routes: shared draft, shared check, both shared."""
    routes = "[[draft, remote-check], [remote-draft, check], [draft, check]]"
    return f"routing={{kind: selfish-users, routes: {routes}, shares: {list(shares)}}}"


def selfish_rate_per_s() -> float:
    """Requests that go to the shared replica until it is as slow as the remote service."""
    return (1 - SERVICE_S / REMOTE_S) / SERVICE_S


def best_rate_per_s() -> float:
    """Requests that go there for the least mean latency: until one more delays the others by what it gains."""
    return (1 - math.sqrt(SERVICE_S / REMOTE_S)) / SERVICE_S


def mean_latency_s(shared_per_s: float) -> float:
    """Mean over both routes."""
    shared_s = mm1(shared_per_s, SERVICE_S).mean_sojourn_s
    return (shared_per_s * shared_s + (RATE_PER_S - shared_per_s) * REMOTE_S) / RATE_PER_S


def toll_s(shared_per_s: float) -> float:
    """Seconds by which one more request at the shared replica delays all others there: rate x dW/drate."""
    return SERVICE_S / (1 - shared_per_s * SERVICE_S) ** 2 - mm1(shared_per_s, SERVICE_S).mean_sojourn_s


def optimizers_routing() -> LoadRouting:
    """What the optimizer does with the same two routes, if the remote service gives somewhat better answers."""
    rates = np.linspace(0.0, 4.5, 181)
    latencies = {"shared": SERVICE_S / (1 - SERVICE_S * rates), "remote": np.full(len(rates), REMOTE_S)}
    better_by = np.linspace(0.0, 0.4, 2000)
    scores = np.column_stack([np.full(len(better_by), 0.5), 0.5 + better_by])
    models = tuple(
        ModelOptions(
            name=name,
            options=(
                Option(
                    tp=1,
                    memory_share=1.0,
                    curve=LoadLatencyCurve(
                        configuration=Configuration(model=name),
                        rates_per_s=tuple(rates),
                        statistics={"e2e_mean_s": tuple(values)},
                    ),
                ),
            ),
        )
        for name, values in latencies.items()
    )
    problem = Problem(
        gpus=2,
        models=models,
        table=PromptTable(models=("shared", "remote"), predicted=scores),
        loads=(LoadCase(rate_per_s=RATE_PER_S),),
        slos=(SloTarget(metric="e2e", target_s=TARGET_S),),
    )
    best = optimise(problem).best
    assert best is not None
    return best.routing.loads[0]


def experiment(*, replications: int) -> list[Row]:
    """Everybody for himself, everybody by plan, everybody for himself with a toll; and the route too many."""
    at_rest, best = selfish_rate_per_s(), best_rate_per_s()
    both_s = 2 * mm1(STAGES_PER_S, SERVICE_S).mean_sojourn_s
    apart_s = mm1(STAGES_PER_S / 2, SERVICE_S).mean_sojourn_s + REMOTE_S
    planned = optimizers_routing()

    def simulated(*overrides: str) -> list[StationaryRun]:
        return stationary_runs(SCENARIO, overrides, replications=replications)

    by_themselves = mean_over(simulated(selfish(0.0)), _latency_s)
    return [
        Row(
            quantity="mean latency, nobody can gain by changing",
            unit="s",
            theory=mean_latency_s(at_rest),
            source="Wardrop 1952: both routes equal",
            simulated=mean_over(simulated(fixed(at_rest / RATE_PER_S)), _latency_s),
        ),
        Row(
            quantity="mean latency, best plan",
            unit="s",
            theory=mean_latency_s(best),
            source="Pigou 1920: marginal latencies equal",
            simulated=mean_over(simulated(fixed(best / RATE_PER_S)), _latency_s),
        ),
        Row(
            quantity="mean latency, users learn by themselves",
            unit="s",
            theory=mean_latency_s(at_rest),
            source="Wardrop 1952",
            simulated=by_themselves,
            # They hear of others with a delay and never quite settle.
            tolerance=0.1,
        ),
        Row(
            quantity="mean latency, users learn by themselves, above the best plan",
            unit="s",
            theory=mean_latency_s(best),
            source="Pigou 1920, which nobody follows unasked",
            simulated=by_themselves,
            claim="differs",
            tolerance=0.05,
        ),
        Row(
            quantity="mean latency, users learn, with the toll",
            unit="s",
            theory=mean_latency_s(best),
            source="Pigou 1920, toll = rate x dW/drate",
            simulated=mean_over(simulated(selfish(toll_s(best))), _latency_s),
            # As above.
            tolerance=0.1,
        ),
        Row(
            quantity="mean latency, the optimizer's routing",
            unit="s",
            theory=TARGET_S,
            source="its target",
            simulated=mean_over(simulated(fixed(planned.fractions[0])), _latency_s),
        ),
        Row(
            quantity="mean latency, draft and check, two routes",
            unit="s",
            theory=apart_s,
            source="M/M/1 + 1 s",
            simulated=mean_over(simulated(*STAGES, staged(0.5, 0.5, 0.0)), _latency_s),
            tolerance=0.01,
        ),
        Row(
            quantity="mean latency, draft and check, a third route and all take it",
            unit="s",
            theory=both_s,
            source="Braess 1968; two M/M/1 in a row [Jackson 1957]",
            simulated=mean_over(simulated(*STAGES, staged(0.0, 0.0, 1.0)), _latency_s),
            # Prompts and answers are whole tokens, and the answer lengthens the draft a little.
            tolerance=0.03,
        ),
    ]


def answers() -> dict[str, float]:
    """Answers of the exercises."""
    planned = optimizers_routing()
    return {
        "1": mean_latency_s(selfish_rate_per_s()) / mean_latency_s(best_rate_per_s()),
        "2": 1000 * toll_s(best_rate_per_s()),
        "3": 1000 * planned.prices[0] / planned.beta[0],
        "4": 2 * mm1(STAGES_PER_S, SERVICE_S).mean_sojourn_s - mm1(STAGES_PER_S / 2, SERVICE_S).mean_sojourn_s - 1.0,
    }


def _latency_s(run: StationaryRun) -> float:
    return float(run.sojourn_s.mean())
