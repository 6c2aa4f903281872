"""``layers``: a step composed from measured times of single transformer layers.

What a step consists of
-----------------------
- The *dense* kernels (projections, norms, activation, rotary embedding) depend on the tokens of the step.  Embedding
  and final norm run once, the others in each transformer layer (:data:`latency_models.tables.layer_profile.PER_LAYER`).
- *Attention* runs once per layer and depends on the tokens of the prefill chunk, the context cached before it, the
  number of decodes and their mean context.
- *LM head and sampler* run once, over all sequences of the step: vLLM samples for unfinished prefills too, and drops
  the result.
- A *mixture of experts* takes the place of the MLP (:class:`ExpertLayer`).
- Batches of *unequal contexts* take longer than the measured ones, whose contexts are equal:
  :data:`LONGEST_SEQUENCES`.
- With tensor parallelism two *all-reduces* per layer join the shards (:class:`AllReduce`).

A profile has one prefill chunk per step.  Several chunks are looked up as the single chunk with as many tokens and
query-key pairs or, where there is none, as the one with as many pairs and nothing cached.  A chunk larger than the
largest measured one is the sum of the pieces that it can be cut into, since pairs add up.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from latency_models.errors import check_count, check_finite, invalid
from latency_models.step_time import STEP_TIME_MODELS, UNLIMITED_STEPS
from latency_models.tables.grids import Beyond, Curve, Grid, Row, build_curve, build_grid
from latency_models.tables.layer_profile import ATTENTION_AXES, EXPERT_AXES, ONCE, PER_LAYER, LayerProfile

LINK_LATENCY_S = 5e-6
"""Start-up of one exchange of an all-reduce."""
LINK_BYTES_PER_S = 50e9
"""80 % of PCIe 5.0 x16 in one direction (63e9)."""

LONGEST_SEQUENCES = 2.4
"""Attention of n unequal sequences takes ``t(mean) + min(1, k / n) * (t(longest) - t(mean))``: the blocks of the GPU
that work on the longest sequence end last, so that a batch takes as much longer as k sequences of that length would.

k is the median over the groups of clearly unequal batches (``lev1`` and up, 8 sequences and more) in LLMServingSim's
published profiles, ``skew_fit.csv`` of vLLM's FlashAttention: Llama-3.1-8B and Qwen3-32B on an RTX PRO 6000,
Llama-3.1-8B on an RTX 4090.  By batch size from 8 to 128 it is 2.5, 2.3, 1.9, 2.0 and 2.6; by profile 3.2, 2.0, 2.2."""
UNSPLIT_SEQS = 38
"""Decodes from which on a step without prefill is affected.  Smaller batches do not fill the GPU, so FlashAttention
splits their contexts: below ``0.8 * 2 * SMs / KV heads`` sequences, here with 188 SMs and 8 KV heads on each GPU."""

_US = 1e-6
_PLAUSIBLE_S = (2e-5, 10.0)
"""Decode step of one sequence, from a tiny model to the slowest hardware; outside, the unit must be wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AllReduce:
    """Ring all-reduce among ``n`` GPUs: ``2 (n - 1) * latency_s + 2 (n - 1) / n * bytes / bytes_per_s``.

    Thakur, Rabenseifner and Gropp, "Optimization of Collective Communication Operations in MPICH", International
    Journal of High Performance Computing Applications 19 (2005), section 4.5.

    Parameters
    ----------
    hidden_size : int
        Elements per token, two bytes each.
    latency_s : float
        Start-up of one of its ``2 (n - 1)`` exchanges.
    bytes_per_s : float
        Bandwidth of a GPU's link in one direction; the default is that of PCIe 5.0 x16.

    Raises
    ------
    InputError
        If a value is out of range.
    """

    hidden_size: int
    latency_s: float = LINK_LATENCY_S
    bytes_per_s: float = LINK_BYTES_PER_S

    def __post_init__(self) -> None:
        check_count("latency.all_reduce.hidden_size", self.hidden_size)
        check_finite("latency.all_reduce.latency_s", self.latency_s)
        check_finite("latency.all_reduce.bytes_per_s", self.bytes_per_s, exclusive=True)

    def seconds(self, tokens: int, tp: int) -> float:
        """Time for the activations of ``tokens`` tokens among ``tp`` GPUs."""
        return 2 * (tp - 1) * (self.latency_s + 2.0 * self.hidden_size * tokens / tp / self.bytes_per_s)


class ExpertLayer:
    """MoE part of one layer; how many experts there are, and how many per token, is read off the measured points.

    With k of E experts per token and uniform routing, T tokens activate ``E * (1 - (1 - k / E) ** T)`` on average.

    Parameters
    ----------
    rows : sequence of (activated_experts, tokens, us)
        Measured points.
    beyond : {"refuse", "hold", "prolong"}
        What happens above the last number of tokens.

    Raises
    ------
    InputError
        If no point has a single token, so that the experts per token are not known, or a value is bad.
    """

    __slots__ = ("_experts", "_missed", "_times_us")

    def __init__(self, rows: Sequence[Row], beyond: Beyond) -> None:
        per_token = [activated for activated, tokens, _ in rows if tokens == 1.0]
        if not per_token:
            raise invalid("tokens of the moe profile", sorted({row[1] for row in rows}), "1 and more")
        self._times_us = build_grid(EXPERT_AXES, rows, beyond=beyond)
        self._experts = max(row[0] for row in rows)
        self._missed = 1.0 - min(per_token) / self._experts

    def microseconds(self, tokens: int) -> float:
        """Time for ``tokens`` tokens."""
        return self._times_us.law(self._experts * (1.0 - self._missed**tokens), tokens)[0]


class ChunkAttention:
    """Attention of one layer in a step with a prefill chunk, alone or together with decodes.

    Profiles measure prefill alone at more points than prefill with decodes, and short decode contexts at fewer chunks
    than long ones.  So there is a table for each: prefill alone; with decodes, all points; with decodes, only those
    chunks that were measured down to the shortest context.

    Parameters
    ----------
    rows : sequence of (prefill_chunk, kv_prefill, n_decode, kv_decode, us)
        Measured points.
    beyond : {"refuse", "hold", "prolong"}
        What happens above the last points.

    Raises
    ------
    InputError
        If a value is bad.
    """

    __slots__ = ("_all_from", "_all_us", "_alone_us", "_short_us", "largest_chunk")

    def __init__(self, rows: Sequence[Row], beyond: Beyond) -> None:
        mixed = [row for row in rows if row[2] > 0.0]
        shortest: dict[Row, float] = {}
        for row in mixed:
            shortest[row[:3]] = min(row[3], shortest.get(row[:3], math.inf))
        start = min(shortest.values())
        short = [row for row in mixed if shortest[row[:3]] == start]
        alone = [(*row[:2], row[4]) for row in rows if row[2] == 0.0]
        self.largest_chunk = max(row[0] for row in rows)
        self._alone_us = build_grid(ATTENTION_AXES[:2], alone, beyond=beyond)
        self._all_us = build_grid(ATTENTION_AXES, mixed, beyond=beyond)
        self._short_us = build_grid(ATTENTION_AXES, short, beyond=beyond)
        self._all_from = max(shortest.values())

    def microseconds(self, chunk: float, cached: float, decodes: int, context: float) -> float:
        """Time for a chunk behind ``cached`` tokens, with ``decodes`` sequences of mean context ``context``."""
        if decodes == 0:
            return self._alone_us.law(chunk, cached)[0]
        table = self._all_us if context >= self._all_from else self._short_us
        return table.law(chunk, cached, decodes, context)[0]


@STEP_TIME_MODELS.register("layers")
@dataclass(frozen=True, slots=True, kw_only=True)
class LayersStepTime:
    """Step time composed from a layer profile; see the module's text.

    Parameters
    ----------
    profile : LayerProfile
        What was measured.
    layers : int
        Transformer layers of the model.
    tp : int
        Tensor-parallel size that the profile was measured at.
    all_reduce : AllReduce, optional
        Communication between the shards: given if and only if ``tp`` is above 1.
    expert_shards : int
        Number of GPUs that share the times of the MoE profile: 1 if it was measured at this ``tp`` already.
    longest_sequences : float
        For how many sequences at the longest context of a batch attention takes longer; see
        :data:`LONGEST_SEQUENCES`.
    unsplit_seqs : int
        Decodes from which on this holds for steps without prefill; see :data:`UNSPLIT_SEQS`.
    extrapolate : bool
        Whether times above the last measured point grow in proportion to it.  If not, such a step is an error.
    pad_tokens_to : sequence of int
        Tokens that the dense kernels are padded up to (the CUDA graph sizes of the engine), ascending.  A step above
        the largest is not padded.

    Raises
    ------
    InputError
        On bad values, and from the methods on a step outside the profile.
    """

    profile: LayerProfile
    layers: int
    tp: int = 1
    all_reduce: AllReduce | None = None
    expert_shards: int = 1
    longest_sequences: float = LONGEST_SEQUENCES
    unsplit_seqs: int = UNSPLIT_SEQS
    extrapolate: bool = False
    pad_tokens_to: Sequence[int] = ()
    _dense_us: Curve = field(init=False, repr=False, compare=False)
    _sequences_us: Curve = field(init=False, repr=False, compare=False)
    _decode_us: Grid = field(init=False, repr=False, compare=False)
    _chunk: ChunkAttention = field(init=False, repr=False, compare=False)
    _experts: ExpertLayer | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_count("latency.layers", self.layers)
        check_count("latency.tp", self.tp)
        check_count("latency.expert_shards", self.expert_shards)
        if (self.all_reduce is None) != (self.tp == 1):
            allowed = "given if and only if tp is above 1"
            raise invalid(f"latency.all_reduce with tp {self.tp}", self.all_reduce, allowed)
        check_finite("latency.longest_sequences", self.longest_sequences)
        check_count("latency.unsplit_seqs", self.unsplit_seqs)
        for size in self.pad_tokens_to:
            check_count("latency.pad_tokens_to", size)
        if any(low >= high for low, high in pairwise(self.pad_tokens_to)):
            raise invalid("latency.pad_tokens_to", list(self.pad_tokens_to), "ascending numbers of tokens, each once")
        self._build_tables()
        alone_s = self.decode_run(1, 1)[0]
        if not _PLAUSIBLE_S[0] <= alone_s <= _PLAUSIBLE_S[1]:
            allowed = f"{_PLAUSIBLE_S[0]:g} to {_PLAUSIBLE_S[1]:g}"
            fix = "The profile's times must be in microseconds."
            raise invalid("decode step of one sequence, in seconds by the layer profile", alone_s, allowed, fix)

    def _build_tables(self) -> None:
        profile, beyond = self.profile, self._beyond
        times = {**dict.fromkeys(ONCE, 1), **{name: self.layers * count for name, count in PER_LAYER.items()}}
        tables = {
            "_dense_us": _sum("tokens", ((times[name], rows) for name, rows in profile.dense.items()), beyond),
            "_sequences_us": _sum("sequences", ((1, rows) for rows in profile.per_sequence.values()), beyond),
            "_decode_us": build_grid(ATTENTION_AXES[2:], profile.decode_rows, beyond=beyond),
            "_chunk": ChunkAttention(profile.chunk_rows, beyond),
            "_experts": ExpertLayer(profile.experts, beyond) if profile.experts else None,
        }
        for name, table in tables.items():
            object.__setattr__(self, name, table)

    @property
    def uses_longest_context(self) -> bool:
        """Whether the longest context matters."""
        return self.longest_sequences > 0.0

    @property
    def _beyond(self) -> Beyond:
        return "prolong" if self.extrapolate else "refuse"

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
        chunk = tokens - decode_seqs
        if chunk == 0:
            return self.decode_run(decode_seqs, decode_context, longest)[0]
        attention_us = self._mixed_attention_us(chunk, prefill_work, decode_seqs, decode_context, longest)
        return self._fixed_s(tokens, prefill_seqs + decode_seqs) + self.layers * attention_us * _US

    def decode_run(self, seqs: int, context: int, longest: int = 0) -> tuple[float, float, int]:
        """Law of a run of decode-only steps, up to the next measured context."""
        # Mean and longest context grow by one token a step, whatever the batch.
        attention_us, growth_us, reach = self._decode_us.law(seqs, context / seqs)
        if longest and seqs >= self.unsplit_seqs:
            longest_us, longest_growth_us, longest_reach = self._decode_us.law(seqs, longest)
            share = self._longest_share(seqs)
            attention_us += share * (longest_us - attention_us)
            growth_us += share * (longest_growth_us - growth_us)
            reach = min(reach, longest_reach)
        layers = self.layers * _US
        # A step exactly on the next point is still on this line.
        steps = UNLIMITED_STEPS if reach == math.inf else int(reach) + 1
        return self._fixed_s(seqs, seqs) + layers * attention_us, layers * growth_us, steps

    def _longest_share(self, decodes: int) -> float:
        """How far the time of a batch lies from that at its mean towards that at its longest context."""
        return min(self.longest_sequences / decodes, 1.0)

    def _fixed_s(self, tokens: int, sequences: int) -> float:
        """Everything but attention."""
        padded = tokens
        if self.pad_tokens_to and tokens <= self.pad_tokens_to[-1]:
            padded = self.pad_tokens_to[bisect_left(self.pad_tokens_to, tokens)]
        time_s = (self._dense_us.law(padded)[0] + self._sequences_us.law(sequences)[0]) * _US
        if self._experts is not None:
            time_s += self.layers * self._experts.microseconds(padded) / self.expert_shards * _US
        if self.all_reduce is not None:
            time_s += 2 * self.layers * self.all_reduce.seconds(padded, self.tp)
        return time_s

    def _mixed_attention_us(self, chunk: int, pairs: float, decodes: int, decode_context: int, longest: int) -> float:
        """Attention of one layer with ``chunk`` prefill tokens that have ``pairs`` query-key pairs."""
        cached = pairs / chunk - chunk / 2.0
        width = float(chunk)
        if cached < 0.0:
            cached, width = 0.0, math.sqrt(2.0 * pairs)
        pieces = math.ceil(width / self._chunk.largest_chunk)
        width /= pieces
        mean = decode_context / decodes if decodes else 0.0
        attention_us = self._chunk.microseconds(width, cached, decodes, mean)
        if longest:
            longest_us = self._chunk.microseconds(width, cached, decodes, longest)
            attention_us += self._longest_share(decodes) * (longest_us - attention_us)
        for piece in range(1, pieces):
            attention_us += self._chunk.microseconds(width, cached + piece * width, 0, 0.0)
        return attention_us


def _sum(axis: str, parts: Iterable[tuple[int, Sequence[Row]]], beyond: Beyond) -> Curve:
    """Sum of several measured curves, each so many times, as far as all of them go."""
    curves = [(times, rows, build_curve(axis, rows, beyond="hold")) for times, rows in parts]
    end = min(max(row[0] for row in rows) for _, rows, _ in curves)
    points = sorted({row[0] for _, rows, _ in curves for row in rows if row[0] <= end})
    values = [sum(times * curve.law(point)[0] for times, _, curve in curves) for point in points]
    return Curve(axis, points, values, beyond=beyond)
