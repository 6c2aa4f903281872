"""Percentiles of one call, of the slowest of ten, of two in a row; how sure a P99 is; and what a mean does not see."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from scipy.stats import binom, gamma

from analysis.queueing.single_server import mg1_processor_sharing, mm1, mm1_sojourn_quantile_s
from scenarios.theory.evidence import Row, mean_over
from scenarios.theory.stationary import StationaryRun, stationary_runs
from sim.results import Floats

SCENARIO = Path(__file__).with_name("scenario.yaml")

RATE_PER_S, SERVICE_S = 3.5, 0.2
FAN_OUT = 10
WINDOW = 900
"""Requests behind one estimate of a P99."""

SHARED = (
    "models.server.latency={kind: linear, base_s: 0, per_sequence_s: 1.0e-3}",
    "models.server.engine.max_num_seqs=512",
    "workload.requests=3000",
)
"""An engine whose step takes 1 ms for each sequence in it: all present share its speed."""
LENGTHS = {"equal": "{kind: constant, tokens: 200}", "unequal": "{kind: lognormal, mean: 200, cv: 3, maximum: 90000}"}


def p99_s() -> float:
    """P99 of one call by theory."""
    return mm1_sojourn_quantile_s(RATE_PER_S, SERVICE_S, 0.99)


def answers_with(lengths: str) -> tuple[str, ...]:
    """The overrides of the shared engine with answers of such lengths."""
    return (*SHARED, f"workload.lengths={{prompt: {{kind: constant, tokens: 1}}, output: {LENGTHS[lengths]}}}")


def grouped(run: StationaryRun, size: int) -> Floats:
    """Latencies of a run in random groups, shape (groups, size): calls that know nothing of each other."""
    shuffled = np.random.default_rng(0).permutation(run.sojourn_s)
    return shuffled[: len(shuffled) // size * size].reshape(-1, size)


def relative_error(requests: int, quantile: float = 0.99) -> float:
    """Standard error of a quantile of exponential latencies from independent requests, as a share of it.

    sqrt(q (1 - q) / n) / f(x), the density at the quantile being (1 - q) / mean (H. A. David, H. N. Nagaraja, "Order
    Statistics", Wiley 2003, section 10.2).
    """
    return math.sqrt(quantile / (1 - quantile) / requests) / -math.log(1 - quantile)


def estimated_error(run: StationaryRun) -> float:
    """Root mean square error of the P99 over windows of successive requests, as a share of it."""
    windows = run.sojourn_s[: len(run.sojourn_s) // WINDOW * WINDOW].reshape(-1, WINDOW)
    return float(np.sqrt(np.mean((np.quantile(windows, 0.99, axis=1) / p99_s() - 1) ** 2)))


def experiment(*, replications: int) -> list[Row]:
    """Tails by theory and by simulation."""
    calls = stationary_runs(SCENARIO, replications=replications)
    shared = {
        name: stationary_runs(SCENARIO, answers_with(name), replications=replications) for name in LENGTHS
    }  # fmt: skip
    one = p99_s()
    mean_s = mm1(RATE_PER_S, SERVICE_S).mean_sojourn_s
    in_a_row = mean_over(calls, lambda run: np.quantile(grouped(run, 2).sum(axis=1), 0.99))
    rows = [
        Row(
            quantity="P99 of one call",
            unit="s",
            theory=one,
            source="M/M/1: exponential [Kleinrock, 5.7]",
            simulated=mean_over(calls, lambda run: np.quantile(run.sojourn_s, 0.99)),
        ),
        Row(
            quantity=f"answers of {FAN_OUT} calls that miss that P99",
            unit="%",
            theory=100 * (1 - 0.99**FAN_OUT),
            source="1 - 0.99 ** 10",
            simulated=mean_over(calls, lambda run: 100 * (grouped(run, FAN_OUT).max(axis=1) > one).mean()),
        ),
        Row(
            quantity=f"P99 of the slowest of {FAN_OUT} calls",
            unit="s",
            theory=mm1_sojourn_quantile_s(RATE_PER_S, SERVICE_S, 0.99 ** (1 / FAN_OUT)),
            source="P99.9 of one call",
            simulated=mean_over(calls, lambda run: np.quantile(grouped(run, FAN_OUT).max(axis=1), 0.99)),
            # Some 700 answers in a run: the P99 of so few is found a little low.
            tolerance=0.05,
        ),
        Row(
            quantity="P99 of two calls in a row",
            unit="s",
            theory=float(gamma.ppf(0.99, 2)) * mean_s,
            source="sum of two exponentials: Erlang-2",
            simulated=in_a_row,
        ),
        Row(
            quantity="P99 of two calls in a row, if percentiles added",
            unit="s",
            theory=2 * one,
            source="P99 + P99",
            simulated=in_a_row,
            claim="differs",
            tolerance=0.05,
        ),
        Row(
            quantity=f"error of a P99 from {WINDOW} requests in a row",
            unit="%",
            theory=100 * relative_error(WINDOW),
            source="order statistics, if requests were independent",
            simulated=mean_over(calls, lambda run: 100 * estimated_error(run)),
            claim="none",
        ),
    ]
    for name, runs in shared.items():
        rows.append(
            Row(
                quantity=f"mean latency, shared engine, {name} answers",
                unit="s",
                theory=mg1_processor_sharing(RATE_PER_S, SERVICE_S).mean_sojourn_s,
                source="M/G/1-PS: whatever the lengths",
                simulated=mean_over(runs, lambda run: run.sojourn_s.mean()),
                # Tokens come at the ends of steps, and long answers are cut at max_model_len.
                tolerance=0.03,
            )
        )
        rows.append(
            Row(
                quantity=f"P99, shared engine, {name} answers",
                unit="s",
                simulated=mean_over(runs, lambda run: np.quantile(run.sojourn_s, 0.99)),
                claim="none",
            )
        )
    return rows


def answers() -> dict[str, float]:
    """Answers of the exercises."""
    mean_s = mm1(RATE_PER_S, SERVICE_S).mean_sojourn_s
    return {
        "1": 100 * (1 - 0.99**20),
        "2": float(gamma.ppf(0.99, 2)) * mean_s,
        # The largest of n bounds the quantile from above with probability 1 - 0.99 ** n.
        "3": float(next(n for n in range(1, 1000) if binom.cdf(n - 1, n, 0.99) >= 0.95)),
        "4": float(math.ceil((relative_error(1) * 1.96 / 0.05) ** 2)),
    }
