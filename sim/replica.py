"""One replica of a model: its engine, and the stages and limits around it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sim.cluster_spec import AdmissionLimit, ModelSpec, ReplicaSpec
from sim.random_streams import seed_sequence
from sim.request import Request
from sim.results import Status
from sim.sharing.shared_engine import SharedEngine
from sim.stage import Stage
from sim.vllm.engine import Engine
from sim.vllm.scheduler_base import Scheduler
from sim.vllm.schedulers import build_scheduler
from sim.vllm.step_timer import StepTimer

if TYPE_CHECKING:
    from sim.cluster import Cluster


class Replica:
    """One engine with what surrounds it; tells the cluster what becomes of its requests."""

    def __init__(
        self, cluster: Cluster, spec: ReplicaSpec, model: ModelSpec, model_index: int, place: int, index: int
    ) -> None:
        self.cluster = cluster
        self.spec = spec
        self.name = f"{model.name}/{place}"
        self.model_index = model_index
        self.place = place
        self.index = index
        self._model = model
        self._crashes = 0
        self.settings = spec.settings
        self.safe_tokens = spec.settings.safe_tokens
        run = cluster.run
        scheduler = self._scheduler()
        tenancy = cluster.tenancies.get(index)
        self.engine = (
            Engine(cluster.clock, scheduler, self, index=index, mode=run.mode)
            if tenancy is None
            else SharedEngine(cluster.clock, scheduler, self, index=index, mode=run.mode, tenancy=tenancy)
        )
        self.engine.change_speed(spec.slowdown)
        self.total_blocks = scheduler.pool.total
        self._start_stages()
        self.admission = None if model.admission == AdmissionLimit() else model.admission

    def _scheduler(self) -> Scheduler:
        """A scheduler that knows of nothing yet."""
        run, model, settings = self.cluster.run, self._model, self.spec.settings
        noise = None
        if model.noise is not None:
            life = f" after crash {self._crashes}" if self._crashes else ""
            noise = model.noise.stream(seed_sequence(run.seed, run.replication, f"step noise of {self.name}{life}"))
        timer = StepTimer(model.step_time, overhead=model.overhead, asynchronous=settings.async_scheduling, noise=noise)
        return build_scheduler(settings, timer, shared_content=run.shared_content)

    def _start_stages(self) -> None:
        model = self._model
        self.api_server = None if model.api_server.is_free else Stage(model.api_server)
        self.detokeniser = None if model.detokenise.is_free else Stage(model.detokenise)

    def crash(self) -> None:
        """Lose all requests, keys and values; the cluster knows where the requests go."""
        self._crashes += 1
        self.engine.crash(self._scheduler())
        self._start_stages()

    def on_finish(self, request: Request, now_s: float) -> None:
        """The last token is out of the engine."""
        self.cluster.on_last_token(self, request, now_s)

    def on_abort(self, request: Request, now_s: float) -> None:
        """The engine has dropped a request that was cancelled or ran out of time."""
        self.cluster.leave(self, request, now_s, Status.ABORTED)

    def on_gap(self, request: Request, from_s: float, to_s: float) -> None:
        """Two tokens of a request lie apart."""
        self.cluster.recorder.gap(self.index, request.row, from_s, to_s)
