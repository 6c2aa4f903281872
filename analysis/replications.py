"""Several replications of one scenario as one summary with confidence intervals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from analysis.statistics import mean_interval
from analysis.summary import Summary


def combine(summaries: Sequence[Summary], *, confidence: float = 0.95) -> Summary:
    """Mean and confidence interval of every number over replications.

    Parameters
    ----------
    summaries : sequence of dict
        At least two, of replications with independent seeds.
    confidence : float
        Probability that an interval covers the true mean (Student t).

    Returns
    -------
    dict
        Shaped like each summary; every number becomes ``{mean, low, high}`` (``low`` and ``high`` are ``None`` where
        fewer than two replications have a value).  Besides, ``replications`` and ``confidence``.
    """
    merged: Summary = _combine(list(summaries), confidence)
    return {"replications": len(summaries), "confidence": confidence, **merged}


def _combine(values: list[Any], confidence: float) -> Any:
    present = [value for value in values if value is not None]
    if not present:
        return None
    if isinstance(present[0], dict):
        keys = dict.fromkeys(key for value in present for key in value)
        return {key: _combine([value.get(key) for value in present], confidence) for key in keys}
    if isinstance(present[0], str):
        return present[0]
    if len(present) < 2:
        return {"mean": float(present[0]), "low": None, "high": None}
    interval = mean_interval([float(value) for value in present], confidence=confidence)
    return {"mean": interval.estimate, "low": interval.low, "high": interval.high}
