"""A figure of the theory beside the same figure simulated, and what is claimed of the two."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from analysis.statistics import Interval, mean_interval
from latency_models.errors import check_finite, invalid
from scenarios.theory.stationary import StationaryRun

CONFIDENCE = 0.99
"""Of the intervals that theory is held against: of a hundred true formulas one falls outside by chance."""

Claim = Literal["agrees", "differs", "none"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One quantity by theory and by simulation."""

    quantity: str
    """What it is, in a few words: ``"mean wait"``."""
    unit: str
    """``"s"``, ``"requests"``, ``"%"``...; empty for plain numbers."""
    theory: float | None = None
    """In that unit; ``None`` where no formula is known, or none is claimed."""
    source: str = ""
    """Formula and reference: ``"Pollaczek-Khinchine [Kleinrock, chapter 5]"``."""
    simulated: Interval | None = None
    """In that unit, over independent replications; ``None`` where nothing was simulated."""
    claim: Claim = "agrees"
    """``"agrees"``: the theory holds here; ``"differs"``: it does not, and the simulation shows it; ``"none"``: the two
    are just set side by side."""
    tolerance: float = 0.0
    """By which share of itself the theory is known to be off here (approximations, time in steps), for ``"agrees"``;
    which share of itself it must be off by at the least, for ``"differs"``."""

    def __post_init__(self) -> None:
        check_finite("tolerance", self.tolerance)
        if self.claim != "none" and (self.theory is None or self.simulated is None):
            raise invalid("claim", self.claim, "'none', for a row without theory or without simulation")

    @property
    def holds(self) -> bool:
        """Whether simulation and theory are to each other as claimed.

        They agree if the interval reaches the theory's value, give or take the tolerance, and differ if it does not.
        """
        if self.claim == "none" or self.theory is None or self.simulated is None:
            return True
        slack = self.tolerance * abs(self.theory)
        meet = self.simulated.low <= self.theory + slack and self.simulated.high >= self.theory - slack
        return meet == (self.claim == "agrees")

    def as_dict(self) -> dict[str, Any]:
        """The same as plain values, for JSON."""
        found = self.simulated
        return {
            "quantity": self.quantity,
            "unit": self.unit,
            "theory": self.theory,
            "source": self.source,
            "simulated": None
            if found is None
            else {"mean": found.estimate, "low": found.low, "high": found.high, "confidence": found.confidence},
            "claim": self.claim,
            "tolerance": self.tolerance,
            "holds": self.holds,
        }


def mean_over(runs: Sequence[StationaryRun], measure: Callable[[StationaryRun], float]) -> Interval:
    """Interval of the mean of what ``measure`` finds in each replication (Student's t, :data:`CONFIDENCE`)."""
    return mean_interval([float(measure(run)) for run in runs], confidence=CONFIDENCE)


def check_rows(rows: Iterable[Row]) -> None:
    """Raise :class:`AssertionError` naming every row whose claim does not hold; notebooks end with it."""
    broken = [row for row in rows if not row.holds]
    if broken:
        texts = [
            f"{row.quantity}: theory {row.theory:.6g} was to be found where it {row.claim}, "
            f"simulation {row.simulated.low:.6g} to {row.simulated.high:.6g} {row.unit}"
            for row in broken
            if row.theory is not None and row.simulated is not None
        ]
        raise AssertionError("; ".join(texts))
