"""Built-in model routers that go by the predicted scores of a request."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from latency_models.errors import InputError, check_finite, invalid, unknown_name
from sim.prompt_table import PromptTable
from sim.routing.policies import (
    MODEL_ROUTERS,
    Decision,
    LoadView,
    ModelRouter,
    RequestView,
    RouterContext,
    check_options,
    oracle,
)

_TIE = 1e-9


class Price:
    """Send each request to the model with the highest predicted score minus price (RouterWise, arXiv:2604.10907).

    Models that are tied take turns so that the fractions of a plan hold.
    """

    def __init__(self, prices: Sequence[float], fractions: Sequence[float]) -> None:
        self._prices = list(prices)
        self._fractions = list(fractions)
        self._counts = [0] * len(self._prices)
        self._total = 0

    def route(self, request: RequestView, loads: Sequence[LoadView]) -> Decision:
        """Return the model with the highest net score."""
        net = [score - price for score, price in zip(scores_of(request), self._prices, strict=True)]
        highest = max(net)
        best = net.index(highest)
        self._total = total = self._total + 1
        lowest = highest - _TIE
        if sum(value >= lowest for value in net) > 1:
            tied = [model for model, value in enumerate(net) if value >= lowest]
            best = max(tied, key=lambda model: self._fractions[model] * total - self._counts[model])
        self._counts[best] += 1
        return Decision(best, "highest score minus price")


class Threshold:
    """A strong model for the requests that gain most by it, a weak one for the others (RouteLLM, arXiv:2406.18665).

    The gain is the difference of the predicted scores, which stands for RouteLLM's probability that the strong model
    wins (its section 3).  Requests right at the threshold are split so that the strong model's share holds.
    """

    def __init__(self, strong: int, weak: int, threshold: float, budget: float) -> None:
        self._strong = Decision(strong, "gains enough by the strong model")
        self._weak = Decision(weak, "gains too little by the strong model")
        self._threshold = threshold
        self._budget = budget
        self._total = 0
        self._sent_to_strong = 0

    def route(self, request: RequestView, loads: Sequence[LoadView]) -> Decision:
        """Compare the two predicted scores."""
        scores = scores_of(request)
        above = scores[self._strong.target] - scores[self._weak.target] - self._threshold
        self._total += 1
        chosen = above > _TIE or (above >= -_TIE and self._sent_to_strong < self._budget * self._total)
        self._sent_to_strong += chosen
        return self._strong if chosen else self._weak


class Single:
    """One model for everything."""

    def __init__(self, model: int) -> None:
        self._decision = Decision(model, "the only one in use")

    def route(self, request: RequestView, loads: Sequence[LoadView]) -> Decision:
        """Return that model."""
        return self._decision


class Oracle:
    """The model whose answer will be best; among equals the one with the fewest unfinished requests per replica."""

    def __init__(self, outcomes: Sequence[Sequence[float]]) -> None:
        self._outcomes = outcomes

    def route(self, request: RequestView, loads: Sequence[LoadView]) -> Decision:
        """Look the outcomes up."""
        scores_of(request)
        assert request.prompt is not None
        outcomes = self._outcomes[request.prompt]
        highest = max(outcomes)
        best = [model for model, outcome in enumerate(outcomes) if outcome == highest]
        if len(best) > 1:
            best.sort(key=lambda model: sum(loads[model].requests) / len(loads[model].requests))
        return Decision(best[0], "its answer will be best")


def scores_of(request: RequestView) -> Sequence[float]:
    """Predicted scores of a request, of a workload that has them (see :func:`check_scores`)."""
    assert request.scores is not None
    return request.scores


@MODEL_ROUTERS.register("price")
def price(context: RouterContext, options: Mapping[str, Any]) -> ModelRouter:
    """The highest predicted score minus price.

    Options: ``prices`` (model name to price; default 0), ``fractions`` (model name to share; for ties only).
    """
    check_options("the price router", options, ("prices", "fractions"))
    check_scores(context, "the price router")
    prices = by_model(context, "prices", options.get("prices", {}), missing=0.0)
    equal = 1.0 / len(context.models)
    fractions = by_model(context, "fractions", options.get("fractions", {}), missing=equal, least=0.0)
    return Price(prices, fractions)


@MODEL_ROUTERS.register("threshold")
def threshold(context: RouterContext, options: Mapping[str, Any]) -> ModelRouter:
    """The strong model where its predicted score is so much above the weak one's.

    Options: ``budget`` (0.5) or ``threshold``, ``strong`` and ``weak``.

    ``budget`` is the share of the requests for the strong model, ``threshold`` the least gain that sends a request
    there.  By default the two models are those with the highest and the lowest mean predicted score.
    """
    check_options("the threshold router", options, ("budget", "threshold", "strong", "weak"))
    if "budget" in options and "threshold" in options:
        raise InputError("routing.budget and routing.threshold are two ways to say the same; leave one of them out")
    if len(context.models) < 2:
        raise invalid("models of the threshold router", len(context.models), "a strong and a weak one, at least two")
    scores = mean_scores(context, "the threshold router")
    strong = _named(context, "strong", options, default=scores.index(max(scores)))
    others = [model for model in range(len(scores)) if model != strong]
    weak = _named(context, "weak", options, default=min(others, key=scores.__getitem__))
    if weak == strong:
        raise invalid("routing.weak", context.models[weak], "another model than routing.strong")
    if "threshold" in options:
        least_gain = options["threshold"]
        if isinstance(least_gain, bool) or not isinstance(least_gain, (int, float)) or not -1 <= least_gain <= 1:
            raise invalid("routing.threshold", least_gain, "a difference of scores, -1 to 1")
        return Threshold(strong, weak, float(least_gain), 1.0)
    budget = check_finite("routing.budget", options.get("budget", 0.5))
    if budget > 1:
        raise invalid("routing.budget", budget, "a share of the requests, 0 to 1")
    predicted = check_scores(context, "the threshold router").predicted
    gains = np.sort(predicted[:, strong] - predicted[:, weak])[::-1]
    count = min(int(budget * len(gains)), len(gains) - 1)
    # With no budget even the prompt that gains most stays out.
    return Threshold(strong, weak, float(gains[count]) if budget > 0 else 2.0, budget)


@MODEL_ROUTERS.register("best-single")
def best_single(context: RouterContext, options: Mapping[str, Any]) -> ModelRouter:
    """One model for all requests.  Options: ``model`` (default: the one with the highest mean predicted score)."""
    check_options("the best-single router", options, ("model",))
    if "model" in options:
        return Single(_named(context, "model", options, default=0))
    scores = mean_scores(context, "the best-single router")
    return Single(scores.index(max(scores)))


@MODEL_ROUTERS.register("oracle")
@oracle
def oracle_router(context: RouterContext, options: Mapping[str, Any]) -> ModelRouter:
    """The model whose answer will be best, as no real router can know.  No options."""
    check_options("the oracle router", options)
    outcomes = check_scores(context, "the oracle router").outcomes
    if outcomes is None:
        raise InputError(
            "the oracle router needs the true outcomes of the answers; choose a prompt table that has outcomes"
        )
    return Oracle(outcomes.tolist())


def check_scores(context: RouterContext, who: str) -> PromptTable:
    """The prompt table.

    Raises
    ------
    InputError
        The workload has none.
    """
    if context.table is None:
        raise InputError(
            f"{who} goes by predicted scores, and the workload has none; add a prompts section to the scenario, or "
            "choose a router that needs none (fractions, pinned, round-robin, random)"
        )
    return context.table


def mean_scores(context: RouterContext, who: str) -> list[float]:
    """Mean predicted score of each model over the prompt table; raises as :func:`check_scores`."""
    return [float(score) for score in check_scores(context, who).predicted.mean(axis=0)]


def _named(context: RouterContext, field: str, options: Mapping[str, Any], *, default: int) -> int:
    """Index of the model that an option names."""
    name = options.get(field)
    if name is None:
        return default
    if name not in context.models:
        raise unknown_name(f"model in routing.{field}", str(name), context.models)
    return context.models.index(name)


def by_model(
    context: RouterContext, field: str, given: Any, *, missing: float, least: float = -math.inf
) -> list[float]:
    """Numbers of all models from a mapping of names.

    An empty mapping gives ``missing`` to each; in others a model that is not named has 0.

    Raises
    ------
    InputError
        It is no mapping, names another model, or holds what is no finite number >= ``least``.
    """
    if not isinstance(given, Mapping):
        raise invalid(f"routing.{field}", given, "a mapping of model name to number")
    for name, value in given.items():
        if name not in context.models:
            raise unknown_name(f"model in routing.{field}", str(name), context.models)
        good = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
        if not good or value < least:
            raise invalid(f"routing.{field}.{name}", value, "a finite number" + ("" if least < 0 else f" >= {least:g}"))
    return [float(given.get(name, 0.0 if given else missing)) for name in context.models]
