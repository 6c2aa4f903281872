"""Row operations on the columns of a request chunk: select, concatenate, rename."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim.workload import RequestChunk, RequestSpec, Segment

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

ROWS_PER_CHUNK = 16_384
"""Rows of one chunk from a reader or generator: enough to amortise NumPy calls, few enough for caches."""

ChunkSource = Callable[[], Iterator[RequestChunk]]
"""Opens the same stream of requests anew at each call."""

_FILL = {"priority": 0}
_DTYPES: dict[str, type] = {
    "arrival_s": np.float64,
    "prompt_tokens": np.int64,
    "output_tokens": np.int64,
    "priority": np.int64,
}


def arrivals(chunk: RequestChunk) -> Floats:
    """Arrival times in seconds, shape (rows,)."""
    return np.asarray(chunk.arrival_s, np.float64)


def prompt_lengths(chunk: RequestChunk) -> Ints:
    """Prompt lengths in tokens, shape (rows,)."""
    return np.asarray(chunk.prompt_tokens, np.int64)


def output_lengths(chunk: RequestChunk) -> Ints:
    """Output lengths in tokens, shape (rows,)."""
    return np.asarray(chunk.output_tokens, np.int64)


def make_chunk(arrival_s: Floats, prompt_tokens: Ints, output_tokens: Ints, **columns: Any) -> RequestChunk:
    """Chunk from NumPy columns, which are sequences in all but their declared type, and other fields by name."""
    numeric: list[Any] = [arrival_s, prompt_tokens, output_tokens]
    return RequestChunk(*numeric, **columns)


def with_columns(chunk: RequestChunk, **columns: Any) -> RequestChunk:
    """The chunk with some columns, NumPy arrays or sequences, replaced."""
    return chunk._replace(**columns)


def chunk_of(specs: Sequence[RequestSpec]) -> RequestChunk:
    """Chunk of single requests, at least one; a field that is at its default in all of them is left out."""
    columns: list[Any] = list(zip(*specs, strict=True))
    for index, name in enumerate(RequestSpec._fields):
        if name in RequestSpec._field_defaults and set(columns[index]) == {RequestSpec._field_defaults[name]}:
            columns[index] = None
    return RequestChunk(*columns)


def take(chunk: RequestChunk, rows: NDArray[np.intp]) -> RequestChunk:
    """Rows of ``chunk`` in the order of the index array ``rows``."""
    indices: list[int] | None = None
    columns: list[Any] = []
    for column in chunk:
        if column is None or isinstance(column, np.ndarray):
            columns.append(None if column is None else column[rows])
        else:
            indices = rows.tolist() if indices is None else indices
            columns.append([column[i] for i in indices])
    return RequestChunk(*columns)


def slice_rows(chunk: RequestChunk, start: int, stop: int) -> RequestChunk:
    """Rows ``start`` (included) to ``stop`` (excluded) of ``chunk``."""
    if start == 0 and stop >= len(chunk.arrival_s):
        return chunk
    columns: list[Any] = [None if column is None else column[start:stop] for column in chunk]
    return RequestChunk(*columns)


def select(chunk: RequestChunk, keep: NDArray[np.bool_]) -> RequestChunk:
    """Rows of ``chunk`` where ``keep`` holds."""
    return chunk if keep.all() else take(chunk, np.flatnonzero(keep))


def concatenate(chunks: Sequence[RequestChunk]) -> RequestChunk:
    """All rows of ``chunks``, one after the other; a field that only some have is filled with its default."""
    if len(chunks) == 1:
        return chunks[0]
    columns: list[Any] = []
    for name, parts in zip(RequestChunk._fields, zip(*chunks, strict=True), strict=True):
        if all(part is None for part in parts):
            columns.append(None)
            continue
        fill = _FILL.get(name)
        filled = [
            [fill] * len(chunk.arrival_s) if part is None else part for chunk, part in zip(chunks, parts, strict=True)
        ]
        if name in _DTYPES:
            columns.append(np.concatenate([np.asarray(part, _DTYPES[name]) for part in filled]))
        else:
            columns.append([value for part in filled for value in part])
    return RequestChunk(*columns)


def resize(chunks: Iterable[RequestChunk], rows: int = ROWS_PER_CHUNK) -> Iterator[RequestChunk]:
    """Split chunks that have more than ``rows`` rows and leave out empty ones."""
    for chunk in chunks:
        for start in range(0, len(chunk.arrival_s), rows):
            yield slice_rows(chunk, start, start + rows)


def sort_by_arrival(chunk: RequestChunk) -> RequestChunk:
    """Rows by arrival; simultaneous ones keep their order."""
    times = arrivals(chunk)
    if (np.diff(times) >= 0).all():
        return chunk
    return take(chunk, np.argsort(times, kind="stable"))


def label(
    chunk: RequestChunk,
    *,
    model: str | None = None,
    request_class: str | None = None,
    priority: int = 0,
    deadline_s: float | None = None,
    cancel_after_s: float | None = None,
) -> RequestChunk:
    """The chunk with these values in every row, where they are given."""
    rows = len(chunk.arrival_s)
    if model is not None:
        chunk = chunk._replace(model=[model] * rows)
    if request_class is not None:
        chunk = chunk._replace(request_class=[request_class] * rows)
    if priority:
        chunk = chunk._replace(priority=[priority] * rows)
    if deadline_s is not None:
        chunk = chunk._replace(deadline_s=[deadline_s] * rows)
    if cancel_after_s is not None:
        chunk = chunk._replace(cancel_after_s=[cancel_after_s] * rows)
    return chunk


def rename(chunk: RequestChunk, name: Callable[[str], str], *, content: bool) -> RequestChunk:
    """The chunk with request ids and sessions, and segments if ``content``, renamed by ``name``."""

    def names(column: Sequence[str | None] | None) -> list[str | None] | None:
        return None if column is None else [None if value is None else name(value) for value in column]

    def segments(value: tuple[Segment, ...] | None) -> tuple[Segment, ...] | None:
        return None if value is None else tuple((name(key), tokens) for key, tokens in value)

    chunk = chunk._replace(request_id=names(chunk.request_id), session=names(chunk.session))
    if content and chunk.content is not None:
        chunk = chunk._replace(content=[segments(value) for value in chunk.content])
    return chunk
