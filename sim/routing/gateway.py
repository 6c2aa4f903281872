"""In front of the replicas: what each request asks, which model and replica it goes to, and what routers are told.

Routers see what a real gateway can see, and only when it can: predicted scores, loads as old as the scenario says, when
tokens come back, and an answer once it is there.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import sim.routing.adaptive_routers
import sim.routing.balancers
import sim.routing.cascade
import sim.routing.model_routers
import sim.routing.score_routers  # noqa: F401  (they register the built-in policies)
from sim.clock import Clock
from sim.cluster_spec import ClusterSpec, RunSpec
from sim.prompt_table import PromptTable
from sim.prompts import Prompts, PromptSpec
from sim.random_streams import stream
from sim.replica import Replica
from sim.request import Request
from sim.results import Status
from sim.routing.answer_scorer import AnswerScorer
from sim.routing.model_loads import ModelLoads
from sim.routing.policies import (
    BALANCERS,
    MODEL_ROUTERS,
    Answer,
    BalancerContext,
    Feedback,
    HearsEnds,
    HearsFirstTokens,
    ModelRouter,
    RequestView,
    ReviewsAnswers,
    RouterContext,
    is_oracle,
)
from sim.stage import Stage
from sim.workload import RequestSpec


class Gateway:
    """Routing of one simulation.

    Parameters
    ----------
    spec : ClusterSpec
        The cluster.
    run : RunSpec
        Seed and replication.
    clock : Clock
        The simulation's clock.
    by_model : sequence of sequences of Replica
        The replicas of each model.
    """

    def __init__(self, spec: ClusterSpec, run: RunSpec, clock: Clock, by_model: Sequence[Sequence[Replica]]) -> None:
        self._clock = clock
        self._prompts = None if spec.prompts is None else _prompts(spec.prompts, run)
        self.stage = None if spec.router_stage.is_free else Stage(spec.router_stage)
        """What the router itself takes, if anything."""
        self.loads = [
            ModelLoads(clock, [replica.engine for replica in replicas], model.staleness_s)
            for model, replicas in zip(spec.models, by_model, strict=True)
        ]
        self._seen_by_router = [loads.seen_with(spec.router_staleness_s) for loads in self.loads]
        self.balancers = [
            BALANCERS.get(model.balancer.kind)(
                BalancerContext(
                    replicas=len(model.replicas), rng=stream(run.seed, run.replication, f"balancer of {model.name}")
                ),
                model.balancer.options,
            )
            for model in spec.models
        ]
        self._router = router = _router(spec, run)
        self._hears_first_tokens = router if isinstance(router, HearsFirstTokens) else None
        self._hears_ends = router if isinstance(router, HearsEnds) else None
        self._reviewer = router if isinstance(router, ReviewsAnswers) else None
        self._scorer = None
        if self._reviewer is not None:
            draws = stream(run.seed, run.replication, "scorer of answers")
            self._scorer = AnswerScorer(self.table, self._reviewer.informed, draws)
        if self._hears_first_tokens is not None:
            for replicas in by_model:
                for replica in replicas:
                    replica.engine.on_first_token = partial(self._on_first_token, replica.model_index)

    @property
    def table(self) -> PromptTable | None:
        """Scores of the prompts, if requests have prompts."""
        return None if self._prompts is None else self._prompts.table

    def look(self, row: int, spec: RequestSpec) -> RequestView:
        """A request that arrives now, as policies see it; its prompt is drawn here."""
        prompts = self._prompts
        prompt = spec.prompt
        scores = None
        if prompts is not None:
            prompt = prompts.draw() if prompt is None else prompts.check(prompt, row)
            scores = prompts.scores(prompt)
        return RequestView(
            row, self._clock.now_s, spec.prompt_tokens, spec.model, spec.request_class, spec.session, spec.priority,
            spec.content, prompt, scores,
        )  # fmt: skip

    def model_for(self, view: RequestView) -> int:
        """The model that the router chooses."""
        return self._router.route(view, self._seen_by_router).target

    def asked_of(self, spec: RequestSpec, view: RequestView, model: int) -> RequestSpec:
        """The request as this model gets it: its answer has a length of its own."""
        if self._prompts is None or view.prompt is None:
            return spec
        tokens = self._prompts.output_tokens(view.prompt, model)
        return spec._replace(prompt=view.prompt, output_tokens=spec.output_tokens if tokens is None else tokens)

    # ------------------------------------------------------------------ what comes back

    def enter(self, request: Request, model: int, place: int) -> None:
        """A request is sent to a replica."""
        request.place = place
        request.sent_s = self._clock.now_s
        load = self.loads[model]
        load.live_requests[place] += 1
        load.live_prompt_tokens[place] += request.prompt_tokens

    def leave(self, request: Request, model: int, status: Status) -> None:
        """It is no longer there."""
        load = self.loads[model]
        load.live_requests[request.place] -= 1
        load.live_prompt_tokens[request.place] -= request.prompt_tokens
        if self._hears_ends is not None:
            self._hears_ends.on_end(self._feedback(request, model, request.outputs_delivered, status))

    def next_model(self, request: Request, model: int) -> int | None:
        """The model that is asked next if the answer of ``model`` is not good enough; ``None``: it is."""
        if self._reviewer is None or self._scorer is None:
            return None
        view = request.view
        assert view is not None
        answer = Answer(model, request.stage, request.outputs_delivered, self._scorer.score(view, model))
        decision = self._reviewer.review(view._replace(now_s=self._clock.now_s), answer, self._seen_by_router)
        return None if decision is None else decision.target

    def _on_first_token(self, model: int, request: Request) -> None:
        assert self._hears_first_tokens is not None
        self._hears_first_tokens.on_first_token(self._feedback(request, model, 1, None))

    def _feedback(self, request: Request, model: int, output_tokens: int, status: Status | None) -> Feedback:
        return Feedback(
            request.row, model, request.place, self._clock.now_s, request.sent_s, request.prompt_tokens, output_tokens,
            status,
        )  # fmt: skip


def check_router(spec: ClusterSpec) -> None:
    """Raise :class:`InputError` if the cluster's model router does not exist or its options are wrong."""
    _router(spec, RunSpec())


def _router(spec: ClusterSpec, run: RunSpec) -> ModelRouter:
    """The model router; it sees outcomes only if it declares to be an oracle."""
    factory = MODEL_ROUTERS.get(spec.router.kind)
    table = None if spec.prompts is None else spec.prompts.table
    context = RouterContext(
        models=tuple(model.name for model in spec.models),
        rng=stream(run.seed, run.replication, "model router"),
        table=table if table is None or is_oracle(factory) else table.without_truth(),
        ttft_limit_s=spec.ttft_limit_s,
    )
    return factory(context, spec.router.options)


def _prompts(spec: PromptSpec, run: RunSpec) -> Prompts:
    return Prompts(
        spec,
        draws=stream(run.seed, run.replication, "prompts"),
        errors=stream(run.seed, run.replication, "errors of predicted scores"),
        order=stream(run.seed, run.replication, "order of answer lengths"),
    )
