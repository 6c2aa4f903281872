"""A stretch of a run's time."""

from __future__ import annotations

import math
from dataclasses import dataclass

from latency_models.errors import check_finite, invalid

_ALLOWED = "FROM:TO in seconds on the simulation clock, 0 <= FROM < TO, e.g. 60:120 (TO may be left out: to the end)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """From ``from_s`` to ``to_s``, seconds on the simulation clock; infinity: to the end of the run.

    Raises
    ------
    InputError
        If it is empty, reversed, begins before 0, or an end is not a number.
    """

    from_s: float = 0.0
    to_s: float = math.inf

    def __post_init__(self) -> None:
        check_finite("window.from_s", self.from_s)
        if not self.to_s > self.from_s:
            raise invalid("window", str(self), _ALLOWED)

    @classmethod
    def parse(cls, text: str) -> Window:
        """Read ``FROM:TO``, where one of the two may be left out.

        Raises
        ------
        InputError
            The text is something else.
        """
        begin, separator, end = text.partition(":")
        try:
            from_s, to_s = float(begin or 0), float(end or math.inf)
        except ValueError:
            raise invalid("--window", text, _ALLOWED) from None
        if not separator or not (math.isfinite(from_s) and 0 <= from_s < to_s) or (end and math.isinf(to_s)):
            raise invalid("--window", text, _ALLOWED)
        return cls(from_s=from_s, to_s=to_s)

    def within(self, end_s: float) -> Window:
        """The part of it that lies in a run of ``end_s`` seconds.

        Raises
        ------
        InputError
            It begins only after the run has ended.
        """
        if self.from_s >= end_s:
            raise invalid("window", str(self), f"a beginning before {end_s:g} s, when the run ended")
        return Window(from_s=self.from_s, to_s=min(self.to_s, end_s))

    def __str__(self) -> str:
        return f"{self.from_s:g}:{'' if math.isinf(self.to_s) else f'{self.to_s:g}'}"
