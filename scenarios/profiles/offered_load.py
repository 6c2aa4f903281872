"""A workload at another offered load: the same requests and the same burstiness, at a chosen rate."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from latency_models.errors import InputError
from scenarios.workloads.arrival_processes import (
    MMPP2,
    Deterministic,
    Diurnal,
    Gamma,
    Poisson,
    Spikes,
    Weibull,
    at_rate_times,
)
from scenarios.workloads.build import build_traffic
from scenarios.workloads.config import Client, MixtureWorkload, SyntheticWorkload, WorkloadConfig, clients_of
from scenarios.workloads.request_chunks import with_columns
from scenarios.workloads.transforms import Cap, MagnifyBursts, ScaleRate
from sim.workload import OpenTraffic, RequestChunk, Traffic

_Stationary = Poisson | Gamma | Weibull | Deterministic | MMPP2

LONE_GAP_S = 1000.0
"""Time between requests in the limit of no load."""
_CYCLES = 20
"""Cycles of a two-state process that a run should see."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What to offer in one run."""

    rate_per_s: float
    """Mean arrivals per second; 0: each request comes alone."""
    requests: int
    """How many (with several clients: on average)."""

    @property
    def duration_s(self) -> float:
        """How long that takes on average."""
        return self.requests * LONE_GAP_S if self.rate_per_s == 0 else self.requests / self.rate_per_s


def workload_for(workload: WorkloadConfig, model: str) -> WorkloadConfig:
    """The part of a workload that ``model`` serves: clients that name no model, or this one.

    Raises
    ------
    InputError
        If nothing is left, or a part of it has no rate that could be scaled.
    """
    clients = [client for client in clients_of(workload) if client.model in (None, model)]
    if not clients:
        raise InputError(f"no client of the workload sends requests to {model}; leave it out of profile.models")
    stationary = tuple(_stationary_client(_synthetic(client)) for client in clients)
    if isinstance(workload, MixtureWorkload):
        return workload.model_copy(update={"clients": stationary})
    return stationary[0]


def _synthetic(client: Client) -> SyntheticWorkload:
    if isinstance(client, SyntheticWorkload):
        return client
    fix = (
        "Fit generators to it first: routerwise trace fit FILE"
        if client.kind == "trace"
        else "Describe its requests by arrivals and lengths"
    )
    raise InputError(
        f"the workload has a part of kind {client.kind}, whose rate cannot be chosen; allowed in a profile: synthetic, "
        f"or a mixture of synthetic clients. {fix}"
    )


def _stationary(client: Client) -> _Stationary:
    arrivals = _synthetic(client).arrivals
    if isinstance(arrivals, Diurnal | Spikes):
        raise InputError(
            f"arrivals of kind {arrivals.kind} change with the time of day; allowed in a profile: poisson, gamma, "
            "weibull, deterministic, mmpp2. A curve is of one load: profile with one of these"
        )
    return arrivals


def _stationary_client(client: SyntheticWorkload) -> SyntheticWorkload:
    """The client without transforms of its rate, which become part of its arrivals."""
    _stationary(client)
    if client.deadline_s is not None or client.cancel_after_s is not None:
        raise InputError(
            "the workload has deadline_s or cancel_after_s; allowed in a profile: neither, since requests that give up "
            "hide a growing backlog. Set them to null"
        )
    factor, kept = 1.0, []
    for step in client.transforms:
        if isinstance(step, ScaleRate):
            factor *= step.factor
            continue
        kept.append(step)
        if not (isinstance(step, MagnifyBursts) or (isinstance(step, Cap) and step.requests is None)):
            raise InputError(
                f"the workload has a transform of kind {step.kind}, which changes its length; allowed in a "
                "profile: scale-rate, magnify-bursts, and cap without requests. Set transforms to []"
            )
    return _scaled(client, factor, {"transforms": tuple(kept)})


def mean_rate_per_s(workload: WorkloadConfig) -> float:
    """Mean arrivals per second of a workload of synthetic clients."""
    return math.fsum(_mean_rate(_stationary(client)) for client in clients_of(workload))


def _mean_rate(arrivals: _Stationary) -> float:
    if isinstance(arrivals, MMPP2):
        cycle = zip(arrivals.rates_per_s, arrivals.sojourns_s, strict=True)
        return sum(rate * sojourn for rate, sojourn in cycle) / sum(arrivals.sojourns_s)
    return arrivals.rate_per_s


def shortest_duration_s(workload: WorkloadConfig) -> float:
    """How long a run should last at least to see enough of the arrivals' slowest change."""
    processes = [_stationary(client) for client in clients_of(workload)]
    cycles = [sum(process.sojourns_s) for process in processes if isinstance(process, MMPP2)]
    return _CYCLES * max(cycles, default=0.0)


def offered(workload: WorkloadConfig, load: Load, seed: np.random.SeedSequence) -> Traffic:
    """Traffic of one run.

    Every client's rate is multiplied by the same factor.  The states of an ``mmpp2`` process keep their durations: at a
    higher load bursts are denser, not shorter.
    """
    rate_per_s = mean_rate_per_s(workload)
    factor = load.rate_per_s / rate_per_s if load.rate_per_s else 1.0
    bounds: dict[str, float | int | None] = {"requests": load.requests, "duration_s": None}
    if isinstance(workload, MixtureWorkload):
        # All clients must stop together, or the end of the run would have another mix.
        bounds = {"requests": None, "duration_s": load.requests / (rate_per_s * factor)}
        clients = tuple(_scaled(client, factor, bounds) for client in workload.clients)
        traffic = build_traffic(workload.model_copy(update={"clients": clients}), seed, Path())
    else:
        traffic = build_traffic(_scaled(workload, factor, bounds), seed, Path())
    return traffic if load.rate_per_s else OpenTraffic(_one_by_one(traffic.chunks()))


def _scaled(client: Client, factor: float, changes: Mapping[str, Any]) -> SyntheticWorkload:
    """The client at a multiple of its rate, with other changes."""
    arrivals = at_rate_times(_stationary(client), factor)
    return _synthetic(client).model_copy(update={"arrivals": arrivals, **changes})


def _one_by_one(chunks: Iterator[RequestChunk]) -> Iterator[RequestChunk]:
    sent = 0
    for chunk in chunks:
        rows = len(chunk.arrival_s)
        yield with_columns(chunk, arrival_s=np.arange(sent, sent + rows) * LONE_GAP_S)
        sent += rows
