"""A simulation in the JSON of ``vllm bench serve --save-result --save-detailed``, for the tools that read that.

Definitions follow vLLM's: throughputs over the whole duration, latencies over completed requests only, standard
deviations of the population.  What did not finish is a failed request, with its status as the error.  All times are
on the simulation clock; ``queue_times`` is the time from arrival to the first step.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from analysis.inter_token import PERCENTILES, LatencyDistribution, TokenClock, inter_token_latencies
from analysis.metrics import RequestLatencies
from analysis.result_files import replacing
from analysis.slo import Slo
from latency_models.errors import invalid
from sim.results import Floats, Ints, SimulationResult, Status


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchLabels:
    """What the file says about the run but the result does not know."""

    date: str = ""
    """When, as ``YYYYMMDD-HHMMSS``."""
    label: str | None = None
    request_rate: float | None = None
    """Requests per second of a steady generator; ``None`` is written as ``"inf"``, as vLLM does without a rate."""
    burstiness: float = 1.0
    """Shape of the Gamma distribution of the times between arrivals; 1 is Poisson."""
    max_concurrency: int | None = None


def write_vllm_bench(
    path: Path, result: SimulationResult, *, slo: Slo | None = None, labels: BenchLabels | None = None
) -> None:
    """Write the whole run, warm-up included, to ``path``, request by request.

    The file appears complete or not at all: it is written beside and renamed.

    Parameters
    ----------
    path : Path
        File to write; replaced if it exists.
    result : SimulationResult
        What the simulation left behind.  The step logs of all replicas are held in memory meanwhile.
    slo : Slo, optional
        For ``request_goodput``, which is null without.
    labels : BenchLabels, optional
        Descriptive fields.

    Raises
    ------
    InputError
        If the run has no requests.
    OSError
        If the file cannot be written.
    """
    if not len(result.requests):
        raise invalid("number of requests", 0, "at least one request in the run")
    latencies = RequestLatencies.of(result.requests)
    clock = TokenClock(result)
    with replacing(path) as stream:
        stream.write("{")
        for name, value in _described(result, labels or BenchLabels()).items():
            stream.write(f"{json.dumps(name)}: {json.dumps(value, allow_nan=False)}, ")
        for name, value in _totals(result, latencies, slo).items():
            stream.write(f"{json.dumps(name)}: {json.dumps(value, allow_nan=False)}, ")
        last_token_s = result.requests.last_token_s[latencies.finished]
        tokens_per_s: Ints = np.zeros(_second(result, last_token_s).max(initial=0) + 1, dtype=np.int64)
        for name, values in _columns(result, latencies, clock, tokens_per_s):
            _write_list(stream, name, values)
        peaks = {
            "max_output_tokens_per_s": float(tokens_per_s.max()),
            "max_concurrent_requests": _peak_concurrency(result, latencies),
            "rtfx": 0.0,
        }
        scalars = {**peaks, **_latency_keys(result, latencies)}
        stream.write(json.dumps(scalars, allow_nan=False)[1:])


def _described(result: SimulationResult, labels: BenchLabels) -> dict[str, Any]:
    models = ",".join(result.models)
    return {
        "date": labels.date,
        "endpoint_type": "routerwise",
        "backend": "routerwise",
        "label": labels.label,
        "model_id": models,
        "tokenizer_id": models,
        "num_prompts": len(result.requests),
        "request_rate": "inf" if labels.request_rate is None else labels.request_rate,
        "burstiness": labels.burstiness,
        "max_concurrency": labels.max_concurrency,
    }


def _totals(result: SimulationResult, latencies: RequestLatencies, slo: Slo | None) -> dict[str, Any]:
    finished = latencies.finished
    completed = int(finished.sum())
    prompt_tokens = int(result.requests.prompt_tokens[finished].sum())
    output_tokens = int(result.requests.generated_tokens[finished].sum())
    per_s = 1 / result.end_s if result.end_s > 0 else 0.0
    return {
        "duration": result.end_s,
        "completed": completed,
        "failed": len(finished) - completed,
        "total_input_tokens": prompt_tokens,
        "total_output_tokens": output_tokens,
        "request_throughput": completed * per_s,
        "request_goodput": int(slo.met(latencies).sum()) * per_s if slo else None,
        "output_throughput": output_tokens * per_s,
        "total_token_throughput": (prompt_tokens + output_tokens) * per_s,
    }


def _columns(
    result: SimulationResult, latencies: RequestLatencies, clock: TokenClock, tokens_per_s: Ints
) -> Iterator[tuple[str, Iterable[Any]]]:
    """The lists with one entry for each request; counts output tokens by second on the way through the token times."""
    requests, finished = result.requests, latencies.finished
    status = [Status(code) for code in requests.status.tolist()]
    yield "input_lens", requests.prompt_tokens.tolist()
    yield "output_lens", np.where(finished, requests.generated_tokens, 0).tolist()
    yield "ttfts", np.where(finished, latencies.ttft_s, 0.0).tolist()
    yield "itls", _itls(result, latencies, clock, tokens_per_s)
    yield "latencies", np.where(finished, latencies.e2e_s, 0.0).tolist()
    yield "start_times", requests.arrival_s.tolist()
    yield "queue_times", np.where(finished, latencies.queue_s, 0.0).tolist()
    yield "generated_texts", ("" for _ in status)
    yield "errors", ("" if code is Status.FINISHED else code.name.lower().replace("_", " ") for code in status)


def _itls(
    result: SimulationResult, latencies: RequestLatencies, clock: TokenClock, tokens_per_s: Ints
) -> Iterator[list[float]]:
    for row, finished in enumerate(latencies.finished.tolist()):
        if finished:
            tokens = clock.tokens(row)
            np.add.at(tokens_per_s, _second(result, tokens.times_s), 1)
            yield tokens.itls_s.tolist()
        else:
            yield []


def _second(result: SimulationResult, time_s: Floats) -> Ints:
    """Second of the run, from the first arrival."""
    seconds: Ints = (time_s - result.requests.arrival_s[0]).astype(np.int64)
    return seconds


def _peak_concurrency(result: SimulationResult, latencies: RequestLatencies) -> int:
    """Most requests that were in the system during the same second, as vLLM counts: whole seconds, both ends."""
    finished = latencies.finished
    if not finished.any():
        return 0
    begin = _second(result, result.requests.arrival_s[finished])
    end = _second(result, result.requests.finish_s[finished])
    change = np.bincount(begin, minlength=int(end.max()) + 2) - np.bincount(end + 1, minlength=int(end.max()) + 2)
    return int(np.cumsum(change).max())


def _latency_keys(result: SimulationResult, latencies: RequestLatencies) -> dict[str, float]:
    finished = latencies.finished
    keys: dict[str, float] = {}
    distributions = {
        "ttft": LatencyDistribution.of(latencies.ttft_s[finished], PERCENTILES),
        "tpot": LatencyDistribution.of(latencies.tpot_s[finished], PERCENTILES),
        "itl": inter_token_latencies(result, selected=finished, percentiles=PERCENTILES).overall,
        "e2el": LatencyDistribution.of(latencies.e2e_s[finished], PERCENTILES),
    }
    for metric, found in distributions.items():
        percentiles = {f"p{q:g}": value for q, value in found.percentiles_s.items()}
        values = {"mean": found.mean_s, "median": percentiles["p50"], "std": found.std_s, **percentiles}
        for name, value in values.items():
            keys[f"{name}_{metric}_ms"] = 1e3 * value if found.count else 0.0
    return keys


def _write_list(stream: TextIO, name: str, values: Iterable[Any]) -> None:
    stream.write(f"{json.dumps(name)}: [")
    for index, value in enumerate(values):
        stream.write((", " if index else "") + json.dumps(value, allow_nan=False))
    stream.write("], ")
