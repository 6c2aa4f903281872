"""What a shard of a model in a problem file takes of its GPU, and the engine settings that go with it."""

from __future__ import annotations

from latency_models.catalogue.model_work import ModelWork, kv_shape
from latency_models.errors import InputError
from latency_models.memory.kv_memory import GIB
from latency_models.sections.catalogue import architecture_named
from scenarios.optimisation.problem_schema import ProblemModel, ShardMemory
from sim.settings import EngineSettings


def shard_gib(where: str, memory: ShardMemory, tp: int) -> float:
    """Memory of a shard: its part of the weights, KV blocks and reserve.

    Raises
    ------
    InputError
        There is no value for this tp, the architecture is not known, or tp does not divide its heads.
    """
    if memory.per_shard_gib is not None:
        if tp not in memory.per_shard_gib:
            raise InputError(f"{where}.per_shard_gib has no tp {tp}; allowed: a value for every tp of its curves")
        return memory.per_shard_gib[tp]
    if memory.weights_gib is not None:
        weights_gib = memory.weights_gib / tp
    else:
        assert memory.model is not None
        try:
            work = ModelWork.of(architecture_named(memory.model), tp=tp, weights=memory.weights)
        except InputError as error:
            raise InputError(f"{where}: {error}") from None
        weights_gib = work.weight_bytes / GIB
    return weights_gib + memory.kv_gib + memory.reserve_gib


def engine_settings(where: str, section: ProblemModel, tp: int) -> dict[str, bool | int | float | str]:
    """Settings of the engine for a plan: those of the file, and the KV blocks of ``kv_gib`` if the file gives none.

    Raises
    ------
    InputError
        The engine cannot have these settings.
    """
    settings = dict(section.engine or {})
    memory = section.memory
    try:
        built = EngineSettings.from_mapping(settings)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    if "num_gpu_blocks" not in settings and memory.model is not None and memory.kv_gib > 0.0:
        token_bytes = kv_shape(architecture_named(memory.model), "auto").bytes_per_token(tp)
        settings["num_gpu_blocks"] = int(memory.kv_gib * GIB / (token_bytes * built.block_size))
    return settings
