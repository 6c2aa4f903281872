"""KV capacity from first principles: what vLLM finds when it measures the memory that is left for the cache.

At start-up vLLM runs the largest step that its settings allow and takes from ``gpu_memory_utilization`` x memory what
that step needed at its peak: weights, the largest tensors alive at once, and memory outside of PyTorch
(``Worker.determine_available_memory``).  The same sum is made here from the architecture.

Three constants are rounded fits to five logged capacities (CodeLlama-34B on H100, vLLM 0.11, two settings;
Llama-3.3-70B NVFP4 on B200, vLLM 0.15, three settings): :data:`CONTEXT_BYTES`, :data:`HIDDEN_COPIES` and
:data:`SAMPLER_BYTES_PER_LOGIT`.  They are the same for every GPU and model.
"""

from __future__ import annotations

from latency_models.catalogue.architectures import Architecture
from latency_models.catalogue.engines import EngineDefaults, find_engine
from latency_models.catalogue.gpus import GpuSpec
from latency_models.catalogue.model_work import ModelWork, kv_shape
from latency_models.errors import check_count
from latency_models.memory.kv_memory import GIB, num_kv_blocks

SAMPLER_BYTES_PER_LOGIT = 48.0
"""The sampler's peak for each sequence and token of the vocabulary: logits in 16 and 32 bits, sorted values with 64-bit
indices and the sort's second copy, probabilities and their sums."""
CONTEXT_BYTES = 0.2 * GIB
"""Libraries' workspaces and the engine's own buffers."""
PEER_BYTES = 0.27 * GIB
"""Buffers of the communication library for each other shard; from one start-up log (2.1 GiB, 8 shards on A100-40GB)."""
_HALF_BYTES = 2.0
HIDDEN_COPIES = 3
"""Residual, input and output of a layer are alive together."""


def activation_peak_bytes(
    architecture: Architecture, *, tp: int, max_num_batched_tokens: int, max_num_seqs: int
) -> float:
    """Largest tensors alive at once in the profiling step, on one shard.

    Either inside a layer, for every token of the budget (MLP: gate and up, and their product; attention: queries, keys,
    values and the output; mixture: the same for every expert that a token uses), or in the sampler, over the whole
    vocabulary for every sequence.

    Parameters
    ----------
    architecture : Architecture
        The model.
    tp : int
        Shards.
    max_num_batched_tokens, max_num_seqs : int
        Settings of the engine.

    Raises
    ------
    InputError
        A count is not positive.
    """
    for name, value in (("max_num_batched_tokens", max_num_batched_tokens), ("max_num_seqs", max_num_seqs)):
        check_count(name, value)
    check_count("tp", tp)
    matrices = 3.0 if architecture.gated_mlp else 2.0
    mlp = matrices * architecture.intermediate / tp
    expert = architecture.expert_intermediate / tp
    mixture = architecture.experts_per_token * (max(2.0 * expert, architecture.hidden) + expert)
    attention = architecture.head_dim * (2 * architecture.heads + 2 * architecture.kv_heads) / tp
    width = max(mlp, mixture, attention) + HIDDEN_COPIES * architecture.hidden
    sequences = min(max_num_seqs, max_num_batched_tokens)
    return max(
        max_num_batched_tokens * width * _HALF_BYTES,
        sequences * architecture.vocabulary * SAMPLER_BYTES_PER_LOGIT,
    )


def kv_blocks_on(
    gpu: GpuSpec,
    architecture: Architecture,
    *,
    tp: int = 1,
    weights: str = "auto",
    kv_dtype: str = "auto",
    engine: EngineDefaults | None = None,
    utilisation: float | None = None,
    memory_share: float = 1.0,
    max_num_batched_tokens: int,
    max_num_seqs: int,
    block_size: int = 16,
    max_model_len: int | None = None,
) -> int:
    """KV blocks of a replica, from its GPUs and its model.

    Layers with a sliding window count like all others: an engine that gives them fewer blocks has more room.

    Parameters
    ----------
    gpu : GpuSpec
        The GPU of every shard.
    architecture : Architecture
        The model.
    tp : int
        Shards.
    weights, kv_dtype : str
        Formats, as for :meth:`latency_models.catalogue.model_work.ModelWork.of`.
    engine : EngineDefaults, optional
        Version of the engine; default: the newest known.  It says the default utilisation, and whether memory for CUDA
        graphs comes off.
    utilisation : float, optional
        ``gpu_memory_utilization``; default: the engine's.
    memory_share : float
        Share of that which this shard gets beside others.
    max_num_batched_tokens, max_num_seqs, block_size : int
        Settings of the engine.
    max_model_len : int, optional
        If given, one sequence of that length must fit.

    Returns
    -------
    int
        vLLM's ``num_gpu_blocks``.

    Raises
    ------
    InputError
        Values are out of range, or the model does not fit.
    """
    defaults = find_engine() if engine is None else engine
    work = ModelWork.of(architecture, tp=tp, weights=weights, kv_dtype=kv_dtype)
    activations = activation_peak_bytes(
        architecture, tp=tp, max_num_batched_tokens=max_num_batched_tokens, max_num_seqs=max_num_seqs
    )
    outside = CONTEXT_BYTES + (tp - 1) * PEER_BYTES + defaults.graph_reserve_gib * GIB
    return num_kv_blocks(
        kv_shape(architecture, kv_dtype),
        weight_bytes=work.weight_bytes * tp,
        gpu_memory_bytes=gpu.memory_bytes,
        tp=tp,
        utilisation=defaults.gpu_memory_utilization if utilisation is None else utilisation,
        memory_share=memory_share,
        activation_reserve_bytes=activations + outside,
        block_size=block_size,
        max_model_len=max_model_len,
        model=architecture.name,
    )
