"""The cluster on the clock: arrivals, routing, stages around the engines, deadlines, and the record of it all."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

import sim.balancers
import sim.model_routers
import sim.score_routers  # noqa: F401  (they register the built-in policies)
from latency_models.errors import invalid
from sim.clock import ARRIVAL, CONTROL, FOLLOW_UP, OBSERVER, Clock, Occurrence
from sim.cluster_spec import AdmissionLimit, ClusterSpec, RunSpec
from sim.engine import Engine
from sim.misfit import check_request, misfit
from sim.model_loads import ModelLoads
from sim.policies import (
    BALANCERS,
    MODEL_ROUTERS,
    BalancerContext,
    ModelRouter,
    RequestView,
    RouterContext,
    is_oracle,
)
from sim.prompts import Prompts, PromptSpec
from sim.random_streams import stream
from sim.recorder import Recorder
from sim.replica import Replica
from sim.request import DONE, Request
from sim.results import ReplicaInfo, SimulationResult, Status
from sim.workload import OpenTraffic, RequestSpec, Traffic


class Cluster:
    """One simulation of a cluster."""

    def __init__(
        self, spec: ClusterSpec, traffic: Traffic, run: RunSpec, progress: Callable[[float, int], None] | None
    ) -> None:
        self._progress = progress
        self.spec = spec
        self.run = run
        self.clock = Clock()
        self.recorder = Recorder()
        self._traffic = traffic
        self._follow_ups = None if isinstance(traffic, OpenTraffic) else traffic.follow_ups
        self._replicas: list[Replica] = []
        self._by_model: list[list[Replica]] = []
        for model_index, model in enumerate(spec.models):
            first = len(self._replicas)
            self._replicas += [
                Replica(self, replica, model, model_index, number, first + number)
                for number, replica in enumerate(model.replicas)
            ]
            self._by_model.append(self._replicas[first:])
        self._prompts = None if spec.prompts is None else _prompts(spec.prompts, run)
        self._router = _router(spec, run)
        self._balancers = [
            BALANCERS.get(model.balancer.kind)(
                BalancerContext(
                    replicas=len(model.replicas), rng=stream(run.seed, run.replication, f"balancer of {model.name}")
                ),
                model.balancer.options,
            )
            for model in spec.models
        ]
        self._loads = [
            ModelLoads(self.clock, [replica.engine for replica in replicas], model.staleness_s)
            for model, replicas in zip(spec.models, self._by_model, strict=True)
        ]
        self._in_system: dict[Request, tuple[Replica, int]] = {}
        self._arrivals = 0
        self._expected = 1
        """Arrivals that are on the clock: the next of the stream, and follow-ups."""
        self._sample_interval_s = run.sample_interval_s

    def simulate(self) -> SimulationResult:
        """Run until every request has ended, or until the run's end."""
        clock = self.clock
        self._stream = (spec for chunk in self._traffic.chunks() for spec in chunk.specs())
        self._expect_next()
        for change in self.spec.speed_changes:
            replica = self._by_model[change.model][change.replica]
            clock.at(change.at_s, CONTROL, self._on_speed_change, (replica, change.slowdown))
        clock.at(0.0, OBSERVER, self._on_sample)
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
                f"arrival of request {self._arrivals}",
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
        row = self._arrivals
        check_request(spec, row)
        self._arrivals = row + 1
        recorder = self.recorder
        recorder.name(row, spec.request_id, spec.session)
        now_s = self.clock.now_s
        loads = self._loads
        prompts = self._prompts
        prompt = spec.prompt
        scores = None
        if prompts is not None:
            prompt = prompts.draw() if prompt is None else prompts.check(prompt, row)
            scores = prompts.scores(prompt)
        view = RequestView(
            row, now_s, spec.prompt_tokens, spec.model, spec.request_class, spec.session, spec.priority, spec.content,
            prompt, scores,
        )  # fmt: skip
        model = self._router.route(view, loads).target
        if prompts is not None and prompt is not None:
            tokens = prompts.output_tokens(prompt, model)
            spec = spec._replace(prompt=prompt, output_tokens=spec.output_tokens if tokens is None else tokens)
        place = self._balancers[model].choose(view, loads[model]).target
        replica = self._by_model[model][place]
        settings = replica.settings
        name = row if spec.request_id is None else spec.request_id
        api_server = replica.api_server
        request = Request(row, spec, now_s if api_server is None else math.nan, settings.max_model_len, name)
        request.place = place
        load = loads[model]
        load.live_requests[place] += 1
        load.live_prompt_tokens[place] += spec.prompt_tokens
        self._in_system[request] = (replica, recorder.class_index(spec.request_class))
        if spec.prompt_tokens + spec.output_tokens > replica.safe_tokens:
            error = misfit(spec, settings, name)
            if error is not None and self.spec.oversized == "error":
                raise error
            if error is not None:
                self.leave(replica, request, now_s, Status.REJECTED)
                return
        if replica.admission is not None and _turned_away(replica.admission, replica.engine, spec):
            self.leave(replica, request, now_s, Status.REJECTED)
            return
        if spec.deadline_s is not None or spec.cancel_after_s is not None:
            self.clock.at(_patience_end(spec)[0], CONTROL, self._on_patience_end, request)
        if api_server is None:
            replica.engine.submit(request)
        else:
            self.clock.at(api_server.leave_time(now_s, spec.prompt_tokens), ARRIVAL, self._on_tokenised, request)

    def _on_tokenised(self, event: Occurrence) -> None:
        request: Request = event.payload
        if request.state != DONE:
            request.queued_s = self.clock.now_s
            self._in_system[request][0].engine.submit(request)

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
            self.leave(self._in_system[request][0], request, self.clock.now_s, Status.FINISHED)

    def _on_patience_end(self, event: Occurrence) -> None:
        request: Request = event.payload
        if request not in self._in_system:
            return
        replica = self._in_system[request][0]
        in_engine = not math.isnan(request.queued_s) and replica.engine.abort(request)
        if not in_engine:
            # Still before the engine, or already behind it.
            if request.state == DONE:
                request.outputs_delivered = request.max_outputs
            request.state = DONE
            self.leave(replica, request, self.clock.now_s, Status.ABORTED)

    def leave(self, replica: Replica, request: Request, finish_s: float, status: Status) -> None:
        """A request leaves the system."""
        _, request_class = self._in_system.pop(request)
        spec = request.spec
        if status == Status.FINISHED and not request.cancelled:
            request.outputs_delivered = request.max_outputs
        if status != Status.REJECTED and (spec.deadline_s is not None or spec.cancel_after_s is not None):
            # The engine lets go of a request only between two steps; for the client it was over before.
            patience_end_s, why = _patience_end(spec)
            if finish_s >= patience_end_s:
                finish_s, status = patience_end_s, why
        place = request.place
        load = self._loads[replica.model_index]
        load.live_requests[place] -= 1
        load.live_prompt_tokens[place] -= request.prompt_tokens
        self.recorder.end(request, replica.model_index, replica.index, request_class, finish_s, status)
        if self._follow_ups is not None and spec.request_id is not None:
            now_s = self.clock.now_s
            for follow_up in self._follow_ups(spec.request_id, finish_s):
                self._expected += 1
                at_once = follow_up.arrival_s <= now_s
                priority = FOLLOW_UP if at_once else ARRIVAL
                self.clock.at(now_s if at_once else follow_up.arrival_s, priority, self._on_follow_up, follow_up)
        self._stop_if_over()

    def _stop_if_over(self) -> None:
        if not self._expected and not self._in_system:
            self.clock.stop()

    # ------------------------------------------------------------------ observers and control

    def _on_speed_change(self, event: Occurrence) -> None:
        replica, slowdown = event.payload
        replica.engine.change_speed(slowdown * replica.spec.slowdown)

    def _on_sample(self, event: Occurrence) -> None:
        now_s = self.clock.now_s
        values: list[float] = []
        for replica in self._replicas:
            engine = replica.engine
            busy_s = engine.busy_s()
            share = (busy_s - replica.busy_at_sample_s) / self._sample_interval_s if now_s else 0.0
            replica.busy_at_sample_s = busy_s
            values += (
                now_s,
                replica.index,
                engine.running_requests(),
                engine.waiting_requests(),
                engine.used_blocks(),
                replica.total_blocks,
                share,
            )
        recorder = self.recorder
        recorder.sample(values)
        taken = recorder.samples_taken()
        if taken >= self.run.max_samples and taken % 2 == 1:
            recorder.thin_samples()
            self._sample_interval_s *= 2
        if self._progress is not None:
            self._progress(now_s, self._arrivals)
        self.clock.at(now_s + self._sample_interval_s, OBSERVER, self._on_sample)

    def _result(self) -> SimulationResult:
        recorder = self.recorder
        for request, (replica, request_class) in self._in_system.items():
            if request.state == DONE:
                request.outputs_delivered = request.max_outputs
            elif not request.cancelled:
                replica.engine.settle_outputs(request)
            recorder.end(request, replica.model_index, replica.index, request_class, math.nan, Status.UNFINISHED)
        for replica in self._replicas:
            replica.engine.close_log()
        return SimulationResult(
            models=tuple(model.name for model in self.spec.models),
            prompts=None if self._prompts is None else self._prompts.table,
            classes=recorder.classes(),
            replicas=tuple(
                ReplicaInfo(
                    name=replica.name,
                    model=replica.model_index,
                    gpus=replica.spec.gpus,
                    total_blocks=replica.total_blocks,
                )
                for replica in self._replicas
            ),
            requests=recorder.columns(),
            runs=tuple(replica.engine.run_log for replica in self._replicas),
            gaps=recorder.gaps(),
            samples=recorder.samples(),
            busy_s=np.array([replica.engine.busy_s() for replica in self._replicas]),
            end_s=self.clock.now_s,
            events=self.clock.events,
        )


def _router(spec: ClusterSpec, run: RunSpec) -> ModelRouter:
    """The model router; it sees outcomes only if it declares to be an oracle."""
    factory = MODEL_ROUTERS.get(spec.router.kind)
    table = None if spec.prompts is None else spec.prompts.table
    context = RouterContext(
        models=tuple(model.name for model in spec.models),
        rng=stream(run.seed, run.replication, "model router"),
        table=table if table is None or is_oracle(factory) else table.without_truth(),
    )
    return factory(context, spec.router.options)


def _prompts(spec: PromptSpec, run: RunSpec) -> Prompts:
    return Prompts(
        spec,
        draws=stream(run.seed, run.replication, "prompts"),
        errors=stream(run.seed, run.replication, "errors of predicted scores"),
        order=stream(run.seed, run.replication, "order of answer lengths"),
    )


def _turned_away(limit: AdmissionLimit, engine: Engine, spec: RequestSpec) -> bool:
    """Whether a replica's admission limit keeps the request out."""
    if limit.max_queue_requests is not None and engine.waiting_requests() >= limit.max_queue_requests:
        return True
    return (
        limit.max_queue_tokens is not None
        and engine.waiting_prompt_tokens() + spec.prompt_tokens > limit.max_queue_tokens
    )


def _patience_end(spec: RequestSpec) -> tuple[float, Status]:
    """When somebody gives the request up, and what becomes of it then."""
    deadline_s = math.inf if spec.deadline_s is None else spec.arrival_s + spec.deadline_s
    cancelled_s = math.inf if spec.cancel_after_s is None else spec.arrival_s + spec.cancel_after_s
    return (cancelled_s, Status.ABORTED) if cancelled_s < deadline_s else (deadline_s, Status.TIMED_OUT)


def simulate(
    spec: ClusterSpec, traffic: Traffic, run: RunSpec, progress: Callable[[float, int], None] | None = None
) -> SimulationResult:
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
        Called at every sample with the simulated seconds and the requests that have arrived.

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
