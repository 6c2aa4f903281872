"""Engine versions: which defaults a version of vLLM's server has."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from latency_models.catalogue.entries import check_keys, read_catalogue, shipped
from latency_models.catalogue.gpus import GpuSpec
from latency_models.errors import InputError, check_count, check_finite, invalid

_NEWEST = (0, 32)
"""Newest version of vLLM whose defaults were looked at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineDefaults:
    """What a version of vLLM does unless told otherwise.

    Parameters
    ----------
    name : str
        First version that does so.
    scheduler : {'vllm-v0', 'vllm-v1'}
        Scheduling rules.
    gpu_memory_utilization : float
        Share of a GPU's memory, in (0, 1].
    enable_chunked_prefill, enable_prefix_caching, async_scheduling : bool
        Switches of the scheduler.
    token_budgets : mapping of int to int
        ``max_num_batched_tokens`` of the server by the least memory of the GPU, GiB; the first one on every A100.
    graph_reserve_gib : float
        Memory that the engine sets aside for CUDA graphs when it sizes the KV cache; 0 if it does not count them.
    source : str
        Where this is from.
    """

    name: str
    scheduler: Literal["vllm-v0", "vllm-v1"]
    gpu_memory_utilization: float
    enable_chunked_prefill: bool
    enable_prefix_caching: bool
    async_scheduling: bool
    token_budgets: Mapping[int, int]
    graph_reserve_gib: float
    source: str

    def __post_init__(self) -> None:
        where = f"engines.{self.name}"
        if self.scheduler not in ("vllm-v0", "vllm-v1"):
            raise invalid(f"{where}.scheduler", self.scheduler, "vllm-v0 or vllm-v1")
        if check_finite(f"{where}.gpu_memory_utilization", self.gpu_memory_utilization, exclusive=True) > 1.0:
            raise invalid(f"{where}.gpu_memory_utilization", self.gpu_memory_utilization, "a share > 0 and <= 1")
        for key in ("enable_chunked_prefill", "enable_prefix_caching", "async_scheduling"):
            if not isinstance(getattr(self, key), bool):
                raise invalid(f"{where}.{key}", getattr(self, key), "true or false")
        if not isinstance(self.token_budgets, Mapping) or 0 not in self.token_budgets:
            raise invalid(f"{where}.token_budgets", self.token_budgets, "tokens by least GiB of memory, from 0 on")
        for least_gib, tokens in self.token_budgets.items():
            check_count(f"{where}.token_budgets", least_gib, minimum=0)
            check_count(f"{where}.token_budgets", tokens)
        check_finite(f"{where}.graph_reserve_gib", self.graph_reserve_gib)

    def token_budget(self, gpu: GpuSpec) -> int:
        """Default ``max_num_batched_tokens`` of the server on a GPU."""
        if gpu.name.startswith("a100"):
            return self.token_budgets[0]
        return self.token_budgets[max(least for least in self.token_budgets if least <= gpu.driver_memory_gib)]


def find_engine(version: str | None = None, extra: Path | None = None) -> EngineDefaults:
    """Defaults of a version of vLLM; without one, of the newest in the catalogue.

    Parameters
    ----------
    version : str, optional
        ``"0.11"`` or ``"0.11.0"``.
    extra : Path, optional
        A user's catalogue (YAML, key ``engines``); its entries replace shipped ones of the same version.

    Raises
    ------
    InputError
        It is no version, or older than all in the catalogue.
    """
    entries = shipped("engines") | ({} if extra is None else read_catalogue(extra, "engines"))
    by_version = sorted((_numbers(name), name) for name in entries)
    wanted = by_version[-1][0] if version is None else _numbers(version)
    older = [name for numbers, name in by_version if numbers <= wanted]
    if not older:
        raise InputError(f"vllm is {version!r}; allowed: version {by_version[0][1]} or later")
    found = entries[older[-1]]
    check_keys(EngineDefaults, "engine", older[-1], found)
    return EngineDefaults(name=older[-1], **found)


def version_note(version: str) -> str | None:
    """A sentence on a version that is later than all that were looked at; ``None`` for a known one."""
    if _numbers(version) <= _NEWEST:
        return None
    newest = ".".join(map(str, _NEWEST))
    found = find_engine(version)
    return (
        f"vLLM {version} is not known here (the newest is {newest}); the defaults of {found.name} to {newest} are "
        f"taken: utilisation {found.gpu_memory_utilization:g}, {found.graph_reserve_gib:g} GiB for CUDA graphs"
    )


def _numbers(version: str) -> tuple[int, ...]:
    """``"0.11.0"`` as (0, 11); a patch level changes no default."""
    match = re.match(r"v?(\d+)\.(\d+)", version)
    if match is None:
        raise invalid("vllm", version, "a version such as '0.11' or '0.11.0'")
    return int(match[1]), int(match[2])
