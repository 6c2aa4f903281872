"""Models of ``routerwise theory`` with several servers, each as formulas beside an engine that is this queue."""

from __future__ import annotations

import math

from analysis.queueing.choices import power_of_choices
from analysis.queueing.many_servers import (
    erlang_b,
    erlang_c,
    mg_infinity,
    mmc,
    mmc_sojourn_quantile_s,
    mmck,
)
from analysis.queueing.variability import allen_cunneen
from latency_models.errors import check_count, check_finite, invalid
from scenarios.theory.case import TheoryCase
from scenarios.theory.engines import (
    EXPONENTIAL,
    ROOM,
    TOKENS,
    check_variation,
    heavy_tail_note,
    lognormal_services,
    one_server,
    seats,
)
from scenarios.theory.figures import (
    Figure,
    mean_in_system,
    mean_sojourn_s,
    quantile_figure,
    queue_figures,
    rejected_share,
    share_figure,
    utilisation_figure,
)

POISSON_EXPONENTIAL = "Poisson arrivals, exponential service"


def mmc_case(rate_per_s: float, service_s: float, servers: int, quantile: float) -> TheoryCase:
    """M/M/c beside the library's ``mmc``."""
    queue = mmc(rate_per_s, service_s, servers)
    step_s = service_s / TOKENS
    waiting = erlang_c(rate_per_s * service_s, servers)
    figures = [
        utilisation_figure(queue.utilisation, simulated=False),
        share_figure(
            "share that waits",
            waiting,
            "Erlang C (Gross & Harris, Queueing Theory, 2.3)",
            # Whoever finds a seat waits for the end of a step at most.
            lambda run: float((run.wait_s > 1.5 * step_s).mean()),
            tolerance=0.003,
        ),
        *queue_figures(queue, "Erlang C (Gross & Harris, Queueing Theory, 2.3)", tolerance=0.002, delay_s=step_s),
        quantile_figure(
            quantile,
            mmc_sojourn_quantile_s(rate_per_s, service_s, servers, quantile),
            "wait and service together (Gross & Harris, Queueing Theory, 2.3)",
            tolerance=0.002,
        ),
    ]
    return TheoryCase(
        title=f"M/M/c: {POISSON_EXPONENTIAL}, {servers} {'server' if servers == 1 else 'servers'}",
        figures=tuple(figures),
        scenario="mmc",
        overrides=seats(rate_per_s, service_s, servers),
        service_s=service_s,
        load=queue.utilisation,
        in_service=rate_per_s * service_s,
    )


def mmck_case(rate_per_s: float, service_s: float, servers: int, capacity: int) -> TheoryCase:
    """M/M/c/K beside the library's ``mmc`` with a limit on its queue."""
    found = mmck(rate_per_s, service_s, servers, capacity)
    step_s = service_s / TOKENS
    places = capacity - servers
    return TheoryCase(
        title=f"M/M/c/K: {POISSON_EXPONENTIAL}, c = {servers}, at most {capacity} in the system",
        figures=(
            share_figure(
                "share turned away",
                found.rejected_share,
                "balance equations (Gross & Harris, Queueing Theory, 2.4)",
                rejected_share,
                tolerance=0.005,
            ),
            utilisation_figure(found.served.utilisation, simulated=False, source="rate let in x service / servers"),
            *queue_figures(
                found.served, "of those let in (Gross & Harris, Queueing Theory, 2.4)", tolerance=0.005, delay_s=step_s
            ),
        ),
        scenario="mmc" if places else None,
        overrides=(
            *seats(rate_per_s, service_s, servers),
            f"models.server.admission.max_queue_requests={max(places, 1)}",
        ),
        service_s=service_s,
        load=min(rate_per_s * service_s / servers, 0.6),
        in_service=min(rate_per_s * service_s, servers),
        notes=() if places else ("without places to wait this is Erlang B, which the engine has no scenario for",),
    )


def erlang_b_case(rate_per_s: float, service_s: float, servers: int) -> TheoryCase:
    """Erlang B; an engine lets at least one request wait, so it is not simulated."""
    offered = check_finite("rate_per_s", rate_per_s, exclusive=True) * check_finite(
        "service_s", service_s, exclusive=True
    )
    lost = erlang_b(offered, servers)
    source = "Erlang B (Gross & Harris, Queueing Theory, 2)"
    return TheoryCase(
        title=f"M/G/c/c: Poisson arrivals, any service, {servers} servers, nobody waits",
        figures=(
            Figure(quantity="offered load", unit="servers", theory=offered, source="rate x service"),
            Figure(quantity="share turned away", unit="%", theory=100 * lost, source=source),
            Figure(quantity="rate let in", unit="requests/s", theory=rate_per_s * (1 - lost), source=source),
            utilisation_figure(
                offered * (1 - lost) / servers, simulated=False, source="rate let in x service / servers"
            ),
        ),
        notes=("not simulated: an engine always lets a request wait",),
    )


def mg_infinity_case(rate_per_s: float, service_s: float, service_cv: float) -> TheoryCase:
    """M/G/infinity beside the library's scenario of that name."""
    check_variation("service_cv", service_cv)
    queue = mg_infinity(rate_per_s, service_s)
    room = math.ceil(queue.mean_in_system + 12 * math.sqrt(queue.mean_in_system) + 20)
    return TheoryCase(
        title="M/G/infinity: Poisson arrivals, any service (simulated: lognormal), a server for everybody",
        figures=(
            Figure(
                quantity="mean number in the system",
                unit="requests",
                theory=queue.mean_in_system,
                source="Poisson, mean rate x service (Gross & Harris, Queueing Theory, 5)",
                measure=mean_in_system,
                tolerance=0.002,
            ),
            Figure(
                quantity="variance of the number",
                unit="",
                theory=queue.mean_in_system,
                source="that of a Poisson distribution",
                measure=lambda run: float(run.in_system.var()),
                tolerance=0.01,
            ),
            Figure(
                quantity="mean time in the system",
                unit="s",
                theory=queue.mean_sojourn_s,
                source="the service alone",
                measure=mean_sojourn_s,
                tolerance=0.002,
            ),
        ),
        scenario="mg-infinity",
        overrides=(
            *seats(rate_per_s, service_s, room),
            *ROOM,
            lognormal_services("output", service_cv),
        ),
        service_s=service_s,
        in_service=queue.mean_in_system,
        notes=heavy_tail_note(service_cv),
    )


def ggc_case(rate_per_s: float, service_s: float, servers: int, *, arrival_cv: float, service_cv: float) -> TheoryCase:
    """Kingman (one server) and Allen-Cunneen beside gamma gaps and lognormal services."""
    check_variation("arrival_cv", arrival_cv)
    check_variation("service_cv", service_cv)
    queue = allen_cunneen(rate_per_s, service_s, servers, arrival_cv2=arrival_cv**2, service_cv2=service_cv**2)
    one = servers == 1
    source = "Kingman 1961" if one else "Allen-Cunneen (Allen 1990)"
    gaps = "kind: deterministic" if arrival_cv == 0 else f"kind: gamma, cv: {arrival_cv!r}"
    if arrival_cv != 0 and not 0.01 <= arrival_cv <= 100:
        raise invalid("arrival_cv", arrival_cv, "0, or a number from 0.01 to 100")
    base = one_server(rate_per_s, service_s) if one else seats(rate_per_s, service_s, servers)
    lengths = lognormal_services("prompt" if one else "output", service_cv)
    return TheoryCase(
        title=f"{'G/G/1' if one else f'G/G/c, c = {servers}'}: any arrivals (simulated: gamma gaps), any service "
        "(simulated: lognormal)",
        figures=(
            utilisation_figure(queue.utilisation, simulated=one),
            *queue_figures(queue, f"{source}, approximate", claim="none"),
        ),
        scenario="mg1" if one else "mmc",
        overrides=(
            *base,
            *ROOM,
            lengths,
            f"workload.arrivals={{{gaps}, rate_per_s: {rate_per_s!r}}}",
        ),
        service_s=service_s,
        load=queue.utilisation,
        in_service=rate_per_s * service_s,
        notes=(
            "the formula knows only means and variances: good near load 1, rough at light load",
            *heavy_tail_note(service_cv),
        ),
    )


def choices_case(rate_per_s: float, service_s: float, servers: int, choices: int) -> TheoryCase:
    """Shortest of d queues beside replicas of the library's ``mm1`` behind a balancer."""
    check_count("servers", servers, minimum=2)
    if check_count("choices", choices) > servers:
        raise invalid("choices", choices, f"at most the {servers} servers")
    per_server = rate_per_s / servers
    queue = power_of_choices(per_server, service_s, choices)
    balancer = {1: "random", 2: "power-of-two"}.get(choices)
    one_queue_s = mmc(rate_per_s, service_s, servers).mean_sojourn_s
    notes = []
    if choices > 1:
        notes.append(f"the formula is the limit of infinitely many servers; here are {servers}")
    if queue.mean_sojourn_s < one_queue_s:
        notes.append("so few servers cannot reach that limit: no rule is better than one queue for all")
    if balancer is None:
        notes.append("not simulated: balancers choose among one, two or all replicas")
    return TheoryCase(
        title=f"{servers} servers, each with its own queue; a request joins the shortest of {choices} chosen at random",
        figures=(
            utilisation_figure(queue.utilisation),
            Figure(
                quantity="mean time in the system",
                unit="s",
                theory=queue.mean_sojourn_s,
                source="Mitzenmacher 1996" if choices > 1 else "M/M/1 (Kleinrock, Queueing Systems I, 3.2)",
                measure=mean_sojourn_s,
                tolerance=0.002 if choices == 1 else 0.05,
            ),
            Figure(
                quantity="mean number at a server",
                unit="requests",
                theory=queue.mean_in_system,
                source="Little's law",
                measure=lambda run: mean_in_system(run) / servers,
                tolerance=0.002 if choices == 1 else 0.05,
            ),
            Figure(
                quantity="mean time if one queue served all",
                unit="s",
                theory=one_queue_s,
                source="M/M/c, Erlang C (Gross & Harris, Queueing Theory, 2.3)",
            ),
        ),
        scenario=None if balancer is None else "mm1",
        overrides=(
            *one_server(rate_per_s, service_s),
            EXPONENTIAL,
            f"models.server.replicas={servers}",
            f"models.server.balancer={balancer}",
        ),
        service_s=service_s,
        load=queue.utilisation,
        notes=tuple(notes),
    )
