"""What co-location costs the simulator: two models on one GPU against the same two on a GPU each."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from statistics import median

from benchmarks.chat import CAPACITY_PER_S, KV_BLOCKS, chat_section
from benchmarks.figures import Figure, Target
from benchmarks.loads import STEP_TIME, generated, replayed
from benchmarks.yardstick import beside_yardstick
from latency_models.catalogue.architectures import find_architecture
from latency_models.catalogue.gpus import find_gpu
from latency_models.laws.steps import StepsStepTime
from latency_models.step_time import StepTimeModel
from scenarios.workloads.config import parse_workload
from sim.cluster import simulate
from sim.cluster_spec import ClusterSpec, ModelSpec, PolicySpec, ReplicaSpec, RunSpec
from sim.results import SimulationResult
from sim.settings import EngineSettings
from sim.sharing.contention import BandwidthContention
from sim.workload import RequestChunk

AT_MOST = Target(at_most=3.0)


def two_models(step_time: StepTimeModel, *, shared: bool) -> ClusterSpec:
    """Two models that take turns, on one GPU that they compete for or on one each."""
    settings = EngineSettings(num_gpu_blocks=KV_BLOCKS)
    models = tuple(
        ModelSpec(
            name=name,
            step_time=step_time,
            replicas=(ReplicaSpec(gpus=(0 if shared else gpu,), settings=settings, memory_share=0.5),),
        )
        for gpu, name in enumerate(("one", "other"))
    )
    return ClusterSpec(
        gpus=1 if shared else 2,
        models=models,
        router=PolicySpec(kind="round-robin"),
        contention=BandwidthContention() if shared else None,
    )


def sharing_figures(requests: int, *, repeats: int) -> Iterator[Figure]:
    """Cost per request on a shared GPU over that on separate ones, the same requests at the same instants."""
    laws: tuple[tuple[str, StepTimeModel, float], ...] = (
        ("linear law", STEP_TIME, 0.4 * CAPACITY_PER_S),
        ("steps law", StepsStepTime(architecture=find_architecture("llama-7b"), gpu=find_gpu("a100-80gb")), 2.0),
    )
    for name, law, rate_per_s in laws:
        chunks = generated(parse_workload(chat_section(requests, 2 * rate_per_s)))
        results: dict[bool, SimulationResult] = {}
        works = [partial(_run, law, chunks, results, shared=shared) for shared in (False, True)]
        timing = beside_yardstick(works * repeats)
        costs = [work_s / yard_s for work_s, yard_s in zip(timing.work_s, timing.timeout_s, strict=True)]
        yield Figure(
            section="shared GPUs",
            case=f"two models, {name}",
            quantity="times the cost of separate GPUs",
            value=median(shared / alone for alone, shared in zip(costs[::2], costs[1::2], strict=True)),
            target=AT_MOST,
            detail=f"{results[True].events / requests:.2f} and {results[False].events / requests:.2f} events per "
            f"request, {median(costs[1::2]) / requests:.0f} and {median(costs[::2]) / requests:.0f} timeouts",
        )


def _run(
    law: StepTimeModel, chunks: list[RequestChunk], results: dict[bool, SimulationResult], *, shared: bool
) -> None:
    spec = two_models(law, shared=shared)
    results[shared] = simulate(spec, replayed(chunks), RunSpec(seed=1, shared_content=False))
