"""What a plan does at one value of an axis: verdicts of its SLOs, and which of them is nearest to its limit."""

from __future__ import annotations

import math
from dataclasses import dataclass

from analysis.verdicts import Outcome
from optimizer.problem import SloTarget
from scenarios.validation.slo_verdicts import SloVerdict
from scenarios.validation.validate import Validation


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Point:
    """One validation under stress."""

    value: float
    """Of the axis."""
    validation: Validation

    @property
    def outcome(self) -> Outcome:
        """Of all SLOs together."""
        return self.validation.outcome

    @property
    def weakest(self) -> SloVerdict:
        """The SLO that breaks first: among the broken ones, or all if none is, that with the greatest strain."""
        broken = [slo for slo in self.validation.slos if slo.outcome is Outcome.BROKEN]
        return max(broken or self.validation.slos, key=strain)

    @property
    def strain(self) -> float:
        """That of the weakest SLO."""
        return strain(self.weakest)

    @property
    def score(self) -> float | None:
        """Mean true outcome of the answers; ``None`` where it is not known."""
        found = self.validation.summary["overall"].get("quality", {}).get("achieved")
        return None if found is None else float(found["mean"])

    def slowest_model(self, target: SloTarget) -> str | None:
        """The model at which the statistic of an SLO is greatest; ``None`` if that says nothing."""
        if target.model is not None:
            return target.model
        found = {}
        for name, group in self.validation.summary["by_model"].items():
            statistic = group[f"{target.metric}_s"][target.statistic]
            if isinstance(statistic, dict) and statistic["mean"] is not None:
                found[name] = statistic["mean"]
        return max(found, key=lambda name: found[name]) if len(found) > 1 else None


def strain(slo: SloVerdict) -> float:
    """How much of its limit an SLO uses, by the estimate; above 1 it is missed, infinite if nothing was served in time.

    For a mean the share of unanswered requests counts too, since it has a limit of its own.
    """
    used = max(_of_latency(slo), _of_unanswered(slo))
    return math.inf if math.isnan(used) else used


def is_unanswered(slo: SloVerdict) -> bool:
    """Whether an SLO suffers more from unanswered requests than from slow ones."""
    return _of_unanswered(slo) > _of_latency(slo)


def _of_latency(slo: SloVerdict) -> float:
    return slo.statistic_s.estimate / slo.target.target_s


def _of_unanswered(slo: SloVerdict) -> float:
    return 0.0 if slo.tolerance is None else slo.unanswered.estimate / slo.tolerance
