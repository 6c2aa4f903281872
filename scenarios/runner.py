"""Running a scenario: replications, summary, and the run directory."""

from __future__ import annotations

import hashlib
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from analysis.costs import GpuCost, cost_summary
from analysis.replications import combine
from analysis.result_files import (
    require_pyarrow,
    write_outages_csv,
    write_requests_csv,
    write_requests_parquet,
    write_summary,
    write_timeseries_csv,
)
from analysis.slo import Slo
from analysis.stored.cluster import cluster_json
from analysis.stored.json_files import RUN_SCHEMA_VERSION
from analysis.summary import Summary, summarise
from latency_models.errors import InputError
from optimizer.plan import Plan
from scenarios.cluster_gpu import cost_notes, gpu_cost
from scenarios.contention_section import contention_notes
from scenarios.latency_notes import latency_notes
from scenarios.plans.promises import promised_figures
from scenarios.replicated import PreparedScenario, simulate_replication, warmup_s
from scenarios.run_directory import run_directory
from scenarios.scenario_files import dump_scenario
from scenarios.schema import Scenario
from scenarios.workloads.build import trace_digests
from sim.cluster_spec import ClusterSpec, ModelSpec
from sim.progress import RunProgress
from sim.results import SimulationResult

Progress = Callable[[int, RunProgress], None]
"""Called now and then with the number of the replication, and what can be seen of its simulation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """Where and how to keep the results."""

    out: Path | None = None
    """Run directory; ``None`` keeps nothing."""
    overwrite: bool = False
    requests_format: Literal["csv", "parquet"] = "csv"
    vllm_bench_json: Path | None = None
    """Also write the first replication in the keys of ``vllm bench serve``."""
    plan: Plan | None = None
    """The plan that the scenario deploys, to be kept with what it promised next to what came out."""
    rate_per_s: float | None = None
    """Which of the plan's loads, where it has several."""


def run_scenario(
    scenario: Scenario,
    options: RunOptions,
    progress: Progress | None = None,
    note: Callable[[str], None] | None = None,
) -> Summary:
    """Simulate a scenario and write its run directory.

    Parameters
    ----------
    scenario : Scenario
        What to simulate.
    options : RunOptions
        Where and how to keep the results.
    progress : callable, optional
        See :data:`Progress`.
    note : callable, optional
        Told what the user should know but is no error, a line at a time.

    Returns
    -------
    dict
        The summary: of the one replication, or with confidence intervals over several.

    Raises
    ------
    InputError
        The scenario contradicts itself, a trace is unusable, or the run directory exists.
    """
    slo = None if scenario.slo is None else Slo.parse(scenario.slo)
    prepared = PreparedScenario.of(scenario)
    gpu = gpu_cost(scenario)
    for path, columns in prepared.workload.unused_columns.items():
        if note is not None:
            note(f"trace {path}: columns not used: {', '.join(columns)}")
    for model in prepared.cluster.models:
        section = scenario.models[model.name]
        texts = latency_notes(section.latency, model.replicas[0].settings, section.memory)
        for text in (*texts, *(_capacities(model) if section.memory is not None else ())):
            if note is not None:
                note(f"{model.name}: {text}")
    for text in (*contention_notes(prepared.cluster), *cost_notes(scenario)):
        if note is not None:
            note(text)
    _check_outputs(options)
    began = time.time()
    clock = time.perf_counter()
    with run_directory(options.out, overwrite=options.overwrite) as folder:
        summaries: list[Summary] = []
        warmups_s: list[float] = []
        events = 0
        for replication in range(scenario.run.replications):
            report = None if progress is None else partial(progress, replication)
            result = simulate_replication(prepared, replication, progress=report)
            events += result.events
            warmups_s.append(warmup_s(scenario, result))
            summaries.append(_summary(prepared.cluster, result, gpu, slo, warmups_s[-1]))
            if folder is not None:
                _write_replication(_replication_folder(folder, scenario, replication), result, options)
            if options.vllm_bench_json is not None and replication == 0:
                from analysis.vllm_bench import BenchLabels, write_vllm_bench

                date = time.strftime("%Y%m%d-%H%M%S", time.localtime(began))
                labels = BenchLabels(date=date, label=scenario.name)
                write_vllm_bench(_bench_path(options, folder), result, slo=slo, labels=labels)
        summary = summaries[0] if len(summaries) == 1 else combine(summaries)
        if folder is not None:
            text = dump_scenario(scenario)
            (folder / "scenario.yaml").write_text(text, encoding="utf-8")
            write_summary(folder / "summary.json", summary)
            write_summary(folder / "cluster.json", cluster_json(prepared.cluster))
            _write_plan(folder, options, summary)
            manifest = _manifest(scenario, text, began, time.perf_counter() - clock, events)
            write_summary(folder / "manifest.json", manifest | {"warmup_s": warmups_s})
    return summary


def _summary(
    cluster: ClusterSpec, result: SimulationResult, gpu: GpuCost | None, slo: Slo | None, warmup_s: float
) -> Summary:
    """Summary of one replication, with its cost if the GPU's is known."""
    summary = summarise(result, slo=slo, warmup_s=warmup_s, cluster=cluster)
    cost = None
    if gpu is not None:
        cost = cost_summary(result, summary, gpus=cluster.gpus, gpu=gpu, slo=slo, warmup_s=warmup_s)
    return summary | {"cost": cost}


def _write_plan(folder: Path, options: RunOptions, summary: Summary) -> None:
    if options.plan is None:
        return
    (folder / "plan.json").write_text(options.plan.to_json(), encoding="utf-8")
    figures = promised_figures(options.plan, summary, rate_per_s=options.rate_per_s)
    if figures:
        write_summary(folder / "promise.json", {"figures": [asdict(figure) for figure in figures]})


def _capacities(model: ModelSpec) -> list[str]:
    """KV capacity of the replicas that derive it from memory, to be held against the log of a real server."""
    found = {replica.settings.num_gpu_blocks: replica.settings.block_size for replica in model.replicas}
    return [f"{blocks:,} KV blocks, {blocks * size:,} tokens, derived from memory" for blocks, size in found.items()]


def _check_outputs(options: RunOptions) -> None:
    """Find out before the simulation what could not be written after it."""
    if options.requests_format == "parquet":
        require_pyarrow("writing Parquet")
    bench = options.vllm_bench_json
    if bench is not None and not _is_inside(options, bench) and not bench.parent.is_dir():
        raise InputError(f"--vllm-bench-json {bench}: the folder {bench.parent} does not exist; create it first")


def _is_inside(options: RunOptions, path: Path) -> bool:
    return options.out is not None and path.absolute().parent == options.out.absolute()


def _bench_path(options: RunOptions, folder: Path | None) -> Path:
    """Where to write vLLM's JSON; a place inside the run directory is one inside its unfinished double for now."""
    bench = options.vllm_bench_json
    assert bench is not None
    return folder / bench.name if folder is not None and _is_inside(options, bench) else bench


def _replication_folder(folder: Path, scenario: Scenario, replication: int) -> Path:
    if scenario.run.replications == 1:
        return folder
    below = folder / f"replication-{replication}"
    below.mkdir()
    return below


def _write_replication(folder: Path, result: SimulationResult, options: RunOptions) -> None:
    if options.requests_format == "parquet":
        write_requests_parquet(folder / "requests.parquet", result)
    else:
        write_requests_csv(folder / "requests.csv", result)
    write_timeseries_csv(folder / "timeseries.csv", result)
    if len(result.outages):
        write_outages_csv(folder / "outages.csv", result)


def _manifest(scenario: Scenario, text: str, began: float, wall_s: float, events: int) -> dict[str, Any]:
    packages = ("routerwise", "simpy", "numpy", "pydantic")
    return {
        "schema_version": RUN_SCHEMA_VERSION,
        "command": "run",
        "scenario": scenario.name,
        "scenario_sha256": hashlib.sha256(text.encode()).hexdigest(),
        "inputs_sha256": trace_digests(scenario.workload),
        "seed": scenario.seed,
        "replications": scenario.run.replications,
        "versions": {"python": platform.python_version()} | {name: version(name) for name in packages},
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(began)),
        "wall_s": round(wall_s, 3),
        "events": events,
    }
