"""Warm-up of a run, detected from its requests."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from analysis.statistics import mser5
from sim.results import SimulationResult

_MIN_REQUESTS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Warmup:
    """Where the warm-up of a run ends."""

    warmup_s: float
    """Arrival time of the first request to keep; 0 if there is nothing to leave out."""
    found: bool
    """False if the run was still drifting halfway through or has too few requests to tell; ``warmup_s`` is 0 then."""


def detect_warmup(result: SimulationResult) -> Warmup:
    """Find the end of the warm-up by MSER-5 on the times to first token, in order of arrival.

    The time to first token follows the backlog more closely than the end-to-end latency, whose variation comes from
    output lengths.  Requests that never got a token are left out of the series.
    """
    ttft_s = result.requests.first_token_s - result.requests.arrival_s
    rows = np.flatnonzero(~np.isnan(ttft_s))
    if len(rows) < _MIN_REQUESTS:
        return Warmup(warmup_s=0.0, found=False)
    cut = mser5(ttft_s[rows])
    if not cut.found or cut.index == 0:
        return Warmup(warmup_s=0.0, found=cut.found)
    return Warmup(warmup_s=float(result.requests.arrival_s[rows[cut.index]]), found=True)
