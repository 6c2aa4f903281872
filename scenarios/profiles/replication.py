"""One run at one load: what it showed once it was stationary, and by how much the backlog grew."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from analysis.metrics import RequestLatencies
from latency_models.errors import InputError
from scenarios.profiles.offered_load import Load, offered
from scenarios.schema import Scenario
from scenarios.workloads.build import inspect_workload
from sim.cluster import simulate
from sim.random_streams import seed_sequence
from sim.results import SimulationResult, Status

_WARMUP_SHARE = 0.2
"""Of the requests, in order of arrival: the run starts empty."""
_DRAIN_SHARE = 0.05
"""Of the requests at the end, which see fewer and fewer others."""
_SAMPLES = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFigures:
    """Figures of one run; a statistic that nothing was there for is left out."""

    statistics: dict[str, float]
    """Named as in :class:`latency_models.curves.load_latency.LoadLatencyCurve`."""
    growth: float
    """Of the number of requests in the system, per arrival."""

    def as_dict(self) -> dict[str, Any]:
        """The figures as plain values."""
        return {"statistics": self.statistics, "growth": self.growth}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> RunFigures:
        """The figures from plain values."""
        return cls(statistics=dict(values["statistics"]), growth=float(values["growth"]))


def run_at(scenario: Scenario, load: Load, replication: int, percentiles: Sequence[float]) -> RunFigures:
    """Simulate one replication of a scenario, with its workload at the given load.

    Replications of equal number have common random numbers at all loads.

    Raises
    ------
    InputError
        The scenario contradicts itself, or in the limit of no load requests still meet.
    """
    shares_content = inspect_workload(scenario.workload).shares_content
    settings = scenario.model_copy(
        update={"run": scenario.run.model_copy(update={"sample_interval_s": load.duration_s / _SAMPLES})}
    )
    result = simulate(
        settings.cluster(),
        offered(scenario.workload, load, seed_sequence(scenario.seed, replication, "workload")),
        settings.run_spec(replication, shared_content=shares_content),
    )
    if load.rate_per_s == 0:
        _check_lone(result)
    return RunFigures(statistics=_statistics(result, load, percentiles), growth=backlog_growth(result))


def backlog_growth(result: SimulationResult) -> float:
    """Growth of the number of requests in the system per arrival: slope of a straight line through it (least squares).

    The warm-up is left out.  In a stable system it is 0 on average; with a capacity below the offered rate it is
    1 - capacity / rate.
    """
    arrival_s = result.requests.arrival_s
    left_s = np.sort(result.requests.finish_s)
    arrival = np.arange(int(len(arrival_s) * _WARMUP_SHARE), len(arrival_s))
    in_system = arrival + 1 - np.searchsorted(left_s, arrival_s[arrival], side="right")
    centred = arrival - arrival.mean()
    return float(centred @ in_system / (centred @ centred))


def _check_lone(result: SimulationResult) -> None:
    requests = result.requests
    late = np.flatnonzero(requests.finish_s[:-1] > requests.arrival_s[1:])
    if len(late):
        took_s = float(requests.finish_s[late[0]] - requests.arrival_s[late[0]])
        raise InputError(
            f"a request alone takes {took_s:g} s, longer than a profile allows for; the latency section looks wrong: "
            "is it in seconds?"
        )


def _statistics(result: SimulationResult, load: Load, percentiles: Sequence[float]) -> dict[str, float]:
    requests = result.requests
    rows = slice(int(len(requests) * _WARMUP_SHARE), int(len(requests) * (1 - _DRAIN_SHARE)))
    latencies = RequestLatencies.of(requests, rows)
    found: dict[str, float] = {}
    for name, values in (("ttft", latencies.ttft_s), ("tpot", latencies.tpot_s), ("e2e", latencies.e2e_s)):
        present = values[~np.isnan(values)]
        if not len(present):
            continue
        found[f"{name}_mean_s"] = float(present.mean())
        ranks = np.percentile(present, list(percentiles))
        found |= {f"{name}_p{rank:g}_s": float(value) for rank, value in zip(percentiles, ranks, strict=True)}
    return found | _cluster_figures(result, load, rows)


def _cluster_figures(result: SimulationResult, load: Load, rows: slice) -> dict[str, float]:
    """Throughput, utilisation and KV use while the requests in ``rows`` arrived; all 0 without load."""
    if load.rate_per_s == 0:
        return dict.fromkeys(("requests_per_s", "output_tokens_per_s", "utilisation", "kv_used_frac"), 0.0)
    requests = result.requests
    begin_s, end_s = requests.arrival_s[rows][[0, -1]]
    left = (requests.finish_s > begin_s) & (requests.finish_s <= end_s) & (requests.status == Status.FINISHED)
    samples = result.samples[(result.samples[:, 0] > begin_s) & (result.samples[:, 0] <= end_s)]
    return {
        "requests_per_s": float(np.count_nonzero(left) / (end_s - begin_s)),
        "output_tokens_per_s": float(requests.generated_tokens[left].sum() / (end_s - begin_s)),
        "utilisation": float(samples[:, 6].mean()),
        "kv_used_frac": float((samples[:, 4] / samples[:, 5]).mean()),
    }
