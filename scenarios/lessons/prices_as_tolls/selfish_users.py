"""Users who choose their own route: what was quickest lately, tolls included."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from latency_models.errors import check_finite, invalid, unknown_name
from sim.routing.policies import (
    MODEL_ROUTERS,
    Answer,
    Decision,
    Feedback,
    LoadView,
    RequestView,
    RouterContext,
    check_options,
)

_MEMORY = 200
"""Requests after which the mean latency of a model has forgotten two thirds of what was before."""


class SelfishUsers:
    """Routes are drawn by shares, and the shares move towards the route that costs least.

    Users do not see the queues; they hear what others have met, and a few change their mind at a time.  Where no
    route in use costs more than another this comes to rest: the equilibrium of J. G. Wardrop ("Some theoretical aspects
    of road traffic research", Proceedings of the Institution of Civil Engineers 1, 1952).

    Parameters
    ----------
    routes : sequence of sequence of int
        The models that each route asks, one after the other.
    tolls_s : sequence of float
        What each model costs beside its latency, as seconds that a user would wait to save it.
    shares : sequence of float
        Of the routes, to begin with.
    learning : float
        Share of the users who change to the cheapest route with every request; 0 keeps the shares.
    rng : numpy.random.Generator
        Draws the routes.
    """

    informed = 0.0

    def __init__(
        self,
        routes: Sequence[Sequence[int]],
        tolls_s: Sequence[float],
        shares: Sequence[float],
        learning: float,
        rng: np.random.Generator,
    ) -> None:
        self._routes = [tuple(route) for route in routes]
        self._tolls_s = list(tolls_s)
        self._shares = [share / sum(shares) for share in shares]
        self._learning = learning
        self._rng = rng
        self._latency_s = [0.0] * len(self._tolls_s)
        self._rest_of: dict[int, tuple[int, ...]] = {}

    def route(self, request: RequestView, loads: Sequence[LoadView]) -> Decision:
        """Draw a route and return its first model."""
        if self._learning:
            self._learn()
        drawn = self._rng.random()
        route = self._routes[-1]
        for share, candidate in zip(self._shares, self._routes, strict=True):
            drawn -= share
            if drawn < 0:
                route = candidate
                break
        self._rest_of[request.row] = route[1:]
        return Decision(route[0], "the route that was drawn")

    def review(self, request: RequestView, answer: Answer, loads: Sequence[LoadView]) -> Decision | None:
        """Go on to the next model of the route."""
        rest = self._rest_of.pop(request.row, ())
        if not rest:
            return None
        self._rest_of[request.row] = rest[1:]
        return Decision(rest[0], "the next model of the route")

    def on_end(self, feedback: Feedback) -> None:
        """Hear how long somebody was at a model."""
        old_s = self._latency_s[feedback.model]
        new_s = feedback.now_s - feedback.sent_s
        self._latency_s[feedback.model] = old_s + (new_s - old_s) / _MEMORY if old_s else new_s

    def _learn(self) -> None:
        costs = [sum(self._latency_s[model] + self._tolls_s[model] for model in route) for route in self._routes]
        best = costs.index(min(costs))
        keep = 1 - self._learning
        self._shares = [keep * share + self._learning * (place == best) for place, share in enumerate(self._shares)]


@MODEL_ROUTERS.register("selfish-users")
def selfish_users(context: RouterContext, options: Mapping[str, Any]) -> SelfishUsers:
    """Users move to the route that was quickest lately, tolls included.

    Options: ``routes`` (lists of models by name), ``shares``, ``tolls_s`` by model, ``learning``.
    """
    check_options("the selfish-users router", options, ("routes", "shares", "tolls_s", "learning"))
    routes = options.get("routes") or []
    if not routes or not all(routes):
        raise invalid("routing.routes", routes, "lists of at least one model each")
    tolls_s = options.get("tolls_s", {})
    for name in (*tolls_s, *(name for route in routes for name in route)):
        if name not in context.models:
            raise unknown_name("model", name, context.models)
    shares = [check_finite("routing.shares", share) for share in options.get("shares", [1] * len(routes))]
    if len(shares) != len(routes) or not sum(shares):
        raise invalid("routing.shares", shares, f"{len(routes)} shares, one for each route, not all of them 0")
    learning = check_finite("routing.learning", options.get("learning", 0.0))
    if learning > 1:
        raise invalid("routing.learning", learning, "a share, 0 to 1")
    return SelfishUsers(
        [[context.models.index(name) for name in route] for route in routes],
        [check_finite(f"routing.tolls_s.{name}", tolls_s.get(name, 0.0)) for name in context.models],
        shares,
        learning,
        context.rng,
    )
