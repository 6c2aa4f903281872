"""What a routing policy does with the prompts of a table when latency does not matter: quality and calls by model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from latency_models.errors import InputError, invalid
from sim.prompt_table import PromptTable
from sim.routing.answer_scorer import AnswerScorer
from sim.routing.policies import MODEL_ROUTERS, Answer, RequestView, ReviewsAnswers, RouterContext

_HALVINGS = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class OfflineRouting:
    """Means over the prompts of a table, each asked once."""

    achieved: float
    """True outcome of the answers that users get."""
    calls: tuple[float, ...]
    """Calls of each model for each request, shape (M,)."""


class _Idle:
    """A model without any load."""

    requests = (0,)
    prompt_tokens = (0,)

    def kv_used(self, replica: int) -> float:
        return 0.0


def route_offline(kind: str, options: Mapping[str, Any], table: PromptTable, *, seed: int = 0) -> OfflineRouting:
    """Ask every prompt of a table once, on an idle cluster.

    Parameters
    ----------
    kind, options : str, mapping
        The model router.
    table : PromptTable
        With outcomes.
    seed : int
        Of the router's random numbers, and of those of the scorer of its answers.

    Raises
    ------
    InputError
        The table has no outcomes, or the options are not valid.
    """
    if table.outcomes is None:
        raise InputError("the prompt table has no outcomes, so the quality of answers is not known; add them")
    visible = RouterContext(models=table.models, rng=np.random.default_rng(seed), table=table.without_truth())
    router = MODEL_ROUTERS.get(kind)(visible, options)
    reviewer = router if isinstance(router, ReviewsAnswers) else None
    scorer = AnswerScorer(table, 0.0 if reviewer is None else reviewer.informed, np.random.default_rng([seed, 1]))
    loads: Sequence[Any] = [_Idle()] * len(table.models)
    calls = np.zeros(len(table.models))
    achieved = 0.0
    for prompt, scores in enumerate(table.predicted.tolist()):
        view = RequestView(prompt, 0.0, 1, None, None, None, 0, None, prompt, scores)
        model, stage = router.route(view, loads).target, 1
        calls[model] += 1
        while reviewer is not None:
            answer = Answer(model=model, stage=stage, output_tokens=1, score=scorer.score(view, model))
            following = reviewer.review(view, answer, loads)
            if following is None:
                break
            model, stage = following.target, stage + 1
            calls[model] += 1
        achieved += float(table.outcomes[prompt, model])
    shares = (calls / table.prompts).tolist()
    return OfflineRouting(achieved=achieved / table.prompts, calls=tuple(shares))


def matched(
    kind: str, parameter: str, options: Mapping[str, Any], table: PromptTable, achieved: float
) -> dict[str, Any]:
    """The options with which a router achieves a quality, or comes nearest to it.

    Parameters
    ----------
    kind : str
        The model router.
    parameter : str
        The option that is looked for, from 0 to 1; quality must not fall with it, apart from noise.
    options : mapping
        Its other options.
    table : PromptTable
        With outcomes.
    achieved : float
        Mean true outcome that is wanted.

    Raises
    ------
    InputError
        The quality is no score.
    """
    if not 0.0 <= achieved <= 1.0:
        raise invalid("achieved", achieved, "a mean score, 0 to 1")
    low, high = 0.0, 1.0
    best, distance = high, np.inf
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        found = route_offline(kind, {**options, parameter: middle}, table).achieved
        if abs(found - achieved) < distance:
            best, distance = middle, abs(found - achieved)
        low, high = (middle, high) if found < achieved else (low, middle)
    return {**options, parameter: best}
