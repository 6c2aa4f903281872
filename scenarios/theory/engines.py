"""Library scenarios made into a queue with given figures, as ``--set`` takes it.

An engine with one seat whose prompts take ``service_s`` on average is a queue with one server (library scenario
``mm1``); one whose steps always take the same time and make a token for each of c seats is c servers (``mmc``).  Both
count service in tokens, a thousand on average, so that times are right to a thousandth of a service.
"""

from __future__ import annotations

from latency_models.errors import check_finite, invalid

TOKENS = 1000
"""Mean length of a service, in tokens."""

ROOM = tuple(f"models.server.engine.{key}=2000000" for key in ("max_model_len", "max_num_batched_tokens"))
"""For services of any length."""

_MOST_VARIATION = 1000

EXPONENTIAL = "workload.lengths.prompt={kind: geometric, mean: 1000}"
"""Services of one server: geometric lengths have exactly the mean asked for; exponential ones are rounded up."""


def poisson_arrivals(rate_per_s: float) -> str:
    """Arrivals at a rate."""
    return f"workload.arrivals={{kind: poisson, rate_per_s: {rate_per_s!r}}}"


def one_server(rate_per_s: float, service_s: float) -> tuple[str, ...]:
    """What makes ``mm1`` a server with that load."""
    return (poisson_arrivals(rate_per_s), f"models.server.latency.per_token_s={service_s / TOKENS!r}")


def seats(rate_per_s: float, service_s: float, servers: int) -> tuple[str, ...]:
    """What makes ``mmc`` so many servers with that load."""
    return (
        poisson_arrivals(rate_per_s),
        f"models.server.latency.base_s={service_s / TOKENS!r}",
        f"models.server.engine.max_num_seqs={servers}",
        f"models.server.engine.num_gpu_blocks={200_000 + 2_000 * servers}",
    )


def check_variation(field: str, value: float) -> float:
    """Return a coefficient of variation if it is one that a queue can have; raise :class:`InputError` otherwise."""
    if check_finite(field, value) > _MOST_VARIATION:
        raise invalid(field, value, f"a number from 0 to {_MOST_VARIATION}")
    return value


def lognormal_services(which: str, service_cv: float) -> str:
    """Services of a coefficient of variation, as lengths of the ``prompt`` or the ``output``; constant at 0."""
    if service_cv == 0:
        return f"workload.lengths.{which}={{kind: constant, tokens: {TOKENS}}}"
    return f"workload.lengths.{which}={{kind: lognormal, mean: {TOKENS}, cv: {service_cv!r}, maximum: 1990000}}"


def heavy_tail_note(service_cv: float) -> tuple[str, ...]:
    """What a user should know of services that vary very much."""
    if service_cv <= 3:
        return ()
    return ("with so large a variation rare long services decide the mean; intervals of short simulations miss them",)
