"""Which replicas are up, when they crash and return, and where the requests go that they lose."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from sim.clock import CONTROL, Occurrence
from sim.fault_spec import FaultSpec, RandomCrashes
from sim.random_streams import stream
from sim.replica import Replica
from sim.request import DONE, Request
from sim.results import Floats, Status
from sim.routing.policies import ReplicaBalancer, RequestView

if TYPE_CHECKING:
    from sim.cluster import Cluster

_MOST_ASKED = 32
"""How often a policy is asked for a replica or a model that is up, before the least loaded one is taken."""
_NO_SCORE = -1e9
"""What a router sees as the score of a model that cannot answer."""


class Faults:
    """Faults of one simulation.

    Parameters
    ----------
    spec : FaultSpec
        What fails.
    cluster : Cluster
        Whose replicas and requests.
    """

    def __init__(self, spec: FaultSpec, cluster: Cluster) -> None:
        self._spec = spec
        self._cluster = cluster
        replicas = cluster.replicas
        self._up = [True] * len(replicas)
        self._down_since_s = [0.0] * len(replicas)
        self._back_s = [0.0] * len(replicas)
        """When each replica returns, or returned last."""
        self._outages: list[tuple[float, float, float]] = []
        self._waiting: dict[Request, None] = {}
        """Requests without a replica, in the order in which they lost or missed it."""
        for replica in replicas:
            if replica.model_index in spec.cold_models and spec.load_s[replica.model_index] > 0:
                self._take_down(replica, spec.load_s[replica.model_index])

    def begin(self) -> None:
        """Put what fails at given and at random times on the clock."""
        clock = self._cluster.clock
        for crash in self._spec.crashes:
            lost = (
                self._on_gpu(crash.gpu)
                if crash.gpu is not None
                else [self._cluster.by_model[crash.model or 0][crash.replica]]
            )
            restart_s = self._spec.restart_s if crash.restart_s is None else crash.restart_s
            clock.at(crash.at_s, CONTROL, self._on_crash, (lost, restart_s))
        run = self._cluster.run
        for number, rule in enumerate(self._spec.random_crashes):
            for name, lost in self._units(rule):
                rng = stream(run.seed, run.replication, f"random crashes {number} of {name}")
                restart_s = self._spec.restart_s if rule.restart_s is None else rule.restart_s
                self._await_crash(_RandomUnit(lost, restart_s, rule.mean_time_between_s, rng))

    # ------------------------------------------------------------------ where requests go

    def model_for(self, view: RequestView, model: int) -> int:
        """The model that answers a request that was routed to ``model``."""
        if self._spec.lost_requests != "reroute" or self._any_up(model):
            return model
        cluster = self._cluster
        able = [other for other in range(len(cluster.by_model)) if self._any_up(other)]
        if not able:
            return model
        if view.scores is not None:
            scores = [score if other in able else _NO_SCORE for other, score in enumerate(view.scores)]
            view = view._replace(scores=scores)
        for _ in range(_MOST_ASKED):
            chosen = cluster.gateway.model_for(view)
            if chosen in able:
                return chosen
        return min(able, key=lambda other: min(cluster.gateway.loads[other].requests))

    def place_for(self, view: RequestView, model: int, balancer: ReplicaBalancer) -> int:
        """The balancer's choice among the replicas that are up; if none is, its choice among all."""
        load = self._cluster.gateway.loads[model]
        place = balancer.choose(view, load).target
        if not self._any_up(model):
            return place
        replicas = self._cluster.by_model[model]
        for _ in range(_MOST_ASKED):
            if self._up[replicas[place].index]:
                return place
            place = balancer.choose(view, load).target
        return min(range(len(replicas)), key=load.requests.__getitem__)

    def is_up(self, replica: Replica) -> bool:
        """Whether a replica answers."""
        return self._up[replica.index]

    def keep(self, replica: Replica, request: Request) -> None:
        """A request has come to a replica that is down: it waits until one returns, or fails."""
        request.queued_s = math.nan
        if self._spec.lost_requests == "fail" or not self._can_wait(replica.model_index):
            self._fail(replica, request)
        else:
            self._waiting[request] = None

    def _any_up(self, model: int) -> bool:
        return any(self._up[replica.index] for replica in self._cluster.by_model[model])

    def _can_wait(self, model: int) -> bool:
        """Whether a replica that a request to ``model`` may go to will ever return."""
        rerouted = self._spec.lost_requests == "reroute"
        able = self._cluster.replicas if rerouted else self._cluster.by_model[model]
        return any(math.isfinite(self._back_s[replica.index]) for replica in able)

    def _fail(self, replica: Replica, request: Request) -> None:
        request.state = DONE
        self._cluster.leave(replica, request, self._cluster.clock.now_s, Status.FAILED)

    # ------------------------------------------------------------------ crashes

    def _on_crash(self, event: Occurrence) -> None:
        self._crash(*event.payload)

    def _crash(self, replicas: Sequence[Replica], restart_s: float) -> None:
        lost: list[tuple[Replica, Request]] = []
        for replica in replicas:
            if self._up[replica.index]:
                lost += [(replica, request) for request in self._cluster.requests_at(replica)]
                replica.crash()
            self._take_down(replica, restart_s + self._spec.load_s[replica.model_index])
        for replica, request in lost:
            self._send_again(replica, request)
        if math.isinf(restart_s):
            for request in list(self._waiting):
                if request.state == DONE:
                    continue
                replica = self._cluster.replica_of(request)
                if not self._can_wait(replica.model_index):
                    self._fail(replica, request)

    def _take_down(self, replica: Replica, down_s: float) -> None:
        index, now_s = replica.index, self._cluster.clock.now_s
        if self._up[index]:
            self._up[index] = False
            self._down_since_s[index] = now_s
            self._cluster.gateway.loads[replica.model_index].set_down(replica.place, True)
        self._back_s[index] = back_s = max(self._back_s[index], now_s + down_s)
        if math.isfinite(back_s):
            self._cluster.clock.at(back_s, CONTROL, self._on_return, replica)

    def _on_return(self, event: Occurrence) -> None:
        replica: Replica = event.payload
        index, now_s = replica.index, self._cluster.clock.now_s
        if self._up[index] or now_s < self._back_s[index]:
            return
        self._up[index] = True
        self._cluster.gateway.loads[replica.model_index].set_down(replica.place, False)
        self._outages.append((index, self._down_since_s[index], now_s))
        waiting, self._waiting = self._waiting, {}
        for request in waiting:
            if request.state != DONE:
                self._move(self._cluster.replica_of(request), request)

    def _send_again(self, replica: Replica, request: Request) -> None:
        """A request has lost its replica."""
        if request.cancelled:
            request.state = DONE
            self._cluster.leave(replica, request, self._cluster.clock.now_s, Status.ABORTED)
        elif self._spec.lost_requests == "fail" or request.retries >= self._spec.most_retries:
            self._fail(replica, request)
        else:
            request.retries += 1
            self._move(replica, request)

    def _move(self, replica: Replica, request: Request) -> None:
        assert request.view is not None
        view = request.view._replace(now_s=self._cluster.clock.now_s)
        model = self.model_for(view, replica.model_index)
        self._cluster.withdraw(request)
        self._cluster.send(view, request.spec, model, request.request_class, request.stage, request.retries)

    # ------------------------------------------------------------------ random times

    def _units(self, rule: RandomCrashes) -> Iterator[tuple[str, list[Replica]]]:
        """What may fail, by name, and the replicas that are lost with it."""
        if rule.each == "gpu":
            for gpu in range(self._cluster.spec.gpus):
                if on_it := self._on_gpu(gpu):
                    yield f"GPU {gpu}", on_it
            return
        for replica in self._cluster.replicas:
            if rule.model in (None, replica.model_index):
                yield replica.name, [replica]

    def _on_gpu(self, gpu: int) -> list[Replica]:
        return [replica for replica in self._cluster.replicas if gpu in replica.spec.gpus]

    def _await_crash(self, unit: _RandomUnit) -> None:
        up_from_s = max(self._back_s[replica.index] for replica in unit.lost)
        if math.isfinite(up_from_s):
            time_s = max(up_from_s, self._cluster.clock.now_s) + unit.draw_s()
            self._cluster.clock.at(time_s, CONTROL, self._on_random_crash, unit)

    def _on_random_crash(self, event: Occurrence) -> None:
        unit: _RandomUnit = event.payload
        self._crash(unit.lost, unit.restart_s)
        self._await_crash(unit)

    # ------------------------------------------------------------------ results

    def outages(self) -> Floats:
        """When replicas were down until now, shape (n, 3), columns :data:`sim.results.OUTAGE_COLUMNS`."""
        now_s = self._cluster.clock.now_s
        still = [(float(index), self._down_since_s[index], now_s) for index, up in enumerate(self._up) if not up]
        rows = sorted(self._outages + still, key=lambda row: (row[1], row[0]))
        return np.array(rows, dtype=np.float64).reshape(-1, 3)


class _RandomUnit:
    """Something that fails at random times."""

    def __init__(self, lost: list[Replica], restart_s: float, mean_s: float, rng: np.random.Generator) -> None:
        self.lost = lost
        self.restart_s = restart_s
        self._mean_s = mean_s
        self._rng = rng

    def draw_s(self) -> float:
        """How long it is up."""
        return float(self._rng.exponential(self._mean_s))
