"""What routing policies see and return.

Two levels: a model router says which model answers, a replica balancer says which of its replicas.  Both are one method
over a read-only view, and return a decision with its reason.  Neither ever sees how long
an answer will be, or how good, unless it declares to be an oracle.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np

from latency_models.errors import unknown_name
from latency_models.registry import Registry
from sim.prompt_table import PromptTable
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


class LoadView(Protocol):
    """Load of the replicas of one model, as of the balancer's last look (see ``staleness_s``)."""

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
BALANCERS: Registry[BalancerFactory] = Registry("replica balancer", "routerwise.balancers")


def check_options(policy: str, options: Mapping[str, Any], known: Sequence[str] = ()) -> None:
    """Raise :class:`InputError` for an option that the policy does not have."""
    for key in options:
        if key not in known:
            raise unknown_name(f"option of {policy}", key, known)
