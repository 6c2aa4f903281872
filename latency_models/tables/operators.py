"""``operators``: step time composed from measured operators: matrix products, attention, all-reduces, experts.

A step of m tokens takes, on every shard of a tensor-parallel group,

    layers x [ products(m) + element-wise(m) + 2 all-reduces(m x hidden) + attention ] + LM head(sampled)

:mod:`latency_models.tables.operator_composition` says where the part that depends on m comes from.  Attention:

- Decode: the table at (sequences, mean context).
- Prefill: the table at (chunks, tokens of a chunk), which was measured without context.  Behind c tokens of context a
  chunk of n has n c more query-key pairs; they cost what a pair costs in the best call, and at least the time to read
  the context's keys and values.  So do the pairs of a chunk that is longer than any measured one.
- Sliding window: no query sees more tokens than the window.
- Mixed steps: the sum, as prefill and decode share neither queries nor keys.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from latency_models.step_time import UNLIMITED_STEPS
from latency_models.tables.grids import Curve, Law
from latency_models.tables.operator_curves import Attention


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionLayers:
    """Layers whose attention is alike.

    Parameters
    ----------
    layers : int
        How many.
    prefill, decode : Attention
        Times of one layer without a window.
    pair_s : float
        Seconds per query-key pair of a prefill chunk with its context, in one layer.
    read_s : float
        Seconds to read the keys and values of one token of context, in one layer.
    window : int
        Most tokens that a query sees; 0 is all.
    """

    layers: int
    prefill: Attention
    decode: Attention
    pair_s: float
    read_s: float
    window: int = 0

    def prefill_s(self, chunks: int, tokens: float, context: float) -> float:
        """Seconds in all these layers of ``chunks`` chunks of ``tokens`` behind ``context`` tokens each."""
        whole = min(tokens, self.prefill.longest)
        looking_back = tokens
        beyond = (tokens**2 - whole**2) / 2.0
        if self.window:
            # Only the first queries of a chunk still see what was before it, and none sees more than the window.
            context = min(context, float(self.window))
            whole = looking_back = min(whole, float(self.window))
            beyond = (tokens - whole) * self.window
        time_s = self.prefill.law(chunks, whole)[0] + chunks * beyond * self.pair_s
        if context > 0.0:
            time_s += chunks * context * max(looking_back * self.pair_s, self.read_s)
        return self.layers * time_s

    def decode_law(self, sequences: int, cached: float) -> Law:
        """Seconds in all these layers of one token for each sequence, behind ``cached`` tokens on average."""
        if self.window and cached >= self.window:
            return self.layers * self.decode.law(sequences, self.window)[0], 0.0, float("inf")
        value_s, growth_s, reach = self.decode.law(sequences, cached)
        if self.window:
            reach = min(reach, self.window - cached)
        return self.layers * value_s, self.layers * growth_s, reach


class OperatorStepTime:
    """Step time composed from operators; see the module for the law.

    Parameters
    ----------
    per_token : Curve
        Seconds of everything that depends on the step's tokens only, all layers.
    per_sampled : Curve
        Seconds of the LM head over the sequences sampled.
    attention : sequence of AttentionLayers
        The layers' attention.
    """

    __slots__ = ("_attention", "_per_sampled", "_per_token")

    def __init__(self, *, per_token: Curve, per_sampled: Curve, attention: Sequence[AttentionLayers]) -> None:
        self._per_token = per_token
        self._per_sampled = per_sampled
        self._attention = tuple(attention)

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
        time_s = self._per_token.law(tokens)[0]
        if sampled:
            time_s += self._per_sampled.law(sampled)[0]
        if prefill_seqs:
            chunk = (tokens - decode_seqs) / prefill_seqs
            context = prefill_work / prefill_seqs / chunk - chunk / 2.0
            for layers in self._attention:
                time_s += layers.prefill_s(prefill_seqs, chunk, context)
        if decode_seqs:
            time_s += self._decode_attention(decode_seqs, decode_context / decode_seqs)[0]
        return time_s

    def decode_run(self, seqs: int, context: int, longest: int = 0) -> tuple[float, float, int]:
        """Law of a run of decode-only steps: linear up to the next measured context of the attention tables."""
        attention_s, growth_s, reach = self._decode_attention(seqs, context / seqs)
        first_s = self._per_token.law(seqs)[0] + self._per_sampled.law(seqs)[0] + attention_s
        # Each step adds one token to every sequence, and so one to their mean.
        return first_s, growth_s, UNLIMITED_STEPS if reach >= UNLIMITED_STEPS else int(reach) + 1

    def _decode_attention(self, seqs: int, mean_context: float) -> Law:
        time_s, growth_s, reach = 0.0, 0.0, float("inf")
        for layers in self._attention:
            # The tables count the tokens that are in the cache already, without the new one.
            value, slope, distance = layers.decode_law(seqs, mean_context - 1.0)
            time_s += value
            growth_s += slope
            reach = min(reach, distance)
        return time_s, growth_s, reach
