"""The decoding batch as a whole: counted, not iterated.

Every sequence that is past its prefill computes one token per step.  Between two changes nothing about a single one
needs to be touched: with a step counter ``steps``, a sequence that joined with ``c`` computed tokens at counter ``s``
has ``base + steps`` computed tokens, ``base = c - s``; it is done when the counter reaches ``finish_at``; and it needs
a new KV block in exactly those steps whose counter is congruent to its phase modulo the block size.  So the batch is a
count, a sum, a heap of finish steps and a ring of ``block_size`` counters, and one event covers a run of any length.
"""

from __future__ import annotations

from bisect import insort
from heapq import heappop, heappush
from operator import attrgetter

from sim.request import Request

_by_order = attrgetter("order")


class DecodingBatch:
    """Sequences in steady decode.

    Parameters
    ----------
    block_size : int
        Tokens of a KV block.
    track_identity : bool
        Keep, per phase, the sequences themselves in running order (needed when blocks have identities).
    track_longest : bool
        Keep the longest context at hand (needed when the step-time model asks for it).
    """

    __slots__ = (
        "_due",
        "_longest",
        "block_size",
        "context",
        "crossings",
        "last_order",
        "members",
        "size",
        "steps",
        "version",
    )

    def __init__(self, block_size: int, track_identity: bool, *, track_longest: bool = False) -> None:
        self.block_size = block_size
        self.size = 0
        """Sequences."""
        self.context = 0
        """Sum of their computed tokens."""
        self.steps = 0
        """Steps scheduled so far."""
        self.crossings = [0] * block_size
        """How many sequences start a new KV block in steps congruent to the index modulo the block size."""
        self.members: list[list[Request]] | None = [[] for _ in range(block_size)] if track_identity else None
        self.last_order = -1
        """No member has a higher place in the running list than this."""
        self.version = 0
        """Changes whenever a sequence joins or leaves."""
        self._due: list[tuple[int, int, Request]] = []
        self._longest: list[tuple[int, int, Request]] | None = [] if track_longest else None

    def join(self, request: Request, computed: int, remaining: int) -> None:
        """Take in a sequence with ``computed`` tokens that needs ``remaining`` more steps (at least 1)."""
        steps = self.steps
        request.decoding = True
        request.base = base = computed - steps
        request.finish_at = finish_at = steps + remaining
        self.version += 1
        self.size += 1
        self.context += computed
        phase = -base % self.block_size
        self.crossings[phase] += 1
        if request.order > self.last_order:
            self.last_order = request.order
        if self.members is not None:
            insort(self.members[phase], request, key=_by_order)
        heappush(self._due, (finish_at, request.order, request))
        if self._longest is not None:
            heappush(self._longest, (-base, request.order, request))

    def leave(self, request: Request) -> None:
        """Let a sequence go and write its state back into its own fields."""
        request.decoding = False
        request.computed = computed = request.base + self.steps
        request.held = -(-computed // self.block_size)
        self.version += 1
        self.size -= 1
        self.context -= computed
        phase = -request.base % self.block_size
        self.crossings[phase] -= 1
        if self.members is not None:
            self.members[phase].remove(request)

    def longest(self) -> int:
        """Computed tokens of the longest sequence; 0 if that is not tracked or there is none."""
        longest = self._longest
        while longest:
            base, order, request = longest[0]
            if request.decoding and request.base == -base and request.order == order:
                return self.steps - base
            heappop(longest)
        return 0

    def next_due(self) -> int:
        """Counter value at which the next sequence is done; only for a batch that is not empty."""
        due = self._due
        while True:
            finish_at, order, request = due[0]
            if request.finish_at == finish_at and request.order == order and request.decoding:
                return finish_at
            heappop(due)

    def may_be_due(self) -> bool:
        """False if surely no sequence has got all its steps."""
        due = self._due
        return bool(due) and due[0][0] <= self.steps

    def take_due(self) -> list[Request]:
        """Remove the sequences that have got all their steps, in running order."""
        done: list[Request] = []
        due = self._due
        steps = self.steps
        while due and due[0][0] <= steps:
            finish_at, order, request = heappop(due)
            if request.finish_at == finish_at and request.order == order and request.decoding:
                self.leave(request)
                done.append(request)
        return done

    def advance(self, steps: int) -> None:
        """Every sequence has been scheduled for ``steps`` more steps."""
        self.steps += steps
        self.context += steps * self.size

    def blocks_needed(self, steps: int) -> int:
        """KV blocks that the next ``steps`` steps take together."""
        cycles, rest = divmod(steps, self.block_size)
        needed = cycles * self.size
        if rest:
            start = self.steps % self.block_size
            ring = self.crossings
            end = start + rest
            needed += sum(ring[start:end])
            if end > self.block_size:
                needed += sum(ring[: end - self.block_size])
        return needed

    def steps_that_fit(self, free_blocks: int, limit: int) -> int:
        """How many steps, at most ``limit``, the free blocks allow."""
        size = self.size
        block_size = self.block_size
        if (limit // block_size + 1) * size <= free_blocks:
            return limit
        cycles, left = divmod(free_blocks, size)
        steps = cycles * block_size
        ring = self.crossings
        position = self.steps + steps
        while steps < limit:
            left -= ring[position % block_size]
            if left < 0:
                return steps
            steps += 1
            position += 1
        return limit
