"""Latencies of each request, in the definitions that vLLM's users know."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sim.results import Floats, RequestColumns, Status


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestLatencies:
    """Columns of latencies in seconds, one row per request; NaN where a request never came that far."""

    ttft_s: Floats
    """Time to first token, from arrival."""
    tpot_s: Floats
    """Time per output token after the first: (last - first) / (generated - 1); NaN with fewer than two tokens."""
    e2e_s: Floats
    """From arrival until the last token reached the client; NaN unless finished."""
    queue_s: Floats
    """From arrival until the start of its first step, the API server included."""
    scheduler_queue_s: Floats
    """From when the scheduler received it until the start of its first step."""
    finished: NDArray[np.bool_]

    @classmethod
    def of(cls, requests: RequestColumns, rows: slice = slice(None)) -> RequestLatencies:
        """Latencies of the given rows of ``requests``."""
        arrival_s = requests.arrival_s[rows]
        first_s = requests.first_token_s[rows]
        scheduled_s = requests.scheduled_s[rows]
        finished = requests.status[rows] == Status.FINISHED
        later_tokens = requests.generated_tokens[rows] - 1
        decode_s = requests.last_token_s[rows] - first_s
        tpot_s = np.divide(decode_s, later_tokens, out=np.full(len(decode_s), np.nan), where=later_tokens > 0)
        return cls(
            ttft_s=first_s - arrival_s,
            tpot_s=tpot_s,
            e2e_s=np.where(finished, requests.finish_s[rows] - arrival_s, np.nan),
            queue_s=scheduled_s - arrival_s,
            scheduler_queue_s=scheduled_s - requests.queued_s[rows],
            finished=finished,
        )
