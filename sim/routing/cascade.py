"""The cascade of FrugalGPT: ask a small model first, and a larger one when the answer does not look good enough."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from latency_models.errors import check_finite, invalid, unknown_name
from sim.routing.policies import (
    MODEL_ROUTERS,
    Answer,
    Decision,
    LoadView,
    ModelRouter,
    RequestView,
    RouterContext,
    check_options,
)
from sim.routing.score_routers import by_model, check_scores, mean_scores


class Cascade:
    """Asks one model after the other until a scorer is content (Chen, Zaharia and Zou, arXiv:2305.05076, section 3).

    Each question is a request of its own, with its prompt, keys and values, and answer.  The user gets the answer that
    is accepted, or the last one; until then nothing.

    Parameters
    ----------
    order : sequence of int
        Models in the order in which they are asked.
    thresholds : sequence of float
        By model: from this score on an answer is good enough.
    informed : float
        See :class:`sim.routing.policies.ReviewsAnswers`.
    """

    def __init__(self, order: Sequence[int], thresholds: Sequence[float], informed: float) -> None:
        self._first = Decision(order[0], "the first of the cascade")
        self._next = dict(pairwise(order))
        self._thresholds = list(thresholds)
        self._informed = informed

    @property
    def informed(self) -> float:
        """Share of the answers whose outcome the scorer recognises."""
        return self._informed

    def route(self, request: RequestView, loads: Sequence[LoadView]) -> Decision:
        """Begin with the first model."""
        return self._first

    def review(self, request: RequestView, answer: Answer, loads: Sequence[LoadView]) -> Decision | None:
        """Accept the answer, or go on to the next model."""
        following = self._next.get(answer.model)
        if following is None or answer.score is None or answer.score >= self._thresholds[answer.model]:
            return None
        return Decision(following, "the answer before it was not good enough")


@MODEL_ROUTERS.register("cascade")
def cascade(context: RouterContext, options: Mapping[str, Any]) -> ModelRouter:
    """One model after the other until an answer looks good enough.

    Options: ``order``, ``threshold`` (a score, or model name to score; 0.5), ``informed`` (0 to 1; 0.5).

    ``order`` has the models' names, first to last; by default they go by mean predicted score, lowest first.
    """
    check_options("the cascade router", options, ("order", "threshold", "informed"))
    check_scores(context, "the cascade router")
    threshold = options.get("threshold", 0.5)
    if isinstance(threshold, Mapping):
        whole = dict.fromkeys(context.models, 0.5) | dict(threshold)
        thresholds = by_model(context, "threshold", whole, missing=0.5, least=0.0)
    else:
        thresholds = [check_finite("routing.threshold", threshold)] * len(context.models)
    if max(thresholds) > 1:
        raise invalid("routing.threshold", max(thresholds), "a score from 0 to 1")
    informed = check_finite("routing.informed", options.get("informed", 0.5))
    if informed > 1:
        raise invalid("routing.informed", informed, "a share of the answers, 0 to 1")
    return Cascade(_order(context, options.get("order")), thresholds, informed)


def _order(context: RouterContext, given: Any) -> list[int]:
    """Indices of the models in the order in which they are asked."""
    if given is None:
        scores = mean_scores(context, "the order of the cascade")
        return sorted(range(len(context.models)), key=lambda model: (scores[model], model))
    if isinstance(given, str) or not isinstance(given, Sequence) or not given:
        raise invalid("routing.order", given, "a list of model names, first to last")
    for name in given:
        if name not in context.models:
            raise unknown_name("model in routing.order", str(name), context.models)
    if len(set(given)) < len(given):
        raise invalid("routing.order", list(given), "each model once")
    return [context.models.index(name) for name in given]
