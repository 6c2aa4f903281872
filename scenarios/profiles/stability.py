"""The stability limit of a configuration: up to which offered load its backlog does not grow.

A load is tested by the growth of the number of requests in the system per arrival, in several replications
(:func:`scenarios.profiles.replication.backlog_growth`).  It is 0 on average in a stable system and 1 - capacity / rate
above the limit.  With its 95 % confidence interval, a load is

- *stable* if the interval ends below 1 %: at most that share of the load can be left behind;
- *growing* if it does not, and lies above 1 / sqrt(requests): as every run starts empty, so much growth is seen
  even at the limit itself (a random walk that is reflected at 0, where it starts, ends about sqrt(requests) high);
- *undecided* otherwise: the runs are too short to tell.

The limit is reported as an interval: the highest load that bisection found stable, and the lowest found growing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Sequence
from enum import Enum
from functools import partial

from analysis.statistics import mean_interval
from latency_models.errors import InputError
from scenarios.profiles.offered_load import Load
from scenarios.profiles.replication import RunFigures

Runs = Sequence[RunFigures]
"""The replications of one load."""

_UNNOTICED = 0.01
"""Share of the load that may be left behind without notice."""
_RESOLUTION = 0.01
"""Relative width at which bisection ends."""
_STEP_UP = 3.0
_MOST_STEPS = 40
_MARGIN = 0.05


class Verdict(Enum):
    """What the runs at one load say."""

    STABLE = "stable"
    GROWING = "growing"
    UNDECIDED = "undecided"


def judge(runs: Runs, requests: int) -> Verdict:
    """Test whether the backlog grows in runs of so many requests each; the rule is that of the module."""
    growth = mean_interval([run.growth for run in runs])
    if growth.high < _UNNOTICED:
        return Verdict.STABLE
    return Verdict.GROWING if growth.low > 1.0 / math.sqrt(requests) else Verdict.UNDECIDED


def find_limit(
    start_per_s: float, load_at: Callable[[float], Load], long_load_at: Callable[[float], Load]
) -> Generator[list[Load], list[Runs], tuple[float, float]]:
    """Find the stability limit.

    Parameters
    ----------
    start_per_s : float
        A load to start from, preferably stable.
    load_at, long_load_at : callable
        The load to run at a rate: to find out roughly where the limit is, and to test on which side of it a rate lies.

    Yields
    ------
    list of Load
        To be simulated; the generator is sent the runs of each.

    Returns
    -------
    tuple of float
        Highest stable and lowest growing load, requests/s.

    Raises
    ------
    InputError
        If loads of all sizes are stable, or none is.
    """
    verdicts: dict[float, Verdict] = {}

    def is_not(verdict: Verdict, rate: float) -> Generator[list[Load], list[Runs], bool]:
        if rate not in verdicts:
            load = long_load_at(rate)
            (runs,) = yield [load]
            verdicts[rate] = judge(runs, load.requests)
        return verdicts[rate] is not verdict

    capacity = yield from _rough_capacity(start_per_s, load_at)
    low = yield from _move(capacity * (1 - _MARGIN), 1 - 2 * _MARGIN, partial(is_not, Verdict.STABLE))
    high = yield from _move(capacity * (1 + _MARGIN), 1 + 2 * _MARGIN, partial(is_not, Verdict.GROWING))
    stable, _ = yield from _bisect(low, high, partial(is_not, Verdict.STABLE), holds_below=False)
    _, growing = yield from _bisect(stable, high, partial(is_not, Verdict.GROWING), holds_below=True)
    return stable, growing


_Test = Callable[[float], Generator[list[Load], list[Runs], bool]]


def _rough_capacity(rate: float, load_at: Callable[[float], Load]) -> Generator[list[Load], list[Runs], float]:
    """Raise the load until the backlog grows; what is served then is the capacity, roughly."""
    for _ in range(_MOST_STEPS):
        load = load_at(rate)
        (runs,) = yield [load]
        if judge(runs, load.requests) is Verdict.GROWING:
            return rate * (1.0 - sum(run.growth for run in runs) / len(runs))
        rate *= _STEP_UP
    raise InputError(f"the backlog does not even grow at {rate:g} requests/s; the latency section looks wrong")


def _move(rate: float, factor: float, wrong: _Test) -> Generator[list[Load], list[Runs], float]:
    """Multiply ``rate`` by ``factor`` until it is no longer on the wrong side."""
    for _ in range(_MOST_STEPS):
        is_wrong = yield from wrong(rate)
        if not is_wrong:
            return rate
        rate *= factor
    raise InputError(
        f"the runs cannot tell at which load the backlog grows (last tried: {rate:g} requests/s); "
        "raise profile.requests"
    )


def _bisect(
    low: float, high: float, condition: _Test, *, holds_below: bool
) -> Generator[list[Load], list[Runs], tuple[float, float]]:
    """Narrow down where ``condition`` changes, being ``holds_below`` at ``low`` and the opposite at ``high``."""
    while high - low > _RESOLUTION * high:
        middle = 0.5 * (low + high)
        holds = yield from condition(middle)
        if holds == holds_below:
            low = middle
        else:
            high = middle
    return low, high
