"""The single steps of a replica in a stretch of time, from its step log: what a run of steps covers is written out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.exports.lives import Lives
from analysis.exports.window import Window
from analysis.token_runs import elapsed_s
from sim.results import RUN_COLUMNS, Floats, Ints, SimulationResult

_SAME_S = 2e-9
"""Ends of steps by the log's formula and by the engine's agree within this."""

PREFILL, DECODE, MIXED, CUT_OFF = "prefill", "decode", "mixed", "cut off"


@dataclass(frozen=True, slots=True, kw_only=True)
class Runs:
    """Runs of equal steps of one replica that overlap a stretch of time, by time."""

    rows: Floats
    """Shape (n, 7), columns :data:`sim.results.RUN_COLUMNS`."""

    @classmethod
    def of(cls, result: SimulationResult, replica: int, window: Window) -> Runs:
        """Those of a replica that begin before the window ends and end after it begins."""
        found = [np.empty((0, len(RUN_COLUMNS)))]
        for rows in result.runs[replica].chunks():
            ends_s = rows[:, 0] + elapsed_s(rows[:, 1], rows[:, 2], rows[:, 3])
            found.append(rows[(rows[:, 0] < window.to_s) & (ends_s > window.from_s) & (rows[:, 3] > 0)])
        return cls(rows=np.concatenate(found))

    @property
    def start_s(self) -> Floats:
        """When each begins."""
        return self.rows[:, 0]

    @property
    def end_s(self) -> Floats:
        """When each ends."""
        return self.start_s + elapsed_s(self.rows[:, 1], self.rows[:, 2], self.rows[:, 3])

    @property
    def steps(self) -> Ints:
        """How many steps each has."""
        return self.rows[:, 3].astype(np.int64)


@dataclass(frozen=True, slots=True)
class EngineStep:
    """One step."""

    start_s: float
    end_s: float
    kind: str
    """``"prefill"``, ``"decode"``, ``"mixed"``: both, or ``"cut off"``: a crash ended it, and nothing came of it."""
    sequences: int
    tokens: int
    prefilling: int | None
    """How many of the sequences compute prompt tokens, or those of a preempted request again; not known of a step
    that a crash cut off, and where some of the sequences lost to a later crash all that they had come to."""
    kv_blocks: int | None
    """KV blocks in use once it was scheduled; known for the first step of a run."""
    first_tokens: list[int]
    """Rows of the requests that get their first token at its end."""
    last_tokens: list[int]


def engine_steps(result: SimulationResult, replica: int, runs: Runs, window: Window) -> Iterator[EngineStep]:
    """The steps of ``runs`` that overlap the window, in order of time."""
    lives = Lives.of(result).at(replica)
    decoding = _decoding(lives, result.gaps[result.gaps[:, 0] == replica], runs)
    untold = _untold(lives, result.outages[result.outages[:, 0] == replica], runs)
    firsts, lasts = _Events.of(lives.row, lives.first_token_s), _Events.of(lives.row, lives.last_token_s)
    for (start_s, first_s, growth_s, steps, sequences, tokens, blocks), decodes, some_untold in zip(
        runs.rows.tolist(), decoding.tolist(), untold.tolist(), strict=True
    ):
        for step in range(int(steps)):
            begin_s = start_s + step * first_s + growth_s * (step * (step - 1) // 2)
            end_s = start_s + (step + 1) * first_s + growth_s * (step * (step + 1) // 2)
            if end_s <= window.from_s:
                continue
            if begin_s >= window.to_s:
                return
            first_tokens = firsts.at(end_s)
            prefilling: int | None = min(len(first_tokens), int(sequences))
            if tokens > sequences:
                prefilling = None if some_untold and sequences > 1 else max(int(sequences) - decodes, 1)
            if not tokens:
                kind, prefilling = CUT_OFF, None
            elif prefilling is None:
                kind = MIXED
            else:
                kind = DECODE if not prefilling else PREFILL if prefilling == sequences else MIXED
            yield EngineStep(
                begin_s,
                end_s,
                kind,
                int(sequences),
                int(tokens),
                prefilling,
                None if step else int(blocks),
                first_tokens,
                lasts.at(end_s),
            )


def _decoding(lives: Lives, gaps: Floats, runs: Runs) -> Ints:
    """How many requests take a token from the first step of each run."""
    middles_s = runs.start_s + runs.rows[:, 1] / 2
    answered = ~np.isnan(lives.first_token_s)
    begun = np.searchsorted(np.sort(lives.first_token_s[answered]), middles_s)
    over = np.searchsorted(np.sort(lives.left_engine_s[answered]), middles_s)
    paused = np.searchsorted(np.sort(gaps[:, 2]), middles_s) - np.searchsorted(np.sort(gaps[:, 3]), middles_s)
    return np.clip(begun - over - paused, 0, runs.rows[:, 4].astype(np.int64))


def _untold(lives: Lives, outages: Floats, runs: Runs) -> NDArray[np.bool_]:
    """Whether runs have sequences without a life: those whose start a later crash made void."""
    middles_s = runs.start_s + runs.rows[:, 1] / 2
    begun = np.searchsorted(np.sort(lives.scheduled_s), middles_s)
    left = np.searchsorted(np.sort(lives.left_engine_s[~np.isnan(lives.scheduled_s)]), middles_s)
    before_a_crash = runs.start_s < outages[:, 1].max(initial=0.0)
    found: NDArray[np.bool_] = before_a_crash & (begun - left < runs.rows[:, 4])
    return found


class _Events:
    """Things that happen to requests at ends of steps; asked for in order of time."""

    def __init__(self, time_s: list[float], row: list[int]) -> None:
        self._time_s, self._row = time_s, row
        self._next = 0

    @classmethod
    def of(cls, row: Ints, time_s: Floats) -> _Events:
        order = np.argsort(time_s, kind="stable")
        order = order[np.isfinite(time_s[order])]
        return cls(time_s[order].tolist(), row[order].tolist())

    def at(self, end_s: float) -> list[int]:
        """Rows of the requests that it happens to at the end of a step."""
        times_s, begin = self._time_s, self._next
        while begin < len(times_s) and times_s[begin] < end_s - _SAME_S:
            begin += 1
        end = begin
        while end < len(times_s) and times_s[end] <= end_s + _SAME_S:
            end += 1
        self._next = end
        return self._row[begin:end]
