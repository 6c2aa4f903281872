"""Little's law, L = lambda W."""

from __future__ import annotations

from dataclasses import dataclass

from latency_models.errors import check_finite


@dataclass(frozen=True, slots=True, kw_only=True)
class LittlesLaw:
    """The two sides of L = lambda W, measured independently."""

    mean_in_system: float
    """L: by watching the system."""
    rate_times_sojourn: float
    """lambda W: by watching the requests."""

    @property
    def relative_gap(self) -> float:
        """By how much the sides differ, relative to their mean; 0 if both are zero."""
        middle = (self.mean_in_system + self.rate_times_sojourn) / 2
        return abs(self.mean_in_system - self.rate_times_sojourn) / middle if middle > 0 else 0.0


def littles_law(*, mean_in_system: float, rate_per_s: float, mean_sojourn_s: float) -> LittlesLaw:
    """Hold a measured mean number against a measured rate and mean time [Little, Operations Research 9, 1961]."""
    return LittlesLaw(
        mean_in_system=check_finite("mean_in_system", mean_in_system),
        rate_times_sojourn=check_finite("rate_per_s", rate_per_s) * check_finite("mean_sojourn_s", mean_sojourn_s),
    )
