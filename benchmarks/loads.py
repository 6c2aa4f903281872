"""What the benchmarks simulate in the process: clusters, and loads for them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from benchmarks.chat import CAPACITY_PER_S, KV_BLOCKS, RATE_PER_S, STEP_TIME_COEFFICIENTS, chat_section
from benchmarks.figures import NO_TARGET, Target
from latency_models.errors import InputError
from latency_models.laws.linear import LinearStepTime
from scenarios.scenario_files import load_scenario
from scenarios.workloads.build import build_traffic, inspect_workload
from scenarios.workloads.config import SyntheticWorkload, WorkloadConfig, parse_workload
from sim.cluster import simulate
from sim.cluster_spec import ClusterSpec, ModelSpec, PolicySpec, ReplicaSpec, RunSpec
from sim.random_streams import seed_sequence
from sim.results import SimulationResult
from sim.settings import EngineSettings
from sim.workload import OpenTraffic, RequestChunk, Traffic

STEP_TIME = LinearStepTime(**STEP_TIME_COEFFICIENTS)

KV_CAPACITY_PER_S = 15.93
"""Chat capacity with 8,000 KV blocks, where preemptions redo a part of the work; requests per second."""
KV_RATE_PER_S = 15.7
"""Just below :data:`KV_CAPACITY_PER_S`: about one request in five is preempted."""
CAPACITY_BY_OUTPUT_PER_S = {64: 62.96, 512: CAPACITY_PER_S, 4096: 2.468}
"""Capacity by mean output tokens, prompts as in chat, 80,000 KV blocks."""

Mode = Literal["macro", "reference"]


def cluster(replicas: int = 1, **settings: Any) -> ClusterSpec:
    """A cluster of equal replicas of one model; ``settings`` are those of the engine."""
    engine = EngineSettings(**{"num_gpu_blocks": KV_BLOCKS, **settings})
    return ClusterSpec(
        gpus=replicas,
        models=(
            ModelSpec(
                name="model",
                step_time=STEP_TIME,
                replicas=tuple(ReplicaSpec(gpus=(index,), settings=engine) for index in range(replicas)),
                balancer=PolicySpec(kind="least-requests"),
            ),
        ),
        router=PolicySpec(kind="round-robin"),
    )


def _chat(requests: int) -> WorkloadConfig:
    return parse_workload(chat_section(requests))


def _light(requests: int) -> WorkloadConfig:
    return parse_workload(chat_section(requests, rate_per_s=0.2))


def _many_replicas(requests: int) -> WorkloadConfig:
    return parse_workload(chat_section(requests, rate_per_s=64 * RATE_PER_S))


def _kv_pressure(requests: int) -> WorkloadConfig:
    return parse_workload(chat_section(requests, rate_per_s=KV_RATE_PER_S))


def _code_burst(requests: int) -> WorkloadConfig:
    """The arrivals and lengths of the demo scenario, which were fitted to Azure's code trace."""
    workload = load_scenario("demo").workload
    if not isinstance(workload, SyntheticWorkload):
        raise InputError("the demo scenario's workload is not synthetic any more, so the code burst has no source")
    return SyntheticWorkload(kind="synthetic", arrivals=workload.arrivals, lengths=workload.lengths, requests=requests)


def _conversations(requests: int) -> WorkloadConfig:
    """Conversations of four turns on average behind ten system prompts; the last ones may pass ``requests``."""
    return parse_workload(
        {
            "kind": "sessions",
            "arrivals": {"kind": "poisson", "rate_per_s": 2.5},
            "turns": {"kind": "geometric", "mean": 4},
            "lengths": {
                "prompt": {"kind": "normal", "mean": 128, "std": 64},
                "output": {"kind": "normal", "mean": 256, "std": 128},
            },
            "think_time_s": {"kind": "exponential", "mean_s": 10},
            "system_prompt": {"prefixes": 10, "tokens": 512},
            "max_prompt_tokens": 7000,
            "sessions": max(1, requests // 4),
        }
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """A cluster and the traffic for it."""

    name: str
    workload: Callable[[int], WorkloadConfig]
    """The workload with about so many requests."""
    target: Target = NO_TARGET
    requests: int = 20_000
    replicas: int = 1
    settings: dict[str, Any] = field(default_factory=dict)
    open_loop: bool = True

    def config(self, requests: int | None = None) -> WorkloadConfig:
        """The workload section."""
        return self.workload(self.requests if requests is None else requests)

    def run(self, traffic: Traffic, config: WorkloadConfig, mode: Mode = "macro") -> SimulationResult:
        """Simulate it."""
        run = RunSpec(seed=1, mode=mode, shared_content=inspect_workload(config).shares_content)
        return simulate(cluster(self.replicas, **self.settings), traffic, run)


def streamed(config: WorkloadConfig) -> Traffic:
    """Traffic that is generated while the simulation runs."""
    return build_traffic(config, seed_sequence(1, 0, "workload"), Path())


def generated(config: WorkloadConfig) -> list[RequestChunk]:
    """All chunks of open-loop traffic, generated beforehand."""
    return list(streamed(config).chunks())


def replayed(chunks: list[RequestChunk]) -> Traffic:
    """Traffic from chunks that exist already."""
    return OpenTraffic(chunks)


CHAT_TARGET = Target(at_most=40, aim=15)
OTHER_TARGET = Target(at_most=120, aim=40)

LOADS = (
    Load(name="chat", workload=_chat, target=CHAT_TARGET),
    Load(name="chat, asynchronous", workload=_chat, target=CHAT_TARGET, settings={"async_scheduling": True}),
    Load(name="light load", workload=_light, target=OTHER_TARGET),
    Load(name="code burst", workload=_code_burst, target=OTHER_TARGET),
    Load(name="64 replicas, least requests", workload=_many_replicas, target=OTHER_TARGET, replicas=64),
    Load(name="conversations, shared prefixes", workload=_conversations, target=OTHER_TARGET, open_loop=False),
    Load(name="KV pressure, preemptions", workload=_kv_pressure, settings={"num_gpu_blocks": 8000}),
)


def long_output_load(output_tokens: int, utilisation: float, requests: int) -> Load:
    """Chat with answers of ``output_tokens`` on average, at a share of the replica's capacity for them."""
    rate_per_s = utilisation * CAPACITY_BY_OUTPUT_PER_S[output_tokens]
    return Load(
        name=f"{output_tokens:,} output tokens",
        workload=lambda requests: parse_workload(chat_section(requests, rate_per_s, output_tokens)),
        requests=requests,
        settings={"num_gpu_blocks": 80_000, "max_model_len": 32_768},
    )
