"""Steps in flight: one mixed batch, or a run of decode-only steps of an unchanged batch, with exact boundaries."""

from __future__ import annotations

import math

from sim.request import Request


class Step:
    """A step, or a run of equal steps, on the GPU.

    Step k (0-based) of a run takes ``first_s + k * growth_s`` of the replica's own time.  The end of step k is one
    closed form from the run's start, in every engine mode, so that modes agree bit for bit.  While the replica runs
    slower (co-tenants, faults), its own time passes slower than the clock: ``anchor_clock_s`` and ``anchor_work_s``
    are the instant of the last change in both.
    """

    __slots__ = (
        "anchor_clock_s",
        "anchor_work_s",
        "blocks_used",
        "decode_context",
        "decode_size",
        "end_s",
        "finishing",
        "first_s",
        "gap_closers",
        "growth_s",
        "limit",
        "logged",
        "number",
        "prefills",
        "scheduled",
        "sequences",
        "slowdown",
        "started_s",
        "tokens",
        "version",
    )

    def __init__(
        self, number: int, decode_size: int, decode_context: int, first_s: float, growth_s: float, limit: int
    ) -> None:
        self.number = number
        """How many steps the replica scheduled before the first one."""
        self.prefills: list[tuple[Request, int, int, bool]] | None = None
        """(request, tokens of the chunk, tokens computed before it, does it emit a token)."""
        self.decode_size = decode_size
        self.decode_context = decode_context
        """Sum over decoding sequences of the context including the new token, in the first step."""
        self.sequences = decode_size
        self.tokens = decode_size
        self.first_s = first_s
        self.growth_s = growth_s
        self.limit = limit
        """For how many steps the law holds."""
        self.scheduled = 1
        """Steps scheduled so far."""
        self.finishing: list[Request] = []
        """Requests whose last token comes at the end of the last step."""
        self.gap_closers: list[Request] | None = None
        """Decoding requests that get a token again after having been skipped."""
        self.blocks_used = 0
        self.slowdown = 1.0
        self.started_s = math.nan
        self.end_s = math.nan
        """End of the last step, once it is over."""
        self.anchor_clock_s = math.nan
        self.anchor_work_s = 0.0
        self.version = -1
        """Version of the decoding batch that it runs; -1 for a mixed step."""
        self.logged = 0

    def start(self, now_s: float, slowdown: float) -> None:
        """The GPU begins the first step."""
        self.started_s = now_s
        self.anchor_clock_s = now_s
        self.slowdown = slowdown

    def end_of(self, steps: int) -> float:
        """Clock time, seconds, at which the first ``steps`` steps are over."""
        return self.anchor_clock_s + (self.work_of(steps) - self.anchor_work_s) * self.slowdown

    def work_of(self, steps: int) -> float:
        """Seconds of the replica's own time that the first ``steps`` steps take."""
        return steps * self.first_s + self.growth_s * (steps * (steps - 1) // 2)

    def change_speed(self, now_s: float, slowdown: float, current: int) -> None:
        """From now on, during step ``current``, the replica's time passes ``slowdown`` times slower than the clock."""
        if self.end_of(current + 1) == now_s:
            # Rounding must not move an end that has been reached.
            self.anchor_work_s = self.work_of(current + 1)
        else:
            self.anchor_work_s += (now_s - self.anchor_clock_s) / self.slowdown
        self.anchor_clock_s = now_s
        self.slowdown = slowdown

    def first_end_from(self, time_s: float, lowest: int, highest: int) -> int:
        """Smallest number of steps in [lowest, highest] that end at or after ``time_s``; ``highest`` if none does."""
        work_s = self.anchor_work_s + (time_s - self.anchor_clock_s) / self.slowdown
        growth_s = self.growth_s
        linear_s = self.first_s - growth_s / 2
        discriminant = linear_s * linear_s + 2 * growth_s * work_s
        if growth_s == 0 or discriminant < 0:
            guess = work_s / self.first_s
        else:
            guess = 2 * work_s / (linear_s + math.sqrt(discriminant))
        steps = min(max(math.ceil(guess), lowest), highest)
        while steps > lowest and self.end_of(steps - 1) >= time_s:
            steps -= 1
        while steps < highest and self.end_of(steps) < time_s:
            steps += 1
        return steps
