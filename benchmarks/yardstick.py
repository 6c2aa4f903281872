"""The yardstick: how long SimPy's own bare ``timeout`` loop takes on this machine, right now."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from statistics import median

import simpy

LOOP_TIMEOUTS = 100_000
"""Timeouts of one measurement: long enough for the clock, short enough to sit between two repeats."""


def _ticker(env: simpy.Environment, timeouts: int) -> Generator[simpy.Event, None, None]:
    for _ in range(timeouts):
        yield env.timeout(1.0)


def timeout_s(timeouts: int = LOOP_TIMEOUTS) -> float:
    """CPU seconds that one bare timeout takes."""
    env = simpy.Environment()
    env.process(_ticker(env, timeouts))
    began = time.process_time()
    env.run()
    return (time.process_time() - began) / timeouts


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Repeats of one piece of work, each with the yardstick beside it."""

    work_s: tuple[float, ...]
    """CPU seconds of each repeat."""
    timeout_s: tuple[float, ...]
    """CPU seconds of a timeout around each repeat."""

    def __post_init__(self) -> None:
        if not self.work_s or len(self.work_s) != len(self.timeout_s):
            raise ValueError("a timing needs at least one repeat, each with its yardstick")

    def timeouts(self, units: int) -> float:
        """Cost of one of ``units`` units of work in timeouts: the median over the repeats."""
        return median(work / yard for work, yard in zip(self.work_s, self.timeout_s, strict=True)) / units

    def best_s(self, units: int) -> float:
        """CPU seconds of one of ``units`` units of work, in the fastest repeat."""
        return min(self.work_s) / units


def beside_yardstick(works: list[Callable[[], object]]) -> Timing:
    """Run each piece of work once, between two measurements of the yardstick.

    CPU time is taken, not wall time: other processes of a shared machine then disturb less, and equally.
    """
    work_s: list[float] = []
    yard_s: list[float] = []
    before_s = timeout_s()
    for work in works:
        gc.collect()
        began = time.process_time()
        work()
        work_s.append(time.process_time() - began)
        after_s = timeout_s()
        yard_s.append((before_s + after_s) / 2)
        before_s = after_s
    return Timing(work_s=tuple(work_s), timeout_s=tuple(yard_s))
