"""Open-loop synthetic traffic: an arrival process, lengths, and what the requests have in common."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from latency_models.errors import InputError, check_count, check_finite, invalid
from scenarios.workloads.arrival_processes import ArrivalProcess
from scenarios.workloads.lengths import MAX_TOKENS, AnyLength, ConstantLength, JointLengths
from scenarios.workloads.request_chunks import Ints, label, make_chunk
from scenarios.workloads.transforms import merge
from sim.random_streams import named_generator
from sim.workload import OpenTraffic, RequestChunk, RequestSpec, Segment, Traffic


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestLabels:
    """What every request of a client carries; ``None`` leaves it out."""

    model: str | None = None
    request_class: str | None = None
    priority: int = 0
    deadline_s: float | None = None
    cancel_after_s: float | None = None

    def __post_init__(self) -> None:
        if self.deadline_s is not None:
            check_finite("deadline_s", self.deadline_s, exclusive=True)
        if self.cancel_after_s is not None:
            check_finite("cancel_after_s", self.cancel_after_s, exclusive=True)

    def on_chunk(self, chunk: RequestChunk) -> RequestChunk:
        """The chunk with these labels."""
        return label(
            chunk,
            model=self.model,
            request_class=self.request_class,
            priority=self.priority,
            deadline_s=self.deadline_s,
            cancel_after_s=self.cancel_after_s,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """Where traffic ends: after ``requests`` requests, or with the last arrival before ``duration_s``."""

    requests: int | None = None
    duration_s: float | None = None

    def __post_init__(self) -> None:
        if self.requests is not None:
            check_count("requests", self.requests)
        if self.duration_s is not None:
            check_finite("duration_s", self.duration_s, exclusive=True)
        if self.requests is None and self.duration_s is None:
            raise InputError("endless traffic needs a bound; give requests or duration_s")


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedPrefix:
    """A pool of prompt beginnings (system prompts) that requests share.

    Parameters
    ----------
    prefixes : int
        Size of the pool.
    tokens : int or length distribution
        Length of each, drawn once per prefix; it comes on top of the request's own prompt length.
    zipf : float
        The k-th prefix is chosen with probability proportional to ``k ** -zipf``; 0 chooses evenly.
    pool : str, optional
        Name of the pool; clients that name the same one share content.  Default: the client's own pool.
    """

    prefixes: int = 1
    tokens: int | AnyLength
    zipf: float = 1.0
    pool: str | None = None
    __pydantic_config__: ClassVar[Any] = {"extra": "forbid"}

    def __post_init__(self) -> None:
        if check_count("prefixes", self.prefixes) > 1_000_000:
            raise invalid("prefixes", self.prefixes, "an integer from 1 to 1000000")
        check_finite("zipf", self.zipf)
        if isinstance(self.tokens, int):
            check_count("tokens", self.tokens)


class PrefixPool:
    """The prefixes of one run and the choice among them."""

    def __init__(self, config: SharedPrefix, client: str, seed: np.random.SeedSequence) -> None:
        pool = config.pool if config.pool is not None else client
        tokens = ConstantLength(tokens=config.tokens) if isinstance(config.tokens, int) else config.tokens
        # The lengths hang on the pool's name, not on the client, so that clients that share a pool share them too.
        self.lengths: Ints = tokens.sample(named_generator(seed, f"prefix-lengths/{pool}"), config.prefixes)
        self.segments: list[Segment] = [
            (f"prefix:{pool}:{index}", length) for index, length in enumerate(self.lengths.tolist())
        ]
        weights = np.arange(1, config.prefixes + 1, dtype=np.float64) ** -config.zipf
        self._cumulative = np.cumsum(weights)

    def choose(self, rng: np.random.Generator, n: int) -> Ints:
        """Indices of ``n`` prefixes, shape (n,)."""
        level = rng.random(n) * self._cumulative[-1]
        chosen: Ints = np.searchsorted(self._cumulative, level, side="right").astype(np.int64)
        return np.minimum(chosen, len(self.segments) - 1)


def open_loop(
    *,
    arrivals: ArrivalProcess,
    lengths: JointLengths,
    bounds: Bounds,
    seed: np.random.SeedSequence,
    pool_seed: np.random.SeedSequence | None = None,
    labels: RequestLabels | None = None,
    shared_prefix: SharedPrefix | None = None,
    client: str = "client",
) -> Iterator[RequestChunk]:
    """Requests that come whether or not earlier ones were answered.

    Parameters
    ----------
    arrivals, lengths
        When they come and how long they are.
    bounds : Bounds
        Where the stream ends.
    seed : numpy.random.SeedSequence
        Parent of this client's streams ``arrivals``, ``lengths`` and ``prefixes``.
    pool_seed : numpy.random.SeedSequence, optional
        Parent of what is shared among clients; default ``seed``.
    labels : RequestLabels, optional
        Model, class, priority and patience of all requests.
    shared_prefix : SharedPrefix, optional
        Common beginnings of the prompts.
    client : str
        Name of the pool when ``shared_prefix`` names none.
    """
    length_rng = named_generator(seed, "lengths")
    prefix_rng = named_generator(seed, "prefixes")
    pool = PrefixPool(shared_prefix, client, seed if pool_seed is None else pool_seed) if shared_prefix else None
    left = bounds.requests
    for times in arrivals.arrivals(named_generator(seed, "arrivals")):
        # Lengths are drawn for the whole chunk even if only a part of it is used: a longer run extends a shorter one.
        prompt, output = lengths.sample(length_rng, len(times))
        rows = len(times) if left is None else min(left, len(times))
        if bounds.duration_s is not None:
            rows = min(rows, int(np.searchsorted(times, bounds.duration_s, side="left")))
        content: list[tuple[Segment, ...] | None] | None = None
        if pool is not None:
            chosen = pool.choose(prefix_rng, len(times))
            prompt = np.minimum(prompt + pool.lengths[chosen], MAX_TOKENS)
            segments = pool.segments
            content = [(segments[index],) for index in chosen[:rows].tolist()]
        if rows:
            chunk = make_chunk(times[:rows], prompt[:rows], output[:rows], content=content)
            yield labels.on_chunk(chunk) if labels else chunk
        if left is not None:
            left -= rows
        if rows < len(times) or left == 0:
            return


class MixtureTraffic:
    """Several clients at once; each keeps its own random streams, so one more client changes none of the others."""

    def __init__(self, clients: Sequence[Traffic]) -> None:
        self._clients = tuple(clients)
        self._waiting = tuple(client for client in clients if not isinstance(client, OpenTraffic))

    def chunks(self) -> Iterator[RequestChunk]:
        """Requests of all clients, by arrival."""
        return merge([client.chunks() for client in self._clients])

    def follow_ups(self, request_id: str, ended_s: float) -> Iterable[RequestSpec]:
        """What the client that sent ``request_id`` sends next; the other clients do not know that id."""
        for client in self._waiting:
            specs = tuple(client.follow_ups(request_id, ended_s))
            if specs:
                return specs
        return ()
