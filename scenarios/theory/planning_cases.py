"""Models of ``routerwise theory`` that answer a planner's question: how many servers, and networks of stations."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError

from analysis.queueing.networks import Station, jackson
from analysis.queueing.staffing import staffing_for_mean_wait, staffing_for_wait_probability
from latency_models.errors import InputError, unknown_name
from latency_models.yaml_files import read_yaml
from scenarios.schema_errors import describe
from scenarios.section import Count, NonNegative, Positive, Section
from scenarios.theory.case import TheoryCase
from scenarios.theory.engines import seats
from scenarios.theory.figures import Figure, mean_wait_s, share_figure, utilisation_figure


def staffing_case(
    rate_per_s: float,
    service_s: float,
    *,
    wait_probability: float | None = None,
    mean_wait_target_s: float | None = None,
) -> TheoryCase:
    """Servers for a target, of exactly one kind, beside a simulation with the exact number.

    Raises
    ------
    InputError
        If both targets are given, or none.
    """
    if wait_probability is not None and mean_wait_target_s is None:
        found = staffing_for_wait_probability(rate_per_s, service_s, wait_probability)
        target = f"at most {100 * wait_probability:g} % wait"
    elif mean_wait_target_s is not None and wait_probability is None:
        found = staffing_for_mean_wait(rate_per_s, service_s, mean_wait_target_s)
        target = f"a mean wait of at most {mean_wait_target_s:g} s"
    else:
        raise InputError("staffing needs one target: --wait-probability, a share of requests, or --mean-wait, seconds")
    overrides = seats(rate_per_s, service_s, found.exact_servers)
    step_s = service_s / 1000
    return TheoryCase(
        title=f"Servers for {rate_per_s:g} requests/s of {service_s:g} s each, with {target} (M/M/c)",
        figures=(
            Figure(quantity="offered load", unit="servers", theory=found.offered_load, source="rate x service"),
            Figure(quantity="headroom", unit="sqrt(load)", theory=found.headroom, source="beta (Halfin, Whitt 1981)"),
            Figure(
                quantity="servers by the square-root rule",
                unit="servers",
                theory=found.square_root_servers,
                source="load + beta sqrt(load), rounded up",
            ),
            Figure(
                quantity="servers, exactly",
                unit="servers",
                theory=found.exact_servers,
                source="Erlang C (Gross & Harris, Queueing Theory, 2.3)",
            ),
            utilisation_figure(found.utilisation, simulated=False),
            share_figure(
                "share that waits, with these",
                found.wait_probability,
                "Erlang C (Gross & Harris, Queueing Theory, 2.3)",
                lambda run: float((run.wait_s > 1.5 * step_s).mean()),
                tolerance=0.005,
            ),
            Figure(
                quantity="mean wait, with these",
                unit="s",
                theory=found.mean_wait_s,
                source="Erlang C (Gross & Harris, Queueing Theory, 2.3)",
                measure=mean_wait_s,
                tolerance=0.002 + (step_s / found.mean_wait_s if found.mean_wait_s > 0 else 0.0),
                claim="agrees" if found.mean_wait_s > 0 else "none",
            ),
        ),
        scenario="mmc",
        overrides=overrides,
        service_s=service_s,
        load=found.utilisation,
        in_service=found.offered_load,
    )


class StationSection(Section):
    """One station of a network file."""

    service_s: Positive
    servers: Count = 1
    arrivals_per_s: NonNegative = 0.0
    next: dict[str, Annotated[float, Field(ge=0, le=1)]] = Field(default_factory=dict)
    """Probability to go to each station next; what lacks to 1 leaves."""


class NetworkFile(Section):
    """The content of a network file."""

    stations: Annotated[dict[str, StationSection], Field(min_length=1)]


def jackson_case(path: Path) -> TheoryCase:
    """An open Jackson network from a YAML file, by theory alone.

    Raises
    ------
    InputError
        The file does not follow the schema, names an unknown station, or the network has no steady state.
    """
    values = read_yaml(path, "network")
    try:
        network = NetworkFile.model_validate(values)
    except ValidationError as error:
        raise InputError(describe(error, NetworkFile, values, str(path))) from None
    names = list(network.stations)
    for name, section in network.stations.items():
        for other in section.next:
            if other not in names:
                raise unknown_name(f"station in next of {name}", other, names)
    stations = [
        Station(name=name, service_s=entry.service_s, servers=entry.servers, arrivals_per_s=entry.arrivals_per_s)
        for name, entry in network.stations.items()
    ]
    routing = [[entry.next.get(name, 0.0) for name in names] for entry in network.stations.values()]
    found = jackson(stations, routing)
    figures = []
    for name, queue, visits in zip(names, found.queues, found.visits, strict=True):
        by = "Jackson 1957: each station as M/M/c"
        figures += [
            Figure(quantity=f"{name}: visits of a request", unit="", theory=visits, source="traffic equations"),
            Figure(quantity=f"{name}: rate", unit="visits/s", theory=queue.rate_per_s, source="traffic equations"),
            Figure(
                quantity=f"{name}: utilisation",
                unit="%",
                theory=100 * queue.utilisation,
                source="rate x service / servers",
            ),
            Figure(quantity=f"{name}: mean wait of a visit", unit="s", theory=queue.mean_wait_s, source=by),
            Figure(quantity=f"{name}: mean number", unit="requests", theory=queue.mean_in_system, source=by),
        ]
    figures += [
        Figure(quantity="mean number in the network", unit="requests", theory=found.mean_in_system, source="sum"),
        Figure(quantity="mean time in the network", unit="s", theory=found.mean_sojourn_s, source="Little's law"),
    ]
    return TheoryCase(
        title=f"Open Jackson network of {len(names)} {'station' if len(names) == 1 else 'stations'}",
        figures=tuple(figures),
        notes=("not simulated: an engine is one station",),
    )
