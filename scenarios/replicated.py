"""Numbered replications of scenarios, spread over processes, each reduced to a few figures where it was simulated.

Replications of equal number have common random numbers in all scenarios.  A trace is the same in every replication, so
it can be cut into windows instead: replication k is then the k-th part of it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

from analysis.warmup import detect_warmup
from latency_models.errors import InputError, check_count, check_finite, invalid
from scenarios.schema import Scenario
from scenarios.worker_processes import worker_processes
from scenarios.workloads.build import WorkloadFacts, build_traffic, inspect_workload
from scenarios.workloads.config import Client, MixtureWorkload, TraceWorkload, WorkloadConfig, clients_of
from scenarios.workloads.transforms import Window
from sim.cluster import simulate
from sim.cluster_spec import ClusterSpec
from sim.progress import WatchRun
from sim.random_streams import seed_sequence
from sim.results import SimulationResult

Figures = TypeVar("Figures")

Measure = Callable[[Scenario, SimulationResult], Figures]
"""Reduces a simulation to what is wanted of it; it and what it returns are pickled, so a function of a module, a
``functools.partial`` of one, or an object of a class of a module with ``__call__``."""

Report = Callable[[int, int], None]
"""Told how many replications of a call are done, and of how many."""


class Replicator:
    """Runs replications in the processes of an executor, which stay for the next call."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor

    def run(
        self,
        scenarios: Sequence[Scenario],
        replications: Sequence[int],
        measure: Measure[Figures],
        *,
        window_s: float | None = None,
        report: Report | None = None,
    ) -> list[list[Figures]]:
        """Simulate every scenario in every replication.

        Parameters
        ----------
        scenarios : sequence of Scenario
            What to simulate.
        replications : sequence of int
            Numbers of the replications, from 0 on; ``run.replications`` of the scenarios does not matter.
        measure : callable
            See :data:`Measure`.
        window_s : float, optional
            Length of the parts of a trace that stand for replications; see :func:`trace_windows`.
        report : callable, optional
            See :data:`Report`.

        Returns
        -------
        list of list
            By scenario and replication, in the order given; the same for any number of processes.

        Raises
        ------
        InputError
            A scenario contradicts itself, or its workload sends no request.
        """
        for number in replications:
            check_count("replication", number, minimum=0)
        texts = [scenario_json(scenario) for scenario in scenarios]
        total, done = len(texts) * len(replications), 0

        def count(_: object) -> None:
            nonlocal done
            done += 1
            if report is not None:
                report(done, total)

        futures = []
        for number in replications:
            for text in texts:
                futures.append(self._executor.submit(_replicate, text, number, window_s, measure))
                futures[-1].add_done_callback(count)
        found = [future.result() for future in futures]
        return [found[index :: len(texts)] for index in range(len(texts))]


@contextmanager
def replicating(jobs: int) -> Iterator[Replicator]:
    """A replicator with so many processes; 1: everything happens in this one.

    Raises
    ------
    InputError
        If ``jobs`` is not a positive integer.
    """
    with worker_processes(jobs) as executor:
        yield Replicator(executor)


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedScenario:
    """What all replications of a scenario have in common."""

    scenario: Scenario
    cluster: ClusterSpec
    workload: WorkloadFacts

    @classmethod
    def of(cls, scenario: Scenario) -> PreparedScenario:
        """Build the cluster and look at the workload; see :meth:`Scenario.cluster` for errors."""
        cluster = scenario.cluster()
        return cls(scenario=scenario, cluster=cluster, workload=inspect_workload(scenario.workload))


def simulate_replication(
    prepared: PreparedScenario,
    replication: int,
    *,
    window_s: float | None = None,
    progress: WatchRun | None = None,
) -> SimulationResult:
    """Simulate one replication.

    Parameters
    ----------
    prepared : PreparedScenario
        The scenario (:meth:`PreparedScenario.of`).
    replication : int
        Its number, from 0; other numbers have other random streams.
    window_s : float, optional
        Part ``replication`` of a trace cut into parts of this length, seconds; default: all of it.
    progress : callable, optional
        See :func:`sim.cluster.simulate`.

    Raises
    ------
    InputError
        The workload sends no request, or one that the cluster cannot serve.
    """
    scenario = prepared.scenario
    workload = scenario.workload if window_s is None else _window_of(scenario.workload, replication, window_s)
    traffic = build_traffic(workload, seed_sequence(scenario.seed, replication, "workload"), Path())
    run = scenario.run_spec(replication, shared_content=prepared.workload.shares_content)
    result = simulate(prepared.cluster, traffic, run, progress)
    if not len(result.requests):
        raise InputError("the workload sent no request; give it more time, or widen its window")
    return result


def warmup_s(scenario: Scenario, result: SimulationResult) -> float:
    """Seconds at the beginning that the scenario leaves out."""
    warmup = scenario.run.warmup
    return detect_warmup(result).warmup_s if warmup == "auto" else float(warmup)


def trace_windows(scenario: Scenario, window_s: float) -> int:
    """How many whole windows a trace has.

    Each is simulated on its own, from an empty system, with requests that no other has; ``run.warmup`` is left out of
    each.

    Parameters
    ----------
    scenario : Scenario
        Its workload is a trace, or a mixture of traces.
    window_s : float
        Length of each window.

    Raises
    ------
    InputError
        A part of the workload is no trace, or the trace is shorter than two windows.
    """
    check_finite("window", window_s, exclusive=True)
    _window_of(scenario.workload, 0, window_s)
    traffic = build_traffic(scenario.workload, seed_sequence(scenario.seed, 0, "workload"), Path())
    last_s = 0.0
    for chunk in traffic.chunks():
        last_s = float(chunk.arrival_s[-1])
    windows = int(last_s // window_s)
    if windows < 2:
        allowed = f"at most {last_s / 2:g} s, half of the trace, to have two windows or more"
        raise invalid("window", window_s, allowed, "Use a longer trace or a shorter window.")
    return windows


def is_trace(workload: WorkloadConfig) -> bool:
    """Whether every replication of a workload has the same requests, since all of it is recorded."""
    return all(isinstance(client, TraceWorkload) for client in clients_of(workload))


def scenario_json(scenario: Scenario) -> str:
    """A scenario as text that ``Scenario.model_validate_json`` reads; equal scenarios have equal texts."""
    return json.dumps(scenario.model_dump(mode="json", by_alias=True, exclude_none=True))


def _window_of(workload: WorkloadConfig, number: int, window_s: float) -> WorkloadConfig:
    window = Window(start_s=number * window_s, end_s=(number + 1) * window_s)
    if isinstance(workload, MixtureWorkload):
        clients = tuple(_client_window(client, window) for client in workload.clients)
        return workload.model_copy(update={"clients": clients})
    return _client_window(workload, window)


def _client_window(client: Client, window: Window) -> TraceWorkload:
    if not isinstance(client, TraceWorkload):
        raise invalid(
            "window",
            window.end_s - window.start_s,
            f"none with a workload of kind {client.kind}",
            "Only a trace is cut into windows; replications of generated traffic differ anyway.",
        )
    return client.model_copy(update={"transforms": (*client.transforms, window)})


@lru_cache(maxsize=16)
def _prepared(text: str) -> PreparedScenario:
    """Reading a scenario with large tables, and its prompts, takes longer than a short run."""
    return PreparedScenario.of(Scenario.model_validate_json(text))


def _replicate(text: str, replication: int, window_s: float | None, measure: Measure[Figures]) -> Figures:
    prepared = _prepared(text)
    return measure(prepared.scenario, simulate_replication(prepared, replication, window_s=window_s))
