"""The step log of one replica: a row per run of equal steps, spilled to disk when it grows large."""

from __future__ import annotations

import tempfile
from array import array
from collections.abc import Iterator
from typing import IO

import numpy as np

from sim.results import RUN_COLUMNS, Floats
from sim.vllm.step import Step

_WIDTH = len(RUN_COLUMNS)
_SPILL_VALUES = _WIDTH << 17


class RunLog:
    """Rows :data:`sim.results.RUN_COLUMNS` of one replica, in order of time."""

    def __init__(self) -> None:
        self.busy_s = 0.0
        """Total duration of all rows."""
        self._rows = array("d")
        self._spilled: IO[bytes] | None = None
        # Start of a step during which the speed changed: its duration is no longer the law's.
        self._straddle_s: float | None = None

    def open_from_s(self, step: Step) -> float:
        """Start of what is not yet written of ``step``."""
        if self._straddle_s is not None:
            return self._straddle_s
        return step.end_of(step.logged) if step.logged else step.started_s

    def close(self, step: Step, steps: int) -> None:
        """Write the rows of the first ``steps`` steps of a run that are not written yet."""
        if self._straddle_s is not None and step.logged < steps:
            end_s = step.end_of(step.logged + 1)
            self._write(step, self._straddle_s, end_s, end_s - self._straddle_s, 0.0, 1)
            self._straddle_s = None
        count = steps - step.logged
        if count > 0:
            slowdown = step.slowdown
            first_s = (step.first_s + step.logged * step.growth_s) * slowdown
            start_s = step.end_of(step.logged)
            self._write(step, start_s, step.end_of(steps), first_s, step.growth_s * slowdown, count)

    def finish(self, step: Step, steps: int) -> None:
        """Write what is left of a run that ended after ``steps`` steps."""
        if step.logged or self._straddle_s is not None:
            self.close(step, steps)
            self._straddle_s = None
        else:
            # The usual case: nothing written yet, and one speed throughout.
            slowdown = step.slowdown
            self._write(step, step.started_s, step.end_s, step.first_s * slowdown, step.growth_s * slowdown, steps)

    def split(self, step: Step, ended: int) -> None:
        """The speed is about to change while step ``ended`` of the run is in progress."""
        self.close(step, ended)
        if self._straddle_s is None:
            self._straddle_s = step.end_of(ended)

    def lose(self, step: Step, ended: int, now_s: float) -> None:
        """The step after ``ended`` whole ones is lost in progress: it was busy time, and computed nothing."""
        self.close(step, ended)
        start_s = self.open_from_s(step)
        self._straddle_s = None
        if now_s > start_s:
            step.tokens = 0
            self._write(step, start_s, now_s, now_s - start_s, 0.0, 1)

    def _write(self, step: Step, start_s: float, end_s: float, first_s: float, growth_s: float, count: int) -> None:
        self._rows.extend((start_s, first_s, growth_s, count, step.sequences, step.tokens, step.blocks_used))
        step.logged += count
        self.busy_s += end_s - start_s
        if len(self._rows) >= _SPILL_VALUES:
            if self._spilled is None:
                self._spilled = tempfile.TemporaryFile(prefix="routerwise-steps-")  # noqa: SIM115  (lives as long as the log)
            self._rows.tofile(self._spilled)
            self._rows = array("d")

    def chunks(self) -> Iterator[Floats]:
        """The rows, in arrays of shape (n, 7)."""
        if self._spilled is not None:
            self._spilled.seek(0)
            while block := self._spilled.read(_SPILL_VALUES * 8):
                yield np.frombuffer(block).reshape(-1, _WIDTH)
            self._spilled.seek(0, 2)
        if self._rows:
            yield np.array(self._rows).reshape(-1, _WIDTH)
