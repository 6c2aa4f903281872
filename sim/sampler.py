"""Periodic samples of the live state of the replicas; sampling touches nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sim.clock import OBSERVER, Clock, Occurrence
from sim.cluster_spec import RunSpec
from sim.recorder import Recorder
from sim.replica import Replica


class Sampler:
    """Samples all replicas at even intervals, which double whenever there are too many samples.

    Parameters
    ----------
    clock : Clock
        The simulation's clock.
    replicas : sequence of Replica
        What is sampled.
    recorder : Recorder
        Keeps the samples.
    run : RunSpec
        First interval, and most samples.
    report : callable, optional
        Called at every sample.
    """

    def __init__(
        self,
        clock: Clock,
        replicas: Sequence[Replica],
        recorder: Recorder,
        run: RunSpec,
        report: Callable[[], None] | None,
    ) -> None:
        self._clock = clock
        self._replicas = replicas
        self._recorder = recorder
        self._interval_s = run.sample_interval_s
        self._most = run.max_samples
        self._report = report
        self._busy_s = [0.0] * len(replicas)
        """Seconds that each replica had computed at the last sample."""

    def begin(self) -> None:
        """Put the first sample on the clock."""
        self._clock.at(0.0, OBSERVER, self._on_sample)

    def _on_sample(self, event: Occurrence) -> None:
        now_s = self._clock.now_s
        values: list[float] = []
        for index, replica in enumerate(self._replicas):
            engine = replica.engine
            busy_s = engine.busy_s()
            share = (busy_s - self._busy_s[index]) / self._interval_s if now_s else 0.0
            self._busy_s[index] = busy_s
            values += (
                now_s,
                replica.index,
                engine.running_requests(),
                engine.waiting_requests(),
                engine.used_blocks(),
                replica.total_blocks,
                share,
            )
        recorder = self._recorder
        recorder.sample(values)
        taken = recorder.samples_taken()
        if taken >= self._most and taken % 2 == 1:
            recorder.thin_samples()
            self._interval_s *= 2
        if self._report is not None:
            self._report()
        self._clock.at(now_s + self._interval_s, OBSERVER, self._on_sample)
