"""What routing policies see and return.

Two levels: a model router says which model answers, a replica balancer says which of its replicas.  Both are one method
over a read-only view, and return a decision with its reason.  Neither ever sees how long
an answer will be, or how good, unless it declares to be an oracle.

A model router may also have any of three further methods, and is then told of first tokens
(:class:`HearsFirstTokens`), of requests that end (:class:`HearsEnds`), or asked what to do with an answer
(:class:`ReviewsAnswers`).  Who has none of them costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from latency_models.errors import unknown_name
from latency_models.registry import Registry
from sim.prompt_table import PromptTable
from sim.results import Status
from sim.workload import Segment


class RequestView(NamedTuple):
    """A request as a policy sees it: everything but the length of its answer."""

    row: int
    """Number of the request, in order of arrival."""
    now_s: float
    prompt_tokens: int
    model: str | None
    """Model that the workload names, if it does."""
    request_class: str | None
    session: str | None
    priority: int
    content: tuple[Segment, ...] | None
    prompt: int | None = None
    """Its row in the prompt table, if requests have prompts."""
    scores: Sequence[float] | None = None
    """Predicted score of each model, if requests have prompts."""


DOWN = 1 << 40
"""Load that a replica shows while it is down, so that it is the last that anybody chooses."""


class LoadView(Protocol):
    """Load of the replicas of one model, as of the balancer's last look (see ``staleness_s``).

    A replica that is down shows :data:`DOWN` requests and tokens, at once.  A balancer that chooses it all the same is
    asked again.
    """

    @property
    def requests(self) -> Sequence[int]:
        """Unfinished requests of each replica."""
        ...

    @property
    def prompt_tokens(self) -> Sequence[int]:
        """Prompt tokens of the unfinished requests of each replica."""
        ...

    def kv_used(self, replica: int) -> float:
        """Share of a replica's KV blocks in use, right now."""
        ...


class Decision(NamedTuple):
    """What a policy chose, and why."""

    target: int
    """Index of the model, or of the replica within its model."""
    reason: str


class ModelRouter(Protocol):
    """Chooses the model."""

    def route(self, request: RequestView, loads: Sequence[LoadView]) -> Decision:
        """Return the index of a model; ``loads`` has one entry per model."""
        ...


class Feedback(NamedTuple):
    """What a router can observe of a request that it has sent to a model."""

    row: int
    """Number of the request, as in its :class:`RequestView`."""
    model: int
    replica: int
    """Index of the replica within its model."""
    now_s: float
    sent_s: float
    """When it was sent there; with a cascade later than its arrival."""
    prompt_tokens: int
    output_tokens: int
    """Tokens of the answer so far."""
    status: Status | None
    """How it ended at this model; ``None``: it goes on."""


@runtime_checkable
class HearsFirstTokens(Protocol):
    """A model router that wants to know when answers begin."""

    def on_first_token(self, feedback: Feedback) -> None:
        """A request has got its first token, at ``feedback.now_s``."""
        ...


@runtime_checkable
class HearsEnds(Protocol):
    """A model router that wants to know when requests leave their model, answered or not."""

    def on_end(self, feedback: Feedback) -> None:
        """A request has left its model, at ``feedback.now_s``."""
        ...


class Answer(NamedTuple):
    """A complete answer, before the user gets it."""

    model: int
    stage: int
    """How many models have been asked, this one included."""
    output_tokens: int
    score: float | None
    """What the router's scorer thinks of it (see :attr:`ReviewsAnswers.informed`); ``None`` without prompts."""


@runtime_checkable
class ReviewsAnswers(Protocol):
    """A model router that reads answers before the user gets them, and may ask another model instead."""

    @property
    def informed(self) -> float:
        """Share of the answers whose true outcome its scorer recognises; of the others it has the predicted score."""
        ...

    def review(self, request: RequestView, answer: Answer, loads: Sequence[LoadView]) -> Decision | None:
        """Return ``None`` to pass the answer on, or the model that is asked next."""
        ...


class ReplicaBalancer(Protocol):
    """Chooses the replica."""

    def choose(self, request: RequestView, load: LoadView) -> Decision:
        """Return the index of a replica of the chosen model."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterContext:
    """What a model router is built with."""

    models: tuple[str, ...]
    rng: np.random.Generator
    table: PromptTable | None = None
    """Prompts with predicted scores, in the order of ``models``; with outcomes for a router that declares to be an
    oracle (see :func:`oracle`)."""
    ttft_limit_s: float | None = None
    """The limit that users expect the first token within, if the scenario has one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BalancerContext:
    """What a replica balancer is built with."""

    replicas: int
    rng: np.random.Generator


RouterFactory = Callable[[RouterContext, Mapping[str, Any]], ModelRouter]
BalancerFactory = Callable[[BalancerContext, Mapping[str, Any]], ReplicaBalancer]

_ORACLES: set[RouterFactory] = set()


def oracle(factory: RouterFactory) -> RouterFactory:
    """Declare that a model router knows the outcome of every answer beforehand; decorates its factory."""
    _ORACLES.add(factory)
    return factory


def is_oracle(factory: RouterFactory) -> bool:
    """Whether a model router may see outcomes."""
    return factory in _ORACLES


MODEL_ROUTERS: Registry[RouterFactory] = Registry("model router", "routerwise.model_routers")
"""Model routers by name: factories from context and options."""
BALANCERS: Registry[BalancerFactory] = Registry("replica balancer", "routerwise.balancers")
"""Replica balancers by name: factories from context and options."""


def check_options(policy: str, options: Mapping[str, Any], known: Sequence[str] = ()) -> None:
    """Raise :class:`InputError` for an option that the policy does not have."""
    for key in options:
        if key not in known:
            raise unknown_name(f"option of {policy}", key, known)
