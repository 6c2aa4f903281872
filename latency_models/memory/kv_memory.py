"""How many KV blocks fit beside the weights: from GPU memory to the engine's ``num_gpu_blocks``.

With tensor parallelism every GPU holds a shard: its part of the weights, and the keys and values of its part of the
heads for *all* tokens.  A block therefore takes a piece of the same size on every shard, and the number of blocks is
what one shard can hold.
"""

from __future__ import annotations

from dataclasses import dataclass

from latency_models.errors import InputError, check_count, check_finite, invalid

GIB = float(1 << 30)
"""Bytes in a GiB."""

_LARGEST_TP_TO_SUGGEST = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class KvShape:
    """What the keys and values of one token are.

    Parameters
    ----------
    layers : int
        Transformer layers (with pipeline parallelism, those of one stage).
    kv_heads : int
        Key-value heads per layer: fewer than query heads under grouped-query attention.
    head_dim : int
        Dimension of a head.
    dtype_bytes : float
        Bytes per element of the cache: 2 for fp16 and bf16, 1 for fp8.
    """

    layers: int
    kv_heads: int
    head_dim: int
    dtype_bytes: float = 2.0

    def __post_init__(self) -> None:
        check_count("layers", self.layers)
        check_count("kv_heads", self.kv_heads)
        check_count("head_dim", self.head_dim)
        check_finite("dtype_bytes", self.dtype_bytes, exclusive=True)

    def bytes_per_token(self, tp: int = 1) -> float:
        """Bytes that one token of context takes on each of ``tp`` shards.

        Keys and values (2) x layers x heads of the shard x head_dim x dtype_bytes.  With more shards than heads, every
        shard keeps a copy of one head, as vLLM does (``ModelConfig.get_num_kv_heads``).

        Raises
        ------
        InputError
            If neither of ``tp`` and ``kv_heads`` divides the other.
        """
        check_count("tp", tp)
        if self.kv_heads % tp and tp % self.kv_heads:
            raise invalid("tp", tp, f"a divisor or a multiple of the {self.kv_heads} kv_heads")
        return 2.0 * self.layers * max(self.kv_heads // tp, 1) * self.head_dim * self.dtype_bytes


def num_kv_blocks(
    shape: KvShape,
    *,
    weight_bytes: float,
    gpu_memory_bytes: float,
    tp: int = 1,
    utilisation: float = 0.92,
    memory_share: float = 1.0,
    activation_reserve_bytes: float = 0.0,
    block_size: int = 16,
    max_model_len: int | None = None,
    model: str = "the model",
) -> int:
    """KV blocks of a replica, from the memory of its GPUs.

    Each shard has ``gpu_memory_bytes * utilisation * memory_share``; weights (``weight_bytes / tp``) and the
    activation reserve come off, and the rest is divided by the shard's bytes of a block.

    Parameters
    ----------
    shape : KvShape
        Keys and values of a token.
    weight_bytes : float
        Weights of the whole model.
    gpu_memory_bytes : float
        Memory of one GPU.
    tp : int
        Tensor-parallel shards, one GPU each.
    utilisation : float
        Share of the GPU that the engine may use (vLLM's ``gpu_memory_utilization``), in (0, 1].
    memory_share : float
        Share of that which this shard gets when it shares the GPU with others, in (0, 1].
    activation_reserve_bytes : float
        Peak of activations, CUDA graphs and library buffers, per shard.
    block_size : int
        Tokens per block.
    max_model_len : int, optional
        If given, one sequence of that length must fit, as vLLM demands at start-up.
    model : str
        Name for messages.

    Returns
    -------
    int
        vLLM's ``num_gpu_blocks``, at least 2: the engine keeps one of them as its null block.

    Raises
    ------
    InputError
        On values out of range, and when the model does not fit.
    """
    for name, value in (("weight_bytes", weight_bytes), ("gpu_memory_bytes", gpu_memory_bytes)):
        check_finite(name, value, exclusive=True)
    for name, value in (("utilisation", utilisation), ("memory_share", memory_share)):
        if check_finite(name, value, exclusive=True) > 1.0:
            raise invalid(name, value, "a share of the GPU, > 0 and <= 1")
    check_finite("activation_reserve_bytes", activation_reserve_bytes)
    check_count("block_size", block_size)

    block_bytes = shape.bytes_per_token(tp) * block_size
    granted_bytes = gpu_memory_bytes * utilisation * memory_share
    free_bytes = granted_bytes - weight_bytes / tp - activation_reserve_bytes
    blocks = int(free_bytes // block_bytes)

    needed_blocks = 2
    if max_model_len is not None:
        needed_blocks = 1 + -(-check_count("max_model_len", max_model_len) // block_size)
    if blocks >= needed_blocks:
        return blocks

    granted = (
        f"{granted_bytes / GIB:.2f} GiB of each GPU ({gpu_memory_bytes / GIB:.2f} GiB x utilisation {utilisation:g} "
        f"x share {memory_share:g})"
    )
    needed = (
        f"{weight_bytes / tp / GIB:.2f} GiB of weights (tp {tp}) + {activation_reserve_bytes / GIB:.2f} GiB of "
        f"activations + {needed_blocks * block_bytes / GIB:.3g} GiB for {needed_blocks} KV blocks"
    )
    fixes = ["give it a larger share of memory or a larger GPU"]
    if max_model_len is not None and blocks >= 2:
        fixes.insert(0, f"lower max_model_len to {(blocks - 1) * block_size} or less")
    larger_tp = _smallest_fitting_tp(shape, tp, weight_bytes, granted_bytes - activation_reserve_bytes, block_size)
    if larger_tp:
        fixes.insert(0, f"raise tp to {larger_tp}")
    raise InputError(f"{model} does not fit: it has {granted}, but needs {needed}. Either {', or '.join(fixes)}")


def _smallest_fitting_tp(shape: KvShape, tp: int, weight_bytes: float, room_bytes: float, block_size: int) -> int:
    """Smallest doubling of ``tp`` whose shards hold their weights and two blocks; 0 if there is none worth naming."""
    larger = 2 * tp
    while larger <= _LARGEST_TP_TO_SUGGEST:
        divides = shape.kv_heads % larger == 0 or larger % shape.kv_heads == 0
        if divides and room_bytes - weight_bytes / larger >= 2 * block_size * shape.bytes_per_token(larger):
            return larger
        larger *= 2
    return 0
