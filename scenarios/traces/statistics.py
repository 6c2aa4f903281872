"""What a trace looks like: rate, burstiness at several time scales, lengths, shared prefixes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from latency_models.errors import InputError
from scenarios.workloads.request_chunks import Floats, Ints, arrivals, output_lengths, prompt_lengths
from sim.workload import RequestChunk, Segment

DISPERSION_WINDOWS_S = (1.0, 10.0, 60.0)
"""Time scales of the index of dispersion for counts."""

PEAK_WINDOW_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LengthStatistics:
    """Mean, spread and percentiles of one length, in tokens."""

    mean: float
    std: float
    minimum: int
    p50: float
    p90: float
    p95: float
    p99: float
    maximum: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceStatistics:
    """Summary of a trace; ``None`` where the trace is too short for a figure."""

    requests: int
    duration_s: float
    """From the first arrival to the last."""
    rate_per_s: float | None
    interarrival_cv: float | None
    """Coefficient of variation of the gaps between arrivals; 1 for Poisson arrivals."""
    dispersion_1s: float | None
    """Variance over mean of the number of arrivals per second; 1 for Poisson arrivals."""
    dispersion_10s: float | None
    dispersion_60s: float | None
    peak_to_mean_10s: float | None
    """Most arrivals in any 10 s window of the grid over their mean."""
    prompt_tokens: LengthStatistics
    output_tokens: LengthStatistics
    shared_prefix_share: float | None
    """Share of prompt tokens that an unlimited prefix cache would have seen before; ``None`` without content."""

    def as_dict(self) -> dict[str, Any]:
        """The same as nested plain values."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceColumns:
    """The columns of a whole trace that statistics and fits need, each of shape (requests,)."""

    arrival_s: Floats
    prompt_tokens: Ints
    output_tokens: Ints
    shared_prefix_share: float | None


def load_columns(chunks: Iterable[RequestChunk]) -> TraceColumns:
    """Keep arrivals and lengths of a stream (24 bytes per request), and follow its prefixes."""
    times: list[Floats] = []
    prompts: list[Ints] = []
    outputs: list[Ints] = []
    prefixes = _PrefixTracker()
    for chunk in chunks:
        times.append(arrivals(chunk))
        prompts.append(prompt_lengths(chunk))
        outputs.append(output_lengths(chunk))
        for content in chunk.content or ():
            if content is not None:
                prefixes.add(content)
    if not any(len(part) for part in times):
        raise InputError("the trace holds no request; allowed: at least one")
    prompt_tokens = np.concatenate(prompts)
    return TraceColumns(
        arrival_s=np.concatenate(times),
        prompt_tokens=prompt_tokens,
        output_tokens=np.concatenate(outputs),
        shared_prefix_share=prefixes.shared_tokens / float(prompt_tokens.sum()) if prefixes.seen else None,
    )


class _PrefixTracker:
    """Counts prompt tokens whose whole prefix occurred in an earlier prompt."""

    def __init__(self) -> None:
        self.seen: set[int] = set()
        self.shared_tokens = 0

    def add(self, content: tuple[Segment, ...]) -> None:
        """Count one prompt's content."""
        chain = 0
        for segment in content:
            # A prefix is known by a hash chained over its segments, so that the memory per segment is constant.
            chain = hash((chain, segment))
            if chain in self.seen:
                self.shared_tokens += segment[1]
            else:
                self.seen.add(chain)


def window_counts(times: Floats, window_s: float) -> Ints:
    """Arrivals in consecutive whole windows of ``window_s`` seconds from the first arrival on."""
    windows = int((times[-1] - times[0]) // window_s)
    index = np.floor_divide(times - times[0], window_s).astype(np.int64)
    return np.bincount(index, minlength=windows)[:windows].astype(np.int64)


def dispersion(times: Floats, window_s: float) -> float | None:
    """Index of dispersion for counts: variance over mean of the arrivals per window.

    Takes the variance of all whole windows (denominator n); ``None`` with fewer than two windows.
    """
    counts = window_counts(times, window_s)
    if len(counts) < 2 or not counts.any():
        return None
    return float(counts.var() / counts.mean())


def trace_statistics(trace: TraceColumns | Iterable[RequestChunk]) -> TraceStatistics:
    """Summarise a trace.

    Parameters
    ----------
    trace : TraceColumns or iterable of RequestChunk
        The trace; a stream is read to its end.

    Raises
    ------
    InputError
        If the trace holds no request.
    """
    columns = trace if isinstance(trace, TraceColumns) else load_columns(trace)
    times = columns.arrival_s
    duration = float(times[-1] - times[0])
    gaps = np.diff(times)
    moving = duration > 0
    counts = window_counts(times, PEAK_WINDOW_S)
    second, ten_seconds, minute = (dispersion(times, window) for window in DISPERSION_WINDOWS_S)
    return TraceStatistics(
        requests=len(times),
        duration_s=duration,
        rate_per_s=len(gaps) / duration if moving else None,
        interarrival_cv=float(gaps.std() / gaps.mean()) if moving and len(gaps) > 1 else None,
        dispersion_1s=second,
        dispersion_10s=ten_seconds,
        dispersion_60s=minute,
        peak_to_mean_10s=float(counts.max() / counts.mean()) if counts.any() else None,
        prompt_tokens=_length_statistics(columns.prompt_tokens),
        output_tokens=_length_statistics(columns.output_tokens),
        shared_prefix_share=columns.shared_prefix_share,
    )


def _length_statistics(lengths: Ints) -> LengthStatistics:
    p50, p90, p95, p99 = np.percentile(lengths, (50, 90, 95, 99)).tolist()
    return LengthStatistics(
        mean=float(lengths.mean()),
        std=float(lengths.std()),
        minimum=int(lengths.min()),
        p50=p50,
        p90=p90,
        p95=p95,
        p99=p99,
        maximum=int(lengths.max()),
    )
