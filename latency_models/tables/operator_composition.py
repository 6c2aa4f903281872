"""Composes the step time of a model from operator tables: which operators a layer runs, and in which shapes.

On each of tp shards (Megatron's split: Shoeybi et al., arXiv:1909.08053, section 3) a layer multiplies by the
query-key-value, attention output, gate-up and down matrices, or runs a router and experts, and reduces twice over the
shards.

- FP8 tables time the quantisation of the activations as kernels of their own.  A served engine fuses them with the norm
  or the activation before; what the narrowest product of the same rows and inputs takes more than in bf16 comes off,
  down to the time to read the weights.
- Benchmarks of single kernels are short.  Under the power limit of a GPU that computes for long, products reach at most
  ``sustained`` of the tables' best bf16 product (of twice that in FP8).  The default is from Qwen3-32B on H100 SXM:
  4096 prompt and 128 output tokens, tp 2, 64 clients of vLLM 0.12 spend 0.26 s per prompt.
- Element-wise kernels (two norms, rotary embedding, cache write, activation) are not in the tables: each takes the
  time of the shortest product, and all move their bytes at the rate at which the best product reads its weights.
- Decode attention may split long contexts (:func:`latency_models.tables.operator_curves.split_contexts`).

Left out: the engine's CPU time, sampling beyond the LM head, and gaps between kernels; latency kind ``corrected`` or
``cpu_overhead_s`` of a scenario add them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from latency_models.catalogue.architectures import Architecture
from latency_models.errors import check_count, check_finite, invalid, unknown_name
from latency_models.tables.operator_curves import (
    Attention,
    AttentionOperator,
    MatrixProducts,
    Points,
    all_reduce_times,
    curve_of,
    expert_times,
)
from latency_models.tables.operator_tables import OperatorTables
from latency_models.tables.operators import AttentionLayers, OperatorStepTime

ACTIVATION_BYTES = 2.0
"""Bytes per element of what flows between the kernels (bf16)."""

SUSTAINED = 0.67
"""Default of :attr:`OperatorSetup.sustained`."""

EXPERT_CHOICE = "power_law_1.2"
"""How unevenly tokens choose experts unless told otherwise: the least even choice that was measured."""

ELEMENT_WISE_KERNELS = 5
"""Kernels of a layer that are no products: two norms, rotary embedding, cache write, activation."""

PRODUCT_FORMATS = {
    "bf16": ("bfloat16", 2.0),
    "fp8": ("fp8", 1.0),
    "fp8_block": ("fp8_block", 1.0),
    "nvfp4": ("nvfp4", 0.5),
}
"""Formats of dense weights: their name in the tables, and bytes per weight."""

EXPERT_FORMATS = {
    "bf16": "bfloat16",
    "fp8": "fp8",
    "fp8_block": "fp8_block",
    "int4": "int4_wo",
    "mxfp4": "w4a16_mxfp4",
    "nvfp4": "nvfp4",
}
"""Formats of experts' weights, by their name in the tables."""

CACHE_FORMATS = {"bf16": ("bfloat16", 2.0), "fp8": ("fp8", 1.0)}
"""Formats of the KV cache: their name in the tables, and bytes per element."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorSetup:
    """How a model is served, as far as its operators depend on it.

    Parameters
    ----------
    tp : int
        Tensor-parallel shards.
    gemm : str
        Format of the weights of the dense products (:data:`PRODUCT_FORMATS`).
    kv_cache : str
        Format of the KV cache (:data:`CACHE_FORMATS`).
    experts : str, optional
        Format of the experts' weights (:data:`EXPERT_FORMATS`); default as ``gemm``.
    ep : int
        Over how many of the shards the experts are distributed; the rest splits each expert.
    expert_choice : str, optional
        How unevenly tokens choose experts, as the tables name it; default :data:`EXPERT_CHOICE`.
    sustained : float
        Most that products reach for long, as a share of the best bf16 product of the tables; see the module.

    Raises
    ------
    InputError
        On counts below 1, unknown formats, or an ``ep`` that does not divide ``tp``.
    """

    tp: int
    gemm: str = "bf16"
    kv_cache: str = "bf16"
    experts: str | None = None
    ep: int = 1
    expert_choice: str | None = None
    sustained: float = SUSTAINED

    def __post_init__(self) -> None:
        check_count("latency.tp", self.tp)
        check_finite("latency.sustained", self.sustained, exclusive=True)
        if self.tp % check_count("latency.ep", self.ep):
            raise invalid("latency.ep", self.ep, f"a divisor of tp, {self.tp}")
        if self.gemm not in PRODUCT_FORMATS:
            raise unknown_name("format in latency.gemm", self.gemm, PRODUCT_FORMATS)
        if self.kv_cache not in CACHE_FORMATS:
            raise unknown_name("format in latency.kv_cache", self.kv_cache, CACHE_FORMATS)
        if self.expert_format not in EXPERT_FORMATS:
            raise unknown_name("format in latency.experts", self.expert_format, EXPERT_FORMATS)

    @property
    def expert_format(self) -> str:
        """Format of the experts' weights."""
        return self.gemm if self.experts is None else self.experts


@lru_cache(maxsize=32)
def compose_operators(tables: OperatorTables, model: Architecture, setup: OperatorSetup) -> OperatorStepTime:
    """Compose the step time of one replica of a model from operator tables; once per process for equal arguments.

    Raises
    ------
    InputError
        If the tables lack a format or shape, or the model cannot be split into that many shards.
    """
    _check_split(model, setup)
    tp = setup.tp
    plain = MatrixProducts(tables, PRODUCT_FORMATS["bf16"][0])
    dense = _Products(tables, plain, setup)
    heads, kv_heads = model.heads // tp, max(model.kv_heads // tp, 1)
    projected = (heads + 2 * kv_heads) * model.head_dim

    sizes = set(plain.sizes)
    costs = [
        _times(model.layers, dense, [(projected, model.hidden), (model.hidden, heads * model.head_dim)]),
        # Elements read and written by both norms with their residuals, rotary embedding and cache write.
        _element_wise(model.layers, plain, 8 * model.hidden + 2 * projected + 2 * kv_heads * model.head_dim),
    ]
    if model.moe_layers < model.layers:
        costs.append(_mlp(model.layers - model.moe_layers, dense, plain, model, model.intermediate // tp))
    if model.moe_layers:
        points = _experts(tables, model, setup)
        sizes |= set(points)
        costs.append(_mixture(model, plain, points))
        if model.shared_intermediate:
            costs.append(_mlp(model.moe_layers, dense, plain, model, model.shared_intermediate // tp))
    if tp > 1:
        points = all_reduce_times(tables, gpus=tp)
        sizes |= {elements / model.hidden for elements in points if elements > model.hidden}
        costs.append(_reductions(model, points))

    return OperatorStepTime(
        per_token=curve_of("tokens", {size: sum(cost(size) for cost in costs) for size in sorted(sizes)}),
        per_sampled=curve_of(
            "sequences", {size: plain.time_s(size, model.vocabulary / tp, model.hidden) for size in plain.sizes}
        ),
        attention=_attention(tables, model, setup, heads, kv_heads, plain),
    )


class _Products:
    """Products in the model's format as the engine runs them: with the quantisation fused into the kernel before."""

    def __init__(self, tables: OperatorTables, plain: MatrixProducts, setup: OperatorSetup) -> None:
        name, weight_bytes = PRODUCT_FORMATS[setup.gemm]
        # Matrix units work off half the bits at twice the rate, and so does memory.
        faster = PRODUCT_FORMATS["bf16"][1] / weight_bytes
        self._plain = plain
        self._measured = plain if setup.gemm == "bf16" else MatrixProducts(tables, name)
        self._weights_per_s = plain.weights_per_s * faster
        self._products_per_s = plain.products_per_s * faster * setup.sustained

    def time_s(self, tokens: float, n: float, k: float) -> float:
        """Seconds to multiply ``tokens`` rows of k inputs by k x n weights."""
        time_s = self._measured.time_s(tokens, n, k)
        if self._measured is not self._plain:
            narrow = self._measured.narrowest
            time_s -= max(0.0, self._measured.time_s(tokens, narrow, k) - self._plain.time_s(tokens, narrow, k))
        return max(time_s, n * k / self._weights_per_s, tokens * n * k / self._products_per_s)


_Cost = Callable[[float], float]
"""Seconds of a part of the step, over its tokens."""


def _times(layers: int, products: _Products | MatrixProducts, shapes: list[tuple[float, float]]) -> _Cost:
    return lambda tokens: layers * sum(products.time_s(tokens, n, k) for n, k in shapes)


def _moving_s(plain: MatrixProducts, elements: float) -> float:
    """Seconds to read or write so many elements of activations."""
    return elements * ACTIVATION_BYTES / (plain.weights_per_s * PRODUCT_FORMATS["bf16"][1])


def _element_wise(layers: int, plain: MatrixProducts, elements: float) -> _Cost:
    start_s = layers * ELEMENT_WISE_KERNELS * plain.shortest_s
    per_token_s = layers * _moving_s(plain, elements)
    return lambda tokens: start_s + per_token_s * tokens


def _mlp(layers: int, dense: _Products, plain: MatrixProducts, model: Architecture, width: int) -> _Cost:
    up = 2 * width if model.gated_mlp else width
    products = _times(layers, dense, [(up, model.hidden), (model.hidden, width)])
    per_token_s = layers * _moving_s(plain, up + width)
    return lambda tokens: products(tokens) + per_token_s * tokens


def _experts(tables: OperatorTables, model: Architecture, setup: OperatorSetup) -> Points:
    return expert_times(
        tables,
        weights=EXPERT_FORMATS[setup.expert_format],
        hidden=model.hidden,
        intermediate=model.expert_intermediate,
        chosen=model.experts_per_token,
        experts=model.experts,
        tp=setup.tp // setup.ep,
        ep=setup.ep,
        distribution=setup.expert_choice or EXPERT_CHOICE,
    )


def _mixture(model: Architecture, plain: MatrixProducts, points: Points) -> _Cost:
    of_experts = curve_of("tokens", points)
    router = _times(1, plain, [(model.experts, model.hidden)])
    return lambda tokens: model.moe_layers * (of_experts.law(tokens)[0] + router(tokens))


def _reductions(model: Architecture, points: Points) -> _Cost:
    of_elements = curve_of("elements", points)
    return lambda tokens: 2 * model.layers * of_elements.law(tokens * model.hidden)[0]


def _attention(
    tables: OperatorTables, model: Architecture, setup: OperatorSetup, heads: int, kv_heads: int, plain: MatrixProducts
) -> list[AttentionLayers]:
    kv_cache, element_bytes = CACHE_FORMATS[setup.kv_cache]

    def times(operator: AttentionOperator, combine_s: float | None) -> Attention:
        return Attention(
            tables,
            operator,
            kv_cache=kv_cache,
            head_dim=model.head_dim,
            heads=heads,
            kv_heads=kv_heads,
            combine_s=combine_s,
        )

    prefill, decode = times("context_attention", None), times("generation_attention", plain.shortest_s)
    read_s = 2 * kv_heads * model.head_dim * element_bytes / (plain.weights_per_s * PRODUCT_FORMATS["bf16"][1])
    windows = [(model.layers - model.window_layers, 0), (model.window_layers, model.window)]
    return [
        AttentionLayers(
            layers=layers,
            prefill=prefill,
            decode=decode,
            pair_s=prefill.shortest_pair_s(),
            read_s=read_s,
            window=window,
        )
        for layers, window in windows
        if layers
    ]


def _check_split(model: Architecture, setup: OperatorSetup) -> None:
    tp = setup.tp
    if not model.moe_layers:
        for name, value in (("experts", setup.experts), ("expert_choice", setup.expert_choice)):
            if value is not None:
                raise invalid(f"latency.{name}", value, f"nothing, as {model.name} has no experts")
        if setup.ep > 1:
            raise invalid("latency.ep", setup.ep, f"1, as {model.name} has no experts")
    shards = {"heads": tp, "intermediate": tp, "shared_intermediate": tp, "expert_intermediate": tp // setup.ep}
    for name, parts in shards.items():
        size = getattr(model, name)
        if size % parts:
            raise invalid("latency.tp", tp, f"such that the {size} {name} of {model.name} divide by {parts}")
    if model.kv_heads % tp and tp % model.kv_heads:
        raise invalid("latency.tp", tp, f"a divisor or a multiple of the {model.kv_heads} kv_heads of {model.name}")
