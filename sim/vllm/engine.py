"""One vLLM replica on the clock: the loop that schedules, runs steps and delivers tokens.

The loop is vLLM's (`v1/engine/core.py`): synchronous, or asynchronous with two steps in flight.  In ``macro`` mode one
event covers a run of decode steps; in ``reference`` mode every step has its own.  Scheduler and closed form are shared.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from operator import attrgetter
from typing import Literal

from simpy.events import EventPriority

from sim.clock import REPLICA, Clock, Occurrence
from sim.request import DONE, PREEMPTED, RUNNING, Request
from sim.vllm.observers import Outcomes, StepObserver
from sim.vllm.run_log import RunLog
from sim.vllm.scheduler_base import Scheduler
from sim.vllm.step import Step

EngineMode = Literal["macro", "reference"]

_order = attrgetter("order")


class Engine:
    """One replica.

    Parameters
    ----------
    clock : Clock
        The simulation's clock.
    scheduler : Scheduler
        Its scheduler.
    outcomes : Outcomes
        Told about first and last tokens.
    index : int
        Number of the replica; orders simultaneous events.
    mode : {"macro", "reference"}
        One event per run, or per step.
    idle_sleep_s : float
        How long vLLM's loop sleeps when it executed nothing although it has requests.
    observer : StepObserver, optional
        Sees every step.
    """

    def __init__(
        self,
        clock: Clock,
        scheduler: Scheduler,
        outcomes: Outcomes,
        *,
        index: int = 0,
        mode: EngineMode = "macro",
        idle_sleep_s: float = 0.001,
        observer: StepObserver | None = None,
    ) -> None:
        self.clock = clock
        self.scheduler = scheduler
        self.outcomes = outcomes
        self.run_log = RunLog()
        self.slowdown = 1.0
        self.on_first_token: Callable[[Request], None] | None = None
        """Told when a request gets its first token, if anybody wants to know."""
        self._batch = scheduler.batch
        self._macro = mode == "macro"
        self.observer = observer
        self._idle_sleep_s = idle_sleep_s
        self._priority = EventPriority(REPLICA + index)
        # Steps scheduled and not yet over, the one on the GPU first; None stands for vLLM's empty batches.
        self._queue: deque[Step | None] = deque()
        self._current: Step | None = None
        """What the GPU runs or ran last."""
        self._completed = 0
        """Steps of it that are over."""
        self._planned = 0
        """Further steps of the front run that the pending event skips."""
        self._front_end_s = 0.0
        """End of the step that the pending event waits for."""
        self._executed = False
        # Requests that arrived since the loop last turned: vLLM's scheduler does not know them yet.
        self._fresh: set[Request] = set()
        self._event: Occurrence | None = None
        self._aborted: list[Request] = []

    # ------------------------------------------------------------------ from outside

    def submit(self, request: Request) -> None:
        """A request reaches the scheduler now."""
        scheduler = self.scheduler
        if self._planned and self.observer is not None:
            self._show_steps_until_now(self.observer)
        scheduler.add(request)
        self._fresh.add(request)
        if self._event is None:
            self._wake(self.clock.now_s)
        elif self._planned and (scheduler.could_admit() or self.observer is not None):
            self._cut_run()

    def abort(self, request: Request) -> bool:
        """Cancel a submitted request; as in vLLM this takes effect between two steps.

        Returns False if it has already got its last token.
        """
        if request.state == DONE:
            return False
        self.settle_outputs(request)
        request.cancelled = True
        if self._planned:
            self._cut_run()
        self._aborted.append(request)
        return True

    def change_speed(self, slowdown: float) -> None:
        """From now on everything here takes ``slowdown`` times as long, the step in flight included."""
        now_s = self.clock.now_s
        self.slowdown = slowdown
        front = self._queue[0] if self._queue else None
        if front is None:
            return
        begun = self._steps_begun()
        if begun:
            # Their ends are past: rounding must not move them back into this instant.
            self.scheduler.extend(front, begun)
            self._completed += begun
            self._planned -= begun
        self.run_log.split(front, self._completed)
        front.change_speed(now_s, slowdown, self._completed)
        self._await_front(self._planned)

    def crash(self, scheduler: Scheduler) -> None:
        """Lose everything now: the step in flight, all requests and what is cached; ``scheduler`` knows none of it."""
        current = self._current
        if current is not None and self._queue and self._queue[0] is not None:
            self.run_log.lose(current, self._completed + self._steps_begun(), self.clock.now_s)
        elif current is not None:
            self.run_log.finish(current, self._completed)
        if self._event is not None:
            self._event.cancel()
        self._event = self._current = None
        self._queue.clear()
        self._fresh.clear()
        self._aborted.clear()
        self._completed = self._planned = 0
        self.scheduler = scheduler
        self._batch = scheduler.batch

    # ------------------------------------------------------------------ live state, without touching it

    def waiting_requests(self) -> int:
        """Requests in the queue."""
        return len(self.scheduler.waiting)

    def running_requests(self) -> int:
        """Requests admitted and unfinished."""
        return len(self.scheduler.running)

    def used_blocks(self) -> int:
        """KV blocks in use at this instant."""
        pool = self.scheduler.pool
        used = pool.total - pool.free
        if self._planned:
            used += self._batch.blocks_needed(self._steps_begun())
        return used

    def busy_s(self) -> float:
        """Seconds that the GPU has computed until now."""
        current = self._current
        if current is None:
            return self.run_log.busy_s
        executing = self._queue and self._queue[0] is not None
        until_s = min(self.clock.now_s, self._front_end_s) if executing else current.end_s
        return self.run_log.busy_s + until_s - self.run_log.open_from_s(current)

    def settle_outputs(self, request: Request) -> None:
        """Set which output tokens an unfinished request has got by now, and when the last one came."""
        outputs = request.target - request.prompt_tokens
        if request.gap_after is not None:
            request.last_token_s = request.gap_after.end_s
        elif request.first_token_s == request.first_token_s and self._current is not None:
            ended = self._completed + self._steps_begun()
            log_is_ahead = ended <= self._current.logged
            request.last_token_s = (
                self.run_log.open_from_s(self._current) if log_is_ahead else self._current.end_of(ended)
            )
        if request.decoding:
            in_flight = sum(step is not None for step in self._queue)
            scheduled = request.base + self._batch.steps + self._steps_begun() + 1 - request.prompt_tokens
            outputs = max(outputs, scheduled - in_flight)
        elif request.state == RUNNING and request.computed >= request.target:
            outputs = request.max_outputs - 1
        request.outputs_delivered = outputs

    def close_log(self) -> None:
        """Write what is known of the current run to the step log, at the end of the simulation."""
        current = self._current
        if current is not None:
            ended = self._completed + self._steps_begun()
            self.run_log.close(current, ended)

    def _steps_begun(self) -> int:
        """How many of the planned steps have begun."""
        if not self._planned:
            return 0
        front = self._queue[0]
        assert front is not None
        now_s = self.clock.now_s
        lowest = self._completed + 1
        ended = front.first_end_from(now_s, lowest, lowest + self._planned)
        end_s = front.end_of(ended)
        over = end_s < now_s or (end_s == now_s and self._had_its_turn())
        return min(ended - lowest + over, self._planned)

    def _had_its_turn(self) -> bool:
        """Whether this replica's events of the present instant are over."""
        return self.clock.priority > self._priority

    # ------------------------------------------------------------------ the loop

    def _wake(self, time_s: float) -> None:
        self._event = self.clock.at(time_s, self._priority, self._on_wake)

    def _on_wake(self, event: Occurrence) -> None:
        self._event = None
        self._iterate(self.clock.now_s)

    def _iterate(self, now_s: float) -> None:
        """Go on with vLLM's loop until it has to wait for the GPU, for its sleep to end, or for a request."""
        scheduler = self.scheduler
        queue = self._queue
        depth = 1 + scheduler.lag
        self._fresh.clear()
        while True:
            if self._aborted:
                self._carry_out_aborts(now_s)
            executed = False
            if scheduler.has_work():
                step = scheduler.schedule(now_s)
                executed = step is not None
                if step is not None or depth > 1:
                    queue.append(step)
                if step is None:
                    if self.observer is not None:
                        self.observer.on_empty_schedule(now_s)
                else:
                    if self.observer is not None:
                        self.observer.on_schedule(step, step.scheduled - 1, now_s)
                    if step.scheduled == 1 and (len(queue) == 1 or queue[0] is None):
                        self._start(step, now_s)
                if len(queue) < depth and (executed or scheduler.has_work()):
                    if executed:
                        continue
                    self._wake(now_s + self._idle_sleep_s)
                    return
            if not queue:
                return
            front = queue[0]
            if front is not None:
                self._executed = executed
                self._await_front(self._plan(front))
                return
            queue.popleft()
            if not executed and scheduler.has_work():
                self._wake(now_s + self._idle_sleep_s)
                return

    def _plan(self, front: Step) -> int:
        """How many further steps of the run need no decision."""
        if not self._macro or not self.scheduler.settled or front.version < 0 or self._queue[-1] is not front:
            return 0
        return self.scheduler.steps_ahead(front)

    def _await_front(self, planned: int) -> None:
        front = self._queue[0]
        assert front is not None
        if self._event is not None:
            self._event.cancel()
        self._planned = planned
        self._front_end_s = end_s = front.end_of(self._completed + planned + 1)
        clock = self.clock
        due_s = end_s if end_s > clock.now_s else clock.now_s
        self._event = clock.at(due_s, self._priority, self._on_step_end)

    def _cut_run(self) -> None:
        """Decide anew at the first end of a step from now on."""
        front = self._queue[0]
        assert front is not None
        lowest = self._completed + 1
        steps = front.first_end_from(self.clock.now_s, lowest, lowest + self._planned)
        if self._had_its_turn() and front.end_of(steps) == self.clock.now_s:
            steps += 1
        if steps < lowest + self._planned:
            self._await_front(steps - lowest)

    def _start(self, step: Step, now_s: float) -> None:
        if self._current is not None:
            self.run_log.finish(self._current, self._completed)
        self._current = step
        self._completed = 0
        step.start(now_s, self.slowdown)

    def _on_step_end(self, event: Occurrence) -> None:
        self._event = None
        queue = self._queue
        front = queue.popleft()
        assert front is not None
        scheduler = self.scheduler
        planned = self._planned
        if planned:
            self._planned = 0
            if self.observer is None:
                scheduler.extend(front, planned)
                self._completed += planned
            else:
                self._extend_step_by_step(front, planned, self.observer)
        self._completed = completed = self._completed + 1
        front.end_s = end_s = self._front_end_s
        if self.observer is not None:
            self.observer.on_complete(front, completed - 1, front.end_of(completed - 1), end_s)
        if not scheduler.lag:
            scheduler.retire_due()
        now_s = self.clock.now_s
        if self._aborted:
            # vLLM aborts before it delivers a step's tokens.
            self._carry_out_aborts(now_s)
        if (front.prefills is not None or front.finishing or front.gap_closers is not None) and (
            completed == front.scheduled
        ):
            self._deliver(front, now_s)
        if queue and (following := queue[0]) is not None and following is not front:
            self._start(following, end_s)
        if self._executed or not self._knows_work():
            self._iterate(now_s)
        else:
            self._wake(now_s + self._idle_sleep_s)

    def _knows_work(self) -> bool:
        """Whether vLLM's loop has work, requests aside that arrived since it last turned."""
        scheduler = self.scheduler
        return bool(scheduler.running) or scheduler.finished_unreported or len(scheduler.waiting) > len(self._fresh)

    def _extend_step_by_step(self, front: Step, planned: int, observer: StepObserver) -> None:
        for _ in range(planned):
            index = self._completed
            end_s = front.end_of(index + 1)
            observer.on_complete(front, index, front.end_of(index), end_s)
            self._completed = index + 1
            self.scheduler.extend(front, 1)
            observer.on_schedule(front, front.scheduled - 1, end_s)

    def _show_steps_until_now(self, observer: StepObserver) -> None:
        """Let the observer see the state before the present arrival changes it; the run itself goes on."""
        front = self._queue[0]
        assert front is not None
        lowest = self._completed + 1
        ended = front.first_end_from(self.clock.now_s, lowest, lowest + self._planned) - lowest
        self._planned -= ended
        self._extend_step_by_step(front, ended, observer)

    def _deliver(self, step: Step, now_s: float) -> None:
        """First tokens, ends of gaps and finished requests of a step that is over."""
        for request, _, _, emits in step.prefills or ():
            if not emits or request.state == DONE or request.cancelled:
                continue
            if request.first_token_s != request.first_token_s:
                request.first_token_s = now_s
                if self.on_first_token is not None:
                    self.on_first_token(request)
            else:
                self._close_gap(request, step, now_s)
        for request in step.gap_closers or ():
            self._close_gap(request, step, now_s)
        finishing = step.finishing
        if len(finishing) > 1:
            finishing.sort(key=_order)
        for request in finishing:
            if request.state != DONE:
                if not request.cancelled:
                    request.last_token_s = now_s
                self.scheduler.finish(request)
                self.outcomes.on_finish(request, now_s)

    def _close_gap(self, request: Request, step: Step, now_s: float) -> None:
        before = request.gap_after
        if before is not None and before is not step and request.state != DONE:
            self.outcomes.on_gap(request, before.end_s, now_s)
            # Asynchronous scheduling may have taken it off again while this token was on the way.
            off = request.state == PREEMPTED or self.scheduler.was_skipped(request)
            request.gap_after = step if off else None

    def _carry_out_aborts(self, now_s: float) -> None:
        aborted, self._aborted = self._aborted, []
        for request in aborted:
            if request in self._fresh:
                self._aborted.append(request)
            elif request.state != DONE:
                self.scheduler.abort(request)
                self.outcomes.on_abort(request, now_s)
