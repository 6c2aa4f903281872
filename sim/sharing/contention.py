"""How much replicas slow each other down when shards of several share a GPU.

A contention model sees what the busy tenants of one GPU demand of it now and gives each a factor on its time, beside
what its MPS cap costs it alone: that is in its step times already.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple, Protocol

from latency_models.errors import InputError, RouterwiseError, check_finite, invalid
from latency_models.registry import Registry

REACHABLE_BANDWIDTH = 0.87
"""Share of an A100's bandwidth (datasheet) that its fastest kernels draw: the largest matrix products and attentions in
AIConfigurator's operator tables of vLLM 0.14 reach 0.85 to 0.87.  An H100's reach 0.92 to 0.95."""
_SAME = 1e-7
_MOST_ROUNDS = 200
_MOST_SUMS = 256
_SUM_DIGITS = 3


class Demand(NamedTuple):
    """What a tenant demands of one GPU while it runs a step; all are shares, 0 to 1."""

    sms: float
    """Of the GPU's multiprocessors: its MPS cap."""
    compute: float
    """Of the step's time, when it is alone: bound by the throughput of those."""
    memory: float
    """Of the step's time, when it is alone: bound by memory bandwidth."""
    bandwidth: float
    """Of the datasheet's bandwidth: what it draws while memory is the limit."""


class ContentionModel(Protocol):
    """Maps the busy tenants of a GPU to how much longer each takes."""

    def slowdowns(self, tenants: Sequence[Demand]) -> Sequence[float]:
        """Factor on the time of each tenant, one or more, at least 1; pure, so that it is asked once per demands."""
        ...


CONTENTION_MODELS: Registry[type] = Registry("contention model", "routerwise.contention_models")
"""Dataclasses whose fields are the options; ``isolated`` is no class, since then nobody is asked."""


@CONTENTION_MODELS.register("capped")
@dataclass(frozen=True, slots=True, kw_only=True)
class CappedContention:
    """Multiprocessors are shared in proportion to the caps: with caps of 150 % in sum, all take 1.5 times as long.

    With caps of 100 % this is time slicing: n busy tenants get an n-th of the time each.
    """

    def slowdowns(self, tenants: Sequence[Demand]) -> Sequence[float]:
        """The sum of the caps, or 1 if it is less; the same for all."""
        return [max(1.0, sum(tenant.sms for tenant in tenants))] * len(tenants)


@CONTENTION_MODELS.register("bandwidth")
@dataclass(frozen=True, slots=True, kw_only=True)
class BandwidthContention:
    """Tenants compete for memory bandwidth where memory bounds them, and for multiprocessors where compute does.

    A step goes through many short kernels, so a tenant alternates between time bound by memory, time bound by compute
    and time in which it waits for the host or for links, independently of its neighbours.  While those in S, i among
    them, are bound by memory at once, each of them takes ``max(1, sum of their bandwidth / reach)`` times as long, and
    while those in S are bound by compute at once, ``max(1, sum of their sms)`` times.  With x_i and y_i as the means of
    these factors over what the others do while i is bound so,

        slowdown_i = 1 + memory_i (x_i - 1) + compute_i (y_i - 1),

    and tenant j is bound by memory for the share ``memory_j x_j / slowdown_j`` of the time, likewise by compute: a
    fixed point.  It never gives out more than there is, as no moment does.

    Parameters
    ----------
    reach : float
        Share of the datasheet's bandwidth that all tenants together can draw, in (0, 1].

    Raises
    ------
    InputError
        If ``reach`` is out of range.
    """

    reach: float = REACHABLE_BANDWIDTH

    def __post_init__(self) -> None:
        if check_finite("contention.reach", self.reach, exclusive=True) > 1.0:
            raise invalid("contention.reach", self.reach, "a share of the GPU's bandwidth, > 0 and <= 1")

    def slowdowns(self, tenants: Sequence[Demand]) -> Sequence[float]:
        """See the class; a tenant alone is not slowed down."""
        # Whoever draws more than the reach when alone shows that so much can be drawn.
        reach = max([self.reach, *(tenant.bandwidth for tenant in tenants)])
        drawn = [tenant.bandwidth / reach for tenant in tenants]
        occupied = [tenant.sms for tenant in tenants]
        in_memory = [tenant.memory for tenant in tenants]
        in_compute = [tenant.compute for tenant in tenants]
        slowdowns = [1.0] * len(tenants)
        for _ in range(_MOST_ROUNDS):
            memory_factors = _mean_crowding(drawn, in_memory)
            compute_factors = _mean_crowding(occupied, in_compute)
            before = slowdowns
            slowdowns = [
                max(1.0, 1.0 + tenant.memory * (x - 1.0) + tenant.compute * (y - 1.0))  # a mean of ones can round below
                for tenant, x, y in zip(tenants, memory_factors, compute_factors, strict=True)
            ]
            if max(abs(now - then) for now, then in zip(slowdowns, before, strict=True)) < _SAME:
                break
            in_memory = [t.memory * x / s for t, x, s in zip(tenants, memory_factors, slowdowns, strict=True)]
            in_compute = [t.compute * y / s for t, y, s in zip(tenants, compute_factors, slowdowns, strict=True)]
        return slowdowns


def _mean_crowding(needs: Sequence[float], present: Sequence[float]) -> list[float]:
    """For each tenant the mean of ``max(1, sum of needs)`` over itself and whoever of the others is present.

    Parameters
    ----------
    needs : sequence of float
        What each needs while it is present, of 1.
    present : sequence of float
        For what share of the time each is, independently.
    """
    if sum(needs) <= 1.0:
        return [1.0] * len(needs)
    means = []
    for tenant, need in enumerate(needs):
        sums = [(need, 1.0)]
        """Sums that may occur, with their probabilities."""
        for other, share in enumerate(present):
            if other == tenant or share == 0.0:
                continue
            more = needs[other]
            sums = [(total, chance * (1.0 - share)) for total, chance in sums] + [
                (total + more, chance * share) for total, chance in sums
            ]
            if len(sums) > _MOST_SUMS:
                sums = _merged(sums)
        means.append(sum((total if total > 1.0 else 1.0) * chance for total, chance in sums))
    return means


def _merged(sums: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Sums that are nearly equal as one, so that many neighbours do not have too many."""
    chances: dict[float, float] = {}
    for total, chance in sums:
        rounded = round(total, _SUM_DIGITS)
        chances[rounded] = chances.get(rounded, 0.0) + chance
    return list(chances.items())


def contention_model(kind: str, options: Mapping[str, Any]) -> ContentionModel | None:
    """A contention model by name; ``None`` for ``isolated``, when neighbours do not matter.

    Raises
    ------
    InputError
        The kind or an option is unknown, or an option is out of range.
    """
    if kind == "isolated":
        allowed: list[str] = []
    else:
        try:
            model_type = CONTENTION_MODELS.get(kind)
        except InputError as error:
            raise InputError(f"{error}; isolated, the default, leaves neighbours out") from None
        allowed = [entry.name for entry in fields(model_type)]
    for name in options:
        if name not in allowed:
            raise invalid(f"contention.{name}", options[name], f"options of {kind}: {', '.join(allowed) or 'none'}")
    if kind == "isolated":
        return None
    model: ContentionModel = model_type(**options)
    return model


def checked_slowdowns(model: ContentionModel, tenants: Sequence[Demand]) -> Sequence[float]:
    """What the model says, if it is what the protocol allows.

    Raises
    ------
    RouterwiseError
        A factor is missing, below 1, or not finite.
    """
    slowdowns = model.slowdowns(tenants)
    if len(slowdowns) != len(tenants) or not all(1.0 <= slowdown < float("inf") for slowdown in slowdowns):
        raise RouterwiseError(
            f"contention model {type(model).__name__} gives {list(slowdowns)} for {len(tenants)} tenants; "
            "allowed: a finite factor >= 1 for each"
        )
    return slowdowns
