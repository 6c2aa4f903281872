"""``steps``: what a step takes, term by term, with coefficients fitted to measured steps.

``t = factor * (step_s + sequence_s * sequences + max(launch, work))`` with

- launch: what the host needs to start the kernels of every layer, more with tensor parallelism and with prefill;
- work: matrix products (:mod:`latency_models.laws.matrix_products`: waves of tiles, or the weights read once, whichever
  is longer), LM head of the sampled sequences, activations read and written between them, sums over the shards (short
  ones at a fraction of the links' bandwidth), attention to the cached context (its bytes, and a start per sequence and
  head), attention of prefill (query-key pairs);
- factor: 1, or what measurements of this very model show beyond the law (:mod:`latency_models.laws.share_residuals`).

Coefficients are shares of what the GPU's datasheet promises, or times of the host, so that they carry over to another
model, GPU, tensor parallelism or share of the multiprocessors; :attr:`StepsStepTime.notes` says when they do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace

import numpy as np
from numpy.typing import NDArray

from latency_models.catalogue.architectures import Architecture
from latency_models.catalogue.gpus import GpuSpec
from latency_models.catalogue.model_work import ModelWork
from latency_models.catalogue.weight_formats import weight_format
from latency_models.errors import check_finite, invalid
from latency_models.fits.step_table import Floats, StepTable
from latency_models.laws.compute_share import (
    BANDWIDTH_HALF_SHARE,
    bandwidth_factor,
    check_share,
    multiprocessors,
    share_notes,
)
from latency_models.laws.matrix_products import TILE, MatrixProduct, head_product, layer_products
from latency_models.laws.share_residuals import FactorCurve, ShareResiduals
from latency_models.step_time import STEP_TIME_MODELS, UNLIMITED_STEPS
from latency_models.step_work import StepWork

_ACTIVATION_BYTES = 2.0
EFFICIENCIES = ("compute", "memory", "kv", "attention", "link", "short_link")
"""Coefficients that are shares of a datasheet's figure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepsCoefficients:
    """Coefficients of the law; the defaults are the fit named in :data:`DEFAULTS_SOURCE`.

    Parameters
    ----------
    step_s : float
        Seconds of every step: the engine's own work.
    sequence_s : float
        Seconds per scheduled sequence.
    layer_launch_s, parallel_launch_s, prefill_launch_s : float
        Seconds per layer to launch its kernels; what comes on top with tensor parallelism, and in a step with prefill.
    compute, memory, kv, attention, link : float
        Shares of the datasheet's figure that are reached: throughput of matrix products, bandwidth of weights and of
        activations, bandwidth of the KV cache, throughput of prefill's attention, links between the GPUs; in (0, 1].
    half_tile_cost : float
        Time of a tile of 64 rows over that of 128, in [0.25, 1].
    bandwidth_half_share : float
        How early bandwidth saturates over the share of the multiprocessors; see
        :func:`latency_models.laws.compute_share.bandwidth_factor`.
    hidden_passes, inner_passes : float
        How often a layer moves a token's activations through memory: of the model's width (on every shard), and of the
        inner width (query, key, value and MLP; split over the shards).
    reduce_s : float
        Seconds of each sum over the shards, whatever its size.
    short_link, bulk_reduce_s : float
        A collective library sends short messages with a flag beside every few bytes, which starts at once but reaches
        only the share ``short_link`` of the links; long ones in bulk, which reaches ``link`` after ``bulk_reduce_s``
        more (NCCL's protocols LL and Simple: Z. Hu et al., "Demystifying NCCL", 2025, section III).  The faster one
        is taken.
    head_start_s : float
        Seconds of one multiprocessor to start the attention of one decoding sequence and head in one layer.

    Raises
    ------
    InputError
        If a coefficient is negative or not finite, or a share is not in its range.
    """

    step_s: float = 0.0007672
    sequence_s: float = 3.093e-06
    layer_launch_s: float = 0.0001888
    parallel_launch_s: float = 0.0001989
    prefill_launch_s: float = 0.0002222
    compute: float = 0.8721
    memory: float = 0.6842
    kv: float = 0.7004
    attention: float = 0.7299
    link: float = 1.0
    half_tile_cost: float = 0.6148
    bandwidth_half_share: float = BANDWIDTH_HALF_SHARE
    hidden_passes: float = 26.88
    inner_passes: float = 11.59
    reduce_s: float = 2.792e-05
    short_link: float = 0.07537
    bulk_reduce_s: float = 6.978e-05
    head_start_s: float = 1.896e-06

    def __post_init__(self) -> None:
        for entry in fields(self):
            value = check_finite(f"latency.coefficients.{entry.name}", getattr(self, entry.name))
            if entry.name in EFFICIENCIES and not 0.0 < value <= 1.0:
                raise invalid(f"latency.coefficients.{entry.name}", value, "a share, > 0 and <= 1")
        if not 0.25 <= self.half_tile_cost <= 1.0:
            raise invalid("latency.coefficients.half_tile_cost", self.half_tile_cost, "0.25 to 1")
        if self.step_s + self.layer_launch_s >= 1.0:
            raise invalid("latency.coefficients.step_s", self.step_s, "seconds, below 1", "Are these milliseconds?")


DEFAULTS_SOURCE = "MuxServe's step times of LLaMA 7B, 13B and 65B on A100-80GB (early vLLM, fp16, tp 1 to 8)"
"""What the default coefficients were fitted to."""
FITTED_MODELS = ("llama-7b", "llama-13b", "llama-65b")
FITTED_GPU = "a100-80gb"


@STEP_TIME_MODELS.register("steps")
@dataclass(frozen=True, slots=True, kw_only=True)
class StepsStepTime:
    """The law for one shard of a model on a share of a GPU; see the module's text.

    Parameters
    ----------
    architecture : Architecture
        The model; no mixture of experts.
    gpu : GpuSpec
        GPU of each shard.
    tp : int
        Tensor-parallel shards.
    compute_share : float
        Share of the GPU's multiprocessors, in (0, 1].
    weights, kv_dtype : str
        Formats of the weights and of the KV cache; ``auto`` is the checkpoint's, and 16 bits.
    coefficients : StepsCoefficients
        Fitted figures.
    residuals : ShareResiduals, optional
        Factors measured for this model and ``tp``.
    fitted_models : sequence of str
        Names of the models behind the coefficients.
    fitted_gpu : str
        Name of the GPU behind them.

    Raises
    ------
    InputError
        A figure is out of range, or the model is not supported.
    """

    architecture: Architecture
    gpu: GpuSpec
    tp: int = 1
    compute_share: float = 1.0
    weights: str = "auto"
    kv_dtype: str = "auto"
    coefficients: StepsCoefficients = StepsCoefficients()
    residuals: ShareResiduals | None = None
    fitted_models: Sequence[str] = FITTED_MODELS
    fitted_gpu: str = FITTED_GPU

    _products: tuple[MatrixProduct, ...] = field(init=False, repr=False, compare=False)
    _head: MatrixProduct = field(init=False, repr=False, compare=False)
    _sms: int = field(init=False, repr=False, compare=False)
    _depth_s: float = field(init=False, repr=False, compare=False)
    _head_depth_s: float = field(init=False, repr=False, compare=False)
    _weight_s: float = field(init=False, repr=False, compare=False)
    _head_weight_s: float = field(init=False, repr=False, compare=False)
    _token_s: float = field(init=False, repr=False, compare=False)
    _short_sum_s: float = field(init=False, repr=False, compare=False)
    _bulk_sum_s: float = field(init=False, repr=False, compare=False)
    _bulk_s: float = field(init=False, repr=False, compare=False)
    _reduces_s: float = field(init=False, repr=False, compare=False)
    _context_s: float = field(init=False, repr=False, compare=False)
    _start_s: float = field(init=False, repr=False, compare=False)
    _pair_s: float = field(init=False, repr=False, compare=False)
    _decode_launch_s: float = field(init=False, repr=False, compare=False)
    _prefill_launch_s: float = field(init=False, repr=False, compare=False)
    _curves: tuple[FactorCurve, FactorCurve] | None = field(init=False, repr=False, compare=False)
    # Tokens, or sampled sequences, that were asked for before: the same few numbers come again and again.
    _products_known: dict[int, float] = field(init=False, repr=False, compare=False)
    _head_known: dict[int, float] = field(init=False, repr=False, compare=False)
    _bounds_known: dict[tuple[int, int], tuple[float, float]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_share("latency.compute_share", self.compute_share)
        own, gpu, model, tp = self.coefficients, self.gpu, self.architecture, self.tp
        work = ModelWork.of(model, tp=tp, weights=self.weights, kv_dtype=self.kv_dtype)
        stored = weight_format(model.weights if self.weights == "auto" else self.weights)
        products, sms = layer_products(model, tp), multiprocessors(gpu.sms, self.compute_share)
        # Seconds per byte of what goes through memory, and per operation on all the shard's multiprocessors.
        byte_s = 1.0 / (
            gpu.bandwidth_bytes_per_s * own.memory * bandwidth_factor(self.compute_share, own.bandwidth_half_share)
        )
        tile_flops = 2.0 * TILE * TILE * gpu.sms
        moved = own.hidden_passes * model.hidden + own.inner_passes * (products[0].columns + products[2].columns)
        # A ring moves each byte 2 (tp - 1) / tp times over every link.
        summed = work.all_reduces * work.all_reduce_bytes_per_token * 2.0 * (tp - 1) / tp
        summed_s = summed / gpu.link_bytes_per_s
        launch_s = own.layer_launch_s + (own.parallel_launch_s if tp > 1 else 0.0)
        values = {
            "_products": products,
            "_head": head_product(model, tp),
            "_sms": sms,
            "_depth_s": tile_flops / (gpu.flops_per_s(stored.math_format) * own.compute),
            "_head_depth_s": tile_flops / (gpu.flops_per_s("bf16") * own.compute),
            "_weight_s": stored.bits / 8.0 * byte_s,
            "_head_weight_s": 2.0 * byte_s,
            "_token_s": _ACTIVATION_BYTES * moved * model.layers * byte_s,
            "_short_sum_s": summed_s / own.short_link,
            "_bulk_sum_s": summed_s / own.link,
            "_bulk_s": own.bulk_reduce_s * work.all_reduces,
            "_reduces_s": own.reduce_s * work.all_reduces,
            "_context_s": (work.kv_bytes_per_token + work.window_kv_bytes_per_token) * byte_s * own.memory / own.kv,
            "_start_s": own.head_start_s * model.layers * (model.heads // tp) / sms,
            "_pair_s": (work.flops_per_pair + work.window_flops_per_pair)
            / (gpu.flops_per_s("bf16") * own.attention * sms / gpu.sms),
            "_decode_launch_s": model.layers * launch_s,
            "_prefill_launch_s": model.layers * (launch_s + own.prefill_launch_s),
            "_curves": None
            if self.residuals is None
            else (self.residuals.prefill.at(self.compute_share), self.residuals.decode.at(self.compute_share)),
            "_products_known": {},
            "_head_known": {},
            "_bounds_known": {},
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)

    @property
    def notes(self) -> tuple[str, ...]:
        """In what the law is carried beyond the steps that it was fitted to; empty if in nothing."""
        found = list(share_notes(self.compute_share))
        if self.architecture.name not in self.fitted_models:
            fitted = ", ".join(self.fitted_models)
            found.append(f"step times of {self.architecture.name} are scaled by architecture from those of {fitted}")
        if self.gpu.name != self.fitted_gpu:
            found.append(f"step times on {self.gpu.name} are scaled by its datasheet from those on {self.fitted_gpu}")
        if self.architecture.window_layers:
            found.append(
                f"the sliding window of {self.architecture.name} is left out: all layers read the whole context"
            )
        return tuple(found)

    def at_share(self, share: float) -> StepsStepTime:
        """The law when each shard gets this share of its GPU's multiprocessors."""
        return replace(self, compute_share=share)

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
        """Duration of one step; see :meth:`latency_models.step_time.StepTimeModel.step_s`."""
        work_s = (
            self._products_s(tokens)
            + self._head_s(sampled)
            + self._context_s * decode_context
            + self._start_s * decode_seqs
            + self._pair_s * prefill_work
        )
        own = self.coefficients
        launch_s = self._prefill_launch_s if prefill_seqs else self._decode_launch_s
        whole_s = own.step_s + own.sequence_s * (prefill_seqs + decode_seqs) + max(work_s, launch_s)
        return whole_s if self._curves is None else whole_s * self._curves[0 if prefill_seqs else 1].factor(tokens)

    def decode_run(self, seqs: int, context: int, longest: int = 0) -> tuple[float, float, int]:
        """Law of a run of decode-only steps, up to where its work outgrows the launch of its kernels."""
        work_s = self._products_s(seqs) + self._head_s(seqs) + self._context_s * context + self._start_s * seqs
        growth_s = self._context_s * seqs
        steps = UNLIMITED_STEPS
        if work_s < self._decode_launch_s:
            # The last step of the run is the last one that is not yet longer than the launch.
            steps = int((self._decode_launch_s - work_s) / growth_s) + 1
            work_s, growth_s = self._decode_launch_s, 0.0
        first_s = self.coefficients.step_s + self.coefficients.sequence_s * seqs + work_s
        if self._curves is None:
            return first_s, growth_s, steps
        factor = self._curves[1].factor(seqs)
        return factor * first_s, factor * growth_s, steps

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
        """What bounds a step; see :func:`latency_models.step_work.step_work_of`."""
        known = self._bounds_known.get((tokens, sampled))
        if known is None:
            known = self._bounds_known[tokens, sampled] = self._product_bounds_s(tokens, sampled)
        compute_s = known[0] + self._start_s * decode_seqs + self._pair_s * prefill_work
        memory_s = known[1] + self._token_s * tokens + self._context_s * decode_context
        factor = 1.0 if self._curves is None else self._curves[0 if prefill_seqs else 1].factor(tokens)
        own = self.coefficients
        return StepWork(
            compute_s=factor * compute_s,
            memory_s=factor * memory_s,
            sms=self.compute_share,
            bandwidth=own.memory * bandwidth_factor(self.compute_share, own.bandwidth_half_share),
        )

    def table_s(self, table: StepTable) -> Floats:
        """Duration of each step of a table, shape (n,): what :meth:`step_s` gives, for many steps at once."""
        prefill = table.prefill_seqs > 0
        tokens, sampled = table.tokens.astype(np.int64), table.sampled.astype(np.int64)
        work_s = (
            _looked_up(self._products_s, tokens)
            + _looked_up(self._head_s, sampled)
            + self._context_s * table.decode_context
            + self._start_s * table.decode_seqs
            + self._pair_s * table.prefill_work
        )
        own = self.coefficients
        launch_s = np.where(prefill, self._prefill_launch_s, self._decode_launch_s)
        whole_s: Floats = own.step_s + own.sequence_s * table.sequences + np.maximum(work_s, launch_s)
        if self._curves is None:
            return whole_s
        factors = [_looked_up(curve.factor, tokens) for curve in self._curves]
        return whole_s * np.where(prefill, *factors)

    def _products_s(self, tokens: int) -> float:
        """Matrix products of all layers, activations between them and sums over the shards."""
        known = self._products_known.get(tokens)
        if known is None:
            known = self._token_s * tokens + self._reduces_s
            known += min(self._short_sum_s * tokens, self._bulk_s + self._bulk_sum_s * tokens)
            for product in self._products:
                known += product.count * self._product_s(product, tokens, self._depth_s, self._weight_s)
            self._products_known[tokens] = known
        return known

    def _head_s(self, sampled: int) -> float:
        """LM head of the sequences that emit a token."""
        known = self._head_known.get(sampled)
        if known is None:
            known = self._product_s(self._head, sampled, self._head_depth_s, self._head_weight_s) if sampled else 0.0
            self._head_known[sampled] = known
        return known

    def _product_bounds_s(self, tokens: int, sampled: int) -> tuple[float, float]:
        """Time of products bound by compute, and by memory; while SMs wait for the end of a wave it is neither."""
        compute_s = memory_s = 0.0
        products = [(product, tokens, self._depth_s, self._weight_s) for product in self._products]
        if sampled:
            products.append((self._head, sampled, self._head_depth_s, self._head_weight_s))
        for product, rows, depth_s, weight_s in products:
            waves = product.full_waves(rows, self._sms, self.coefficients.half_tile_cost)
            computed_s, read_s = waves * product.depth * depth_s, product.weights * weight_s
            if computed_s > read_s:
                compute_s += product.count * computed_s
            else:
                memory_s += product.count * read_s
        return compute_s, memory_s

    def _product_s(self, product: MatrixProduct, rows: int, depth_s: float, weight_s: float) -> float:
        """One product: computed in waves of tiles, or its weights read, whichever takes longer."""
        waves = product.waves(rows, self._sms, self.coefficients.half_tile_cost)
        return max(waves * product.depth * depth_s, product.weights * weight_s)


def _looked_up(of: Callable[[int], float], counts: NDArray[np.int64]) -> Floats:
    """A function of a count for each of many, asked once per value."""
    values, places = np.unique(counts, return_inverse=True)
    found: Floats = np.array([of(int(value)) for value in values])[places]
    return found
