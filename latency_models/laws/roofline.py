"""``roofline``: step times from a datasheet and a ``config.json``, without any measurement.

Each part of a step takes the longer of its operations over the GPU's throughput and its bytes over the GPU's bandwidth
(S. Williams, A. Waterman, D. Patterson, Roofline, CACM 52(4), 2009), both at the efficiency that is assumed; parts add
up, and a step never takes less than launching its kernels.  Figures of this model are synthetic: use them to compare
designs, and a calibrated model to promise latencies.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from latency_models.catalogue.gpus import GpuSpec
from latency_models.catalogue.model_work import ModelWork
from latency_models.errors import check_count, check_finite, invalid
from latency_models.laws.compute_share import bandwidth_factor
from latency_models.step_time import STEP_TIME_MODELS, UNLIMITED_STEPS
from latency_models.step_work import StepWork

COMPUTE_EFFICIENCY = 0.65
"""Of the dense throughput: prefill of 4096 tokens by LLaMA-13B on one A100-80GB reaches 0.63 (MuxServe)."""
MEMORY_EFFICIENCY = 0.8
"""Of the bandwidth: matrix products of 16 tokens and fewer reach 0.70 (A100) and 0.85 (H100), in the median of
AIConfigurator's operator tables of vLLM 0.14."""
KERNEL_S = 2.5e-6
"""Shortest kernel: the smallest matrix product of these tables takes 2.5 microseconds on either GPU.  An engine without
CUDA graphs is launch-bound at about 3e-5 (MuxServe's fork of early vLLM)."""
OVERHEAD_S = 1e-3
"""Assumed time of the engine's own work between two steps."""


@STEP_TIME_MODELS.register("roofline")
@dataclass(frozen=True, slots=True, kw_only=True)
class RooflineStepTime:
    """Step time of a model's shard on a GPU, from counts and a datasheet.

    Parameters
    ----------
    gpu : GpuSpec
        The GPU of each shard.
    work : ModelWork
        Work of a shard.
    tp : int
        Shards.
    compute_efficiency, memory_efficiency : float
        Share of the datasheet's throughput, and of its memory and link bandwidth, that is reached; in (0, 1].
    kernel_s : float
        Seconds that a kernel takes at least.
    overhead_s : float
        Seconds of the engine between two steps.
    compute_share : float
        Share of the SMs, in (0, 1]: throughput follows it, bandwidth saturates
        (:func:`latency_models.laws.compute_share.bandwidth_factor`).

    Raises
    ------
    InputError
        A figure is out of range.
    """

    """No measurement went into this model."""

    gpu: GpuSpec
    work: ModelWork
    tp: int = 1
    compute_efficiency: float = COMPUTE_EFFICIENCY
    memory_efficiency: float = MEMORY_EFFICIENCY
    kernel_s: float = KERNEL_S
    overhead_s: float = OVERHEAD_S
    compute_share: float = 1.0

    _product_flop_s: float = field(init=False, repr=False)
    _attention_flop_s: float = field(init=False, repr=False)
    _byte_s: float = field(init=False, repr=False)
    _summed_token_s: float = field(init=False, repr=False)
    _launch_s: float = field(init=False, repr=False)

    def __post_init__(self) -> None:
        check_count("latency.tp", self.tp)
        for name in ("compute_efficiency", "memory_efficiency", "compute_share"):
            value = getattr(self, name)
            if check_finite(f"latency.{name}", value, exclusive=True) > 1.0:
                raise invalid(f"latency.{name}", value, "a share, > 0 and <= 1")
        for name in ("kernel_s", "overhead_s"):
            if check_finite(f"latency.{name}", getattr(self, name)) >= 1.0:
                raise invalid(f"latency.{name}", getattr(self, name), "seconds, below 1", "Are these milliseconds?")
        computing = self.compute_efficiency * self.compute_share
        reading = self.memory_efficiency * bandwidth_factor(self.compute_share)
        # A ring moves each byte 2 (tp - 1) / tp times over every link.
        moved = self.work.all_reduces * self.work.all_reduce_bytes_per_token * 2.0 * (self.tp - 1) / self.tp
        for name, seconds in (
            ("_product_flop_s", 1.0 / (self.gpu.flops_per_s(self.work.math_format) * computing)),
            ("_attention_flop_s", 1.0 / (self.gpu.flops_per_s("bf16") * computing)),
            ("_byte_s", 1.0 / (self.gpu.bandwidth_bytes_per_s * reading)),
            ("_summed_token_s", moved / (self.gpu.link_bytes_per_s * self.memory_efficiency)),
            ("_launch_s", self.kernel_s * self.work.kernels),
        ):
            object.__setattr__(self, name, seconds)

    def at_share(self, share: float) -> RooflineStepTime:
        """The model when each shard gets this share of its GPU's SMs."""
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
        compute_s, read_s = self._prefill_attention_s(tokens - decode_seqs, prefill_seqs, prefill_context, prefill_work)
        decode_s = self._kv_s(decode_context, min(decode_context, decode_seqs * self.work.window))
        attention_s = max(compute_s, read_s) + decode_s
        return self.overhead_s + max(self._products_s(tokens, sampled) + attention_s, self._launch_s)

    def decode_run(self, seqs: int, context: int, longest: int = 0) -> tuple[float, float, int]:
        """Law of a run of decode-only steps, up to where its window fills or it outgrows the launch of its kernels."""
        work = self.work
        in_window = seqs * work.window
        busy_s = self._products_s(seqs, seqs) + self._kv_s(context, min(context, in_window))
        growth_s = self._kv_s(seqs, seqs if context < in_window else 0)
        steps = UNLIMITED_STEPS
        if work.window_kv_bytes_per_token and context < in_window:
            steps = (in_window - context) // seqs + 1
        if busy_s >= self._launch_s:
            return self.overhead_s + busy_s, growth_s, steps
        if growth_s > 0.0:
            # The last step of the run is the last one that is not yet longer than the launch.
            steps = min(steps, int((self._launch_s - busy_s) / growth_s) + 1)
        return self.overhead_s + self._launch_s, 0.0, steps

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
        parts = (
            *self._product_parts_s(tokens, sampled),
            self._prefill_attention_s(tokens - decode_seqs, prefill_seqs, prefill_context, prefill_work),
        )
        return StepWork(
            compute_s=sum(compute_s for compute_s, read_s in parts if compute_s > read_s),
            memory_s=sum(read_s for compute_s, read_s in parts if compute_s <= read_s)
            + self._kv_s(decode_context, min(decode_context, decode_seqs * self.work.window)),
            sms=self.compute_share,
            bandwidth=self.memory_efficiency * bandwidth_factor(self.compute_share),
        )

    def _prefill_attention_s(
        self, chunks: int, prefill_seqs: int, prefill_context: int, prefill_work: float
    ) -> tuple[float, float]:
        """Attention of prefill: seconds to compute it, and to read its keys and values."""
        work = self.work
        window_work = min(prefill_work, float(chunks * work.window))
        flops = work.flops_per_pair * prefill_work + work.window_flops_per_pair * window_work
        in_window = min(prefill_context, prefill_seqs * work.window + chunks)
        return flops * self._attention_flop_s, self._kv_s(prefill_context, in_window)

    def _product_parts_s(self, tokens: int, sampled: int) -> tuple[tuple[float, float], tuple[float, float]]:
        """Products of the tokens, and LM head of the sampled: seconds to compute each, and to read its weights."""
        work = self.work
        layers = (work.flops_per_token * tokens * self._product_flop_s, work.weights_read(tokens) * self._byte_s)
        head = (work.head_flops * sampled * self._attention_flop_s, work.head_bytes * self._byte_s)
        return layers, head if sampled else (0.0, 0.0)

    def _products_s(self, tokens: int, sampled: int) -> float:
        """Matrix products of the tokens, LM head of the sampled sequences, sums over the shards."""
        layers, head = self._product_parts_s(tokens, sampled)
        return max(layers) + max(head) + self._summed_token_s * tokens

    def _kv_s(self, context: int, window_context: int) -> float:
        """Reading keys and values."""
        work = self.work
        return self._byte_s * (work.kv_bytes_per_token * context + work.window_kv_bytes_per_token * window_context)
