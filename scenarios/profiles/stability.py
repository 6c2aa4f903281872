"""The stability limit of a configuration: up to which offered load its backlog does not grow.

A load is tested by the growth of the number of requests in the system per arrival, in several replications
(:func:`scenarios.profiles.replication.backlog_growth`).  It is 0 on average in a stable system and 1 - capacity / rate
above the limit.  With its 95 % confidence interval, a load is

- *stable* if the interval ends below 1 %: at most that share of the load can be left behind;
- *growing* if it does not, and lies above 1 / sqrt(requests): as every run starts empty, so much growth is seen
  even at the limit itself (a random walk that is reflected at 0, where it starts, ends about sqrt(requests) high);
- *undecided* otherwise: the runs are too short to tell.

The limit is reported as an interval: the highest load that bisection found stable, and the lowest found growing.  While
that is wide, the loads in between are tested again in runs of twice the length, up to a cap.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import partial

from analysis.statistics import mean_interval
from latency_models.errors import InputError
from scenarios.profiles.offered_load import Load
from scenarios.profiles.replication import RunFigures

Runs = Sequence[RunFigures]
"""The replications of one load."""

DOUBLINGS = 2
"""How often runs are made twice as long."""

_UNNOTICED = 0.01
"""Share of the load that may be left behind without notice."""
_RESOLUTION = 0.01
"""Relative width at which bisection ends."""
_WIDE = 0.15
"""Relative width above which an interval is no answer."""
_STEP_UP = 3.0
_MOST_STEPS = 40
_MARGINS = (0.05, 0.1, 0.2, 0.4, 0.8)
"""Relative distances from the rough capacity at which the search for either end begins."""


class Verdict(Enum):
    """What the runs at one load say."""

    STABLE = "stable"
    GROWING = "growing"
    UNDECIDED = "undecided"


@dataclass(frozen=True, slots=True, kw_only=True)
class StabilityLimit:
    """Where the limit lies, and how long the runs were that found it."""

    stable_per_s: float
    growing_per_s: float
    run_requests: int
    """Requests of the longest runs."""

    @property
    def wide(self) -> bool:
        """Whether the interval is too wide to be called a limit."""
        return self.growing_per_s - self.stable_per_s > _WIDE * self.growing_per_s

    @property
    def lengthening(self) -> float:
        """How many times as long the runs would have to be for an interval that is not wide, roughly; 1 if it is not.

        At a load a share e below the capacity a queue forgets within a number of arrivals that goes with 1 / e**2
        (heavy traffic), which a run must exceed to show that the backlog is stationary.
        """
        middle = 0.5 * (self.stable_per_s + self.growing_per_s)
        return max(1.0, ((self.growing_per_s - self.stable_per_s) / middle / _WIDE) ** 2)


def judge(runs: Runs, requests: int) -> Verdict:
    """Test whether the backlog grows in runs of so many requests each; the rule is that of the module."""
    growth = mean_interval([run.growth for run in runs])
    if growth.high < _UNNOTICED:
        return Verdict.STABLE
    return Verdict.GROWING if growth.low > 1.0 / math.sqrt(requests) else Verdict.UNDECIDED


def find_limit(
    start_per_s: float, load_at: Callable[[float], Load], long_load_at: Callable[[float, int], Load]
) -> Generator[list[Load], list[Runs], StabilityLimit]:
    """Find the stability limit.

    Parameters
    ----------
    start_per_s : float
        A load to start from, preferably stable.
    load_at : callable
        The load to run at a rate, to find out roughly where the limit is.
    long_load_at : callable
        The load to run at a rate, to test on which side of the limit it lies; the second argument says how many times
        the length is doubled, 0 to :data:`DOUBLINGS`.

    Yields
    ------
    list of Load
        To be simulated; the generator is sent the runs of each.

    Returns
    -------
    StabilityLimit
        Highest stable and lowest growing load.  It may be wide: then the longest runs could not tell either.

    Raises
    ------
    InputError
        If loads of all sizes are stable.
    """
    capacity, high = yield from _rough_capacity(start_per_s, load_at)
    low, run_requests = 0.0, 1
    for doublings in range(DOUBLINGS + 1):
        verdicts: dict[float, Verdict] = {}
        test = partial(_is, verdicts, long_load_at, doublings)
        stable, growing = partial(test, Verdict.STABLE), partial(test, Verdict.GROWING)
        below, above = ([capacity * (1 + sign * margin) for margin in _MARGINS] for sign in (-1, 1))
        low = yield from _first((rate for rate in below if low < rate < high), stable, low)
        high = yield from _first((rate for rate in above if low < rate < high), growing, high)
        run_requests = long_load_at(high, doublings).requests
        unclear = [rate for rate, verdict in verdicts.items() if verdict is Verdict.UNDECIDED]
        hopeless = bool(unclear) and max(unclear) - min(unclear) > _WIDE * max(unclear)
        if low == 0.0 or (hopeless and doublings < DOUBLINGS):
            continue
        low, _ = yield from _bisect(low, high, stable, holds_below=True)
        _, high = yield from _bisect(low, high, growing, holds_below=False)
        if not StabilityLimit(stable_per_s=low, growing_per_s=high, run_requests=run_requests).wide:
            break
    return StabilityLimit(stable_per_s=low, growing_per_s=high, run_requests=run_requests)


_Test = Callable[[float], Generator[list[Load], list[Runs], bool]]


def _is(
    verdicts: dict[float, Verdict],
    load_at: Callable[[float, int], Load],
    doublings: int,
    verdict: Verdict,
    rate: float,
) -> Generator[list[Load], list[Runs], bool]:
    """Whether the runs at a rate say so; what they say is kept in ``verdicts``."""
    if rate not in verdicts:
        load = load_at(rate, doublings)
        (runs,) = yield [load]
        verdicts[rate] = judge(runs, load.requests)
    return verdicts[rate] is verdict


def _rough_capacity(
    rate: float, load_at: Callable[[float], Load]
) -> Generator[list[Load], list[Runs], tuple[float, float]]:
    """Raise the load until the backlog grows; what is served then is the capacity, roughly.  Both are returned."""
    for _ in range(_MOST_STEPS):
        load = load_at(rate)
        (runs,) = yield [load]
        if judge(runs, load.requests) is Verdict.GROWING:
            return rate * (1.0 - sum(run.growth for run in runs) / len(runs)), rate
        rate *= _STEP_UP
    raise InputError(f"the backlog does not even grow at {rate:g} requests/s; the latency section looks wrong")


def _first(rates: Iterable[float], condition: _Test, otherwise: float) -> Generator[list[Load], list[Runs], float]:
    """The first rate for which ``condition`` holds."""
    for rate in rates:
        holds = yield from condition(rate)
        if holds:
            return rate
    return otherwise


def _bisect(
    low: float, high: float, condition: _Test, *, holds_below: bool
) -> Generator[list[Load], list[Runs], tuple[float, float]]:
    """Narrow down where ``condition`` changes, which holds at ``low`` and not at ``high``, or the other way round."""
    while high - low > _RESOLUTION * high:
        middle = 0.5 * (low + high)
        holds = yield from condition(middle)
        if holds == holds_below:
            low = middle
        else:
            high = middle
    return low, high
