"""Which sequences took a token from which steps: the step logs, weighted by the requests that were decoding.

A request takes a token at the end of every step of its replica from its first token to its last, except between the
two ends of a gap.  Runs begin and end where the composition of the batch changes, so the number of sequences that
take tokens from a run is a difference of counts of events before the run's start, for all runs at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from analysis.progressions import Progressions, rising
from latency_models.errors import RouterwiseError
from sim.results import Floats, Ints, RequestColumns, SimulationResult

_BLOCK_CELLS = 1 << 18


class Runs(NamedTuple):
    """Columns of consecutive runs of one replica."""

    start_s: Floats
    first_s: Floats
    growth_s: Floats
    steps: Floats


def elapsed_s(first_s: Floats, growth_s: Floats, steps: Floats) -> Floats:
    """Time that the first ``steps`` steps of a run take."""
    return steps * first_s + growth_s * (steps * (steps - 1) / 2)


def last_tokens_s(requests: RequestColumns, rows: Ints) -> Floats:
    """Until when requests took tokens: their last one, or if that is unknown when they left, or else for good."""
    last_s = requests.last_token_s[rows]
    last_s = np.where(np.isnan(last_s), requests.finish_s[rows], last_s)
    return np.where(np.isnan(last_s), np.inf, last_s)


def read_runs(result: SimulationResult, replica: int, block_rows: int) -> Iterator[Runs]:
    """Step log of a replica in blocks of at most ``block_rows`` runs that have steps."""
    for chunk in result.runs[replica].chunks():
        for begin in range(0, len(chunk), block_rows):
            rows = chunk[begin : begin + block_rows]
            rows = rows[rows[:, 3] > 0]
            if len(rows):
                yield Runs(*(np.ascontiguousarray(rows[:, column]) for column in range(4)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Cells:
    """The smallest groups that are told apart: one for each pair of model and class that received a token."""

    pairs: tuple[tuple[int, int], ...]
    """(model, class) of each cell."""
    of_request: Ints
    """Cell of each request; -1 if it received no token or is left out."""

    @classmethod
    def of(cls, result: SimulationResult, selected: NDArray[np.bool_] | None = None) -> Cells:
        """Cells of the requests that received a token and are ``selected`` (all if ``None``)."""
        requests = result.requests
        used = ~np.isnan(requests.first_token_s)
        if selected is not None:
            used &= selected
        classes = max(len(result.classes), 1)
        key = requests.model * classes + requests.request_class
        occurring = np.bincount(key[used], minlength=len(result.models) * classes) > 0
        cell_of_key = np.cumsum(occurring) - 1
        of_request: Ints = np.full(len(requests), -1, dtype=np.int64)
        of_request[used] = cell_of_key[key[used]]
        return cls(pairs=tuple(divmod(k, classes) for k in np.flatnonzero(occurring).tolist()), of_request=of_request)


def token_progressions(result: SimulationResult, cells: Cells) -> Iterator[Progressions]:
    """All inter-token latencies of the requests that have a cell, as weighted progressions in blocks.

    Consecutive steps of a decoding sequence are contiguous, so each of its tokens is as late as its step is long;
    each gap is one latency of its own.

    Raises
    ------
    RouterwiseError
        If the log and the requests contradict each other (a last token before the first).
    """
    yield from _gap_progressions(result, cells)
    block_rows = max(_BLOCK_CELLS // max(len(cells.pairs), 1), 1024)
    for replica, events in _events_by_replica(result, cells):
        active: Floats = np.zeros(len(cells.pairs))
        done = 0
        for block in read_runs(result, replica, block_rows):
            runs = _cut_at(block, events.time_s)
            upto = int(np.searchsorted(events.time_s, runs.start_s[-1], side="right"))
            weights = np.zeros((len(cells.pairs), len(runs.start_s)))
            position = np.searchsorted(runs.start_s, events.time_s[done:upto], side="left")
            np.add.at(weights, (events.cell[done:upto], position), events.change[done:upto])
            weights[:, 0] += active
            np.cumsum(weights, axis=1, out=weights)
            active, done = weights[:, -1].copy(), upto
            if weights.min() < 0:
                raise RouterwiseError(
                    f"the step log of replica {result.replicas[replica].name!r} and its requests contradict each "
                    "other: more sequences stop taking tokens than have started"
                )
            taken = np.flatnonzero(weights.any(axis=0))
            yield rising(runs.first_s[taken], runs.growth_s[taken], runs.steps[taken], weights[:, taken])


class _Events(NamedTuple):
    """When sequences of a replica begin (+1) and cease (-1) to take tokens, by time."""

    time_s: Floats
    cell: Ints
    change: NDArray[np.int8]


def _events_by_replica(result: SimulationResult, cells: Cells) -> Iterator[tuple[int, _Events]]:
    """Events of one replica after the other: those of all at once would be the largest arrays around."""
    requests = result.requests
    rows = np.flatnonzero(cells.of_request >= 0)
    replica = requests.replica[rows]
    order = np.argsort(replica, kind="stable")
    rows, replica = rows[order], replica[order]
    ids, begins, counts = np.unique(replica, return_index=True, return_counts=True)
    gaps = _own_gaps(result, cells)
    for index, begin, count in zip(ids.tolist(), begins.tolist(), counts.tolist(), strict=True):
        yield index, _events(result, cells, rows[begin : begin + count], gaps[gaps[:, 0] == index])


def _events(result: SimulationResult, cells: Cells, rows: Ints, gaps: Floats) -> _Events:
    requests = result.requests
    gap_row = gaps[:, 1].astype(np.int64)
    # Without an end of the gap nothing changes until the log ends.
    last_s = last_tokens_s(requests, rows)
    until_s = np.nan_to_num(gaps[:, 3], nan=np.inf)
    time_s = np.concatenate([requests.first_token_s[rows], last_s, gaps[:, 2], until_s])
    change = np.repeat(np.array([1, -1, -1, 1], dtype=np.int8), [len(rows), len(rows), len(gaps), len(gaps)])
    cell = cells.of_request[np.concatenate([rows, rows, gap_row, gap_row])]
    order = np.argsort(time_s)
    return _Events(time_s[order], cell[order], change[order])


def _own_gaps(result: SimulationResult, cells: Cells) -> Floats:
    """Gaps of the requests that have a cell; one behind the last token (preempted for good) says nothing new."""
    row = result.gaps[:, 1].astype(np.int64)
    return result.gaps[(cells.of_request[row] >= 0) & (result.gaps[:, 2] < last_tokens_s(result.requests, row))]


def _gap_progressions(result: SimulationResult, cells: Cells) -> Iterator[Progressions]:
    gaps = _own_gaps(result, cells)
    gaps = gaps[np.isfinite(gaps[:, 3])]
    if len(gaps):
        weights = np.zeros((len(cells.pairs), len(gaps)))
        weights[cells.of_request[gaps[:, 1].astype(np.int64)], np.arange(len(gaps))] = 1.0
        yield Progressions(gaps[:, 3] - gaps[:, 2], np.zeros(len(gaps)), np.ones(len(gaps)), weights)


def _cut_at(runs: Runs, time_s: Floats) -> Runs:
    """Cut runs at the times (sorted) that are step boundaries inside them.

    A client's cancellation takes effect at a boundary that no change of the batch has marked in the log yet.
    """
    start, first, growth, steps = runs
    begin, end = np.searchsorted(time_s, [start[0], start[-1] + elapsed_s(first[-1:], growth[-1:], steps[-1:])[0]])
    time_s = time_s[begin:end]
    row = np.searchsorted(start, time_s, side="right") - 1
    inside = np.flatnonzero((time_s > start[row]) & (steps[row] > 1))
    if not len(inside):
        return runs
    time_s, row = time_s[inside], row[inside]
    index = np.rint(_steps_until(first[row], growth[row], time_s - start[row]))
    inside = np.flatnonzero((index >= 1) & (index < steps[row]))
    time_s, row, index = time_s[inside], row[inside], index[inside]
    _, unique = np.unique(np.stack([row.astype(np.float64), index]), axis=1, return_index=True)
    row = np.concatenate([np.arange(len(start)), row[unique]])
    index = np.concatenate([np.zeros(len(start)), index[unique]])
    start = np.concatenate([start, time_s[unique]])
    order = np.lexsort((index, row))
    row, index, start = row[order], index[order], start[order]
    ends = np.where(np.append(np.diff(row), 1) > 0, steps[row], np.append(index[1:], 0))
    return Runs(start, first[row] + index * growth[row], growth[row], ends - index)


def _steps_until(first_s: Floats, growth_s: Floats, offset_s: Floats) -> Floats:
    """How many steps (a real number) end within ``offset_s``: the inverse of :func:`elapsed_s`."""
    linear = first_s - growth_s / 2
    root = np.sqrt(np.maximum(linear * linear + 2 * growth_s * offset_s, 0.0))
    return 2 * offset_s / np.maximum(linear + root, np.finfo(np.float64).tiny)
