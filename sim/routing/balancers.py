"""Built-in replica balancers."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

import numpy as np

from latency_models.errors import check_count, check_finite
from sim.routing.policies import (
    BALANCERS,
    BalancerContext,
    Decision,
    LoadView,
    ReplicaBalancer,
    RequestView,
    check_options,
)


def _least(values: Sequence[int], start: int = 0) -> int:
    """Place of the smallest value, the first from ``start`` on if there are several."""
    lowest = min(values)
    try:
        return values.index(lowest, start)
    except ValueError:
        return values.index(lowest)


class RoundRobin:
    """Each replica in turn."""

    def __init__(self, replicas: int) -> None:
        self._turns = cycle([Decision(replica, "its turn") for replica in range(replicas)])

    def choose(self, request: RequestView, load: LoadView) -> Decision:
        """Return the next replica."""
        return next(self._turns)


class Random:
    """Any replica, with equal probability."""

    def __init__(self, replicas: int, rng: np.random.Generator) -> None:
        self._replicas = replicas
        self._rng = rng
        self._drawn: list[int] = []

    def choose(self, request: RequestView, load: LoadView) -> Decision:
        """Draw a replica."""
        return Decision(self.draw(), "drawn at random")

    def draw(self) -> int:
        """A uniform replica index."""
        if not self._drawn:
            self._drawn = self._rng.integers(self._replicas, size=1024).tolist()
        return self._drawn.pop()


class LeastRequests:
    """The replica with the fewest unfinished requests; on ties the next one in turn."""

    def __init__(self, replicas: int) -> None:
        self._decisions = [Decision(replica, "fewest unfinished requests") for replica in range(replicas)]
        self._next = 0

    def choose(self, request: RequestView, load: LoadView) -> Decision:
        """Return the least loaded replica by requests."""
        target = _least(load.requests, self._next)
        self._next = target + 1
        return self._decisions[target]


class LeastTokens:
    """The replica with the fewest prompt tokens in unfinished requests; on ties the next one in turn."""

    def __init__(self) -> None:
        self._next = 0

    def choose(self, request: RequestView, load: LoadView) -> Decision:
        """Return the least loaded replica by prompt tokens."""
        target = _least(load.prompt_tokens, self._next)
        self._next = target + 1
        return Decision(target, "fewest unfinished prompt tokens")


class PowerOfTwo:
    """The better of two random replicas.

    Mitzenmacher, "The power of two choices in randomized load balancing", IEEE TPDS 12, 2001.
    """

    def __init__(self, replicas: int, rng: np.random.Generator) -> None:
        self._random = Random(replicas, rng)
        self._others = Random(max(replicas - 1, 1), rng)
        self._replicas = replicas

    def choose(self, request: RequestView, load: LoadView) -> Decision:
        """Draw two different replicas and return the one with fewer unfinished requests."""
        first = self._random.draw()
        if self._replicas == 1:
            return Decision(first, "the only replica")
        second = self._others.draw()
        second += second >= first
        requests = load.requests
        return Decision(first if requests[first] <= requests[second] else second, "fewer requests of two drawn")


class PrefixAffinity:
    """The replica that saw the longest part of this prompt before, unless it is much busier than the others.

    Remembers which replica got which named content, as prefix-aware gateways do; it does not look into the caches.
    """

    def __init__(self, max_imbalance: float, slack_requests: int, remembered: int) -> None:
        self._max_imbalance = max_imbalance
        self._slack = slack_requests
        self._remembered = remembered
        self._seen: OrderedDict[object, int] = OrderedDict()

    def choose(self, request: RequestView, load: LoadView) -> Decision:
        """Follow the longest known prefix, or balance."""
        requests = load.requests
        lightest = _least(requests)
        target, reason = lightest, "no known prefix: fewest unfinished requests"
        keys: list[object] = []
        key: object = ()
        for segment in request.content or ():
            key = hash((key, segment))
            keys.append(key)
        if not keys and request.session is not None:
            keys.append(("session", request.session))
        for key in reversed(keys):
            known = self._seen.get(key)
            if known is None:
                continue
            if requests[known] <= requests[lightest] * self._max_imbalance + self._slack:
                target, reason = known, "longest known prefix"
            else:
                reason = "its prefix is on a replica that is too busy"
            break
        for key in keys:
            self._seen[key] = target
            self._seen.move_to_end(key)
        while len(self._seen) > self._remembered:
            self._seen.popitem(last=False)
        return Decision(target, reason)


@BALANCERS.register("round-robin")
def round_robin(context: BalancerContext, options: Mapping[str, Any]) -> ReplicaBalancer:
    """In turn.  No options."""
    check_options("the round-robin balancer", options)
    return RoundRobin(context.replicas)


@BALANCERS.register("random")
def random(context: BalancerContext, options: Mapping[str, Any]) -> ReplicaBalancer:
    """Any, with equal probability.  No options."""
    check_options("the random balancer", options)
    return Random(context.replicas, context.rng)


@BALANCERS.register("least-requests")
def least_requests(context: BalancerContext, options: Mapping[str, Any]) -> ReplicaBalancer:
    """The fewest unfinished requests; equals in turn.  No options."""
    check_options("the least-requests balancer", options)
    return LeastRequests(context.replicas)


@BALANCERS.register("least-tokens")
def least_tokens(context: BalancerContext, options: Mapping[str, Any]) -> ReplicaBalancer:
    """The fewest prompt tokens in unfinished requests; equals in turn.  No options."""
    check_options("the least-tokens balancer", options)
    return LeastTokens()


@BALANCERS.register("power-of-two")
def power_of_two(context: BalancerContext, options: Mapping[str, Any]) -> ReplicaBalancer:
    """The one with fewer requests of two drawn at random.  No options."""
    check_options("the power-of-two balancer", options)
    return PowerOfTwo(context.replicas, context.rng)


@BALANCERS.register("prefix-affinity")
def prefix_affinity(context: BalancerContext, options: Mapping[str, Any]) -> ReplicaBalancer:
    """Where the prompt's beginning was served before.

    Options: ``max_imbalance`` (1.5), ``slack_requests`` (8), ``remembered`` (100000 prefixes).
    """
    check_options("the prefix-affinity balancer", options, ("max_imbalance", "slack_requests", "remembered"))
    return PrefixAffinity(
        check_finite("balancer.max_imbalance", options.get("max_imbalance", 1.5), minimum=1.0),
        check_count("balancer.slack_requests", options.get("slack_requests", 8), minimum=0),
        check_count("balancer.remembered", options.get("remembered", 100_000)),
    )
