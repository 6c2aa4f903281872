"""A run simulated again from its run directory, for what the directory does not keep: steps, tokens, preemptions.

The simulation is checked to be the same one, by its inputs before and by the requests' latencies after.
"""

from __future__ import annotations

import hashlib
import math
from typing import Any

import numpy as np

from analysis.metrics import RequestLatencies
from analysis.stored.run import StoredRun
from latency_models.errors import InputError, invalid
from scenarios.replicated import PreparedScenario, simulate_replication
from scenarios.scenario_files import load_scenario
from scenarios.workloads.build import trace_digests, trace_paths
from scenarios.workloads.config import WorkloadConfig
from sim.progress import WatchRun
from sim.results import SimulationResult

_SAME_S = 1e-8
"""Times in the table of requests have nine decimals."""

_IN_FLIGHT_S = 60.0
"""No step takes longer, and only steps that are over are logged."""


def resimulate(
    stored: StoredRun,
    replication: int = 0,
    *,
    until_s: float = math.inf,
    progress: WatchRun | None = None,
) -> SimulationResult:
    """Simulate one replication of a run again, bit for bit.

    Parameters
    ----------
    stored : StoredRun
        The run directory.
    replication : int
        Which replication, from 0.
    until_s : float
        As far as it is needed.  The simulation goes on for a minute, so that the steps then in flight are over and in
        the log; what is still in the system is unfinished.
    progress : callable, optional
        See :func:`sim.cluster.simulate`.

    Raises
    ------
    InputError
        There is no such replication, or no request before the end; the scenario or a trace is not what it was; or the
        simulation comes out otherwise, because a file that the scenario names or routerwise itself has changed.
    """
    if not 0 <= replication < stored.replications:
        raise invalid("--replication", replication, f"0 to {stored.replications - 1}, those of {stored.path}")
    path = stored.path / "scenario.yaml"
    if hashlib.sha256(path.read_bytes()).hexdigest() != _recorded(stored, "scenario_sha256"):
        raise InputError(f"{path} has changed since the run was simulated; simulate the scenario again")
    first_s = float(stored.requests_of(replication)["arrival_s"].min())
    if until_s <= first_s:
        raise InputError(f"{stored.path} has no request before {until_s:g} s: the first one comes at {first_s:g} s")
    scenario = load_scenario(str(path))
    _check_traces(stored, scenario.workload)
    end_s = until_s + _IN_FLIGHT_S
    if end_s < (math.inf if scenario.run.until_s is None else scenario.run.until_s):
        scenario = scenario.model_copy(update={"run": scenario.run.model_copy(update={"until_s": end_s})})
    result = simulate_replication(PreparedScenario.of(scenario), replication, progress=progress)
    _check_same(stored, replication, result)
    return result


def _recorded(stored: StoredRun, key: str) -> Any:
    if key not in stored.manifest:
        raise InputError(f"{stored.path / 'manifest.json'} has no {key}; simulate the scenario again")
    return stored.manifest[key]


def _check_traces(stored: StoredRun, workload: WorkloadConfig) -> None:
    recorded = _recorded(stored, "inputs_sha256")
    for path in trace_paths(workload):
        if not path.is_file():
            raise InputError(f"{path}, which the run of {stored.path} read, is gone; put it back to export the run")
    for name, digest in trace_digests(workload).items():
        if digest != recorded.get(name):
            raise InputError(f"{name} has changed since the run of {stored.path} read it; simulate the scenario again")


def _check_same(stored: StoredRun, replication: int, result: SimulationResult) -> None:
    """Hold arrivals and latencies of the requests that have left against the stored table."""
    table = stored.requests_of(replication)
    requests = result.requests
    left = ~np.isnan(requests.finish_s)
    same = len(requests) <= len(table)
    if same:
        latencies = RequestLatencies.of(requests)
        for name, values in (
            ("arrival_s", requests.arrival_s),
            ("ttft_s", latencies.ttft_s),
            ("e2e_s", latencies.e2e_s),
        ):
            kept = table[name].to_numpy(dtype=np.float64)[: len(requests)]
            same = same and np.allclose(kept[left], values[left], rtol=0, atol=_SAME_S, equal_nan=True)
    if not same:
        written = _recorded(stored, "versions").get("routerwise")
        raise InputError(
            f"simulated again, {stored.path} comes out otherwise: a file that the scenario names (latencies, prompts) "
            f"or routerwise (then {written}) has changed; simulate the scenario again"
        )
