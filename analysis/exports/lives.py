"""What requests went through at one replica: the instants of each start that an answer came from.

A request has one life for each model that answered it; only a cascade asks several.  What a crash made void is not
kept.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sim.results import Floats, Ints, SimulationResult, Status


@dataclass(frozen=True, slots=True, kw_only=True)
class Lives:
    """Columns over lives; times in seconds, NaN where it never came that far."""

    row: Ints
    """Row of the request."""
    model: Ints
    replica: Ints
    """-1 if the router never sent it on."""
    queued_s: Floats
    scheduled_s: Floats
    first_token_s: Floats
    last_token_s: Floats
    """NaN unless all of its answer came: who was given up, or was there when the run ended, was to get more."""
    left_engine_s: Floats
    """Infinity if it was there when the run ended; NaN if it never came there."""

    @classmethod
    def of(cls, result: SimulationResult) -> Lives:
        """The lives behind the answers that came back, passed on or not, and of requests without one."""
        requests, earlier = result.requests, result.rejected_answers
        finished = requests.status == Status.FINISHED
        left_s = np.where(finished, requests.last_token_s, requests.finish_s)
        last_s = np.where(finished, requests.last_token_s, np.nan)
        left_s = np.where(np.isnan(requests.queued_s), np.nan, np.nan_to_num(left_s, nan=np.inf))
        return cls(
            row=np.concatenate([np.arange(len(requests)), earlier[:, 0].astype(np.int64)]),
            model=np.concatenate([requests.model, earlier[:, 1].astype(np.int64)]),
            replica=np.concatenate([requests.replica, earlier[:, 2].astype(np.int64)]),
            queued_s=np.concatenate([requests.queued_s, earlier[:, 3]]),
            scheduled_s=np.concatenate([requests.scheduled_s, earlier[:, 4]]),
            first_token_s=np.concatenate([requests.first_token_s, earlier[:, 5]]),
            last_token_s=np.concatenate([last_s, earlier[:, 6]]),
            left_engine_s=np.concatenate([left_s, earlier[:, 6]]),
        )

    def at(self, replica: int) -> Lives:
        """Those at one replica."""
        return self._select(self.replica == replica)

    def _select(self, chosen: NDArray[np.bool_]) -> Lives:
        return Lives(**{name: getattr(self, name)[chosen] for name in self.__slots__})


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadSteps:
    """How many requests run and wait at a replica, as a step function."""

    time_s: Floats
    """When it changes; strictly rising."""
    running: Ints
    waiting: Ints
    """From each time on."""

    @classmethod
    def of(cls, lives: Lives, preemptions: Floats) -> LoadSteps:
        """Count the lives of one replica, whose rows of :attr:`SimulationResult.preemptions` these are."""
        never = np.isnan(lives.scheduled_s)
        paused_s, resumed_s = preemptions[:, 2], preemptions[:, 3]
        # Who left while preempted leaves the queue, not the batch.
        row_left_s = dict(zip(lives.row.tolist(), lives.left_engine_s.tolist(), strict=True))
        gone = np.isnan(resumed_s)
        gone_s = np.array([row_left_s.get(row, np.nan) for row in preemptions[gone, 1].astype(np.int64).tolist()])
        changes = (
            (lives.queued_s, 0, 1),
            (lives.scheduled_s, 1, -1),
            (lives.left_engine_s[~never], -1, 0),
            (lives.left_engine_s[never], 0, -1),
            (paused_s, -1, 1),
            (resumed_s, 1, -1),
            (gone_s, 1, -1),
        )
        time_s = np.concatenate([times_s for times_s, _, _ in changes])
        running = np.concatenate([np.full(len(times_s), change) for times_s, change, _ in changes])
        waiting = np.concatenate([np.full(len(times_s), change) for times_s, _, change in changes])
        order = np.argsort(time_s, kind="stable")
        order = order[np.isfinite(time_s[order])]
        time_s, running, waiting = time_s[order], np.cumsum(running[order]), np.cumsum(waiting[order])
        last_of_instant = np.append(np.diff(time_s) > 0, True)[: len(time_s)]
        return cls(time_s=time_s[last_of_instant], running=running[last_of_instant], waiting=waiting[last_of_instant])

    def at(self, time_s: float) -> tuple[int, int]:
        """Running and waiting at an instant, what changes there included."""
        index = int(np.searchsorted(self.time_s, time_s, side="right")) - 1
        return (int(self.running[index]), int(self.waiting[index])) if index >= 0 else (0, 0)
