"""Fit of arrival and length generators to a trace, with the goodness of each fit measured the same way."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from latency_models.errors import InputError, check_count
from scenarios.traces.mmpp_fit import fit_mmpp
from scenarios.traces.statistics import (
    DISPERSION_WINDOWS_S,
    TraceColumns,
    TraceStatistics,
    dispersion,
    load_columns,
    trace_statistics,
)
from scenarios.workloads.arrival_processes import AnyArrivals, Diurnal, Gamma, Poisson, Weibull
from scenarios.workloads.lengths import (
    ConditionalLengths,
    EmpiricalLength,
    IndependentLengths,
    LognormalLength,
    Quantiles,
)
from scenarios.workloads.request_chunks import Floats, Ints
from sim.random_streams import named_generator
from sim.workload import RequestChunk

_LEVELS = (0.0, 0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 0.999, 1.0)
_ROWS_PER_CLASS = 100
_MOST_CLASSES = 5
_FEWEST_WINDOWS = 10
_SIMULATED = 200_000
_LENGTHS_DISTANCE = 0.05
_DEPENDENCE = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class ArrivalFit:
    """One arrival process fitted to a trace, compared with it by simulating the process."""

    process: AnyArrivals
    gap_distance: float
    """Kolmogorov-Smirnov distance of the gaps between arrivals."""
    dispersion: dict[float, float]
    """Index of dispersion of the fitted process by window in seconds."""
    score: float
    """Mean of ``|ln(fitted / measured dispersion)|`` over the windows, plus ``gap_distance``; 0 is perfect."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LengthFit:
    """One length generator fitted to a trace, compared with it by drawing from it."""

    name: str
    lengths: IndependentLengths | ConditionalLengths
    prompt_distance: float
    """Kolmogorov-Smirnov distance of the prompt lengths."""
    output_distance: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceFit:
    """What was fitted to a trace.

    Attributes
    ----------
    statistics
        The trace itself.
    measured_dispersion
        Index of dispersion of the trace by window in seconds, where it is long enough for ten windows.
    dependence
        How much the output depends on the prompt: the largest Kolmogorov-Smirnov distance between the outputs of one
        class of prompts (a fifth of them, by length) and all outputs.
    dependence_limit
        Largest dependence that counts as none: 0.1 plus what chance gives (5 % level) to classes of that size.
    arrivals
        Fitted processes, the one with the lowest score first.
    lengths
        Fitted generators, the chosen one first: conditional quantile tables if the output depends on the prompt,
        otherwise independent lognormals if both are within a distance of 0.05, otherwise independent quantile tables.
    """

    statistics: TraceStatistics
    measured_dispersion: dict[float, float]
    dependence: float
    dependence_limit: float
    arrivals: tuple[ArrivalFit, ...]
    lengths: tuple[LengthFit, ...]

    def workload(self) -> dict[str, Any]:
        """The best fit as plain values: the ``workload`` section of a scenario."""
        return {
            "kind": "synthetic",
            "arrivals": plain(self.arrivals[0].process),
            "lengths": plain(self.lengths[0].lengths),
            "duration_s": _rounded(self.statistics.duration_s),
        }


def fit_trace(
    trace: TraceColumns | Iterable[RequestChunk], seed: np.random.SeedSequence, *, diurnal_points: int = 0
) -> TraceFit:
    """Fit generators to a trace.

    Arrivals: Poisson; gamma and Weibull by maximum likelihood of the shape; MMPP-2 by dispersions and gaps; all with
    the trace's mean rate.  Each is simulated and compared with the trace; the lowest :attr:`ArrivalFit.score` wins.

    Parameters
    ----------
    trace : TraceColumns or iterable of RequestChunk
        The trace.
    seed : numpy.random.SeedSequence
        Parent of the streams that the comparison draws from.
    diurnal_points : int
        If not 0, also try a Poisson process with a piecewise linear rate of this many points over the trace's
        duration, for long traces with a daily pattern.

    Raises
    ------
    InputError
        If the trace has fewer than 20 requests or no duration.
    """
    columns = trace if isinstance(trace, TraceColumns) else load_columns(trace)
    statistics = trace_statistics(columns)
    if statistics.requests < 20 or statistics.rate_per_s is None:
        raise InputError(
            f"the trace has {statistics.requests} requests in {statistics.duration_s:g} s; "
            "allowed for a fit: at least 20, not all at the same time"
        )
    if diurnal_points:
        check_count("diurnal_points", diurnal_points, minimum=2)
    times = columns.arrival_s - columns.arrival_s[0]
    gaps = np.diff(times)
    measured = {
        window: value
        for window in DISPERSION_WINDOWS_S
        if window * _FEWEST_WINDOWS <= statistics.duration_s and (value := dispersion(times, window)) is not None
    }
    processes = _arrival_candidates(statistics.rate_per_s, gaps, measured)
    if diurnal_points:
        processes.append(_diurnal(times, diurnal_points))
    fits = [_compare_arrivals(process, gaps, measured, seed) for process in processes]
    by_prompt = _outputs_by_prompt(columns)
    dependence = max(distribution_distance(part, columns.output_tokens) for part in by_prompt)
    limit = _DEPENDENCE + 1.36 / math.sqrt(len(by_prompt[-1]))
    return TraceFit(
        statistics=statistics,
        measured_dispersion=measured,
        dependence=dependence,
        dependence_limit=limit,
        arrivals=tuple(sorted(fits, key=lambda fit: fit.score)),
        lengths=_fit_lengths(columns, by_prompt, dependence > limit, seed),
    )


def _arrival_candidates(rate: float, gaps: Floats, measured: dict[float, float]) -> list[AnyArrivals]:
    # Equal time stamps only say that the gap is below the clock's resolution.
    positive = np.maximum(gaps, gaps[gaps > 0].min())
    gamma = min(max(_gamma_shape(positive), 1e-4), 1e4)
    candidates: list[AnyArrivals] = [
        Poisson(rate_per_s=rate),
        Gamma(rate_per_s=rate, cv=gamma**-0.5),
        Weibull(rate_per_s=rate, shape=min(max(_weibull_shape(positive), 0.1), 60.0)),
    ]
    mmpp = fit_mmpp(rate, gaps, measured)
    return candidates if mmpp is None else [*candidates, mmpp]


def _gamma_shape(gaps: Floats) -> float:
    """Maximum likelihood shape: ``ln k - digamma(k) = ln(mean) - mean(ln)``, by bisection on log k."""
    from scipy.special import digamma

    target = math.log(gaps.mean()) - float(np.log(gaps).mean())
    low, high = math.log(1e-4), math.log(1e4)
    for _ in range(60):
        middle = 0.5 * (low + high)
        if middle - float(digamma(math.exp(middle))) > target:
            low = middle
        else:
            high = middle
    return math.exp(0.5 * (low + high))


def _weibull_shape(gaps: Floats) -> float:
    """Maximum likelihood shape: ``sum(x**k ln x) / sum(x**k) - 1/k = mean(ln x)``, by bisection on log k."""
    logs = np.log(gaps / gaps.max())
    low, high = math.log(0.05), math.log(100.0)
    for _ in range(60):
        middle = 0.5 * (low + high)
        shape = math.exp(middle)
        powers = np.exp(shape * logs)
        if float((powers * logs).sum() / powers.sum()) - 1 / shape < float(logs.mean()):
            low = middle
        else:
            high = middle
    return math.exp(0.5 * (low + high))


def _diurnal(times: Floats, points: int) -> Diurnal:
    """Rate profile with ``points`` even points: the least squares projection of the arrivals on hat functions."""
    edges = np.linspace(0.0, times[-1], points)
    width = edges[1]
    place = times / width
    left = np.minimum(place.astype(np.int64), points - 2)
    weight = np.bincount(left, 1 - (place - left), points) + np.bincount(left + 1, place - left, points)
    overlap = np.diag(np.full(points, 2 / 3)) + np.diag(np.full(points - 1, 1 / 6), 1)
    overlap += np.diag(np.full(points - 1, 1 / 6), -1)
    overlap[0, 0] = overlap[-1, -1] = 1 / 3
    rates = np.maximum(np.linalg.solve(overlap * width, weight), 0.0)
    # Where negative rates were cut, the total is too high.
    rates *= len(times) / float(((rates[1:] + rates[:-1]) * 0.5 * width).sum())
    return Diurnal(profile=tuple(zip(edges.tolist(), rates.tolist(), strict=True)))


def _compare_arrivals(
    process: AnyArrivals, gaps: Floats, measured: dict[float, float], seed: np.random.SeedSequence
) -> ArrivalFit:
    """Simulate the process and compare gaps and dispersions with the trace's."""
    parts: list[Floats] = []
    for part in process.arrivals(named_generator(seed, f"fit {process.kind}")):
        parts.append(part)
        if sum(map(len, parts)) >= _SIMULATED:
            break
    times = np.concatenate(parts)
    fitted = {window: dispersion(times, window) or 0.0 for window in measured}
    gap_distance = distribution_distance(gaps, np.diff(times))
    ratios = [abs(math.log(max(fitted[window], 1e-3) / max(value, 1e-3))) for window, value in measured.items()]
    score = (float(np.mean(ratios)) if ratios else 0.0) + gap_distance
    return ArrivalFit(process=process, gap_distance=gap_distance, dispersion=fitted, score=score)


def distribution_distance(first: Floats | Ints, second: Floats | Ints) -> float:
    """Kolmogorov-Smirnov distance of two samples: the largest difference of their distribution functions."""
    points = np.unique(np.concatenate([first, second]))
    below_first = np.searchsorted(np.sort(first), points, side="right") / len(first)
    below_second = np.searchsorted(np.sort(second), points, side="right") / len(second)
    return float(np.abs(below_first - below_second).max())


def _outputs_by_prompt(columns: TraceColumns) -> list[Ints]:
    """Output lengths in equally large classes from the shortest prompts to the longest."""
    classes = min(_MOST_CLASSES, max(1, len(columns.prompt_tokens) // _ROWS_PER_CLASS))
    return np.array_split(columns.output_tokens[np.argsort(columns.prompt_tokens, kind="stable")], classes)


def _fit_lengths(
    columns: TraceColumns, by_prompt: list[Ints], dependent: bool, seed: np.random.SeedSequence
) -> tuple[LengthFit, ...]:
    """All generators, the chosen one first."""
    prompt, output = columns.prompt_tokens, columns.output_tokens
    candidates: dict[str, IndependentLengths | ConditionalLengths] = {
        "lognormal": IndependentLengths(prompt=_lognormal(prompt), output=_lognormal(output)),
        "empirical": IndependentLengths(
            prompt=EmpiricalLength(quantiles=_quantiles(prompt)), output=EmpiricalLength(quantiles=_quantiles(output))
        ),
        "conditional": ConditionalLengths(
            prompt=_quantiles(prompt), output_given_prompt=tuple(_quantiles(part) for part in by_prompt)
        ),
    }
    fits = []
    for name, lengths in candidates.items():
        drawn = lengths.sample(named_generator(seed, f"fit {name}"), _SIMULATED)
        fits.append(
            LengthFit(
                name=name,
                lengths=lengths,
                prompt_distance=distribution_distance(prompt, drawn[0]),
                output_distance=distribution_distance(output, drawn[1]),
            )
        )
    simple = max(fits[0].prompt_distance, fits[0].output_distance) <= _LENGTHS_DISTANCE
    chosen = "conditional" if dependent else "lognormal" if simple else "empirical"
    return tuple(sorted(fits, key=lambda fit: fit.name != chosen))


def _lognormal(lengths: Ints) -> LognormalLength:
    logs = np.log(lengths)
    return LognormalLength(
        median=math.exp(float(logs.mean())),
        sigma=float(logs.std()),
        minimum=int(lengths.min()),
        maximum=int(lengths.max()),
    )


def _quantiles(lengths: Ints) -> Quantiles:
    """Quantile table at fixed probabilities."""
    return tuple(zip(_LEVELS, np.quantile(lengths, _LEVELS).tolist(), strict=True))


def plain(config: Any) -> dict[str, Any]:
    """A generator's configuration as plain values with six significant digits, without unset fields."""
    values: dict[str, Any] = _rounded(asdict(config))
    return values


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items() if item is not None}
    if isinstance(value, list | tuple):
        return [_rounded(item) for item in value]
    if isinstance(value, float):
        short = float(f"{value:.6g}")
        return int(short) if short.is_integer() and abs(short) < 1e6 else short
    return value
