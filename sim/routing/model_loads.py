"""Loads of a model's replicas, as routing policies see them."""

from __future__ import annotations

from collections.abc import Sequence

from sim.clock import Clock
from sim.routing.policies import DOWN
from sim.vllm.engine import Engine


class ModelLoads:
    """Loads of a model's replicas as its balancer sees them: live, or as of a moment ago."""

    def __init__(self, clock: Clock, engines: Sequence[Engine], staleness_s: float) -> None:
        self._clock = clock
        self._engines = engines
        self._staleness_s = staleness_s
        self.live_requests = [0] * len(engines)
        self.live_prompt_tokens = [0] * len(engines)
        self._seen_at_s = -staleness_s
        self._seen_requests: Sequence[int] = self.live_requests
        self._seen_prompt_tokens: Sequence[int] = self.live_prompt_tokens
        self._down: set[int] = set()

    def seen_with(self, staleness_s: float) -> ModelLoads:
        """The same loads as somebody else sees them, as of another moment ago."""
        other = ModelLoads(self._clock, self._engines, staleness_s)
        other.live_requests = other._seen_requests = self.live_requests
        other.live_prompt_tokens = other._seen_prompt_tokens = self.live_prompt_tokens
        other._down = self._down
        return other

    def set_down(self, replica: int, down: bool) -> None:
        """A replica crashes, or returns; health checks are never stale."""
        (self._down.add if down else self._down.discard)(replica)

    def _without_those_down(self, seen: Sequence[int]) -> Sequence[int]:
        return tuple(DOWN if replica in self._down else load for replica, load in enumerate(seen))

    def _refresh(self) -> None:
        if self._clock.now_s - self._seen_at_s >= self._staleness_s:
            self._seen_at_s = self._clock.now_s
            self._seen_requests = tuple(self.live_requests)
            self._seen_prompt_tokens = tuple(self.live_prompt_tokens)

    @property
    def requests(self) -> Sequence[int]:
        """Unfinished requests of each replica."""
        if self._staleness_s:
            self._refresh()
        return self._without_those_down(self._seen_requests) if self._down else self._seen_requests

    @property
    def prompt_tokens(self) -> Sequence[int]:
        """Prompt tokens of the unfinished requests of each replica."""
        if self._staleness_s:
            self._refresh()
        return self._without_those_down(self._seen_prompt_tokens) if self._down else self._seen_prompt_tokens

    def kv_used(self, replica: int) -> float:
        """Share of a replica's KV blocks in use, right now."""
        if replica in self._down:
            return 1.0
        engine = self._engines[replica]
        return engine.used_blocks() / engine.scheduler.pool.total
