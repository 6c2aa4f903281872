"""Replications of a scenario as a queueing theorist looks at them: without their beginning and their end.

Theory speaks of the steady state.  A run begins with an empty system and ends with one that nobody enters any more, so
the first and the last requests of each replication are left out, and samples of the system between them are kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from analysis.metrics import RequestLatencies
from latency_models.errors import InputError, check_count
from scenarios.replicated import PreparedScenario, simulate_replication
from scenarios.scenario_files import load_scenario
from sim.results import Floats, Ints, SimulationResult

FIRST_SHARE, LAST_SHARE = 1 / 12, 1 / 50
"""Shares of the requests that are left out at the beginning and at the end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StationaryRun:
    """One replication, for as long as it was stationary; columns have one entry for each request kept."""

    arrival_s: Floats
    wait_s: Floats
    """From arrival to the start of its first step."""
    ttft_s: Floats
    sojourn_s: Floats
    """From arrival to the last token; NaN for a request that was not answered in full."""
    tpot_s: Floats
    """NaN with fewer than two tokens."""
    prompt_tokens: Ints
    output_tokens: Ints
    running: Floats
    """Requests in the engines, all replicas together, at each sample (``run.sample_interval_s``)."""
    waiting: Floats
    """Requests that wait for an engine, likewise."""
    busy_share: float
    """Share of the time that replicas compute, averaged over replicas, at the samples."""
    rows: slice
    """Which requests of ``result`` were kept."""
    result: SimulationResult
    """The whole replication, for whatever else is of interest."""

    @property
    def rate_per_s(self) -> float:
        """Arrivals per second."""
        return (len(self.arrival_s) - 1) / float(self.arrival_s[-1] - self.arrival_s[0])

    @property
    def in_system(self) -> Floats:
        """Requests in the engines or waiting for one, at each sample."""
        return self.running + self.waiting


def stationary_runs(scenario: str | Path, overrides: Sequence[str] = (), *, replications: int) -> list[StationaryRun]:
    """Simulate a scenario several times and keep what is stationary.

    Parameters
    ----------
    scenario : str or Path
        A file, or the name of a library scenario.
    overrides : sequence of str
        ``key.subkey=value``, as ``routerwise run --set`` takes them.
    replications : int
        Independent replications, at least two.  Replications of equal number of scenarios with equal seeds have common
        random numbers.

    Raises
    ------
    InputError
        The scenario is wrong, or has too few requests to leave any out.
    """
    check_count("replications", replications, minimum=2)
    prepared = PreparedScenario.of(load_scenario(str(scenario), overrides))
    return [_stationary(simulate_replication(prepared, number)) for number in range(replications)]


def _stationary(result: SimulationResult) -> StationaryRun:
    requests = result.requests
    total = len(requests)
    rows = slice(int(total * FIRST_SHARE), total - int(total * LAST_SHARE))
    if rows.stop - rows.start < 2:
        raise InputError(f"the workload has {total} requests; allowed: at least 3, since the first ones are left out")
    latencies = RequestLatencies.of(requests, rows)
    arrival_s = requests.arrival_s[rows]
    times = result.samples[:, 0]
    samples = result.samples[(times >= arrival_s[0]) & (times <= arrival_s[-1])]
    # One row for each replica, at the same instants.
    replicas = len(result.replicas)
    by_time = samples[: len(samples) // replicas * replicas].reshape(-1, replicas, samples.shape[1])
    return StationaryRun(
        arrival_s=arrival_s,
        wait_s=latencies.queue_s,
        ttft_s=latencies.ttft_s,
        sojourn_s=latencies.e2e_s,
        tpot_s=latencies.tpot_s,
        prompt_tokens=requests.prompt_tokens[rows],
        output_tokens=requests.output_tokens[rows],
        running=by_time[:, :, 2].sum(axis=1),
        waiting=by_time[:, :, 3].sum(axis=1),
        busy_share=float(by_time[:, :, 6].mean()) if len(by_time) else float(np.nan),
        rows=rows,
        result=result,
    )
