"""Waits at a prefill worker for three distributions of prompts with one mean, and what an arrival finds in service."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from analysis.queueing.single_server import md1, mg1, mm1, residual_service_s
from scenarios.theory.evidence import Row, mean_over
from scenarios.theory.figures import mean_wait_s
from scenarios.theory.stationary import StationaryRun, stationary_runs
from sim.results import Floats

SCENARIO = Path(__file__).with_name("scenario.yaml")
RATE_PER_S, SERVICE_S, SERVICE_CV2 = 3.0, 0.2, 1.5**2
CONSTANT = ("workload.lengths.prompt={kind: constant, tokens: 2000}",)
EXPONENTIAL = ("workload.lengths.prompt={kind: geometric, mean: 2000}",)


def experiment(*, replications: int) -> list[Row]:
    """Mean waits by Pollaczek-Khinchine, the inspection paradox, and how little the mean says."""
    constant = stationary_runs(SCENARIO, CONSTANT, replications=replications)
    exponential = stationary_runs(SCENARIO, EXPONENTIAL, replications=replications)
    varied = stationary_runs(SCENARIO, replications=replications)
    formula = "Pollaczek-Khinchine (Kleinrock, Queueing Systems I, 5)"
    return [
        Row(
            quantity="mean wait, prompts of one length",
            unit="s",
            theory=md1(RATE_PER_S, SERVICE_S).mean_wait_s,
            source=formula,
            simulated=mean_over(constant, mean_wait_s),
        ),
        Row(
            quantity="mean wait, exponential prompts",
            unit="s",
            theory=mm1(RATE_PER_S, SERVICE_S).mean_wait_s,
            source=formula,
            simulated=mean_over(exponential, mean_wait_s),
            tolerance=0.002,
        ),
        Row(
            quantity="mean wait, lognormal prompts",
            unit="s",
            theory=mg1(RATE_PER_S, SERVICE_S, service_cv2=SERVICE_CV2).mean_wait_s,
            source=formula,
            simulated=mean_over(varied, mean_wait_s),
            tolerance=0.005,
        ),
        Row(
            quantity="mean wait, prompts of one length, by M/M/1",
            unit="s",
            theory=mm1(RATE_PER_S, SERVICE_S).mean_wait_s,
            source="M/M/1, which takes all prompts for exponential",
            simulated=mean_over(constant, mean_wait_s),
            claim="differs",
        ),
        Row(
            quantity="service that an arrival finds going on",
            unit="s",
            theory=SERVICE_S * (1 + SERVICE_CV2),
            source="length-biased mean: service (1 + cv2) (Kleinrock, Queueing Systems I, 5.2)",
            simulated=mean_over(varied, lambda run: float(services_found(run)[0].mean())),
            tolerance=0.005,
        ),
        Row(
            quantity="what is left of it",
            unit="s",
            theory=residual_service_s(SERVICE_S, service_cv2=SERVICE_CV2),
            source="half of that",
            simulated=mean_over(varied, lambda run: float(services_found(run)[1].mean())),
            tolerance=0.005,
        ),
        Row(
            quantity="median wait, lognormal prompts",
            unit="s",
            simulated=mean_over(varied, lambda run: float(np.median(run.wait_s))),
            claim="none",
        ),
        Row(
            quantity="P99 of the wait, lognormal prompts",
            unit="s",
            simulated=mean_over(varied, lambda run: float(np.quantile(run.wait_s, 0.99))),
            claim="none",
        ),
    ]


def services_found(run: StationaryRun) -> tuple[Floats, Floats]:
    """Of each arrival that finds the worker busy: how long the service in progress takes, and what is left of it.

    First come first served and one at a time, so starts and ends of services are in the order of arrival.
    """
    begin_s = run.arrival_s + run.wait_s
    end_s = run.arrival_s + run.sojourn_s
    current = np.searchsorted(begin_s, run.arrival_s, side="left") - 1
    busy = (current >= 0) & (end_s[current] > run.arrival_s)
    found = current[busy]
    return end_s[found] - begin_s[found], end_s[found] - run.arrival_s[busy]


def answers() -> dict[str, float]:
    """Answers of the exercises."""
    short, long = md1(0.9 * RATE_PER_S, 0.1), md1(0.1 * RATE_PER_S, 1.1)
    mean_s = 0.9 * 0.1 + 0.1 * 1.1
    cv2 = (0.9 * 0.1**2 + 0.1 * 1.1**2) / mean_s**2 - 1
    return {
        "1": md1(RATE_PER_S, SERVICE_S).mean_wait_s,
        "2": mg1(RATE_PER_S, SERVICE_S, service_cv2=SERVICE_CV2).mean_wait_s,
        "3": mg1(RATE_PER_S, mean_s, service_cv2=cv2).mean_wait_s,
        "4": 2 * residual_service_s(mean_s, service_cv2=cv2),
        "5": 0.9 * short.mean_wait_s + 0.1 * long.mean_wait_s,
    }
