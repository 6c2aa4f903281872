"""All charts by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from analysis.charts.attainment import attainment_chart
from analysis.charts.chart import Chart
from analysis.charts.cluster import cluster_chart
from analysis.charts.comparison import comparison_chart
from analysis.charts.cost import cost_chart
from analysis.charts.frontier import frontier_chart
from analysis.charts.gap import gap_chart
from analysis.charts.latencies import latency_chart
from analysis.charts.load import load_chart
from analysis.charts.promise import promise_chart
from analysis.charts.quality import quality_chart
from analysis.charts.quality_latency import quality_latency_chart
from analysis.charts.stress import stress_chart, stress_map_chart
from analysis.charts.time_parts import time_parts_chart
from analysis.charts.timeline import timeline_chart
from analysis.stored.results import Results


@dataclass(frozen=True, slots=True, kw_only=True)
class ChartKind:
    """A chart that can be made of results."""

    summary: str
    """One line for lists of charts."""
    make: Callable[[Results], Chart]
    """Raises :class:`analysis.charts.chart.NoData` if the results have nothing to show."""


CHARTS: dict[str, ChartKind] = {
    "cluster": ChartKind(summary="What runs on which GPU, and which traffic goes where.", make=cluster_chart),
    "attainment": ChartKind(
        summary="Which share of the requests kept the SLO, by model and class.", make=attainment_chart
    ),
    "latency": ChartKind(summary="Distributions of TTFT, TPOT and E2E by model, with SLO limits.", make=latency_chart),
    "timeline": ChartKind(summary="Arrivals, queues, batches, KV use and latency over time.", make=timeline_chart),
    "time-parts": ChartKind(summary="Where the time of TTFT and E2E goes, part by part.", make=time_parts_chart),
    "quality": ChartKind(summary="Predicted and achieved scores, by model.", make=quality_chart),
    "load": ChartKind(summary="Utilisation, batch, KV cache and queue of each replica.", make=load_chart),
    "cost": ChartKind(summary="Dollars and energy per answer and per token.", make=cost_chart),
    "promise": ChartKind(summary="What a plan promised next to what its simulation showed.", make=promise_chart),
    "quality-latency": ChartKind(summary="Runs side by side: quality against latency.", make=quality_latency_chart),
    "gap": ChartKind(summary="From a plan's promise to the outcome, cause by cause.", make=gap_chart),
    "frontier": ChartKind(summary="Best score over SLO target and over load.", make=frontier_chart),
    "stress": ChartKind(summary="How far a plan holds along each axis.", make=stress_chart),
    "stress-map": ChartKind(summary="How far a plan holds in two directions at once.", make=stress_map_chart),
    "comparison": ChartKind(summary="Routing policies: quality against SLO attainment.", make=comparison_chart),
}
"""Every kind of chart, in the order of a report."""
