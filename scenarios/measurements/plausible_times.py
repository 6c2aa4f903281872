"""Times of requests that no server has, which means that they are in another unit than the one that was assumed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from latency_models.errors import InputError, invalid
from scenarios.measurements.schema import Metric
from sim.results import Floats, Ints

_LONGEST_MEDIAN_S = 3600.0
_SHORTEST_MEDIAN_S = 1e-5
_SLOWEST_TPOT_S = 2.0
_FASTEST_TPOT_S = 50e-6
"""Median latencies beyond these are taken for a wrong unit."""
_MOST_ARRIVALS_PER_S = 1000.0
_LEAST_ARRIVALS = 20
"""Requests from which on they have a rate."""
_SAY_SO = (
    "Are its times in another unit? Say so: end the column's name in _s, _ms, _us or _ns; without such an end, give "
    "unit beside the columns of a measurement file, or --unit to calibrate"
)


def check_latencies(
    path: Path,
    measured: Mapping[Metric, Floats],
    columns: Mapping[str, str],
    *,
    tokens: Ints | None = None,
    unit_given: bool,
) -> None:
    """Refuse latencies that can only be in another unit.

    Parameters
    ----------
    path : Path
        The file.
    measured : mapping of str to ndarray
        Latencies in seconds, shape (n,); NaN where there is none.
    columns : mapping of str to str
        Columns of the file by our names, to name in the message.
    tokens : ndarray, shape (n,), optional
        Output tokens, from which a TPOT follows where none was measured.
    unit_given : bool
        Whether the user named the unit, who is then believed about the time of a token.

    Raises
    ------
    InputError
        A median is beyond what a server could take, or beyond the median of what it is a part of.
    """
    medians = {metric: float(np.nanmedian(values)) for metric, values in measured.items() if not _empty(values)}
    for metric, median_s in medians.items():
        if not _SHORTEST_MEDIAN_S <= median_s <= _LONGEST_MEDIAN_S:
            raise invalid(
                f"{path}: median {metric} in seconds, from {_names(metric, columns)}",
                median_s,
                f"{_SHORTEST_MEDIAN_S:g} to {_LONGEST_MEDIAN_S:g}",
                _SAY_SO,
            )
    tpot_s = medians.get("tpot")
    if tpot_s is None and tokens is not None and {"ttft", "e2e"} <= medians.keys():
        later = np.maximum(tokens - 1, 1)
        tpot_s = float(np.nanmedian((measured["e2e"] - measured["ttft"]) / later)) if (tokens > 1).any() else None
    # What follows from means of a few rows may be 0 or less where outputs are short.
    if tpot_s is not None and tpot_s > 0.0 and not unit_given and not _FASTEST_TPOT_S <= tpot_s <= _SLOWEST_TPOT_S:
        raise invalid(
            f"{path}: median tpot in seconds, from {_names('tpot', columns)}",
            tpot_s,
            f"{_FASTEST_TPOT_S:g} to {_SLOWEST_TPOT_S:g}",
            _SAY_SO,
        )
    if "e2e" in medians:
        for part in ("ttft", "tpot"):
            if medians.get(part, 0.0) > 1.01 * medians["e2e"]:
                raise invalid(
                    f"{path}: median {part} in seconds, from {_names(part, columns)}",
                    medians[part],
                    f"at most the median e2e, {medians['e2e']:g}, from {_names('e2e', columns)}",
                    "Are the columns in different units? End their names in _s, _ms, _us or _ns.",
                )


def check_arrivals(path: Path, arrival_s: Floats, name: str) -> None:
    """Refuse arrivals so dense that they can only be in another unit; all at one time is a batch.

    Raises
    ------
    InputError
        More than 1,000 requests arrive per second, but not at once.
    """
    span_s = float(np.ptp(arrival_s))
    if len(arrival_s) < _LEAST_ARRIVALS or span_s == 0.0:
        return
    rate_per_s = len(arrival_s) / span_s
    if rate_per_s > _MOST_ARRIVALS_PER_S:
        raise InputError(
            f"{path}: by {name}, {rate_per_s:,.0f} requests arrive per second; allowed: at most "
            f"{_MOST_ARRIVALS_PER_S:,.0f}. {_SAY_SO}. If they were sent at once, give all of them the same arrival"
        )


def _names(metric: str, columns: Mapping[str, str]) -> str:
    """The column of a latency, or those that it follows from."""
    if metric in columns:
        return f"column {columns[metric]!r}"
    start = ["ttft" if "ttft" in columns else "first_token"] if metric == "tpot" else ["arrival"]
    end = ["first_token"] if metric == "ttft" else ["e2e", "finish", "last_token"]
    used = [columns[name] for name in (*start, *end) if name in columns]
    return f"columns {', '.join(map(repr, used))}"


def _empty(values: Floats) -> bool:
    return bool(np.isnan(values).all())
