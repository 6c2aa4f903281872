"""KV blocks as servers: long prompts, of which ten fit, and short prompts whose answers outgrow the memory."""

from __future__ import annotations

from pathlib import Path

from analysis.queueing.many_servers import erlang_c, mmc
from scenarios.theory.evidence import Row, mean_over
from scenarios.theory.stationary import StationaryRun, stationary_runs

SCENARIO = Path(__file__).with_name("scenario.yaml")

RATE_PER_S, STEP_S, BLOCK_TOKENS = 2.0, 0.02, 16
ANSWER_TOKENS = 200
SERVICE_S = ANSWER_TOKENS * STEP_S
FITTING = 10
"""Requests of the scenario that fit into its 5,300 usable blocks."""
SEATS = 256

GROWING_PROMPT, GROWING_ANSWER, GROWING_BLOCKS = 160, 400, 1000
GROWING = (
    f"workload.lengths={{prompt: {{kind: constant, tokens: {GROWING_PROMPT}}}, "
    f"output: {{kind: geometric, mean: {GROWING_ANSWER}}}}}",
    f"models.server.engine.num_gpu_blocks={GROWING_BLOCKS + 1}",
    "workload.requests=1500",
)
"""Chats: 160 tokens in, 400 out on average, so that a request enters with 10 blocks and grows."""


def growing_at(rate_per_s: float) -> tuple[str, ...]:
    """The overrides of chats at a rate."""
    return (*GROWING, f"workload.arrivals.rate_per_s={rate_per_s}")


def mean_blocks(prompt_tokens: float, mean_age_tokens: float) -> float:
    """Blocks that a running request holds on average; the last one is half full on average.

    ``mean_age_tokens`` is how much of its answer a running request has got on average: half of it if all are equally
    long, all of a mean answer if lengths are geometric, since a long one is seen for longer (inspection paradox).
    """
    return (prompt_tokens + mean_age_tokens) / BLOCK_TOKENS + 0.5


def experiment(*, replications: int) -> list[Row]:
    """Waiting as with ten servers, blocks by Little's law, and the number that memory lets run in an overload."""
    fixed = stationary_runs(SCENARIO, replications=replications)
    steady = stationary_runs(SCENARIO, growing_at(2.0), replications=replications)
    close = stationary_runs(SCENARIO, growing_at(3.0), replications=replications)
    flooded = stationary_runs(SCENARIO, growing_at(4.5), replications=replications)
    offered = RATE_PER_S * SERVICE_S
    held = mean_blocks(GROWING_PROMPT, GROWING_ANSWER)
    stay_s = GROWING_ANSWER * STEP_S
    return [
        Row(
            quantity=f"mean wait, {FITTING} requests fit",
            unit="s",
            theory=mmc(RATE_PER_S, SERVICE_S, FITTING).mean_wait_s,
            source=f"M/M/{FITTING}, Erlang C [Kleinrock, 3.5]",
            simulated=mean_over(fixed, lambda run: run.wait_s.mean()),
            # Seats change hands at the ends of steps of 20 ms.
            tolerance=0.03,
        ),
        Row(
            quantity=f"requests that wait, {FITTING} fit",
            unit="",
            theory=erlang_c(offered, FITTING),
            source=f"M/M/{FITTING}, Erlang C",
            simulated=mean_over(fixed, waiting_share),
            tolerance=0.03,
        ),
        Row(
            quantity=f"requests that wait, if the {SEATS} seats counted",
            unit="",
            theory=erlang_c(offered, SEATS),
            source=f"M/M/{SEATS}, Erlang C",
            simulated=mean_over(fixed, waiting_share),
            claim="differs",
        ),
        Row(
            quantity="KV blocks in use, chats at 2/s",
            unit="blocks",
            theory=2.0 * stay_s * held,
            source="Little 1961, counting blocks",
            simulated=mean_over(steady, used_blocks),
            tolerance=0.02,
        ),
        Row(
            quantity="chats that run in an overload of 4.5/s",
            unit="requests",
            theory=GROWING_BLOCKS / held,
            source="blocks / mean blocks of a request",
            simulated=mean_over(flooded, lambda run: run.running.mean()),
            # Some blocks are free until somebody fits in.
            tolerance=0.04,
        ),
        *(
            Row(
                quantity=f"preemptions per chat at {rate:g}/s, load {rate * stay_s * held / GROWING_BLOCKS:.0%}",
                unit="",
                simulated=mean_over(runs, preemptions),
                claim="none",
            )
            for rate, runs in ((2.0, steady), (3.0, close), (4.5, flooded))
        ),
    ]


def answers() -> dict[str, float]:
    """Answers of the exercises."""
    return {
        "1": 1000 * mmc(2.0, 4.0, 5300 // 510).mean_wait_s,
        "2": GROWING_BLOCKS / mean_blocks(GROWING_PROMPT, GROWING_ANSWER / 2),
        "3": GROWING_BLOCKS / mean_blocks(GROWING_PROMPT, GROWING_ANSWER),
        "4": float(next(fitting for fitting in range(9, 100) if erlang_c(2.0 * 4.0, fitting) < 0.05)),
    }


def waiting_share(run: StationaryRun) -> float:
    """Share of the requests that wait for more than the end of a step."""
    return float((run.wait_s > 1.01 * STEP_S).mean())


def used_blocks(run: StationaryRun) -> float:
    """Mean number of KV blocks in use."""
    samples = run.result.samples
    kept = (samples[:, 0] >= run.arrival_s[0]) & (samples[:, 0] <= run.arrival_s[-1])
    return float(samples[kept, 4].mean())


def preemptions(run: StationaryRun) -> float:
    """How often a request was preempted, on average."""
    return float(run.result.requests.preemptions[run.rows].mean())
