"""Prompts of requests: which row of the prompt table each is, what a router believes of it, how long answers are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from latency_models.errors import InputError, check_finite, invalid, unknown_name
from sim.prompt_table import Floats, PromptTable

AnswerLengths = Literal["table", "workload", "shuffled"]
"""Where the length of an answer comes from: the table's entry of the prompt and the model that answers; the request, as
the workload sends it; or the table's lengths of that model, shuffled among its prompts."""

PromptDraws = Literal["independent", "in-turn"]
"""How prompts are drawn: each on its own; or without sampling noise, so that in every pass of as many requests as the
table has prompts each comes as often as its weight says, in random order (systematic sampling)."""

_BLOCK = 4096


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PromptSpec:
    """The prompts of all requests.

    Parameters
    ----------
    table : PromptTable
        Prompts with scores, columns in the order of the cluster's models.
    lengths : {"table", "workload", "shuffled"}
        See :data:`AnswerLengths`.
    weights : array, shape (N,), optional
        How often each prompt comes, in any unit; default: all alike.
    draws : {"independent", "in-turn"}
        See :data:`PromptDraws`.
    score_noise : float
        Standard deviation of a normal error of each predicted score, drawn for each request and model.
    score_bias : tuple of float, length M, optional
        What is added to each model's predictions.

    Raises
    ------
    InputError
        A value is not allowed, or the table lacks lengths that are asked for.
    """

    table: PromptTable
    lengths: AnswerLengths = "workload"
    weights: Floats | None = None
    draws: PromptDraws = "independent"
    score_noise: float = 0.0
    score_bias: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.lengths not in get_args(AnswerLengths):
            raise unknown_name("prompts.lengths", str(self.lengths), get_args(AnswerLengths))
        if self.draws not in get_args(PromptDraws):
            raise unknown_name("prompts.draws", str(self.draws), get_args(PromptDraws))
        if self.lengths != "workload" and self.table.output_tokens is None:
            raise InputError(
                f"prompts.lengths is {self.lengths}, but the prompt table has no output_tokens; "
                "add them, or use lengths: workload"
            )
        check_finite("prompts.score_noise", self.score_noise)
        if self.score_bias and len(self.score_bias) != len(self.table.models):
            raise invalid("prompts.score_bias", self.score_bias, f"{len(self.table.models)} numbers, one per model")
        if self.weights is not None:
            good = np.isfinite(self.weights) & (self.weights >= 0)
            if self.weights.shape != (self.table.prompts,) or not good.all() or not self.weights.sum() > 0:
                raise invalid(
                    "prompts.weights", self.weights, f"{self.table.prompts} weights >= 0, one per prompt, not all 0"
                )


class Prompts:
    """The prompts of one simulation.

    Parameters
    ----------
    spec : PromptSpec
        What they are.
    draws, errors, order : numpy.random.Generator
        Streams of the prompts' numbers, of the errors of predictions, and of shuffled lengths.
    """

    def __init__(
        self, spec: PromptSpec, *, draws: np.random.Generator, errors: np.random.Generator, order: np.random.Generator
    ) -> None:
        self.table = spec.table
        self._draws = draws
        self._errors = errors
        self._drawn: list[int] = []
        self._noise = spec.score_noise
        self._noises: list[list[float]] = []
        self._edges = None if spec.weights is None else np.cumsum(spec.weights / spec.weights.sum())
        self._in_turn = spec.draws == "in-turn"
        predicted = spec.table.predicted
        if spec.score_bias:
            predicted = predicted + np.array(spec.score_bias)
            # An error that is drawn later is added before the limits of a score apply.
            predicted = predicted if spec.score_noise else np.clip(predicted, 0.0, 1.0)
        self._predicted: list[list[float]] = predicted.tolist()
        self._lengths: list[list[int]] | None = None
        if spec.lengths != "workload":
            assert spec.table.output_tokens is not None
            lengths = np.maximum(1.0, np.rint(spec.table.output_tokens)).astype(np.int64)
            if spec.lengths == "shuffled":
                lengths = np.stack([order.permutation(lengths[:, model]) for model in range(lengths.shape[1])], axis=1)
            self._lengths = lengths.tolist()

    def draw(self) -> int:
        """Number of the next request's prompt."""
        if not self._drawn:
            self._drawn = self._block().tolist()[::-1]
        return self._drawn.pop()

    def _block(self) -> NDArray[np.int64]:
        """Numbers of the next prompts."""
        prompts = self.table.prompts
        if self._edges is None:
            return self._draws.permutation(prompts) if self._in_turn else self._draws.integers(prompts, size=_BLOCK)
        if self._in_turn:
            points = (self._draws.permutation(prompts) + self._draws.random()) / prompts
        else:
            points = self._draws.random(_BLOCK)
        return np.minimum(np.searchsorted(self._edges, points, side="right"), prompts - 1)

    def check(self, prompt: int, row: int) -> int:
        """The prompt that the workload names for a request, if there is such a one.

        Raises
        ------
        InputError
            There is none.
        """
        if not 0 <= prompt < self.table.prompts:
            allowed = f"0 to {self.table.prompts - 1}, a row of the prompt table"
            raise invalid(f"prompt of request {row}", prompt, allowed)
        return prompt

    def scores(self, prompt: int) -> Sequence[float]:
        """What the router believes of a request with this prompt, shape (M,); asked once for each request."""
        scores = self._predicted[prompt]
        if not self._noise:
            return scores
        if not self._noises:
            self._noises = self._errors.normal(0.0, self._noise, (_BLOCK, len(scores))).tolist()
        return [min(1.0, max(0.0, score + e)) for score, e in zip(scores, self._noises.pop(), strict=True)]

    def output_tokens(self, prompt: int, model: int) -> int | None:
        """Length of a model's answer; ``None`` if the workload says it."""
        return None if self._lengths is None else self._lengths[prompt][model]
