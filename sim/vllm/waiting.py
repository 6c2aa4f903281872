"""The waiting queue of a replica: first come first served, or by priority."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from heapq import heapify, heappop, heappush
from typing import Protocol

from sim.request import Request


class WaitingQueue(Protocol):
    """Requests that wait for admission; index 0 is the head, which nobody overtakes."""

    def append(self, request: Request, /) -> None:
        """Take in a new request."""
        ...

    def appendleft(self, request: Request, /) -> None:
        """Take back a preempted request."""
        ...

    def popleft(self) -> Request:
        """Remove the head."""
        ...

    def remove(self, request: Request, /) -> None:
        """Remove a request from wherever it is."""
        ...

    def __getitem__(self, index: int, /) -> Request:
        """The head is at 0."""
        ...

    def __iter__(self) -> Iterator[Request]:
        """All that wait; only the head's place is sure."""
        ...

    def __len__(self) -> int:
        """How many wait."""
        ...


class PriorityQueue:
    """Waiting requests by (priority, arrival, id), lower first; a preempted one takes its old rank again."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, float, str, Request]] = []

    def append(self, request: Request, /) -> None:
        """Take in a request."""
        heappush(self._heap, (request.priority, request.spec.arrival_s, str(request.name), request))

    appendleft = append

    def popleft(self) -> Request:
        """Remove the most urgent request."""
        return heappop(self._heap)[3]

    def remove(self, request: Request, /) -> None:
        """Remove a request from wherever it is."""
        self._heap = [entry for entry in self._heap if entry[3] is not request]
        heapify(self._heap)

    def __getitem__(self, index: int, /) -> Request:
        return self._heap[index][3]

    def __iter__(self) -> Iterator[Request]:
        return (entry[3] for entry in self._heap)

    def __len__(self) -> int:
        return len(self._heap)


def waiting_queue(scheduling_policy: str) -> WaitingQueue:
    """The queue of a scheduling policy, ``"fcfs"`` or ``"priority"``."""
    return PriorityQueue() if scheduling_policy == "priority" else deque()
