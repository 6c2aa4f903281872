"""The share of requests that are slower than a target, from the percentiles of a load-latency curve."""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections.abc import Sequence

from latency_models.curves.load_latency import LoadLatencyCurve

Percentiles = tuple[tuple[float, str], ...]
"""Share of slower requests and the name of the statistic, by falling share."""


def known_percentiles(curve: LoadLatencyCurve, metric: str) -> Percentiles:
    """Percentiles of a metric that a curve has: ``((0.1, "ttft_p90_s"), (0.01, "ttft_p99_s"))``."""
    found = []
    for name in curve.statistics:
        match = re.fullmatch(rf"{metric}_p(\d+(?:\.\d+)?)_s", name)
        if match and 0.0 < float(match[1]) < 100.0:
            found.append((round(1.0 - float(match[1]) / 100.0, 10), name))
    return tuple(sorted(found, reverse=True))


def late_share(target_s: float, late: Sequence[float], values_s: Sequence[float]) -> float:
    """Share of the requests that are slower than a target, given some percentiles.

    Between two percentiles the logarithm of the share falls linearly with time, as in an exponential distribution;
    below the first it starts from 1 at time 0.  Of what lies above the last percentile nothing is known but that it is
    slower, so the share is never less than the last one.

    Parameters
    ----------
    target_s : float
    late : sequence of float
        Falling shares: 0.1 for P90, 0.01 for P99.
    values_s : sequence of float
        The percentiles; one that is below its predecessor by noise counts as equal to it.
    """
    times, shares = [0.0], [1.0]
    for share, value in zip(late, values_s, strict=True):
        times.append(max(times[-1], value))
        shares.append(share)
    right = bisect_right(times, target_s)
    if right == len(times):
        return shares[-1]
    passed = (target_s - times[right - 1]) / (times[right] - times[right - 1])
    return math.exp((1.0 - passed) * math.log(shares[right - 1]) + passed * math.log(shares[right]))
