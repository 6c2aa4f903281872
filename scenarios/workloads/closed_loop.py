"""Closed-loop traffic: users who wait for an answer, think, and ask again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from latency_models.errors import check_count
from scenarios.workloads.generators import Bounds, PrefixPool, RequestLabels, SharedPrefix
from scenarios.workloads.lengths import MAX_TOKENS, JointLengths
from scenarios.workloads.request_chunks import chunk_of, resize
from scenarios.workloads.think_times import ThinkTime
from sim.random_streams import named_generator
from sim.workload import RequestChunk, RequestSpec, Segment

_DRAWS_PER_BLOCK = 1024


class _Block:
    """Draws of several consecutive rounds for all users; ``left`` counts those not yet used."""

    __slots__ = ("content", "left", "output", "prompt", "think_s")

    def __init__(
        self,
        think_s: list[float],
        prompt: list[int],
        output: list[int],
        content: list[tuple[Segment, ...]] | None,
    ) -> None:
        self.think_s = think_s
        self.prompt = prompt
        self.output = output
        self.content = content
        self.left = len(think_s)


class ClosedLoopTraffic:
    """``users`` users, each with at most one request in the system.

    Every user starts with a think time, so that they do not all arrive at once (unless the think time is constant).
    What user u asks in round k depends on (seed, u, k) only, not on when answers come.

    Parameters
    ----------
    users : int
        How many.
    think_time : ThinkTime
        Time from the end of a request to the user's next one.
    lengths : JointLengths
        Lengths of each request.
    bounds : Bounds
        The first ``requests`` requests by order of issue; no arrival at or after ``duration_s``.
    seed : numpy.random.SeedSequence
        Parent of the streams ``lengths``, ``think times`` and ``prefixes``.
    pool_seed, labels, shared_prefix
        As for :func:`scenarios.workloads.generators.open_loop`.
    client : str
        First part of the request ids; no two clients of a run may have the same.
    """

    def __init__(
        self,
        *,
        users: int,
        think_time: ThinkTime,
        lengths: JointLengths,
        bounds: Bounds,
        seed: np.random.SeedSequence,
        pool_seed: np.random.SeedSequence | None = None,
        labels: RequestLabels | None = None,
        shared_prefix: SharedPrefix | None = None,
        client: str = "client",
    ) -> None:
        self._users = check_count("users", users)
        self._think_time = think_time
        self._lengths = lengths
        self._labels = labels or RequestLabels()
        self._client = client
        self._left = bounds.requests
        self._end_s = float("inf") if bounds.duration_s is None else bounds.duration_s
        self._length_rng = named_generator(seed, "lengths")
        self._think_rng = named_generator(seed, "think times")
        self._prefix_rng = named_generator(seed, "prefixes")
        self._pool = PrefixPool(shared_prefix, client, pool_seed or seed) if shared_prefix else None
        self._rounds = max(1, _DRAWS_PER_BLOCK // users)
        self._drawn = 0
        self._blocks: dict[int, _Block] = {}
        self._running: dict[str, tuple[int, int]] = {}

    def chunks(self) -> Iterator[RequestChunk]:
        """The first request of every user, by arrival."""
        specs = [spec for user in range(self._users) if (spec := self._next(user, 0, 0.0)) is not None]
        if not specs:
            return
        specs.sort(key=lambda spec: spec.arrival_s)
        yield from resize([chunk_of(specs)])

    def follow_ups(self, request_id: str, ended_s: float) -> Iterable[RequestSpec]:
        """The same user's next request, after a think time."""
        place = self._running.pop(request_id, None)
        if place is None:
            return ()
        user, turn = place
        spec = self._next(user, turn + 1, ended_s)
        return () if spec is None else (spec,)

    def _next(self, user: int, turn: int, from_s: float) -> RequestSpec | None:
        """Request of ``user`` in round ``turn``, thought of from ``from_s`` on; ``None`` beyond the bounds."""
        if self._left == 0:
            return None
        index = turn // self._rounds
        while index >= self._drawn:
            self._blocks[self._drawn] = self._draw()
            self._drawn += 1
        block = self._blocks[index]
        row = (turn % self._rounds) * self._users + user
        block.left -= 1
        if block.left == 0:
            del self._blocks[index]
        arrival_s = from_s + block.think_s[row]
        if arrival_s >= self._end_s:
            return None
        if self._left is not None:
            self._left -= 1
        request_id = f"{self._client}:u{user}:{turn}"
        self._running[request_id] = (user, turn)
        labels = self._labels
        return RequestSpec(
            arrival_s,
            block.prompt[row],
            block.output[row],
            request_id,
            labels.model,
            labels.request_class,
            f"{self._client}:u{user}",
            labels.priority,
            None if block.content is None else block.content[row],
            labels.deadline_s,
            labels.cancel_after_s,
        )

    def _draw(self) -> _Block:
        size = self._rounds * self._users
        prompt, output = self._lengths.sample(self._length_rng, size)
        content: list[tuple[Segment, ...]] | None = None
        if self._pool is not None:
            chosen = self._pool.choose(self._prefix_rng, size)
            prompt = np.minimum(prompt + self._pool.lengths[chosen], MAX_TOKENS)
            content = [(self._pool.segments[index],) for index in chosen.tolist()]
        return _Block(
            self._think_time.sample(self._think_rng, size).tolist(), prompt.tolist(), output.tolist(), content
        )
