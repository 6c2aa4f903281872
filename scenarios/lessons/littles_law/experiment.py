"""Little's law on a chat service: whole server, queue and engine; a closed loop; and an overload, where it fails."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from analysis.queueing.little import littles_law
from scenarios.theory.evidence import Row, mean_over
from scenarios.theory.stationary import StationaryRun, stationary_runs

SCENARIO = Path(__file__).with_name("scenario.yaml")

USERS, THINK_S = 40, 5.0
CLOSED_LOOP = (
    f"workload={{kind: closed-loop, users: {USERS}, think_time_s: {{kind: exponential, mean_s: {THINK_S}}}, "
    "lengths: {prompt: {kind: constant, tokens: 500}, output: {kind: lognormal, mean: 200, cv: 1.0, maximum: 20000}}, "
    "requests: 1000}",
)
"""The same server asked by people who wait for the answer before they think of the next question."""

OVERLOAD = ("workload.arrivals.rate_per_s=6", "run.until_s=300", "run.warmup=0")
"""More than the server can do, watched for five minutes."""


def experiment(*, replications: int) -> list[Row]:
    """Both sides of L = lambda W, measured independently of each other."""
    law = "Little 1961: L = lambda W"
    runs = stationary_runs(SCENARIO, replications=replications)
    closed = stationary_runs(SCENARIO, CLOSED_LOOP, replications=replications)
    overload = stationary_runs(SCENARIO, OVERLOAD, replications=replications)
    return [
        Row(quantity="requests at the server, L", unit="requests", simulated=mean_over(runs, _present), claim="none"),
        Row(quantity="time there, W", unit="s", simulated=mean_over(runs, _sojourn_s), claim="none"),
        Row(
            quantity="L / (rate x W), whole server",
            unit="",
            theory=1.0,
            source=law,
            simulated=mean_over(runs, lambda run: _ratio(run, _present, _sojourn_s)),
        ),
        Row(
            quantity="L / (rate x W), queue alone",
            unit="",
            theory=1.0,
            source=f"{law}, with those that wait and their wait",
            simulated=mean_over(runs, lambda run: _ratio(run, lambda r: r.waiting.mean(), lambda r: r.wait_s.mean())),
        ),
        Row(
            quantity="L / (rate x W), engine alone",
            unit="",
            theory=1.0,
            source=f"{law}, with those that run and their service",
            simulated=mean_over(
                runs, lambda run: _ratio(run, lambda r: r.running.mean(), lambda r: (r.sojourn_s - r.wait_s).mean())
            ),
        ),
        Row(
            quantity=f"users - rate x (W + think), {USERS} users in a closed loop",
            unit="users",
            theory=0.0,
            source="interactive response time law: N = X (R + Z)",
            simulated=mean_over(closed, lambda run: USERS - run.rate_per_s * (_sojourn_s(run) + THINK_S)),
        ),
        Row(
            quantity="L / (rate x W), overloaded and counting the answered only",
            unit="",
            theory=1.0,
            source=f"{law}, which a growing queue does not keep",
            simulated=mean_over(overload, lambda run: _ratio(run, _present, lambda r: float(np.nanmean(r.sojourn_s)))),
            claim="differs",
        ),
    ]


def answers() -> dict[str, float]:
    """Answers of the exercises."""
    per_token_s = 0.02 + 10 * 5e-4
    return {
        "1": 20 / 2.5,
        "2": 2.5 * (12.0 * (600 + 100)),
        "3": 64 / 4.0 - 6.0,
        "4": 10 / (200 * per_token_s),
    }


def _present(run: StationaryRun) -> float:
    return float(run.in_system.mean())


def _sojourn_s(run: StationaryRun) -> float:
    return float(run.sojourn_s.mean())


def _ratio(
    run: StationaryRun, watched: Callable[[StationaryRun], float], time_s: Callable[[StationaryRun], float]
) -> float:
    law = littles_law(mean_in_system=watched(run), rate_per_s=run.rate_per_s, mean_sojourn_s=time_s(run))
    return law.mean_in_system / law.rate_times_sojourn
