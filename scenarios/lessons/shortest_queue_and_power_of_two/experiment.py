"""Random, two choices, shortest queue and old news, for replicas that run one request at a time or batch."""

from __future__ import annotations

from pathlib import Path

from analysis.queueing.choices import at_least_in_queue, power_of_choices, shortest_queue_bounds
from analysis.queueing.single_server import mm1
from analysis.queueing.state_dependent import state_dependent
from scenarios.theory.evidence import Row, mean_over
from scenarios.theory.stationary import StationaryRun, stationary_runs

SCENARIO = Path(__file__).with_name("scenario.yaml")

REPLICAS, RATE_PER_S, SERVICE_S = 12, 9.0, 1.0
LOAD = RATE_PER_S * SERVICE_S / REPLICAS
OLD_S = 10.0
"""Age that the gateway's view of the queues may reach, where it is stale."""

BATCHING_REPLICAS, BATCHING_RATE_PER_S = 8, 80.0
ANSWER_TOKENS, STEP_S, PER_SEQUENCE_S = 50, 0.02, 0.001
BATCHING = (
    f"gpus.count={BATCHING_REPLICAS}",
    f"models.server.replicas={BATCHING_REPLICAS}",
    f"models.server.latency={{kind: linear, base_s: {STEP_S}, per_sequence_s: {PER_SEQUENCE_S}}}",
    "models.server.engine.max_num_seqs=256",
    f"workload.arrivals.rate_per_s={BATCHING_RATE_PER_S}",
    "workload.requests=4000",
    f"workload.lengths={{prompt: {{kind: constant, tokens: 1}}, output: {{kind: geometric, mean: {ANSWER_TOKENS}}}}}",
)
"""The same gateway before engines that batch: a step takes 20 ms and one more for each sequence in it."""


def batching_completions_per_s(sequences: int) -> float:
    """Answers per second of a batching replica that runs so many sequences."""
    return sequences / (ANSWER_TOKENS * (STEP_S + PER_SEQUENCE_S * sequences))


def balanced(balancer: str, staleness_s: float = 0.0) -> str:
    """The override that sets a balancer whose view of the queues may be so old."""
    return f"models.server.balancer={{kind: {balancer}, staleness_s: {staleness_s}}}"


def experiment(*, replications: int) -> list[Row]:
    """Mean times under each rule, beside what theory says of it."""
    one = RATE_PER_S / REPLICAS
    alone = mm1(one, SERVICE_S).mean_sojourn_s
    two = power_of_choices(one, SERVICE_S, 2).mean_sojourn_s
    least = shortest_queue_bounds(RATE_PER_S, SERVICE_S, REPLICAS).low_s
    by_rule = {
        rule: stationary_runs(SCENARIO, [balanced(rule)], replications=replications)
        for rule in ("random", "power-of-two", "least-requests")
    }
    stale = {
        rule: stationary_runs(SCENARIO, [balanced(rule, OLD_S)], replications=replications)
        for rule in ("power-of-two", "least-requests")
    }
    batching = {
        rule: stationary_runs(SCENARIO, [*BATCHING, balanced(rule)], replications=replications)
        for rule in ("random", "least-requests")
    }
    spread = state_dependent(BATCHING_RATE_PER_S / BATCHING_REPLICAS, batching_completions_per_s).mean_sojourn_s
    old = f"{OLD_S:g} s old"
    return [
        Row(
            quantity="mean time, random replica",
            unit="s",
            theory=alone,
            source="M/M/1 [Kleinrock, 3.2]",
            simulated=mean_over(by_rule["random"], _sojourn_s),
        ),
        Row(
            quantity="mean time, better of two",
            unit="s",
            theory=two,
            source="fluid limit [Mitzenmacher 2001, theorem 1]",
            simulated=mean_over(by_rule["power-of-two"], _sojourn_s),
            # The limit is that of infinitely many replicas; twelve are a few per cent slower.
            tolerance=0.1,
        ),
        Row(
            quantity="replicas with 3 or more, better of two",
            unit="",
            theory=at_least_in_queue(one, SERVICE_S, 2, 3),
            source="fluid limit: load ** 7",
            simulated=mean_over(by_rule["power-of-two"], lambda run: share_with_at_least(run, 3)),
            tolerance=0.2,
        ),
        Row(
            quantity="mean time, shortest queue",
            unit="s",
            theory=least,
            source="lower bound: one queue for all, M/M/12 [Winston 1977]",
            simulated=mean_over(by_rule["least-requests"], _sojourn_s),
            # A bound, and close: a tenth above it at this load.
            tolerance=0.25,
        ),
        Row(
            quantity=f"mean time, shortest queue {old}, worse than random",
            unit="s",
            theory=alone,
            source="M/M/1, that is dice",
            simulated=mean_over(stale["least-requests"], _sojourn_s),
            claim="differs",
        ),
        Row(
            quantity=f"mean time, better of two {old}, still better than random",
            unit="s",
            theory=alone,
            source="M/M/1, that is dice",
            simulated=mean_over(stale["power-of-two"], _sojourn_s),
            claim="differs",
        ),
        Row(
            quantity="mean time, batching, random replica",
            unit="s",
            theory=spread,
            source="processor sharing, speed by batch size [Cohen 1979]",
            simulated=mean_over(batching["random"], _sojourn_s),
            # Arrivals wait for the end of a step.
            tolerance=0.02,
        ),
        Row(
            quantity="mean time, batching, shortest queue",
            unit="s",
            simulated=mean_over(batching["least-requests"], _sojourn_s),
            claim="none",
        ),
    ]


def answers() -> dict[str, float]:
    """Answers of the exercises."""
    return {
        "1": power_of_choices(0.9, 1.0, 2).mean_sojourn_s,
        "2": 100 * at_least_in_queue(0.9, 1.0, 2, 5),
        "3": 16.0 * 2.0 / 4 * 1.0,
        "4": state_dependent(10.0, batching_completions_per_s).mean_sojourn_s,
    }


def share_with_at_least(run: StationaryRun, number: int) -> float:
    """Share of replicas and samples with so many requests, waiting or running."""
    samples = run.result.samples
    kept = samples[(samples[:, 0] >= run.arrival_s[0]) & (samples[:, 0] <= run.arrival_s[-1])]
    return float((kept[:, 2] + kept[:, 3] >= number).mean())


def _sojourn_s(run: StationaryRun) -> float:
    return float(run.sojourn_s.mean())
