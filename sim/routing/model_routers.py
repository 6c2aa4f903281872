"""Built-in model routers: fixed fractions, the model that the trace names, round robin, and chance."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

import numpy as np

from latency_models.errors import InputError, invalid, unknown_name
from sim.routing.policies import (
    MODEL_ROUTERS,
    Decision,
    LoadView,
    ModelRouter,
    RequestView,
    RouterContext,
    check_options,
)


class Fractions:
    """Send each model its fraction of the requests, exactly: no count is ever off by one or more.

    Low-discrepancy assignment: among the models that may take the next request without running ahead of their
    fraction, the one whose next request is due soonest gets it (the earliest-deadline rule for quota apportionment:
    Tijdeman, "The chairman assignment problem", Discrete Mathematics 32, 1980).
    """

    def __init__(self, fractions: Sequence[float]) -> None:
        self._fractions = list(fractions)
        self._counts = [0] * len(self._fractions)
        self._total = 0

    def route(self, request: RequestView, loads: Sequence[LoadView]) -> Decision:
        """Give the request to the eligible model with the earliest deadline."""
        self._total = total = self._total + 1
        slack = 1 - 1 / max(2, 2 * len(self._fractions) - 2)
        best, earliest = 0, math.inf
        for index, fraction in enumerate(self._fractions):
            count = self._counts[index]
            if fraction * total - count > 1 - slack - 1e-9 and fraction > 0:
                deadline = (count + slack) / fraction
                if deadline < earliest - 1e-9:
                    best, earliest = index, deadline
        self._counts[best] += 1
        return Decision(best, "its fraction is due")


class RandomFractions:
    """Draw the model of each request independently."""

    def __init__(self, fractions: Sequence[float], rng: np.random.Generator) -> None:
        self._edges = np.cumsum(fractions)
        self._rng = rng
        self._drawn: list[int] = []

    def route(self, request: RequestView, loads: Sequence[LoadView]) -> Decision:
        """Draw a model."""
        if not self._drawn:
            points = self._rng.random(1024)
            last = len(self._edges) - 1
            self._drawn = np.minimum(np.searchsorted(self._edges, points, side="right"), last).tolist()[::-1]
        return Decision(self._drawn.pop(), "drawn at random")


class Pinned:
    """The workload names the model of each request."""

    def __init__(self, models: Sequence[str]) -> None:
        self._models = list(models)
        self._index = {name: index for index, name in enumerate(models)}

    def route(self, request: RequestView, loads: Sequence[LoadView]) -> Decision:
        """Return the named model."""
        name = request.model
        if name is None:
            raise InputError(
                f"request {request.row} names no model, but routing is 'pinned' (models: {', '.join(self._models)}). "
                "Add a model column to the trace, set `model:` in the workload, or choose another router."
            )
        index = self._index.get(name)
        if index is None:
            raise unknown_name("model of a request", name, self._models)
        return Decision(index, "named by the request")


class RoundRobin:
    """Each model in turn."""

    def __init__(self, models: int) -> None:
        self._turns = cycle([Decision(model, "its turn") for model in range(models)])

    def route(self, request: RequestView, loads: Sequence[LoadView]) -> Decision:
        """Return the next model."""
        return next(self._turns)


@MODEL_ROUTERS.register("fractions")
def fractions(context: RouterContext, options: Mapping[str, Any]) -> ModelRouter:
    """Fixed shares, whatever the scores.

    Options: ``fractions`` (model name to share, summing to 1), ``variant`` (``low-discrepancy`` or ``random``).
    """
    check_options("the fractions router", options, ("fractions", "variant"))
    shares = options.get("fractions")
    if not isinstance(shares, Mapping):
        raise invalid("routing.fractions", shares, "a mapping of model name to share")
    for name, share in shares.items():
        if name not in context.models:
            raise unknown_name("model in routing.fractions", str(name), context.models)
        if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 <= share <= 1:
            raise invalid(f"routing.fractions.{name}", share, "a number between 0 and 1")
    total = math.fsum(shares.values())
    if abs(total - 1) > 1e-6:
        raise invalid("sum of routing.fractions", round(total, 9), "1", "Scale the shares so that they sum to 1.")
    values = [float(shares.get(name, 0.0)) / total for name in context.models]
    variant = options.get("variant", "low-discrepancy")
    if variant == "low-discrepancy":
        return Fractions(values)
    if variant == "random":
        return RandomFractions(values, context.rng)
    raise unknown_name("variant of the fractions router", str(variant), ("low-discrepancy", "random"))


@MODEL_ROUTERS.register("pinned")
def pinned(context: RouterContext, options: Mapping[str, Any]) -> ModelRouter:
    """The model that the workload names.  No options."""
    check_options("the pinned router", options)
    return Pinned(context.models)


@MODEL_ROUTERS.register("round-robin")
def round_robin(context: RouterContext, options: Mapping[str, Any]) -> ModelRouter:
    """In turn.  No options."""
    check_options("the round-robin router", options)
    return RoundRobin(len(context.models))


@MODEL_ROUTERS.register("random")
def random(context: RouterContext, options: Mapping[str, Any]) -> ModelRouter:
    """Any model, with equal probability.  No options."""
    check_options("the random router", options)
    return RandomFractions([1.0 / len(context.models)] * len(context.models), context.rng)
