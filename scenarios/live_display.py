"""What a long run shows on a terminal while it simulates: how far it is, how fast, and how the cluster does now."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from scenarios.runner import Progress
from scenarios.schema import Scenario
from scenarios.workloads.config import Client, ClosedLoopWorkload, SyntheticWorkload, clients_of
from scenarios.workloads.transforms import ScaleLengths, ScaleRate
from sim.progress import RunProgress

if TYPE_CHECKING:
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

_BETWEEN_UPDATES_S = 0.5
_QUIET_S = 0.5
"""Runs that take less show nothing."""
_RECENT = 1000
"""Requests that the current P95 is of."""
_BAR = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Extent:
    """How long a run will be, as far as its scenario says; ``None`` is not known."""

    replications: int
    seconds: float | None = None
    """Simulated seconds of each replication until the last arrival."""
    requests: int | None = None
    """Requests of each replication."""

    @classmethod
    def of(cls, scenario: Scenario) -> Extent:
        """Extent of a scenario; traces, sessions, and transforms that change the time have none."""
        clients = clients_of(scenario.workload)
        ends_s = [_duration_s(client) for client in clients]
        counts = [
            client.requests if isinstance(client, SyntheticWorkload | ClosedLoopWorkload) else None
            for client in clients
        ]
        seconds = None if None in ends_s else max(end_s for end_s in ends_s if end_s is not None)
        until_s = scenario.run.until_s
        if until_s is not None:
            seconds = until_s if seconds is None else min(until_s, seconds)
        return cls(
            replications=scenario.run.replications,
            seconds=seconds,
            requests=None if None in counts else sum(count for count in counts if count is not None),
        )

    def share(self, replication: int, now_s: float, arrived: int) -> float | None:
        """Share of the whole run that is done; ``None`` if nobody knows how long a replication is."""
        parts = [now_s / self.seconds] if self.seconds and math.isfinite(self.seconds) else []
        parts += [arrived / self.requests] if self.requests else []
        return (replication + min(1.0, max(parts))) / self.replications if parts else None


def _duration_s(client: Client) -> float | None:
    """When a client's requests have all arrived."""
    if not isinstance(client, SyntheticWorkload | ClosedLoopWorkload):
        return None
    transforms = client.transforms if isinstance(client, SyntheticWorkload) else ()
    keeps_time = all(
        isinstance(transform, ScaleLengths) or (isinstance(transform, ScaleRate) and transform.method == "thin")
        for transform in transforms
    )
    return client.duration_s if keeps_time else None


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveFigures:
    """What is shown at one moment."""

    replication: int
    replications: int
    share: float | None
    elapsed_s: float
    """Real seconds since the first replication began."""
    now_s: float
    ended: int
    """Requests that have left, in all replications so far."""
    running: int
    waiting: int
    ttft_p95_s: float | None

    @property
    def left_s(self) -> float | None:
        """Real seconds that the rest takes at the same speed; ``None`` until that can be told."""
        if self.share is None or self.share < 0.01:
            return None
        return self.elapsed_s * (1.0 - self.share) / self.share


def live_lines(figures: LiveFigures, bar: str = "━╌") -> tuple[str, str]:
    """Two lines: progress of the run, and state of the cluster.

    Parameters
    ----------
    figures : LiveFigures
        What is shown.
    bar : str
        The characters of what is done, and of what is not.
    """
    parts = [f"replication {figures.replication + 1}/{figures.replications}"] if figures.replications > 1 else []
    if figures.share is not None:
        filled = round(figures.share * _BAR)
        parts.append(f"{bar[0] * filled}{bar[1] * (_BAR - filled)} {figures.share:.0%}")
    parts.append(f"{figures.ended / figures.elapsed_s if figures.elapsed_s else 0.0:,.0f} requests/s")
    left_s = figures.left_s
    parts.append(f"{_duration(figures.elapsed_s)} so far" if left_s is None else f"{_duration(left_s)} left")
    p95 = "-" if figures.ttft_p95_s is None else f"{figures.ttft_p95_s * 1e3:,.0f} ms"
    return (
        "  ".join(parts),
        f"simulated {figures.now_s:,.0f} s  TTFT P95 {p95} (last {_RECENT:,})  {figures.running:,} running  "
        f"{figures.waiting:,} waiting",
    )


def _duration(seconds: float) -> str:
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    return f"{whole // 60}:{whole % 60:02} min" if whole < 3600 else f"{whole // 3600}:{whole // 60 % 60:02} h"


class LiveDisplay:
    """Shows a run on a console; call it as :data:`scenarios.runner.Progress`.

    Parameters
    ----------
    console : rich.console.Console
        A terminal.
    extent : Extent
        How long the run will be.
    clock : callable
        Real seconds, from any start.
    """

    def __init__(self, console: Console, extent: Extent, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._extent = extent
        self._clock = clock
        self._began_s = clock()
        self._next_s = self._began_s + _QUIET_S
        self._live: Live | None = None
        self._replication = 0
        self._ended_before = 0
        """Requests of earlier replications."""
        self._ended = 0

    def __call__(self, replication: int, run: RunProgress) -> None:
        """Show the state of a replication, unless it was shown a moment ago."""
        if replication != self._replication:
            self._ended_before += self._ended
            self._replication = replication
        self._ended = run.ended
        now_s = self._clock()
        if now_s < self._next_s:
            return
        self._show(self._figures(replication, run, now_s - self._began_s))
        self._next_s = self._clock() + _BETWEEN_UPDATES_S

    def close(self) -> None:
        """Take the display away."""
        if self._live is not None:
            self._live.stop()

    def _figures(self, replication: int, run: RunProgress, elapsed_s: float) -> LiveFigures:
        ttft_s = run.recent_ttft_s(_RECENT)
        return LiveFigures(
            replication=replication,
            replications=self._extent.replications,
            share=self._extent.share(replication, run.now_s, run.arrived),
            elapsed_s=elapsed_s,
            now_s=run.now_s,
            ended=self._ended_before + self._ended,
            running=run.running,
            waiting=run.waiting,
            ttft_p95_s=float(np.percentile(ttft_s, 95)) if len(ttft_s) else None,
        )

    def _show(self, figures: LiveFigures) -> None:
        if self._live is None:
            from rich.live import Live

            self._live = Live(console=self._console, auto_refresh=False, transient=True)
            self._live.start()
        self._live.update(self._text(figures), refresh=True)

    def _text(self, figures: LiveFigures) -> Text:
        from rich.text import Text

        can_draw = "utf" in self._console.encoding
        lines = live_lines(figures, "━╌" if can_draw else "#-")
        return Text("\n".join(lines), no_wrap=True, overflow="ellipsis" if can_draw else "crop")


@contextmanager
def live_display(extent: Extent) -> Iterator[Progress | None]:
    """A display of a run of that extent on a terminal; ``None``, and silence, in a pipe or a file."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console

    display = LiveDisplay(Console(stderr=True, markup=False, highlight=False), extent)
    try:
        yield display
    finally:
        display.close()
