"""KV blocks with identity: vLLM's prefix cache and its eviction order.

Follows vLLM 0.32 (`v1/core/block_pool.py`, `kv_cache_utils.py`): only full blocks have a hash, chained over all tokens
before; a block is registered when it is scheduled; two blocks with equal content may coexist; allocation takes from the
front of the free queue and forgets the hash; a request's blocks are freed tail first, hashed ones to the back, the
others to the front.

Hashes are kept only where somebody could ask for them: for content that the workload names, at once; for the private
rest of a request, when it is preempted, since only itself can find it again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from sim.decoding import DecodingBatch
from sim.request import RUNNING, Request
from sim.workload import Segment

_NO_KEY = 0


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
        "_by_key",
        "_holders",
        "_key_of",
        "_queue",
        "_registered_tokens",
        "_running",
        "_stale",
        "_withdrawn",
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
        self._queue = deque(range(1, total + 1))
        # A block that is hit leaves the queue from the middle: its entry stays behind and is passed over when it
        # reaches the front, before any newer entry of the same block.
        self._stale = [0] * (total + 1)
        self._withdrawn = 0
        self._holders = [0] * (total + 1)
        self._key_of = [_NO_KEY] * (total + 1)
        self._by_key: dict[int, int | list[int]] = {}
        self._running: dict[str | int, Request] = {}

    def look_up(self, request: Request) -> tuple[int, int]:
        """Cached full blocks at the start of the request's tokens, and how many of them nobody holds."""
        limit = (request.target - 1) // self.block_size
        if request.preemptions == 0:
            limit = min(limit, self._shareable_blocks(request))
        if limit <= 0:
            return 0, 0
        self._catch_up(request, admitted=True)
        keys = self._keys(request, limit)
        by_key = self._by_key
        holders = self._holders
        hits = unheld = 0
        for key in keys[:limit]:
            block = by_key.get(key)
            if block is None:
                break
            hits += 1
            if not holders[block if isinstance(block, int) else block[0]]:
                unheld += 1
        return hits, unheld

    def adopt(self, request: Request, hits: int) -> None:
        """Let the request hold the ``hits`` blocks found by :meth:`look_up`."""
        holders = self._holders
        for key in request.block_keys[:hits]:
            found = self._by_key[key]
            block = found if isinstance(found, int) else found[0]
            if not holders[block]:
                self._stale[block] += 1
                self._withdrawn += 1
                self.free -= 1
            holders[block] += 1
            request.block_ids.append(block)
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
        blocks = iter(self._pop(needed))
        for step in range(batch.steps, batch.steps + steps):
            for request in members[step % block_size]:
                request.block_ids.append(next(blocks))

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
        for name, _ in request.content or ():
            owner = self._running.get(name[4:]) if name.startswith("out:") else None
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
        holders = self._holders
        freed: list[int] = []
        for block in reversed(blocks):
            left = holders[block] - 1
            holders[block] = left
            if not left:
                freed.append(block)
        # Blocks without a hash are private, so all of them are free now, and they come first.
        unhashed = len(blocks) - hashed
        self._queue.extend(freed[unhashed:])
        self._queue.extendleft(reversed(freed[:unhashed]))
        self.free += len(freed)
        request.block_ids = []
        request.held = 0
        request.registered = 0
        self._running.pop(request.name, None)

    def free_queue(self) -> list[int]:
        """Blocks in the free queue, the next to be reused first."""
        passed = [0] * (self.total + 1)
        order: list[int] = []
        for block in self._queue:
            if passed[block] < self._stale[block]:
                passed[block] += 1
            else:
                order.append(block)
        return order

    def _pop(self, count: int) -> list[int]:
        """Take blocks from the front of the free queue and forget their hashes."""
        self.free -= count
        popleft = self._queue.popleft
        if self._withdrawn:
            taken: list[int] = []
            while len(taken) < count:
                block = popleft()
                if self._stale[block]:
                    self._stale[block] -= 1
                    self._withdrawn -= 1
                else:
                    taken.append(block)
        else:
            taken = [popleft() for _ in range(count)]
        key_of = self._key_of
        holders = self._holders
        by_key = self._by_key
        for block in taken:
            holders[block] = 1
            key = key_of[block]
            if key:
                key_of[block] = _NO_KEY
                known = by_key.pop(key)
                if not isinstance(known, int):
                    known.remove(block)
                    by_key[key] = known if len(known) > 1 else known[0]
        return taken

    def _register(self, request: Request, full: int) -> None:
        """Record the hashes of the blocks up to ``full`` that have none yet."""
        by_key = self._by_key
        key_of = self._key_of
        done = request.registered
        keys = self._keys(request, full)
        for block, key in zip(request.block_ids[done:full], keys[done:full], strict=True):
            key_of[block] = key
            known = by_key.setdefault(key, block)
            if known is not block:
                if isinstance(known, int):
                    by_key[key] = [known, block]
                else:
                    known.append(block)
        request.registered = full

    def _shareable_blocks(self, request: Request) -> int:
        """Full blocks whose tokens, and all tokens before them, are content that another request could have."""
        content = request.content
        if content is None:
            return 0
        if not request.shareable_blocks:
            tokens = sum(length for _, length in content)
            if tokens >= request.prompt_tokens:
                tokens = request.prompt_tokens + request.max_outputs
            request.shareable_blocks = tokens // self.block_size
        return request.shareable_blocks

    def _keys(self, request: Request, count: int) -> list[int]:
        """The chained hashes of at least the first ``count`` full blocks of the request's tokens."""
        keys = request.block_keys
        if len(keys) >= count:
            return keys
        keys.clear()
        count = max(count, self._shareable_blocks(request))
        block_size = self.block_size
        parent = 0
        # Tokens of a block that began in the segments before.
        pieces: list[tuple[str, int, int]] = []
        missing = block_size
        for name, length in _all_segments(request):
            offset = 0
            if pieces and length >= missing:
                parent = hash((parent, *pieces, (name, 0, missing))) or 1
                keys.append(parent)
                pieces = []
                offset = missing
                missing = block_size
            whole = 0 if pieces else min((length - offset) // block_size, count - len(keys))
            for start in range(offset, offset + whole * block_size, block_size):
                parent = hash((parent, name, start)) or 1
                keys.append(parent)
            offset += whole * block_size
            if len(keys) >= count:
                break
            if offset < length:
                pieces.append((name, offset, length - offset))
                missing -= length - offset
        return keys


def _all_segments(request: Request) -> list[Segment]:
    """Everything that the request's tokens consist of: declared content, private rest of the prompt, outputs."""
    segments = list(request.content or ())
    declared = sum(length for _, length in segments)
    if declared < request.prompt_tokens:
        segments.append((f"private:{request.row}", request.prompt_tokens - declared))
    segments.append((f"out:{request.name}", request.max_outputs + 1))
    return segments
