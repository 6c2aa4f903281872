"""The ``router:`` section: what the model router itself costs, and how old its view of the loads is."""

from __future__ import annotations

from analysis.slo import Slo
from scenarios.model_section import StageSection
from scenarios.section import NonNegative

WITHOUT_NAMES = (
    "best-single", "cascade", "fractions", "oracle", "price", "price-adaptive", "random", "round-robin", "slo-aware",
    "threshold",
)  # fmt: skip
"""Built-in routers that take no notice of the model that a request names."""

_WITHOUT_LOADS = ("pinned", *(kind for kind in WITHOUT_NAMES if kind != "oracle"))
"""Built-in routers that look at no load; price-adaptive and slo-aware go by what they have sent and got back."""


class RouterSection(StageSection):
    """The model router as a stage that every request passes first; tokens are those of its prompt."""

    staleness_s: NonNegative = 0.0
    """Age that its view of the loads may reach before it is refreshed."""

    def check(self, kind: str) -> None:
        """Refuse, as pydantic wants it, a staleness that a router of this kind would ignore."""
        if self.staleness_s and kind in _WITHOUT_LOADS:
            raise ValueError(f"router.staleness_s has no effect on {kind}, which looks at no load; leave it out")


def ttft_limit_s(slo: str | None) -> float | None:
    """The limit on the time to first token among a scenario's SLOs, if it has one."""
    return None if slo is None else Slo.parse(slo).ttft_s
