"""The summary of a simulation: a nested plain dictionary, ready for JSON.

Whoever was not served stays in the count: rejected, timed-out, aborted and unfinished requests are in every
SLO denominator.  Latencies are over all requests that have them, finished or not, so that an overload does not look
fast because its slow requests are missing; end-to-end latency needs the end and is over the finished ones.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.inter_token import InterTokenLatencies, LatencyDistribution, inter_token_latencies
from analysis.metrics import RequestLatencies
from analysis.quality import quality
from analysis.replica_load import ReplicaLoad, replica_load
from analysis.slo import Slo
from analysis.time_parts import TimeParts, mean_parts
from latency_models.errors import check_finite, invalid
from sim.cluster_spec import ClusterSpec
from sim.results import Floats, Ints, SimulationResult, Status

Summary = dict[str, Any]
"""Nested dictionaries with strings as keys and numbers, strings or ``None`` (not a number) as leaves."""


def summarise(
    result: SimulationResult,
    *,
    slo: Slo | None = None,
    warmup_s: float = 0.0,
    cluster: ClusterSpec | None = None,
) -> Summary:
    """Summary of a run, overall and by model, class, both, and replica.

    Parameters
    ----------
    result : SimulationResult
        What the simulation left behind.
    slo : Slo, optional
        Limits for goodput and attainment, which are ``None`` without.
    warmup_s : float
        Requests that arrived before are left out, and averages over time start here.
    cluster : ClusterSpec, optional
        What was simulated, for the parts of TTFT and end-to-end time, which are missing without.

    Returns
    -------
    dict
        ``warmup_s``, ``measured_s``, ``end_s``, ``slo``, ``overall``, ``by_model``, ``by_class``,
        ``by_model_and_class``, ``cluster`` and ``replicas``.  Rates are per second of measured time.

    Raises
    ------
    InputError
        If the warm-up is negative, not finite, or as long as the run.
    """
    check_finite("warmup_s", warmup_s)
    if warmup_s > 0 and warmup_s >= result.end_s:
        raise invalid("warm-up (run.warmup)", warmup_s, f"less than the {result.end_s:g} s that the run lasted")
    report = _Report(result, slo, warmup_s, None if cluster is None else TimeParts.of(result, cluster))
    loads = [replica_load(result, index, warmup_s=warmup_s) for index in range(len(result.replicas))]
    return {
        "warmup_s": warmup_s,
        "measured_s": report.measured_s,
        "end_s": result.end_s,
        "slo": str(slo) if slo else None,
        "overall": report.group(report.everyone, report.itls.overall),
        "by_model": report.by_model(),
        "by_class": report.by_class(),
        "by_model_and_class": report.by_model_and_class(),
        "cluster": _cluster(loads),
        "replicas": {
            replica.name: {
                "model": result.models[replica.model],
                **plain(asdict(load)),
                "down_s": _down_s(result, index, warmup_s),
            }
            for index, (replica, load) in enumerate(zip(result.replicas, loads, strict=True))
        },
    }


def plain(values: Mapping[str, float]) -> Summary:
    """The same numbers with ``None`` for those that JSON cannot hold."""
    return {name: _number(value) for name, value in values.items()}


class _Report:
    """The columns that every group of requests is summarised from."""

    def __init__(self, result: SimulationResult, slo: Slo | None, warmup_s: float, parts: TimeParts | None) -> None:
        self.result = result
        self._parts = parts
        self.measured_s = result.end_s - warmup_s
        self.latencies = RequestLatencies.of(result.requests)
        self.met = slo.met(self.latencies) if slo else None
        self._warmup_s = warmup_s
        self._selected = result.requests.arrival_s >= warmup_s
        arrivals_s = result.requests.arrival_s[self._selected]
        self._arriving_s = float(arrivals_s[-1]) - warmup_s if len(arrivals_s) else 0.0
        self.everyone: Ints = np.arange(len(result.requests))
        self.itls: InterTokenLatencies = inter_token_latencies(result, selected=self._selected)
        self._model = result.requests.model
        self._class = result.requests.request_class

    def by_model(self) -> Summary:
        """One entry for each model, whether or not it was used."""
        return {
            name: self.group(self.everyone[self._model == model], self.itls.by_model.get(model))
            for model, name in enumerate(self.result.models)
        }

    def by_class(self) -> Summary:
        """One entry for each request class that occurs."""
        return {
            self.result.classes[class_]: self.group(
                self.everyone[self._class == class_], self.itls.by_class.get(class_)
            )
            for class_ in _occurring(self._class)
        }

    def by_model_and_class(self) -> Summary:
        """One entry for each pair that occurs; requests that were never routed have no model."""
        table: Summary = {name: {} for name in self.result.models}
        for model, name in enumerate(self.result.models):
            of_model = self._model == model
            for class_ in _occurring(self._class[of_model]):
                rows = self.everyone[of_model & (self._class == class_)]
                found = self.itls.by_model_and_class.get((model, class_))
                table[name][self.result.classes[class_]] = self.group(rows, found)
        return table

    def group(self, rows: Ints, itl: LatencyDistribution | None) -> Summary:
        """Summary of the requests in ``rows``.

        Latencies and shares are of those that arrived after the warm-up; rates are of what left after it, whenever it
        had arrived, so that a backlog does not hide throughput.
        """
        requests, latencies = self.result.requests, self.latencies
        leaving = rows[~(requests.finish_s[rows] < self._warmup_s)]
        answering = rows[requests.first_token_s[rows] >= self._warmup_s]
        met_leaving = None if self.met is None else self.met[leaving]
        rows = rows[self._selected[rows]]
        cut = requests.generated_tokens < requests.output_tokens
        prompt_tokens = requests.prompt_tokens[rows]
        admitted = ~np.isnan(requests.scheduled_s[rows])
        preemptions = requests.preemptions[rows]
        met = None if self.met is None else self.met[rows]
        return {
            "requests": {"total": len(rows), **_by_status(requests.status[rows])},
            "offered_per_s": _ratio(len(rows), self._arriving_s),
            "requests_per_s": self._rate(latencies.finished[leaving]),
            "prompt_tokens_per_s": self._rate(requests.prompt_tokens[answering]),
            "output_tokens_per_s": self._rate(requests.generated_tokens[leaving]),
            "goodput_per_s": None if met_leaving is None else self._rate(met_leaving),
            "slo_attainment": None if met is None else _ratio(met.sum(), len(rows)),
            "cut_short": int(np.count_nonzero(latencies.finished[rows] & cut[rows])),
            "rejected_answers": int((requests.stages[rows] - (requests.replica[rows] >= 0)).sum()),
            "preemptions": int(preemptions.sum()),
            "preempted_requests": int(np.count_nonzero(preemptions)),
            "retries": int(requests.retries[rows].sum()),
            "prefix_cache_hit_ratio": _ratio(
                requests.cached_tokens[rows][admitted].sum(), prompt_tokens[admitted].sum()
            ),
            "ttft_s": _statistics(latencies.ttft_s[rows]),
            "tpot_s": _statistics(latencies.tpot_s[rows]),
            "itl_s": _entries(itl or LatencyDistribution.empty()),
            "e2e_s": _statistics(latencies.e2e_s[rows]),
            "queue_s": _statistics(latencies.queue_s[rows]),
            "scheduler_queue_s": _statistics(latencies.scheduler_queue_s[rows]),
            **self._time_parts(rows),
            **({} if self.result.prompts is None else {"quality": plain(asdict(quality(self.result, rows)))}),
        }

    def _time_parts(self, rows: Ints) -> Summary:
        if self._parts is None:
            return {}
        ttft = mean_parts(self._parts.ttft_s, self.latencies.ttft_s, rows)
        e2e = mean_parts(self._parts.e2e_s, self.latencies.e2e_s, rows)
        return {
            "ttft_parts_s": {name: plain(parts) for name, parts in ttft.items()},
            "e2e_parts_s": {name: plain(parts) for name, parts in e2e.items()},
        }

    def _rate(self, amounts: Ints | NDArray[np.bool_]) -> float | None:
        return _ratio(amounts.sum(), self.measured_s)


def _occurring(indices: Ints) -> list[int]:
    """The indices that occur, in order; counting them is much faster than sorting them."""
    return np.flatnonzero(np.bincount(indices)).tolist()


def _by_status(status: Ints) -> dict[str, int]:
    return {code.name.lower(): int(np.count_nonzero(status == code)) for code in Status}


def _statistics(samples: Floats) -> Summary:
    return _entries(LatencyDistribution.of(samples))


def _entries(found: LatencyDistribution) -> Summary:
    percentiles = {f"p{q:g}": value for q, value in found.percentiles_s.items()}
    moments = {"mean": found.mean_s, "std": found.std_s, "min": found.min_s, "max": found.max_s}
    return {"count": found.count, **plain({**moments, **percentiles})}


def _cluster(loads: list[ReplicaLoad]) -> Summary:
    """Averages over replicas: a share counts each replica alike, a batch size each busy second or token."""
    busy_s = sum(load.busy_s for load in loads)
    tokens = sum(load.computed_tokens for load in loads)
    return {
        "busy_s": busy_s,
        "utilisation": _ratio(sum(load.utilisation for load in loads), len(loads)),
        "steps": sum(load.steps for load in loads),
        "computed_tokens": tokens,
        "mean_batch_size": _ratio(sum(load.mean_batch_size * load.busy_s for load in loads if load.busy_s), busy_s),
        "mean_batch_size_per_token": _ratio(
            sum(load.mean_batch_size_per_token * load.computed_tokens for load in loads if load.computed_tokens), tokens
        ),
        "mean_kv_used_frac": _ratio(sum(load.mean_kv_used_frac for load in loads), len(loads)),
    }


def _down_s(result: SimulationResult, replica: int, warmup_s: float) -> float:
    """Seconds after the warm-up in which a replica was down."""
    of_replica = result.outages[result.outages[:, 0] == replica]
    return float(np.clip(of_replica[:, 2] - np.maximum(of_replica[:, 1], warmup_s), 0.0, None).sum())


def _ratio(part: float, whole: float) -> float | None:
    return _number(float(part) / float(whole)) if whole > 0 else None


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
