"""All charts by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from analysis.charts.chart import Chart
from analysis.charts.comparison import comparison_chart
from analysis.charts.frontier import frontier_chart
from analysis.charts.gap import gap_chart
from analysis.charts.latencies import latency_chart
from analysis.charts.stress import stress_chart, stress_map_chart
from analysis.stored.results import Results


@dataclass(frozen=True, slots=True, kw_only=True)
class ChartKind:
    """A chart that can be made of results."""

    summary: str
    """One line for lists of charts."""
    make: Callable[[Results], Chart]
    """Raises :class:`analysis.charts.chart.NoData` if the results have nothing to show."""


CHARTS: dict[str, ChartKind] = {
    "latency": ChartKind(summary="Distributions of TTFT, TPOT and E2E by model, with SLO limits.", make=latency_chart),
    "gap": ChartKind(summary="From a plan's promise to the outcome, cause by cause.", make=gap_chart),
    "frontier": ChartKind(summary="Best score over SLO target and over load.", make=frontier_chart),
    "stress": ChartKind(summary="How far a plan holds along each axis.", make=stress_chart),
    "stress-map": ChartKind(summary="How far a plan holds in two directions at once.", make=stress_map_chart),
    "comparison": ChartKind(summary="Routing policies: quality against SLO attainment.", make=comparison_chart),
}
"""Every kind of chart, in the order of a report."""
