"""Crashes together with everything else that moves requests: prompts, cascades, busy routers, neighbours, deadlines."""

from dataclasses import replace

import numpy as np
import pytest
from cluster_cases import GROWING, traffic
from invariants import check_all
from test_sim_modes import assert_same

from sim.cluster import simulate
from sim.cluster_spec import AdmissionLimit, ClusterSpec, ModelSpec, PolicySpec, ReplicaSpec, RunSpec
from sim.fault_spec import Crash, FaultSpec, RandomCrashes
from sim.prompt_table import PromptTable
from sim.prompts import PromptSpec
from sim.results import Status
from sim.settings import EngineSettings
from sim.sharing.contention import BandwidthContention, CappedContention
from sim.stage import StageSpec
from sim.workload import RequestSpec

NAMES = ("a", "b", "c")


def choice(rng, *values):
    return values[int(rng.integers(len(values)))]


def cluster(rng) -> ClusterSpec:
    table = PromptTable(
        models=NAMES,
        predicted=rng.random((20, 3)),
        outcomes=rng.random((20, 3)),
        output_tokens=rng.integers(1, 30, (20, 3)).astype(float),
    )
    stage = (StageSpec(), StageSpec(), StageSpec(per_request_s=0.003))
    return ClusterSpec(
        gpus=2,
        models=tuple(model(rng, name, stage) for name in NAMES),
        router=choice(rng, PolicySpec(kind="price"), PolicySpec(kind="cascade")),
        router_stage=choice(rng, *stage),
        contention=choice(rng, None, CappedContention(), BandwidthContention()),
        oversized="reject",
        prompts=PromptSpec(table=table, lengths="table"),
        faults=FaultSpec(
            load_s=(0.05, 0.02, 0.1),
            restart_s=0.01,
            crashes=tuple(
                Crash(at_s=1.5 * rng.random(), gpu=int(rng.integers(2)), restart_s=choice(rng, None, None, np.inf))
                for _ in range(3)
            ),
            random_crashes=(RandomCrashes(each="replica", mean_time_between_s=0.5),),
            cold_models=(int(rng.integers(3)),),
            lost_requests=choice(rng, "retry", "reroute", "fail"),
            most_retries=int(rng.integers(4)),
        ),
    )


def model(rng, name, stage) -> ModelSpec:
    settings = EngineSettings(
        max_num_seqs=int(rng.integers(1, 5)),
        num_gpu_blocks=int(rng.integers(12, 60)),
        block_size=4,
        async_scheduling=choice(rng, False, True),
        enable_prefix_caching=choice(rng, False, True),
    )
    return ModelSpec(
        name=name,
        step_time=GROWING,
        replicas=tuple(
            ReplicaSpec(gpus=(gpu,), settings=settings, memory_share=0.33, compute_share=0.6)
            for gpu in range(choice(rng, 1, 2))
        ),
        balancer=PolicySpec(kind=choice(rng, "least-requests", "power-of-two", "random")),
        api_server=choice(rng, *stage),
        detokenise=choice(rng, *stage),
        admission=choice(rng, AdmissionLimit(), AdmissionLimit(max_queue_requests=3)),
    )


def requests(rng) -> list[RequestSpec]:
    return [
        RequestSpec(
            float(arrival_s),
            int(rng.integers(1, 30)),
            5,
            f"r{row}",
            deadline_s=choice(rng, None, None, None, float(rng.random())),
            cancel_after_s=choice(rng, None, None, None, None, float(rng.random())),
        )
        for row, arrival_s in enumerate(np.sort(1.5 * rng.random(25)))
    ]


@pytest.mark.parametrize("seed", range(40))
def test_everything_ends_once_and_alike_in_both_modes(seed):
    rng = np.random.default_rng(seed)
    spec, asked = cluster(rng), requests(rng)
    run = RunSpec(seed=seed, sample_interval_s=0.1)
    result = simulate(spec, traffic(asked), run)
    check_all(result, spec, asked)
    assert_same(result, simulate(spec, traffic(asked), replace(run, mode="reference")))
    assert (result.requests.status != Status.UNFINISHED).all()


def test_the_cases_are_worth_it():
    retried = failed = asked_twice = 0
    for seed in range(10):
        rng = np.random.default_rng(seed)
        columns = simulate(cluster(rng), traffic(requests(rng)), RunSpec(seed=seed)).requests
        retried += int(columns.retries.sum())
        failed += int((columns.status == Status.FAILED).sum())
        asked_twice += int((columns.stages > 1).sum())
    assert min(retried, failed, asked_twice) > 10
