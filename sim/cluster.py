"""The cluster on the clock: arrivals, routing, stages around the engines, deadlines, and the record of it all."""

from __future__ import annotations

import math
from functools import partial

import numpy as np

from latency_models.errors import invalid
from sim.admission import turned_away
from sim.clock import ARRIVAL, CONTROL, FOLLOW_UP, Clock, Occurrence
from sim.cluster_spec import ClusterSpec, RunSpec
from sim.faults import Faults
from sim.progress import RunProgress, WatchRun
from sim.recorder import Recorder
from sim.replica import Replica
from sim.request import DONE, Request
from sim.results import ReplicaInfo, SimulationResult, Status
from sim.routing.gateway import Gateway
from sim.routing.policies import RequestView
from sim.sampler import Sampler
from sim.sharing.shared_gpus import shared_gpus
from sim.vllm.misfit import check_request, misfit
from sim.workload import OpenTraffic, RequestSpec, Traffic


class Cluster:
    """One simulation of a cluster."""

    def __init__(self, spec: ClusterSpec, traffic: Traffic, run: RunSpec, progress: WatchRun | None) -> None:
        self.spec = spec
        self.run = run
        self.clock = Clock()
        self.recorder = Recorder()
        self._traffic = traffic
        self._follow_ups = None if isinstance(traffic, OpenTraffic) else traffic.follow_ups
        self.tenancies = shared_gpus(spec)
        """Of the replicas that share a GPU and slow each other down, by index."""
        self.replicas: list[Replica] = []
        self.by_model: list[list[Replica]] = []
        for model_index, model in enumerate(spec.models):
            first = len(self.replicas)
            self.replicas += [
                Replica(self, replica, model, model_index, number, first + number)
                for number, replica in enumerate(model.replicas)
            ]
            self.by_model.append(self.replicas[first:])
        self.gateway = Gateway(spec, run, self.clock, self.by_model)
        self._in_system: dict[Request, Replica | None] = {}
        """With their replicas; ``None``: the router has not sent it there yet."""
        self._faults = None if spec.faults is None else Faults(spec.faults, self)
        self.arrivals = 0
        self._expected = 1
        """Arrivals that are on the clock: the next of the stream, and follow-ups."""
        report = None if progress is None else partial(progress, RunProgress(self))
        self._sampler = Sampler(self.clock, self.replicas, self.recorder, run, report)

    def simulate(self) -> SimulationResult:
        """Run until every request has ended, or until the run's end."""
        clock = self.clock
        self._stream = (spec for chunk in self._traffic.chunks() for spec in chunk.specs())
        self._expect_next()
        for change in self.spec.speed_changes:
            replica = self.by_model[change.model][change.replica]
            clock.at(change.at_s, CONTROL, self._on_speed_change, (replica, change.slowdown))
        if self._faults is not None:
            self._faults.begin()
        self._sampler.begin()
        clock.drive(self.run.until_s)
        return self._result()

    # ------------------------------------------------------------------ arrivals

    def _expect_next(self) -> None:
        """Put the next request of the stream on the clock."""
        spec = next(self._stream, None)
        if spec is None:
            self._expected -= 1
            self._stop_if_over()
        elif spec.arrival_s >= self.clock.now_s:
            self.clock.at(spec.arrival_s, ARRIVAL, self._on_stream_arrival, spec)
        else:
            raise invalid(
                f"arrival of request {self.arrivals}",
                spec.arrival_s,
                f"a time not before that of the request before it ({self.clock.now_s:g} s)",
                "Sort the workload by arrival.",
            )

    def _on_stream_arrival(self, event: Occurrence) -> None:
        self._arrive(event.payload)
        self._expect_next()

    def _on_follow_up(self, event: Occurrence) -> None:
        self._expected -= 1
        self._arrive(event.payload)

    def _arrive(self, spec: RequestSpec) -> None:
        row = self.arrivals
        check_request(spec, row)
        self.arrivals = row + 1
        recorder = self.recorder
        recorder.name(row, spec.request_id, spec.session)
        gateway = self.gateway
        view = gateway.look(row, spec)
        request_class = recorder.class_index(spec.request_class)
        if gateway.stage is None:
            self.send(view, spec, self._model_for(view), request_class, 1)
        else:
            self._hand_to_router(view, spec, None, request_class, 0)

    def _model_for(self, view: RequestView) -> int:
        model = self.gateway.model_for(view)
        return model if self._faults is None else self._faults.model_for(view, model)

    def _hand_to_router(
        self, view: RequestView, spec: RequestSpec, model: int | None, request_class: int, stage: int, retries: int = 0
    ) -> None:
        """A request waits until the router has decided; ``model``: what it has decided already."""
        now_s = self.clock.now_s
        waiting = Request(view.row, spec._replace(prompt=view.prompt), math.nan, spec.prompt_tokens, view.row)
        waiting.view, waiting.request_class, waiting.stage, waiting.retries = view, request_class, stage, retries
        self._in_system[waiting] = None
        self._watch_patience(waiting)
        router_stage = self.gateway.stage
        if router_stage is None:
            self.clock.at(now_s, FOLLOW_UP, self._on_routed, (waiting, model))
        else:
            leaves_s = router_stage.leave_time(now_s, spec.prompt_tokens)
            self.clock.at(leaves_s, ARRIVAL, self._on_routed, (waiting, model))

    def _on_routed(self, event: Occurrence) -> None:
        waiting, model = event.payload
        if waiting not in self._in_system:
            return
        del self._in_system[waiting]
        view = waiting.view._replace(now_s=self.clock.now_s)
        if model is None:
            model = self._model_for(view)
        elif self._faults is not None:
            model = self._faults.model_for(view, model)
        self.send(view, waiting.spec, model, waiting.request_class, waiting.stage + 1, waiting.retries)

    def send(
        self, view: RequestView, spec: RequestSpec, model: int, request_class: int, stage: int, retries: int = 0
    ) -> None:
        """Send a request to a replica of a model, the ``stage``-th model that is asked."""
        now_s = self.clock.now_s
        gateway, faults = self.gateway, self._faults
        spec = gateway.asked_of(spec, view, model)
        balancer = gateway.balancers[model]
        if faults is None:
            place = balancer.choose(view, gateway.loads[model]).target
        else:
            place = faults.place_for(view, model, balancer)
        replica = self.by_model[model][place]
        settings = replica.settings
        row = view.row
        name = row if spec.request_id is None else spec.request_id
        api_server = replica.api_server
        request = Request(row, spec, now_s if api_server is None else math.nan, settings.max_model_len, name)
        request.view, request.request_class, request.stage, request.retries = view, request_class, stage, retries
        gateway.enter(request, model, place)
        self._in_system[request] = replica
        if spec.prompt_tokens + spec.output_tokens > replica.safe_tokens:
            error = misfit(spec, settings, name)
            if error is not None and self.spec.oversized == "error":
                raise error
            if error is not None:
                self.leave(replica, request, now_s, Status.REJECTED)
                return
        if replica.admission is not None and turned_away(replica.admission, replica.engine.scheduler.waiting, spec):
            self.leave(replica, request, now_s, Status.REJECTED)
            return
        self._watch_patience(request)
        if faults is not None and not faults.is_up(replica):
            faults.keep(replica, request)
        elif api_server is None:
            replica.engine.submit(request)
        else:
            self.clock.at(api_server.leave_time(now_s, spec.prompt_tokens), ARRIVAL, self._on_tokenised, request)

    def _watch_patience(self, request: Request) -> None:
        spec = request.spec
        if spec.deadline_s is not None or spec.cancel_after_s is not None:
            self.clock.at(_patience_end(spec)[0], CONTROL, self._on_patience_end, request)

    def _on_tokenised(self, event: Occurrence) -> None:
        request: Request = event.payload
        if request.state != DONE:
            request.queued_s = self.clock.now_s
            self.replica_of(request).engine.submit(request)

    # ------------------------------------------------------------------ requests that lose their replica

    def requests_at(self, replica: Replica) -> list[Request]:
        """The requests of a replica, with what each has got until now."""
        found = [request for request, its in self._in_system.items() if its is replica]
        for request in found:
            self._settle(replica, request)
        return found

    def replica_of(self, request: Request) -> Replica:
        """Where a request is, or was meant to be."""
        replica = self._in_system[request]
        assert replica is not None
        return replica

    def withdraw(self, request: Request) -> None:
        """Take a request from its replica, to be sent again."""
        replica = self.replica_of(request)
        del self._in_system[request]
        request.state = DONE
        self.gateway.leave(request, replica.model_index, Status.FAILED)
        self.recorder.start_again(request.row, self.clock.now_s)

    # ------------------------------------------------------------------ departures

    def on_last_token(self, replica: Replica, request: Request, now_s: float) -> None:
        """A request has got all its tokens; it may still have to be detokenised."""
        detokeniser = replica.detokeniser
        if detokeniser is None:
            self.leave(replica, request, now_s, Status.FINISHED)
        else:
            leaves_s = detokeniser.leave_time(now_s, request.max_outputs)
            self.clock.at(leaves_s, CONTROL, self._on_detokenised, request)

    def _on_detokenised(self, event: Occurrence) -> None:
        request: Request = event.payload
        if request in self._in_system:
            self.leave(self._in_system[request], request, self.clock.now_s, Status.FINISHED)

    def _on_patience_end(self, event: Occurrence) -> None:
        request: Request = event.payload
        if request not in self._in_system:
            return
        replica = self._in_system[request]
        in_engine = replica is not None and not math.isnan(request.queued_s) and replica.engine.abort(request)
        if not in_engine:
            # Still before the engine, or already behind it.
            if request.state == DONE:
                request.outputs_delivered = request.max_outputs
            request.state = DONE
            self.leave(replica, request, self.clock.now_s, Status.ABORTED)

    def leave(self, replica: Replica | None, request: Request, finish_s: float, status: Status) -> None:
        """A request leaves its replica, and with it the system unless the router asks another model.

        Without a replica it is still with the router.
        """
        del self._in_system[request]
        spec = request.spec
        if status == Status.FINISHED and not request.cancelled:
            request.outputs_delivered = request.max_outputs
        if status != Status.REJECTED and (spec.deadline_s is not None or spec.cancel_after_s is not None):
            # The engine lets go of a request only between two steps; for the client it was over before.
            patience_end_s, why = _patience_end(spec)
            if finish_s >= patience_end_s:
                finish_s, status = patience_end_s, why
        if replica is None:
            self.recorder.end(request, -1, -1, finish_s, status)
        else:
            model = replica.model_index
            self.gateway.leave(request, model, status)
            following = self.gateway.next_model(request, model) if status == Status.FINISHED else None
            if following is not None:
                self._ask_next(replica, request, following)
                return
            self.recorder.end(request, model, replica.index, finish_s, status)
        if self._follow_ups is not None and spec.request_id is not None:
            now_s = self.clock.now_s
            for follow_up in self._follow_ups(spec.request_id, finish_s):
                self._expected += 1
                at_once = follow_up.arrival_s <= now_s
                priority = FOLLOW_UP if at_once else ARRIVAL
                self.clock.at(now_s if at_once else follow_up.arrival_s, priority, self._on_follow_up, follow_up)
        self._stop_if_over()

    def _ask_next(self, replica: Replica, request: Request, model: int) -> None:
        """The router does not pass on an answer and asks another model."""
        view = request.view
        assert view is not None
        self.recorder.reject_answer(request, replica.model_index, replica.index, self.clock.now_s)
        self._hand_to_router(view, request.spec, model, request.request_class, request.stage, request.retries)

    @staticmethod
    def _settle(replica: Replica, request: Request) -> None:
        """Set what a request that is still in the system has got until now."""
        if request.state == DONE:
            request.outputs_delivered = request.max_outputs
        elif not request.cancelled:
            replica.engine.settle_outputs(request)

    def _stop_if_over(self) -> None:
        if not self._expected and not self._in_system:
            self.clock.stop()

    def _on_speed_change(self, event: Occurrence) -> None:
        replica, slowdown = event.payload
        replica.engine.change_speed(slowdown * replica.spec.slowdown)

    def _result(self) -> SimulationResult:
        recorder = self.recorder
        for request, replica in self._in_system.items():
            if replica is None:
                recorder.end(request, -1, -1, math.nan, Status.UNFINISHED)
                continue
            self._settle(replica, request)
            recorder.end(request, replica.model_index, replica.index, math.nan, Status.UNFINISHED)
        for replica in self.replicas:
            replica.engine.close_log()
        return SimulationResult(
            models=tuple(model.name for model in self.spec.models),
            prompts=self.gateway.table,
            classes=recorder.classes(),
            replicas=tuple(
                ReplicaInfo(
                    name=replica.name,
                    model=replica.model_index,
                    gpus=replica.spec.gpus,
                    total_blocks=replica.total_blocks,
                )
                for replica in self.replicas
            ),
            requests=recorder.columns(),
            runs=tuple(replica.engine.run_log for replica in self.replicas),
            rejected_answers=recorder.rejected_answers(),
            gaps=recorder.gaps(),
            preemptions=recorder.preemptions(),
            samples=recorder.samples(),
            busy_s=np.array([replica.engine.busy_s() for replica in self.replicas]),
            outages=np.empty((0, 3)) if self._faults is None else self._faults.outages(),
            end_s=self.clock.now_s,
            events=self.clock.events,
        )


def _patience_end(spec: RequestSpec) -> tuple[float, Status]:
    """When somebody gives the request up, and what becomes of it then."""
    deadline_s = math.inf if spec.deadline_s is None else spec.arrival_s + spec.deadline_s
    cancelled_s = math.inf if spec.cancel_after_s is None else spec.arrival_s + spec.cancel_after_s
    return (cancelled_s, Status.ABORTED) if cancelled_s < deadline_s else (deadline_s, Status.TIMED_OUT)


def simulate(spec: ClusterSpec, traffic: Traffic, run: RunSpec, progress: WatchRun | None = None) -> SimulationResult:
    """Simulate a cluster once.

    Parameters
    ----------
    spec : ClusterSpec
        The cluster.
    traffic : Traffic
        Requests; used up by the run.
    run : RunSpec
        Seed, mode and end of the run.
    progress : callable, optional
        Called at every sample with what can be seen of the simulation.

    Returns
    -------
    SimulationResult
        Columns of results.

    Raises
    ------
    InputError
        The traffic contains a request that the cluster cannot serve, or a policy's options are wrong.
    """
    return Cluster(spec, traffic, run, progress).simulate()
