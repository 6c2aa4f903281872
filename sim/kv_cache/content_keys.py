"""Keys of KV-block contents, and the cached block of each key.

A key stands for a full block's tokens and all tokens before them, as vLLM's chained hash does.  Contents are named
segments, so nothing has to be hashed block by block: the full blocks of a segment that follow the same tokens form a
stretch, and a stretch has consecutive numbers as keys.  Equal content has equal keys, since a stretch is found again
by the key before it, the tokens of its first block that belong to earlier segments, and its place in the segment.

Stretches that nobody could hit any more are given up from time to time and the others renumbered, so memory is bounded
by the number of blocks, not of requests.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sim.kv_cache.free_queue import FEW, Ints
from sim.workload import Segment

_NO_KEY = 0
_NO_BLOCK = 0

KEYS_PER_BLOCK = 4
"""So many keys per KV block may be known before unused ones are given up."""

Piece = tuple[str, int, int]
"""Part of a segment in a block that began in an earlier segment: name, first token, tokens."""


class KeyChain:
    """Keys of the blocks of one request, from its first token on, as far as anybody asked for them.

    Parameters
    ----------
    segments : sequence of (str, int)
        All that the request's tokens consist of.
    """

    __slots__ = ("blocks", "filled", "numbering", "parent", "pending", "ranges", "segments", "walked")

    def __init__(self, segments: Sequence[Segment]) -> None:
        self.segments = segments
        self.restart(None)

    def restart(self, numbering: object) -> None:
        """Forget all keys; the next ones will be of another numbering."""
        self.numbering = numbering
        self.walked = 0
        """Segments that keys exist for."""
        self.blocks = 0
        """Full blocks that keys exist for."""
        self.ranges: list[tuple[int, int]] = []
        """Their keys: first of consecutive ones, and the number behind the last."""
        self.parent = _NO_KEY
        """Key of the last full block."""
        self.pending: tuple[Piece, ...] = ()
        """Tokens behind it."""
        self.filled = 0
        """How many those are."""


class ContentKeys:
    """Which cached block has which content.

    Parameters
    ----------
    total : int
        KV blocks, numbered from 1.
    block_size : int
        Tokens of a block.
    """

    __slots__ = (
        "_block_of",
        "_block_size",
        "_collect_at",
        "_copies",
        "_key",
        "_key_of",
        "_numbering",
        "_stretches",
        "known",
    )

    def __init__(self, total: int, block_size: int) -> None:
        self._block_size = block_size
        self.known = 1
        """Keys given out, number 0 included, which stands for no content."""
        self._collect_at = KEYS_PER_BLOCK * total
        # Which numbering the keys are of: another object after they were renumbered, and of every other instance.
        self._numbering = object()
        # First key and number of keys of the stretch that follows (key before, pieces, segment, first token).
        self._stretches: dict[tuple[int, tuple[Piece, ...], str, int], tuple[int, int]] = {}
        self._block_of: Ints = np.zeros(1024, dtype=np.intp)
        self._key_of: Ints = np.zeros(total + 1, dtype=np.intp)
        # The same memory, faster for single items.
        self._key = self._key_of.data
        # Further blocks of equal content, in the order in which they were recorded.
        self._copies: dict[int, list[int]] = {}

    def extend(self, chain: KeyChain, blocks: int) -> None:
        """Make sure that the chain has the keys of its first ``blocks`` blocks; its segments must be as long."""
        if chain.numbering is not self._numbering:
            chain.restart(self._numbering)
        if chain.blocks >= blocks:
            return
        if self.known > self._collect_at:
            self._collect()
            chain.restart(self._numbering)
        self._walk(chain, blocks)

    def cached(self, chain: KeyChain, limit: int) -> Ints:
        """The cached blocks of the chain's first keys up to the first that has none, at most ``limit``."""
        block_of = self._block_of
        parts: list[Ints] = []
        left = limit
        for first, end in chain.ranges:
            part = block_of[first : end if end - first < left else first + left]
            parts.append(part)
            left -= len(part)
            if not left or not part[-1]:
                break
        blocks = np.concatenate(parts) if len(parts) > 1 else parts[0].copy()
        hits = int(blocks.argmin())
        return blocks if blocks[hits] else blocks[:hits]

    def record(self, chain: KeyChain, done: int, blocks: Ints) -> None:
        """Note that the chain's keys behind the first ``done`` are those of ``blocks``, which have none yet."""
        start = -done
        for first, end in chain.ranges:
            # `start` is the place of the range's first key in `blocks`.
            next_start = start + end - first
            if next_start > 0:
                skipped = max(0, -start)
                self._record(first + skipped, blocks[start + skipped : next_start])
                if next_start >= len(blocks):
                    break
            start = next_start

    def forget(self, blocks: list[int]) -> None:
        """The contents of blocks, if they have any, are lost."""
        if len(blocks) > FEW:
            many = np.array(blocks)
            keys = self._key_of[many]
            if not self._copies or self._copies.keys().isdisjoint(keys.tolist()):
                # Key 0 keeps its "no block" that way.
                self._block_of[keys] = _NO_BLOCK
                self._key_of[many] = _NO_KEY
                return
        key_of = self._key
        block_of = self._block_of.data
        copies = self._copies
        for block in blocks:
            if key := key_of[block]:
                key_of[block] = _NO_KEY
                if key in copies:
                    self._forget_copy(block, key)
                else:
                    block_of[key] = _NO_BLOCK

    def _record(self, first: int, blocks: Ints) -> None:
        end = first + len(blocks)
        known = self._block_of[first:end]
        if np.count_nonzero(known):
            # Of several blocks with equal content the one recorded first is found.
            for place in np.flatnonzero(known).tolist():
                self._copies.setdefault(first + place, []).append(int(blocks[place]))
            known[:] = np.where(known, known, blocks)
        else:
            known[:] = blocks
        self._key_of[blocks] = np.arange(first, end)

    def _forget_copy(self, block: int, key: int) -> None:
        """One of several blocks with equal content is lost."""
        copies = self._copies[key]
        if self._block_of[key] == block:
            self._block_of[key] = copies.pop(0)
        else:
            copies.remove(block)
        if not copies:
            del self._copies[key]

    def _walk(self, chain: KeyChain, blocks: int) -> None:
        """Append the keys of further segments until there are ``blocks``.

        It stops at ends of segments only, since a stretch can be found again from its beginning only.
        """
        block_size = self._block_size
        ranges = chain.ranges
        first, end = ranges.pop() if ranges else (0, 0)
        known = chain.blocks
        filled = chain.filled
        parent = chain.parent
        pending = chain.pending
        while known < blocks:
            name, length = chain.segments[chain.walked]
            chain.walked += 1
            offset = 0
            while count := (filled + length - offset) // block_size:
                place = (parent, pending, name, offset)
                start, longest = self._stretches.get(place) or self._new_stretch(place, count)
                if count > longest:
                    count = longest
                if start != end:
                    if end:
                        ranges.append((first, end))
                    first = start
                end = start + count
                parent = end - 1
                known += count
                offset += count * block_size - filled
                pending = ()
                filled = 0
            if offset < length:
                pending = (*pending, (name, offset, length - offset))
                filled += length - offset
        ranges.append((first, end))
        chain.blocks = known
        chain.filled = filled
        chain.parent = parent
        chain.pending = pending

    def _new_stretch(self, place: tuple[int, tuple[Piece, ...], str, int], keys: int) -> tuple[int, int]:
        """First key and number of keys of a new stretch."""
        first = self.known
        self.known = first + keys
        if self.known > len(self._block_of):
            more = np.zeros(max(self.known, 2 * len(self._block_of)), dtype=np.intp)
            more[:first] = self._block_of[:first]
            self._block_of = more
        self._stretches[place] = first, keys
        return first, keys

    def _collect(self) -> None:
        """Give up the stretches without cached blocks that no other stretch with cached blocks follows.

        No request needs to be asked: whoever walks through a stretch that was given up makes it anew.
        """
        # Keys are given out in order, so stretches are in the order of their first keys.
        firsts, counts = np.array(list(self._stretches.values()), dtype=np.intp).T
        parents = np.array([place[0] for place in self._stretches], dtype=np.intp)
        before = np.searchsorted(firsts, parents, side="right") - 1
        cached = np.flatnonzero(self._block_of[: self.known])
        used = np.zeros(len(firsts), dtype=bool)
        used[np.searchsorted(firsts, cached, side="right") - 1] = True
        is_used = used.tolist()
        # What follows comes later in the order.
        for index, earlier in reversed(list(enumerate(before.tolist()))):
            if earlier >= 0 and is_used[index]:
                is_used[earlier] = True
        kept = np.concatenate(([True], np.repeat(is_used, counts)))
        renumbered = np.cumsum(kept) - 1
        self._stretches = {
            (int(renumbered[parent]), pending, name, offset): (int(renumbered[first]), count)
            for ((parent, pending, name, offset), (first, count)), use in zip(
                self._stretches.items(), is_used, strict=True
            )
            if use
        }
        self._block_of = self._block_of[: self.known][kept]
        self.known = len(self._block_of)
        self._key_of[:] = renumbered[self._key_of]
        self._copies = {int(renumbered[key]): blocks for key, blocks in self._copies.items()}
        self._collect_at = max(self._collect_at, 2 * self.known)
        self._numbering = object()
