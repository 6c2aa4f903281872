"""Built-in model routers that go by the predicted scores of a request."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from latency_models.errors import InputError, invalid, unknown_name
from sim.policies import MODEL_ROUTERS, Decision, LoadView, ModelRouter, RequestView, RouterContext, check_options

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


def scores_of(request: RequestView) -> Sequence[float]:
    """Predicted scores of a request.

    Raises
    ------
    InputError
        The workload has none.
    """
    if request.scores is None:
        raise InputError(
            f"request {request.row} has no predicted scores, which the model router goes by; add a prompts section to "
            "the scenario, or choose a router that needs none (fractions, pinned, round-robin)"
        )
    return request.scores


@MODEL_ROUTERS.register("price")
def price(context: RouterContext, options: Mapping[str, Any]) -> ModelRouter:
    """Options: ``prices`` (model name to price; default 0), ``fractions`` (model name to share; for ties only)."""
    check_options("the price router", options, ("prices", "fractions"))
    prices = _by_model(context, "prices", options.get("prices", {}), missing=0.0)
    equal = 1.0 / len(context.models)
    fractions = _by_model(context, "fractions", options.get("fractions", {}), missing=equal, least=0.0)
    return Price(prices, fractions)


def _by_model(
    context: RouterContext, field: str, given: Any, *, missing: float, least: float = -math.inf
) -> list[float]:
    """Numbers of all models from a mapping of names; what an empty mapping or an unnamed model has is ``missing``."""
    if not isinstance(given, Mapping):
        raise invalid(f"routing.{field}", given, "a mapping of model name to number")
    for name, value in given.items():
        if name not in context.models:
            raise unknown_name(f"model in routing.{field}", str(name), context.models)
        good = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
        if not good or value < least:
            raise invalid(f"routing.{field}.{name}", value, "a finite number" + ("" if least < 0 else f" >= {least:g}"))
    return [float(given.get(name, 0.0 if given else missing)) for name in context.models]
