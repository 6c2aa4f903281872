"""Watches one engine and makes a :class:`~scenarios.stepping.step_view.StepView` of each of its steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from scenarios.stepping.reasons import why_refused
from scenarios.stepping.step_view import BatchEntry, LeftOut, Preemption, StepView, Waiting
from sim.request import Request
from sim.vllm.engine import Engine
from sim.vllm.scheduler_base import Scheduler
from sim.vllm.step import Step
from sim.vllm.step_contents import StepItem, step_items


class StepWatcher:
    """Observer of an engine in ``reference`` mode; what happens to requests it passes on to whom it was told before.

    A step is handed over when the next thing happens after it, so that who finished with it is known.

    Parameters
    ----------
    engine : Engine
        The engine; from now on it is watched.
    replica : str
        Its name.
    see : callable
        Gets every step when it is over.
    from_s : float
        Leave out steps that were scheduled before, seconds.
    """

    def __init__(self, engine: Engine, replica: str, see: Callable[[StepView], None], *, from_s: float = 0.0) -> None:
        self._engine = engine
        self._replica = replica
        self._see = see
        self._from_s = from_s
        self._outcomes = engine.outcomes
        self._scheduled = 0
        # Steps scheduled and not over yet; under asynchronous scheduling there may be two.
        self._open: dict[tuple[Step, int], StepView] = {}
        self._over: StepView | None = None
        self._preempted_s: dict[Request, float] = {}
        """When each request lost its blocks the last time."""
        self._finished: list[str] = []
        self._cancelled: list[str] = []
        engine.outcomes = self
        engine.observer = self

    def hand_over(self) -> None:
        """Show the step that is over, if there is one."""
        view, self._over = self._over, None
        if view is not None:
            finished, cancelled = tuple(self._finished), tuple(self._cancelled)
            self._see(replace(view, finished=finished, cancelled=cancelled))
        self._finished.clear()
        self._cancelled.clear()

    # ------------------------------------------------------------------ what the engine tells

    def on_schedule(self, step: Step, index: int, now_s: float) -> None:
        """Take down what was decided while the scheduler still knows it."""
        self.hand_over()
        self._preempted_s.update(dict.fromkeys(self._engine.scheduler.preempted, now_s))
        if now_s >= self._from_s:
            self._open[step, index] = self._view(step, index, now_s)
        self._scheduled += 1

    def on_empty_schedule(self, now_s: float) -> None:
        """Nothing ran."""
        self.hand_over()

    def on_complete(self, step: Step, index: int, start_s: float, end_s: float) -> None:
        """The step is over; its tokens are delivered next."""
        self.hand_over()
        view = self._open.pop((step, index), None)
        if view is not None:
            self._over = replace(view, start_s=start_s, end_s=end_s)

    def on_finish(self, request: Request, now_s: float) -> None:
        """Note it, and pass it on."""
        self._finished.append(str(request.name))
        self._outcomes.on_finish(request, now_s)

    def on_abort(self, request: Request, now_s: float) -> None:
        """Note it, and pass it on."""
        self._cancelled.append(str(request.name))
        self._outcomes.on_abort(request, now_s)

    def on_gap(self, request: Request, from_s: float, to_s: float) -> None:
        """Pass it on."""
        self._outcomes.on_gap(request, from_s, to_s)

    # ------------------------------------------------------------------ the state right after a decision

    def _view(self, step: Step, index: int, now_s: float) -> StepView:
        scheduler = self._engine.scheduler
        settings = scheduler.settings
        items = list(step_items(scheduler, step, index))
        batch = tuple(_entry(item, scheduler) for item in items)
        tokens = sum(entry.tokens for entry in batch)
        pool = scheduler.pool
        return StepView(
            replica=self._replica,
            number=self._scheduled,
            scheduled_s=now_s,
            start_s=now_s,
            end_s=now_s,
            token_budget=settings.max_num_batched_tokens,
            tokens=tokens,
            blocks_total=pool.total,
            blocks_used=pool.total - pool.free,
            seats=settings.seat_limit,
            running=len(scheduler.running),
            batch=batch,
            left_out=_left_out(scheduler, {item.request for item in items}, tokens),
            preempted=_preemptions(scheduler),
            waiting=_queue(scheduler, batch, now_s, self._preempted_s),
            finished=(),
            cancelled=(),
        )


def _entry(item: StepItem, scheduler: Scheduler) -> BatchEntry:
    request, tokens, before, kind = item
    entered = request in scheduler.admitted
    after = before + tokens
    return BatchEntry(
        request=str(request.name),
        kind="decode" if kind == "d" else "prefill",
        tokens=tokens,
        before=before,
        target=after if kind == "d" else request.target,
        cached_tokens=before if entered else 0,
        entered="" if not entered else "resumed" if request.preemptions else "admitted",
        output=0 if kind == "p" else after - request.prompt_tokens + 1,
        outputs=request.max_outputs,
    )


def _left_out(scheduler: Scheduler, computed: set[Request], tokens: int) -> tuple[LeftOut, ...]:
    """Running requests without a token, and why."""
    return tuple(
        LeftOut(request=str(request.name), why=_why_left_out(scheduler, request, tokens))
        for request in scheduler.running
        if request not in computed
    )


def _why_left_out(scheduler: Scheduler, request: Request, tokens: int) -> str:
    settings = scheduler.settings
    if scheduler.is_draining(request):
        return "its last token is being computed by the step before (asynchronous scheduling)"
    if settings.scheduler == "vllm-v0" and request.decoding and not scheduler.was_skipped(request):
        return "an older engine: nobody decodes in a step that computes prompts"
    if tokens >= settings.max_num_batched_tokens:
        return f"no token budget left: {tokens:,} of {settings.max_num_batched_tokens:,} by others before it"
    return "the scheduler stopped at the request before it, which preempted itself"


def _preemptions(scheduler: Scheduler) -> tuple[Preemption, ...]:
    found = []
    for victim, beneficiary in zip(scheduler.preempted, scheduler.preempted_for, strict=True):
        itself = beneficiary is victim
        why = (
            "no KV block was left for it, nor anybody after it to give one up"
            if itself
            else f"no KV block was left for request {beneficiary.name}"
        )
        found.append(
            Preemption(request=str(victim.name), beneficiary=str(beneficiary.name), why=why, lost_tokens=victim.target)
        )
    return tuple(found)


def _queue(
    scheduler: Scheduler, batch: tuple[BatchEntry, ...], now_s: float, preempted_s: Mapping[Request, float]
) -> tuple[Waiting, ...]:
    """Who waits, in order, and why."""
    refusal = scheduler.refusal
    queue = list(scheduler.waiting)
    if refusal is None or not queue:
        return ()
    settings = scheduler.settings
    if settings.scheduling_policy == "priority":
        queue.sort(key=lambda request: (request.priority, request.spec.arrival_s, str(request.name)))
    reasons: list[tuple[str, str]] = [(refusal.lack, why_refused(refusal, settings, batch))]
    reasons += [("queue", f"behind request {queue[0].name}, which nobody overtakes")] * (len(queue) - 1)
    return tuple(
        Waiting(
            request=str(request.name),
            tokens=request.target,
            waited_s=now_s - max(request.queued_s, preempted_s.get(request, 0.0)),
            preempted=request.preemptions > 0,
            lack=lack,
            why=why,
        )
        for request, (lack, why) in zip(queue, reasons, strict=True)
    )
