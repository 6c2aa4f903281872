"""One replica of a model: its engine, and the stages and limits around it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sim.cluster_spec import AdmissionLimit, ModelSpec, ReplicaSpec
from sim.engine import Engine
from sim.random_streams import seed_sequence
from sim.request import Request
from sim.results import Status
from sim.schedulers import build_scheduler
from sim.stage import Stage
from sim.step_timer import StepTimer

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
        self.index = index
        self.settings = spec.settings
        self.safe_tokens = spec.settings.safe_tokens
        run = cluster.run
        timer = StepTimer(
            model.step_time,
            overhead=model.overhead,
            asynchronous=spec.settings.async_scheduling,
            noise=None
            if model.noise is None
            else model.noise.stream(seed_sequence(run.seed, run.replication, f"step noise of {self.name}")),
        )
        scheduler = build_scheduler(spec.settings, timer, shared_content=run.shared_content)
        self.engine = Engine(cluster.clock, scheduler, self, index=index, mode=run.mode)
        self.engine.slowdown = spec.slowdown
        self.total_blocks = scheduler.pool.total
        self.api_server = None if model.api_server.is_free else Stage(model.api_server)
        self.detokeniser = None if model.detokenise.is_free else Stage(model.detokenise)
        self.admission = None if model.admission == AdmissionLimit() else model.admission
        self.busy_at_sample_s = 0.0

    def on_finish(self, request: Request, now_s: float) -> None:
        """The last token is out of the engine."""
        self.cluster.on_last_token(self, request, now_s)

    def on_abort(self, request: Request, now_s: float) -> None:
        """The engine has dropped a request that was cancelled or ran out of time."""
        self.cluster.leave(self, request, now_s, Status.ABORTED)

    def on_gap(self, request: Request, from_s: float, to_s: float) -> None:
        """Two tokens of a request lie apart."""
        self.cluster.recorder.gap(self.index, request.row, from_s, to_s)
