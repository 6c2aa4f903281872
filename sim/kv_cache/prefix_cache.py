"""KV blocks with identity: vLLM's prefix cache and its eviction order.

Follows vLLM 0.32 (`v1/core/block_pool.py`, `kv_cache_utils.py`): only full blocks have a hash, chained over all tokens
before; a block is registered when it is scheduled; two blocks with equal content may coexist; allocation takes from the
front of the free queue and forgets the hash; a request's blocks are freed tail first, hashed ones to the back, the
others to the front.

Hashes (here: keys, see :mod:`sim.kv_cache.content_keys`) are kept only where somebody could ask for them: for content
that the workload names, at once; for the private rest of a request, when it is preempted, since only itself can find it
again.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from sim.kv_cache.content_keys import ContentKeys, KeyChain
from sim.kv_cache.free_queue import FreeQueue, Ints
from sim.request import RUNNING, Request
from sim.vllm.decoding import DecodingBatch
from sim.workload import Segment


class PrefixCache:
    """Pool of KV blocks of one replica with prefix caching.

    Parameters
    ----------
    total : int
        Usable blocks; they are numbered from 1 as in vLLM, where block 0 is the null block.
    block_size : int
        Tokens of a block.
    registered_tokens : callable
        How many of a running request's tokens the scheduler has handed over for registration.
    """

    __slots__ = (
        "_found",
        "_holders",
        "_keys",
        "_queue",
        "_registered_tokens",
        "_running",
        "block_size",
        "free",
        "total",
    )

    tracks_identity = True

    def __init__(self, total: int, block_size: int, registered_tokens: Callable[[Request], int]) -> None:
        self._registered_tokens = registered_tokens
        self.total = total
        self.block_size = block_size
        self.free = total
        self._queue = FreeQueue(total)
        self._keys = ContentKeys(total, block_size)
        # Of blocks whose content is recorded; only those can have more than one, or be hit.
        self._holders: Ints = np.zeros(total + 1, dtype=np.intp)
        # What was found last, so that it need not be searched for again at once.
        self._found: Ints = np.zeros(0, dtype=np.intp)
        self._running: dict[str | int, Request] = {}

    def look_up(self, request: Request) -> tuple[int, int]:
        """Cached full blocks at the start of the request's tokens, and how many of them nobody holds."""
        limit = (request.target - 1) // self.block_size
        if request.preemptions == 0:
            limit = min(limit, self._shareable_blocks(request))
        if limit <= 0:
            return 0, 0
        self._catch_up(request, admitted=True)
        self._found = found = self._keys.cached(self._keyed(request, limit), limit)
        hits = len(found)
        return hits, hits - int(np.count_nonzero(self._holders[found])) if hits else 0

    def adopt(self, request: Request, hits: int) -> None:
        """Let the request hold the ``hits`` blocks that :meth:`look_up` has just found for it."""
        found = self._found[:hits]
        holders = self._holders
        held = holders[found]
        unheld = hits - int(np.count_nonzero(held))
        if unheld:
            self._queue.withdraw(found if unheld == hits else found[held == 0])
            self.free -= unheld
        holders[found] = held + 1
        request.block_ids.extend(found.tolist())
        request.registered = hits

    def take(self, request: Request, count: int) -> None:
        """Give ``count`` free blocks to a request."""
        if request.content is not None:
            self._running[request.name] = request
        request.block_ids.extend(self._pop(count))

    def draw(self, batch: DecodingBatch, steps: int) -> None:
        """Give the decoding batch the blocks of its next ``steps`` steps, in the order (step, place in running)."""
        members = batch.members
        assert members is not None
        block_size = self.block_size
        needed = batch.blocks_needed(steps)
        if not needed:
            return
        takers = [request for step in range(batch.steps, batch.steps + steps) for request in members[step % block_size]]
        for request, block in zip(takers, self._pop(needed), strict=True):
            request.block_ids.append(block)

    def register(self, request: Request, tokens: int) -> None:
        """Record the hashes of the full blocks within the first ``tokens`` tokens, as far as others could hit them."""
        full = min(tokens // self.block_size, self._shareable_blocks(request))
        if full > request.registered:
            self._catch_up(request, admitted=request.state != RUNNING)
            self._register(request, full)

    def _catch_up(self, request: Request, *, admitted: bool) -> None:
        """Record the outputs of running requests that are part of this request's prompt, before anything of its own.

        Outputs are recorded only when somebody asks.  Of several blocks with equal content the one registered first is
        found, and within a step vLLM registers in running order; a request being admitted comes last.
        """
        running = self._running
        for name in _answers_in(request):
            owner = running.get(name)
            if owner is None or owner is request or not (admitted or owner.decoding):
                continue
            tokens = self._registered_tokens(owner)
            if not admitted and owner.order > request.order:
                tokens -= 1
            full = min(tokens // self.block_size, self._shareable_blocks(owner))
            if full > owner.registered:
                self._register(owner, full)

    def release(self, request: Request, registered_tokens: int, returns: bool) -> None:
        """Free all blocks of a request; the first ``registered_tokens`` tokens had their full blocks hashed.

        One that ``returns`` (it was preempted) may find its private blocks again too.
        """
        blocks = request.block_ids
        hashed = min(registered_tokens // self.block_size, len(blocks))
        full = hashed if returns else min(hashed, self._shareable_blocks(request))
        if full > request.registered:
            self._register(request, full)
        # Only recorded blocks can have other holders.
        recorded = request.registered
        self.free += len(blocks) - recorded
        # The list is reused: blocks from here on are its end, in the order in which they enter the queue.
        blocks.reverse()
        if hashed < len(blocks):
            self._queue.prepend(blocks[: len(blocks) - hashed])
        if recorded < hashed:
            self._queue.append(blocks[len(blocks) - hashed : len(blocks) - recorded])
        if recorded:
            self._let_go(np.array(blocks[len(blocks) - recorded :]))
        request.block_ids = []
        request.held = 0
        request.registered = 0
        self._running.pop(request.name, None)

    def _let_go(self, blocks: Ints) -> None:
        """Take one holder from each recorded block; those without any are free now, in the order given."""
        left = self._holders[blocks] - 1
        self._holders[blocks] = left
        freed = blocks[left == 0] if np.count_nonzero(left) else blocks
        self._queue.append_cached(freed)
        self.free += len(freed)

    def free_queue(self) -> list[int]:
        """Blocks in the free queue, the next to be reused first."""
        return self._queue.in_order()

    def _pop(self, count: int) -> list[int]:
        """Take blocks from the front of the free queue and forget their hashes."""
        self.free -= count
        taken = self._queue.pop(count)
        self._keys.forget(taken)
        return taken

    def _register(self, request: Request, full: int) -> None:
        """Record the hashes of the blocks up to ``full`` that have none yet."""
        done = request.registered
        blocks = np.array(request.block_ids[done:full])
        self._holders[blocks] = 1
        self._keys.record(self._keyed(request, full), done, blocks)
        request.registered = full

    def _shareable_blocks(self, request: Request) -> int:
        """Full blocks whose tokens, and all tokens before them, are content that another request could have."""
        content = request.content
        if content is None:
            return 0
        if request.shareable_blocks < 0:
            tokens = sum(length for _, length in content)
            if tokens >= request.prompt_tokens:
                tokens = request.prompt_tokens + request.max_outputs
            request.shareable_blocks = tokens // self.block_size
        return request.shareable_blocks

    def _keyed(self, request: Request, count: int) -> KeyChain:
        """The chained hashes of at least the first ``count`` full blocks of the request's tokens."""
        chain = request.keys
        if chain is None:
            request.keys = chain = KeyChain(_all_segments(request))
        self._keys.extend(chain, max(count, self._shareable_blocks(request)))
        return chain


def _answers_in(request: Request) -> tuple[str, ...]:
    """Names of the requests whose outputs are part of this one's prompt."""
    names = request.answers_in_prompt
    if names is None:
        content = request.content or ()
        names = tuple(name[4:] for name, _ in content if name.startswith("out:"))
        request.answers_in_prompt = names
    return names


def _all_segments(request: Request) -> list[Segment]:
    """Everything that the request's tokens consist of: declared content, private rest of the prompt, outputs."""
    segments = list(request.content or ())
    declared = sum(length for _, length in segments)
    if declared < request.prompt_tokens:
        segments.append((f"private:{request.row}", request.prompt_tokens - declared))
    segments.append((f"out:{request.name}", request.max_outputs + 1))
    return segments
