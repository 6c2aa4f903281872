"""What a comparison keeps of one simulation."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from analysis.metrics import RequestLatencies
from analysis.quality import quality
from analysis.slo import Slo
from latency_models.errors import invalid
from scenarios.replicated import warmup_s
from scenarios.schema import Scenario
from sim.results import SimulationResult

Unit = Literal["score", "share", "s", "rate", "number"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A figure by which policies are compared."""

    name: str
    title: str
    unit: Unit


METRICS = (
    Metric(name="predicted", title="score, predicted", unit="score"),
    Metric(name="achieved", title="score, achieved", unit="score"),
    Metric(name="attainment", title="SLO attainment", unit="share"),
    Metric(name="answered", title="answered", unit="share"),
    Metric(name="ttft_mean_s", title="TTFT mean", unit="s"),
    Metric(name="ttft_p95_s", title="TTFT P95", unit="s"),
    Metric(name="ttft_p99_s", title="TTFT P99", unit="s"),
    Metric(name="goodput_per_s", title="goodput/s", unit="rate"),
    Metric(name="gpu_s_per_1000", title="GPU s/1,000", unit="number"),
    Metric(name="stages", title="models asked", unit="number"),
)
"""All of them.  Shares and rates are of all requests that arrived after the warm-up: who was not answered has no score,
missed the SLO, and is not in the goodput.  Latencies are of those that have one.  GPU seconds are those in which shards
computed, a shard with a share of a GPU counting with that share, over the whole run and all its requests."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyFigures:
    """Figures of one replication."""

    values: Mapping[str, float]
    """By name of the metric; NaN where there is no such figure."""
    fractions: tuple[float, ...]
    """Share of the requests that each model answered, or was the last to be asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyMeasure:
    """Reduces a simulation to the metrics; see :data:`scenarios.replicated.Measure`."""

    gpus: tuple[float, ...]
    """GPUs of each replica, by their compute shares."""

    def __call__(self, scenario: Scenario, result: SimulationResult) -> PolicyFigures:
        """Figures of one replication.

        Raises
        ------
        InputError
            No request arrives after the warm-up.
        """
        requests = result.requests
        begin_s = warmup_s(scenario, result)
        rows = np.flatnonzero(requests.arrival_s >= begin_s)
        last_s = float(requests.arrival_s[-1])
        if not len(rows) or (begin_s > 0 and last_s <= begin_s):
            raise invalid(
                "warm-up (run.warmup)", begin_s, f"less than the {last_s:g} s in which requests arrive",
                "Lower it, or use a longer workload, trace or window.",
            )  # fmt: skip
        latencies = RequestLatencies.of(requests)
        ttft_s = latencies.ttft_s[rows]
        ttft_s = ttft_s[~np.isnan(ttft_s)]
        p95_s, p99_s = np.percentile(ttft_s, (95, 99)).tolist() if len(ttft_s) else (math.nan, math.nan)
        met = None if scenario.slo is None else Slo.parse(scenario.slo).met(latencies)[rows]
        score = None if result.prompts is None else quality(result, rows)
        models = requests.model[rows]
        return PolicyFigures(
            values={
                "predicted": math.nan if score is None else score.predicted,
                "achieved": math.nan if score is None else score.achieved,
                "attainment": math.nan if met is None else float(met.mean()),
                "answered": float(latencies.finished[rows].mean()),
                "ttft_mean_s": float(ttft_s.mean()) if len(ttft_s) else math.nan,
                "ttft_p95_s": p95_s,
                "ttft_p99_s": p99_s,
                "goodput_per_s": math.nan if met is None else float(met.sum()) / (result.end_s - begin_s),
                "gpu_s_per_1000": 1000.0 * float(result.busy_s @ np.array(self.gpus)) / len(requests),
                "stages": float(requests.stages[rows].mean()),
            },
            fractions=tuple((np.bincount(models[models >= 0], minlength=len(result.models)) / len(rows)).tolist()),
        )
