"""A simulation as a benchmark report of GuideLLM (version 2 of its layout, written by GuideLLM 0.8).

The requests are a replayed trace that was dispatched on time; every token is a streaming iteration; times are Unix
times from when the run was simulated.  What did not finish is ``incomplete`` if the client or the run's end stopped it,
and ``errored`` if the service did.  Metrics follow GuideLLM's definitions, without confidence intervals.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from analysis.exports.guidellm_distributions import STATUSES, of_values
from analysis.exports.guidellm_metrics import report_metrics
from analysis.exports.guidellm_requests import GuideRequests, request_counts
from analysis.result_files import replacing
from analysis.slo import Slo
from latency_models.errors import check_finite, invalid
from sim.results import SimulationResult

REPORT_VERSION = 2
GUIDELLM_VERSION = "0.8.1"
"""Whose models the layout was checked with."""

_TARGET = "http://routerwise.invalid"


def write_guidellm(
    path: Path,
    result: SimulationResult,
    *,
    name: str,
    slo: Slo | None = None,
    warmup_s: float = 0.0,
    epoch_s: float = 0.0,
) -> None:
    """Write a report; the file appears complete or not at all.

    Parameters
    ----------
    path : Path
        File to write; replaced if it exists.
    result : SimulationResult
        What the simulation left behind.
    name : str
        What the run is called.
    slo : Slo, optional
        Limits for goodput.
    warmup_s : float
        The measurement begins here, on the simulation clock.
    epoch_s : float
        Unix time at which the simulation clock reads zero.

    Raises
    ------
    InputError
        If the run has no requests, or a time is not a number.
    OSError
        If the file cannot be written.
    """
    check_finite("warmup_s", warmup_s)
    check_finite("epoch_s", epoch_s)
    if not len(result.requests):
        raise invalid("number of requests", 0, "at least one request in the run")
    requests = GuideRequests.of(result, epoch_s)
    window_s = (max(epoch_s + warmup_s, float(requests.begin_s.min())), float(requests.end_s.max()))
    limits = None if slo is None else _limits(slo)
    with replacing(path) as stream:
        stream.write("{")
        for key, value in (("metadata", _metadata()), ("config", _config(result, name, limits)), ("conclusions", [])):
            stream.write(f"{json.dumps(key)}: {json.dumps(value, allow_nan=False)}, ")
        benchmark = {
            "type_": "generative_benchmark",
            "config": _benchmark_config(result, name, limits),
            "scheduler_state": _scheduler_state(requests),
            "scheduler_metrics": _scheduler_metrics(requests, window_s),
            "metrics": report_metrics(requests, window_s, slo),
            "warnings": [],
            "start_time": window_s[0],
            "end_time": window_s[1],
            "duration": window_s[1] - window_s[0],
            "warmup_duration": window_s[0] - float(requests.begin_s.min()),
            "cooldown_duration": 0.0,
        }
        stream.write(f'"benchmarks": [{json.dumps(benchmark, allow_nan=False)[:-1]}, "requests": {{')
        for status in STATUSES:
            stream.write(f'"{status}": [')
            for index, row in enumerate(requests.groups[status].tolist()):
                stream.write((", " if index else "") + json.dumps(requests.described(row), allow_nan=False))
            stream.write("], ")
        stream.write('"total": null}}]}\n')


# ------------------------------------------------------------------ what the run was


def _metadata() -> dict[str, Any]:
    return {
        "version": REPORT_VERSION,
        "guidellm_version": GUIDELLM_VERSION,
        "python_version": platform.python_version(),
        "platform": "simulated by routerwise",
    }


def _limits(slo: Slo) -> dict[str, float | None]:
    limits = {"ttft_ms": slo.ttft_s, "tpot_ms": slo.tpot_s, "e2el_ms": slo.e2el_s}
    return {key: None if limit_s is None else 1e3 * limit_s for key, limit_s in limits.items()}


def _config(result: SimulationResult, name: str, limits: Mapping[str, Any] | None) -> dict[str, Any]:
    return {
        "metadata": {"labels": {"name": name, "simulated by": "routerwise"}},
        "spec": {
            "backend": {"kind": "openai_http", "target": _TARGET, "model": ",".join(result.models)},
            "profile": {"kind": "replay"},
            "data": [{"kind": "csv_file", "path": "requests.csv"}],
            "metrics": {"kind": "generative", "confidence": None, "slo": limits},
        },
    }


def _benchmark_config(result: SimulationResult, name: str, limits: Mapping[str, Any] | None) -> dict[str, Any]:
    return {
        "id_": name,
        "run_id": name,
        "run_index": 0,
        "strategy": {"type_": "trace"},
        "constraints": {},
        "confidence": None,
        "slo": limits,
        "profile": {"kind": "replay"},
        "requests": {},
        "backend": {"type_": "openai_http", "target": _TARGET, "model": ",".join(result.models)},
        "environment": {"simulated by": "routerwise"},
    }


def _scheduler_state(requests: GuideRequests) -> dict[str, Any]:
    counts = {status: len(rows) for status, rows in requests.groups.items()}
    total = sum(counts.values())
    return {
        "num_processes": 1,
        "start_time": requests.epoch_s,
        "end_time": float(requests.end_s.max()),
        "start_requests_time": float(requests.begin_s.min()),
        "end_requests_time": float(requests.end_s.max()),
        "created_requests": total,
        "processed_requests": total,
        "successful_requests": counts["successful"],
        "errored_requests": counts["errored"],
        "cancelled_requests": counts["incomplete"],
    }


def _scheduler_metrics(requests: GuideRequests, window_s: tuple[float, float]) -> dict[str, Any]:
    delays = (
        "queued_time_avg", "resolve_start_delay_avg", "resolve_targeted_start_delay_avg", "request_start_delay_avg",
        "request_targeted_start_delay_avg", "resolve_end_delay_avg", "finalized_delay_avg", "processed_delay_avg",
    )  # fmt: skip
    mean_s = float(requests.latency_s.mean())
    return {
        "start_time": requests.epoch_s,
        "request_start_time": float(requests.begin_s.min()),
        "measure_start_time": window_s[0],
        "measure_end_time": window_s[1],
        "request_end_time": float(requests.end_s.max()),
        "end_time": float(requests.end_s.max()),
        "requests_made": request_counts(requests.groups),
        "generation_delay": of_values(np.empty(0)),
        **dict.fromkeys(delays, 0.0),
        "request_time_avg": mean_s,
        "resolve_time_avg": mean_s,
        "dataset_incomplete": False,
        "strategy_type": "trace",
    }
