"""What every scheduler does alike: bookkeeping of running requests, macro-steps, preemption, and building steps.

Sequences in steady decode are counted, not listed (:class:`sim.vllm.decoding.DecodingBatch`).  A scheduler's own part
is the decision which requests compute how many tokens next: :meth:`Scheduler.schedule`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Literal, NamedTuple

from latency_models.errors import RouterwiseError
from sim.kv_cache.block_counter import BlockCounter
from sim.kv_cache.prefix_cache import PrefixCache
from sim.request import DONE, PREEMPTED, RUNNING, WAITING, Request
from sim.settings import EngineSettings
from sim.vllm.decoding import DecodingBatch
from sim.vllm.step import Step
from sim.vllm.step_timer import StepTimer
from sim.vllm.waiting import waiting_queue

_MOST_PREEMPTIONS = 10_000

Chunk = tuple[Request, int, int, bool]
"""A prefill chunk: request, tokens, tokens computed before, does it emit a token."""


class Refusal(NamedTuple):
    """Why a decision admitted nobody else from the queue: what its head lacked."""

    lack: Literal["token budget", "whole prompt", "seat", "KV blocks", "blocks of the sequence", "preemption"]
    """``whole prompt``: it does not fit into what is left of the token budget, and may not be cut into chunks.
    ``blocks of the sequence``: of all its tokens so far, beyond those of the next chunk.  ``preemption``: the decision
    had to preempt."""
    needed: int = 0
    """Tokens or KV blocks that the head needed."""
    available: int = 0
    """How many of them it could have had."""


class Scheduler(ABC):
    """Scheduler of one replica.

    Parameters
    ----------
    settings : EngineSettings
        The engine's settings.
    timer : StepTimer
        Duration of steps.
    shared_content : bool
        Whether requests may share prompt content; only then do KV blocks need identities.
    """

    def __init__(self, settings: EngineSettings, timer: StepTimer, *, shared_content: bool) -> None:
        self.settings = settings
        self._timer = timer
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
        self._watermark_blocks = settings.watermark_blocks
        self.batch = DecodingBatch(settings.block_size, identities, track_longest=timer.uses_longest_context)
        self.waiting = waiting_queue(settings.scheduling_policy)
        self.running: dict[Request, None] = {}
        self._by_priority = by_priority
        self._prefilling: list[Request] = []
        self._draining: set[Request] = set()
        # Decoding requests that were passed over in the step before.
        self._skipped: set[Request] = set()
        # Decoding requests scheduled by the last decision after having been passed over: no token was on the way then.
        self._reentered: set[Request] = set()
        # Decoding requests that wait while prompts are computed (older engines).
        self._stalled: list[Request] = []
        self._admissions = 0
        self._last_step: Step | None = None
        self.settled = False
        """Nothing but a finish, the law's end or a shortage of blocks can make the next decision another one."""
        self.finished_unreported = False
        """vLLM's scheduler has news for the workers, so its loop turns once more."""
        self.preempted: list[Request] = []
        """Victims of the last decision."""
        self.preempted_for: list[Request] = []
        """For each victim, the request that needed its blocks."""
        self.admitted: list[Request] = []
        """Requests admitted by the last decision."""
        self.refusal: Refusal | None = None
        """Why the last decision admitted nobody else; ``None`` if nobody waited."""

    # ------------------------------------------------------------------ what the engine asks

    def add(self, request: Request) -> None:
        """Put a new request into the queue."""
        self.waiting.append(request)

    def has_work(self) -> bool:
        """Whether vLLM's loop would schedule."""
        return True if self.running or self.finished_unreported else len(self.waiting) > 0

    @abstractmethod
    def could_admit(self) -> bool:
        """Whether a request that just arrived may change the next decision of a settled scheduler."""

    @abstractmethod
    def schedule(self, now_s: float) -> Step | None:
        """Decide the next step.

        Returns
        -------
        Step or None
            A new step, or the last one extended by one when nothing changed, or None if there is nothing to do.
        """

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

    def is_draining(self, request: Request) -> bool:
        """Whether all tokens of a running request are scheduled and the last one is on the way."""
        return request in self._draining

    def retire_due(self) -> None:
        """Take the sequences that have got all their steps out of the batch; they end with the last step scheduled."""
        batch = self.batch
        if batch.may_be_due() and (done := batch.take_due()):
            step = self._last_step
            assert step is not None
            step.finishing.extend(done)
            if self.lag:
                self._draining.update(done)
                for request in done:
                    self.pool.register(request, self._registered_tokens(request))

    def finish(self, request: Request) -> None:
        """A request has got its last token: free what it held."""
        if request.state == PREEMPTED:
            # Preempted while its last token was on the way (asynchronous scheduling).
            self.waiting.remove(request)
            request.paused_after = None
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

    # ------------------------------------------------------------------ parts of a decision

    def _begin_decision(self) -> None:
        self.finished_unreported = False
        self.refusal = None
        if self.preempted:
            self.preempted = []
            self.preempted_for = []
        if self.admitted:
            self.admitted = []

    def _decide(
        self,
        chunks: list[Chunk],
        decode_size: int,
        decode_context: int,
        longest: int,
        gap_closers: list[Request] | None,
    ) -> Step | None:
        """Make the step of what was decided: the last one extended by one if nothing changed."""
        batch = self.batch
        step = self._last_step
        if chunks:
            step = self._mixed_step(decode_size, decode_context, longest, chunks)
            step.gap_closers = gap_closers
        elif not decode_size:
            return None
        elif (
            step is not None
            and step.version == batch.version
            and step.scheduled < step.limit
            and gap_closers is None
            and not self.preempted
        ):
            step.scheduled += 1
            return step
        else:
            step = self._decode_step(decode_size, decode_context, longest)
            step.version = batch.version
            step.gap_closers = gap_closers
            if gap_closers or self._skipped:
                # A gap begins or ends here, so that is a step of its own.
                step.limit = 1
        step.blocks_used = self.pool.total - self.pool.free
        self._last_step = step
        return step

    def _take_in(self, request: Request, hits: int, before: int, tokens: int, now_s: float) -> Chunk:
        """Move a waiting request, the head, to the running list with its first chunk and the blocks for it."""
        pool = self.pool
        after = before + tokens
        blocks = -(-after // self._block_size) - hits
        self.waiting.popleft()
        self.running[request] = None
        if hits:
            pool.adopt(request, hits)
        pool.take(request, blocks)
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
            self._end_pause(request, now_s)
        request.state = RUNNING
        self.admitted.append(request)
        emits = after == request.target
        if emits:
            self._start_decoding(request)
        else:
            self._prefilling.append(request)
        return request, tokens, before, emits

    @staticmethod
    def _end_pause(request: Request, now_s: float) -> None:
        """A preempted request is admitted again."""
        after = request.paused_after
        assert after is not None
        if request.pauses is None:
            request.pauses = []
        # A token on the way at its preemption has come by now, with the end of that step.
        request.pauses.append((after.end_s, now_s))
        request.paused_after = None

    def _start_decoding(self, request: Request) -> None:
        remaining = request.max_outputs - request.outputs_scheduled
        if remaining:
            self.batch.join(request, request.computed, remaining)

    def _preempt(self, victim: Request, tokens_scheduled: int, beneficiary: Request) -> None:
        """Take everything from a running request and put it back into the queue.

        ``tokens_scheduled`` is what it had been given in this very decision, which is undone; ``beneficiary`` needs its
        blocks.
        """
        registered = self._registered_tokens(victim) + tokens_scheduled
        if tokens_scheduled and victim.decoding and self.lag and victim not in self._skipped:
            # The token it was to compute next is still on the way and has no hash yet.
            registered = max(victim.target, victim.base + self.batch.steps)
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
        victim.paused_after = self._last_step
        self._let_go(victim, registered, returns=True)
        victim.state = PREEMPTED
        victim.preemptions += 1
        if victim.preemptions > _MOST_PREEMPTIONS:
            raise RouterwiseError(
                f"request {victim.name} was preempted {_MOST_PREEMPTIONS} times and makes no progress, as it would in "
                "vLLM; raise engine.num_gpu_blocks, or set engine.scheduler_reserve_full_isl"
            )
        victim.computed = 0
        self.waiting.appendleft(victim)
        self.preempted.append(victim)
        self.preempted_for.append(beneficiary)

    def _registered_tokens(self, request: Request) -> int:
        """Tokens of a running request whose full blocks have been hashed.

        All computed ones; but under asynchronous scheduling an output on the way is not known yet.
        """
        computed = request.base + self.batch.steps if request.decoding else request.computed
        on_the_way = self.lag and request not in self._skipped and request not in self._reentered
        if on_the_way and computed >= request.target:
            return max(request.target, computed - 1)
        return computed

    def _let_go(self, request: Request, registered_tokens: int, *, returns: bool) -> None:
        self.pool.release(request, registered_tokens, returns)
        del self.running[request]

    def _decode_step(self, size: int, context: int, longest: int) -> Step:
        number = self._next_number()
        first_s, growth_s, limit = self._timer.decode_law(number, size, context, longest)
        return Step(number, size, context, first_s, growth_s, limit)

    def _next_number(self) -> int:
        """Number of the replica's next step that is not an extension of the last one."""
        last = self._last_step
        return 0 if last is None else last.number + last.scheduled

    def _mixed_step(self, decode_size: int, decode_context: int, longest: int, chunks: list[Chunk]) -> Step:
        new_tokens = prefill_context = ending = 0
        work = 0.0
        for _, tokens, before, emits in chunks:
            new_tokens += tokens
            prefill_context += before + tokens
            work += tokens * (before + tokens / 2)
            ending += emits
        tokens = decode_size + new_tokens
        number = self._next_number()
        duration_s = self._timer.mixed_s(
            number,
            tokens,
            len(chunks),
            prefill_context,
            work,
            decode_size,
            decode_context,
            decode_size + ending,
            longest,
        )
        step = Step(number, decode_size, decode_context, duration_s, 0.0, 1)
        step.prefills = chunks
        step.sequences = decode_size + len(chunks)
        step.tokens = tokens
        for request, _, _, emits in chunks:
            if emits and not request.decoding:
                step.finishing.append(request)
                if self.lag:
                    self._draining.add(request)
        return step
