"""What every routing policy must keep to, as checks that a third party's tests can call.

A policy gets a read-only view and returns a valid index with a reason.  It uses nothing but the view, what it is told
afterwards, and the context it was built with, so the same seed gives the same decisions.  Outcomes are shown to those
only that declare to be an oracle.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

import numpy as np

from latency_models.contract import ContractError
from latency_models.errors import InputError, RouterwiseError
from sim.prompt_table import PromptTable
from sim.results import Status
from sim.routing.policies import (
    Answer,
    BalancerContext,
    BalancerFactory,
    Decision,
    Feedback,
    HearsEnds,
    HearsFirstTokens,
    ModelRouter,
    RequestView,
    ReviewsAnswers,
    RouterContext,
    RouterFactory,
    is_oracle,
)

T = TypeVar("T")

_CLASSES = (None, "chat", "code")
_SESSIONS = (None, "session 1", "session 2")
_CONTENTS = (
    None,
    (),
    (("system", 32),),
    (("system", 32), ("question 1", 7)),
    (("system", 32), ("question 1", 7), ("out:0", 5)),
)
_PROMPTS = 30
_MOST_STAGES = 50


def check_model_router(
    factory: RouterFactory,
    options: Mapping[str, Any] | Callable[[tuple[str, ...]], Mapping[str, Any]] | None = None,
    *,
    fewest_models: int = 1,
    most_models: int = 8,
    requests: int = 200,
    seed: int = 0,
) -> None:
    """Check a model router with few and many models over many views, with and without predicted scores.

    A router that wants feedback is told of first tokens and of ends, in any order and also of requests that it never
    saw, as after a crash; one that reviews answers is shown some, with a score where there are scores.

    Parameters
    ----------
    factory : callable
        What is registered in :data:`sim.routing.policies.MODEL_ROUTERS`.
    options : mapping, or callable from the models' names to a mapping, optional
        The router's options.  Give a callable if they depend on the models.
    fewest_models, most_models : int
        Smallest and largest number of models to try.
    requests : int
        Requests to route in each trial.
    seed : int
        Seed of the views and of the router's generator.

    Raises
    ------
    ContractError
        Naming the rule and the request.
    InputError
        The options are not valid.
    """
    for count in range(fewest_models, most_models + 1):
        models = tuple(f"model-{index}" for index in range(count))
        chosen = options(models) if callable(options) else options or {}
        _check_repeatable(_trial(factory, chosen, _table(models, seed), models, requests, seed), f"{count} models")
        # A router may need scores; then it has to say so.
        with suppress(InputError):
            _check_repeatable(_trial(factory, chosen, None, models, requests, seed), f"{count} models, no scores")


def _trial(
    factory: RouterFactory,
    options: Mapping[str, Any],
    table: PromptTable | None,
    models: tuple[str, ...],
    requests: int,
    seed: int,
) -> Callable[[], Iterator[int]]:
    """The decisions of a new router over many views, each checked."""

    def decisions() -> Iterator[int]:
        router = _build(factory, models, options, table, seed)
        draws = np.random.default_rng([seed, len(models)])
        for row in range(requests):
            name = models[int(draws.integers(len(models)))]
            request = _with_scores(_request(draws, row, name), table)
            loads = _loads(len(models), row)
            target = _decide(partial(router.route, request, loads), loads, request, len(models))
            yield target
            yield from _reviewed(router, request, target, loads)
            _tell(router, request, target, draws)
        nameless = _with_scores(_request(draws, requests, None), table)
        _check_nameless(partial(router.route, nameless, _loads(len(models), requests)), len(models))

    return decisions


def check_balancer(
    factory: BalancerFactory,
    options: Mapping[str, Any] | None = None,
    *,
    most_replicas: int = 8,
    requests: int = 200,
    seed: int = 0,
) -> None:
    """Check a replica balancer with 1 to ``most_replicas`` replicas over many views.

    Parameters
    ----------
    factory : callable
        What is registered in :data:`sim.routing.policies.BALANCERS`.
    options : mapping, optional
        The balancer's options.
    most_replicas : int
        Largest number of replicas to try.
    requests : int
        Requests to place in each trial.
    seed : int
        Seed of the views and of the balancer's generator.

    Raises
    ------
    ContractError
        Naming the rule and the request.
    InputError
        The options are not valid.
    """
    for count in range(1, most_replicas + 1):

        def decisions(count: int = count) -> Iterator[int]:
            balancer = factory(BalancerContext(replicas=count, rng=np.random.default_rng(seed)), options or {})
            draws = np.random.default_rng([seed, count])
            for row in range(requests):
                request = _request(draws, row, "model-0")
                load = _Load(count, row)
                yield _decide(partial(balancer.choose, request, load), (load,), request, count)

        _check_repeatable(decisions, f"{count} replicas")


class _Load:
    """Loads of some replicas: idle, equal, stale or far apart; as a list (live) or as a tuple (seen a moment ago)."""

    __slots__ = ("_kv_used", "_prompt_tokens", "_prompt_tokens_before", "_requests", "_requests_before")

    def __init__(self, replicas: int, row: int) -> None:
        # A stale view shows the same loads to several requests.
        period = row // 4
        highest = (0, 1, 5, 1000)[period % 4]
        requests: list[int] = np.random.default_rng([replicas, period]).integers(highest + 1, size=replicas).tolist()
        prompt_tokens = [count * 100 for count in requests]
        live = row % 2 == 0
        self._requests: Sequence[int] = requests if live else tuple(requests)
        self._prompt_tokens: Sequence[int] = prompt_tokens if live else tuple(prompt_tokens)
        self._requests_before = tuple(requests)
        self._prompt_tokens_before = tuple(prompt_tokens)
        self._kv_used = [min(count / 100, 1.0) for count in requests]

    @property
    def requests(self) -> Sequence[int]:
        return self._requests

    @property
    def prompt_tokens(self) -> Sequence[int]:
        return self._prompt_tokens

    def kv_used(self, replica: int) -> float:
        if not 0 <= replica < len(self._kv_used):
            raise IndexError(f"kv_used({replica}) of {len(self._kv_used)} replicas")
        return self._kv_used[replica]

    def is_unchanged(self) -> bool:
        same_requests = tuple(self._requests) == self._requests_before
        return same_requests and tuple(self._prompt_tokens) == self._prompt_tokens_before


def _table(models: tuple[str, ...], seed: int) -> PromptTable:
    """A few prompts with scores, some of them tied; outcomes and lengths for oracles only."""
    draws = np.random.default_rng([seed, len(models), 1])
    predicted = draws.integers(0, 11, (_PROMPTS, len(models))) / 10
    outcomes = draws.integers(0, 2, predicted.shape).astype(np.float64)
    lengths = draws.integers(1, 300, predicted.shape).astype(np.float64)
    return PromptTable(models=models, predicted=predicted, outcomes=outcomes, output_tokens=lengths)


def _build(
    factory: RouterFactory, models: tuple[str, ...], options: Mapping[str, Any], table: PromptTable | None, seed: int
) -> ModelRouter:
    """The router, shown the outcomes only if it declares to be an oracle."""
    seen = table if table is None or is_oracle(factory) else table.without_truth()
    context = RouterContext(models=models, rng=np.random.default_rng(seed), table=seen, ttft_limit_s=0.5)
    try:
        return factory(context, options)
    except RouterwiseError:
        raise
    except Exception as error:
        raise ContractError(
            f"raised {error!r} when it was built; allowed: to use the predicted scores of context.table, which may be "
            "None, and its outcomes and lengths only if the factory is decorated with sim.routing.policies.oracle"
        ) from error


def _with_scores(request: RequestView, table: PromptTable | None) -> RequestView:
    if table is None:
        return request
    prompt = request.row * 7 % table.prompts
    return request._replace(prompt=prompt, scores=table.predicted[prompt].tolist())


def _reviewed(router: ModelRouter, request: RequestView, model: int, loads: Sequence[_Load]) -> Iterator[int]:
    """The models that are asked after the first, as a router that reviews answers chooses them."""
    if not isinstance(router, ReviewsAnswers):
        return
    informed = router.informed
    if isinstance(informed, bool) or not isinstance(informed, (int, float)) or not 0 <= informed <= 1:
        raise ContractError(f"is informed to the share {informed!r}; allowed: a number from 0 to 1")
    for stage in range(1, _MOST_STAGES + 1):
        score = None if request.scores is None else (request.row + stage) % 3 / 2
        answer = Answer(model, stage, 1 + request.row % 50, score)
        decision = _call(partial(router.review, request, answer, loads), request)
        if decision is None:
            return
        _check_decision(decision, request, len(loads))
        if decision.target == model:
            raise ContractError(f"asks model {model} again for {request}; allowed: another model, or None")
        model = decision.target
        yield model
    raise ContractError(f"goes on after {_MOST_STAGES} answers to {request}; allowed: to accept one of them")


def _tell(router: ModelRouter, request: RequestView, model: int, draws: np.random.Generator) -> None:
    """Tell the router what became of the request, of one before it, or of one that it never sent."""
    rows = (request.row, request.row - 3, 10**6 + request.row)
    heard = Feedback(
        rows[int(draws.integers(3))], model, 0, request.now_s + 0.2, request.now_s, request.prompt_tokens, 1, None
    )
    ended = heard._replace(
        output_tokens=int(draws.integers(50)), status=tuple(Status)[int(draws.integers(len(Status)))]
    )
    if isinstance(router, HearsFirstTokens):
        _call(partial(router.on_first_token, heard), request)
    if isinstance(router, HearsEnds):
        _call(partial(router.on_end, ended), request)


def _call(call: Callable[[], T], request: RequestView) -> T:
    try:
        return call()
    except RouterwiseError:
        raise
    except Exception as error:
        raise ContractError(
            f"raised {error!r} for {request}; allowed: to use the fields of RequestView, LoadView, Feedback and "
            "Answer, and only those"
        ) from error


def _loads(models: int, row: int) -> tuple[_Load, ...]:
    return tuple(_Load(1 + model % 4, row) for model in range(models))


def _request(draws: np.random.Generator, row: int, model: str | None) -> RequestView:
    return RequestView(
        row=row,
        now_s=row * 0.25,
        prompt_tokens=int(draws.integers(39, 5000)),
        model=model,
        request_class=_CLASSES[int(draws.integers(len(_CLASSES)))],
        session=_SESSIONS[int(draws.integers(len(_SESSIONS)))],
        priority=int(draws.integers(3)),
        content=_CONTENTS[int(draws.integers(len(_CONTENTS)))],
    )


def _decide(decide: Callable[[], Decision], loads: Sequence[_Load], request: RequestView, targets: int) -> int:
    """Ask for a decision and check it."""
    decision = _call(decide, request)
    _check_decision(decision, request, targets)
    if not all(load.is_unchanged() for load in loads):
        raise ContractError(f"changed the loads that it was shown with {request}; allowed: to read them")
    return decision.target


def _check_decision(decision: Decision, request: RequestView, targets: int) -> None:
    if not isinstance(decision, Decision):
        raise ContractError(f"returned {decision!r} for {request}; allowed: a sim.routing.policies.Decision")
    target, reason = decision
    if type(target) is not int or not 0 <= target < targets:
        raise ContractError(f"chose {target!r} for {request}; allowed: an int from 0 to {targets - 1}")
    if not isinstance(reason, str) or not reason.strip():
        raise ContractError(f"gave the reason {reason!r} for {request}; allowed: a text that is not empty")


def _check_nameless(decide: Callable[[], Decision], models: int) -> None:
    """A request that names no model gets a valid decision, or an error that tells the user so."""
    try:
        decision = decide()
    except InputError:
        return
    except Exception as error:
        raise ContractError(f"raised {error!r} for a request without a model; allowed: InputError") from error
    if not isinstance(decision, Decision) or not 0 <= decision.target < models:
        raise ContractError(f"returned {decision!r} for a request without a model; allowed: a Decision or InputError")


def _check_repeatable(decisions: Callable[[], Iterator[int]], trial: str) -> None:
    first = list(decisions())
    if list(decisions()) != first:
        raise ContractError(
            f"decides differently the second time with {trial}; allowed: the same decisions for the same seed and "
            "views. Draw from context.rng only, and keep state in the policy object"
        )
