"""``linear``: a step takes a fixed time plus a share for each token, sequence, context token and query-key pair.

The form is common to measurements of several engines: weights are read once a step (constant), matrix products grow
with the tokens, the sampler with the sequences, decode attention with the context read from the KV cache, and prefill
attention with the pairs of queries and keys.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace

from latency_models.errors import InputError, check_count, check_finite
from latency_models.laws.compute_share import bandwidth_factor
from latency_models.step_time import STEP_TIME_MODELS, UNLIMITED_STEPS


@STEP_TIME_MODELS.register("linear")
@dataclass(frozen=True, slots=True, kw_only=True)
class LinearStepTime:
    """Step time that is linear in what the step computes.

    ``t = base_s + per_token_s * tokens + per_sequence_s * sequences + per_context_token_s * context
    + per_prefill_pair_s * prefill_work + per_sample_s * sampled``

    An attention kernel that has enough sequences to fill the GPU does not split their contexts, so it lasts at least as
    long as its longest one: from ``unsplit_seqs`` decodes on, the context of the decodes takes at least
    ``per_longest_token_s * longest``.

    Parameters
    ----------
    base_s : float
        Seconds of every step, whatever is in it.
    per_token_s : float
        Seconds per token computed, prefill or decode.
    per_sequence_s : float
        Seconds per scheduled sequence, prefill or decode.
    per_context_token_s : float
        Seconds per token of context after the step, over all scheduled sequences.
    per_prefill_pair_s : float
        Seconds per query-key pair of the prefill chunks.
    per_sample_s : float
        Seconds per sequence that emits a token.
    per_longest_token_s : float
        Seconds per token of the longest context among the decodes.
    unsplit_seqs : int
        Decodes from which on contexts are not split.

    Raises
    ------
    InputError
        If a coefficient is negative or not finite, or if some step would take no time at all.
    """

    base_s: float = 0.0
    per_token_s: float = 0.0
    per_sequence_s: float = 0.0
    per_context_token_s: float = 0.0
    per_prefill_pair_s: float = 0.0
    per_sample_s: float = 0.0
    per_longest_token_s: float = 0.0
    unsplit_seqs: int = 1

    def __post_init__(self) -> None:
        for field in fields(self):
            check_finite(f"latency.{field.name}", getattr(self, field.name))
        check_count("latency.unsplit_seqs", self.unsplit_seqs)
        # The other two terms vanish in a decode step and in a prefill chunk that emits nothing.
        if self.base_s + self.per_token_s + self.per_sequence_s + self.per_context_token_s <= 0.0:
            raise InputError(
                "latency.base_s, per_token_s, per_sequence_s and per_context_token_s are all 0, so some steps take no "
                "time; allowed: at least one of them > 0. Give base_s the fixed time of a step in seconds"
            )

    @property
    def uses_longest_context(self) -> bool:
        """Whether the longest context matters."""
        return self.per_longest_token_s > 0.0

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
        return (
            self.base_s
            + self.per_token_s * tokens
            + self.per_sequence_s * (prefill_seqs + decode_seqs)
            + self.per_context_token_s * prefill_context
            + max(self.per_context_token_s * decode_context, self._longest_s(decode_seqs, longest))
            + self.per_prefill_pair_s * prefill_work
            + self.per_sample_s * sampled
        )

    def decode_run(self, seqs: int, context: int, longest: int = 0) -> tuple[float, float, int]:
        """Law of a run of decode-only steps: the sum of contexts grows by ``seqs`` a step, the longest by 1."""
        fixed_s = self.base_s + (self.per_token_s + self.per_sequence_s + self.per_sample_s) * seqs
        all_s, all_growth_s = self.per_context_token_s * context, self.per_context_token_s * seqs
        longest_s = self._longest_s(seqs, longest)
        if longest_s == 0.0:
            return fixed_s + all_s, all_growth_s, UNLIMITED_STEPS
        ahead_s, gain_s = longest_s - all_s, all_growth_s - self.per_longest_token_s
        steps = UNLIMITED_STEPS
        if ahead_s * gain_s > 0.0:
            # The term that is behind grows faster: the law changes with the step in which it has caught up.
            steps = min(max(math.ceil(ahead_s / gain_s), 1), UNLIMITED_STEPS)
        if ahead_s > 0.0:
            return fixed_s + longest_s, self.per_longest_token_s, steps
        return fixed_s + all_s, all_growth_s, steps

    def _longest_s(self, seqs: int, longest: int) -> float:
        """Least time of the decodes' attention."""
        return self.per_longest_token_s * longest if seqs >= self.unsplit_seqs else 0.0

    def at_share(self, share: float) -> LinearStepTime:
        """The law on a share of the multiprocessors that its coefficients were fitted on.

        Tokens and query-key pairs are computed, so they follow the share; the base and the context are taken for bytes
        read from memory.  A base that is launches of the host would stay as it is: then this is too slow, not too fast.
        """
        bandwidth = bandwidth_factor(share)
        return replace(
            self,
            base_s=self.base_s / bandwidth,
            per_token_s=self.per_token_s / share,
            per_context_token_s=self.per_context_token_s / bandwidth,
            per_prefill_pair_s=self.per_prefill_pair_s / share,
            per_longest_token_s=self.per_longest_token_s / bandwidth,
        )
