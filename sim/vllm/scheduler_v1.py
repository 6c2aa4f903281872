"""vLLM's V1 scheduler: which requests compute how many tokens in the next step.

Rules and their order follow vLLM 0.32 (`v1/core/sched/scheduler.py`); recorded traces of it are the test.  What differs
is the bookkeeping: only when the token budget or the KV blocks run short is the running list gone through one by one,
as vLLM does in every step.
"""

from __future__ import annotations

from sim.request import RUNNING, Request
from sim.vllm.scheduler_base import Chunk, Refusal, Scheduler
from sim.vllm.step import Step

_NO_BUDGET = Refusal("token budget")
_NO_SEAT = Refusal("seat")


class SchedulerV1(Scheduler):
    """One token budget for prefill and decode; chunked prefill; nobody overtakes the head of the queue."""

    def could_admit(self) -> bool:
        """Whether a request that just arrived may change the next decision of a settled scheduler."""
        return (
            (len(self.waiting) == 1 or self._by_priority)
            and len(self.running) < self._seats
            and self.batch.size < self._budget
        )

    def schedule(self, now_s: float) -> Step | None:
        """Running requests first, then waiting ones, within one token budget."""
        self._begin_decision()
        if self.lag:
            self.retire_due()
        batch = self.batch
        pool = self.pool
        budget = self._budget
        threshold = self._prefill_threshold()
        chunks: list[Chunk] = []
        gap_closers: list[Request] | None = None
        if self._prefilling or self._skipped or batch.size > budget:
            counted = self._schedule_prefilling(budget, threshold, chunks)
        else:
            blocks = batch.crossings[batch.steps % self._block_size]
            counted = blocks <= pool.free
            if counted and batch.size:
                if blocks:
                    pool.draw(batch, 1)
                batch.advance(1)
        if counted:
            if self._reentered:
                self._reentered = set()
            decode_size = batch.size
            decode_context = batch.context
            longest = batch.longest()
            budget -= decode_size
            for chunk in chunks:
                budget -= chunk[1]
                self._grow(chunk)
        else:
            budget, decode_size, decode_context, longest, gap_closers = self._schedule_one_by_one(
                budget, threshold, chunks
            )
        if chunks:
            self._finish_prefills(chunks)
        if len(self.waiting):
            self.refusal = Refusal("preemption") if self.preempted else self._admit(budget, threshold, now_s, chunks)
        self.settled = not chunks and not self.preempted and not self._skipped and not self._head_may_unblock()
        return self._decide(chunks, decode_size, decode_context, longest, gap_closers)

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
    ) -> tuple[int, int, int, int, list[Request] | None]:
        """Go through the running list in order, preempting when blocks run out.

        Returns the budget left, the decodes scheduled, the sum and the longest of their contexts, and which of them had
        been skipped.
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
                if computed % block_size:
                    # Its last block has room for the token.
                    scheduled[request] = 1
                    budget -= 1
                    continue
                tokens = 1
                held = computed // block_size
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
                self._preempt(victim, scheduled.pop(victim, 0), request)
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
    ) -> tuple[int, int, int, list[Request] | None]:
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
            elif request not in scheduled:
                passed_over.append((request, request.finish_at - batch.steps))
                if request.gap_after is None:
                    request.gap_after = self._last_step
                batch.leave(request)
            elif request.gap_after is not None:
                gap_closers.append(request)
        batch.advance(1)
        size, context, longest = batch.size, batch.context, batch.longest()
        self._reentered = {request for request in self._skipped if request in scheduled}
        self._skipped = {request for request, _ in passed_over}
        for request, remaining in passed_over:
            batch.join(request, request.computed, remaining)
        for request, *_ in chunks:
            self.pool.register(request, request.computed)
        return size, context, longest, gap_closers or None

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

    # ------------------------------------------------------------------ waiting requests

    def _admit(self, budget: int, threshold: int, now_s: float, chunks: list[Chunk]) -> Refusal | None:
        """Admit waiting requests in order until one does not fit; returns why, if one is left."""
        settings = self.settings
        waiting = self.waiting
        running = self.running
        pool = self.pool
        block_size = self._block_size
        caching = settings.enable_prefix_caching
        while len(waiting):
            if budget <= 0:
                return _NO_BUDGET
            if len(running) >= self._seats:
                return _NO_SEAT
            request = waiting[0]
            hits, unheld = pool.look_up(request) if caching else (0, 0)
            before = hits * block_size
            tokens = request.target - before
            if 0 < threshold < tokens:
                tokens = threshold
            if tokens > budget:
                if not settings.enable_chunked_prefill:
                    return Refusal("whole prompt", tokens, budget)
                tokens = budget
            after = before + tokens
            free = pool.free - unheld - (self._watermark_blocks if running else 0)
            if settings.scheduler_reserve_full_isl and (needed := -(-request.target // block_size) - hits) > free:
                return Refusal("blocks of the sequence", needed, free)
            if (needed := -(-after // block_size) - hits) > free:
                return Refusal("KV blocks", needed, free)
            budget -= tokens
            chunks.append(self._take_in(request, hits, before, tokens, now_s))
        return None

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
