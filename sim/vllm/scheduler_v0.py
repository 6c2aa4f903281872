"""The scheduler of older engines: vLLM 0.2 to 0.5 with their default settings.

Rules after vLLM 0.3 to 0.5 (`core/scheduler.py`, `core/block_manager.py`): a step is either prefill or decode, and
prefill comes first whenever a waiting prompt fits; prompts are not chunked; a waiting prompt is admitted only if the
watermark stays free after it, and a decode step needs a free block for every sequence in turn, whether it uses it or
not; the victim of a preemption is the latest arrival, and its prompt and outputs are recomputed in one prefill.
"""

from __future__ import annotations

from sim.vllm.scheduler_base import Chunk, Refusal, Scheduler
from sim.vllm.step import Step


class SchedulerV0(Scheduler):
    """Prefill first, no chunked prefill, preemption by recompute."""

    def could_admit(self) -> bool:
        """Whether a request that just arrived may change the next decision of a settled scheduler."""
        return len(self.waiting) == 1 and len(self.running) < self._seats

    def steps_ahead(self, step: Step) -> int:
        """As for every scheduler, but one block must stay free in each step."""
        limit = min(self.batch.next_due() - self.batch.steps, step.limit - step.scheduled)
        free = self.pool.free - 1
        return self.batch.steps_that_fit(free, limit) if limit > 0 and free > 0 else 0

    def schedule(self, now_s: float) -> Step | None:
        """A batch of whole prompts if any fits, otherwise one token for every running request."""
        self._begin_decision()
        chunks = self._admit(now_s)
        if chunks:
            self.settled = False
            return self._decide(chunks, 0, 0, 0, None)
        batch = self.batch
        if batch.size and self.pool.free > batch.crossings[batch.steps % self._block_size]:
            self.pool.draw(batch, 1)
            batch.advance(1)
        elif batch.size:
            self._decode_one_by_one()
        gap_closers = [request for request in self._stalled if request.decoding]
        self._stalled = []
        self.settled = not self.preempted
        return self._decide(chunks, batch.size, batch.context, batch.longest(), gap_closers or None)

    def _admit(self, now_s: float) -> list[Chunk]:
        """Admit whole prompts in order until one does not fit; everybody who decodes waits meanwhile."""
        waiting = self.waiting
        budget = self._budget
        chunks: list[Chunk] = []
        stalled = [request for request in self.running if request.decoding] if len(waiting) else []
        while len(waiting):
            if len(self.running) >= self._seats:
                self.refusal = Refusal("seat")
                break
            request = waiting[0]
            blocks = -(-request.target // self._block_size)
            if request.target > budget:
                self.refusal = Refusal("whole prompt", request.target, budget)
                break
            if self.pool.free - blocks < self._watermark_blocks:
                self.refusal = Refusal("blocks of the sequence", blocks, self.pool.free - self._watermark_blocks)
                break
            budget -= request.target
            chunks.append(self._take_in(request, 0, 0, request.target, now_s))
        if chunks:
            for request in stalled:
                if request.gap_after is None:
                    request.gap_after = self._last_step
                    self._stalled.append(request)
        return chunks

    def _decode_one_by_one(self) -> None:
        """Give every running request a slot in order of arrival, preempting the latest when blocks run out."""
        batch = self.batch
        pool = self.pool
        running = sorted(self.running, key=lambda request: (request.spec.arrival_s, request.row))
        index = 0
        while index < len(running):
            request = running[index]
            index += 1
            while pool.free < 1:
                victim = running.pop()
                self._preempt(victim, 0, request)
                if victim is request:
                    break
            if request.decoding and (request.base + batch.steps) % self._block_size == 0:
                pool.take(request, 1)
        batch.advance(1)
