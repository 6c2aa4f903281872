"""A decode engine that batches, held against processor sharing with the right load and with the wrong one."""

from __future__ import annotations

from pathlib import Path

from analysis.queueing.queue import Queue
from analysis.queueing.single_server import mg1_processor_sharing
from analysis.queueing.state_dependent import batching_engine, state_dependent
from scenarios.theory.evidence import Row, mean_over
from scenarios.theory.figures import mean_in_system, mean_sojourn_s
from scenarios.theory.stationary import stationary_runs

SCENARIO = Path(__file__).with_name("scenario.yaml")
TOKENS, BASE_S, PER_SEQUENCE_S = 200, 0.02, 1e-3
ALONE_S = TOKENS * (BASE_S + PER_SEQUENCE_S)
LOGNORMAL = ("workload.lengths.output={kind: lognormal, mean: 200, cv: 1.5, maximum: 99000}",)
CONSTANT = ("workload.lengths.output={kind: constant, tokens: 200}",)
SEATS = 24
_STEP_TOLERANCE = 0.01
"""An arrival waits for the end of a step: half of 50 ms, of a stay of some ten seconds."""


def engine(rate_per_s: float) -> Queue:
    """Theory of the scenario's engine at a rate."""
    return batching_engine(rate_per_s, TOKENS, BASE_S, PER_SEQUENCE_S)


def seated_engine(rate_per_s: float, seats: int) -> Queue:
    """Theory of the same engine with a limit on its batch."""
    return state_dependent(rate_per_s, lambda n: n / (TOKENS * (BASE_S + PER_SEQUENCE_S * n)), seats=seats)


def experiment(*, replications: int) -> list[Row]:
    """Stays and numbers for three distributions of answers, the busy share at a tenth of the capacity, and seats."""
    source = "generalised processor sharing (Cohen 1979): g (a + b) / (1 - rate g b)"
    runs = stationary_runs(SCENARIO, replications=replications)
    lognormal = stationary_runs(SCENARIO, LOGNORMAL, replications=replications)
    constant = stationary_runs(SCENARIO, CONSTANT, replications=replications)
    light = stationary_runs(
        SCENARIO, ["workload.arrivals.rate_per_s=0.5", "workload.requests=1000"], replications=replications
    )
    seated = stationary_runs(
        SCENARIO,
        [f"models.server.engine.max_num_seqs={SEATS}", "workload.arrivals.rate_per_s=2.4"],
        replications=replications,
    )
    rows = [
        Row(
            quantity=f"mean time in the engine, {name} answers, 3/s",
            unit="s",
            theory=engine(3.0).mean_sojourn_s,
            source=source,
            simulated=mean_over(found, mean_sojourn_s),
            tolerance=_STEP_TOLERANCE,
        )
        for name, found in (("geometric", runs), ("lognormal", lognormal), ("equal", constant))
    ]
    return [
        *rows,
        Row(
            quantity="mean number in the batch, 3/s",
            unit="sequences",
            theory=engine(3.0).mean_in_system,
            source="(1 + a / b) load / (1 - load)",
            simulated=mean_over(runs, mean_in_system),
            tolerance=_STEP_TOLERANCE,
        ),
        Row(
            quantity="share of time that the GPU is busy, 0.5/s",
            unit="%",
            theory=100 * engine(0.5).utilisation,
            source="1 - (1 - load)^(1 + a / b), load 10 %",
            simulated=mean_over(light, lambda run: 100 * run.busy_share),
            tolerance=0.005,
        ),
        Row(
            quantity="the same if busy were load",
            unit="%",
            theory=10.0,
            source="rate over capacity: 0.5 / 5",
            simulated=mean_over(light, lambda run: 100 * run.busy_share),
            claim="differs",
        ),
        Row(
            quantity="mean time in the engine, 0.2/s, time alone as service",
            unit="s",
            theory=mg1_processor_sharing(0.2, ALONE_S).mean_sojourn_s,
            source="M/G/1-PS with the wrong service time: load 0.2 x 4.2 = 84 %",
            simulated=mean_over(
                stationary_runs(
                    SCENARIO, ["workload.arrivals.rate_per_s=0.2", "workload.requests=600"], replications=replications
                ),
                mean_sojourn_s,
            ),
            claim="differs",
            tolerance=0.5,
        ),
        Row(
            quantity=f"mean time with {SEATS} seats, 2.4/s",
            unit="s",
            theory=seated_engine(2.4, SEATS).mean_sojourn_s,
            source="balance equations, speed by batch size (Gross & Harris, Queueing Theory, 2)",
            simulated=mean_over(seated, mean_sojourn_s),
            tolerance=_STEP_TOLERANCE,
        ),
    ]


def answers() -> dict[str, float]:
    """Answers of the exercises."""
    return {
        "1": 1 / (TOKENS * PER_SEQUENCE_S),
        "2": engine(4.0).mean_sojourn_s,
        "3": 0.5 / (TOKENS * PER_SEQUENCE_S),
        "4": 100 * engine(0.25).utilisation,
        "5": batching_engine(4.0, TOKENS, BASE_S, PER_SEQUENCE_S / 2).mean_sojourn_s,
    }
