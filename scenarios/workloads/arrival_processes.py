"""When requests arrive: Poisson, renewal, Markov-modulated and time-varying processes.

Each process is a frozen configuration with one method, ``arrivals``, which yields arrays of non-decreasing absolute
times in seconds without end.  Chunks grow from small to large, so that a short run does not pay for a long one, and
a longer run starts with the arrivals of a shorter one.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Protocol

import numpy as np
from pydantic import Field

from latency_models.errors import InputError, check_finite, invalid
from scenarios.workloads.request_chunks import ROWS_PER_CHUNK, Floats

_FIRST_CHUNK = 256
_STRICT: dict[str, Any] = {"extra": "forbid"}


class ArrivalProcess(Protocol):
    """Source of arrival times."""

    def arrivals(self, rng: np.random.Generator) -> Iterator[Floats]:
        """Arrays of non-decreasing absolute times in seconds."""
        ...


def chunk_sizes() -> Iterator[int]:
    """Numbers of draws per chunk: doubling up to the usual chunk size."""
    size = _FIRST_CHUNK
    while True:
        yield size
        size = min(2 * size, ROWS_PER_CHUNK)


class _Renewal(ABC):
    """Process with independent gaps of one distribution."""

    __slots__ = ()

    @abstractmethod
    def _gaps(self, rng: np.random.Generator, size: int) -> Floats:
        """Draw so many gaps, seconds."""

    def arrivals(self, rng: np.random.Generator) -> Iterator[Floats]:
        """Arrival times in seconds; the first lies one gap after 0."""
        last = 0.0
        for size in chunk_sizes():
            times = self._gaps(rng, size)
            times[0] += last
            np.cumsum(times, out=times)
            last = float(times[-1])
            yield times


@dataclass(frozen=True, slots=True, kw_only=True)
class Poisson(_Renewal):
    """Exponential gaps, ``rate_per_s`` arrivals per second on average."""

    kind: Literal["poisson"] = "poisson"
    rate_per_s: float
    __pydantic_config__: ClassVar[Any] = _STRICT

    def __post_init__(self) -> None:
        check_finite("rate_per_s", self.rate_per_s, exclusive=True)

    def _gaps(self, rng: np.random.Generator, size: int) -> Floats:
        return rng.exponential(1.0 / self.rate_per_s, size)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gamma(_Renewal):
    """Gamma gaps of mean 1/``rate_per_s`` and coefficient of variation ``cv``: bursty above 1, Poisson at 1."""

    kind: Literal["gamma"] = "gamma"
    rate_per_s: float
    cv: float
    __pydantic_config__: ClassVar[Any] = _STRICT

    def __post_init__(self) -> None:
        check_finite("rate_per_s", self.rate_per_s, exclusive=True)
        check_finite("cv", self.cv, exclusive=True)
        if not 0.01 <= self.cv <= 100:
            raise invalid("cv", self.cv, "a number from 0.01 to 100", "Use kind: deterministic for cv = 0.")

    def _gaps(self, rng: np.random.Generator, size: int) -> Floats:
        shape = self.cv**-2
        return rng.gamma(shape, 1.0 / (shape * self.rate_per_s), size)


@dataclass(frozen=True, slots=True, kw_only=True)
class Weibull(_Renewal):
    """Weibull gaps of mean 1/``rate_per_s``, by coefficient of variation ``cv`` or by ``shape`` (below 1: bursty)."""

    kind: Literal["weibull"] = "weibull"
    rate_per_s: float
    cv: float | None = None
    shape: float | None = None
    __pydantic_config__: ClassVar[Any] = _STRICT

    def __post_init__(self) -> None:
        check_finite("rate_per_s", self.rate_per_s, exclusive=True)
        if (self.cv is None) == (self.shape is None):
            raise InputError("weibull arrivals need exactly one of cv and shape")
        if self.cv is not None and not 0.02 <= check_finite("cv", self.cv, exclusive=True) <= 100:
            raise invalid("cv", self.cv, "a number from 0.02 to 100", "Use kind: deterministic for cv = 0.")
        if self.shape is not None and not 0.1 <= check_finite("shape", self.shape, exclusive=True) <= 60:
            raise invalid("shape", self.shape, "a number from 0.1 to 60")

    def _gaps(self, rng: np.random.Generator, size: int) -> Floats:
        shape = self.shape if self.shape is not None else weibull_shape(self.cv or 0.0)
        return rng.weibull(shape, size) / (self.rate_per_s * math.gamma(1.0 + 1.0 / shape))


def weibull_shape(cv: float) -> float:
    """Shape k of a Weibull distribution with coefficient of variation ``cv``.

    Solves ``cv**2 = Gamma(1 + 2/k) / Gamma(1 + 1/k)**2 - 1`` by bisection on log k; the right side falls with k.
    """
    target = math.log1p(cv * cv)
    low, high = math.log(0.05), math.log(100.0)
    for _ in range(80):
        middle = 0.5 * (low + high)
        inverse = math.exp(-middle)
        if math.lgamma(1.0 + 2.0 * inverse) - 2.0 * math.lgamma(1.0 + inverse) > target:
            low = middle
        else:
            high = middle
    return math.exp(0.5 * (low + high))


@dataclass(frozen=True, slots=True, kw_only=True)
class Deterministic:
    """An arrival every 1/``rate_per_s`` seconds, the first at 0."""

    kind: Literal["deterministic"] = "deterministic"
    rate_per_s: float
    __pydantic_config__: ClassVar[Any] = _STRICT

    def __post_init__(self) -> None:
        check_finite("rate_per_s", self.rate_per_s, exclusive=True)

    def arrivals(self, rng: np.random.Generator) -> Iterator[Floats]:
        """Arrival times in seconds; ``rng`` is not used."""
        first = 0
        for size in chunk_sizes():
            yield np.arange(first, first + size) / self.rate_per_s
            first += size


class RateSegments(NamedTuple):
    """Consecutive time segments with a linear rate in each.

    ``edges_s`` has shape (n + 1,), ``start_rate`` and ``end_rate`` (per second) have shape (n,).
    """

    edges_s: Floats
    start_rate: Floats
    end_rate: Floats


def inhomogeneous_arrivals(segments: Iterator[RateSegments], rng: np.random.Generator) -> Iterator[Floats]:
    """Poisson arrivals of a time-varying rate, by inversion of the cumulative rate.

    A unit-rate Poisson process is mapped through the inverse of the integrated rate (Cinlar, Introduction to
    Stochastic Processes, 1975, section 4.7), which is quadratic within a segment.  Ends with the segments.
    """
    sizes = chunk_sizes()
    points: Floats = np.cumsum(rng.exponential(size=next(sizes)))
    for edges, start_rate, end_rate in segments:
        lengths = np.diff(edges)
        area = 0.5 * (start_rate + end_rate) * lengths
        cumulative = np.concatenate(([0.0], np.cumsum(area)))
        total = float(cumulative[-1])
        while True:
            stop = int(np.searchsorted(points, total, side="left"))
            if stop:
                rest = np.maximum(points[:stop], 0.0)
                row = np.minimum(np.searchsorted(cumulative, rest, side="right") - 1, len(area) - 1)
                rest -= cumulative[row]
                first = start_rate[row]
                slope = np.divide(end_rate[row] - first, lengths[row], where=lengths[row] > 0, out=np.zeros(stop))
                root = first + np.sqrt(np.maximum(first * first + 2.0 * slope * rest, 0.0))
                offset = np.divide(2.0 * rest, root, where=root > 0, out=np.zeros(stop))
                yield np.maximum.accumulate(edges[row] + np.minimum(offset, lengths[row]))
            if stop < len(points):
                points = points[stop:]
                break
            points = points[-1] + np.cumsum(rng.exponential(size=next(sizes)))
        points = points - total


@dataclass(frozen=True, slots=True, kw_only=True)
class MMPP2:
    """Markov-modulated Poisson process with two states, started in equilibrium.

    ``rates_per_s`` are the arrival rates in the two states, ``sojourns_s`` the mean (exponential) times spent in them.
    """

    kind: Literal["mmpp2"] = "mmpp2"
    rates_per_s: tuple[float, float]
    sojourns_s: tuple[float, float]
    __pydantic_config__: ClassVar[Any] = _STRICT

    def __post_init__(self) -> None:
        for rate in self.rates_per_s:
            check_finite("rates_per_s", rate)
        for sojourn in self.sojourns_s:
            check_finite("sojourns_s", sojourn, exclusive=True)
        if not sum(self.rates_per_s) > 0:
            raise invalid("rates_per_s", self.rates_per_s, "two rates, at least one of them above 0")
        cycle = sum(rate * sojourn for rate, sojourn in zip(self.rates_per_s, self.sojourns_s, strict=True))
        if cycle < 1e-3:
            raise InputError(
                f"mmpp2 arrivals change state {1 / cycle:.0f} times per request; allowed: at most 1000. "
                "Make sojourns_s longer, or use kind: poisson, which this is"
            )

    def _segments(self, rng: np.random.Generator) -> Iterator[RateSegments]:
        first = int(rng.random() * sum(self.sojourns_s) >= self.sojourns_s[0])
        rates = np.array([self.rates_per_s[first], self.rates_per_s[1 - first]])
        means = np.array([self.sojourns_s[first], self.sojourns_s[1 - first]])
        start = 0.0
        for cycles in chunk_sizes():
            edges = start + np.concatenate(([0.0], np.cumsum(rng.exponential(np.tile(means, cycles)))))
            rate = np.tile(rates, cycles)
            yield RateSegments(edges, rate, rate)
            start = float(edges[-1])

    def arrivals(self, rng: np.random.Generator) -> Iterator[Floats]:
        """Arrival times in seconds."""
        states, points = rng.spawn(2)
        return inhomogeneous_arrivals(self._segments(states), points)


@dataclass(frozen=True, slots=True, kw_only=True)
class Diurnal:
    """Poisson process whose rate follows a piecewise linear profile.

    ``profile`` lists ``(time_s, rate_per_s)`` from time 0 on, in order; two points at the same time make a jump.
    With ``repeat`` (the default) the profile starts anew at its last time; without, its last rate holds for ever, and
    if that is 0 the arrivals end there.
    """

    kind: Literal["diurnal"] = "diurnal"
    profile: tuple[tuple[float, float], ...]
    repeat: bool = True
    __pydantic_config__: ClassVar[Any] = _STRICT

    def __post_init__(self) -> None:
        if len(self.profile) < 2:
            raise invalid("profile", self.profile, "at least two points [time_s, rate_per_s]")
        for time, rate in self.profile:
            check_finite("profile time_s", time)
            check_finite("profile rate_per_s", rate)
        times, rates = np.array(self.profile, np.float64).T
        if times[0] != 0 or (np.diff(times) < 0).any() or times[-1] <= 0:
            raise invalid("profile", times.tolist(), "times that start at 0, do not fall, and end above 0")
        if not (np.diff(times) * (rates[1:] + rates[:-1])).sum() > 0:
            raise invalid("profile", rates.tolist(), "rates of which at least one is above 0")

    def _segments(self) -> Iterator[RateSegments]:
        times, rates = np.array(self.profile, np.float64).T
        segments = RateSegments(times, rates[:-1], rates[1:])
        if not self.repeat:
            yield segments
            yield from _constant_rate(float(times[-1]), float(rates[-1]))
            return
        period = float(times[-1])
        repeats = max(1, 1024 // len(rates))
        start = 0
        while True:
            offsets = (start + np.arange(repeats)) * period
            edges = (offsets[:, None] + times[:-1]).ravel()
            last = (start + repeats) * period
            yield RateSegments(
                np.append(edges, last), np.tile(segments.start_rate, repeats), np.tile(segments.end_rate, repeats)
            )
            start += repeats

    def arrivals(self, rng: np.random.Generator) -> Iterator[Floats]:
        """Arrival times in seconds."""
        return inhomogeneous_arrivals(self._segments(), rng)


def _constant_rate(start_s: float, rate_per_s: float) -> Iterator[RateSegments]:
    """Segments of one rate without end; nothing if the rate is 0."""
    if rate_per_s == 0:
        return
    length = ROWS_PER_CHUNK / rate_per_s
    rate = np.array([rate_per_s])
    while True:
        yield RateSegments(np.array([start_s, start_s + length]), rate, rate)
        start_s += length


@dataclass(frozen=True, slots=True, kw_only=True)
class SpikeWindow:
    """Extra Poisson traffic of ``extra_rate_per_s`` from ``start_s`` to ``end_s``."""

    start_s: float
    end_s: float
    extra_rate_per_s: float
    __pydantic_config__: ClassVar[Any] = _STRICT

    def __post_init__(self) -> None:
        check_finite("start_s", self.start_s)
        check_finite("extra_rate_per_s", self.extra_rate_per_s, exclusive=True)
        if not check_finite("end_s", self.end_s) > self.start_s:
            raise invalid("end_s", self.end_s, f"a time after start_s ({self.start_s:g})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Spikes:
    """Any process (``base``) plus extra Poisson traffic in ``windows``; overlapping ones add up."""

    kind: Literal["spikes"] = "spikes"
    base: AnyArrivals
    windows: tuple[SpikeWindow, ...]
    __pydantic_config__: ClassVar[Any] = _STRICT

    def __post_init__(self) -> None:
        if not self.windows:
            raise invalid("windows", [], "at least one window {start_s, end_s, extra_rate_per_s}")

    def _segments(self) -> Iterator[RateSegments]:
        ends = [time for window in self.windows for time in (window.start_s, window.end_s)]
        edges = np.unique(np.array([0.0, *ends]))
        rate = np.zeros(len(edges) - 1)
        for window in self.windows:
            rate[(edges[:-1] >= window.start_s) & (edges[:-1] < window.end_s)] += window.extra_rate_per_s
        yield RateSegments(edges, rate, rate)

    def arrivals(self, rng: np.random.Generator) -> Iterator[Floats]:
        """Arrival times in seconds; the base's are those that it has without spikes."""
        base = self.base.arrivals(rng)
        return merge_times(base, inhomogeneous_arrivals(self._segments(), rng.spawn(1)[0]))


def merge_times(*streams: Iterator[Floats]) -> Iterator[Floats]:
    """Merge streams of sorted times into one, holding one chunk of each."""
    heads = [(head, stream) for stream in streams if (head := next(stream, None)) is not None]
    while heads:
        bound = min(head[-1] for head, _ in heads)
        ready: list[Floats] = []
        following: list[tuple[Floats, Iterator[Floats]]] = []
        for head, stream in heads:
            stop = int(np.searchsorted(head, bound, side="right"))
            ready.append(head[:stop])
            rest: Floats | None = head[stop:] if stop < len(head) else next(stream, None)
            if rest is not None:
                following.append((rest, stream))
        heads = following
        yield np.sort(np.concatenate(ready), kind="stable")


AnyArrivals = Annotated[
    Poisson | Gamma | Weibull | Deterministic | MMPP2 | Diurnal | Spikes, Field(discriminator="kind")
]
"""Any arrival process, told apart by ``kind``."""


def at_rate_times(arrivals: AnyArrivals, factor: float) -> AnyArrivals:
    """The process with all rates multiplied: denser at all times, with the same variation and the same states."""
    if isinstance(arrivals, MMPP2):
        first, second = arrivals.rates_per_s
        return replace(arrivals, rates_per_s=(first * factor, second * factor))
    if isinstance(arrivals, Diurnal):
        return replace(arrivals, profile=tuple((time_s, rate * factor) for time_s, rate in arrivals.profile))
    if isinstance(arrivals, Spikes):
        windows = tuple(replace(entry, extra_rate_per_s=entry.extra_rate_per_s * factor) for entry in arrivals.windows)
        return replace(arrivals, base=at_rate_times(arrivals.base, factor), windows=windows)
    return replace(arrivals, rate_per_s=arrivals.rate_per_s * factor)
