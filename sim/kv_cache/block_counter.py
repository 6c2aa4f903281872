"""KV blocks as numbers: exact whenever no two requests can share content.

Then a block's identity matters in one case only: a preempted request may find its own blocks again, if nobody took
them meanwhile.  vLLM's free queue is first-in first-out for blocks with a hash (a request's blocks enter tail first)
and last-in first-out for those without, so positions in that queue say which of its blocks survive.
"""

from __future__ import annotations

from bisect import insort

from sim.request import Request
from sim.vllm.decoding import DecodingBatch


class BlockCounter:
    """Free KV blocks of a replica whose requests share no content.

    Parameters
    ----------
    total : int
        Usable blocks.
    block_size : int
        Tokens of a block.
    caching : bool
        Prefix caching is on: preempted requests may hit their own blocks.
    """

    __slots__ = ("_front", "_head", "_holes", "_tail", "block_size", "caching", "free", "total")

    tracks_identity = False

    def __init__(self, total: int, block_size: int, caching: bool) -> None:
        self.total = total
        self.block_size = block_size
        self.caching = caching
        self.free = total
        # The free queue: `_front` blocks without hash, then queue positions `_head`..`_tail` less the holes, which are
        # blocks that their owner took back.
        self._front = 0
        self._head = 0
        self._tail = total
        self._holes: list[tuple[int, int]] = []

    def look_up(self, request: Request) -> tuple[int, int]:
        """Cached full blocks at the start of the request's tokens, and how many of them nobody holds."""
        if not request.freed_blocks:
            return 0, 0
        surviving = min(request.freed_blocks, request.freed_at + request.freed_blocks - self._head)
        hits = max(0, min(surviving, (request.target - 1) // self.block_size))
        return hits, hits

    def adopt(self, request: Request, hits: int) -> None:
        """Take back ``hits`` blocks found by :meth:`look_up`."""
        self.free -= hits
        end = request.freed_at + request.freed_blocks
        insort(self._holes, (end - hits, end))

    def take(self, request: Request, count: int) -> None:
        """Give ``count`` free blocks to a request."""
        self._take(count)

    def draw(self, batch: DecodingBatch, steps: int) -> None:
        """Give the decoding batch the blocks of its next ``steps`` steps."""
        needed = batch.blocks_needed(steps)
        if needed:
            self._take(needed)

    def _take(self, count: int) -> None:
        self.free -= count
        if not self.caching:
            return
        front = self._front
        if front >= count:
            self._front = front - count
            return
        self._front = 0
        count -= front
        holes = self._holes
        while holes and self._head + count > holes[0][0]:
            start, end = holes.pop(0)
            if end <= self._head:
                continue
            count -= start - self._head
            self._head = end
        self._head += count

    def register(self, request: Request, tokens: int) -> None:
        """Blocks without identity have no hashes to record."""

    def release(self, request: Request, registered_tokens: int, returns: bool) -> None:
        """Free all blocks of a request; the first ``registered_tokens`` tokens had their full blocks hashed."""
        held = request.held
        self.free += held
        request.held = 0
        if not self.caching:
            return
        hashed = min(registered_tokens // self.block_size, held)
        self._front += held - hashed
        request.freed_at = self._tail
        request.freed_blocks = hashed
        self._tail += hashed
