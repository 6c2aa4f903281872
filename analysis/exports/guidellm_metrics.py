"""The metrics of a GuideLLM report, by GuideLLM's definitions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from analysis.exports.guidellm_distributions import (
    STATUSES,
    Distribution,
    by_status,
    of_concurrency,
    of_rates,
    of_values,
)
from analysis.exports.guidellm_requests import GuideRequests, request_counts
from analysis.slo import Slo
from sim.results import Floats, Ints

MOST_TOKEN_TIMES = 5_000_000
"""Where there are more output tokens, neighbours of a request are merged in the distribution of token rates."""


def report_metrics(requests: GuideRequests, window_s: tuple[float, float], slo: Slo | None) -> dict[str, Any]:
    """The ``metrics`` of a benchmark.

    Parameters
    ----------
    requests : GuideRequests
        All requests.
    window_s : tuple of float
        When the measurement began and ended, Unix times; who was in the system in between counts.
    slo : Slo, optional
        Limits for goodput.
    """
    rows = requests.overlapping(window_s)
    answered = {
        status: chosen[requests.first_token_s[chosen] >= window_s[0]]
        for status, chosen in ((status, requests.groups[status]) for status in STATUSES)
    }
    decoding = {status: chosen[~np.isnan(requests.first_token_s[chosen])] for status, chosen in rows.items()}
    tokens, prompts = requests.output_tokens, requests.prompt_tokens
    nothing = np.zeros(len(tokens))

    def values(
        column: Floats, among: Mapping[str, Ints] = rows, weights: Floats | None = None
    ) -> dict[str, Distribution]:
        return by_status(lambda at: of_values(column[at], None if weights is None else weights[at]), among)

    first_or_end_s = np.where(np.isnan(requests.first_token_s), requests.end_s, requests.first_token_s)
    later = np.maximum(tokens - 1, 0)
    ones = np.ones(len(tokens))
    per_iteration = np.where(tokens > 0, ones, nothing)
    ttft = values(requests.ttft_ms, answered)
    dispatch = values(nothing)
    return {
        "request_totals": request_counts(rows),
        "requests_per_second": by_status(lambda at: of_rates(requests.end_s[at], ones[at], window_s), rows),
        "request_concurrency": by_status(
            lambda at: of_concurrency(requests.begin_s[at], requests.end_s[at], window_s=window_s), rows
        ),
        "request_latency": values(requests.latency_s),
        "request_dispatch_delay": dispatch,
        "request_scheduled_latency": values(requests.latency_s),
        "turn_predecessor_delay": dispatch,
        "turn_scheduling_delay": dispatch,
        "root_dispatch_delay": dispatch["total"],
        "request_streaming_iterations_count": values(tokens),
        "prompt_token_count": values(prompts),
        "output_token_count": values(tokens),
        "total_token_count": values(prompts + tokens),
        "time_to_first_token_ms": ttft,
        "time_to_first_output_token_ms": ttft,
        "time_per_output_token_ms": values(np.nan_to_num(requests.per_token_ms), weights=tokens),
        "inter_token_latency_ms": values(np.nan_to_num(requests.inter_token_ms), decoding, later),
        "time_to_last_round_trip_ms": dispatch,
        "avg_round_trip_time_ms": dispatch,
        "prompt_tokens_per_second": by_status(lambda at: of_rates(first_or_end_s[at], prompts[at], window_s), rows),
        "output_tokens_per_second": by_status(lambda at: of_rates(*_token_times(requests, at), window_s), rows),
        "tokens_per_second": by_status(
            lambda at: of_rates(*_all_token_times(requests, first_or_end_s, at), window_s), rows
        ),
        "output_tokens_per_iteration": values(per_iteration, weights=np.maximum(tokens, 1)),
        "iter_tokens_per_iteration": values(ones, weights=later),
        "text": {"tokens": _token_summary(requests, rows), "words": None, "characters": None},
        "image": dict.fromkeys(("tokens", "images", "pixels", "bytes")),
        "video": dict.fromkeys(("tokens", "frames", "seconds", "bytes")),
        "audio": dict.fromkeys(("tokens", "samples", "seconds", "bytes")),
        "tool_call": dict.fromkeys(("tokens", "mixed_tokens", "count")),
        **_goodput(requests, rows, window_s, slo),
    }


def _token_summary(requests: GuideRequests, groups: Mapping[str, Ints]) -> dict[str, Any]:
    """Prompt tokens, output tokens and both: values, rates at the requests' ends, and concurrency."""
    prompts, tokens = requests.prompt_tokens, requests.output_tokens
    return {
        **_timed_tokens("input", requests, (prompts,), groups),
        **_timed_tokens("output", requests, (tokens,), groups),
        **_timed_tokens("total", requests, (prompts, tokens), groups),
    }


def _timed_tokens(
    kind: str, requests: GuideRequests, columns: tuple[Floats, ...], groups: Mapping[str, Ints]
) -> dict[str, Any]:
    def amounts(at: Ints) -> Floats:
        return np.concatenate([column[at] for column in columns])

    def instants(times_s: Floats, at: Ints) -> Floats:
        return np.tile(times_s[at], len(columns))

    begin_s, end_s = requests.begin_s, requests.end_s
    return {
        kind: by_status(lambda at: of_values(amounts(at)), groups),
        f"{kind}_per_second": by_status(lambda at: of_rates(instants(end_s, at), amounts(at)), groups),
        f"{kind}_concurrency": by_status(
            lambda at: of_concurrency(instants(begin_s, at), instants(end_s, at), amounts(at)), groups
        ),
    }


def _token_times(requests: GuideRequests, rows: Ints) -> tuple[Floats, Floats]:
    """When the output tokens of some requests came, evenly from the first to the last, and how many at each time."""
    tokens = requests.output_tokens[rows].astype(np.int64)
    merged = max(1, -(-int(tokens.sum()) // MOST_TOKEN_TIMES))
    several = rows[tokens > 1]
    later = requests.output_tokens[several].astype(np.int64) - 1
    points = -(-later // merged)
    step = np.arange(int(points.sum())) - np.repeat(np.cumsum(points) - points, points) + 1
    first_s, last_s = requests.first_token_s[several], requests.last_token_s[several]
    times_s = np.repeat(first_s, points) + np.repeat((last_s - first_s) / points, points) * step
    single = rows[tokens <= 1]
    single_s = np.where(np.isnan(requests.last_token_s[single]), requests.end_s[single], requests.last_token_s[single])
    return (
        np.concatenate([single_s, first_s, times_s]),
        np.concatenate([requests.output_tokens[single], np.ones(len(several)), np.repeat(later / points, points)]),
    )


def _all_token_times(requests: GuideRequests, prompt_s: Floats, rows: Ints) -> tuple[Floats, Floats]:
    times_s, weights = _token_times(requests, rows)
    return np.concatenate([prompt_s[rows], times_s]), np.concatenate([requests.prompt_tokens[rows], weights])


def _goodput(
    requests: GuideRequests, groups: Mapping[str, Ints], window_s: tuple[float, float], slo: Slo | None
) -> dict[str, Any]:
    """Share and rate of the requests within all limits; one without a figure that is limited is left out."""
    nobody: Ints = np.empty(0, dtype=np.int64)
    successful = groups["successful"]
    if slo is None:
        return {"slo_attainment": None, "slo_determined_requests": 0, "request_goodput": None}
    limited = [
        (1e-3 * requests.ttft_ms, slo.ttft_s),
        (1e-3 * requests.inter_token_ms, slo.tpot_s),
        (requests.latency_s, slo.e2el_s),
    ]
    known, good = np.ones(len(successful), dtype=bool), np.ones(len(successful), dtype=bool)
    for column, limit_s in limited:
        if limit_s is not None:
            known &= ~np.isnan(column[successful])
            good &= column[successful] <= limit_s
    determined = int(known.sum()) + len(groups["errored"])
    if not determined:
        return {"slo_attainment": None, "slo_determined_requests": 0, "request_goodput": None}
    conforming = {"successful": successful[known & good], "errored": nobody, "incomplete": nobody}
    return {
        "slo_attainment": len(conforming["successful"]) / determined,
        "slo_determined_requests": determined,
        "request_goodput": by_status(lambda at: of_rates(requests.end_s[at], np.ones(len(at)), window_s), conforming),
    }
