"""Built-in model routers that go by scores and by how quick the models are right now."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from latency_models.errors import InputError, check_finite, invalid
from sim.routing.latency_estimate import TtftEstimate
from sim.routing.policies import (
    MODEL_ROUTERS,
    Decision,
    Feedback,
    LoadView,
    ModelRouter,
    RequestView,
    RouterContext,
    check_options,
)
from sim.routing.score_routers import check_scores, scores_of

_WORST = 10.0
"""Most times its limit that a single time to first token counts for, and what a request counts for that got none."""


class _Watching:
    """Keeps an estimate of the time to first token of each model."""

    def __init__(self, models: int, memory_s: float, deviations: float = 0.0) -> None:
        self._estimates = [TtftEstimate(memory_s) for _ in range(models)]
        self._deviations = deviations
        self._waiting_at: dict[int, int] = {}
        """Model of each request without a first token; a request may be routed again before it has one."""

    def predict_s(self, request: RequestView, loads: Sequence[LoadView]) -> list[float]:
        """Predicted time to first token of the request at each model."""
        now_s, tokens = request.now_s, request.prompt_tokens
        return [
            estimate.predict_s(now_s, tokens, len(load.requests), self._deviations)
            for estimate, load in zip(self._estimates, loads, strict=True)
        ]

    def sent(self, request: RequestView, loads: Sequence[LoadView], model: int) -> None:
        """The request goes to this model."""
        self._leave(request.row)
        self._waiting_at[request.row] = model
        replicas = len(loads[model].requests)
        self._estimates[model].sent(request.row, request.now_s, request.prompt_tokens, replicas)

    def on_first_token(self, feedback: Feedback) -> None:
        """Learn from a request that got its first token, if it did so where it was sent."""
        if self._waiting_at.get(feedback.row) == feedback.model:
            self._estimates[feedback.model].first_token(feedback.row, feedback.now_s)
            del self._waiting_at[feedback.row]
        else:
            self._leave(feedback.row)

    def on_end(self, feedback: Feedback) -> None:
        """Forget a request that has left."""
        self._leave(feedback.row)

    def _leave(self, row: int) -> bool:
        """Forget a request; whether it was waiting for its first token."""
        model = self._waiting_at.pop(row, None)
        if model is not None:
            self._estimates[model].ended(row)
        return model is not None


class SloAware(_Watching):
    """The best predicted score among the models whose predicted time to first token fits the limit.

    The prediction is that of :class:`sim.routing.latency_estimate.TtftEstimate`, so many ``deviations`` longer.  If no
    model fits, the quickest one is taken.
    """

    def __init__(self, models: int, *, ttft_s: float, deviations: float, memory_s: float) -> None:
        super().__init__(models, memory_s, deviations)
        self._ttft_s = ttft_s

    def route(self, request: RequestView, loads: Sequence[LoadView]) -> Decision:
        """Choose by score among the quick ones."""
        scores = scores_of(request)
        ttft_s = self.predict_s(request, loads)
        fitting = [model for model, predicted_s in enumerate(ttft_s) if predicted_s <= self._ttft_s]
        if fitting:
            decision = Decision(max(fitting, key=scores.__getitem__), "best score that keeps the limit")
        else:
            decision = Decision(ttft_s.index(min(ttft_s)), "none keeps the limit: the quickest")
        self.sent(request, loads, decision.target)
        return decision


class AdaptivePrice(_Watching):
    """Highest score minus price, the price of model i being ``beta d_i / ttft_s``.

    ``d_i`` is the time to first token that model i would need now, and ``beta`` the multiplier of the limit on
    latency.  The optimal price of RouterWise is beta times what a request costs in latency (arXiv:2604.10907); here
    that cost is read off the live queue, and beta follows by projected dual subgradient steps, one per first token:
    ``beta <- clamp(beta + step g, 0, max_beta)`` with ``g = min(ttft / ttft_s - 1, 10)`` for a limit on the mean, or
    ``g = 1 if late else -late_share / (1 - late_share)`` for a limit on the share of late ones; g is 0 on average where
    the limit is just kept.  (Online dual descent: Balseiro, Lu and Mirrokni, "The best of many worlds: dual mirror
    descent for online allocation problems", Operations Research 71, 2023, algorithm 1 with the Euclidean norm.)
    """

    def __init__(
        self,
        models: int,
        *,
        ttft_s: float,
        late_share: float | None,
        beta: float,
        step: float,
        max_beta: float,
        memory_s: float,
    ) -> None:
        super().__init__(models, memory_s)
        self._ttft_s = ttft_s
        self._late_share = late_share
        self.beta = beta
        self._step = step
        self._max_beta = max_beta

    def route(self, request: RequestView, loads: Sequence[LoadView]) -> Decision:
        """Return the model with the highest net score; among equals the quickest."""
        ttft_s = self.predict_s(request, loads)
        per_second = self.beta / self._ttft_s
        best, highest = 0, (-math.inf, 0.0)
        for model, score in enumerate(scores_of(request)):
            net = (score - per_second * ttft_s[model], -ttft_s[model])
            if net > highest:
                best, highest = model, net
        self.sent(request, loads, best)
        return Decision(best, "highest score minus price at the present load")

    def on_first_token(self, feedback: Feedback) -> None:
        """Learn how quick the model is, and let beta follow."""
        super().on_first_token(feedback)
        self._follow((feedback.now_s - feedback.sent_s) / self._ttft_s)

    def on_end(self, feedback: Feedback) -> None:
        """A request that leaves without a first token was as late as can be."""
        if self._leave(feedback.row):
            self._follow(_WORST)

    def _follow(self, limits: float) -> None:
        """Take a dual step for a request whose first token came after so many times the limit."""
        share = self._late_share
        if share is None:
            gradient = min(limits, _WORST) - 1.0
        elif limits > 1.0:
            gradient = 1.0
        else:
            gradient = -share / (1.0 - share)
        self.beta = min(max(self.beta + self._step * gradient, 0.0), self._max_beta)


@MODEL_ROUTERS.register("slo-aware")
def slo_aware(context: RouterContext, options: Mapping[str, Any]) -> ModelRouter:
    """The best predicted score among the models that are quick enough now.

    Options: ``ttft_s`` (default: the limit of the scenario's ``slo``), ``deviations`` (1.64), ``memory_s`` (30).
    """
    check_options("the slo-aware router", options, ("ttft_s", "deviations", "memory_s"))
    check_scores(context, "the slo-aware router")
    return SloAware(
        len(context.models),
        ttft_s=_limit_s(context, options),
        deviations=check_finite("routing.deviations", options.get("deviations", 1.64)),
        memory_s=_memory_s(options),
    )


@MODEL_ROUTERS.register("price-adaptive")
def price_adaptive(context: RouterContext, options: Mapping[str, Any]) -> ModelRouter:
    """The highest score minus price, at prices that follow the load.

    Options: ``ttft_s``, ``late_share``, ``beta``, ``step`` (0.005), ``max_beta`` (2), ``memory_s`` (30).

    With ``ttft_s`` the limit is on the mean; with ``late_share`` too, only that share of the requests may be later.  By
    default the limit is that of the scenario's ``slo``, which is on each request, and ``late_share`` is 0.05.  ``beta``
    (0) is the start.
    """
    known = ("ttft_s", "late_share", "beta", "step", "max_beta", "memory_s")
    check_options("the price-adaptive router", options, known)
    check_scores(context, "the price-adaptive router")
    late_share = options.get("late_share", None if "ttft_s" in options else 0.05)
    if late_share is not None and not check_finite("routing.late_share", late_share, exclusive=True) < 1:
        raise invalid("routing.late_share", late_share, "a share of the requests, 0 < late_share < 1")
    max_beta = check_finite("routing.max_beta", options.get("max_beta", 2.0), exclusive=True)
    beta = check_finite("routing.beta", options.get("beta", 0.0))
    if beta > max_beta:
        raise invalid("routing.beta", beta, f"at most max_beta ({max_beta:g})")
    return AdaptivePrice(
        len(context.models),
        ttft_s=_limit_s(context, options),
        late_share=late_share,
        beta=beta,
        step=check_finite("routing.step", options.get("step", 0.005), exclusive=True),
        max_beta=max_beta,
        memory_s=_memory_s(options),
    )


def _limit_s(context: RouterContext, options: Mapping[str, Any]) -> float:
    limit_s = options.get("ttft_s", context.ttft_limit_s)
    if limit_s is None:
        raise InputError(
            "routing.ttft_s is missing, the limit on the time to first token in seconds; set it, or give the scenario "
            "an slo with a limit on ttft"
        )
    return check_finite("routing.ttft_s", limit_s, exclusive=True)


def _memory_s(options: Mapping[str, Any]) -> float:
    return check_finite("routing.memory_s", options.get("memory_s", 30.0), exclusive=True)
