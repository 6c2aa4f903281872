"""Wall time of a whole job by its size, and how it grows."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator, Sequence

from benchmarks.figures import NO_TARGET, Figure, Target

_LINEAR = Target(at_most=1.3)


def growth_figures(
    section: str,
    sizes: Sequence[int],
    seconds: Callable[[int], float],
    *,
    case: str,
    simulated: int = 1,
    largest: int,
    most_s: float,
) -> Iterator[Figure]:
    """Time one job after the other.

    Parameters
    ----------
    section : str
        Of the figures.
    sizes : sequence of int
        Requests, ascending.
    seconds : callable
        Runs the job of a size and returns its wall time.
    case : str
        What the job is; ``{requests}`` stands for its size.
    simulated : int
        Requests that are simulated for each one of the size.
    largest, most_s : int, float
        Up to which size the job may take how long.
    """
    times_s = [seconds(requests) for requests in sizes]
    for requests, time_s in zip(sizes, times_s, strict=True):
        yield Figure(
            section=section,
            case=case.format(requests=f"{requests:,}"),
            quantity="s",
            value=time_s,
            target=Target(at_most=most_s) if requests <= largest else NO_TARGET,
            detail=f"wall time on {os.cpu_count()} cores; {simulated * requests / time_s:,.0f} requests/s",
        )
    for (fewer, fewer_s), (more, more_s) in itertools.pairwise(zip(sizes, times_s, strict=True)):
        yield Figure(
            section=section,
            case=f"{more:,} requests over {fewer:,}",
            quantity="times the time per request",
            value=more_s / more / (fewer_s / fewer),
            target=_LINEAR,
        )
