"""The plan drawn on the cluster: which shards sit on which GPUs, and which traffic goes where."""

from __future__ import annotations

from collections.abc import Sequence

from analysis.charts.chart import Chart, NoData, Panel, Table
from analysis.charts.deployment import Deployment, deployment_of_plan, deployment_of_run
from analysis.charts.gpu_boxes import gpu_panel
from analysis.charts.style import shortened
from analysis.charts.traffic_flow import traffic_panel
from analysis.stored.results import Results
from analysis.wording import NONE, SHARE, brief, plural


def cluster_chart(results: Results) -> Chart:
    """Traffic and GPUs of each run, and of each plan that is not one of the runs'.

    Raises
    ------
    NoData
        Neither runs nor plans are among the results.
    """
    simulated = [run.plan for run in results.runs]
    deployments = [
        *(deployment_of_run(run) for run in results.runs),
        *(deployment_of_plan(plan) for plan in results.plans if plan.content not in simulated),
    ]
    if not deployments:
        raise NoData("cluster needs a run directory or a plan")
    caption = (
        "Bands: requests, as wide as their share. Boxes: GPUs with the shards on them; the upper bar shows the "
        "share of compute of each (its MPS cap), the lower one its share of memory, and what stays empty is free."
    )
    if any(len(replica.gpus) > 1 for one in deployments for replica in one.replicas):
        caption += " Lines below join the shards of one tensor-parallel replica."
    left_out = list(dict.fromkeys(name for one in deployments for name in one.left_out))
    if left_out:
        caption += f" Not deployed: {', '.join(left_out)}."
    return Chart(
        kind="cluster",
        title=f"The cluster: {deployments[0].name}" if len(deployments) == 1 else "The clusters",
        caption=caption,
        panels=tuple(panel for one in deployments for panel in _panels(one, len(deployments) > 1)),
        table=_table(deployments),
    )


def _panels(deployment: Deployment, named: bool) -> list[Panel]:
    prefix = f"{shortened(deployment.name, 30)}: " if named else ""
    count = plural(deployment.gpus, "GPU")
    title = (
        f"{count}, {deployment.gpu_words}{' each' if deployment.gpus > 1 else ''}" if deployment.gpu_words else count
    )
    return [
        *(traffic_panel(deployment, traffic, prefix + traffic.title) for traffic in deployment.traffics),
        gpu_panel(deployment, prefix + title),
    ]


def _table(deployments: Sequence[Deployment]) -> Table:
    rows = []
    for one in deployments:
        for replica in one.replicas:
            shares = [
                traffic.by_replica.get((replica.model, replica.number)) if traffic.by_replica
                else traffic.by_model[replica.model] if len(one.replicas_of(replica.model)) == 1 else None
                for traffic in one.traffics
            ]  # fmt: skip
            rows.append(
                (
                    one.name,
                    f"{replica.model}/{replica.number}",
                    ", ".join(str(gpu) for gpu in replica.gpus),
                    brief(replica.compute_share, SHARE),
                    brief(replica.memory_share, SHARE),
                    "; ".join(NONE if share is None else brief(share, SHARE) for share in shares),
                )
            )
    columns = ("of", "replica", "GPUs", "compute of each", "memory of each", "requests")
    return Table(columns=columns, rows=tuple(rows))
