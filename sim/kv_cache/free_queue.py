"""vLLM's free-block queue: first in, first out, with blocks leaving from the middle when they are hit.

A block that is hit leaves a hole behind.  Holes are passed over at the front, and squeezed out when there are more than
two for every block, so memory is bounded by the number of blocks and the cost of a block is constant on average.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.intp]

FEW = 24
"""Up to so many blocks are handled faster one by one than as arrays."""

_HOLE = 0


class FreeQueue:
    """Order in which free KV blocks are reused.

    Parameters
    ----------
    total : int
        Blocks; they are numbered from 1, and all of them are free at first.
    """

    __slots__ = ("_dropped", "_head", "_holes", "_place_of", "_places", "_total")

    def __init__(self, total: int) -> None:
        self._total = total
        self._places = list(range(1, total + 1))
        self._head = 0
        self._holes = 0
        # Places given up at the front of the list, less those put there.
        self._dropped = 0
        # Place of blocks that may be withdrawn, given up ones counted.
        self._place_of: Ints = np.zeros(total + 1, dtype=np.intp)

    @property
    def length(self) -> int:
        """Places in memory: blocks, holes, and what was passed already."""
        return len(self._places)

    def pop(self, count: int) -> list[int]:
        """Take ``count`` blocks from the front; there must be as many."""
        places = self._places
        head = self._head
        end = head + count
        taken = places[head:end]
        if self._holes and _HOLE in taken:
            taken = list(filter(None, taken))
            while (missing := count - len(taken)) > FEW:
                start = end
                end += missing
                taken.extend(filter(None, places[start:end]))
            while missing:
                if block := places[end]:
                    taken.append(block)
                    missing -= 1
                end += 1
            self._holes -= end - head - count
        self._head = end
        if end > self._total:
            del places[:end]
            self._head = 0
            self._dropped += end
        return taken

    def append(self, blocks: list[int]) -> None:
        """Put blocks that will not be withdrawn behind all others, the first of them first."""
        self._places.extend(blocks)

    def append_cached(self, blocks: Ints) -> None:
        """Put blocks that may be withdrawn behind all others, the first of them first."""
        place = len(self._places) + self._dropped
        self._place_of[blocks] = np.arange(place, place + len(blocks))
        self._places.extend(blocks.tolist())

    def prepend(self, blocks: list[int]) -> None:
        """Put blocks that will not be withdrawn before all others, the first of them first."""
        start = self._head - len(blocks)
        if start < 0:
            self._dropped += start
            start = 0
        self._places[start : self._head] = blocks
        self._head = start

    def withdraw(self, blocks: Ints) -> None:
        """Take out blocks, at least one, wherever they are in the queue."""
        places = (self._place_of[blocks] - self._dropped).tolist()
        last = places[-1]
        if places == list(range(last + len(places) - 1, last - 1, -1)):
            # What is hit was mostly freed at once, the other way round.
            self._places[last : last + len(places)] = [_HOLE] * len(places)
        else:
            for place in places:
                self._places[place] = _HOLE
        self._holes += len(blocks)
        if self._holes > 2 * self._total:
            self._squeeze()

    def in_order(self) -> list[int]:
        """All blocks, the next to be reused first."""
        return list(filter(None, self._places[self._head :]))

    def _squeeze(self) -> None:
        """Leave the holes out."""
        self._places = places = self.in_order()
        self._head = self._holes = self._dropped = 0
        self._place_of[places] = np.arange(len(places))
