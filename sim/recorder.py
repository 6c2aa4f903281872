"""Columns of results, filled while the simulation runs."""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from typing import Any

import numpy as np

from sim.request import Request
from sim.results import ANSWER_COLUMNS, GAP_COLUMNS, PREEMPTION_COLUMNS, SAMPLE_COLUMNS, Floats, RequestColumns, Status

_FIELDS = (
    "row", "arrival_s", "model", "replica", "request_class", "prompt_tokens", "output_tokens", "generated_tokens",
    "queued_s", "scheduled_s", "first_token_s", "last_token_s", "finish_s", "preemptions", "cached_tokens", "status",
    "prompt", "retries", "stages",
)  # fmt: skip
_WIDTH = len(_FIELDS)
_INTEGERS = {
    "model", "replica", "request_class", "prompt_tokens", "output_tokens", "generated_tokens", "preemptions",
    "cached_tokens", "status", "prompt", "retries", "stages",
}  # fmt: skip


class Recorder:
    """Results of one simulation while it runs.

    Rows are written when a request ends, as numbers, and sorted into columns in the end.
    """

    def __init__(self) -> None:
        self._rows = array("d")
        self._rejected = array("d")
        self._gaps = array("d")
        self._preemptions = array("d")
        self._samples = array("d")
        self._sample_width = 0
        self._classes: dict[str, int] = {}
        self._names: list[str] | None = None
        self._sessions: list[str | None] | None = None
        self._started_again_s: dict[int, float] = {}
        self._asked_again_s: dict[int, float] = {}

    def class_index(self, name: str | None) -> int:
        """Number of a request class, numbered by first appearance."""
        return self._classes.setdefault("default" if name is None else name, len(self._classes))

    def name(self, row: int, name: str | None, session: str | None) -> None:
        """Keep the names that the workload gives to request ``row``; rows come in order."""
        if name is None and session is None and self._names is None and self._sessions is None:
            return
        if name is not None:
            if self._names is None:
                self._names = [str(earlier) for earlier in range(row)]
            self._names.append(name)
        elif self._names is not None:
            self._names.append(str(row))
        if session is not None and self._sessions is None:
            self._sessions = [None] * row
        if self._sessions is not None:
            self._sessions.append(session)

    def end(
        self,
        request: Request,
        model: int,
        replica: int,
        finish_s: float,
        status: Status,
    ) -> None:
        """A request has left the system, or the simulation has ended before it; -1: no model, no replica."""
        spec = request.spec
        self._rows.extend(
            (
                request.row,
                spec.arrival_s,
                model,
                replica,
                request.request_class,
                request.prompt_tokens,
                spec.output_tokens,
                request.outputs_delivered,
                request.queued_s,
                request.first_scheduled_s,
                request.first_token_s,
                request.last_token_s,
                finish_s,
                request.preemptions,
                request.cached_tokens,
                status,
                -1 if spec.prompt is None else spec.prompt,
                request.retries,
                request.stage,
            )
        )
        if request.preemptions:
            self._end_preemptions(request, replica)

    def _end_preemptions(self, request: Request, replica: int) -> None:
        for from_s, to_s in request.pauses or ():
            self._preemptions.extend((replica, request.row, from_s, to_s))
        after = request.paused_after
        if after is not None and after.end_s == after.end_s:
            self._preemptions.extend((replica, request.row, after.end_s, math.nan))

    def ended(self) -> int:
        """Requests that have left the system so far."""
        return len(self._rows) // _WIDTH

    def last_ttft_s(self, count: int) -> Floats:
        """Times to first token of the ``count`` requests that left last, or of all; NaN without a token."""
        rows = np.array(self._rows[-count * _WIDTH :]).reshape(-1, _WIDTH)
        ttft_s: Floats = rows[:, _FIELDS.index("first_token_s")] - rows[:, _FIELDS.index("arrival_s")]
        return ttft_s

    def reject_answer(self, request: Request, model: int, replica: int, now_s: float) -> None:
        """The router does not pass on the answer that a request has got, and asks another model now."""
        self._asked_again_s[request.row] = now_s
        self.start_again(request.row, now_s)
        self._rejected.extend(
            (
                request.row,
                model,
                replica,
                request.queued_s,
                request.first_scheduled_s,
                request.first_token_s,
                request.last_token_s,
                request.outputs_delivered,
            )
        )

    def gap(self, replica: int, row: int, from_s: float, to_s: float) -> None:
        """Two consecutive tokens of request ``row`` that are not the ends of consecutive steps."""
        self._gaps.extend((replica, row, from_s, to_s))

    def start_again(self, row: int, now_s: float) -> None:
        """What request ``row`` got until now is void."""
        self._started_again_s[row] = now_s

    def sample(self, values: Sequence[float]) -> None:
        """Keep one row of :data:`sim.results.SAMPLE_COLUMNS` per replica."""
        self._samples.extend(values)
        self._sample_width = len(values)

    def samples_taken(self) -> int:
        """Instants sampled so far."""
        return len(self._samples) // self._sample_width if self._sample_width else 0

    def thin_samples(self) -> None:
        """Drop every other sample after the first; their busy shares are averaged into those that stay.

        There must be an odd number of samples: the one at the start, and pairs.
        """
        table = np.array(self._samples).reshape(-1, self._sample_width)
        pairs = table[1:].reshape(-1, 2, self._sample_width)
        kept = pairs[:, 1, :].copy()
        busy = len(SAMPLE_COLUMNS) - 1
        kept[:, busy :: len(SAMPLE_COLUMNS)] = pairs[:, :, busy :: len(SAMPLE_COLUMNS)].mean(axis=1)
        self._samples = array("d", np.concatenate([table[:1], kept]).tobytes())

    def classes(self) -> tuple[str, ...]:
        """Names of the request classes."""
        return tuple(self._classes) or ("default",)

    def gaps(self) -> Floats:
        """All gaps, shape (n, 4)."""
        gaps = np.array(self._gaps).reshape(-1, len(GAP_COLUMNS))
        if not self._started_again_s:
            return gaps
        void_until_s = [self._started_again_s.get(row, -np.inf) for row in gaps[:, 1].astype(np.int64).tolist()]
        return gaps[gaps[:, 2] >= np.array(void_until_s)]

    def preemptions(self) -> Floats:
        """All preemptions, shape (n, 4)."""
        return np.array(self._preemptions).reshape(-1, len(PREEMPTION_COLUMNS))

    def rejected_answers(self) -> Floats:
        """All answers that routers did not pass on, shape (n, 8)."""
        return np.array(self._rejected).reshape(-1, len(ANSWER_COLUMNS))

    def samples(self) -> Floats:
        """All samples, shape (n, 7)."""
        return np.array(self._samples).reshape(-1, len(SAMPLE_COLUMNS))

    def columns(self) -> RequestColumns:
        """All requests, one row each in order of arrival."""
        table = np.frombuffer(self._rows).reshape(-1, _WIDTH) if self._rows else np.empty((0, _WIDTH))
        order = np.argsort(table[:, 0], kind="stable")
        columns: dict[str, Any] = {}
        for position, name in enumerate(_FIELDS[1:], start=1):
            column = table[order, position]
            columns[name] = column.astype(np.int64) if name in _INTEGERS else column
        arrival_s = columns["arrival_s"]
        return RequestColumns(
            **columns,
            asked_s=_moved(arrival_s, self._asked_again_s),
            started_s=_moved(arrival_s, self._started_again_s),
            session=tuple(self._sessions) if self._sessions is not None else None,
            request_id=tuple(self._names) if self._names is not None else None,
        )


def _moved(times_s: Floats, later_s: dict[int, float]) -> Floats:
    """The same times, those of some rows replaced."""
    if not later_s:
        return times_s
    moved = times_s.copy()
    moved[list(later_s)] = list(later_s.values())
    return moved
