"""Models of ``routerwise theory`` with one server, each as formulas beside an engine that is this queue."""

from __future__ import annotations

import math

from analysis.queueing.batch_service import batch_service
from analysis.queueing.bursts import TwoStateArrivals, two_state_m_1
from analysis.queueing.single_server import (
    md1,
    md1_sojourn_quantile_s,
    mg1,
    mg1_processor_sharing,
    mm1,
    mm1_sojourn_quantile_s,
)
from latency_models.errors import check_finite
from scenarios.theory.case import TheoryCase
from scenarios.theory.engines import (
    EXPONENTIAL,
    ROOM,
    TOKENS,
    check_variation,
    heavy_tail_note,
    lognormal_services,
    one_server,
    poisson_arrivals,
)
from scenarios.theory.figures import (
    Figure,
    mean_in_system,
    mean_sojourn_s,
    quantile_figure,
    queue_figures,
    utilisation_figure,
)


def mm1_case(rate_per_s: float, service_s: float, quantile: float) -> TheoryCase:
    """M/M/1 beside the library's ``mm1``."""
    queue = mm1(rate_per_s, service_s)
    figures = [
        utilisation_figure(queue.utilisation),
        *queue_figures(queue, "load / (1 - load) (Kleinrock, Queueing Systems I, 3.2)", tolerance=0.002),
        quantile_figure(
            quantile,
            mm1_sojourn_quantile_s(rate_per_s, service_s, quantile),
            "exponential (Kleinrock, Queueing Systems I, 5)",
        ),
    ]
    return TheoryCase(
        title="M/M/1: Poisson arrivals, exponential service, one server",
        figures=tuple(figures),
        scenario="mm1",
        overrides=(*one_server(rate_per_s, service_s), EXPONENTIAL),
        service_s=service_s,
        load=queue.utilisation,
    )


def md1_case(rate_per_s: float, service_s: float, quantile: float) -> TheoryCase:
    """M/D/1 beside the library's ``md1``."""
    queue = md1(rate_per_s, service_s)
    figures = [
        utilisation_figure(queue.utilisation),
        *queue_figures(queue, "half of M/M/1's wait (Kleinrock, Queueing Systems I, 5)"),
        quantile_figure(quantile, md1_sojourn_quantile_s(rate_per_s, service_s, quantile), "Franx 2001"),
    ]
    return TheoryCase(
        title="M/D/1: Poisson arrivals, constant service, one server",
        figures=tuple(figures),
        scenario="md1",
        overrides=one_server(rate_per_s, service_s),
        service_s=service_s,
        load=queue.utilisation,
    )


def mg1_case(rate_per_s: float, service_s: float, service_cv: float) -> TheoryCase:
    """M/G/1 beside lognormal services."""
    check_variation("service_cv", service_cv)
    queue = mg1(rate_per_s, service_s, service_cv2=service_cv**2)
    return TheoryCase(
        title="M/G/1: Poisson arrivals, any service (simulated: lognormal), one server",
        figures=(
            utilisation_figure(queue.utilisation),
            *queue_figures(queue, "Pollaczek-Khinchine (Kleinrock, Queueing Systems I, 5)", tolerance=0.002),
        ),
        scenario="mg1",
        overrides=(*one_server(rate_per_s, service_s), *ROOM, lognormal_services("prompt", service_cv)),
        service_s=service_s,
        load=queue.utilisation,
        notes=heavy_tail_note(service_cv),
    )


def processor_sharing_case(rate_per_s: float, service_s: float, service_cv: float) -> TheoryCase:
    """M/G/1-PS beside the library's ``processor-sharing``."""
    check_variation("service_cv", service_cv)
    queue = mg1_processor_sharing(rate_per_s, service_s)
    source = "service / (1 - load), insensitive (Harchol-Balter, Performance Modeling, 22)"
    return TheoryCase(
        title="M/G/1-PS: Poisson arrivals, any service (simulated: lognormal), speed shared by all present",
        figures=(
            utilisation_figure(queue.utilisation),
            Figure(
                quantity="mean time in the system",
                unit="s",
                theory=queue.mean_sojourn_s,
                source=source,
                measure=mean_sojourn_s,
                tolerance=0.005,
            ),
            Figure(
                quantity="mean number in the system",
                unit="requests",
                theory=queue.mean_in_system,
                source=source,
                measure=mean_in_system,
                tolerance=0.005,
            ),
            Figure(
                quantity="slowdown: time over time alone",
                unit="",
                theory=1 / (1 - queue.utilisation),
                source="the same for short and long (Harchol-Balter, Performance Modeling, 30)",
                measure=lambda run: float((run.sojourn_s / (run.output_tokens * service_s / TOKENS)).mean()),
                tolerance=0.03,
            ),
        ),
        scenario="processor-sharing",
        overrides=(
            poisson_arrivals(rate_per_s),
            f"models.server.latency.per_sequence_s={service_s / TOKENS!r}",
            "models.server.engine.num_gpu_blocks=1000000",
            *ROOM,
            lognormal_services("output", service_cv),
        ),
        service_s=service_s,
        load=queue.utilisation,
        notes=heavy_tail_note(service_cv),
    )


def batch_case(rate_per_s: float, service_s: float, batch_limit: int) -> TheoryCase:
    """Service in batches beside the library's ``batch-service``."""
    queue = batch_service(rate_per_s, service_s, batch_limit)
    return TheoryCase(
        title=f"M/D/1 in batches of up to {batch_limit}: every batch takes the same time",
        figures=(
            utilisation_figure(queue.utilisation, source="embedded chain (Bailey 1954; Neuts 1967)"),
            *queue_figures(queue, "embedded chain (Bailey 1954; Neuts 1967)", tolerance=0.002),
        ),
        scenario="batch-service",
        overrides=(
            poisson_arrivals(rate_per_s),
            f"models.server.latency.base_s={service_s!r}",
            f"models.server.engine.max_num_seqs={batch_limit}",
        ),
        service_s=service_s,
        load=rate_per_s * service_s / batch_limit,
    )


def bursts_case(rates_per_s: tuple[float, float], sojourns_s: tuple[float, float], service_s: float) -> TheoryCase:
    """MMPP(2)/M/1 beside the library's ``mm1`` with two-state arrivals."""
    for lasting in sojourns_s:
        check_finite("--lasting", lasting, exclusive=True)
    arrivals = TwoStateArrivals(rates_per_s=rates_per_s, sojourns_s=sojourns_s)
    queue = two_state_m_1(arrivals, service_s)
    smooth = mm1(arrivals.mean_rate_per_s, service_s)
    return TheoryCase(
        title="MMPP(2)/M/1: Poisson arrivals whose rate switches between two values, exponential service, one server",
        figures=(
            Figure(
                quantity="mean arrival rate",
                unit="requests/s",
                theory=arrivals.mean_rate_per_s,
                source="weighted by the times",
                measure=lambda run: run.rate_per_s,
            ),
            Figure(
                quantity="index of dispersion, long windows",
                unit="",
                theory=arrivals.dispersion(math.inf),
                source="(Heffes, Lucantoni 1986); 1 for Poisson",
            ),
            utilisation_figure(queue.utilisation),
            *queue_figures(queue, "matrix-geometric (Neuts 1981)", tolerance=0.002),
            Figure(
                quantity="mean wait if the same arrivals were Poisson",
                unit="s",
                theory=smooth.mean_wait_s,
                source="M/M/1 (Kleinrock, Queueing Systems I, 3.2)",
            ),
        ),
        scenario="mm1",
        overrides=(
            *one_server(1.0, service_s),
            EXPONENTIAL,
            f"workload.arrivals={{kind: mmpp2, rates_per_s: {list(rates_per_s)!r}, sojourns_s: {list(sojourns_s)!r}}}",
        ),
        service_s=service_s,
        load=max(queue.utilisation, 0.85),
    )
