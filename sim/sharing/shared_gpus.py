"""Who sits on which GPU beside whom, and what each is doing now: who speeds up or slows down when that changes."""

from __future__ import annotations

from collections.abc import Callable

from sim.cluster_spec import ClusterSpec
from sim.sharing.contention import ContentionModel, Demand, checked_slowdowns
from sim.sharing.step_demand import StepDemands
from sim.vllm.step import Step

Demands = tuple[Demand | None, ...]
"""What the tenants of a GPU demand, in order; ``None`` of those that are idle."""

_MOST_KNOWN = 100_000
"""Sets of demands whose slowdowns are remembered; with many tenants there are more."""


class SharedGpu:
    """One GPU with shards of several replicas; ``known`` are slowdowns that any GPU has asked for."""

    def __init__(self, model: ContentionModel, known: dict[Demands, tuple[float, ...]]) -> None:
        self._model = model
        self._known = known
        self.tenants: list[Tenancy] = []
        self._demands: list[Demand | None] = []
        self.slowdowns: tuple[float, ...] = ()
        """Of each tenant, now; 1 of those that are idle."""

    def join(self, tenancy: Tenancy) -> int:
        """Take in a tenant, idle at first; returns its place."""
        self.tenants.append(tenancy)
        self._demands.append(None)
        self.slowdowns += (1.0,)
        return len(self.tenants) - 1

    def put(self, place: int, demand: Demand | None) -> bool:
        """A tenant begins to demand this, or stops; returns whether it may change anybody's speed."""
        self._demands[place] = demand
        key = tuple(self._demands)
        slowdowns = self._known.get(key)
        if slowdowns is None:
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            self._known[key] = slowdowns = self._solve()
        changed = slowdowns != self.slowdowns
        self.slowdowns = slowdowns
        return changed

    def _solve(self) -> tuple[float, ...]:
        busy = [demand for demand in self._demands if demand is not None]
        found = iter(checked_slowdowns(self._model, busy) if busy else ())
        return tuple(1.0 if demand is None else next(found) for demand in self._demands)


class Tenancy:
    """One replica on GPUs that it shares: as slow as the slowest of its shards."""

    def __init__(self, demands: StepDemands) -> None:
        self._demands = demands
        self._demand: Demand | None = None
        self._places: list[tuple[SharedGpu, int]] = []
        self._neighbours: tuple[Tenancy, ...] = ()
        self._retime: Callable[[float], None] | None = None

    def move_in(self, gpu: SharedGpu) -> None:
        """Sit on one more GPU."""
        self._places.append((gpu, gpu.join(self)))

    def meet_neighbours(self) -> None:
        """Everybody has moved in."""
        met = dict.fromkeys(other for gpu, _ in self._places for other in gpu.tenants if other is not self)
        self._neighbours = tuple(met)

    def attend(self, retime: Callable[[float], None]) -> None:
        """Who is told the replica's factor when a neighbour changes it."""
        self._retime = retime

    @property
    def slowdown(self) -> float:
        """Factor on the replica's time, now."""
        return max(gpu.slowdowns[place] for gpu, place in self._places)

    def begin(self, step: Step) -> float:
        """The replica begins a step, or a run of them, now; returns its own factor."""
        demand = self._demands.of(step)
        if demand is not self._demand:
            self._put(demand)
        return self.slowdown

    def idle(self) -> None:
        """The replica runs nothing from now on."""
        if self._demand is not None:
            self._put(None)

    def _put(self, demand: Demand | None) -> None:
        self._demand = demand
        changed = False
        for gpu, place in self._places:
            changed |= gpu.put(place, demand)
        if changed:
            for other in self._neighbours:
                if other._demand is not None and other._retime is not None:
                    other._retime(other.slowdown)


def shared_gpus(spec: ClusterSpec) -> dict[int, Tenancy]:
    """Tenancies of the replicas that share a GPU, by number in the order of models and replicas.

    Empty if neighbours do not matter, so that it costs nothing then.
    """
    if spec.contention is None:
        return {}
    replicas = [(model, replica) for model in spec.models for replica in model.replicas]
    by_gpu: list[list[int]] = [[] for _ in range(spec.gpus)]
    for number, (_, replica) in enumerate(replicas):
        for gpu in replica.gpus:
            by_gpu[gpu].append(number)
    tenancies: dict[int, Tenancy] = {}
    known: dict[Demands, tuple[float, ...]] = {}
    for occupants in by_gpu:
        if len(occupants) < 2:
            continue
        shared = SharedGpu(spec.contention, known)
        for number in occupants:
            if number not in tenancies:
                model, replica = replicas[number]
                tenancies[number] = Tenancy(StepDemands(model.step_time, replica.compute_share))
            tenancies[number].move_in(shared)
    for tenancy in tenancies.values():
        tenancy.meet_neighbours()
    return tenancies
