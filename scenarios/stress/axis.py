"""An axis of stress: one thing that gets worse, by how much, and to what."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from latency_models.errors import check_finite, invalid
from scenarios.schema import Scenario

Unit = Literal["x", "s", ""]
"""Of an axis's values: a factor, seconds, or none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """One way in which the world differs from what a plan was made for.

    Parameters
    ----------
    name : str
        As the user spells it.
    words : str
        What follows the value in a sentence, such as "1.31x" "the load".
    unit : {"x", "s", ""}
        See :data:`Unit`.
    neutral : float
        Value that changes nothing.
    furthest : float
        Where a search ends if the plan still holds; above ``neutral``.
    limit : float
        Largest value that makes sense.
    stressed : callable
        A deployed scenario at a value, for one target.
    least : float, optional
        How far to search below ``neutral`` if the plan is broken there; default: not at all.
    targets : callable, optional
        What it may happen to, in a deployed scenario; default: the whole of it.
    compresses_time : bool
        Whether the same requests arrive in 1/value of the time, so that windows of a trace must be shorter.
    """

    name: str
    words: str
    unit: Unit
    neutral: float
    furthest: float
    limit: float
    stressed: Callable[[Scenario, float, str], Scenario]
    least: float | None = None
    targets: Callable[[Scenario], Sequence[str]] | None = None
    compresses_time: bool = False

    def at(self, scenario: Scenario, value: float, target: str = "") -> Scenario:
        """The deployed scenario at a value of the axis.

        Raises
        ------
        InputError
            The axis has no effect in it, or the value makes no sense.
        """
        check_finite(f"value of {self.name}", value)
        lowest = self.neutral if self.least is None else self.least
        if not lowest <= value <= self.limit:
            raise invalid(f"value of {self.name}", value, f"{lowest:g} to {self.limit:g}{self.unit}")
        return self.stressed(scenario, value, target)

    def text(self, value: float) -> str:
        """A value with its unit."""
        return f"{value:.3g}{'x' if self.unit == 'x' else ' s' if self.unit == 's' else ''}"
