"""What enters the simulation: requests, in chunks of columns, and who decides when the next one comes.

Open-loop traffic is a stream of :class:`RequestChunk` in order of arrival.  Closed-loop traffic (users who wait for
an answer) adds follow-ups: requests that arrive because an earlier one ended.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol

import numpy as np

Segment = tuple[str, int]
"""Named prompt content and its number of tokens: token i of a segment is the same wherever the segment occurs."""


class RequestSpec(NamedTuple):
    """One request as the outside world sends it.

    ``content`` describes the start of the prompt as named segments; the rest of the prompt is private to the request.
    The tokens that request R will generate are the segment ``"out:R"``, so the next turn of a conversation can contain
    them.  ``output_tokens`` is the true length, which no policy may read.
    """

    arrival_s: float
    prompt_tokens: int
    output_tokens: int
    request_id: str | None = None
    model: str | None = None
    request_class: str | None = None
    session: str | None = None
    priority: int = 0
    content: tuple[Segment, ...] | None = None
    deadline_s: float | None = None
    """Seconds after arrival at which the service gives the request up, if it is still in the system."""
    cancel_after_s: float | None = None
    """Seconds after arrival at which the client cancels it, if it is still in the system."""
    prompt: int | None = None
    """Row of the prompt table; drawn at arrival if the cluster has a prompt table and the workload names none."""


class RequestChunk(NamedTuple):
    """A batch of requests as columns of equal length, ordered by arrival; ``None``: no request has the field."""

    arrival_s: Sequence[float]
    prompt_tokens: Sequence[int]
    output_tokens: Sequence[int]
    request_id: Sequence[str | None] | None = None
    model: Sequence[str | None] | None = None
    request_class: Sequence[str | None] | None = None
    session: Sequence[str | None] | None = None
    priority: Sequence[int] | None = None
    content: Sequence[tuple[Segment, ...] | None] | None = None
    deadline_s: Sequence[float | None] | None = None
    cancel_after_s: Sequence[float | None] | None = None
    prompt: Sequence[int | None] | None = None

    def specs(self) -> Iterator[RequestSpec]:
        """The same requests one by one, as plain Python values."""
        defaults = RequestSpec._field_defaults
        columns: list[Iterable[object]] = []
        for name, column in zip(self._fields, self, strict=True):
            if column is None:
                columns.append([defaults[name]] * len(self.arrival_s))
            else:
                columns.append(column.tolist() if isinstance(column, np.ndarray) else column)
        return map(RequestSpec._make, zip(*columns, strict=True))


class Traffic(Protocol):
    """Source of requests of one run.  An instance serves one run; ask its factory for the next replication's."""

    def chunks(self) -> Iterator[RequestChunk]:
        """Requests whose arrival is known in advance, by arrival; may be endless only if the run has an end."""
        ...

    def follow_ups(self, request_id: str, ended_s: float) -> Iterable[RequestSpec]:
        """Requests that arrive because ``request_id`` ended (finished, rejected or gave up) at ``ended_s``.

        Open-loop traffic returns nothing.  Arrivals lie at or after ``ended_s``.
        """
        ...


class OpenTraffic:
    """Open-loop traffic from a stream of chunks."""

    def __init__(self, chunks: Iterable[RequestChunk]) -> None:
        self._chunks = chunks

    def chunks(self) -> Iterator[RequestChunk]:
        """The stream, once."""
        return iter(self._chunks)

    def follow_ups(self, request_id: str, ended_s: float) -> Iterable[RequestSpec]:
        """Nobody waits for an answer."""
        return ()
