"""What results say, in plain sentences with their figures.

A sentence never claims more than the data: a figure of one replication has no interval and decides nothing, and two
figures whose intervals overlap are not said to differ.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from analysis.estimates import Estimate

Standing = Literal["holds", "broken", "undecided", "measured", "promised"]
"""What is known: a limit holds, is broken, or neither was shown; figures without a limit that could be judged; figures
that nothing in the results has tested."""

_WORST_FIRST: tuple[Standing, ...] = ("broken", "undecided", "measured", "promised", "holds")

STANDING_WORDS: dict[str, str] = {
    "holds": "holds",
    "broken": "does not hold",
    "undecided": "undecided",
    "measured": "simulated",
    "promised": "promised",
}
"""How a standing is shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyFigure:
    """A figure that is shown large."""

    label: str
    value: str
    interval: str = ""
    detail: str = ""
    """Its limit or promise."""
    standing: Standing = "measured"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What one result says, the most important first."""

    subject: str
    """What it is about."""
    source: str
    """What it rests on: how many replications and requests."""
    standing: Standing
    headline: str
    figures: tuple[KeyFigure, ...] = ()
    reasons: tuple[str, ...] = ()
    """Why it does not hold, or what to know about it; sentences."""
    caveats: tuple[str, ...] = ()
    """What limits the claim."""


def worst(standings: list[Standing]) -> Standing:
    """The standing of all together: what is broken in one is broken."""
    return min(standings, key=_WORST_FIRST.index)


def judged(estimate: Estimate, limit: float) -> Standing:
    """Where a figure stands against its highest allowed value; without an interval that is not known."""
    if estimate.low is None or estimate.high is None:
        return "measured"
    if estimate.high <= limit:
        return "holds"
    return "broken" if estimate.low > limit else "undecided"


def overlap(one: Estimate, other: Estimate) -> bool | None:
    """Whether two intervals overlap; ``None`` where one is missing."""
    if one.low is None or one.high is None or other.low is None or other.high is None:
        return None
    return one.low <= other.high and other.low <= one.high
