"""A stage before or after the engine: a first-come-first-served station of a few equal workers.

The API server (HTTP, tokenising) and the detokeniser are such stages.  Work is known when a request arrives, so the
time it leaves is known at once and the stage needs no events of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from heapq import heapify, heapreplace

from latency_models.errors import check_count, check_finite


@dataclass(frozen=True, slots=True, kw_only=True)
class StageSpec:
    """Capacity of a stage.

    Attributes
    ----------
    workers : int
        Requests served at the same time.
    per_request_s, per_token_s : float
        Work of one request, seconds: fixed, and per token of its prompt (before) or output (after the engine).
    """

    workers: int = 1
    per_request_s: float = 0.0
    per_token_s: float = 0.0

    def __post_init__(self) -> None:
        check_count("stage.workers", self.workers)
        check_finite("stage.per_request_s", self.per_request_s)
        check_finite("stage.per_token_s", self.per_token_s)

    @property
    def is_free(self) -> bool:
        """Whether it takes no time at all."""
        return self.per_request_s == 0 and self.per_token_s == 0


class Stage:
    """The state of a stage in one simulation."""

    def __init__(self, spec: StageSpec) -> None:
        self._spec = spec
        self._free_at_s = [0.0] * spec.workers
        heapify(self._free_at_s)

    def leave_time(self, now_s: float, tokens: int) -> float:
        """Take in a request now; return when it leaves the stage."""
        start_s = max(now_s, self._free_at_s[0])
        end_s = start_s + self._spec.per_request_s + self._spec.per_token_s * tokens
        heapreplace(self._free_at_s, end_s)
        return end_s
