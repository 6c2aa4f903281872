"""Small clusters with workloads that arrive, abort and change speed at awkward moments, for hypothesis."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from hypothesis import strategies as st

from latency_models.laws.linear import LinearStepTime
from latency_models.step_time import StepTimeModel
from latency_models.tables.piecewise import DecodeRow, PiecewiseStepTime, PrefillTable
from sim.cluster_spec import AdmissionLimit, ClusterSpec, ModelSpec, PolicySpec, ReplicaSpec, RunSpec, SpeedChange
from sim.fault_spec import Crash, FaultSpec, RandomCrashes
from sim.prompt_table import PromptTable
from sim.prompts import PromptSpec
from sim.settings import EngineSettings
from sim.stage import StageSpec
from sim.vllm.step_timer import EngineOverhead
from sim.workload import OpenTraffic, RequestChunk, RequestSpec

TICK_S = 1 / 64
"""Step time of the model whose step ends are exact in binary; arrivals are multiples of it, or of parts of it."""

EXACT = LinearStepTime(base_s=TICK_S)
GROWING = LinearStepTime(
    base_s=0.006, per_token_s=2.2e-5, per_sequence_s=2e-5, per_context_token_s=3e-6, per_prefill_pair_s=1e-7
)
LONGEST = LinearStepTime(base_s=0.006, per_context_token_s=3e-6, per_longest_token_s=7e-6, unsplit_seqs=2)
PIECEWISE = PiecewiseStepTime(
    decode=(
        DecodeRow(batch=1, context_tokens=(1, 30, 50, 90), step_s=(0.006, 0.007, 0.009, 0.010)),
        DecodeRow(batch=4, context_tokens=(4, 90, 100, 300), step_s=(0.008, 0.0081, 0.012, 0.02)),
    ),
    prefill=PrefillTable(tokens=(1, 16, 64), step_s=(0.006, 0.009, 0.03)),
    extrapolate=True,
    pad_batch_to=(1, 2, 4),
)

BALANCERS = ("round-robin", "random", "least-requests", "least-tokens", "power-of-two", "prefix-affinity")


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A cluster, what it is asked, and how it is run."""

    cluster: ClusterSpec
    requests: tuple[RequestSpec, ...]
    run: RunSpec

    def traffic(self) -> OpenTraffic:
        return traffic(self.requests)


def traffic(requests: tuple[RequestSpec, ...] | list[RequestSpec], chunk: int = 5) -> OpenTraffic:
    """The requests as open-loop traffic in chunks of a few."""
    rows = list(requests)
    return OpenTraffic(
        RequestChunk(*map(list, zip(*rows[start : start + chunk], strict=True))) for start in range(0, len(rows), chunk)
    )


def one_replica(
    settings: EngineSettings | None = None, step_time: StepTimeModel = EXACT, name: str = "m", **options: Any
) -> ModelSpec:
    """A model with a single replica on GPU 0."""
    replica = ReplicaSpec(gpus=(0,), settings=settings or EngineSettings())
    return ModelSpec(name=name, step_time=step_time, replicas=(replica,), **options)


def cluster_of(*models: ModelSpec, **options: Any) -> ClusterSpec:
    """A cluster of models whose GPUs are numbered from 0 in each, routed in turn."""
    first = 0
    placed = []
    for model in models:
        replicas = tuple(replace(replica, gpus=(first + number,)) for number, replica in enumerate(model.replicas))
        placed.append(replace(model, replicas=replicas))
        first += len(replicas)
    return ClusterSpec(gpus=first, models=tuple(placed), **{"router": PolicySpec(kind="round-robin"), **options})


def v0_settings() -> st.SearchStrategy[EngineSettings]:
    """Settings of a tiny older engine."""
    return st.builds(
        EngineSettings,
        scheduler=st.just("vllm-v0"),
        max_num_seqs=st.sampled_from([1, 3, 8]),
        max_num_batched_tokens=st.just(80),
        max_model_len=st.just(80),
        block_size=st.sampled_from([1, 4, 16]),
        num_gpu_blocks=st.sampled_from([6, 20, 60, 400]),
        watermark=st.sampled_from([0.0, 0.1]),
        enable_chunked_prefill=st.just(False),
        enable_prefix_caching=st.just(False),
    )


@st.composite
def engine_settings(draw: st.DrawFn) -> EngineSettings:
    """Settings of a tiny engine; pools from far too small to ample."""
    if draw(st.integers(0, 7)) == 7:
        return draw(v0_settings())
    max_model_len = draw(st.sampled_from([48, 80, 4096]))
    chunked = draw(st.integers(0, 4)) > 0
    threshold = draw(st.sampled_from([0, 0, 4, 9]))
    block_size = draw(st.sampled_from([1, 2, 4, 16]))
    # From less than the longest requests need to more than all of them.
    kv_tokens = draw(st.sampled_from([48, 72, 72, 80, 112, 160, 4000]))
    return EngineSettings(
        max_num_seqs=draw(st.sampled_from([1, 2, 5, 8, 8])),
        max_num_batched_tokens=draw(st.sampled_from([2, 7, 16, 40, 64])) if chunked else max_model_len,
        max_model_len=max_model_len,
        block_size=block_size,
        num_gpu_blocks=-(-kv_tokens // block_size) + 1,
        long_prefill_token_threshold=threshold,
        long_prefill_token_threshold_adaptive=threshold > 0 and draw(st.booleans()),
        enable_chunked_prefill=chunked,
        enable_prefix_caching=draw(st.integers(0, 3)) > 0,
        scheduling_policy=draw(st.sampled_from(["fcfs", "fcfs", "priority"])),
        watermark=draw(st.sampled_from([0.0, 0.0, 0.1, 0.4])),
        scheduler_reserve_full_isl=draw(st.booleans()),
        max_num_active_seqs=draw(st.sampled_from([None, None, None, 4])),
        async_scheduling=draw(st.booleans()),
    )


@st.composite
def moments(draw: st.DrawFn, latest_ticks: int = 60) -> float:
    """An awkward time: a multiple of the step time, just beside one, or anything."""
    time_s = draw(st.integers(0, latest_ticks)) * draw(st.sampled_from([TICK_S, TICK_S, TICK_S / 2, 0.007, 0.0003]))
    return draw(st.sampled_from([time_s, time_s, math.nextafter(time_s, 9e9), max(math.nextafter(time_s, -1), 0.0)]))


@st.composite
def workloads(
    draw: st.DrawFn, *, models: tuple[str, ...] = ("a",), content: bool = True, patience: bool = True
) -> tuple[RequestSpec, ...]:
    """Up to 14 requests by arrival; with shared prefixes, and later turns that contain earlier answers."""
    count = draw(st.integers(1, 14))
    lumped = draw(st.booleans())
    arrivals = sorted(draw(moments(6 if lumped else 60)) for _ in range(count))
    with_patience = patience and draw(st.integers(0, 2)) == 0
    with_content = content and draw(st.integers(0, 2)) > 0
    requests: list[RequestSpec] = []
    for row, arrival_s in enumerate(arrivals):
        prompt = draw(st.integers(1, 40))
        segments = None
        if with_content and draw(st.integers(0, 3)):
            segments, prompt = _content(draw, requests, prompt)
        deadline_s = cancel_after_s = None
        if with_patience:
            deadline_s = draw(st.none() | moments(40).map(lambda time_s: time_s + 1e-4))
            cancel_after_s = draw(st.none() | moments(40).map(lambda time_s: time_s + 1e-4))
        requests.append(
            RequestSpec(
                arrival_s=arrival_s,
                prompt_tokens=prompt,
                output_tokens=draw(st.integers(1, 30)),
                request_id=f"r{row}",
                model=draw(st.sampled_from(models)),
                request_class=draw(st.sampled_from([None, "chat", "code"])),
                session=draw(st.sampled_from([None, "s1", "s2"])),
                priority=draw(st.integers(0, 2)),
                content=segments,
                deadline_s=deadline_s,
                cancel_after_s=cancel_after_s,
            )
        )
    return tuple(requests)


def _content(draw: st.DrawFn, earlier: list[RequestSpec], private: int) -> tuple[tuple[tuple[str, int], ...], int]:
    """Named content, and the length of a prompt that begins with it."""
    segments: list[tuple[str, int]] = []
    turns = [request for request in earlier if request.content is not None]
    if turns and draw(st.booleans()):
        before = draw(st.sampled_from(turns))
        declared = sum(tokens for _, tokens in before.content or ())
        segments += before.content or ()
        if declared == before.prompt_tokens:
            segments.append((f"out:{before.request_id}", before.output_tokens))
    else:
        segments.append((draw(st.sampled_from(["system", "tools"])), draw(st.sampled_from([3, 16, 21]))))
    if draw(st.booleans()):
        segments.append((f"user {len(earlier)}", private))
        private = 0
    return tuple(segments), sum(tokens for _, tokens in segments) + private


def crowds(*, models: tuple[str, ...] = ("a",), content: bool = True) -> st.SearchStrategy[tuple[RequestSpec, ...]]:
    """Workloads that press for blocks: many long requests at once, drawn by NumPy since they need not shrink."""

    def crowd(seed: int) -> tuple[RequestSpec, ...]:
        rng = np.random.default_rng(seed)
        requests: list[RequestSpec] = []
        arrivals = np.sort(rng.integers(0, 12, int(rng.integers(6, 18)))) * TICK_S / rng.choice([1.0, 2.0, 2.3])
        for row, arrival_s in enumerate(arrivals.tolist()):
            before = requests[int(rng.integers(row))] if row and rng.random() < 0.4 else None
            segments = before.content or () if before else ((("system", "tools")[row % 2], int(rng.integers(3, 22))),)
            if before and sum(tokens for _, tokens in segments) == before.prompt_tokens:
                segments += ((f"out:{before.request_id}", before.output_tokens),)
            segments += ((f"user {row}", int(rng.integers(1, 15))),)
            named = sum(tokens for _, tokens in segments)
            requests.append(
                RequestSpec(
                    arrival_s=arrival_s,
                    prompt_tokens=named if content else min(named, 40),
                    output_tokens=int(rng.integers(1, 33)),
                    request_id=f"r{row}",
                    model=models[int(rng.integers(len(models)))],
                    priority=int(rng.integers(3)),
                    content=segments if content else None,
                    cancel_after_s=float(rng.integers(1, 40)) * TICK_S if rng.random() < 0.1 else None,
                )
            )
        return tuple(requests)

    return st.builds(crowd, st.integers(0, 2**32 - 1))


@dataclass(frozen=True)
class BlockNoise:
    """Factors that change every ``block`` steps."""

    block: int

    def stream(self, seed: np.random.SeedSequence) -> BlockFactors:
        return BlockFactors(self.block, np.random.default_rng(seed).uniform(0.5, 2.0, 64).tolist())


@dataclass(frozen=True)
class BlockFactors:
    block: int
    factors: list[float]

    def factor(self, step: int) -> tuple[float, int]:
        return self.factors[step // self.block % 64], self.block - step % self.block


@st.composite
def model_specs(draw: st.DrawFn, name: str) -> ModelSpec:
    settings = draw(engine_settings())
    other = draw(st.just(settings) | engine_settings())
    count = draw(st.sampled_from([1, 1, 2, 3]))
    stage = st.sampled_from([StageSpec(), StageSpec(), StageSpec(per_request_s=0.004, per_token_s=1e-4, workers=2)])
    return ModelSpec(
        name=name,
        step_time=draw(st.sampled_from([EXACT, GROWING, GROWING, PIECEWISE, LONGEST])),
        replicas=tuple(
            ReplicaSpec(
                gpus=(number,),
                settings=draw(st.sampled_from([settings, other])),
                slowdown=draw(st.sampled_from([1.0, 1.0, 2.0, 1.3])),
            )
            for number in range(count)
        ),
        balancer=PolicySpec(kind=draw(st.sampled_from(BALANCERS))),
        staleness_s=draw(st.sampled_from([0.0, 0.05])),
        overhead=EngineOverhead(
            step_s=draw(st.sampled_from([0.0, 0.0, 0.002, 0.0071, 0.03])),
            per_sequence_s=draw(st.sampled_from([0.0, 0.0005])),
        ),
        noise=draw(st.sampled_from([None, None, BlockNoise(block=1), BlockNoise(block=7)])),
        api_server=draw(stage),
        detokenise=draw(stage),
        admission=draw(
            st.sampled_from([AdmissionLimit()] * 4 + [AdmissionLimit(max_queue_requests=2)])
            | st.sampled_from([AdmissionLimit()] * 4 + [AdmissionLimit(max_queue_tokens=60)])
        ),
    )


@lru_cache(maxsize=1)
def _routers() -> tuple[PolicySpec, ...]:
    shares = {"a": 0.3, "b": 0.7}
    return (
        PolicySpec(kind="round-robin"),
        PolicySpec(kind="pinned"),
        PolicySpec(kind="fractions", options={"fractions": shares}),
        PolicySpec(kind="fractions", options={"fractions": shares, "variant": "random"}),
    )


SCORE_ROUTERS = (
    PolicySpec(kind="price", options={"prices": {"b": 0.1}}),
    PolicySpec(kind="price-adaptive", options={"ttft_s": 0.05, "step": 0.1}),
    PolicySpec(kind="slo-aware", options={"ttft_s": 0.05, "memory_s": 0.2}),
    PolicySpec(kind="threshold", options={"budget": 0.4}),
    PolicySpec(kind="cascade", options={"threshold": 0.6, "informed": 0.5}),
    PolicySpec(kind="cascade", options={"threshold": 1.0, "informed": 1.0}),
    PolicySpec(kind="best-single"),
    PolicySpec(kind="random"),
    PolicySpec(kind="oracle"),
)


def two_model_table() -> PromptTable:
    """Twelve prompts of the models a and b, with scores, outcomes and short answers."""
    rng = np.random.default_rng(5)
    return PromptTable(
        models=("a", "b"),
        predicted=rng.uniform(0.2, 0.9, (12, 2)),
        outcomes=rng.integers(0, 2, (12, 2)).astype(np.float64),
        output_tokens=rng.integers(1, 30, (12, 2)).astype(np.float64),
    )


@st.composite
def score_routing(draw: st.DrawFn) -> dict[str, Any]:
    """A router that goes by scores, and the prompts for it."""
    prompts = PromptSpec(
        table=two_model_table(),
        lengths=draw(st.sampled_from(["table", "workload"])),
        score_noise=draw(st.sampled_from([0.0, 0.2])),
    )
    cascades = [policy for policy in SCORE_ROUTERS if policy.kind == "cascade"]
    return {"router": draw(st.sampled_from([*SCORE_ROUTERS, *cascades, *cascades])), "prompts": prompts}


@st.composite
def faults(draw: st.DrawFn, replicas: tuple[int, ...]) -> FaultSpec:
    """Crashes at awkward and at random times, of a cluster with a GPU for each replica."""
    crashes = []
    for _ in range(draw(st.integers(0, 4))):
        model = draw(st.integers(0, len(replicas) - 1))
        what = draw(
            st.sampled_from(
                [
                    {"gpu": draw(st.integers(0, sum(replicas) - 1))},
                    {"model": model, "replica": draw(st.integers(0, replicas[model] - 1))},
                ]
            )
        )
        restart_s = draw(st.sampled_from([None, None, 0.0, 5 * TICK_S, math.inf]))
        crashes.append(Crash(at_s=draw(moments(60)), restart_s=restart_s, **what))
    rule = RandomCrashes(each=draw(st.sampled_from(["gpu", "replica"])), mean_time_between_s=0.3)
    return FaultSpec(
        load_s=tuple(draw(st.sampled_from([0.0, 3 * TICK_S, 0.11])) for _ in replicas),
        restart_s=draw(st.sampled_from([0.0, TICK_S])),
        crashes=tuple(crashes),
        random_crashes=draw(st.sampled_from([(), (), (rule,)])),
        cold_models=draw(st.sampled_from([(), (), (0,)])),
        lost_requests=draw(st.sampled_from(["retry", "reroute", "fail"])),
        most_retries=draw(st.sampled_from([0, 1, 3])),
    )


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """A whole small cluster under an awkward workload."""
    names = draw(st.sampled_from([("a",), ("a",), ("a", "b")]))
    models = [draw(model_specs(name)) for name in names]
    routing: dict[str, Any] = {"router": draw(st.sampled_from(_routers() if len(names) == 2 else _routers()[:2]))}
    if len(names) == 2 and draw(st.integers(0, 3)):
        routing = draw(score_routing())
    if draw(st.integers(0, 2)) == 0:
        quick, slow = StageSpec(workers=2, per_request_s=0.004, per_token_s=1e-4), StageSpec(per_request_s=0.07)
        routing["router_stage"] = draw(st.sampled_from([quick, slow]))
    changes = []
    for _ in range(draw(st.sampled_from([0, 0, 1, 3]))):
        model = draw(st.integers(0, len(models) - 1))
        changes.append(
            SpeedChange(
                at_s=draw(moments(60)),
                model=model,
                replica=draw(st.integers(0, len(models[model].replicas) - 1)),
                slowdown=draw(st.sampled_from([0.5, 1.0, 2.0, 3.7])),
            )
        )
    failing = draw(st.none() | st.none() | faults(tuple(len(model.replicas) for model in models)))
    return Case(
        cluster=cluster_of(
            *models,
            speed_changes=tuple(changes),
            oversized="reject",
            faults=failing,
            **routing,
        ),
        requests=draw(workloads(models=names) | crowds(models=names)),
        run=RunSpec(
            seed=draw(st.integers(0, 3)),
            until_s=draw(st.sampled_from([math.inf] * 6 + [0.4, 10 * TICK_S, 0.2345])),
            sample_interval_s=draw(st.sampled_from([TICK_S, 0.0271, 1.0])),
            max_samples=draw(st.sampled_from([4, 200])),
        ),
    )
