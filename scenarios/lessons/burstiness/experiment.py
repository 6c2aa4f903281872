"""One prefill worker under three arrival processes with one mean rate: Poisson, clumped gaps, and rate bursts."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from analysis.queueing.bursts import TwoStateArrivals, index_of_dispersion, two_state_m_1
from analysis.queueing.single_server import mm1
from analysis.queueing.variability import gamma_m_1, kingman
from scenarios.theory.evidence import Row, mean_over
from scenarios.theory.figures import mean_wait_s
from scenarios.theory.stationary import StationaryRun, stationary_runs

SCENARIO = Path(__file__).with_name("scenario.yaml")
SERVICE_S = 0.15
ARRIVALS = TwoStateArrivals(rates_per_s=(2.0, 12.0), sojourns_s=(20.0, 5.0))
RATE_PER_S = ARRIVALS.mean_rate_per_s
WINDOW_S = 10.0
POISSON = (f"workload.arrivals={{kind: poisson, rate_per_s: {RATE_PER_S}}}",)
GAMMA_CV = 2.0
GAMMA = (f"workload.arrivals={{kind: gamma, cv: {GAMMA_CV}, rate_per_s: {RATE_PER_S}}}",)


def gap_cv2(run: StationaryRun) -> float:
    """Squared coefficient of variation of the gaps between arrivals."""
    gaps = np.diff(run.arrival_s)
    return float(gaps.var() / gaps.mean() ** 2)


def dispersion(run: StationaryRun, window_s: float = WINDOW_S) -> float:
    """Index of dispersion of the arrivals in windows."""
    edges = np.arange(run.arrival_s[0], run.arrival_s[-1], window_s)
    return index_of_dispersion(np.histogram(run.arrival_s, edges)[0])


def experiment(*, replications: int) -> list[Row]:
    """Waits at one mean rate, and which figure of the arrivals foretells them."""
    smooth = stationary_runs(SCENARIO, [*POISSON, "workload.requests=4000"], replications=replications)
    clumped = stationary_runs(SCENARIO, [*GAMMA, "workload.requests=4000"], replications=replications)
    bursty = stationary_runs(SCENARIO, replications=replications)
    wait = mean_over(bursty, mean_wait_s)
    return [
        Row(
            quantity="mean wait, Poisson",
            unit="s",
            theory=mm1(RATE_PER_S, SERVICE_S).mean_wait_s,
            source="M/M/1 (Kleinrock, Queueing Systems I, 3.2)",
            simulated=mean_over(smooth, mean_wait_s),
            tolerance=0.002,
        ),
        Row(
            quantity="mean wait, gamma gaps with a variation of 2",
            unit="s",
            theory=gamma_m_1(RATE_PER_S, SERVICE_S, arrival_cv2=GAMMA_CV**2).mean_wait_s,
            source="G/M/1 (Kleinrock, Queueing Systems I, chapter 6)",
            simulated=mean_over(clumped, mean_wait_s),
            tolerance=0.002,
        ),
        Row(
            quantity="mean wait, rate bursts",
            unit="s",
            theory=two_state_m_1(ARRIVALS, SERVICE_S).mean_wait_s,
            source="MMPP(2)/M/1, matrix-geometric (Neuts 1981)",
            simulated=wait,
            tolerance=0.002,
        ),
        Row(
            quantity="variation of the gaps, squared, rate bursts",
            unit="",
            theory=ARRIVALS.gap_cv2,
            source="Heffes, Lucantoni 1986",
            simulated=mean_over(bursty, gap_cv2),
            tolerance=0.01,
        ),
        Row(
            quantity="mean wait, rate bursts, by the gaps' variation",
            unit="s",
            theory=kingman(RATE_PER_S, SERVICE_S, arrival_cv2=ARRIVALS.gap_cv2, service_cv2=1.0).mean_wait_s,
            source="Kingman 1961 with the gaps' variation: gaps forget that they come in runs",
            simulated=wait,
            claim="differs",
        ),
        Row(
            quantity=f"index of dispersion, {WINDOW_S:g} s windows",
            unit="",
            theory=ARRIVALS.dispersion(WINDOW_S),
            source="Heffes, Lucantoni 1986; 1 for Poisson",
            simulated=mean_over(bursty, dispersion),
            tolerance=0.02,
        ),
        Row(
            quantity="mean wait, rate bursts, by the limit of the dispersion",
            unit="s",
            theory=kingman(
                RATE_PER_S, SERVICE_S, arrival_cv2=ARRIVALS.dispersion(math.inf), service_cv2=1.0
            ).mean_wait_s,
            source="Kingman with the dispersion of long windows (Fendick, Whitt 1989); near, at this load",
            simulated=wait,
            tolerance=0.2,
        ),
    ]


def answers() -> dict[str, float]:
    """Answers of the exercises."""
    peak = TwoStateArrivals(rates_per_s=(2.0, 12.0), sojourns_s=(2.0, 0.5))
    return {
        "1": RATE_PER_S,
        "2": ARRIVALS.dispersion(math.inf),
        "3": kingman(RATE_PER_S, SERVICE_S, arrival_cv2=GAMMA_CV**2, service_cv2=1.0).mean_wait_s,
        "4": two_state_m_1(ARRIVALS, SERVICE_S).mean_wait_s / mm1(RATE_PER_S, SERVICE_S).mean_wait_s,
        "5": two_state_m_1(peak, SERVICE_S).mean_wait_s,
    }
