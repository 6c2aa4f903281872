"""Changes to a stream of requests: cut, speed up, thin, make burstier, repeat, merge, cap, lengthen.

A transform is a frozen configuration with one method, ``apply``, which maps a source of chunks to a stream of chunks.
All of them stream; what each holds in memory is said where it is more than a chunk.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, Protocol

import numpy as np
from pydantic import Field

from latency_models.errors import InputError, check_count, check_finite, invalid
from scenarios.workloads.request_chunks import (
    ChunkSource,
    Floats,
    arrivals,
    concatenate,
    output_lengths,
    prompt_lengths,
    rename,
    resize,
    select,
    slice_rows,
    sort_by_arrival,
    with_columns,
)
from sim.random_streams import named_generator, named_seed
from sim.workload import RequestChunk, Segment

_STRICT: dict[str, Any] = {"extra": "forbid"}


class Transform(Protocol):
    """One change to a stream of requests."""

    def apply(self, source: ChunkSource, seed: np.random.SeedSequence) -> Iterator[RequestChunk]:
        """The changed stream; ``seed`` is the parent of the random choices, if there are any."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Requests that arrive from ``start_s`` (included) to ``end_s`` (excluded), with ``start_s`` as the new time 0."""

    kind: Literal["window"] = "window"
    start_s: float = 0.0
    end_s: float
    __pydantic_config__: ClassVar[Any] = _STRICT

    def __post_init__(self) -> None:
        check_finite("start_s", self.start_s)
        if not check_finite("end_s", self.end_s) > self.start_s:
            raise invalid("end_s", self.end_s, f"a time after start_s ({self.start_s:g})")

    def apply(self, source: ChunkSource, seed: np.random.SeedSequence) -> Iterator[RequestChunk]:
        """The requests within the window."""
        for chunk in source():
            times = arrivals(chunk)
            start, stop = (int(row) for row in np.searchsorted(times, (self.start_s, self.end_s), side="left"))
            if stop > start:
                kept = slice_rows(chunk, start, stop)
                yield with_columns(kept, arrival_s=times[start:stop] - self.start_s)
            if stop < len(times):
                return


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaleRate:
    """Multiply the request rate by ``factor``.

    By ``method``: ``compress`` divides all arrival times by it (a factor below 1 stretches them); ``thin`` keeps each
    request with that probability, so that the timing of bursts stays and the factor must be below 1.
    """

    kind: Literal["scale-rate"] = "scale-rate"
    factor: float
    method: Literal["compress", "thin"] = "compress"
    __pydantic_config__: ClassVar[Any] = _STRICT

    def __post_init__(self) -> None:
        check_finite("factor", self.factor, exclusive=True)
        if self.method not in ("compress", "thin"):
            raise invalid("method", self.method, "compress or thin")
        if self.method == "thin" and self.factor >= 1:
            raise invalid(
                "factor", self.factor, "a number below 1 with method: thin", "Use method: compress to raise the rate."
            )

    def apply(self, source: ChunkSource, seed: np.random.SeedSequence) -> Iterator[RequestChunk]:
        """The faster, slower or thinner stream."""
        rng = named_generator(seed, "thinning")
        for chunk in source():
            if self.method == "compress":
                yield with_columns(chunk, arrival_s=arrivals(chunk) / self.factor)
                continue
            keep = rng.random(len(chunk.arrival_s)) < self.factor
            if keep.any():
                yield select(chunk, keep)


@dataclass(frozen=True, slots=True, kw_only=True)
class MagnifyBursts:
    """Make bursts denser and lulls longer at constant mean rate.

    Time is divided into windows of ``window_s`` seconds.  In each, every gap between arrivals (and from the window's
    start to the first arrival, and from the last one to its end) is raised to the power ``factor``, and all are scaled
    so that they fill the window as before.  Every window keeps its requests, their order and its duration, so the mean
    rate of every window is unchanged.  Exponential gaps become Weibull gaps with shape ``1 / factor``; 1 changes
    nothing, 0 spaces the requests of a window evenly.  Holds the requests of one window in memory.
    """

    kind: Literal["magnify-bursts"] = "magnify-bursts"
    factor: float
    window_s: float = 300.0
    __pydantic_config__: ClassVar[Any] = _STRICT

    def __post_init__(self) -> None:
        if check_finite("factor", self.factor) > 10:
            raise invalid("factor", self.factor, "a number from 0 to 10")
        check_finite("window_s", self.window_s, exclusive=True)

    def apply(self, source: ChunkSource, seed: np.random.SeedSequence) -> Iterator[RequestChunk]:
        """The burstier (or, below 1, calmer) stream."""
        pending: list[RequestChunk] = []
        index = 0
        for chunk in source():
            window = np.floor_divide(arrivals(chunk), self.window_s).astype(np.int64)
            cuts = np.flatnonzero(np.diff(window)) + 1
            for start, stop in zip([0, *cuts.tolist()], [*cuts.tolist(), len(window)], strict=True):
                if pending and window[start] != index:
                    yield from self._rescaled(pending, index, last=False)
                    pending = []
                index = int(window[start])
                pending.append(slice_rows(chunk, start, stop))
        if pending:
            yield from self._rescaled(pending, index, last=True)

    def _rescaled(self, chunks: list[RequestChunk], index: int, *, last: bool) -> Iterator[RequestChunk]:
        chunk = concatenate(chunks)
        times = arrivals(chunk)
        start = index * self.window_s
        # The last window ends with its last request: nothing is known of the lull after it.
        end = float(times[-1]) if last else start + self.window_s
        edges = np.concatenate(([start], times, [] if last else [end]))
        gaps = np.maximum(np.diff(edges), 0.0)
        if end <= start or not gaps.any():
            yield from resize([chunk])
            return
        warped = (gaps / gaps.mean()) ** self.factor
        moved = start + np.cumsum(warped)[: len(times)] * ((end - start) / warped.sum())
        # Rounding may carry the sum past the end, into the next window.
        yield from resize([with_columns(chunk, arrival_s=np.minimum(moved, end))])


@dataclass(frozen=True, slots=True, kw_only=True)
class PoissonGaps:
    """The same requests in the same order, with independent exponential gaps in place of their own: a Poisson process.

    ``rate_per_s`` is its rate; at the mean rate of the stream, what changes is its burstiness alone.
    """

    kind: Literal["poisson-gaps"] = "poisson-gaps"
    rate_per_s: float
    __pydantic_config__: ClassVar[Any] = _STRICT

    def __post_init__(self) -> None:
        check_finite("rate_per_s", self.rate_per_s, exclusive=True)

    def apply(self, source: ChunkSource, seed: np.random.SeedSequence) -> Iterator[RequestChunk]:
        """The stream with other arrival times."""
        rng = named_generator(seed, "Poisson gaps")
        last_s = 0.0
        for chunk in source():
            times = last_s + np.cumsum(rng.exponential(1.0 / self.rate_per_s, len(chunk.arrival_s)))
            last_s = float(times[-1]) if len(times) else last_s
            yield with_columns(chunk, arrival_s=times)


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeat:
    """Play the stream ``times`` times, one after the other.

    Copies are ``period_s`` apart; by default the time of the last arrival plus the mean gap.  Later copies have request
    ids and sessions of their own, ending in ``#2``, ``#3`` and so on; their prompts have content of their own too
    (as if other users asked), unless ``same_content``, which makes every copy hit the prefix cache of the first.
    """

    kind: Literal["repeat"] = "repeat"
    times: int
    period_s: float | None = None
    same_content: bool = False
    __pydantic_config__: ClassVar[Any] = _STRICT

    def __post_init__(self) -> None:
        check_count("times", self.times)
        if self.period_s is not None:
            check_finite("period_s", self.period_s, exclusive=True)

    def apply(self, source: ChunkSource, seed: np.random.SeedSequence) -> Iterator[RequestChunk]:
        """All copies; the source is opened anew for each."""
        period = 0.0
        for copy in range(self.times):
            first, last, rows = 0.0, 0.0, 0
            for chunk in source():
                times = arrivals(chunk)
                first, last = (first if rows else float(times[0])), float(times[-1])
                rows += len(times)
                if copy:
                    chunk = rename(chunk, f"{{}}#{copy + 1}".format, content=not self.same_content)
                    times = times + copy * period
                yield with_columns(chunk, arrival_s=times)
            if copy == 0:
                gap = (last - first) / (rows - 1) if rows > 1 else 0.0
                period = last + gap if self.period_s is None else self.period_s
                if period < last:
                    raise invalid("period_s", period, f"at least the time of the last arrival ({last:g})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cap:
    """At most ``requests`` requests, prompts of at most ``prompt_tokens``, outputs of at most ``output_tokens``."""

    kind: Literal["cap"] = "cap"
    requests: int | None = None
    prompt_tokens: int | None = None
    output_tokens: int | None = None
    __pydantic_config__: ClassVar[Any] = _STRICT

    def __post_init__(self) -> None:
        limits = {name: getattr(self, name) for name in ("requests", "prompt_tokens", "output_tokens")}
        if all(limit is None for limit in limits.values()):
            raise InputError("cap needs at least one of requests, prompt_tokens, output_tokens")
        for name, limit in limits.items():
            if limit is not None:
                check_count(name, limit)

    def apply(self, source: ChunkSource, seed: np.random.SeedSequence) -> Iterator[RequestChunk]:
        """The capped stream; longer prompts and outputs are cut, not dropped."""
        left = self.requests
        for chunk in source():
            if left is not None:
                chunk = slice_rows(chunk, 0, left)
                left -= len(chunk.arrival_s)
            if self.prompt_tokens is not None:
                prompt = np.minimum(prompt_lengths(chunk), self.prompt_tokens)
                content = chunk.content and [cut_content(value, self.prompt_tokens) for value in chunk.content]
                chunk = with_columns(chunk, prompt_tokens=prompt, content=content)
            if self.output_tokens is not None:
                chunk = with_columns(chunk, output_tokens=np.minimum(output_lengths(chunk), self.output_tokens))
            yield chunk
            if left == 0:
                return


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaleLengths:
    """Multiply the lengths of answers by ``output_factor``, rounded and at least one token."""

    kind: Literal["scale-lengths"] = "scale-lengths"
    output_factor: float
    __pydantic_config__: ClassVar[Any] = _STRICT

    def __post_init__(self) -> None:
        check_finite("output_factor", self.output_factor, exclusive=True)

    def apply(self, source: ChunkSource, seed: np.random.SeedSequence) -> Iterator[RequestChunk]:
        """The same requests with longer, or below 1 shorter, answers."""
        for chunk in source():
            scaled = np.rint(output_lengths(chunk) * self.output_factor).astype(np.int64)
            yield with_columns(chunk, output_tokens=np.maximum(scaled, 1))


def cut_content(content: tuple[Segment, ...] | None, tokens: int) -> tuple[Segment, ...] | None:
    """The first ``tokens`` tokens of ``content``."""
    if content is None or sum(length for _, length in content) <= tokens:
        return content
    kept: list[Segment] = []
    for name, length in content:
        if tokens <= 0:
            break
        kept.append((name, min(length, tokens)))
        tokens -= length
    return tuple(kept)


def spread_arrivals(
    chunks: Iterable[RequestChunk], spread_s: float, rng: np.random.Generator
) -> Iterator[RequestChunk]:
    """Delay every request by a random time below ``spread_s``, for traces whose clock ticks that coarsely.

    Requests are put back into order of arrival; holds those of the last ``spread_s`` seconds in memory.
    """
    held: list[RequestChunk] = []
    for chunk in chunks:
        times = arrivals(chunk)
        held.append(with_columns(chunk, arrival_s=times + rng.uniform(0.0, spread_s, len(times))))
        waiting = sort_by_arrival(concatenate(held))
        # Nothing that comes later can arrive before the newest original time.
        ready = int(np.searchsorted(arrivals(waiting), times[-1], side="right"))
        if ready:
            yield slice_rows(waiting, 0, ready)
        held = [slice_rows(waiting, ready, len(waiting.arrival_s))]
    yield from resize(held)


def merge(streams: Sequence[Iterator[RequestChunk]]) -> Iterator[RequestChunk]:
    """Merge streams by arrival, holding about one chunk of each; on a tie the earlier stream goes first."""
    heads = [(head, stream) for stream in streams if (head := _next_rows(stream)) is not None]
    while heads:
        bound = min(float(head.arrival_s[-1]) for head, _ in heads)
        ready: list[RequestChunk] = []
        following: list[tuple[RequestChunk, Iterator[RequestChunk]]] = []
        for head, stream in heads:
            times: Floats = arrivals(head)
            rest: RequestChunk | None = head
            stop = int(np.searchsorted(times, bound, side="right"))
            if stop:
                ready.append(slice_rows(head, 0, stop))
                rest = slice_rows(head, stop, len(times)) if stop < len(times) else _next_rows(stream)
            if rest is not None:
                following.append((rest, stream))
        heads = following
        yield sort_by_arrival(concatenate(ready))


def _next_rows(stream: Iterator[RequestChunk]) -> RequestChunk | None:
    """The next chunk that has rows; ``None`` at the end."""
    return next((chunk for chunk in stream if len(chunk.arrival_s)), None)


AnyTransform = Annotated[
    Window | ScaleRate | MagnifyBursts | PoissonGaps | Repeat | Cap | ScaleLengths, Field(discriminator="kind")
]
"""Any transform, told apart by ``kind``."""


def transformed(source: ChunkSource, steps: Sequence[Transform], seed: np.random.SeedSequence) -> ChunkSource:
    """Source with ``steps`` applied in order."""

    def chain(inner: ChunkSource, step: Transform, own: np.random.SeedSequence) -> ChunkSource:
        return lambda: step.apply(inner, own)

    for index, step in enumerate(steps):
        source = chain(source, step, named_seed(seed, f"transform {index}"))
    return source
