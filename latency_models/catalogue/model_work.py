"""The work of a step: operations and bytes of one shard of a model, per token, per pair, per sequence.

Counting is that of the transformer's matrix products: two operations per weight and token, four per query-key pair and
element of a head (scores, then values).  Embedding tables are looked up, so that their bytes are kept but not read.
"""

from __future__ import annotations

from dataclasses import dataclass

from latency_models.catalogue.architectures import Architecture
from latency_models.catalogue.gpus import MathFormat
from latency_models.catalogue.weight_formats import kv_dtype_bytes, weight_format
from latency_models.errors import check_count, invalid
from latency_models.memory.kv_memory import KvShape

_HALF_BYTES = 2.0
"""Bytes of a 16-bit number: activations, embeddings and the LM head."""
# Kernels of a layer in vLLM: norm, QKV, rotary, cache write, attention, output, norm, gate-up, activation, down.
_KERNELS_PER_LAYER = 10
# A mixture has router, top-k, alignment and the sum over experts on top.
_KERNELS_PER_MIXTURE = 14
_KERNELS_PER_STEP = 4
"""Embedding, last norm, LM head, sampler."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelWork:
    """Work of one of ``tp`` equal shards.

    Parameters
    ----------
    weight_bytes : float
        All weights that the shard keeps.
    dense_bytes : float
        Weights that every step reads: attention, MLPs, shared parts of mixtures; neither experts nor LM head.
    expert_bytes : float
        One expert of every mixture layer.
    experts, experts_per_token : int
        Of a mixture layer; 0 without one.
    flops_per_token : float
        Operations of a token's matrix products, without attention and LM head.
    flops_per_pair, window_flops_per_pair : float
        Attention's operations per query-key pair, over layers that see everything, and those with a window.
    kv_bytes_per_token, window_kv_bytes_per_token : float
        Keys and values of a token of context, likewise.
    window : int
        Tokens of the sliding window.
    head_flops, head_bytes : float
        LM head: operations per sampled sequence, and weights read once if there is one.
    all_reduces : int
        Sums over the shards in a step; 0 for one shard.
    all_reduce_bytes_per_token : float
        Bytes per token in each of them.
    kernels : int
        Kernels of a step.
    math_format : {'bf16', 'fp8', 'fp4'}
        In what the products with the weights are computed where the GPU can.
    """

    weight_bytes: float
    dense_bytes: float
    expert_bytes: float
    experts: int
    experts_per_token: int
    flops_per_token: float
    flops_per_pair: float
    window_flops_per_pair: float
    kv_bytes_per_token: float
    window_kv_bytes_per_token: float
    window: int
    head_flops: float
    head_bytes: float
    all_reduces: int
    all_reduce_bytes_per_token: float
    kernels: int
    math_format: MathFormat

    @classmethod
    def of(cls, architecture: Architecture, *, tp: int = 1, weights: str = "auto", kv_dtype: str = "auto") -> ModelWork:
        """Count the work of a shard.

        Parameters
        ----------
        architecture : Architecture
            The model.
        tp : int
            Tensor-parallel shards.
        weights : str
            Format of the weights; ``auto`` is the checkpoint's.
        kv_dtype : str
            Type of the KV cache; ``auto`` is 16 bits.

        Raises
        ------
        InputError
            A format is unknown, or the heads cannot be shared by ``tp``.
        """
        check_count("tp", tp)
        if architecture.heads % tp:
            raise invalid("tp", tp, f"a divisor of the {architecture.heads} heads of {architecture.name}")
        stored = weight_format(architecture.weights if weights == "auto" else weights)
        full_layers = architecture.layers - architecture.window_layers
        kv_layer = kv_shape(architecture, kv_dtype).bytes_per_token(tp) / architecture.layers
        pair_flops = 4.0 * architecture.head_dim * architecture.heads / tp
        dense, expert = _layer_weights(architecture, tp)
        dense_bits = 16.0 if stored.experts_only else stored.bits
        expert_bytes = expert * stored.bits / 8.0
        head_bytes = architecture.head_parameters / tp * _HALF_BYTES
        tables = architecture.embedding_parameters / tp * _HALF_BYTES
        mixtures = architecture.moe_layers
        kernels = _KERNELS_PER_LAYER * (architecture.layers - mixtures) + _KERNELS_PER_MIXTURE * mixtures
        all_reduces = 2 * architecture.layers + 1 if tp > 1 else 0
        return cls(
            weight_bytes=dense * dense_bits / 8.0 + architecture.experts * expert_bytes + head_bytes + tables,
            dense_bytes=dense * dense_bits / 8.0,
            expert_bytes=expert_bytes,
            experts=architecture.experts,
            experts_per_token=architecture.experts_per_token,
            flops_per_token=2.0 * (dense + architecture.experts_per_token * expert),
            flops_per_pair=pair_flops * full_layers,
            window_flops_per_pair=pair_flops * architecture.window_layers,
            kv_bytes_per_token=kv_layer * full_layers,
            window_kv_bytes_per_token=kv_layer * architecture.window_layers,
            window=architecture.window,
            head_flops=2.0 * architecture.head_parameters / tp,
            head_bytes=head_bytes,
            all_reduces=all_reduces,
            all_reduce_bytes_per_token=architecture.hidden * _HALF_BYTES,
            kernels=kernels + all_reduces + _KERNELS_PER_STEP,
            math_format=stored.math_format,
        )

    def weights_read(self, tokens: int) -> float:
        """Bytes of weights that a step of ``tokens`` tokens reads, LM head aside.

        Of E experts, each token uses k: with even and independent routing, n tokens touch E (1 - (1 - k/E)^n).
        """
        if not self.experts:
            return self.dense_bytes
        untouched = (1.0 - self.experts_per_token / self.experts) ** tokens
        return self.dense_bytes + self.experts * (1.0 - untouched) * self.expert_bytes


def kv_shape(architecture: Architecture, kv_dtype: str = "auto") -> KvShape:
    """Keys and values of a token, in all layers: a layer with a sliding window keeps as many as the others.

    Raises
    ------
    InputError
        The type is unknown.
    """
    return KvShape(
        layers=architecture.layers,
        kv_heads=architecture.kv_heads,
        head_dim=architecture.head_dim,
        dtype_bytes=kv_dtype_bytes(kv_dtype),
    )


def _layer_weights(architecture: Architecture, tp: int) -> tuple[float, float]:
    """Weights of a shard over all layers: what every token uses, and one expert."""
    kv_heads = max(architecture.kv_heads // tp, 1)
    attention = architecture.hidden * architecture.head_dim * 2.0 * (architecture.heads / tp + kv_heads)
    mlps = (architecture.layers - architecture.moe_layers) * architecture.mlp_parameters
    shared = architecture.moe_layers * architecture.shared_parameters
    dense = architecture.layers * attention + (mlps + shared) / tp
    return dense, architecture.moe_layers * architecture.expert_parameters / tp
