"""Quality against SLO attainment, a point for each policy."""

from __future__ import annotations

from pathlib import Path

from analysis.pictures import picture
from analysis.statistics import Interval
from scenarios.comparisons.compare import PolicyComparison
from sim.routing.policies import MODEL_ROUTERS, is_oracle

_SIZE_IN = (7.0, 4.6)
_MARKERS = "osD^vP*Xph<>"


def can_be_drawn(found: PolicyComparison) -> bool:
    """Whether the policies have both a quality and an attainment."""
    names = {metric.name for metric in found.metrics}
    return "attainment" in names and _quality(found) in names


def plot_comparison(found: PolicyComparison, path: Path) -> None:
    """Draw the mean score of the answers over the share of requests that met the SLO, with their intervals.

    The line joins the policies that no other one beats in both; oracles are none that anybody could use, and stay out.
    """
    import seaborn as sns

    name = _quality(found)
    colours = sns.color_palette("husl", len(found.policies))
    with picture(path, 1, 1, size=_SIZE_IN) as (_, [[axes]]):
        usable = []
        for number, (policy, colour) in enumerate(zip(found.policies, colours, strict=True)):
            met, score = policy.intervals["attainment"], policy.intervals[name]
            point = (100 * met.estimate, score.estimate)
            if not is_oracle(MODEL_ROUTERS.get(policy.kind)):
                usable.append(point)
            axes.errorbar(
                *point,
                xerr=_arms(met, 100.0),
                yerr=_arms(score, 1.0),
                marker=_MARKERS[number % len(_MARKERS)],
                markersize=8,
                linestyle="none",
                color=colour,
                elinewidth=1.0,
                label=policy.label,
            )
        front = sorted(point for point in usable if not any(_beats(other, point) for other in usable))
        axes.plot(*zip(*front, strict=True), color="0.6", linewidth=1.0, linestyle=":", zorder=0)
        kind = "achieved" if name == "achieved" else "predicted"
        axes.set(xlabel=f"requests that met the SLO ({found.slo}), %", ylabel=f"mean {kind} score")
        axes.set_title(f"{found.scenario}: {found.replications} replications", size="medium")
        axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)


def _quality(found: PolicyComparison) -> str:
    return "achieved" if any(metric.name == "achieved" for metric in found.metrics) else "predicted"


def _arms(interval: Interval, scale: float) -> list[list[float]]:
    below, above = interval.estimate - interval.low, interval.high - interval.estimate
    return [[scale * below], [scale * above]]


def _beats(one: tuple[float, float], other: tuple[float, float]) -> bool:
    return one != other and one[0] >= other[0] and one[1] >= other[1]
