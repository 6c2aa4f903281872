"""vLLM's V1 scheduler: which requests compute how many tokens in the next step.

Rules and their order follow vLLM 0.32 (`v1/core/sched/scheduler.py`); recorded traces of it are the test.  What differs
is the bookkeeping: sequences in steady decode are counted (:class:`sim.decoding.DecodingBatch`), and only when the token
budget or the KV blocks run short is the running list gone through one by one, as vLLM does in every step.
"""

from __future__ import annotations

import math

from latency_models.step_time import StepTimeModel
from sim.block_counter import BlockCounter
from sim.decoding import DecodingBatch
from sim.prefix_cache import PrefixCache
from sim.request import DONE, PREEMPTED, RUNNING, WAITING, Request
from sim.settings import EngineSettings
from sim.step import Step
from sim.waiting import waiting_queue

Chunk = tuple[Request, int, int, bool]
"""A prefill chunk: request, tokens, tokens computed before, does it emit a token."""


class Scheduler:
    """Scheduler of one replica.

    Parameters
    ----------
    settings : EngineSettings
        The engine's settings.
    model : StepTimeModel
        Duration of steps on the GPU.
    shared_content : bool
        Whether requests may share prompt content; only then do KV blocks need identities.
    cpu_overhead_s : float
        CPU time of a step: added to it, or hidden behind it when scheduling is asynchronous.
    """

    def __init__(
        self, settings: EngineSettings, model: StepTimeModel, *, shared_content: bool, cpu_overhead_s: float = 0.0
    ) -> None:
        self.settings = settings
        self.model = model
        self.cpu_overhead_s = cpu_overhead_s
        self.lag = 1 if settings.async_scheduling else 0
        """Steps between a step's schedule and its start."""
        self._block_size = settings.block_size
        self._budget = settings.max_num_batched_tokens
        self._seats = settings.seat_limit
        caching = settings.enable_prefix_caching
        by_priority = settings.scheduling_policy == "priority"
        identities = caching and (shared_content or by_priority)
        self.pool: BlockCounter | PrefixCache = (
            PrefixCache(settings.usable_blocks, settings.block_size, self._registered_tokens)
            if identities
            else BlockCounter(settings.usable_blocks, settings.block_size, caching)
        )
        self._watermark_blocks = int(settings.watermark * settings.num_gpu_blocks)
        self.batch = DecodingBatch(settings.block_size, identities)
        self.waiting = waiting_queue(settings.scheduling_policy)
        self.running: dict[Request, None] = {}
        self._by_priority = by_priority
        self._prefilling: list[Request] = []
        self._draining: set[Request] = set()
        # Decoding requests that were passed over in the step before.
        self._skipped: set[Request] = set()
        self._admissions = 0
        self._last_step: Step | None = None
        self.settled = False
        """Nothing but a finish, the law's end or a shortage of blocks can make the next decision another one."""
        self.finished_unreported = False
        """vLLM's scheduler has news for the workers, so its loop turns once more."""
        self.preempted: list[Request] = []
        """Victims of the last decision."""
        self.admitted: list[Request] = []
        """Requests admitted by the last decision."""

    # ------------------------------------------------------------------ what the engine asks

    def add(self, request: Request) -> None:
        """Put a new request into the queue."""
        self.waiting.append(request)

    def has_work(self) -> bool:
        """Whether vLLM's loop would schedule."""
        return bool(self.running) or len(self.waiting) > 0 or self.finished_unreported

    def could_admit(self) -> bool:
        """Whether a request that just arrived may change the next decision of a settled scheduler."""
        return (
            (len(self.waiting) == 1 or self._by_priority)
            and len(self.running) < self._seats
            and self.batch.size < self._budget
        )

    def schedule(self, now_s: float) -> Step | None:
        """Decide the next step.

        Returns
        -------
        Step or None
            A new step, or the last one extended by one when nothing changed, or None if there is nothing to do.
        """
        batch = self.batch
        pool = self.pool
        self.finished_unreported = False
        if self.preempted:
            self.preempted = []
        if self.admitted:
            self.admitted = []
        if self.lag:
            self.retire_due()
        budget = self._budget
        threshold = self._prefill_threshold()
        chunks: list[Chunk] = []
        gap_closers: list[Request] | None = None
        if self._prefilling or self._skipped or batch.size > budget:
            counted = self._schedule_prefilling(budget, threshold, chunks)
        else:
            counted = batch.crossings[batch.steps % self._block_size] <= pool.free
            if counted and batch.size:
                pool.draw(batch, 1)
                batch.advance(1)
        if counted:
            decode_size = batch.size
            decode_context = batch.context
            budget -= decode_size
            for chunk in chunks:
                budget -= chunk[1]
                self._grow(chunk)
        else:
            budget, decode_size, decode_context, gap_closers = self._schedule_one_by_one(budget, threshold, chunks)
        self._finish_prefills(chunks)
        if len(self.waiting) and not self.preempted:
            self._admit(budget, threshold, now_s, chunks)
        step = self._last_step
        if not chunks:
            if not decode_size:
                return None
            self.settled = not self.preempted and not self._skipped and not self._head_may_unblock()
            if (
                step is not None
                and step.version == batch.version
                and step.scheduled < step.limit
                and gap_closers is None
            ):
                step.scheduled += 1
                return step
            step = self._decode_step(decode_size, decode_context)
            step.version = batch.version
            if gap_closers:
                # The gap ends with the first step, so that is a step of its own.
                step.gap_closers = gap_closers
                step.limit = 1
        else:
            self.settled = False
            step = self._mixed_step(decode_size, decode_context, chunks)
            step.gap_closers = gap_closers
        step.blocks_used = pool.total - pool.free
        self._last_step = step
        return step

    def extend(self, step: Step, steps: int) -> None:
        """Schedule ``steps`` more steps of a settled run at once."""
        self.pool.draw(self.batch, steps)
        self.batch.advance(steps)
        step.scheduled += steps

    def steps_ahead(self, step: Step) -> int:
        """For how many more steps a settled run will go on unchanged, if nothing happens outside."""
        batch = self.batch
        limit = min(batch.next_due() - batch.steps, step.limit - step.scheduled)
        return batch.steps_that_fit(self.pool.free, limit) if limit > 0 else 0

    def was_skipped(self, request: Request) -> bool:
        """Whether a decoding request was passed over by the last decision."""
        return request in self._skipped

    def retire_due(self) -> None:
        """Take the sequences that have got all their steps out of the batch; they end with the last step scheduled."""
        batch = self.batch
        if batch.size and batch.next_due() <= batch.steps:
            done = batch.take_due()
            step = self._last_step
            assert step is not None
            step.finishing.extend(done)
            if self.lag:
                self._draining.update(done)

    def finish(self, request: Request) -> None:
        """A request has got its last token: free what it held."""
        if request.state == PREEMPTED:
            # Preempted while its last token was on the way (asynchronous scheduling).
            self.waiting.remove(request)
        else:
            self._let_go(request, request.computed, returns=False)
        self._draining.discard(request)
        request.state = DONE
        self.finished_unreported = True

    def abort(self, request: Request) -> None:
        """Remove an unfinished request wherever it is."""
        if request.state == RUNNING:
            if request.decoding:
                self.batch.leave(request)
            self._let_go(request, self._registered_tokens(request), returns=False)
            self._draining.discard(request)
            self._skipped.discard(request)
            if request in self._prefilling:
                self._prefilling.remove(request)
        else:
            self.waiting.remove(request)
        request.state = DONE
        self.finished_unreported = True

    # ------------------------------------------------------------------ running requests

    def _schedule_prefilling(self, budget: int, threshold: int, chunks: list[Chunk]) -> bool:
        """Schedule prefills beside the batch without touching the batch, if tokens and blocks suffice for all decodes.

        Returns False, with nothing changed, if the running list has to be gone through one by one.
        """
        batch = self.batch
        if self._skipped or batch.size > budget:
            return False
        left = budget - batch.size
        behind = not batch.size or self._prefilling[0].order > batch.last_order
        blocks = batch.crossings[batch.steps % self._block_size]
        if blocks and not behind and self.pool.tracks_identity:
            return False
        for request in self._prefilling:
            tokens = request.target - request.computed
            if 0 < threshold < tokens:
                tokens = threshold
            if tokens > left:
                if not behind:
                    chunks.clear()
                    return False
                tokens = left
            if not tokens:
                break
            left -= tokens
            after = request.computed + tokens
            blocks += -(-after // self._block_size) - request.held
            chunks.append((request, tokens, request.computed, after == request.target))
        if blocks > self.pool.free:
            chunks.clear()
            return False
        if batch.size:
            self.pool.draw(batch, 1)
            batch.advance(1)
        return True

    def _schedule_one_by_one(
        self, budget: int, threshold: int, chunks: list[Chunk]
    ) -> tuple[int, int, int, list[Request] | None]:
        """Go through the running list in order, preempting when blocks run out.

        Returns the budget left, the decodes scheduled and their context, and those of them that had been skipped.
        """
        batch = self.batch
        pool = self.pool
        block_size = self._block_size
        running = list(self.running)
        scheduled: dict[Request, int] = {}
        index = 0
        while index < len(running) and budget > 0:
            request = running[index]
            index += 1
            if request in self._draining:
                continue
            if request.decoding:
                computed = request.base + batch.steps
                tokens = 1
                held = -(-computed // block_size)
            else:
                computed = request.computed
                tokens = request.target - computed
                held = request.held
            if 0 < threshold < tokens:
                tokens = threshold
            tokens = min(tokens, budget)
            needed = -(-(computed + tokens) // block_size) - held
            while needed > pool.free:
                if self._by_priority:
                    victim = max(running, key=lambda other: (other.priority, other.spec.arrival_s))
                    place = running.index(victim)
                    del running[place]
                    if place < index - 1:
                        index -= 1
                    budget += scheduled.get(victim, 0)
                else:
                    victim = running.pop()
                self._preempt(victim, scheduled.pop(victim, 0))
                if victim is request:
                    break
            if request.state != RUNNING:
                break
            if needed:
                pool.take(request, needed)
            scheduled[request] = tokens
            budget -= tokens
        return budget, *self._close_scan(running, scheduled, chunks)

    def _close_scan(
        self, running: list[Request], scheduled: dict[Request, int], chunks: list[Chunk]
    ) -> tuple[int, int, list[Request] | None]:
        """Turn what the scan decided into chunks and one step of the batch, leaving out those it did not reach."""
        batch = self.batch
        passed_over: list[tuple[Request, int]] = []
        gap_closers: list[Request] = []
        for request in running:
            if not request.decoding:
                tokens = scheduled.get(request)
                if tokens:
                    before = request.computed
                    chunks.append((request, tokens, before, before + tokens == request.target))
                    request.computed = before + tokens
                    request.held = -(-request.computed // self._block_size)
                    self.pool.register(request, request.computed)
            elif request not in scheduled:
                passed_over.append((request, request.finish_at - batch.steps))
                if request.gap_after is None:
                    request.gap_after = self._last_step
                batch.leave(request)
            elif request.gap_after is not None:
                gap_closers.append(request)
        batch.advance(1)
        size, context = batch.size, batch.context
        self._skipped = {request for request, _ in passed_over}
        for request, remaining in passed_over:
            batch.join(request, request.computed, remaining)
        return size, context, gap_closers or None

    def _grow(self, chunk: Chunk) -> None:
        """Give a running prefill the blocks of its next chunk."""
        request, tokens, before, _ = chunk
        request.computed = after = before + tokens
        held = -(-after // self._block_size)
        if held > request.held:
            self.pool.take(request, held - request.held)
            request.held = held
        self.pool.register(request, after)

    def _finish_prefills(self, chunks: list[Chunk]) -> None:
        """Prefills that end in this step leave the list of prefills and decode from the next step on."""
        for request, _, _, emits in chunks:
            if emits:
                self._prefilling.remove(request)
                self._start_decoding(request)

    def _start_decoding(self, request: Request) -> None:
        remaining = request.max_outputs - request.outputs_scheduled
        if remaining:
            self.batch.join(request, request.computed, remaining)

    def _preempt(self, victim: Request, tokens_scheduled: int) -> None:
        """Take everything from a running request and put it back into the queue.

        ``tokens_scheduled`` is what it had been given in this very decision, which is undone.
        """
        registered = self._registered_tokens(victim) + tokens_scheduled
        if victim.decoding:
            self.batch.leave(victim)
        elif victim in self._prefilling:
            self._prefilling.remove(victim)
        victim.held = -(-(victim.computed + tokens_scheduled) // self._block_size)
        self._skipped.discard(victim)
        self._draining.discard(victim)
        if victim.computed >= victim.target:
            # Past its prefill; a token still on the way counts, since it arrives before the victim can resume.
            victim.target = victim.computed + 1
            if victim.gap_after is None:
                victim.gap_after = self._last_step
        self._let_go(victim, registered, returns=True)
        victim.state = PREEMPTED
        victim.preemptions += 1
        victim.computed = 0
        self.waiting.appendleft(victim)
        self.preempted.append(victim)

    def _registered_tokens(self, request: Request) -> int:
        """Tokens of a running request whose full blocks have been hashed.

        All computed ones; but under asynchronous scheduling an output on the way is not known yet.
        """
        computed = request.base + self.batch.steps if request.decoding else request.computed
        if self.lag and computed >= request.target and request not in self._skipped:
            return max(request.target, computed - 1)
        return computed

    def _let_go(self, request: Request, registered_tokens: int, *, returns: bool) -> None:
        self.pool.release(request, registered_tokens, returns)
        del self.running[request]

    # ------------------------------------------------------------------ waiting requests

    def _admit(self, budget: int, threshold: int, now_s: float, chunks: list[Chunk]) -> None:
        """Admit waiting requests in order until one does not fit."""
        settings = self.settings
        waiting = self.waiting
        running = self.running
        pool = self.pool
        block_size = self._block_size
        caching = settings.enable_prefix_caching
        while budget > 0 and len(waiting) and len(running) < self._seats:
            request = waiting[0]
            hits, unheld = pool.look_up(request) if caching else (0, 0)
            before = hits * block_size
            tokens = request.target - before
            if 0 < threshold < tokens:
                tokens = threshold
            if tokens > budget:
                if not settings.enable_chunked_prefill:
                    return
                tokens = budget
            after = before + tokens
            free = pool.free - unheld - (self._watermark_blocks if running else 0)
            if settings.scheduler_reserve_full_isl and -(-request.target // block_size) - hits > free:
                return
            blocks = -(-after // block_size) - hits
            if blocks > free:
                return
            waiting.popleft()
            running[request] = None
            if hits:
                pool.adopt(request, hits)
            pool.take(request, blocks)
            budget -= tokens
            request.order = self._admissions
            self._admissions += 1
            request.computed = after
            request.held = hits + blocks
            pool.register(request, after)
            if request.state == WAITING:
                request.first_scheduled_s = now_s
                request.cached_tokens = before
            else:
                request.cached_on_resume += before
            request.state = RUNNING
            self.admitted.append(request)
            emits = after == request.target
            chunks.append((request, tokens, before, emits))
            if emits:
                self._start_decoding(request)
            else:
                self._prefilling.append(request)

    def _prefill_threshold(self) -> int:
        """Most tokens of one prefill chunk in this step; 0 is no limit."""
        threshold = self.settings.long_prefill_token_threshold
        if not threshold:
            return 0
        requests = len(self.running) + len(self.waiting)
        if requests <= 1:
            return 0
        if self.settings.long_prefill_token_threshold_adaptive:
            return max(threshold, self._budget // requests)
        return threshold

    def _head_may_unblock(self) -> bool:
        """Whether a head of the queue that does not fit now might fit in a later step of an unchanged run.

        Free blocks only shrink during a run, so it cannot, with two exceptions: a running request may register output
        blocks that are in the head's prompt; and without the full-sequence check, losing cached blocks to eviction can
        make the head's next chunk smaller.
        """
        if not len(self.waiting) or not self.settings.enable_prefix_caching:
            return False
        if not self.settings.scheduler_reserve_full_isl:
            return True
        content = self.waiting[0].content
        return content is not None and any(name.startswith("out:") for name, _ in content)

    # ------------------------------------------------------------------ steps

    def _decode_step(self, size: int, context: int) -> Step:
        first_s, growth_s, limit = self.model.decode_run(size, context)
        overhead_s = self.cpu_overhead_s
        if overhead_s and not self.lag:
            first_s += overhead_s
        elif first_s < overhead_s:
            # Asynchronous scheduling hides the CPU behind the GPU; here the GPU is the faster one.
            if growth_s > 0:
                limit = min(limit, math.ceil((overhead_s - first_s) / growth_s))
            first_s, growth_s = overhead_s, 0.0
        return Step(size, context, first_s, growth_s, limit)

    def _mixed_step(self, decode_size: int, decode_context: int, chunks: list[Chunk]) -> Step:
        new_tokens = prefill_context = ending = 0
        work = 0.0
        for _, tokens, before, emits in chunks:
            new_tokens += tokens
            prefill_context += before + tokens
            work += tokens * (before + tokens / 2)
            ending += emits
        tokens = decode_size + new_tokens
        duration_s = self.model.step_s(
            tokens, len(chunks), prefill_context, work, decode_size, decode_context, decode_size + ending
        )
        if self.lag:
            duration_s = max(duration_s, self.cpu_overhead_s)
        else:
            duration_s += self.cpu_overhead_s
        step = Step(decode_size, decode_context, duration_s, 0.0, 1)
        step.prefills = chunks
        step.sequences = decode_size + len(chunks)
        step.tokens = tokens
        for request, _, _, emits in chunks:
            if emits and not request.decoding:
                step.finishing.append(request)
                if self.lag:
                    self._draining.add(request)
        return step
