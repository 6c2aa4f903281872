"""Service level objectives (SLO), spelled as ``vllm bench serve --goodput`` spells them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.metrics import RequestLatencies
from latency_models.errors import InputError, invalid, unknown_name

SLO_METRICS = ("ttft", "tpot", "e2el")
"""Metrics that a request can be held to: time to first token, time per output token, end-to-end latency."""


ROUNDING_S = 1e-9
"""A latency is a difference of clock times; its last digits decide nothing. Results are written to 1e-9 s."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slo:
    """Limits on the latencies of a request, in seconds; ``None`` where there is none.

    Raises
    ------
    InputError
        If a limit is not a positive finite number, or no limit is given.
    """

    ttft_s: float | None = None
    tpot_s: float | None = None
    e2el_s: float | None = None

    def __post_init__(self) -> None:
        limits = {"ttft_s": self.ttft_s, "tpot_s": self.tpot_s, "e2el_s": self.e2el_s}
        for name, limit in limits.items():
            if limit is not None and not (math.isfinite(limit) and limit > 0):
                raise invalid(f"slo {name}", limit, "a positive finite number of seconds")
        if all(limit is None for limit in limits.values()):
            raise InputError("an SLO needs at least one limit, for example 'ttft:500 tpot:50'")

    @classmethod
    def parse(cls, text: str) -> Slo:
        """Read ``"ttft:500 tpot:50 e2el:10000"``: limits in milliseconds, separated by blanks, in any order.

        Raises
        ------
        InputError
            If a metric is unknown or given twice, or a limit is not a positive number.
        """
        limits: dict[str, float] = {}
        for part in text.split():
            metric, colon, limit = part.partition(":")
            if not colon:
                raise invalid("slo", part, "METRIC:MILLISECONDS", "For example 'ttft:500 tpot:50 e2el:10000'")
            if metric not in SLO_METRICS:
                raise unknown_name("SLO metric", metric, SLO_METRICS)
            if metric in limits:
                raise invalid("slo", text, "each metric once", f"Remove one of the limits of {metric!r}")
            limits[metric] = _milliseconds(metric, limit)
        return cls(**{f"{metric}_s": limit / 1e3 for metric, limit in limits.items()})

    @property
    def limits_s(self) -> dict[str, float]:
        """The limits that there are, by ``ttft``, ``tpot`` and ``e2e``."""
        limits = {"ttft": self.ttft_s, "tpot": self.tpot_s, "e2e": self.e2el_s}
        return {latency: limit for latency, limit in limits.items() if limit is not None}

    def __str__(self) -> str:
        limits = zip(SLO_METRICS, (self.ttft_s, self.tpot_s, self.e2el_s), strict=True)
        return " ".join(f"{metric}:{limit * 1e3:g}" for metric, limit in limits if limit is not None)

    def met(self, latencies: RequestLatencies) -> NDArray[np.bool_]:
        """Which requests met every limit.

        A request that did not finish (rejected, timed out, aborted, still running) never did.  A request of a
        single token has no time per output token and keeps that limit.
        """
        met = latencies.finished.copy()
        if self.ttft_s is not None:
            met &= latencies.ttft_s <= self.ttft_s + ROUNDING_S
        if self.tpot_s is not None:
            met &= ~(latencies.tpot_s > self.tpot_s + ROUNDING_S)
        if self.e2el_s is not None:
            met &= latencies.e2e_s <= self.e2el_s + ROUNDING_S
        return met


def _milliseconds(metric: str, text: str) -> float:
    try:
        limit = float(text)
    except ValueError:
        limit = math.nan
    if not (math.isfinite(limit) and limit > 0):
        raise invalid(f"slo {metric}", text, "a positive finite number of milliseconds")
    return limit
