"""``routerwise theory``: one command for each model."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from latency_models.errors import InputError
from scenarios.commands.shared_options import seed_option
from scenarios.theory.case import MOST_REQUESTS, TheoryCase
from scenarios.theory.many_server_cases import (
    choices_case,
    erlang_b_case,
    ggc_case,
    mg_infinity_case,
    mmc_case,
    mmck_case,
)
from scenarios.theory.planning_cases import jackson_case, staffing_case
from scenarios.theory.single_server_cases import (
    batch_case,
    bursts_case,
    md1_case,
    mg1_case,
    mm1_case,
    processor_sharing_case,
)
from scenarios.theory.table import print_rows

_DEFAULT_REPLICATIONS = 8

Command = TypeVar("Command", bound=Callable[..., Any])

_rate = click.option("--rate", "rate_per_s", type=float, required=True, help="Arrivals per second.")
_service = click.option(
    "--service",
    "service_s",
    type=float,
    required=True,
    help="Mean service time of a request on one server, in seconds.",
)
_servers = click.option("--servers", type=click.IntRange(1, 10_000), required=True, help="Number of servers.")
_service_cv = click.option(
    "--service-cv",
    type=float,
    default=1.0,
    show_default=True,
    help="Coefficient of variation of the service time: standard deviation over mean.",
)
_percentile = click.option(
    "--percentile",
    type=click.FloatRange(0, 100, max_open=True),
    default=95.0,
    show_default=True,
    help="Which percentile of the time in the system.",
)
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")


def _simulated(command: Command) -> Command:
    """Add the options of a model that is simulated."""
    options = (
        click.option("--no-simulation", is_flag=True, help="Print the formulas' values alone."),
        click.option(
            "--replications",
            type=click.IntRange(2, 1000),
            help=f"Independent simulations; default: {_DEFAULT_REPLICATIONS}.",
        ),
        click.option(
            "--requests",
            type=click.IntRange(100, 10_000_000),
            help=f"Requests of each; default: as the load asks for, up to {MOST_REQUESTS:,}.",
        ),
        seed_option,
        _json,
    )
    for option in reversed(options):
        command = option(command)
    return command


@click.group()
def theory() -> None:
    """Print what queueing theory says of a queue, with the same queue simulated beside it.

    The simulation is the serving engine itself, reduced to that queue (see docs/teach.md); intervals cover with 99 %.
    """


@theory.command()
@_rate
@_service
@_percentile
@_simulated
def mm1(rate_per_s: float, service_s: float, percentile: float, **how: Any) -> None:
    """M/M/1: exponential service, one server.

    Arrivals are Poisson.
    """
    _print(mm1_case(rate_per_s, service_s, percentile / 100), **how)


@theory.command()
@_rate
@_service
@_percentile
@_simulated
def md1(rate_per_s: float, service_s: float, percentile: float, **how: Any) -> None:
    """M/D/1: constant service, one server.

    Arrivals are Poisson.
    """
    _print(md1_case(rate_per_s, service_s, percentile / 100), **how)


@theory.command()
@_rate
@_service
@_service_cv
@_simulated
def mg1(rate_per_s: float, service_s: float, service_cv: float, **how: Any) -> None:
    """M/G/1, Pollaczek-Khinchine: any service, one server.

    Arrivals are Poisson; simulated services are lognormal.
    """
    _print(mg1_case(rate_per_s, service_s, service_cv), **how)


@theory.command()
@_rate
@_service
@_servers
@_percentile
@_simulated
def mmc(rate_per_s: float, service_s: float, servers: int, percentile: float, **how: Any) -> None:
    """M/M/c, Erlang C: exponential service, c servers.

    Arrivals are Poisson; who finds all servers busy waits.
    """
    _print(mmc_case(rate_per_s, service_s, servers, percentile / 100), **how)


@theory.command()
@_rate
@_service
@_servers
@click.option("--capacity", type=click.IntRange(1, 100_000), required=True, help="Most requests in the system.")
@_simulated
def mmck(rate_per_s: float, service_s: float, servers: int, capacity: int, **how: Any) -> None:
    """M/M/c/K: as mmc, at most K in the system.

    Arrivals that find K requests there are turned away, so any load has a steady state.
    """
    _print(mmck_case(rate_per_s, service_s, servers, capacity), **how)


@theory.command("erlang-b")
@_rate
@_service
@_servers
@_json
def erlang_b(rate_per_s: float, service_s: float, servers: int, as_json: bool) -> None:
    """M/G/c/c, Erlang B: any service, nobody waits.

    Arrivals that find all servers busy are turned away, so any load has a steady state.
    """
    _print(erlang_b_case(rate_per_s, service_s, servers), as_json=as_json)


@theory.command("mg-infinity")
@_rate
@_service
@_service_cv
@_simulated
def mg_infinity(rate_per_s: float, service_s: float, service_cv: float, **how: Any) -> None:
    """M/G/infinity: a server for everybody."""
    _print(mg_infinity_case(rate_per_s, service_s, service_cv), **how)


@theory.command("processor-sharing")
@_rate
@_service
@_service_cv
@_simulated
def processor_sharing(rate_per_s: float, service_s: float, service_cv: float, **how: Any) -> None:
    """M/G/1-PS: all present share one server's speed equally."""
    _print(processor_sharing_case(rate_per_s, service_s, service_cv), **how)


@theory.command("batch-service")
@_rate
@click.option("--service", "service_s", type=float, required=True, help="Time that a batch of any size takes, seconds.")
@click.option("--batch", type=click.IntRange(1, 1000), required=True, help="Most requests in a batch.")
@_simulated
def batch_service(rate_per_s: float, service_s: float, batch: int, **how: Any) -> None:
    """Service in batches of all who wait, up to a limit.

    A batch of any size takes the same time; arrivals are Poisson.
    """
    _print(batch_case(rate_per_s, service_s, batch), **how)


@theory.command()
@_rate
@_service
@click.option(
    "--servers", type=click.IntRange(1, 10_000), default=1, show_default=True, help="Number of servers; 1 is Kingman's."
)
@click.option("--arrival-cv", type=float, required=True, help="Coefficient of variation of the gaps between arrivals.")
@click.option("--service-cv", type=float, required=True, help="Coefficient of variation of the service time.")
@_simulated
def ggc(rate_per_s: float, service_s: float, servers: int, arrival_cv: float, service_cv: float, **how: Any) -> None:
    """G/G/1 and G/G/c: any arrivals, any service.

    Approximations, Kingman's for one server and that of Allen and Cunneen for several, beside gamma gaps between
    arrivals and lognormal services.
    """
    _print(ggc_case(rate_per_s, service_s, servers, arrival_cv=arrival_cv, service_cv=service_cv), **how)


@theory.command()
@click.option("--rates", type=(float, float), required=True, help="Arrivals per second in the two states.")
@click.option("--lasting", type=(float, float), required=True, help="Mean time that each state lasts, in seconds.")
@_service
@_simulated
def bursts(rates: tuple[float, float], lasting: tuple[float, float], service_s: float, **how: Any) -> None:
    """MMPP(2)/M/1: arrivals in bursts, one server.

    Poisson arrivals whose rate switches between two values, each for an exponential time; exponential service.
    """
    _print(bursts_case(rates, lasting, service_s), **how)


@theory.command()
@click.option("--rate", "rate_per_s", type=float, required=True, help="Arrivals per second, all servers together.")
@_service
@click.option("--servers", type=click.IntRange(2, 1000), required=True, help="Number of servers, each with a queue.")
@click.option(
    "--choices", type=click.IntRange(1, 1000), default=2, show_default=True, help="Queues that each request compares."
)
@_simulated
def choices(rate_per_s: float, service_s: float, servers: int, choices: int, **how: Any) -> None:
    """Join the shortest of d queues chosen at random.

    Poisson arrivals, exponential service, each server with a queue of its own.
    """
    _print(choices_case(rate_per_s, service_s, servers, choices), **how)


@theory.command()
@_rate
@_service
@click.option("--wait-probability", type=float, help="Target: share of requests that may wait, between 0 and 1.")
@click.option("--mean-wait", "mean_wait_s", type=float, help="Target: mean wait, in seconds.")
@_simulated
def staffing(
    rate_per_s: float, service_s: float, wait_probability: float | None, mean_wait_s: float | None, **how: Any
) -> None:
    """How many servers for a target (M/M/c).

    The square-root rule beside the exact number; give one target.
    """
    _print(
        staffing_case(rate_per_s, service_s, wait_probability=wait_probability, mean_wait_target_s=mean_wait_s), **how
    )


@theory.command()
@click.argument("network", type=click.Path(path_type=Path, dir_okay=False))
@_json
def jackson(network: Path, as_json: bool) -> None:
    """Open Jackson network from the YAML file NETWORK.

    Stations with exponential service that pass requests on; docs/teach.md shows a file.
    """
    _print(jackson_case(network), as_json=as_json)


def _print(
    case: TheoryCase,
    *,
    as_json: bool,
    no_simulation: bool = True,
    replications: int | None = None,
    requests: int | None = None,
    seed: int | None = None,
) -> None:
    if no_simulation and (given := [name for name, value in _named(replications, requests, seed) if value is not None]):
        raise InputError(f"{', '.join(given)} is of the simulation; leave it out, or leave out --no-simulation")
    count = 0 if no_simulation else (replications or _DEFAULT_REPLICATIONS)
    rows = _rows(case, count, requests, seed)
    simulated = count > 0 and case.scenario is not None
    notes = list(case.notes)
    length = requests or case.requests
    if simulated and case.settling_requests > length / 20:
        notes.append(
            f"at this load a queue settles in some {case.settling_requests:,} requests, and {length:,} were simulated: "
            "expect too small a figure, or give more --requests"
        )
    if as_json:
        values = {
            "model": case.title,
            "replications": count if simulated else 0,
            "requests": length if simulated else 0,
            "rows": [row.as_dict() for row in rows],
            "notes": notes,
        }
        click.echo(json.dumps(values, indent=2, allow_nan=False))
        return
    print_rows(case.title, rows)
    for note in notes:
        click.echo(f"  Note: {note}")


def _named(replications: int | None, requests: int | None, seed: int | None) -> list[tuple[str, int | None]]:
    return [("--replications", replications), ("--requests", requests), ("--seed", seed)]


def _rows(case: TheoryCase, replications: int, requests: int | None, seed: int | None) -> list[Any]:
    """Simulate, and say so on a terminal."""
    if not sys.stderr.isatty() or not replications:
        return case.rows(replications=replications, requests=requests, seed=seed)
    from rich.console import Console

    with Console(stderr=True).status("Simulating"):
        return case.rows(replications=replications, requests=requests, seed=seed)
