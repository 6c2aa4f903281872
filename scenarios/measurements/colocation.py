"""Co-location against MuxServe's runs of 16 LLMs on 32 A100: which way of sharing GPUs wins, and by how much.

``python -m scenarios.measurements.colocation [RESULTS.csv [WORKLOAD]]`` prints the comparison; the file is MuxServe's
table of results, by default the one under ROUTERWISE_DATA.

Nothing here is fitted to these runs.  Known of them: models, rates, mean lengths, one placement with its MPS caps and
memory for KV caches, and results.  Unknown, and assumed: arrivals within the replayed half-day (uniformly random),
lengths (exponential, the same ratio of prompt to answer for all), how a shared KV cache was divided (by expected use).
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np

from latency_models.catalogue.architectures import find_architecture
from latency_models.catalogue.gpus import find_gpu
from latency_models.catalogue.model_work import kv_shape
from latency_models.errors import InputError, RouterwiseError, unknown_name
from latency_models.laws.steps import StepsStepTime
from latency_models.step_work import StepWork
from scenarios.measurements.sheets import Sheet
from sim.cluster import simulate
from sim.cluster_spec import ClusterSpec, ModelSpec, PolicySpec, ReplicaSpec, RunSpec
from sim.random_streams import stream
from sim.settings import EngineSettings
from sim.sharing.contention import BandwidthContention, CappedContention, ContentionModel
from sim.workload import OpenTraffic, RequestChunk

HALF_DAY_S = 43_200.0
"""What was replayed; the workload ``condense500`` replays it 500 times as fast."""
GPU_BYTES = 80e9
PROMPT_PART = 100.2 / (100.2 + 261.3)
"""Of a request's tokens: the mean lengths of prompts and answers over all requests."""
LONGEST_TOKENS = 1500.0
"""Where lengths are cut off; LLaMA's context ends at 2,048."""
RESULTS = "data/muxserve_a100_steptime/chatlmsys_32gpu_results.csv"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenant:
    """One LLM of a group of GPUs, sharded over all of them."""

    llm: str
    prefill_cap: float
    decode_cap: float
    seats: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """GPUs and who is on them."""

    gpus: int
    kv_part: float
    """Share of the memory of these GPUs that holds keys and values."""
    tenants: tuple[Tenant, ...]


def _shared(gpus: int, kv_part: float, *tenants: tuple[str, float, float, int]) -> Group:
    return Group(
        gpus=gpus,
        kv_part=kv_part,
        tenants=tuple(
            Tenant(llm=llm, prefill_cap=prefill, decode_cap=decode, seats=seats)
            for llm, prefill, decode, seats in tenants
        ),
    )


# Figures of github.com/hao-ai-lab/MuxServe, commit 2249cfa, benchmark/chatlmsys/yamls/flexsm (the placement of
# condense2000, the only one whose files are complete; its caps differ in part from those in the table of results).
FLEXSM = (
    _shared(8, 0.51625, ("llm-1", 0.9, 0.9, 576), ("llm-14", 1.0, 0.3, 172)),
    _shared(4, 0.49125, ("llm-11", 1.0, 0.9, 147), ("llm-6", 0.9, 0.3, 198)),
    _shared(4, 0.2725, ("llm-10", 1.0, 0.7, 89), ("llm-5", 0.9, 0.3, 32)),
    _shared(4, 0.31, ("llm-16", 1.0, 0.9, 89), ("llm-7", 0.8, 0.3, 21)),
    _shared(4, 0.5975, ("llm-3", 0.9, 0.9, 287), ("llm-12", 0.9, 0.3, 204)),
    _shared(4, 0.52875, ("llm-4", 0.8, 0.9, 450), ("llm-9", 1.0, 0.3, 90)),
    _shared(2, 0.51, ("llm-15", 0.8, 0.9, 224), ("llm-2", 0.9, 0.3, 107)),
    _shared(2, 0.2975, ("llm-8", 1.0, 0.8, 73), ("llm-13", 0.8, 0.3, 201)),
)
# Same commit, benchmark/chatlmsys/muxserve2spatial.py: GPUs and KV part of an LLM that has GPUs of its own.
_SPATIAL_GPUS = {"llama-7b": (1, 0.65), "llama-13b": (2, 0.5), "llama-30b": (2, 0.375), "llama-65b": (4, 0.375)}
_SPATIAL_ON_ONE_GPU = ("llm-1", "llm-3")
_SPATIAL_SEATS = 256

SIMULATED: Mapping[str, tuple[str, ContentionModel | None]] = {
    "spatial": ("spatial", None),
    "flexsm, isolated": ("flexsm", None),
    "flexsm, bandwidth": ("flexsm", BandwidthContention()),
    "flexsm, capped": ("flexsm", CappedContention()),
    "temporal, capped": ("temporal", CappedContention()),
}
"""What is simulated: MuxServe's scheme, and the contention model.  With caps of 100 % ``capped`` is time slicing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """One LLM of a run: what was asked of it."""

    model: str
    requests: int
    mean_tokens: float
    """Tokens of a request: prompt and answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Results by LLM."""

    throughput_per_s: Mapping[str, float]
    """Requests over the time until the last of them ended."""
    tpot_s: Mapping[str, float]
    """Mean time per answer token after the first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CappedPhases:
    """A model whose prefill runs under one MPS cap and whose decode runs under another, as MuxServe's."""

    prefill: StepsStepTime
    decode: StepsStepTime

    def step_s(
        self,
        tokens: int,
        prefill_seqs: int,
        prefill_context: int,
        prefill_work: float,
        decode_seqs: int,
        decode_context: int,
        sampled: int,
        longest: int = 0,
    ) -> float:
        """Duration of a step with prefill."""
        return self.prefill.step_s(
            tokens, prefill_seqs, prefill_context, prefill_work, decode_seqs, decode_context, sampled, longest
        )

    def decode_run(self, seqs: int, context: int, longest: int = 0) -> tuple[float, float, int]:
        """Law of a run of decode steps."""
        return self.decode.decode_run(seqs, context, longest)

    def step_work(
        self,
        tokens: int,
        prefill_seqs: int,
        prefill_context: int,
        prefill_work: float,
        decode_seqs: int,
        decode_context: int,
        sampled: int,
    ) -> StepWork:
        """What bounds a step."""
        law = self.prefill if prefill_seqs else self.decode
        return law.step_work(tokens, prefill_seqs, prefill_context, prefill_work, decode_seqs, decode_context, sampled)


def read_results(path: Path, workload: str) -> tuple[dict[str, Served], dict[str, Outcome]]:
    """What was asked of each LLM, and the measured outcome of each scheme.

    Raises
    ------
    InputError
        The file cannot be read, or has no such workload.
    """
    sheet = Sheet.read(str(path), {}, "s")
    known = sorted(set(sheet.column("workload")))
    if workload not in known:
        raise unknown_name(f"workload of {path}", workload, known)
    served: dict[str, Served] = {}
    outcomes: dict[str, Outcome] = {}
    for scheme in ("spatial", "flexsm", "temporal"):
        rows = Sheet.read(str(path), {"workload": workload, "scheme": scheme}, "s")
        llms = list(rows.column("llm"))
        per_s = rows.seconds("throughput", 0.0)
        outcomes[scheme] = Outcome(
            throughput_per_s=dict(zip(llms, per_s.tolist(), strict=True)),
            tpot_s=dict(zip(llms, rows.seconds("output_per_token_latency", 0.0).tolist(), strict=True)),
        )
        tokens = rows.seconds("tokens_throughput", 0.0) / per_s
        columns = (llms, rows.column("model"), rows.counts("request_num").tolist(), tokens.tolist())
        for llm, model, requests, mean_tokens in zip(*columns, strict=True):
            served[llm] = Served(model=model, requests=requests, mean_tokens=mean_tokens)
    return served, outcomes


def simulated_outcome(
    served: Mapping[str, Served], window_s: float, scheme: str, contention: ContentionModel | None, *, seed: int = 1
) -> Outcome:
    """One run of a scheme."""
    groups = _spatial_groups(served) if scheme == "spatial" else FLEXSM
    models: dict[str, ModelSpec] = {}
    gpus = 0
    for group in groups:
        for tenant in group.tenants:
            models[tenant.llm] = _model(tenant, group, served, gpus, scheme)
        gpus += group.gpus
    names = list(models)
    cluster = ClusterSpec(
        gpus=gpus, models=tuple(models.values()), router=PolicySpec(kind="pinned"), contention=contention
    )
    found = simulate(cluster, _traffic(served, window_s, seed), RunSpec(seed=seed, shared_content=False)).requests
    throughput_per_s, tpot_s = {}, {}
    for index, llm in enumerate(names):
        own = found.model == index
        throughput_per_s[llm] = float(own.sum() / found.finish_s[own].max())
        own &= found.output_tokens > 1
        between_s = (found.last_token_s[own] - found.first_token_s[own]) / (found.output_tokens[own] - 1)
        tpot_s[llm] = float(between_s.mean())
    return Outcome(throughput_per_s=throughput_per_s, tpot_s=tpot_s)


def against(outcome: Outcome, baseline: Outcome) -> tuple[float, float]:
    """Ratio of the total throughput to the baseline's, and the median over LLMs of the ratio of TPOT."""
    throughput = sum(outcome.throughput_per_s.values()) / sum(baseline.throughput_per_s.values())
    return throughput, median(outcome.tpot_s[llm] / baseline.tpot_s[llm] for llm in baseline.tpot_s)


def window_of(workload: str) -> float:
    """Seconds in which a workload's requests arrive.

    Raises
    ------
    InputError
        It is not called ``condense`` and a number.
    """
    factor = workload.removeprefix("condense")
    if factor == workload or not factor.isdecimal() or not int(factor):
        raise InputError(f"workload is {workload!r}; allowed: condense and how many times as fast, such as condense500")
    return HALF_DAY_S / int(factor)


def comparison(path: Path, workload: str, *, seed: int = 1) -> dict[str, tuple[float, float]]:
    """Ratios to ``spatial`` (:func:`against`) of what was measured and of what is simulated, by name."""
    served, measured = read_results(path, workload)
    window_s = window_of(workload)
    simulated = {
        name: simulated_outcome(served, window_s, scheme, contention, seed=seed)
        for name, (scheme, contention) in SIMULATED.items()
    }
    table = {f"measured: {name}": against(outcome, measured["spatial"]) for name, outcome in measured.items()}
    return table | {f"simulated: {name}": against(found, simulated["spatial"]) for name, found in simulated.items()}


def _spatial_groups(served: Mapping[str, Served]) -> tuple[Group, ...]:
    groups = []
    for llm, asked in served.items():
        gpus, kv_part = _SPATIAL_GPUS[asked.model]
        gpus = 1 if llm in _SPATIAL_ON_ONE_GPU else gpus
        groups.append(_shared(gpus, kv_part, (llm, 1.0, 0.9, _SPATIAL_SEATS)))
    return tuple(groups)


def _model(tenant: Tenant, group: Group, served: Mapping[str, Served], first_gpu: int, scheme: str) -> ModelSpec:
    asked = served[tenant.llm]
    architecture = find_architecture(asked.model)
    whole = StepsStepTime(architecture=architecture, gpu=find_gpu("a100-80gb"), tp=group.gpus)
    sliced = scheme == "temporal"
    use = {each.llm: _kv_use(served[each.llm]) for each in group.tenants}
    kv_bytes = group.kv_part * GPU_BYTES * group.gpus * use[tenant.llm] / sum(use.values())
    settings = EngineSettings(
        scheduler="vllm-v0",
        enable_chunked_prefill=False,
        enable_prefix_caching=False,
        watermark=0.01,
        max_num_batched_tokens=4096,
        max_model_len=4096,
        max_num_seqs=tenant.seats,
        num_gpu_blocks=int(kv_bytes / (16 * kv_shape(architecture).bytes_per_token(1))),
    )
    replica = ReplicaSpec(
        gpus=tuple(range(first_gpu, first_gpu + group.gpus)),
        settings=settings,
        memory_share=1.0 / len(group.tenants),
        compute_share=1.0 if sliced else tenant.decode_cap,
    )
    step_time = CappedPhases(
        prefill=whole.at_share(1.0 if sliced else tenant.prefill_cap),
        decode=whole.at_share(1.0 if sliced else tenant.decode_cap),
    )
    return ModelSpec(name=tenant.llm, step_time=step_time, replicas=(replica,))


def _kv_use(asked: Served) -> float:
    return asked.requests * asked.mean_tokens * kv_shape(find_architecture(asked.model)).bytes_per_token(1)


def _traffic(served: Mapping[str, Served], window_s: float, seed: int) -> OpenTraffic:
    rows: list[tuple[float, int, int, str]] = []
    for llm, asked in served.items():
        draws = stream(seed, 0, f"requests of {llm}")
        arrivals = draws.uniform(0.0, window_s, asked.requests)
        prompts = draws.exponential(asked.mean_tokens * PROMPT_PART, asked.requests)
        answers = draws.exponential(asked.mean_tokens * (1.0 - PROMPT_PART), asked.requests)
        rows += [
            (arrival_s, math.ceil(min(prompt, LONGEST_TOKENS)), math.ceil(min(answer, LONGEST_TOKENS)), llm)
            for arrival_s, prompt, answer in zip(arrivals.tolist(), prompts.tolist(), answers.tolist(), strict=True)
        ]
    rows.sort()
    arrival_s, prompt_tokens, output_tokens, model = (list(column) for column in zip(*rows, strict=True))
    return OpenTraffic([RequestChunk(arrival_s, prompt_tokens, output_tokens, model=model)])


def _main(arguments: list[str]) -> None:
    root = os.environ.get("ROUTERWISE_DATA", "")
    if not arguments and not root:
        raise InputError("the table of results is missing; name the file, or set ROUTERWISE_DATA")
    path = Path(arguments[0]) if arguments else Path(root) / RESULTS
    for workload in arguments[1:] or ("condense500", "condense1200", "condense2000"):
        runs = [comparison(path, workload, seed=seed) for seed in (1, 2, 3)]
        print(f"{workload:28s} throughput   TPOT (median), both over spatial")
        for name in runs[0]:
            throughput, tpot = np.mean([run[name] for run in runs], axis=0)
            print(f"  {name:28s} {throughput:8.2f} {tpot:8.2f}")


if __name__ == "__main__":
    try:
        _main(sys.argv[1:])
    except RouterwiseError as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(error.exit_status)
