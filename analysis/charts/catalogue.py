"""All charts by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from analysis.charts.chart import Chart
from analysis.charts.latencies import latency_chart
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
}
"""Every kind of chart, in the order of a report."""
