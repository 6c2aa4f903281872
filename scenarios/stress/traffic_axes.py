"""Axes of the traffic: more of it, burstier, with longer answers."""

from __future__ import annotations

from collections.abc import Callable

from latency_models.errors import InputError
from scenarios.schema import Scenario
from scenarios.workloads.arrival_processes import at_rate_times
from scenarios.workloads.config import (
    Client,
    ClosedLoopWorkload,
    MixtureWorkload,
    SessionsWorkload,
    SyntheticWorkload,
    TraceWorkload,
)
from scenarios.workloads.transforms import MagnifyBursts, ScaleLengths, ScaleRate, Transform


def with_load(scenario: Scenario, factor: float, target: str) -> Scenario:
    """The arrival rate times ``factor``.

    Generated traffic keeps its duration and the lengths of its bursts; a trace keeps its requests, in 1/``factor`` of
    the time.
    """

    def faster(client: Client) -> Client:
        if isinstance(client, ClosedLoopWorkload):
            raise InputError(
                "axis load has no effect on a closed-loop workload, whose users wait for answers; allowed: synthetic, "
                "sessions, trace. Describe its arrivals, or leave load out"
            )
        if isinstance(client, TraceWorkload):
            return _transformed(client, ScaleRate(factor=factor))
        return client.model_copy(update={"arrivals": at_rate_times(client.arrivals, factor)})

    return _with_clients(scenario, faster)


def with_bursts(scenario: Scenario, factor: float, target: str) -> Scenario:
    """Gaps between arrivals to the power ``factor``, at the same mean rate (transform ``magnify-bursts``)."""

    def burstier(client: Client) -> Client:
        if not isinstance(client, TraceWorkload | SyntheticWorkload):
            raise InputError(
                f"axis bursts has no effect on a workload of kind {client.kind}, which takes no transforms; allowed: "
                "synthetic, trace. Leave bursts out"
            )
        return _transformed(client, MagnifyBursts(factor=factor))

    return _with_clients(scenario, burstier)


def with_longer_outputs(scenario: Scenario, factor: float, target: str) -> Scenario:
    """All answers ``factor`` times as long; one that no replica could hold is rejected."""
    prompts = scenario.prompts
    run = scenario.run.model_copy(update={"oversized": "reject"})
    if prompts is not None and prompts.lengths != "workload":
        longer = prompts.model_copy(update={"length_factor": prompts.length_factor * factor})
        return scenario.model_copy(update={"prompts": longer, "run": run})

    def lengthened(client: Client) -> Client:
        if isinstance(client, SessionsWorkload | ClosedLoopWorkload):
            raise InputError(
                f"axis outputs has no effect on a workload of kind {client.kind}, which takes no transforms; allowed: "
                "synthetic, trace, or prompts with lengths. Leave outputs out"
            )
        return _transformed(client, ScaleLengths(output_factor=factor))

    return _with_clients(scenario.model_copy(update={"run": run}), lengthened)


def _transformed(client: TraceWorkload | SyntheticWorkload, step: Transform) -> Client:
    return client.model_copy(update={"transforms": (*client.transforms, step)})


def _with_clients(scenario: Scenario, change: Callable[[Client], Client]) -> Scenario:
    workload = scenario.workload
    if isinstance(workload, MixtureWorkload):
        clients = tuple(change(client) for client in workload.clients)
        return scenario.model_copy(update={"workload": workload.model_copy(update={"clients": clients})})
    return scenario.model_copy(update={"workload": change(workload)})
