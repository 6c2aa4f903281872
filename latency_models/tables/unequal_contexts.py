"""What a decode batch of unequal contexts costs over one in which all contexts equal their mean.

Attention kernels are measured with batches of equal contexts.  In a real batch the blocks of the GPU that work on the
longest sequences end last and leave the others idle, so that a step takes a time between that of a batch at the mean
context and that of a batch at the longest one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import NormalDist

from latency_models.errors import check_count, check_finite, invalid

DEFAULT_SHARE = 0.04
"""Share of the difference between the times at the longest and at the mean context that attention takes longer."""

_STANDARD_NORMAL = NormalDist()


@dataclass(frozen=True, slots=True, kw_only=True)
class UnequalContexts:
    """How far the contexts of a batch spread, and how much of that an attention kernel feels.

    Attention takes ``t(mean) + share * (t(longest) - t(mean))``.  Contexts are taken as lognormal, and the longest of n
    as their quantile at ``(n - 3/8) / (n + 1/4)``, which for a Gaussian is close to the expected maximum: Blom,
    "Statistical Estimates and Transformed Beta-Variables" (1958).

    Parameters
    ----------
    cv : float
        Coefficient of variation of the contexts in a batch: a property of the workload's lengths
        (:func:`context_variation`).
    share : float
        Share of the difference that the kernel takes longer, from 0 to 1.  The default is the median for batches of 32
        and more sequences, with and without prefill, in LLMServingSim's profile of unequal batches (``skew_fit.csv`` of
        Llama-3.1-8B, tp 1, vLLM's FlashAttention on an RTX PRO 6000; without its group of nearly equal batches, where
        noise hides the difference).  Quartiles are 0.025 and 0.08; 38 to 62 sequences without prefill reach 0.2.

    Raises
    ------
    InputError
        If a value is out of range.
    """

    cv: float
    share: float = DEFAULT_SHARE
    _sigma: float = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        cv = check_finite("latency.unequal_contexts.cv", self.cv)
        if check_finite("latency.unequal_contexts.share", self.share) > 1.0:
            raise invalid("latency.unequal_contexts.share", self.share, "a share from 0 to 1")
        object.__setattr__(self, "_sigma", math.sqrt(math.log1p(cv * cv)))

    def longest_over_mean(self, sequences: int) -> float:
        """Longest context of a batch over its mean context, at least 1."""
        if sequences == 1:
            return 1.0
        z = _STANDARD_NORMAL.inv_cdf((sequences - 0.375) / (sequences + 0.25))
        return max(1.0, math.exp(self._sigma * (z - self._sigma / 2.0)))


def context_variation(prompt_tokens: Sequence[int], output_tokens: Sequence[int]) -> float:
    """Coefficient of variation of the contexts in a decode batch, from the lengths of the requests alone.

    A request is in the batch for as many steps as it has output tokens, and its context grows from p to p + o
    meanwhile.  So the mean context is the mean of ``p + o / 2`` weighted by o, and its second moment that of
    ``(p + o / 2) ** 2 + o ** 2 / 12``.

    Parameters
    ----------
    prompt_tokens, output_tokens : sequence of int, shape (n,), n >= 1
        Lengths of the requests.

    Raises
    ------
    InputError
        If there is no request, the lengths differ in number, or one is below 1.
    """
    if not prompt_tokens or len(prompt_tokens) != len(output_tokens):
        lengths = f"{len(prompt_tokens)} prompts, {len(output_tokens)} outputs"
        raise invalid("lengths of the requests", lengths, "as many prompts as outputs, at least one")
    weight = first = second = 0.0
    for prompt, output in zip(prompt_tokens, output_tokens, strict=True):
        check_count("prompt_tokens", prompt)
        check_count("output_tokens", output)
        middle = prompt + output / 2.0
        weight += output
        first += output * middle
        second += output * (middle * middle + output * output / 12.0)
    mean = first / weight
    return math.sqrt(max(second / weight - mean * mean, 0.0)) / mean
